"""Counting votes: distinct signers, first vote counts, certificates made of equal votes."""

from __future__ import annotations

from typing import TypeAlias

from chain.model.block import Certificate, VoteSignature
from chain.model.validators import ValidatorSet
from chain.types import Digest, Height, ValidatorId, View
from consensus.messages import Checkpoint, Commit, MessageType, Prepare, Verified

Vote: TypeAlias = Prepare | Commit | Checkpoint


class Tally:
    """The votes of one type for one height (and view). At most one vote a member, so its size is bounded by the set."""

    __slots__ = ("_validators", "_votes", "_weights")

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._votes: dict[ValidatorId, Verified[Vote]] = {}
        self._weights: dict[Digest, int] = {}

    def add(self, vote: Verified[Vote]) -> Verified[Vote] | None:
        """Count the first vote of each member. Returns that member's earlier vote if `vote` contradicts it."""
        earlier = self._votes.get(vote.sender)
        if earlier is not None:
            return earlier if earlier.message.digest != vote.message.digest else None
        member = self._validators.get(vote.sender)
        if member is not None:
            digest = Digest(vote.message.digest)
            self._votes[vote.sender] = vote
            self._weights[digest] = self._weights.get(digest, 0) + member.weight
        return None

    def has_quorum(self, digest: Digest) -> bool:
        return self._weights.get(digest, 0) >= self._validators.quorum_weight

    def quorum(self) -> Digest | None:
        """The digest a quorum agrees on; there is never more than one, as each member counts once."""
        for digest, weight in self._weights.items():
            if weight >= self._validators.quorum_weight:
                return digest
        return None

    def has_honest(self) -> bool:
        """More than F have voted for something."""
        return sum(self._weights.values()) > self._validators.tolerated_weight

    def can_agree(self) -> bool:
        """True while those who have not voted yet could still make a quorum of equal votes."""
        missing = self._validators.total_weight - sum(self._weights.values())
        return missing + max(self._weights.values(), default=0) >= self._validators.quorum_weight

    def signers(self, digest: Digest) -> tuple[ValidatorId, ...]:
        """Who voted for `digest`, ascending."""
        return tuple(sorted(sender for sender, vote in self._votes.items() if vote.message.digest == digest))

    def certificate(self, *, kind: MessageType, view: View, height: Height, digest: Digest) -> Certificate:
        """All votes for `digest` seen so far; the caller has asked `has_quorum`."""
        signatures = tuple(
            VoteSignature(validator=sender, signature=self._votes[sender].signature) for sender in self.signers(digest)
        )
        return Certificate(kind=int(kind), view=view, height=height, digest=digest, signatures=signatures)

    def __len__(self) -> int:
        return len(self._votes)
