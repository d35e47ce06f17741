"""What the one dishonest validator may say: a menu, of which anybody may hear anything at any time, or never."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TypeVar

from chain.model.block import Proposal, proposal_digest
from chain.sim.explore.member import Mail
from chain.sim.keys import transaction_digest
from chain.sim.twins.cluster import Chain
from consensus.messages import (
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    SignedViewChange,
    ViewChange,
    subject,
)

M = TypeVar("M", bound=Message)


class Manner(enum.Enum):
    """How the dishonest validator behaves."""

    SILENT = "silent"
    LEADS_FIRST = "leads-first"  # it leads view 0 and proposes two things at height 1, votes for both
    LEADS_NEXT = "leads-next"  # it leads view 1: it hides what was prepared, picks the view-changes, proposes anew


class Liar:
    """Messages well signed with its own key."""

    def __init__(self, chain: Chain, mail: Mail, *, manner: Manner, heights: int, honest_first: Proposal) -> None:
        """`honest_first` is what the leader of view 0 proposes at height 1 if it is honest."""
        self._chain, self._mail, self._manner = chain, mail, manner
        self.validator = {Manner.SILENT: 3, Manner.LEADS_FIRST: 0, Manner.LEADS_NEXT: 1}[manner]
        self._new_views: dict[frozenset[int], int] = {}
        self._own_change = self._sign(ViewChange(view=1, stable=None, prepared=()))
        self.always: tuple[int, ...] = tuple(
            mail.number(self._sign(message)) for message in self._menu(heights, honest_first)
        )

    def _menu(self, heights: int, honest_first: Proposal) -> Iterable[Message]:
        if self._manner is Manner.LEADS_FIRST:
            for height, number in [(1, 1), (1, 2), *((height, 1) for height in range(2, heights + 1))]:
                proposal = self._proposal(height, number)
                yield PrePrepare(view=0, proposal=proposal)
                yield from _votes(0, height, proposal_digest(proposal))
            yield ViewChange(view=1, stable=None, prepared=())
        elif self._manner is Manner.LEADS_NEXT:
            yield from _votes(0, 1, proposal_digest(honest_first))
            other = self._proposal(1, 1)
            yield PrePrepare(view=1, proposal=other)
            yield from _votes(1, 1, proposal_digest(other))
            yield from _votes(1, 1, proposal_digest(honest_first))

    def _proposal(self, height: int, number: int) -> Proposal:
        proposal = Proposal(
            chain_id=self._chain.id,
            height=height,
            timestamp_ms=number,
            proposer=self._chain.signers[self.validator].validator_id,
            hashes=transaction_digest(9_000 + 10 * height + number),
        )
        self._mail.contents[proposal_digest(proposal)] = proposal
        return proposal

    def _sign(self, message: M) -> Signed[M]:
        signer = self._chain.signers[self.validator]
        signature = signer.sign(subject(message).signing_bytes(self._chain.id))
        return Signed(sender=signer.validator_id, message=message, signature=signature)

    def new_view(self, one: int, other: int) -> int:
        """As the leader of view 1: the new-view of these two view-changes and its own."""
        pair = frozenset((one, other))
        known = self._new_views.get(pair)
        if known is None:
            known = self._new_views[pair] = self._new_view(sorted(pair))
        return known

    def _new_view(self, numbers: Iterable[int]) -> int:
        own = self._own_change
        entries = [SignedViewChange(sender=own.sender, message=own.message, signature=own.signature)]
        for number in numbers:
            said = self._mail.events[number].message
            if isinstance(said.message, ViewChange):
                entries.append(SignedViewChange(sender=said.sender, message=said.message, signature=said.signature))
        entries.sort(key=lambda entry: entry.sender)
        return self._mail.number(self._sign(NewView(view=1, view_changes=tuple(entries))))


def _votes(view: int, height: int, digest: bytes) -> Iterable[Message]:
    yield Prepare(view=view, height=height, digest=digest)
    yield Commit(view=view, height=height, digest=digest)
