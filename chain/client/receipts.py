"""Receipts and events with Python values in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chain.codec import Value, unpack
from chain.types import Address, Digest, Height


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractEvent:
    """`values` in the order of the declaration; `fields` by name where the ABI is known (structs as dicts)."""

    contract: Address
    name: str
    values: tuple[Value, ...]
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A certified receipt. `value` is the method's return value, `raw` the canonical receipt that proofs prove."""

    hash: Digest
    height: Height
    position: int
    status: int
    gas_used: int
    value: Value
    error: str
    events: tuple[ContractEvent, ...]
    raw: bytes

    @property
    def ok(self) -> bool:
        return self.status == 0

    def event(self, name: str) -> ContractEvent:
        """The first event of that name. Raises KeyError if there is none."""
        for event in self.events:
            if event.name == name:
                return event
        raise KeyError(f"no event {name}; there are {[event.name for event in self.events]}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction, as far as a block tells: where it was executed and its receipt's status."""

    height: Height
    position: int
    status: int


@dataclass(frozen=True, slots=True)
class SendResult:
    """`code` 0: a node has it in its pool (or had it already); else the API's error number and text."""

    hash: Digest
    code: int
    message: str


def receipt_of(document: Mapping[str, Any]) -> Receipt:
    """The receipt in an answer of the API, its events without field names."""
    return Receipt(
        hash=Digest(unhex(document["transaction_hash"])),
        height=Height(int(document["height"])),
        position=int(document["position"]),
        status=int(document["status"]),
        gas_used=int(document["gas_used"]),
        value=value_of(document["result"]),
        error=str(document["error"]),
        events=tuple(event_of(event) for event in document["events"]),
        raw=unhex(document["raw"]),
    )


def event_of(document: Mapping[str, Any]) -> ContractEvent:
    values = value_of(document["values"])
    return ContractEvent(
        contract=Address(unhex(document["contract"])),
        name=str(document["name"]),
        values=values if isinstance(values, tuple) else (values,),
    )


def value_of(text: str) -> Value:
    """The value in 0x-hex of its packed form; None where there is none."""
    return unpack(unhex(text)) if text != "0x" else None


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])
