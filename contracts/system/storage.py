"""Metered access of the system contract's methods to the state, and its events."""

from __future__ import annotations

from typing import Any

from chain.codec import pack
from chain.model.block import Event
from contracts.language import gas
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.system.registry import SYSTEM_ADDRESS


def read(x: Frame, key: bytes) -> bytes | None:
    raw = x.read(key)
    x.charge(gas.READ + gas.READ_BYTE * len(raw or b""))
    return raw


def write(x: Frame, key: bytes, raw: bytes) -> None:
    """Raises ContractError: the key is too long."""
    if len(key) > 480:
        raise ContractError(Status.LIMIT, "key_too_long")
    x.charge(gas.WRITE + gas.WRITE_BYTE * (len(key) + len(raw)))
    x.write(key, raw)


def emit(x: Frame, name: str, values: tuple[Any, ...]) -> None:
    packed = pack(values)
    x.charge(gas.EVENT + gas.EVENT_BYTE * len(packed))
    x.context.events.append(Event(contract=SYSTEM_ADDRESS, name=name, values=packed))
