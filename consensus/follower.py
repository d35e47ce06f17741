"""A node without a vote in this epoch: it takes certified blocks from others, executes, compares and stores them.

It is an observer, a validator that was removed, or one whose set begins later. It has a key, but all it ever signs with
it is where it stands; it needs no journal, and its only timer asks for blocks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from chain.errors import InvariantError
from chain.model.block import Certificate, Header, proposal_digest
from chain.model.validators import ValidatorSet
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus.catch_up import FETCH_BLOCKS_MAX, CatchUp
from consensus.checkpoint import Checkpoints
from consensus.effects import Abandon, Broadcast, CancelRequests, Diverged, Effect, Send
from consensus.epoch import Epoch
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
from consensus.faults import Divergence
from consensus.messages import Checkpoint, Message, Status, Verified
from consensus.pace import RETRANSMIT_DELAY_MAX, ReplicaConfig
from consensus.retransmission import Answered
from consensus.safety import Safety, Signer
from consensus.slot import Phase
from consensus.story import Story
from consensus.timers import BackOff, Timers


class Follower:
    """Steps as a `consensus.replica.Replica` does, and never votes."""

    def __init__(
        self,
        *,
        config: ReplicaConfig,
        signer: Signer,
        chain_id: bytes,
        window: int,
        last: tuple[Header, Certificate | None],
        epoch: Epoch,
        claims: Mapping[ValidatorId, Height] | None = None,
    ) -> None:
        """`last` is the last block stored here; `claims` are blocks of which this node has heard, and from whom."""
        low = Height(last[0].height)
        self._config = config
        self._epoch = epoch
        self._validators: ValidatorSet = epoch.validators
        self._window = window
        self._safety = Safety(signer=signer, validators=epoch.validators, chain_id=chain_id, floor=low)
        self._checkpoints = Checkpoints(safety=self._safety, epoch=epoch, chain_id=chain_id, window=window, last=last)
        self._catch_up = CatchUp(epoch)
        self._answered = Answered(interval_ms=max(1, config.retransmit_ms // 2))
        self._timers = Timers()
        self._delay = BackOff(base_ms=config.retransmit_ms, cap_ms=RETRANSMIT_DELAY_MAX * config.retransmit_ms)
        self._story = Story()
        self._started = False
        self._diverged: Diverged | None = None
        for peer, height in (claims or {}).items():
            self._hear_of(peer, height)

    # --- for status, logs and tests ---

    @property
    def id(self) -> ValidatorId:
        return self._safety.id

    @property
    def view(self) -> View:
        """It is in none; the first one."""
        return View(0)

    @property
    def leader(self) -> ValidatorId:
        return self._validators.leader(View(0))

    @property
    def is_leader(self) -> bool:
        return False

    @property
    def is_changing(self) -> bool:
        return False

    @property
    def certified_height(self) -> Height:
        return self._checkpoints.low

    @property
    def executed_height(self) -> Height:
        return self._checkpoints.executed

    @property
    def ordered_height(self) -> Height:
        """What is known to be ordered here is what came as a block."""
        return self._checkpoints.issued

    @property
    def in_flight(self) -> tuple[Height, ...]:
        return tuple(Height(height) for height in range(self._checkpoints.low + 1, self._checkpoints.issued + 1))

    @property
    def standing(self) -> tuple[Digest, ...]:
        return ()

    @property
    def diverged(self) -> Diverged | None:
        return self._diverged

    @property
    def armed_timers(self) -> tuple[Timer, ...]:
        return self._timers.armed

    @property
    def view_timeout_ms(self) -> int:
        return self._config.view_timeout_ms

    @property
    def epoch(self) -> Epoch:
        return self._epoch

    @property
    def claims(self) -> dict[ValidatorId, Height]:
        return self._catch_up.claims

    def phase(self, height: Height) -> Phase:
        if height <= self._checkpoints.low:
            return Phase.CERTIFIED
        return Phase.ORDERED if height <= self._checkpoints.issued else Phase.UNKNOWN

    def validators_at(self, height: Height) -> ValidatorSet:
        return self._validators

    def story(self, height: Height) -> list[tuple[Instant, str]]:
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
            self._timers.disarm_all(out)
            self._diverged = Diverged(
                height=divergence.height, own=divergence.own, certified=divergence.certified, reason=divergence.reason
            )
            out.append(self._diverged)
        self._story.tell(now, event, out)
        return out

    def _dispatch(self, event: Event, now: Instant, out: list[Effect]) -> None:
        match event:
            case Started():
                if self._started:
                    raise InvariantError("started twice")
                self._started = True
                out.append(Broadcast(message=self._status()))
            case MessageReceived(message=message):
                self._on_message(message, now, out)
            case TimerFired(timer=timer):
                if self._timers.fire(timer, now, out):
                    self._ask_again(out)
            case Executed():
                self._on_executed(event, out)
            case BlockFetched():
                self._on_fetched(event)
            case PeerConnected(peer=peer):
                if peer != self._safety.id:
                    out.append(Send(to=ValidatorId(peer), message=self._status()))
            case PeerStatus(peer=peer, certified=certified):
                self._on_claim(ValidatorId(peer), certified, now, out)
            case ProposalPacked(proposal=proposal):  # asked for in an epoch in which it had a vote
                out.append(Abandon(height=Height(proposal.height), digest=proposal_digest(proposal)))
            case ProposalObtained() | ProposalRefused() | TransactionsWaiting() | PoolDrained() | Stored():
                pass
            case _:
                assert_never(event)

    def _on_message(self, received: Verified[Message], now: Instant, out: list[Effect]) -> None:
        if received.sender == self._safety.id:
            return
        match received.message:
            case Checkpoint(height=height):
                self._hear_of(received.sender, Height(height))
            case Status(certified=certified):
                self._on_claim(received.sender, Height(certified), now, out)
            case _:
                pass  # votes and views are not its business

    def _on_claim(self, peer: ValidatorId, certified: Height, now: Instant, out: list[Effect]) -> None:
        self._hear_of(peer, certified)
        if certified < self._checkpoints.low and self._answered.may_answer(peer, now):
            out.append(Send(to=peer, message=self._status()))

    def _hear_of(self, peer: ValidatorId, height: Height) -> None:
        if height > self._checkpoints.low:
            note = self._catch_up.note if peer in self._validators else self._catch_up.note_stranger
            note(peer, height)

    def _status(self) -> Verified[Status]:
        return self._safety.status(certified=self._checkpoints.low, ordered=self._checkpoints.issued)

    def _on_executed(self, event: Executed, out: list[Effect]) -> None:
        self._checkpoints.on_executed(event.header, out)
        if event.validators is not None:
            boundary = Height(event.header.height + self._window)
            self._epoch.close(boundary)
            self._checkpoints.cut(boundary)

    def _on_fetched(self, block: BlockFetched) -> None:
        if block.header.height > self._checkpoints.low + FETCH_BLOCKS_MAX:
            return
        self._checkpoints.on_fetched(block)
        self._delay.reset()
        self._catch_up.is_patient = True

    def _ask_again(self, out: list[Effect]) -> None:
        """No block has come for a while: forget who did not give what he claimed, and ask all where they stand."""
        self._delay.fail()
        _, last = self._catch_up.outstanding or (0, 0)
        heights = range(self._checkpoints.low + 1, last + 1)
        self._catch_up.stall(missing=not all(self._checkpoints.is_fetched(Height(height)) for height in heights))
        out.append(Broadcast(message=self._status()))

    # --- after every event ---

    def _settle(self, now: Instant, out: list[Effect]) -> None:
        moved = self._advance(out)
        fetch = self._catch_up.request(low=self._checkpoints.low, ordered=self._checkpoints.issued)
        if fetch is not None:
            out.append(fetch)
        if moved:
            self._delay.reset()
        deadline = self._timers.deadline(Timer.RETRANSMIT)
        if not self._has_work():
            self._timers.disarm(Timer.RETRANSMIT, out)
        elif moved or deadline is None:
            self._timers.arm(Timer.RETRANSMIT, now=now, delay_ms=self._delay.current_ms, out=out)

    def _advance(self, out: list[Effect]) -> bool:
        low = self._checkpoints.low
        while True:
            self._execute(out)
            if not self._checkpoints.certify(out):
                break
            self._catch_up.advance(self._checkpoints.low)
        return self._checkpoints.low > low

    def _execute(self, out: list[Effect]) -> None:
        while True:
            height = Height(self._checkpoints.issued + 1)
            fetched = self._checkpoints.fetched_proposal(height)
            if fetched is None or height > self._epoch.end:
                return
            self._checkpoints.issue(*fetched, out)

    def _has_work(self) -> bool:
        if self._epoch.is_over(self._checkpoints.low):
            return False
        return self._catch_up.is_behind or self._checkpoints.has_work

    def end(self) -> list[Effect]:
        """The epoch is over and its last block stored. It is not to be stepped any more."""
        out: list[Effect] = [CancelRequests()]
        self._timers.disarm_all(out)
        return out

    def validate_state(self) -> None:
        """Raises InvariantError if a bound or a relation between the parts does not hold. For tests and simulations."""
        if self._diverged is not None:
            return
        self._checkpoints.validate_state()
        if self._started and self._has_work() != (self._timers.deadline(Timer.RETRANSMIT) is not None):
            raise InvariantError("outstanding work without a timer, or a timer without outstanding work")
