"""What a traced transaction did, in words of its contracts: the call tree, and gas by line of source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

NUMBER_MAX: Final = 2**53 - 1  # beyond, integers in JSON are decimal text: many readers would round them

AccessKind = Literal["read", "write", "delete", "add", "scan"]
Shown: TypeAlias = "bool | int | str | bytes | tuple[Shown, ...] | list[Shown] | dict[str, Shown] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A storage variable that was touched. `key` holds the elements of a map's key or a list's index, so far as a scan
    gives them. `own`: the read saw what this transaction had written itself. `writers`: the positions of earlier
    transactions of the block whose writes it saw, so it could not have run before them."""

    kind: AccessKind
    state_key: bytes  # of a scan: the prefix
    contract: bytes
    variable: str
    name: str  # for people: balances[0xaa..], total, log[3], len(log), cells[1, *]
    key: tuple[Shown, ...]
    value: Shown  # read or written; of an add what was added, of a scan the number of entries found in the state
    own: bool = False
    writers: tuple[int, ...] = ()

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kind": self.kind, "contract": _json(self.contract), "variable": self.variable, "name": self.name,
            "key": _json(self.key), "value": _json(self.value), "own": self.own, "writers": list(self.writers),
            "state_key": _json(self.state_key),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """An event. `fields` are named where the contract's source tells the names."""

    contract: bytes
    name: str
    fields: Shown

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kind": "event", "contract": _json(self.contract), "name": self.name, "fields": _json(self.fields)
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTrace:
    """A call into a contract and what happened in it, in order. A failed call left no writes, adds and events.

    `gas_used` includes the calls it made. `call_gas` is the part that belongs to no line of source: the price of the
    transaction or call itself, of finding the code, of taking arguments and handing over the result.
    """

    contract: bytes
    contract_name: str
    method: str
    arguments: Shown
    status: int
    error: str
    result: Shown
    gas_used: int
    call_gas: int
    steps: tuple[Step, ...]

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "kind": "call", "contract": _json(self.contract), "contract_name": self.contract_name,
            "method": self.method, "arguments": _json(self.arguments), "status": self.status, "error": self.error,
            "result": _json(self.result), "gas_used": self.gas_used, "call_gas": self.call_gas,
            "steps": [step.document() for step in self.steps],
        }  # fmt: skip

    def calls(self) -> Iterator[CallTrace]:
        """This call and all below it, in the order in which they began."""
        yield self
        for step in self.steps:
            if isinstance(step, CallTrace):
                yield from step.calls()


Step: TypeAlias = Access | Emitted | CallTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class LineGas:
    """Gas that a line of source used, and how often it was paid for."""

    line: int  # from 1
    gas: int
    times: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGas:
    """Gas by line in one contract, ascending by line; only lines that were paid for. A basic block is paid for before
    it runs, so the lines after one that fails may have been paid for too."""

    contract: bytes
    contract_name: str
    gas: int
    lines: tuple[LineGas, ...]

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "contract": _json(self.contract), "contract_name": self.contract_name, "gas": self.gas,
            "lines": [{"line": at.line, "gas": at.gas, "times": at.times, "text": at.text} for at in self.lines],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionTrace:
    """A transaction run again where it stood in its block. The gas of `sources` and the `call_gas` of all calls sum to
    `gas_used`."""

    height: int
    position: int
    transaction_hash: bytes
    sender: bytes
    gas_limit: int
    gas_used: int
    status: int
    error: str
    call: CallTrace
    sources: tuple[SourceGas, ...]
    receipt: bytes  # encode(Receipt), as this run made it

    @property
    def call_gas(self) -> int:
        """Gas that belongs to no line of source."""
        return sum(call.call_gas for call in self.call.calls())

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "height": self.height, "position": self.position, "hash": _json(self.transaction_hash),
            "sender": _json(self.sender), "gas_limit": self.gas_limit, "gas_used": self.gas_used,
            "status": self.status, "error": self.error, "call": self.call.document(), "call_gas": self.call_gas,
            "sources": [source.document() for source in self.sources], "receipt": _json(self.receipt),
        }  # fmt: skip


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > NUMBER_MAX:
        return str(value)
    if isinstance(value, tuple | list):
        return [_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    return value
