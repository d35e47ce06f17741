"""The replica: events in, effects out; everything it decides is decided in its parts.

`Replica.step` is the only mutator. It never raises because of what a peer sent; `InvariantError` means a bug of ours
(or of the driver). Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, with heights in flight side by
side and the checkpoint as a second half that makes each block final.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never, cast

from chain.errors import ConfigError, InvariantError
from chain.model.block import Certificate, Header, proposal_digest
from chain.model.validators import ValidatorSet
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus.catch_up import FETCH_BLOCKS_MAX, CatchUp
from consensus.checkpoint import Checkpoints
from consensus.effects import Abandon, Broadcast, CancelRequests, Diverged, Effect, JournalRecord, Send
from consensus.epoch import Epoch, belongs, epoch_height
from consensus.events import (
    BlockFetched,
    Event,
    Executed,
    MessageReceived,
    PeerConnected,
    PeerStatus,
    PoolDrained,
    ProposalObtained,
    ProposalPacked,
    ProposalRefused,
    Started,
    Stored,
    Timer,
    TimerFired,
    TransactionsWaiting,
)
from consensus.faults import Divergence, FaultReason, report
from consensus.leader import Leader
from consensus.messages import (
    VIEW_MAX,
    Checkpoint,
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Verified,
    ViewChange,
)
from consensus.ordering import Ordering
from consensus.pace import Pace, ReplicaConfig
from consensus.recovery import recover
from consensus.retransmission import Retransmission
from consensus.safety import Safety, Signer
from consensus.slot import Phase
from consensus.speculation import Speculation
from consensus.story import Story
from consensus.view_change import ViewChanges, plan_of


class Replica:
    """One validator's PBFT with one validator set. `now` is milliseconds since 1970, by whatever clock the caller has.

    `consensus.succession` puts one after the other where the set changes.
    """

    def __init__(
        self,
        *,
        config: ReplicaConfig,
        signer: Signer,
        chain_id: bytes,
        window: int,
        last: tuple[Header, Certificate | None],
        journal: Sequence[JournalRecord] = (),
        validators: ValidatorSet | None = None,
        epoch: Epoch | None = None,
        claims: Mapping[ValidatorId, Height] | None = None,
    ) -> None:
        """`last` is the last block stored here (genesis has no certificate); `journal` all records since, in order.

        Either `validators`, who never change, or the `epoch` that the height after `last` belongs to. `claims` are
        blocks of which this node has heard already, and from whom.
        """
        if epoch is None:
            if validators is None:
                raise InvariantError("a replica needs a validator set or an epoch")
            epoch = Epoch(validators)
        validators = epoch.validators
        if signer.validator_id not in validators:
            raise ConfigError("validator key: not a member of the validator set")
        low = Height(last[0].height)
        self._epoch = epoch
        self._validators = validators
        self._chain_id = chain_id
        self._window = window
        self._safety = Safety(signer=signer, validators=validators, chain_id=chain_id, floor=low)
        self._ordering = Ordering(
            safety=self._safety, epoch=epoch, chain_id=chain_id, window=window, low=low,
            timestamp_drift_ms_max=config.timestamp_drift_ms_max,
        )  # fmt: skip
        self._checkpoints = Checkpoints(
            safety=self._safety, epoch=epoch, chain_id=chain_id, window=window, last=last
        )
        self._speculation = Speculation()
        self._view_changes = ViewChanges(validators)
        self._leader = Leader()
        self._catch_up = CatchUp(epoch)
        self._story, self._started = Story(), False
        self._diverged: Diverged | None = None
        for peer, height in (claims or {}).items():
            self._hear_of(peer, height)
        self._retransmission = Retransmission(
            epoch=epoch, safety=self._safety, ordering=self._ordering, checkpoints=self._checkpoints,
            view_changes=self._view_changes, interval_ms=max(1, config.retransmit_ms // 2),
        )  # fmt: skip
        self._pace = Pace(
            config=config, epoch=epoch, safety=self._safety, ordering=self._ordering, checkpoints=self._checkpoints,
            view_changes=self._view_changes, leader=self._leader, catch_up=self._catch_up,
        )  # fmt: skip
        recover(
            journal, epoch=epoch, safety=self._safety, ordering=self._ordering, checkpoints=self._checkpoints,
            view_changes=self._view_changes, chain_id=chain_id,
        )  # fmt: skip

    # --- for status, logs and tests ---

    @property
    def id(self) -> ValidatorId:
        return self._safety.id

    @property
    def view(self) -> View:
        """The view it is in, or (`is_changing`) the one it waits for."""
        return self._safety.view

    @property
    def leader(self) -> ValidatorId:
        return self._validators.leader(self._safety.view)

    @property
    def is_leader(self) -> bool:
        return self.leader == self._safety.id and not self.is_changing

    @property
    def is_changing(self) -> bool:
        return self._safety.changing

    @property
    def certified_height(self) -> Height:
        """The highest block that is certified and executed here."""
        return self._checkpoints.low

    @property
    def executed_height(self) -> Height:
        return self._checkpoints.executed

    @property
    def ordered_height(self) -> Height:
        """All heights up to it are ordered."""
        return self._ordering.ordered_height

    @property
    def in_flight(self) -> tuple[Height, ...]:
        """Heights above the certified one at which something is proposed, ordered or voted for, ascending."""
        slots = ((height, self._ordering.slot(height)) for height in self._ordering.heights)
        return tuple(height for height, slot in slots if slot is not None and slot.is_in_flight)

    @property
    def standing(self) -> tuple[Digest, ...]:
        """Proposals for which the pool keeps transactions reserved, by height: to be reserved again after a restart."""
        slots = (self._ordering.slot(height) for height in self._ordering.heights)
        return tuple(slot.standing for slot in slots if slot is not None and slot.standing is not None)

    @property
    def diverged(self) -> Diverged | None:
        """Set once this node disagrees with a quorum; it says nothing any more."""
        return self._diverged

    @property
    def armed_timers(self) -> tuple[Timer, ...]:
        return self._pace.timers.armed

    @property
    def view_timeout_ms(self) -> int:
        """How long it would wait now before the next view change."""
        return self._pace.view_delay.current_ms

    def phase(self, height: Height) -> Phase:
        if height <= self._checkpoints.low:
            return Phase.CERTIFIED
        if self._checkpoints.executed_digest(height) is not None:
            return Phase.EXECUTED
        slot = self._ordering.slot(height)
        return Phase.UNKNOWN if slot is None else slot.phase

    def validators_at(self, height: Height) -> ValidatorSet:
        """Who votes for `height`, as far as this epoch goes."""
        return self._validators

    @property
    def epoch(self) -> Epoch:
        """Which heights its validators vote for."""
        return self._epoch

    @property
    def claims(self) -> dict[ValidatorId, Height]:
        """Blocks that others claim to have and that are not certified here."""
        return self._catch_up.claims

    def story(self, height: Height) -> list[tuple[Instant, str]]:
        """What this replica remembers of a height, oldest first; bounded, for debugging."""
        return self._story.of(height)

    # --- the one mutator ---

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """Take in one event. The effects are to be carried out in list order.

        Raises:
            InvariantError: a promise of the design or of the driver does not hold.
        """
        if self._diverged is not None or (not self._started and isinstance(event, MessageReceived | TimerFired)):
            return []
        out: list[Effect] = []
        try:
            self._dispatch(event, now, out)
            self._settle(now, out)
        except Divergence as divergence:
            self._halt(divergence, out)
        self._story.tell(now, event, out)
        return out

    def _dispatch(self, event: Event, now: Instant, out: list[Effect]) -> None:
        match event:
            case Started():
                self._on_started(now, out)
            case MessageReceived(message=message):
                self._on_message(message, now, out)
            case TimerFired(timer=timer):
                self._on_timer(timer, now, out)
            case ProposalPacked():
                self._on_packed(event, now, out)
            case ProposalObtained(digest=digest, proposal=proposal):
                self._ordering.on_obtained(digest, proposal, now, out)
            case ProposalRefused(height=height, digest=digest):
                self._ordering.on_refused(height, digest)
            case Executed():
                self._on_executed(event, now, out)
            case BlockFetched():
                self._on_fetched(event)
            case TransactionsWaiting(overdue=overdue, oldest=oldest):
                self._leader.on_waiting(overdue=overdue, oldest=oldest, now=now)
            case PoolDrained():
                self._leader.on_drained()
            case PeerConnected(peer=peer):
                if peer != self._safety.id:
                    out.append(Send(to=ValidatorId(peer), message=self._retransmission.status()))
            case PeerStatus(peer=peer, certified=certified):
                self._on_peer_status(ValidatorId(peer), certified, now, out)
            case Stored():
                pass  # what follows from it is the succession's business
            case _:
                assert_never(event)

    def _on_started(self, now: Instant, out: list[Effect]) -> None:
        """Say again what was said before a restart, and where this replica stands."""
        if self._started:
            raise InvariantError("started twice")
        self._started = True
        if self._view_changes.own is not None:
            out.append(Broadcast(message=self._view_changes.own))
        self._ordering.repeat_votes(out)
        self._ordering.proceed_all(now, out)
        out.append(Broadcast(message=self._retransmission.status()))

    def _on_message(self, received: Verified[Message], now: Instant, out: list[Effect]) -> None:
        if received.sender == self._safety.id:
            if not self._safety.may_have_said(received):
                report(out, received, reason=FaultReason.OWN_KEY_ELSEWHERE)
            return
        if received.sender not in self._validators:
            return
        match received.message:
            case PrePrepare():
                self._ordering.on_pre_prepare(cast("Verified[PrePrepare]", received), now, out)
            case Prepare() | Commit():
                self._ordering.on_vote(cast("Verified[Prepare | Commit]", received), now, out)
            case Checkpoint(height=height):
                if height > self._checkpoints.horizon:  # not kept: it will be here as a block, or not at all
                    self._catch_up.note(received.sender, height)
                self._checkpoints.on_checkpoint(cast("Verified[Checkpoint]", received), out)
            case ViewChange():
                self._on_view_change(cast("Verified[ViewChange]", received), now, out)
            case NewView():
                self._on_new_view(cast("Verified[NewView]", received), now, out)
            case Status(certified=certified):
                if certified > self._checkpoints.low:
                    self._catch_up.note(received.sender, certified)
                for message in self._retransmission.answer(cast("Verified[Status]", received), now):
                    out.append(Send(to=received.sender, message=message))
            case _:
                assert_never(received.message)

    def _on_packed(self, event: ProposalPacked, now: Instant, out: list[Effect]) -> None:
        """The pool's answer; if nobody waits for it any more its transactions go back.

        The height may be taken meanwhile: others can be in a later view, and their block has been fetched.
        """
        height = Height(event.proposal.height)
        if not self._leader.close(view=event.view, height=height) or height != self._ordering.next_height():
            out.append(Abandon(height=height, digest=proposal_digest(event.proposal)))
            return
        self._ordering.propose(event.proposal, now, out)

    def _on_executed(self, event: Executed, now: Instant, out: list[Effect]) -> None:
        self._checkpoints.on_executed(event.header, out)
        if event.validators is not None:
            boundary = Height(event.header.height + self._window)
            self._epoch.close(boundary)
            self._checkpoints.cut(boundary)
        self._ordering.reach(now, out)

    def _on_peer_status(self, peer: ValidatorId, certified: Height, now: Instant, out: list[Effect]) -> None:
        self._hear_of(peer, certified)
        for message in self._retransmission.answer_stranger(peer, certified, now):
            out.append(Send(to=peer, message=message))

    def _hear_of(self, peer: ValidatorId, height: Height) -> None:
        if height > self._checkpoints.low:
            note = self._catch_up.note if peer in self._validators else self._catch_up.note_stranger
            note(peer, height)

    def _on_fetched(self, block: BlockFetched) -> None:
        height = Height(block.header.height)
        if height > self._checkpoints.low + FETCH_BLOCKS_MAX:
            return
        slot = self._ordering.slot(height)
        if slot is not None and slot.ordered is not None and slot.ordered.digest != block.header.proposal_digest:
            own, certified = Digest(slot.ordered.digest), Digest(block.header.proposal_digest)
            raise Divergence(height=height, own=own, certified=certified, reason="ordered_differently")
        self._checkpoints.on_fetched(block)
        self._pace.retransmit_delay.reset()
        self._catch_up.is_patient = True

    # --- views ---

    def _on_view_change(self, received: Verified[ViewChange], now: Instant, out: list[Effect]) -> None:
        stable = received.message.stable
        if stable is not None and stable.height > self._checkpoints.low:
            self._catch_up.note(received.sender, stable.height)
        if not self._epoch.holds(epoch_height(stable)):
            return  # of another epoch, or it may be: there is nothing to join
        if received.message.view > self._ordering.view and self._view_changes.add(received):
            self._consider_views(now, out)

    def _consider_views(self, now: Instant, out: list[Effect]) -> None:
        """Join a view change that an honest validator wants; lead the new view once a quorum has asked for it."""
        target = self._view_changes.join_target()
        if target is not None and target > self._safety.view:
            self._leave_for(target, out)
        if not self.is_changing:
            return
        view = self._safety.view
        self._view_changes.note_quorum(view)
        changes = self._view_changes.quorum_for(view)
        if changes is not None and self._validators.leader(view) == self._safety.id:
            self._enter(self._safety.new_view(view=view, view_changes=changes), now, out)

    def _leave_for(self, view: View, out: list[Effect]) -> None:
        """Ask for `view` and stop voting in the lower ones.

        Not where the epoch's last block is certified, even if that block is not here (a restart may have lost it): what
        would be signed belongs to the next epoch, whose core knows nothing of it.
        """
        stable = self._checkpoints.stable
        certified = Height(max(self._checkpoints.low, 0 if stable is None else stable.height))
        if view > VIEW_MAX or self._epoch.is_over(certified):
            return
        self._cancel_requests(out)
        prepared = self._ordering.prepared_above(0 if stable is None else stable.height)
        own = self._safety.view_change(view=view, stable=stable, prepared=prepared, out=out)
        self._view_changes.leave_for(own)
        self._ordering.leave(out)
        self._pace.view_delay.fail()
        self._pace.timers.disarm(Timer.VIEW, out)

    def _on_new_view(self, received: Verified[NewView], now: Instant, out: list[Effect]) -> None:
        """Enter any view above ours that its certificate proves; there is no way back below the one asked for."""
        view = View(received.message.view)
        if not belongs([entry.message for entry in received.message.view_changes], self._epoch):
            return  # views begin at 0 in each epoch: what begins one in another epoch begins nothing in this one
        if received.sender != self._validators.leader(view):
            report(out, received, reason=FaultReason.NOT_LEADER)
            return
        known = self._view_changes.new_view
        if known is not None and known.message.view == view and known.message != received.message:
            report(out, known, received, reason=FaultReason.EQUIVOCATION)
            return
        if view > self._safety.view or (view == self._safety.view and self.is_changing):
            self._enter(received, now, out)

    def _enter(self, new_view: Verified[NewView], now: Instant, out: list[Effect]) -> None:
        view = View(new_view.message.view)
        self._cancel_requests(out)
        self._safety.enter(new_view, out)
        self._view_changes.enter(new_view)
        self._leader.on_entered(now)
        self._pace.timers.disarm(Timer.VIEW, out)
        for entry in new_view.message.view_changes:
            if entry.message.stable is not None and entry.message.stable.height > self._checkpoints.low:
                self._catch_up.note(ValidatorId(entry.sender), entry.message.stable.height)
        plan = plan_of((entry.message for entry in new_view.message.view_changes), chain_id=self._chain_id)
        self._ordering.enter(view, plan, now, out)

    def _cancel_requests(self, out: list[Effect]) -> None:
        if not self.is_changing:
            self._leader.cancel()
            out.append(CancelRequests())

    # --- timers ---

    def _on_timer(self, timer: Timer, now: Instant, out: list[Effect]) -> None:
        if not self._pace.timers.fire(timer, now, out):
            return
        match timer:
            case Timer.VIEW:  # while the view changes it runs only after a quorum was seen
                self._leave_for(View(self._safety.view + 1), out)
                self._consider_views(now, out)
            case Timer.RETRANSMIT:
                self._retransmit(out)
            case Timer.TIMESTAMP:
                self._ordering.proceed_all(now, out)
            case _:
                assert_never(timer)

    def _retransmit(self, out: list[Effect]) -> None:
        """Nothing has moved for a while: say again what others may have missed, and ask for what we may have missed."""
        self._pace.retransmit_delay.fail()
        _, last = self._catch_up.outstanding or (0, 0)
        heights = range(self._checkpoints.low + 1, last + 1)
        self._catch_up.stall(missing=not all(self._checkpoints.is_fetched(Height(height)) for height in heights))
        ahead = self._checkpoints.certified_ahead()
        if ahead is not None:
            for signer in ahead[1]:
                self._catch_up.note(signer, ahead[0])
        for message in self._retransmission.own_outstanding():
            out.append(Broadcast(message=message))
        out.append(Broadcast(message=self._retransmission.status()))

    # --- after every event ---

    def _settle(self, now: Instant, out: list[Effect]) -> None:
        """Execute, store, ask for proposals and blocks, keep timers: all that may follow from a changed state."""
        self._advance(now, out)
        self._speculate(out)
        self._request_proposal(out)
        fetch = self._catch_up.request(low=self._checkpoints.low, ordered=self._ordering.ordered_height)
        if fetch is not None:
            out.append(fetch)
        self._pace.keep(now, out)

    def _advance(self, now: Instant, out: list[Effect]) -> None:
        while True:
            self._execute(out)
            certified = self._checkpoints.certify(out)
            if not certified:
                return
            self._catch_up.advance(self._checkpoints.low)
            self._ordering.advance(self._checkpoints.low, certified, now, out)

    def _execute(self, out: list[Effect]) -> None:
        while True:
            height = Height(self._checkpoints.issued + 1)
            if height > self._epoch.end:
                return  # who votes for it is not known before more is executed
            ordered = self._checkpoints.fetched_proposal(height) or self._ordering.ordered_proposal(height)
            if ordered is None:
                return
            self._checkpoints.issue(*ordered, out)
            self._speculation.issue(height, ordered[1])

    def _speculate(self, out: list[Effect]) -> None:
        """Name what is prepared above the last issued height, without a gap."""
        height = Height(self._checkpoints.issued + 1)
        while True:
            likely = self._ordering.ordered_proposal(height) or self._ordering.prepared_proposal(height)
            if likely is None:
                return
            self._speculation.name(*likely, out)
            height = Height(height + 1)

    def _request_proposal(self, out: list[Effect]) -> None:
        may_be_empty = self._epoch.is_ending(self._checkpoints.low)
        if not self._leader.wants(may_be_empty=may_be_empty) or not self.is_leader:
            return
        height = self._ordering.next_height()
        if height <= self._ordering.window_end and self._ordering.knows_reproposals():
            self._leader.request(view=self._safety.view, height=height, may_be_empty=may_be_empty, out=out)

    def end(self) -> list[Effect]:
        """The epoch is over and its last block stored: what is still open is void. It is not to be stepped any more."""
        out: list[Effect] = [CancelRequests()]
        self._pace.timers.disarm_all(out)
        return out

    def _halt(self, divergence: Divergence, out: list[Effect]) -> None:
        """Stop for good: this node and a quorum do not agree, and going on could only make it worse."""
        self._cancel_requests(out)
        self._pace.timers.disarm_all(out)
        self._diverged = Diverged(
            height=divergence.height, own=divergence.own, certified=divergence.certified, reason=divergence.reason
        )
        out.append(self._diverged)

    def validate_state(self) -> None:
        """Raises InvariantError if a bound or a relation between the parts does not hold. For tests and simulations."""
        if self._diverged is not None:
            return  # it stopped in the middle of a step, for good
        self._ordering.validate_state()
        self._checkpoints.validate_state()
        self._speculation.validate_state(self._checkpoints.issued)
        if self._ordering.low != self._checkpoints.low or self._safety.floor != self._checkpoints.low:
            raise InvariantError("the parts disagree on the certified height")
        if not self.is_changing and self._ordering.view != self._safety.view:
            raise InvariantError(f"votes of view {self._ordering.view} in view {self._safety.view}")
        if self._started:
            self._pace.validate_state()
