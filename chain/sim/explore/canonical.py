"""The deep state of a replica as a short digest, equal for states from which the same follows.

Three things are taken as equal although their bytes differ: certificates for the same subject, whoever signed them
(each is a quorum's, and a replica asks no more of it); the votes of a tally in which a quorum agrees, whoever else has
voted (each member counts once, so nothing that is added can change the outcome); and signatures of equal messages.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from functools import lru_cache
from typing import Final

import msgspec

from chain.codec import encode
from chain.model.block import Certificate
from chain.model.validators import ValidatorSet
from consensus import Replica
from consensus.messages import NewView, Verified, ViewChange
from consensus.votes import Tally

# What nothing depends on but people and the clock, which stands still here; and what is the same in every state.
LEFT_OUT: Final = frozenset({"_story", "_pace", "_answered_at", "_signer", "_validators", "_config", "_validator_set"})
_PLAIN: Final = frozenset({int, bytes, str, bool, type(None)})


def digest_of(replica: Replica) -> bytes:
    """16 bytes over all that the objects of the core hold, each dictionary and set in the order of its keys."""
    return hashlib.blake2b(repr(_frozen(replica, [])).encode(), digest_size=16).digest()


def substance(record: object) -> bytes:
    """A record without what makes no difference: who signed its certificates."""
    match record:
        case Certificate():
            return encode((record.kind, record.view, record.height, record.digest))
        case ViewChange():
            return encode((record.view, substance(record.stable), tuple(map(substance, record.prepared))))
        case NewView():
            changes = tuple((change.sender, substance(change.message)) for change in record.view_changes)
            return encode((record.view, changes))
        case _:
            return encode(record)


def _frozen(thing: object, seen: list[object]) -> object:
    """The same as nested tuples of plain values, whose `repr` is the same for the same content."""
    kind = type(thing)
    if kind in _PLAIN:
        return thing
    if kind is Verified:
        return thing.sender, kind.__name__, substance(thing.message)  # type: ignore[attr-defined]
    if kind is tuple or kind is list:
        return tuple([_frozen(item, seen) for item in thing])  # type: ignore[attr-defined]
    if kind is dict:
        return tuple(sorted([(_key(key), _frozen(thing[key], seen)) for key in thing], key=_first))  # type: ignore
    if kind is set or kind is frozenset:
        return tuple(sorted(map(_key, thing)))  # type: ignore[call-overload]
    if isinstance(thing, Enum):
        return str(thing)
    if kind is ValidatorSet:
        return thing.digest  # type: ignore[attr-defined]
    if isinstance(thing, msgspec.Struct):
        return kind.__name__, substance(thing)
    if kind is Tally:
        quorum = thing.quorum()  # type: ignore[attr-defined]
        if quorum is not None:
            return "quorum", quorum
    if kind.__module__.startswith("consensus."):
        return _object(thing, kind, seen)
    raise TypeError(f"a replica holds a {kind.__name__}, of which nobody knows what it is")


def _object(thing: object, kind: type, seen: list[object]) -> object:
    if not hasattr(kind, "__dataclass_fields__"):  # a part of the replica, which several others hold
        if any(thing is part for part in seen):
            return kind.__name__
        seen.append(thing)
    names = getattr(thing, "__dict__", None) or _slots(kind)
    held = [(name, getattr(thing, name, None)) for name in sorted(names) if name not in LEFT_OUT]
    return kind.__name__, tuple([(name, _frozen(value, seen)) for name, value in held])


def _key(key: object) -> str:
    return str(key) if isinstance(key, Enum) else repr(key)


def _first(item: tuple[str, object]) -> str:
    return item[0]


@lru_cache
def _slots(kind: type) -> tuple[str, ...]:
    return tuple(sorted({name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}))
