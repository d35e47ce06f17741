"""A second life of a replica that goes its own way: what can change is copied, what cannot is shared."""

from __future__ import annotations

from collections import deque
from dataclasses import is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from chain.model.validators import ValidatorSet

T = TypeVar("T")

# Not copied: memories of what is true for ever (good certificates), what only people read, and what is the same always.
SHARED_NAMES: Final = frozenset({"_good", "_members", "_story", "_mail", "_chain", "_signer"})
# Nothing in the core keeps what can change in a tuple.
_UNCHANGING: Final = (int, bytes, str, bool, float, tuple, frozenset, type(None), Enum, msgspec.Struct, ValidatorSet)
_MISSING: Final = object()

_shared: set[type] = set()  # kinds found to be unchanging


def copy_of(thing: T) -> T:
    """Whatever several parts of `thing` hold together, the same parts of the copy hold together as well."""
    copied: T = _copy(thing, {})
    return copied


def _copy(thing: Any, known: dict[int, Any]) -> Any:
    copied = known.get(id(thing))
    if copied is not None:
        return copied
    kind = type(thing)
    if kind is dict:
        copied = {key: value if type(value) in _shared else _copy(value, known) for key, value in thing.items()}
    elif kind is list or kind is set:
        copied = kind([item if type(item) in _shared else _copy(item, known) for item in thing])
    elif kind is deque:
        copied = deque((_copy(item, known) for item in thing), thing.maxlen)
    elif _never_changes(kind):
        _shared.add(kind)
        return thing
    else:
        return _copy_of_object(thing, kind, known)
    known[id(thing)] = copied
    return copied


def _copy_of_object(thing: Any, kind: type, known: dict[int, Any]) -> Any:
    copied: Any = object.__new__(kind)
    known[id(thing)] = copied
    for name in _slots(kind):
        value = getattr(thing, name, _MISSING)
        if value is not _MISSING:
            setattr(copied, name, value if type(value) in _shared or name in SHARED_NAMES else _copy(value, known))
    held = getattr(thing, "__dict__", None)
    if held is not None:
        copied.__dict__.update({
            name: value if type(value) in _shared or name in SHARED_NAMES else _copy(value, known)
            for name, value in held.items()
        })  # fmt: skip
    return copied


def _never_changes(kind: type) -> bool:
    if issubclass(kind, _UNCHANGING):
        return True
    return is_dataclass(kind) and bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]


@lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    return tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))


__all__ = ["SHARED_NAMES", "copy_of"]
