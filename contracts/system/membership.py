"""What the state holds about membership, under the system contract's address (rule set 3).

    validators  from height -> set       a row for each set that was ever scheduled; the genesis set has none. It
                                         also says from when the set that scheduled it is in force
    membership  (one row)                from when the newest set and the one before it are in force; open changes
    changes     number -> change         every change that was proposed
    observers   (one row)                nodes that follow the chain and do not vote
    endpoints   validator id -> text     where nodes that joined later listen
    rotated     validator id -> height   since when a rotated key is in force
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chain.codec import pack, unpack_trusted
from chain.model.merkle import unpack_writes
from chain.model.trust import SETS_PREFIX, set_of_row
from chain.model.validators import HasValidators, Validator, ValidatorSet, validator_id
from contracts.system.registry import SYSTEM_ADDRESS

MEMBERSHIP_KEY: Final = SYSTEM_ADDRESS + b"membership\x00"
OBSERVERS_KEY: Final = SYSTEM_ADDRESS + b"observers\x00"
ENDPOINTS_PREFIX: Final = SYSTEM_ADDRESS + b"endpoints\x00"
_CHANGES: Final = SYSTEM_ADDRESS + b"changes\x00"
_ROTATED: Final = SYSTEM_ADDRESS + b"rotated\x00"

Member = tuple[str, bytes, int]  # name, public key, weight


class Kind(enum.StrEnum):
    """What a change does."""

    ADD = "add"
    REMOVE = "remove"
    WEIGHT = "weight"
    ADD_OBSERVER = "add_observer"
    REMOVE_OBSERVER = "remove_observer"
    PROMOTE = "promote"


class Standing(enum.StrEnum):
    OPEN = "open"
    EFFECTED = "effected"  # observers at once, a validator set from its height on
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"  # its place was needed, and it could not be made any more or its proposer had left


@dataclass(frozen=True, slots=True)
class Change:
    """A proposed change. Which fields count depends on the kind; the others are empty or 0."""

    number: int
    kind: str
    name: str
    public_key: bytes
    weight: int
    endpoint: str
    proposer: bytes  # validator id
    proposed_height: int
    approvals: tuple[bytes, ...]  # validator ids, ascending
    standing: str
    from_height: int  # from when it holds; 0 while it is open or withdrawn

    @property
    def validator(self) -> bytes:
        """The id of the node it is about."""
        return validator_id(self.public_key)

    @staticmethod
    def of(raw: bytes) -> Change:
        return Change(*unpack_trusted(raw))  # type: ignore[misc]

    def as_tuple(self) -> tuple[Any, ...]:
        return (
            self.number, self.kind, self.name, self.public_key, self.weight, self.endpoint, self.proposer,
            self.proposed_height, self.approvals, self.standing, self.from_height,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Membership:
    """The one row that says which sets are the last two, and which changes are open."""

    from_height: int = 0  # of the newest set; 0: the genesis set
    before: int = 0  # from height of the set before that
    next_number: int = 1
    open: tuple[int, ...] = ()

    @staticmethod
    def of(raw: bytes | None) -> Membership:
        return Membership() if raw is None else Membership(*unpack_trusted(raw))  # type: ignore[misc]

    def to_bytes(self) -> bytes:
        return pack((self.from_height, self.before, self.next_number, self.open))


Observer = tuple[str, bytes, str]  # name, public key, endpoint


def observers_of(raw: bytes | None) -> tuple[Observer, ...]:
    """The observers in the row of `OBSERVERS_KEY`."""
    return () if raw is None else unpack_trusted(raw)  # type: ignore[return-value]


def set_key(from_height: int) -> bytes:
    return SETS_PREFIX + pack(from_height)


def change_key(number: int) -> bytes:
    return _CHANGES + pack(number)


def endpoint_key(validator: bytes) -> bytes:
    return ENDPOINTS_PREFIX + pack(validator)


def rotated_key(validator: bytes) -> bytes:
    return _ROTATED + pack(validator)


def height_of(raw: bytes) -> int:
    """The height in a row of `rotated_key`."""
    return unpack_trusted(raw)  # type: ignore[return-value]


def pack_set(before: int, members: Iterable[Member]) -> bytes:
    """A row of the sets; `before`: from when the set is in force that it follows, 0 if that is the genesis set."""
    return pack((before, tuple(members)))


def members_of(raw: bytes) -> tuple[Member, ...]:
    """The members in a row of the sets."""
    return unpack_trusted(raw)[1]  # type: ignore[index,return-value]


def members_of_genesis(genesis: HasValidators) -> tuple[Member, ...]:
    """The first set, as the machine is told of it (`BlockContext.validators`)."""
    return tuple((member.name, member.public_key, member.weight) for member in genesis.validators)


def set_of(members: Iterable[Member]) -> ValidatorSet:
    return ValidatorSet(Validator(name=name, public_key=key, weight=weight) for name, key, weight in members)


# --- for the node: from write sets and from the state ---


def scheduled_set(writes: bytes) -> ValidatorSet | None:
    """The set that a block with these packed writes (`chain.model.merkle.pack_writes`) scheduled, if it did.

    It is in force from the block's height + window + 1 on. At most one is scheduled by a block.
    """
    if SETS_PREFIX not in writes:
        return None
    rows = [row for row in unpack_writes(writes) if row[0].startswith(SETS_PREFIX)]
    return set_of_row(*rows[-1]).validators if rows else None


def touches_members(writes: bytes) -> bool:
    """Whether a block with these packed writes may have changed who is a member or where one listens."""
    return any(prefix in writes for prefix in (SETS_PREFIX, OBSERVERS_KEY, ENDPOINTS_PREFIX))


def scheduled_rows(rows: Iterable[tuple[bytes, bytes]]) -> list[tuple[int, ValidatorSet]]:
    """(first height, set) ascending, from all the state's (key, value) pairs under `SETS_PREFIX`."""
    read = (set_of_row(*row) for row in rows)
    return sorted(((row.from_height, row.validators) for row in read), key=lambda row: row[0])


def open_changes(get: Callable[[bytes], bytes | None]) -> list[Change]:
    """The open changes in a state, by number."""
    numbers = Membership.of(get(MEMBERSHIP_KEY)).open
    return [Change.of(raw) for number in numbers if (raw := get(change_key(number))) is not None]


def endpoints_of(rows: Sequence[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Endpoint by validator id, from the state's pairs under `ENDPOINTS_PREFIX`."""
    at = len(ENDPOINTS_PREFIX)
    return {bytes(unpack_trusted(key[at:])): str(unpack_trusted(value)) for key, value in rows}  # type: ignore[arg-type]


__all__ = [
    "ENDPOINTS_PREFIX", "MEMBERSHIP_KEY", "OBSERVERS_KEY", "SETS_PREFIX", "Change", "Kind", "Member", "Membership",
    "Observer", "Standing", "change_key", "endpoint_key", "endpoints_of", "height_of", "members_of",
    "members_of_genesis", "observers_of", "open_changes", "pack_set", "rotated_key", "scheduled_rows",
    "scheduled_set", "set_key", "set_of", "touches_members",
]  # fmt: skip
