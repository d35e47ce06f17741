"""One height in flight: what was proposed, who voted, how far it got."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from chain.errors import InvariantError
from chain.model.block import Certificate, Proposal
from chain.types import Digest, Height, View
from consensus.messages import Commit, Prepare, PrePrepare, Verified
from consensus.view_change import Reproposal
from consensus.votes import Tally


class Contents(enum.Enum):
    """Where the bodies of the accepted proposal are."""

    WAITING = "waiting"  # for the window or the clock
    OBTAINING = "obtaining"
    DURABLE = "durable"
    REFUSED = "refused"


class Phase(enum.Enum):
    """The states of a height, in this order; before `PROPOSED` there are at most votes of others."""

    UNKNOWN = "unknown"
    PROPOSED = "proposed"
    PREPARED = "prepared"
    ORDERED = "ordered"
    EXECUTED = "executed"
    CERTIFIED = "certified"


@dataclass(slots=True, kw_only=True)
class Slot:
    """The upper fields live as long as the view, the lower ones until the block is certified."""

    height: Height
    prepares: Tally
    commits: Tally
    accepted: Digest | None = None
    fresh: bool = False
    proposal: Proposal | None = None  # the accepted one, where more than its digest is known
    contents: Contents = Contents.WAITING
    hashes: frozenset[Digest] = frozenset()  # of the accepted fresh proposal
    pre_prepare: Verified[PrePrepare] | None = None
    own_prepare: Verified[Prepare] | None = None
    own_commit: Verified[Commit] | None = None

    prepared: Certificate | None = None  # of the highest view
    ordered: Certificate | None = None
    durable: dict[Digest, Proposal] = field(default_factory=dict)  # in the journal with all bodies
    sought: Digest | None = None  # asked for and not here yet; not to be judged
    standing: Digest | None = None  # the proposal for which the pool keeps transactions reserved

    @property
    def is_in_flight(self) -> bool:
        """Proposed, ordered, or more than F vote for it. Votes of fewer may be lies."""
        return (
            self.accepted is not None
            or self.ordered is not None
            or self.prepares.has_honest()
            or self.commits.has_honest()
        )

    @property
    def phase(self) -> Phase:
        if self.ordered is not None:
            return Phase.ORDERED
        if self.prepared is not None:
            return Phase.PREPARED
        return Phase.UNKNOWN if self.accepted is None else Phase.PROPOSED

    def wants(self, digest: Digest) -> bool:
        """A proposal with this digest may still be voted for or executed here."""
        return digest in (self.accepted, self.sought) or (self.ordered is not None and self.ordered.digest == digest)

    def accept_fresh(self, proposal: Proposal, digest: Digest, pre_prepare: Verified[PrePrepare] | None) -> None:
        """The leader's proposal for this view."""
        self.accepted = self.standing = digest
        self.fresh = True
        self.proposal = proposal
        self.pre_prepare = pre_prepare
        self.contents = Contents.WAITING

    def accept_again(self, reproposal: Reproposal) -> None:
        """What the new view requires at this height."""
        self.accepted = self.standing = reproposal.digest
        self.fresh = False
        self.proposal = reproposal.gap or self.durable.get(reproposal.digest)
        self.contents = Contents.WAITING

    def is_prepared(self, digest: Digest) -> bool:
        """`digest` is prepared or ordered at this height, as far as this replica knows."""
        return any(known is not None and known.digest == digest for known in (self.prepared, self.ordered))

    def give_up(self) -> None:
        """The accepted proposal is no longer this replica's business; what the others say about it still counts."""
        self.accepted = self.standing = self.proposal = self.pre_prepare = self.own_prepare = None
        self.fresh = False
        self.contents = Contents.WAITING
        self.hashes = frozenset()

    def clear(self, prepares: Tally, commits: Tally) -> None:
        """The view is over."""
        self.prepares, self.commits = prepares, commits
        self.accepted = self.proposal = self.pre_prepare = self.own_prepare = self.own_commit = None
        self.fresh = False
        self.contents = Contents.WAITING
        self.hashes = frozenset()

    def prune(self) -> None:
        """Keep only proposals that can still be ordered: views come and go, a slot does not grow with them."""
        certificates = (self.prepared, self.ordered)
        wanted = {self.accepted, self.sought, *(known.digest for known in certificates if known is not None)}
        for digest in [digest for digest in self.durable if digest not in wanted]:
            del self.durable[digest]

    def validate(self, view: View) -> None:
        """Raises InvariantError if the fields contradict each other."""
        if self.own_commit is not None and (self.prepared is None or self.prepared.view != view):
            raise InvariantError(f"commit at height {self.height} without a prepared certificate of view {view}")
        if self.own_prepare is not None and self.own_prepare.message.digest != self.accepted:
            raise InvariantError(f"prepare at height {self.height} for another proposal than the accepted one")
        if self.contents is Contents.DURABLE and self.accepted not in self.durable:
            raise InvariantError(f"proposal at height {self.height} is said to be durable and is not")
        prepared, ordered = self.prepared, self.ordered
        is_later = prepared is not None and ordered is not None and prepared.view >= ordered.view
        if is_later and prepared is not None and ordered is not None and prepared.digest != ordered.digest:
            raise InvariantError(f"height {self.height} is prepared and ordered with different proposals")
        if len(self.durable) > 4:
            raise InvariantError(f"{len(self.durable)} proposals kept at height {self.height}")
