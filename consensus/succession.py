"""One validator set after the other: the replica or follower of the present epoch, and how the next takes its place.

The barrier: a block that schedules another set makes its height + window the boundary. No replica votes above it, and
the next epoch begins here only when the block at the boundary is *stored*. So all that is in flight belongs to one set,
the core of each epoch knows one set only, and its views begin at 0. What a node has said binds it by its journal, in
which an epoch's records begin only after its base was stored: the stored tip tells of which epoch they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from chain.errors import ConfigError, InvariantError
from chain.model.block import Certificate, Header
from chain.model.validators import ValidatorSchedule, ValidatorSet
from chain.types import Digest, Height, Instant, ValidatorId, View
from consensus.effects import Diverged, Effect, JournalRecord, Store
from consensus.epoch import Epoch
from consensus.events import Event, Executed, PoolDrained, Started, Stored, Timer, TransactionsWaiting
from consensus.follower import Follower
from consensus.pace import ReplicaConfig
from consensus.recovery import records_above
from consensus.replica import Replica
from consensus.safety import Signer
from consensus.slot import Phase

EpochCore: TypeAlias = Replica | Follower

SIGNERS_MAX: Final = 2  # a key, and the one that is to replace it


class Succession:
    """Has the interface of `Replica`, over any number of epochs."""

    def __init__(
        self,
        *,
        config: ReplicaConfig,
        signers: Sequence[Signer],
        schedule: ValidatorSchedule,
        chain_id: bytes,
        window: int,
        last: tuple[Header, Certificate | None],
        journal: Sequence[JournalRecord] = (),
    ) -> None:
        """`last` is the last block stored here, `schedule` what it and those below it have scheduled; it is copied, and
        learns further sets by `Executed` only. In each epoch the first of `signers` that is a member votes.

        What the journal says of later epochs than the present one, after blocks were lost, is kept until they begin.
        """
        if not 1 <= len(signers) <= SIGNERS_MAX:
            raise ConfigError(f"{len(signers)} validator keys, must be 1..{SIGNERS_MAX}")
        self._config = config
        self._signers = tuple(signers)
        self._schedule = _copy(schedule)
        self._chain_id = chain_id
        self._window = window
        self._stored = Height(last[0].height)
        self._journal = tuple(journal)
        self._pool: TransactionsWaiting | PoolDrained | None = None
        self._boundary_block: tuple[Header, Certificate] | None = None
        self._inner = self._begin(last, {})

    def _begin(self, last: tuple[Header, Certificate | None], claims: dict[ValidatorId, Height]) -> EpochCore:
        """The core of the epoch to which the height after `last` belongs."""
        height = Height(last[0].height + 1)
        base = self._schedule.base(height)
        epoch = Epoch(
            self._schedule.at(height),
            base=base,
            previous=self._schedule.at(base) if base else None,
            boundary=self._schedule.boundary(height),
            window=self._window,
            executed=Height(last[0].height),
        )
        voters = [signer for signer in self._signers if signer.validator_id in epoch.validators]
        if not voters:
            return Follower(
                config=self._config, signer=self._signers[0], chain_id=self._chain_id, window=self._window, last=last,
                epoch=epoch, claims=claims,
            )  # fmt: skip
        return Replica(
            config=self._config, signer=voters[0], chain_id=self._chain_id, window=self._window, last=last,
            journal=self._journal, epoch=epoch, claims=claims,
        )  # fmt: skip

    def add_signer(self, signer: Signer) -> None:
        """Another key of this node, for later epochs. The one in use is kept, others give way."""
        if signer.validator_id not in {known.validator_id for known in self._signers}:
            using = [known for known in self._signers if known.validator_id == self._inner.id]
            self._signers = (*(using or self._signers[:1]), signer)

    # --- for status, logs and tests ---

    @property
    def inner(self) -> EpochCore:
        """The core of the present epoch."""
        return self._inner

    @property
    def epoch(self) -> Epoch:
        """What messages are to be examined against. It changes with `step`: ask for it each time."""
        return self._inner.epoch

    @property
    def epoch_base(self) -> Height:
        """The last height before the present epoch; 0 in the first."""
        return self._inner.epoch.base

    @property
    def boundary(self) -> Height | None:
        """The last height of the present epoch, if it is known."""
        return self._inner.epoch.boundary

    @property
    def validators(self) -> ValidatorSet:
        """Who votes in the present epoch."""
        return self._inner.epoch.validators

    @property
    def is_following(self) -> bool:
        """This node has no vote in the present epoch."""
        return isinstance(self._inner, Follower)

    @property
    def id(self) -> ValidatorId:
        """Under which key this node speaks in the present epoch."""
        return self._inner.id

    @property
    def validator_id(self) -> ValidatorId:
        return self._inner.id

    @property
    def view(self) -> View:
        """The view it is in, or (`is_changing`) the one it waits for. 0 again in each epoch."""
        return self._inner.view

    @property
    def leader(self) -> ValidatorId:
        return self._inner.leader

    @property
    def is_leader(self) -> bool:
        return self._inner.is_leader

    @property
    def is_changing(self) -> bool:
        return self._inner.is_changing

    @property
    def certified_height(self) -> Height:
        return self._inner.certified_height

    @property
    def executed_height(self) -> Height:
        return self._inner.executed_height

    @property
    def ordered_height(self) -> Height:
        return self._inner.ordered_height

    @property
    def in_flight(self) -> tuple[Height, ...]:
        return self._inner.in_flight

    @property
    def standing(self) -> tuple[Digest, ...]:
        return self._inner.standing

    @property
    def diverged(self) -> Diverged | None:
        return self._inner.diverged

    @property
    def armed_timers(self) -> tuple[Timer, ...]:
        return self._inner.armed_timers

    @property
    def view_timeout_ms(self) -> int:
        return self._inner.view_timeout_ms

    def phase(self, height: Height) -> Phase:
        return self._inner.phase(height)

    def validators_at(self, height: Height) -> ValidatorSet:
        """Who votes for `height`; sure up to `window` above the executed height."""
        return self._schedule.at(height)

    def story(self, height: Height) -> list[tuple[Instant, str]]:
        """What is remembered of a height; a new epoch begins with an empty memory."""
        return self._inner.story(height)

    # --- the one mutator ---

    def step(self, event: Event, now: Instant) -> list[Effect]:
        """Take in one event. The effects are to be carried out in list order.

        Raises:
            InvariantError: a promise of the design or of the driver does not hold.
        """
        if isinstance(event, TransactionsWaiting | PoolDrained):
            self._pool = event
        out = self._inner.step(event, now)
        if isinstance(event, Executed) and event.validators is not None:
            self._schedule.add(event.header.height + self._window + 1, event.validators)
        elif isinstance(event, Stored):
            self._stored = Height(max(self._stored, event.height))
        for effect in out:
            if isinstance(effect, Store) and effect.header.height == self.boundary:
                self._boundary_block = (effect.header, effect.certificate)
        self._succeed(now, out)
        return out

    def _succeed(self, now: Instant, out: list[Effect]) -> None:
        """Begin the next epoch if the last block of this one is certified and stored here."""
        block = self._boundary_block
        if block is None or self._stored < block[0].height or self._inner.diverged is not None:
            return
        self._boundary_block = None
        self._journal = records_above(self._journal, Height(block[0].height))
        out += self._inner.end()
        self._inner = self._begin(block, self._inner.claims)
        out += self._inner.step(Started(), now)
        if self._pool is not None:
            out += self._inner.step(self._pool, now)

    def validate_state(self) -> None:
        """Raises InvariantError if a bound or a relation between the parts does not hold. For tests and simulations."""
        self._inner.validate_state()
        epoch = self._inner.epoch
        if epoch.validators is not self._schedule.at(epoch.base + 1):
            raise InvariantError(f"the epoch above {epoch.base} is not that of the schedule")
        if epoch.boundary is not None and self._inner.executed_height > epoch.boundary:
            raise InvariantError(f"height {self._inner.executed_height} executed beyond the boundary {epoch.boundary}")


def _copy(schedule: ValidatorSchedule) -> ValidatorSchedule:
    (_, first), *others = schedule.epochs
    copy = ValidatorSchedule(first)
    copy.restore(others)
    return copy
