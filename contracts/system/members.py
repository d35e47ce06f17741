"""Membership by system contract (rule set 3): who votes with which weight, who follows, and how that changes.

A change is proposed by a validator and approved by validators, each with the account of its own validator key. The
transaction that completes a quorum of weight of the set in force schedules the new set: it is in force `window + 1`
heights later, so that every vote belongs to exactly one set. Until then no other change is scheduled.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from chain.codec import pack, tagged_digest, unpack_trusted
from chain.crypto import Scheme, address_of, verify
from chain.model.genesis import new_view_bytes
from chain.model.validators import VALIDATORS_MAX, VALIDATORS_MIN, validator_id
from chain.types import MESSAGE_BYTES_MAX, Digest
from contracts.language import gas
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.system.membership import (
    MEMBERSHIP_KEY,
    OBSERVERS_KEY,
    Change,
    Kind,
    Member,
    Membership,
    Observer,
    Standing,
    change_key,
    endpoint_key,
    height_of,
    members_of,
    observers_of,
    pack_set,
    rotated_key,
    scheduled_rows,
    scheduled_set,
    set_key,
    set_of,
)
from contracts.system.storage import emit, read, write

TAG_POSSESSION: Final = b"headrace/validator-possession/1"
NAME_CHARS_MAX: Final = 128
ENDPOINT_CHARS_MAX: Final = 255
WEIGHT_MAX: Final = 1_000_000
OBSERVERS_MAX: Final = 100
OPEN_EACH_MAX: Final = 4  # open changes of one proposer; so many times the validators are all that are open
ROTATION_PAUSE_MIN: Final = 256  # heights
_WEIGHTED: Final = (Kind.ADD, Kind.WEIGHT, Kind.PROMOTE)
_PUBLIC_KEY_BYTES: Final = 32
_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]"
_ENDPOINT: Final = re.compile(rf"(?:{_HOST}):([0-9]{{1,5}})\Z", re.ASCII)

# name -> (mutability, parameters, returns, doc)
METHODS: Final[dict[str, tuple[str, tuple[tuple[str, str], ...], str | None, str]]] = {
    "propose_add": (
        "external",
        (("name", "str"), ("public_key", "bytes"), ("weight", "int"), ("endpoint", "str"), ("possession", "bytes")),
        "int",
        "Propose a new validator. `possession` is its key's signature of `possession_digest`. Returns the number.",
    ),
    "propose_remove": ("external", (("validator", "Address"),), "int", "Propose that a validator leaves."),
    "propose_weight": (
        "external",
        (("validator", "Address"), ("weight", "int")),
        "int",
        "Propose another weight of a validator.",
    ),
    "propose_observer": (
        "external",
        (("name", "str"), ("public_key", "bytes"), ("endpoint", "str"), ("possession", "bytes")),
        "int",
        "Propose a node that follows the chain and does not vote.",
    ),
    "propose_remove_observer": ("external", (("observer", "Address"),), "int", "Propose that an observer leaves."),
    "propose_promotion": (
        "external",
        (("observer", "Address"), ("weight", "int")),
        "int",
        "Propose that an observer becomes a validator.",
    ),
    "approve": (
        "external",
        (("number", "int"),),
        "int",
        "Approve a change. Returns from which height it holds, 0 while the quorum is not complete.",
    ),
    "withdraw": ("external", (("number", "int"),), None, "Take a change back: its proposer, or anyone if that left."),
    "rotate_key": (
        "external",
        (("public_key", "bytes"), ("possession", "bytes")),
        "int",
        "Replace the sender's validator key. `possession` is the new key's signature. Returns from which height.",
    ),
    "set_endpoint": ("external", (("endpoint", "str"),), None, "Say where the sender's node listens."),
    "validators": ("view", (), "Epoch", "The set in force."),
    "scheduled": ("view", (), "Epoch | None", "The set that will be in force next, if one is scheduled."),
    "observers": ("view", (), "tuple[Observer, ...]", "Nodes that follow the chain and do not vote."),
    "changes": ("view", (), "tuple[Change, ...]", "The open changes."),
    "change": ("view", (("number", "int"),), "Change | None", "A change by its number."),
}
EVENTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "ChangeProposed": (("number", "int"), ("kind", "str"), ("validator", "Address"), ("proposer", "Address")),
    "ChangeApproved": (("number", "int"), ("approver", "Address"), ("weight", "int"), ("quorum", "int")),
    "ChangeWithdrawn": (("number", "int"),),
    "ChangeLapsed": (("number", "int"),),
    "ValidatorsScheduled": (("from_height", "int"), ("digest", "bytes"), ("validators", "int")),
    "ObserversChanged": (("observers", "int"),),
    "KeyRotated": (("old", "Address"), ("new", "Address"), ("from_height", "int")),
    "EndpointChanged": (("validator", "Address"), ("endpoint", "str")),
}
STRUCTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Validator": (("id", "Address"), ("name", "str"), ("public_key", "bytes"), ("weight", "int"), ("endpoint", "str")),
    "Epoch": (("from_height", "int"), ("validators", "tuple[Validator, ...]")),
    "Observer": (("id", "Address"), ("name", "str"), ("public_key", "bytes"), ("endpoint", "str")),
    "Change": (
        ("number", "int"), ("kind", "str"), ("name", "str"), ("public_key", "bytes"), ("weight", "int"),
        ("endpoint", "str"), ("proposer", "Address"), ("proposed_height", "int"), ("approvals", "tuple[Address, ...]"),
        ("standing", "str"), ("from_height", "int"),
    ),
}  # fmt: skip


def possession_digest(*, chain_id: bytes, public_key: bytes, replaces: bytes = b"") -> Digest:
    """What a new validator key signs to show that somebody holds it; `replaces` is the id that a rotation ends."""
    return tagged_digest(TAG_POSSESSION, pack((bytes(chain_id), bytes(public_key), bytes(replaces))))


def rotation_pause(validators: int, window: int) -> int:
    """For so many heights a key that came by rotation stays before the next one.

    A rotation takes the pending place for window + 1 heights. If all validators rotate as often as they may, the place
    is free for half of the time, at a stretch.
    """
    return max(ROTATION_PAUSE_MIN, 2 * validators * (window + 1))


@dataclass(frozen=True, slots=True)
class _Sets:
    """What a call starts from: the set in force at its height, and the one scheduled behind it."""

    row: Membership
    from_height: int  # of the set in force
    members: tuple[Member, ...]
    scheduled: tuple[Member, ...] | None

    @property
    def ids(self) -> dict[bytes, Member]:
        return {validator_id(member[1]): member for member in self.members}


class MembersContract:
    """The membership methods, run on behalf of the system contract."""

    def __init__(self) -> None:
        self.methods: dict[str, Callable[..., Any]] = {
            "propose_add": self._propose_add,
            "propose_remove": self._propose_remove,
            "propose_weight": self._propose_weight,
            "propose_observer": self._propose_observer,
            "propose_remove_observer": self._propose_remove_observer,
            "propose_promotion": self._propose_promotion,
            "approve": self._approve,
            "withdraw": self._withdraw,
            "rotate_key": self._rotate_key,
            "set_endpoint": self._set_endpoint,
            "validators": self._validators,
            "scheduled": self._scheduled,
            "observers": self._observers,
            "changes": self._changes,
            "change": self._change,
        }

    # Proposing

    def _propose_add(
        self, x: Frame, name: str, public_key: bytes, weight: int, endpoint: str, possession: bytes
    ) -> int:
        _check_possession(x, public_key, possession)
        return self._propose(x, Kind.ADD, name=name, public_key=public_key, weight=weight, endpoint=endpoint)

    def _propose_remove(self, x: Frame, validator: bytes) -> int:
        name, public_key, _ = _member(_sets(x), validator)
        return self._propose(x, Kind.REMOVE, name=name, public_key=public_key)

    def _propose_weight(self, x: Frame, validator: bytes, weight: int) -> int:
        name, public_key, _ = _member(_sets(x), validator)
        return self._propose(x, Kind.WEIGHT, name=name, public_key=public_key, weight=weight)

    def _propose_observer(self, x: Frame, name: str, public_key: bytes, endpoint: str, possession: bytes) -> int:
        _check_possession(x, public_key, possession)
        return self._propose(x, Kind.ADD_OBSERVER, name=name, public_key=public_key, endpoint=endpoint)

    def _propose_remove_observer(self, x: Frame, observer: bytes) -> int:
        name, public_key, _ = _observer(_all_observers(x), observer)
        return self._propose(x, Kind.REMOVE_OBSERVER, name=name, public_key=public_key)

    def _propose_promotion(self, x: Frame, observer: bytes, weight: int) -> int:
        name, public_key, endpoint = _observer(_all_observers(x), observer)
        return self._propose(x, Kind.PROMOTE, name=name, public_key=public_key, weight=weight, endpoint=endpoint)

    def _propose(
        self, x: Frame, kind: Kind, *, name: str, public_key: bytes, weight: int = 0, endpoint: str = ""
    ) -> int:
        """Store a change that could be made now, with the proposer's approval."""
        sets = _sets(x)
        proposer = _caller(x, sets)
        if kind in _WEIGHTED and not 1 <= weight <= WEIGHT_MAX:
            raise ContractError(Status.BAD_ARGUMENTS, f"weight: must be 1..{WEIGHT_MAX}")
        sets = _with_room(x, sets, proposer)
        row = sets.row
        number = row.next_number
        change = Change(number, kind, name, public_key, weight, endpoint, proposer, x.height, (), Standing.OPEN, 0)
        _outcome_of(x, sets, change)
        emit(x, "ChangeProposed", (number, str(kind), change.validator, proposer))
        row = dataclasses.replace(row, next_number=number + 1, open=(*row.open, number))
        _support(x, dataclasses.replace(sets, row=row), change, proposer)
        return number

    # Deciding

    def _approve(self, x: Frame, number: int) -> int:
        sets = _sets(x)
        approver = _caller(x, sets)
        change = _open_change(x, sets, number)
        return _support(x, sets, change, approver)

    def _withdraw(self, x: Frame, number: int) -> None:
        sets = _sets(x)
        caller = _caller(x, sets)
        change = _open_change(x, sets, number)
        if change.proposer != caller and change.proposer in sets.ids:
            raise ContractError(Status.FORBIDDEN, "not_the_proposer")
        _save(x, dataclasses.replace(change, standing=Standing.WITHDRAWN))
        _close(x, sets.row, number)
        emit(x, "ChangeWithdrawn", (number,))

    def _rotate_key(self, x: Frame, public_key: bytes, possession: bytes) -> int:
        sets = _sets(x)
        old = _caller(x, sets)
        _check_possession(x, public_key, possession, replaces=old)
        _check_none_scheduled(x, sets)
        raw = read(x, rotated_key(old))
        pause = rotation_pause(len(sets.members), x.context.block.window)
        if raw is not None and x.height < (again := height_of(raw) + pause):
            raise _refused(f"rotated_too_soon: this key may be rotated from height {again} on")
        _check_unknown_key(sets, _all_observers(x), public_key)
        members = tuple(
            (name, public_key if validator_id(key) == old else key, weight) for name, key, weight in sets.members
        )
        new = validator_id(public_key)
        from_height = _schedule(x, sets, members)
        _carry_over(x, sets.row, caller_key=sets.ids[old][1], public_key=public_key)
        write(x, rotated_key(new), pack(from_height))
        if (endpoint := read(x, endpoint_key(old))) is not None:
            write(x, endpoint_key(new), endpoint)
        emit(x, "KeyRotated", (old, new, from_height))
        return from_height

    def _set_endpoint(self, x: Frame, endpoint: str) -> None:
        _check_endpoint(endpoint)
        caller = _caller(x, _sets(x))
        write(x, endpoint_key(caller), pack(endpoint))
        emit(x, "EndpointChanged", (caller, endpoint))

    # Reading

    def _validators(self, x: Frame) -> Any:
        sets = _sets(x)
        return (sets.from_height, _shown(x, sets.members))

    def _scheduled(self, x: Frame) -> Any:
        sets = _sets(x)
        return None if sets.scheduled is None else (sets.row.from_height, _shown(x, sets.scheduled))

    def _observers(self, x: Frame) -> Any:
        return tuple((validator_id(key), name, key, endpoint) for name, key, endpoint in _all_observers(x))

    def _changes(self, x: Frame) -> Any:
        return tuple(_load(x, number).as_tuple() for number in _sets(x).row.open)

    def _change(self, x: Frame, number: int) -> Any:
        raw = read(x, change_key(number)) if 0 < number < 2**63 else None
        return None if raw is None else Change.of(raw).as_tuple()


# --- room for open changes ---


def _with_room(x: Frame, sets: _Sets, proposer: bytes) -> _Sets:
    """With room for one more change of `proposer`. What stands in its way and leads nowhere lapses: of its own changes
    those that cannot be made any more; of all, if all places are taken, also those whose proposers have left.

    So nobody is kept from proposing by others: those in force have `OPEN_EACH_MAX` each, and the rest gives way.

    Raises:
        ContractError: so many changes of this proposer can still be made.
    """
    changes = [_load(x, number) for number in sets.row.open]
    own = [change for change in changes if change.proposer == proposer]
    full = len(changes) >= OPEN_EACH_MAX * len(sets.members)
    lapsed: set[int] = set()
    ids = sets.ids
    for change in changes if full else own if len(own) >= OPEN_EACH_MAX else ():
        if change.proposer not in ids or not _can_be_made(x, sets, change):
            lapsed.add(change.number)
            _save(x, dataclasses.replace(change, standing=Standing.LAPSED))
            emit(x, "ChangeLapsed", (change.number,))
    left = sum(change.number not in lapsed for change in own)
    if left >= OPEN_EACH_MAX:
        raise _refused(f"too_many_changes: {left} proposed by this validator are open; withdraw one")
    still = tuple(number for number in sets.row.open if number not in lapsed)
    return dataclasses.replace(sets, row=dataclasses.replace(sets.row, open=still))


def _can_be_made(x: Frame, sets: _Sets, change: Change) -> bool:
    """To the newest set: until that is in force, no change is made, and a rotated key is in no other."""
    newest = sets if sets.scheduled is None else dataclasses.replace(sets, members=sets.scheduled)
    x.charge(gas.SHA256 * len(newest.members))
    try:
        _outcome_of(x, newest, change)
    except ContractError as error:
        if error.status != Status.REVERTED:
            raise
        return False
    return True


# --- deciding ---


def _support(x: Frame, sets: _Sets, change: Change, approver: bytes) -> int:
    """Add an approval, and make the change if that completes the quorum; from which height it holds, or 0."""
    approvals = tuple(sorted({*change.approvals, approver}))
    ids = sets.ids
    weight = sum(ids[validator][2] for validator in approvals if validator in ids)  # who left counts no longer
    validators = set_of(sets.members)
    quorum = validators.quorum_weight
    if approver in change.approvals and weight < quorum:
        raise _refused(f"already_approved: weight {weight} of the {quorum} needed so far")
    change = dataclasses.replace(change, approvals=approvals)
    emit(x, "ChangeApproved", (change.number, approver, weight, quorum))
    if weight < quorum:
        _save(x, change)
        write(x, MEMBERSHIP_KEY, sets.row.to_bytes())
        return 0
    _check_none_scheduled(x, sets)
    members, observers = _outcome_of(x, sets, change)
    from_height = x.height
    row = dataclasses.replace(sets.row, open=tuple(number for number in sets.row.open if number != change.number))
    sets = dataclasses.replace(sets, row=row)
    if observers is not None:
        write(x, OBSERVERS_KEY, pack(observers))
        emit(x, "ObserversChanged", (len(observers),))
    if change.endpoint and members is not None:
        write(x, endpoint_key(change.validator), pack(change.endpoint))
    if members is not None:
        from_height = _schedule(x, sets, members)
    else:
        write(x, MEMBERSHIP_KEY, row.to_bytes())
    _save(x, dataclasses.replace(change, standing=Standing.EFFECTED, from_height=from_height))
    return from_height


def _schedule(x: Frame, sets: _Sets, members: tuple[Member, ...]) -> int:
    """Store a set as the next one; from which height it is in force."""
    from_height = x.height + x.context.block.window + 1
    write(x, set_key(from_height), pack_set(sets.from_height, members))
    row = dataclasses.replace(sets.row, from_height=from_height, before=sets.from_height)
    write(x, MEMBERSHIP_KEY, row.to_bytes())
    emit(x, "ValidatorsScheduled", (from_height, set_of(members).digest, len(members)))
    return from_height


def _carry_over(x: Frame, row: Membership, *, caller_key: bytes, public_key: bytes) -> None:
    """Open changes about a validator stay about it under its new key: nobody escapes its removal by rotating."""
    for number in row.open:
        change = _load(x, number)
        if change.kind in (Kind.REMOVE, Kind.WEIGHT) and change.public_key == caller_key:
            _save(x, dataclasses.replace(change, public_key=public_key))


def _close(x: Frame, row: Membership, number: int) -> None:
    left = tuple(other for other in row.open if other != number)
    write(x, MEMBERSHIP_KEY, dataclasses.replace(row, open=left).to_bytes())


def _outcome_of(
    x: Frame, sets: _Sets, change: Change
) -> tuple[tuple[Member, ...] | None, tuple[Observer, ...] | None]:
    """(members, observers) after the change, None for what it leaves as it is.

    Raises:
        ContractError: the change cannot be made to the set in force; the text says why.
    """
    observers = _all_observers(x)
    kind, key = change.kind, change.public_key
    match kind:
        case Kind.ADD | Kind.ADD_OBSERVER:
            _check_unknown_key(sets, observers, key)
            _check_name(change.name, (*sets.members, *observers))
            _check_endpoint(change.endpoint)
            if kind == Kind.ADD_OBSERVER:
                if len(observers) >= OBSERVERS_MAX:
                    raise _refused(f"too_many_observers: there are {OBSERVERS_MAX}, the most there may be")
                return None, (*observers, (change.name, key, change.endpoint))
            return _checked(x, (*sets.members, (change.name, key, change.weight))), None
        case Kind.REMOVE:
            _member(sets, change.validator)
            return _checked(x, tuple(member for member in sets.members if member[1] != key)), None
        case Kind.WEIGHT:
            if _member(sets, change.validator)[2] == change.weight:
                raise _refused(f"no_change: {change.name} has weight {change.weight} already")
            weights = tuple(
                (name, other, change.weight if other == key else weight) for name, other, weight in sets.members
            )
            return _checked(x, weights), None
        case Kind.REMOVE_OBSERVER:
            _observer(observers, change.validator)
            return None, tuple(observer for observer in observers if observer[1] != key)
        case _:
            name, _, _ = _observer(observers, change.validator)
            members = _checked(x, (*sets.members, (name, key, change.weight)))
            return members, tuple(observer for observer in observers if observer[1] != key)


def _checked(x: Frame, members: tuple[Member, ...]) -> tuple[Member, ...]:
    """Raises ContractError: not a set that may be in force."""
    count = len(members)
    if not VALIDATORS_MIN <= count <= VALIDATORS_MAX:
        raise _refused(f"set_size: {count} validators would be left, must be {VALIDATORS_MIN}..{VALIDATORS_MAX}")
    window = x.context.block.window
    size = new_view_bytes(window, count)
    if size > MESSAGE_BYTES_MAX:
        raise _refused(f"set_size: with window {window} a new view of {count} validators could have {size} bytes")
    return members


# --- checks ---


def _caller(x: Frame, sets: _Sets) -> bytes:
    """The id of the validator in force whose key's account calls."""
    x.charge(gas.SHA256 * len(sets.members))
    for _, public_key, _ in sets.members:
        if address_of(Scheme.ED25519, public_key) == x.sender:
            return validator_id(public_key)
    raise ContractError(Status.FORBIDDEN, "not_a_validator: sign with the key of a validator in force")


def _check_possession(x: Frame, public_key: bytes, possession: bytes, *, replaces: bytes = b"") -> None:
    x.charge(gas.SIGNATURE)
    if len(public_key) != _PUBLIC_KEY_BYTES:
        raise ContractError(Status.BAD_ARGUMENTS, f"public_key: {len(public_key)} bytes, must be {_PUBLIC_KEY_BYTES}")
    digest = possession_digest(chain_id=x.chain_id, public_key=public_key, replaces=replaces)
    if not verify(Scheme.ED25519, public_key, digest, possession):
        raise _refused("possession: not the new key's signature for this chain and purpose")


def _check_none_scheduled(x: Frame, sets: _Sets) -> None:
    if sets.scheduled is not None:
        at = sets.row.from_height
        raise _refused(f"change_pending: another set is in force from height {at} on; try again at {at} or later")


def _check_unknown_key(sets: _Sets, observers: tuple[Observer, ...], public_key: bytes) -> None:
    if any(key == public_key for _, key, _ in sets.members):
        raise _refused("known_key: it is a validator's key already")
    if any(key == public_key for _, key, _ in observers):
        raise _refused("known_key: it is an observer's key; propose its promotion")


def _check_name(name: str, taken: tuple[tuple[Any, ...], ...]) -> None:
    if not 0 < len(name) <= NAME_CHARS_MAX or not (name.isascii() and name.isprintable()):
        raise ContractError(Status.BAD_ARGUMENTS, f"name: must be 1..{NAME_CHARS_MAX} printable ASCII characters")
    if any(other[0] == name for other in taken):
        raise _refused(f"name_taken: there is a node {name}")


def _check_endpoint(endpoint: str) -> None:
    found = _ENDPOINT.match(endpoint) if len(endpoint) <= ENDPOINT_CHARS_MAX else None
    if found is None or not 0 < int(found[1]) < 65_536:
        raise ContractError(Status.BAD_ARGUMENTS, "endpoint: must be HOST:PORT, or [IPv6]:PORT")


def _member(sets: _Sets, validator: bytes) -> Member:
    member = sets.ids.get(validator)
    if member is None:
        raise _refused(f"unknown_validator: {validator.hex()} is not in the set in force")
    return member


def _observer(observers: tuple[Observer, ...], observer: bytes) -> Observer:
    for found in observers:
        if validator_id(found[1]) == observer:
            return found
    raise _refused(f"unknown_observer: {observer.hex()} is no observer")


def _refused(reason: str) -> ContractError:
    return ContractError(Status.REVERTED, reason)


# --- state ---


def _sets(x: Frame) -> _Sets:
    row = Membership.of(read(x, MEMBERSHIP_KEY))
    newest = _set_from(x, row.from_height)
    if row.from_height <= x.height:
        return _Sets(row, row.from_height, newest, None)
    return _Sets(row, row.before, _set_from(x, row.before), newest)


def _set_from(x: Frame, from_height: int) -> tuple[Member, ...]:
    if from_height == 0:
        members = x.context.block.validators
        x.charge(gas.READ + gas.ITEM * len(members))
        return members
    raw = read(x, set_key(from_height))
    return members_of(raw or pack((0, ())))


def _all_observers(x: Frame) -> tuple[Observer, ...]:
    return observers_of(read(x, OBSERVERS_KEY))


def _open_change(x: Frame, sets: _Sets, number: int) -> Change:
    if number not in sets.row.open:
        raise _refused(f"no_open_change: number {number}")
    return _load(x, number)


def _load(x: Frame, number: int) -> Change:
    return Change.of(read(x, change_key(number)) or b"")


def _save(x: Frame, change: Change) -> None:
    write(x, change_key(change.number), pack(change.as_tuple()))


def _shown(x: Frame, members: tuple[Member, ...]) -> tuple[Any, ...]:
    rows = []
    for name, key, weight in members:
        raw = read(x, endpoint_key(validator_id(key)))
        rows.append((validator_id(key), name, key, weight, "" if raw is None else unpack_trusted(raw)))
    return tuple(rows)


__all__ = ["EVENTS", "METHODS", "STRUCTS", "MembersContract", "possession_digest", "scheduled_rows", "scheduled_set"]
