"""The deep state of a replica as a short digest, equal for states from which the same follows.

Taken as equal, although their bytes differ, are certificates for the same subject, whoever signed them (each is a
quorum's, and a replica asks no more of it); the votes of a tally in which a quorum agrees, whoever else has voted (each
member counts once, so nothing that is added can change the outcome); and signatures of equal messages. Left out is what
nothing depends on any more within the bounds of the search, two views and no repetition:

- what names the people who might have a proposal, and which proposals are here: contents are at hand everywhere, and
  answered within the step that asks;
- of a replica that has asked for the next view, what its slots hold of the view it has left (it hears no vote of it,
  and entering the next one clears them), and, unless it leads the next view, who else has asked for it;
- of one that has not, and does not lead the next view, what exactly the others' view-changes say: it counts them;
- prepares where it has said its commit, or for another proposal than the one it has accepted in this view;
- the view-change and new-view it would say again.

`plain` leaves all of that in. A test compares what replicas say and order with and without it.
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
from consensus.slot import Slot
from consensus.view_change import Plan, ViewChanges
from consensus.votes import Tally

# What nothing depends on but people and the clock, which stands still here; and what is the same in every state.
CONSTANT: Final = frozenset({"_story", "_pace", "_answered_at", "_signer", "_validators", "_config", "_validator_set"})
ASKED_NO_MORE: Final = frozenset({"_speculation", "_named", "durable", "sought", "standing", "hashes", "pre_prepare"})
_PLAIN: Final = frozenset({int, bytes, str, bool, type(None)})


def digest_of(replica: Replica, *, plain: bool = False) -> bytes:
    """16 bytes over all that the objects of the core hold, each dictionary and set in the order of its keys."""
    return hashlib.blake2b(repr(_Frost(replica, plain=plain).frozen(replica)).encode(), digest_size=16).digest()


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


class _Frost:
    """Makes nested tuples of plain values of a replica, whose `repr` is the same for the same content."""

    def __init__(self, replica: Replica, *, plain: bool) -> None:
        self._plain = plain
        self._left_out = CONSTANT if plain else CONSTANT | ASKED_NO_MORE
        self._is_changing = replica.is_changing
        self._leads_next = replica.validators_at(replica.certified_height).leader(1) == replica.id  # type: ignore
        self._seen: list[object] = []

    def frozen(self, thing: object) -> object:
        kind = type(thing)
        if kind in _PLAIN:
            return thing
        if kind is Verified:
            return thing.sender, kind.__name__, substance(thing.message)  # type: ignore[attr-defined]
        if kind is tuple or kind is list:
            return tuple([self.frozen(item) for item in thing])  # type: ignore[attr-defined]
        if kind is dict:
            items = [(_key(key), self.frozen(value)) for key, value in thing.items()]  # type: ignore[attr-defined]
            return tuple(sorted([item for item in items if item[1] != _EMPTY], key=_first))
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
        if not self._plain:
            short = self._short(thing)
            if short is not None:
                return short
        if kind.__module__.startswith("consensus."):
            return self._object(thing, kind)
        raise TypeError(f"a replica holds a {kind.__name__}, of which nobody knows what it is")

    def _short(self, thing: object) -> object:
        """What matters of it, if that is less than all; None: all of it."""
        match thing:
            case Slot():
                return self._slot(thing)
            case Tally():
                return tuple(sorted((sender, vote.message.digest) for sender, vote in thing._votes.items()))
            case ViewChanges():
                changes = thing._latest
                if self._leads_next:
                    return tuple((sender, substance(changes[sender].message)) for sender in sorted(changes))
                return () if self._is_changing else tuple(sorted(changes))
            case Plan():
                return thing.low, tuple((height, again.digest) for height, again in sorted(thing.reproposals.items()))
            case _:
                return None

    def _slot(self, slot: Slot) -> object:
        certificates = self.frozen(slot.prepared), self.frozen(slot.ordered)
        if self._is_changing:
            return _EMPTY if certificates == (None, None) else certificates
        prepares: object = ()
        if slot.own_commit is None:
            prepares = self.frozen(slot.prepares)
            if slot.accepted is not None and not slot.prepares.has_quorum(slot.accepted):
                prepares = slot.prepares.signers(slot.accepted)
        own = slot.own_prepare is not None, slot.own_commit is not None
        held = slot.accepted, slot.fresh, str(slot.contents), *own, prepares, self.frozen(slot.commits)
        return _EMPTY if (held, certificates) == _UNTOUCHED else (held, certificates)

    def _object(self, thing: object, kind: type) -> object:
        if not hasattr(kind, "__dataclass_fields__"):  # a part of the replica, which several others hold
            if any(thing is part for part in self._seen):
                return kind.__name__
            self._seen.append(thing)
        names = getattr(thing, "__dict__", None) or _slots(kind)
        held = [(name, getattr(thing, name, None)) for name in sorted(names) if name not in self._left_out]
        return kind.__name__, tuple([(name, self.frozen(value)) for name, value in held])


_EMPTY: Final = "nothing"  # a slot that says no more than none
_UNTOUCHED: Final = ((None, False, "Contents.WAITING", False, False, (), ()), (None, None))


def _key(key: object) -> str:
    return str(key) if isinstance(key, Enum) else repr(key)


def _first(item: tuple[str, object]) -> str:
    return item[0]


@lru_cache
def _slots(kind: type) -> tuple[str, ...]:
    return tuple(sorted({name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}))
