"""The first half of consensus: pre-prepare, prepare and commit votes fix one proposal at each height.

Heights are pipelined: this replica votes for `low < height <= low + window`. What others say about the next `window`
heights is kept as well, because they may have certified a block that is still being executed here; it is looked at once
it is certain that those heights belong to this epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from chain.errors import InvariantError
from chain.model.block import Certificate, Proposal, proposal_digest
from chain.model.validators import ValidatorSet
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus.effects import (
    Abandon,
    CertificateRecord,
    Effect,
    ObtainProposal,
    Persist,
    ProposalRecord,
)
from consensus.epoch import Epoch
from consensus.faults import Divergence, FaultReason, report
from consensus.kept import Kept, OrderingMessage
from consensus.messages import Commit, Message, MessageType, Prepare, PrePrepare, Verified
from consensus.safety import Safety
from consensus.slot import Contents, Slot
from consensus.view_change import Plan, Reproposal
from consensus.votes import Tally


class Ordering:
    """The slots of all heights in flight, and the votes cast for them in the current view."""

    def __init__(
        self,
        *,
        safety: Safety,
        epoch: Epoch,
        chain_id: bytes,
        window: int,
        timestamp_drift_ms_max: int,
        low: Height,
    ) -> None:
        self._safety = safety
        self._epoch = epoch
        self._validators: ValidatorSet = epoch.validators
        self._chain_id = chain_id
        self._window = window
        self._drift_ms_max = timestamp_drift_ms_max
        self._slots: dict[Height, Slot] = {}
        self._ahead = Kept()  # said in views this replica has not entered
        self._beyond = Kept()  # about heights that may belong to the next epoch
        self._restored_height = low  # the journal may speak of heights beyond the window of the last stored block
        self.low = low
        self.view = View(0)  # the last view entered; its votes are in the slots
        self.plan = Plan()
        self.ordered_height = low  # all heights up to it are ordered
        self.ordered_count = 0  # how often a height became ordered: grows with progress

    # --- what it knows ---

    @property
    def is_active(self) -> bool:
        """In a view, and not on the way to the next one."""
        return not self._safety.changing

    @property
    def window_end(self) -> Height:
        """The last height this replica may vote for."""
        return self._epoch.limit(self.low + self._window)

    @property
    def horizon(self) -> Height:
        """The last height of which votes are kept."""
        return Height(max(self._epoch.limit(self.low + 2 * self._window), self._restored_height))

    @property
    def heights(self) -> tuple[Height, ...]:
        return tuple(sorted(self._slots))

    def slot(self, height: Height) -> Slot | None:
        return self._slots.get(height)

    def has_work(self) -> bool:
        """Something is in flight: proposed, ordered, or voted for by more than F."""
        return any(slot.is_in_flight for slot in self._slots.values())

    def has_ordered_work(self) -> bool:
        """Something is ordered and not certified."""
        return any(slot.ordered is not None for slot in self._slots.values())

    def has_unordered_work(self) -> bool:
        """Something in the window is in flight and not ordered: only the leader, or another one, can get on with it."""
        end = self.window_end
        return any(
            slot.is_in_flight and slot.ordered is None and height <= end for height, slot in self._slots.items()
        )

    def is_behind_in_view(self) -> bool:
        """More than F speak in views above this replica's."""
        return self._validators.has_honest(self._ahead.speakers_above(self._safety.view))

    def ordered_proposal(self, height: Height) -> tuple[Proposal, Digest] | None:
        """The proposal to execute at `height` and its digest, if it is ordered, in the window, and here."""
        slot = self._slots.get(height)
        if slot is None or slot.ordered is None or height > self.window_end:
            return None
        digest = Digest(slot.ordered.digest)
        proposal = slot.durable.get(digest)
        return None if proposal is None else (proposal, digest)

    def prepared_proposal(self, height: Height) -> tuple[Proposal, Digest] | None:
        """The proposal at `height` and its digest, if it is prepared in this view, in the window, and here.

        What only an earlier view prepared does not count: this view may have put another proposal in its place.
        """
        slot = self._slots.get(height)
        if slot is None or slot.prepared is None or slot.prepared.view != self.view or height > self.window_end:
            return None
        digest = Digest(slot.prepared.digest)
        proposal = slot.durable.get(digest)
        return None if proposal is None else (proposal, digest)

    def prepared_above(self, height: int) -> tuple[Certificate, ...]:
        """What a view-change must tell: the prepared certificate of the highest view for each height, ascending."""
        slots = (self._slots[at] for at in self.heights if at > height)
        return tuple(slot.prepared for slot in slots if slot.prepared is not None)

    def own_messages(self, *, above: int) -> list[Verified[Message]]:
        """This replica's pre-prepares and votes of the current view for heights over `above`, ascending."""
        messages: list[Verified[Message]] = []
        if self.is_active:
            for height in self.heights:
                slot = self._slots[height]
                if height > above:
                    own = slot.pre_prepare if self._leads() else None
                    messages += [said for said in (own, slot.own_prepare, slot.own_commit) if said is not None]
        return messages

    def next_height(self) -> Height:
        """Where the leader's next fresh proposal belongs: above all it proposed, and all that others say it did."""
        taken = max((height for height, slot in self._slots.items() if slot.is_in_flight), default=self.low)
        return Height(max(self.plan.first_fresh, taken + 1))

    def knows_reproposals(self) -> bool:
        """The contents of all that the new view proposed again are here, so no transaction can be packed twice."""
        for height, reproposal in self.plan.reproposals.items():
            slot = self._slots.get(height)
            if height > self.low and (slot is None or reproposal.digest not in slot.durable):
                return False
        return True

    def timestamp_due(self) -> Instant | None:
        """When the earliest proposal that lies too far ahead of our clock may be judged again; that may be past, as
        only the timer asks for the judgement.
        """
        end = self.window_end
        waiting = [
            slot.proposal.timestamp_ms - self._drift_ms_max
            for height, slot in self._slots.items()
            if height <= end and slot.contents is Contents.WAITING and slot.proposal is not None
        ]
        return Instant(min(waiting)) if waiting and self.is_active else None

    # --- messages ---

    def on_pre_prepare(self, received: Verified[PrePrepare], now: Instant, out: list[Effect]) -> None:
        """The first proposal for (view, height) from the leader wins; a second, different one is evidence."""
        proposal = received.message.proposal
        height = Height(proposal.height)
        if self._ignore_message(received, View(received.message.view), height):
            return
        if received.sender != self._validators.leader(self.view) or proposal.proposer != received.sender:
            report(out, received, reason=FaultReason.NOT_LEADER)
            return
        if height < self.plan.first_fresh or proposal.chain_id != self._chain_id:
            report(out, received, reason=FaultReason.OUT_OF_PLACE)
            return
        digest = received.digest or proposal_digest(proposal)
        slot = self._slot(height)
        if slot.accepted is not None:
            if slot.accepted != digest:
                known = () if slot.pre_prepare is None else (slot.pre_prepare,)
                report(out, *known, received, reason=FaultReason.EQUIVOCATION)
            return
        slot.accept_fresh(proposal, digest, received)
        if not self._is_unique(slot, proposal):
            slot.contents = Contents.REFUSED
            report(out, received, reason=FaultReason.DUPLICATE_TRANSACTION)
        self._proceed(slot, now, out)

    def on_vote(self, received: Verified[Prepare | Commit], now: Instant, out: list[Effect]) -> None:
        """Count a prepare or commit; the proposal it is for may still be unknown."""
        height = Height(received.message.height)
        if self._ignore_message(received, View(received.message.view), height):
            return
        slot = self._slot(height)
        tally = slot.prepares if isinstance(received.message, Prepare) else slot.commits
        earlier = tally.add(received)
        if earlier is not None:
            report(out, earlier, received, reason=FaultReason.EQUIVOCATION)
            return
        self._proceed(slot, now, out)

    def _ignore_message(self, received: Verified[OrderingMessage], view: View, height: Height) -> bool:
        """True unless it belongs to the current view and to a height in flight; what is for a later view is kept."""
        if not self.low < height <= self.horizon:
            return True
        if height > self._epoch.end:
            self._beyond.add(received, view, height)
            return True
        if view > self._safety.view or (view == self._safety.view and not self.is_active):
            self._ahead.add(received, view, height)
            return True
        return view != self.view or not self.is_active

    def on_obtained(self, digest: Digest, proposal: Proposal, now: Instant, out: list[Effect]) -> None:
        """All bodies of a proposal are here; from now on it is durable and may be voted for."""
        slot = self._slots.get(Height(proposal.height))
        if slot is None or not slot.wants(digest):
            return
        if digest not in slot.durable:
            if slot.proposal != proposal and proposal_digest(proposal) != digest:
                raise InvariantError(f"obtained another proposal than {digest.hex()} at height {slot.height}")
            self._keep_proposal(slot, digest, proposal, out)
        if slot.sought == digest:
            slot.sought = None
        if slot.accepted == digest and slot.contents is Contents.OBTAINING:
            slot.contents = Contents.DURABLE
        self._proceed(slot, now, out)

    def on_refused(self, height: Height, digest: Digest) -> None:
        """No vote for this proposal; if it gets ordered all the same, it is obtained without being judged."""
        slot = self._slots.get(height)
        if slot is not None and slot.accepted == digest and slot.fresh and slot.contents is Contents.OBTAINING:
            slot.contents = Contents.REFUSED

    def propose(self, proposal: Proposal, now: Instant, out: list[Effect]) -> None:
        """The leader's own proposal, packed from its pool: its bodies are here."""
        slot = self._slot(Height(proposal.height))
        digest = proposal_digest(proposal)
        if proposal.chain_id != self._chain_id or proposal.proposer != self._safety.id or slot.accepted is not None:
            raise InvariantError(f"packed proposal does not fit height {proposal.height}")
        pre_prepare = self._safety.pre_prepare(view=self.view, proposal=proposal, digest=digest, out=out)
        slot.accept_fresh(proposal, digest, pre_prepare)
        slot.durable[digest] = proposal
        slot.contents = Contents.DURABLE
        self._proceed(slot, now, out)

    # --- progress of one height ---

    def _proceed(self, slot: Slot, now: Instant, out: list[Effect]) -> None:
        """Do all that the votes and contents of one slot allow."""
        if self.is_active and slot.height <= self.window_end:
            self._judge(slot, now, out)
            self._vote_prepare(slot, out)
            self._vote_commit(slot, out)
        self._conclude(slot, out)

    def _judge(self, slot: Slot, now: Instant, out: list[Effect]) -> None:
        """Get hold of the accepted proposal's contents. Of its timestamp only the future side is judged."""
        digest = slot.accepted
        if digest is None or slot.contents is not Contents.WAITING:
            return
        if digest in slot.durable:
            slot.contents = Contents.DURABLE
        elif slot.proposal is not None:  # the leader's, or a gap, which has timestamp 0
            if slot.proposal.timestamp_ms > now + self._drift_ms_max:
                return
            if not slot.proposal.hashes:  # a gap, or on the way to a boundary: there are no bodies to get
                self._keep_proposal(slot, digest, slot.proposal, out)
                slot.contents = Contents.DURABLE
            else:
                slot.contents = Contents.OBTAINING
                sources = (self._validators.leader(self.view),)
                out.append(
                    ObtainProposal(
                        height=slot.height, digest=digest, proposal=slot.proposal, fresh=True, sources=sources
                    )
                )
        else:
            slot.contents = Contents.OBTAINING
            self._seek(slot, digest, self.plan.reproposals[slot.height].sources, out)

    def _vote_prepare(self, slot: Slot, out: list[Effect]) -> None:
        if slot.own_prepare is None and slot.accepted is not None and slot.contents is Contents.DURABLE:
            slot.own_prepare = self._safety.prepare(view=self.view, height=slot.height, digest=slot.accepted, out=out)
            slot.prepares.add(slot.own_prepare)

    def _vote_commit(self, slot: Slot, out: list[Effect]) -> None:
        """Prepared: a quorum of equal prepares, and the pre-prepare (or the new view's re-proposal) they are for."""
        if slot.own_commit is not None or slot.accepted is None:
            return
        if slot.prepared is None or slot.prepared.view != self.view:
            if not slot.prepares.has_quorum(slot.accepted):
                return
            slot.prepared = slot.prepares.certificate(
                kind=MessageType.PREPARE, view=self.view, height=slot.height, digest=slot.accepted
            )
        slot.own_commit = self._safety.commit(prepared=slot.prepared, out=out)
        slot.commits.add(slot.own_commit)

    def _conclude(self, slot: Slot, out: list[Effect]) -> None:
        """Ordered: a quorum of equal commits."""
        digest = slot.commits.quorum()
        if digest is None:
            return
        if slot.ordered is None:
            slot.ordered = slot.commits.certificate(
                kind=MessageType.COMMIT, view=self.view, height=slot.height, digest=digest
            )
            out.append(Persist(record=CertificateRecord(certificate=slot.ordered)))
            self.ordered_count += 1
            self._raise_ordered_height()
        elif slot.ordered.digest != digest:
            own = Digest(slot.ordered.digest)
            raise Divergence(height=slot.height, own=own, certified=digest, reason="ordered_twice")
        self._seek(slot, digest, slot.commits.signers(digest), out)

    def _raise_ordered_height(self) -> None:
        self.ordered_height = Height(max(self.ordered_height, self.low))
        while True:
            slot = self._slots.get(Height(self.ordered_height + 1))
            if slot is None or slot.ordered is None:
                return
            self.ordered_height = slot.height

    def _seek(self, slot: Slot, digest: Digest, sources: Iterable[ValidatorId], out: list[Effect]) -> None:
        """Ask for a proposal which is not to be judged; once a digest."""
        if digest in slot.durable or slot.sought == digest:
            return
        slot.sought = digest
        proposal = slot.proposal if slot.accepted == digest else None
        others = tuple(source for source in sources if source != self._safety.id)
        out.append(
            ObtainProposal(height=slot.height, digest=digest, proposal=proposal, fresh=False, sources=others)
        )

    def _keep_proposal(self, slot: Slot, digest: Digest, proposal: Proposal, out: list[Effect]) -> None:
        slot.durable[digest] = proposal
        out.append(Persist(record=ProposalRecord(view=self.view, proposal=proposal)))

    def _is_unique(self, slot: Slot, proposal: Proposal) -> bool:
        """No hash twice in `proposal`, and none that is in another fresh proposal of this view."""
        hashes = frozenset(proposal.transaction_hashes())
        slot.hashes = hashes
        return len(hashes) == proposal.count and all(
            other is slot or hashes.isdisjoint(other.hashes) for other in self._slots.values()
        )

    # --- views and windows ---

    def leave(self, out: list[Effect]) -> None:
        """The view is left. A fresh proposal that is not prepared here may have reached nobody else: give it up now, as
        the next view may be long in coming. If it is prepared elsewhere, the new view will bring it back.
        """
        for height in self.heights:
            slot = self._slots[height]
            if slot.fresh and slot.accepted is not None and not slot.is_prepared(slot.accepted):
                self._abandon(slot, out)
                slot.give_up()

    def enter(self, view: View, plan: Plan, now: Instant, out: list[Effect]) -> None:
        """Begin `view`: all votes of the old one are void, and `plan` says what is proposed again."""
        self.view, self.plan = view, plan if self._epoch.boundary is None else plan.up_to(self._epoch.boundary)
        plan = self.plan
        for height in self.heights:
            self._check_ordered(self._slots[height], plan)
            self._slots[height].clear(self._tally(), self._tally())
        for height in sorted(set(self._slots) | self._reachable(plan.reproposals)):
            slot = self._slot(height)
            reproposal = plan.reproposals.get(height)
            kept = None if reproposal is None else reproposal.digest
            if slot.standing not in (None, kept) and height > plan.low:
                self._abandon(slot, out)
            if reproposal is not None:
                slot.accept_again(reproposal)
            slot.prune()
        self.proceed_all(now, out)
        self._take_ahead(now, out)

    def _abandon(self, slot: Slot, out: list[Effect]) -> None:
        """Give the transactions back. Should the proposal return, it is obtained again, which reserves them again."""
        if slot.standing is not None:
            out.append(Abandon(height=slot.height, digest=slot.standing))
            slot.durable.pop(slot.standing, None)
            if slot.sought == slot.standing:
                slot.sought = None
            slot.standing = None

    def _check_ordered(self, slot: Slot, plan: Plan) -> None:
        """What is ordered here must be ordered in every later view: else more than F validators are faulty."""
        if slot.ordered is None or slot.height <= plan.low:
            return
        reproposal = plan.reproposals.get(slot.height)
        if reproposal is None or reproposal.digest != slot.ordered.digest:
            raise Divergence(
                height=slot.height,
                own=Digest(slot.ordered.digest),
                certified=None if reproposal is None else reproposal.digest,
                reason="ordered_not_kept_by_new_view",
            )

    def _take_ahead(self, now: Instant, out: list[Effect]) -> None:
        """Hear what was said in the view just entered before this replica came."""
        for received in self._ahead.take_view(self.view):
            self._hear(received, now, out)

    def _hear(self, received: Verified[OrderingMessage], now: Instant, out: list[Effect]) -> None:
        match received.message:
            case PrePrepare():
                self.on_pre_prepare(cast("Verified[PrePrepare]", received), now, out)
            case Prepare() | Commit():
                self.on_vote(cast("Verified[Prepare | Commit]", received), now, out)

    def advance(self, low: Height, certified: dict[Height, Digest], now: Instant, out: list[Effect]) -> None:
        """Blocks up to `low` are certified and executed here; `certified` gives their proposals' digests."""
        for height in self.heights:
            if height <= low:
                slot = self._slots.pop(height)
                if slot.standing != certified.get(height):
                    self._abandon(slot, out)
        self._ahead.forget_up_to(low)
        self._beyond.forget_up_to(low)
        self.low = low
        self._raise_ordered_height()
        for height in sorted(self._reachable(self.plan.reproposals) - set(self._slots)):
            self._slot(height).accept_again(self.plan.reproposals[height])
        self.proceed_all(now, out)

    def reach(self, now: Instant, out: list[Effect]) -> None:
        """A height was executed: more heights are certain to belong to this epoch, or it is known where it ends."""
        if self._epoch.boundary is not None:
            self._cut(self._epoch.boundary, out)
        for received in self._beyond.take_up_to(self._epoch.end):
            self._hear(received, now, out)

    def _cut(self, boundary: Height, out: list[Effect]) -> None:
        """Heights above the boundary belong to others: nothing said of them counts here."""
        for height in [height for height in self.heights if height > boundary]:
            self._abandon(self._slots.pop(height), out)
        self._ahead.forget_above(boundary)
        self._beyond.forget_above(boundary)
        self.plan = self.plan.up_to(boundary)
        self._restored_height = min(self._restored_height, boundary)
        self.ordered_height = min(self.ordered_height, boundary)

    def proceed_all(self, now: Instant, out: list[Effect]) -> None:
        """Look at every slot again: the window, the view or the clock has moved."""
        for height in self.heights:
            self._proceed(self._slots[height], now, out)

    def repeat_votes(self, out: list[Effect]) -> None:
        """After a restart: sign again what a leader had proposed in this view (the votes follow by `proceed_all`)."""
        if not self.is_active or not self._leads():
            return
        for height in self.heights:
            slot = self._slots[height]
            if slot.fresh and slot.accepted is not None and slot.proposal is not None:
                if slot.proposal.proposer != self._safety.id:
                    continue  # blocks were lost: the leader's of a later epoch, in a view of the same number
                slot.pre_prepare = self._safety.pre_prepare(
                    view=self.view, proposal=slot.proposal, digest=slot.accepted, out=out
                )

    def restore(self, height: Height) -> Slot:
        """The slot of a height that the journal speaks of, to be filled by `consensus.recovery`."""
        self._restored_height = Height(max(self._restored_height, height))
        return self._slot(height)

    def restored(self, view: View, plan: Plan) -> None:
        """All slots are filled; `view` is the last one entered."""
        self.view, self.plan = view, plan
        self._raise_ordered_height()
        for height in sorted(self._reachable(plan.reproposals)):
            self._slot(height).accept_again(plan.reproposals[height])

    def _reachable(self, reproposals: dict[Height, Reproposal]) -> set[Height]:
        return {height for height in reproposals if self.low < height <= self.horizon}

    def _leads(self) -> bool:
        return self._validators.leader(self.view) == self._safety.id

    def _slot(self, height: Height) -> Slot:
        slot = self._slots.get(height)
        if slot is None:
            slot = self._slots[height] = Slot(height=height, prepares=self._tally(), commits=self._tally())
        return slot

    def _tally(self) -> Tally:
        return Tally(self._validators)

    def validate_state(self) -> None:
        """Raises InvariantError if a bound or a relation between fields does not hold."""
        for height, slot in self._slots.items():
            if not self.low < height <= self.horizon or height != slot.height:
                raise InvariantError(f"slot {height} outside of {self.low}..{self.horizon}")
            slot.validate(self.view)
        if not self.low <= self.ordered_height <= self.horizon:
            raise InvariantError(f"ordered height {self.ordered_height} outside of {self.low}..{self.horizon}")
        for kept in (self._ahead, self._beyond):
            kept.validate_state(self._validators, 3 * (self.horizon - self.low) + 3 * self._window)
