"""View changes: the latest of each sender, when to join one, and what a new view must propose again.

The re-proposals of a new view are not in the new-view message: everyone computes them from the view-changes it carries,
so the new leader has nothing to forge. Castro and Liskov, "Practical Byzantine Fault Tolerance", section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chain.model.block import Certificate, Proposal, gap_proposal, proposal_digest
from chain.model.validators import ValidatorSet
from chain.types import GENESIS_HEIGHT, Digest, Height, ValidatorId, View
from consensus.messages import NewView, Verified, ViewChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproposal:
    """What a new view requires at one height."""

    digest: Digest
    gap: Proposal | None  # the empty proposal, where nothing was prepared
    sources: tuple[ValidatorId, ...]  # who voted to prepare it, and so holds its bodies


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What follows from a quorum of view-changes: up to `low` all is certified, then come `reproposals`, then fresh."""

    low: Height = GENESIS_HEIGHT
    reproposals: dict[Height, Reproposal] = field(default_factory=dict)

    @property
    def first_fresh(self) -> Height:
        return Height(max(self.reproposals, default=self.low) + 1)

    def up_to(self, boundary: Height) -> Plan:
        """Without what lies above the last height of the epoch."""
        kept = {height: reproposal for height, reproposal in self.reproposals.items() if height <= boundary}
        return self if len(kept) == len(self.reproposals) else Plan(low=self.low, reproposals=kept)


def plan_of(view_changes: Iterable[ViewChange], *, chain_id: bytes) -> Plan:
    """The plan of a new view: from the highest stable certificate up, each height's prepared certificate of the
    highest view; an empty proposal where there is none below a prepared height.
    """
    changes = tuple(view_changes)
    low = max((change.stable.height for change in changes if change.stable is not None), default=GENESIS_HEIGHT)
    highest: dict[int, Certificate] = {}
    for change in changes:
        for certificate in change.prepared:
            known = highest.get(certificate.height)
            if certificate.height > low and (known is None or certificate.view > known.view):
                highest[certificate.height] = certificate
    reproposals: dict[Height, Reproposal] = {}
    for number in range(low + 1, max(highest, default=low) + 1):
        height = Height(number)
        prepared = highest.get(number)
        if prepared is None:
            gap = gap_proposal(chain_id=chain_id, height=height)
            reproposals[height] = Reproposal(digest=proposal_digest(gap), gap=gap, sources=())
        else:
            sources = tuple(ValidatorId(entry.validator) for entry in prepared.signatures)
            reproposals[height] = Reproposal(digest=Digest(prepared.digest), gap=None, sources=sources)
    return Plan(low=Height(low), reproposals=reproposals)


class ViewChanges:
    """The latest view-change of each sender, this replica's own among them, and the new-view it lives by."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._latest: dict[ValidatorId, Verified[ViewChange]] = {}
        self.own: Verified[ViewChange] | None = None
        self.new_view: Verified[NewView] | None = None  # of the last view entered; None: the first view
        self.quorum_seen = False  # for the view this replica waits for

    def add(self, change: Verified[ViewChange]) -> bool:
        """Keep the highest of each sender. False: an old one."""
        known = self._latest.get(change.sender)
        if known is not None and known.message.view >= change.message.view:
            return False
        self._latest[change.sender] = change
        return True

    def leave_for(self, own: Verified[ViewChange]) -> None:
        """This replica has asked for `own.message.view`."""
        self.own = own
        self._latest[own.sender] = own
        self.quorum_seen = False

    def enter(self, new_view: Verified[NewView]) -> None:
        """A view is entered: view-changes up to it have done their work."""
        self.new_view = new_view
        self.own = None
        self.quorum_seen = False
        view = new_view.message.view
        for sender in [sender for sender, change in self._latest.items() if change.message.view <= view]:
            del self._latest[sender]

    def join_target(self) -> View | None:
        """The (f+1)-th highest view asked for: one honest validator at least asks for it or a higher one."""
        weight = 0
        for sender in sorted(self._latest, key=lambda sender: (-self._latest[sender].message.view, sender)):
            member = self._validators.get(sender)
            weight += 0 if member is None else member.weight
            if weight > self._validators.tolerated_weight:
                return View(self._latest[sender].message.view)
        return None

    def note_quorum(self, view: View) -> None:
        """Remember whether a quorum has asked for `view` or a higher one: only then may a time-out go further."""
        senders = [sender for sender, change in self._latest.items() if change.message.view >= view]
        self.quorum_seen = self.quorum_seen or self._validators.is_quorum(senders)

    def quorum_for(self, view: View) -> tuple[Verified[ViewChange], ...] | None:
        """The view-changes for exactly `view`, ascending by sender, if they are a quorum."""
        changes = [self._latest[sender] for sender in sorted(self._latest) if self._latest[sender].message.view == view]
        return tuple(changes) if self._validators.is_quorum(change.sender for change in changes) else None

    def views(self) -> dict[ValidatorId, View]:
        """Who asks for which view, ascending by sender."""
        return {sender: View(self._latest[sender].message.view) for sender in sorted(self._latest)}
