"""The validator set: who votes, with which weight, who leads a view, how much is a quorum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from chain.codec import Record, encode, tagged_digest
from chain.errors import ConfigError, InvariantError
from chain.types import ADDRESS_BYTES, Digest, Height, ValidatorId, View

TAG_VALIDATOR_SET: Final = b"headrace/validator-set/1"
TAG_VALIDATOR_ID: Final = b"headrace/validator-id/1"
VALIDATORS_MIN: Final = 4  # of a chain that tolerates a fault
VALIDATORS_MAX: Final = 100
VALIDATORS_ALONE: Final = 1  # of a chain for development: with 2 or 3 as well none may fail, and more can


class Validator(Record, frozen=True, kw_only=True):
    name: str  # organisation and node, for people
    public_key: bytes  # Ed25519, 32 bytes
    weight: int

    @property
    def id(self) -> ValidatorId:
        return validator_id(self.public_key)


def validator_id(public_key: bytes) -> ValidatorId:
    return ValidatorId(tagged_digest(TAG_VALIDATOR_ID, public_key)[-ADDRESS_BYTES:])


class ValidatorSet:
    """Immutable; ordered as in genesis (the order decides the leader).

    W is the total weight, F = (W - 1) // 3, a quorum weighs at least W - F; "more than F" contains an honest one.
    """

    __slots__ = ("_by_id", "digest", "members", "quorum_weight", "tolerated_weight", "total_weight")

    def __init__(self, members: Iterable[Validator]) -> None:
        self.members: tuple[Validator, ...] = tuple(members)
        self._by_id: dict[ValidatorId, Validator] = {member.id: member for member in self.members}
        if len(self._by_id) != len(self.members):
            raise ConfigError("validators: two members have one public key")
        for member in self.members:
            if member.weight < 1:
                raise ConfigError(f"validators: {member.name} has weight {member.weight}, must be at least 1")
        self.total_weight: int = sum(member.weight for member in self.members)
        self.tolerated_weight: int = (self.total_weight - 1) // 3
        self.quorum_weight: int = self.total_weight - self.tolerated_weight
        self.digest: Digest = tagged_digest(TAG_VALIDATOR_SET, encode(self.members))

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, validator: object) -> bool:
        return validator in self._by_id

    def get(self, validator: ValidatorId) -> Validator | None:
        return self._by_id.get(validator)

    def leader(self, view: View) -> ValidatorId:
        return self.members[view % len(self.members)].id

    def ids(self) -> tuple[ValidatorId, ...]:
        return tuple(self._by_id)

    def weight(self, validators: Iterable[ValidatorId]) -> int:
        """Weight of the distinct members among `validators`; strangers weigh nothing."""
        by_id = self._by_id
        return sum(by_id[validator].weight for validator in sorted(set(validators)) if validator in by_id)

    def is_quorum(self, validators: Iterable[ValidatorId]) -> bool:
        return self.weight(validators) >= self.quorum_weight

    def has_honest(self, validators: Iterable[ValidatorId]) -> bool:
        """More than F: at least one of them is honest."""
        return self.weight(validators) > self.tolerated_weight


def check_count(count: int, said: str) -> None:
    """Raises ConfigError: a chain cannot begin with so many validators; `said` is how the text of the error begins."""
    if count != VALIDATORS_ALONE and not VALIDATORS_MIN <= count <= VALIDATORS_MAX:
        raise ConfigError(f"{said}, must be {VALIDATORS_MIN}..{VALIDATORS_MAX}, or {VALIDATORS_ALONE} for development")


class HasValidators(Protocol):
    """What a schedule needs of a genesis."""

    @property
    def validators(self) -> Iterable[Validator]: ...


class ValidatorSchedule:
    """Which set is in force at which height. An *epoch* is a run of heights with one set; epochs only ever follow.

    `add` puts in a new tuple of epochs at once, so that a thread that reads meanwhile sees the old or the new one.
    """

    __slots__ = ("_epochs",)

    def __init__(self, first: ValidatorSet) -> None:
        self._epochs: tuple[tuple[Height, ValidatorSet], ...] = ((Height(0), first),)

    @classmethod
    def of_genesis(cls, genesis: HasValidators) -> ValidatorSchedule:
        """With the one epoch that the genesis begins."""
        return cls(ValidatorSet(genesis.validators))

    def restore(self, rows: Iterable[tuple[int, ValidatorSet]]) -> None:
        """Add the sets that the state knows as scheduled, (first height, set) ascending.

        Raises:
            InvariantError: as `add`.
        """
        for from_height, validators in rows:
            self.add(from_height, validators)

    def add(self, from_height: int, validators: ValidatorSet) -> None:
        """`validators` are in force from `from_height` on. Adding what the last epoch says already does nothing.

        Raises:
            InvariantError: not above the first height of the last epoch.
        """
        last_from, last = self._epochs[-1]
        if (from_height, validators.digest) == (last_from, last.digest):
            return
        if from_height <= last_from:
            raise InvariantError(f"a validator set from height {from_height} after the one from height {last_from}")
        self._epochs = (*self._epochs, (Height(from_height), validators))

    @property
    def epochs(self) -> tuple[tuple[Height, ValidatorSet], ...]:
        """(first height, set) of each known epoch, ascending; the first one begins at height 0, the genesis."""
        return self._epochs

    @property
    def last_known(self) -> ValidatorSet:
        """The newest set known, in force or scheduled."""
        return self._epochs[-1][1]

    def at(self, height: int) -> ValidatorSet:
        """The set in force at a height, as far as is known here: sure up to `window` above the last executed height."""
        return self._epoch(height)[1]

    def base(self, height: int) -> Height:
        """The last height before the epoch of `height`; 0 in the first epoch."""
        return Height(max(0, self._epoch(height)[0] - 1))

    def boundary(self, height: int) -> Height | None:
        """The last height of the epoch of `height`; None: no end of it is known."""
        for from_height, _ in self._epochs:
            if from_height > height:
                return Height(from_height - 1)
        return None

    def _epoch(self, height: int) -> tuple[Height, ValidatorSet]:
        for epoch in reversed(self._epochs):
            if epoch[0] <= height:
                return epoch
        raise InvariantError(f"no validator set at height {height}")
