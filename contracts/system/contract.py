"""The system contract's methods. It has an address, an ABI and metered, tracked state like any other contract."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from chain.codec import pack, tagged_digest, unpack, unpack_trusted
from chain.errors import DecodeError
from chain.types import ADDRESS_BYTES, Address
from contracts.language import gas
from contracts.language.compiler import CompiledContract
from contracts.language.findings import RECEIPT_PREFIX, BadSource
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.system import members
from contracts.system.registry import (
    SYSTEM_ADDRESS,
    ContractRecord,
    Lifecycle,
    name_key,
    record_key,
    source_key,
)
from contracts.system.storage import emit, read, write

if TYPE_CHECKING:
    from contracts.runtime.machine import Machine

TAG_CONTRACT: Final = b"headrace/contract/1"
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}\Z", re.ASCII)

Pairs: TypeAlias = "tuple[tuple[str, str], ...]"
Declared: TypeAlias = "tuple[str, Pairs, str | None, str]"

# name -> (mutability, parameters, returns, doc); the order of parameters is the order of arguments
_METHODS: Final[Mapping[str, Declared]] = {
    "deploy": (
        "external",
        (("name", "str"), ("source", "str"), ("arguments", "bytes")),
        "Address",
        "Deploy a source under a name of its own; `arguments` is the packed tuple for init. The sender is its admin.",
    ),
    "upgrade": ("external", (("address", "Address"), ("source", "str")), None, "Replace the code; storage stays."),
    "freeze": ("external", (("address", "Address"),), None, "Refuse everything but views until unfreeze."),
    "unfreeze": ("external", (("address", "Address"),), None, "Take a freeze back."),
    "abolish": ("external", (("address", "Address"),), None, "Close the contract for good. Its name stays taken."),
    "set_admin": ("external", (("address", "Address"), ("admin", "Address")), None, "Hand the contract over."),
    "code": ("view", (("address", "Address"),), "str", "The source."),
    "abi": ("view", (("address", "Address"),), "str", "The interface as JSON."),
    "resolve": ("view", (("name", "str"),), "Address | None", "The address behind a name."),
    "info": (
        "view",
        (("address", "Address"),),
        "tuple[str, bytes, Address, int, int, int, int] | None",
        "(name, code hash, admin, lifecycle 0 active 1 frozen 2 abolished, version, height deployed, height changed).",
    ),
}
_EVENTS: Final[Mapping[str, Pairs]] = {
    "Deployed": (("address", "Address"), ("name", "str"), ("code_hash", "bytes"), ("admin", "Address")),
    "Upgraded": (("address", "Address"), ("code_hash", "bytes"), ("version", "int")),
    "LifecycleChanged": (("address", "Address"), ("lifecycle", "int")),
    "AdminChanged": (("address", "Address"), ("admin", "Address")),
}


def _fields(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in pairs]


def _abi(
    doc: str, methods: Mapping[str, Declared], events: Mapping[str, Pairs], structs: Mapping[str, Pairs]
) -> str:
    return json.dumps(
        {
            "contract": "System",
            "doc": doc,
            "init": [],
            "methods": [
                {"name": name, "mutability": mutability, "parameters": _fields(pairs), "returns": returns, "doc": doc}
                for name, (mutability, pairs, returns, doc) in methods.items()
            ],
            "events": [{"name": name, "fields": _fields(pairs), "doc": ""} for name, pairs in events.items()],
            "structs": [{"name": name, "fields": _fields(pairs)} for name, pairs in structs.items()],
            "storage": [],
            "constants": {},
        },
        separators=(",", ":"),
    )


_ALL_METHODS: Final = {**_METHODS, **members.METHODS}
_FIRST_ABI: Final = _abi("Deploys, names, upgrades, freezes and closes contracts.", _METHODS, _EVENTS, {})
SYSTEM_ABI: Final = _abi(  # of the newest rule set
    "Deploys, names, upgrades, freezes and closes contracts; changes the set of validators.",
    _ALL_METHODS, {**_EVENTS, **members.EVENTS}, members.STRUCTS,
)  # fmt: skip


def contract_address(transaction_hash: bytes) -> Address:
    """The address of the contract that a transaction deploys."""
    return Address(tagged_digest(TAG_CONTRACT, transaction_hash)[-ADDRESS_BYTES:])


class SystemContract:
    """Runs the system methods on behalf of a `Machine`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._methods: dict[str, Callable[..., Any]] = {
            "deploy": self._deploy,
            "upgrade": self._upgrade,
            "freeze": self._freeze,
            "unfreeze": self._unfreeze,
            "abolish": self._abolish,
            "set_admin": self._set_admin,
            "code": self._code,
            "abi": self._abi,
            "resolve": self._resolve,
            "info": self._info,
        }
        self._declared = _METHODS
        if machine.rules.has_members:
            self._declared = _ALL_METHODS
            self._methods |= members.MembersContract().methods

    def run(self, x: Frame, method: str, arguments: bytes) -> bytes:
        """The packed result of a system method.

        Raises:
            ContractError: the call is refused.
        """
        declared = self._declared.get(method)
        if declared is None:
            raise ContractError(Status.UNKNOWN_METHOD, f"unknown_method: {method}")
        mutability, parameters, returns, _ = declared
        values = _arguments(method, parameters, arguments)
        x.charge(gas.CALL)
        if mutability == "view":
            x.readonly = True
        elif x.readonly:
            raise ContractError(Status.FORBIDDEN, "write_in_view")
        result = self._methods[method](x, *values)
        return pack(result) if returns is not None else b""

    # Writing

    def _deploy(self, x: Frame, name: str, source: str, arguments: bytes) -> Address:
        deployers = x.context.block.deployers
        if deployers and x.origin not in deployers:
            raise ContractError(Status.FORBIDDEN, "not_a_deployer")
        if not _NAME.match(name):
            raise ContractError(Status.BAD_ARGUMENTS, "name: 1 to 64 of a-z 0-9 _ . -, a letter first")
        if read(x, name_key(name)) is not None:
            raise ContractError(Status.REVERTED, "name_taken")
        address = contract_address(x.transaction_hash)
        if read(x, record_key(address)) is not None:
            raise ContractError(Status.REVERTED, "one_deployment_per_transaction")
        compiled = self._store_source(x, source)
        height = x.height
        record = ContractRecord(name, compiled.code_hash, x.sender, Lifecycle.ACTIVE, 1, height, height)
        write(x, name_key(name), pack(address))
        write(x, record_key(address), record.to_bytes())
        emit(x, "Deployed", (address, name, compiled.code_hash, x.sender))
        self._initialise(x, address, arguments)
        return address

    def _initialise(self, x: Frame, address: Address, arguments: bytes) -> None:
        """Run init with the deployer as `ctx.sender`. Its failure is the deployment's failure."""
        frame = Frame(x.context, x.gas, x.sender, address, False)
        try:
            self._machine.initialise(frame, arguments)
        finally:
            x.gas = frame.gas

    def _upgrade(self, x: Frame, address: bytes, source: str) -> None:
        record = self._administered(x, address)
        compiled = self._store_source(x, source)
        version = record.version + 1
        self._change(x, address, record, code_hash=compiled.code_hash, version=version)
        emit(x, "Upgraded", (address, compiled.code_hash, version))

    def _freeze(self, x: Frame, address: bytes) -> None:
        self._set_lifecycle(x, address, Lifecycle.FROZEN)

    def _unfreeze(self, x: Frame, address: bytes) -> None:
        self._set_lifecycle(x, address, Lifecycle.ACTIVE)

    def _abolish(self, x: Frame, address: bytes) -> None:
        self._set_lifecycle(x, address, Lifecycle.ABOLISHED)

    def _set_lifecycle(self, x: Frame, address: bytes, lifecycle: Lifecycle) -> None:
        record = self._administered(x, address)
        self._change(x, address, record, lifecycle=int(lifecycle))
        emit(x, "LifecycleChanged", (address, int(lifecycle)))

    def _set_admin(self, x: Frame, address: bytes, admin: bytes) -> None:
        record = self._administered(x, address)
        self._change(x, address, record, admin=admin)
        emit(x, "AdminChanged", (address, admin))

    def _change(self, x: Frame, address: bytes, record: ContractRecord, **changes: Any) -> None:
        changed = dataclasses.replace(record, changed_height=x.height, **changes)
        write(x, record_key(address), changed.to_bytes())

    def _administered(self, x: Frame, address: bytes) -> ContractRecord:
        """The record of a contract whose admin calls."""
        record = _record(x, address)
        if record is None:
            raise ContractError(Status.UNKNOWN_CONTRACT, "unknown_contract")
        if record.admin != x.sender:
            raise ContractError(Status.FORBIDDEN, "not_the_admin")
        if record.lifecycle == Lifecycle.ABOLISHED:
            raise ContractError(Status.UNKNOWN_CONTRACT, "contract_abolished")
        return record

    def _store_source(self, x: Frame, source: str) -> CompiledContract:
        """Check, compile and store a source; the price is the same whether anyone compiled it before."""
        x.charge(gas.SOURCE_BYTE * len(source.encode()))
        try:
            compiled = self._machine.link(source).compiled
        except BadSource as error:
            text = error.receipt_text(all_findings=self._machine.rules.tells_all_findings)
            raise ContractError(Status.BAD_SOURCE, RECEIPT_PREFIX + text) from None
        write(x, source_key(compiled.code_hash), pack(source))
        return compiled

    # Reading

    def _code(self, x: Frame, address: bytes) -> str:
        record = _record(x, address)
        if record is None:
            raise ContractError(Status.UNKNOWN_CONTRACT, "unknown_contract")
        raw = read(x, source_key(record.code_hash))
        return "" if raw is None else str(unpack_trusted(raw))

    def _abi(self, x: Frame, address: bytes) -> str:
        if address == SYSTEM_ADDRESS:
            return SYSTEM_ABI if self._machine.rules.has_members else _FIRST_ABI
        source = self._code(x, address)
        x.charge(gas.SOURCE_BYTE * len(source.encode()))
        return self._machine.link(source).compiled.abi

    def _resolve(self, x: Frame, name: str) -> Any:
        raw = read(x, name_key(name))
        return None if raw is None else unpack_trusted(raw)

    def _info(self, x: Frame, address: bytes) -> Any:
        record = _record(x, address)
        return None if record is None else record.as_tuple()


_KINDS: Final[Mapping[str, type]] = {"str": str, "bytes": bytes, "Address": bytes, "int": int}


def _arguments(method: str, parameters: tuple[tuple[str, str], ...], packed: bytes) -> tuple[Any, ...]:
    try:
        values = unpack(packed)
    except DecodeError:
        raise ContractError(Status.BAD_ARGUMENTS, "malformed arguments") from None
    if type(values) is not tuple or len(values) != len(parameters):
        raise ContractError(Status.BAD_ARGUMENTS, f"{method}: {len(parameters)} arguments expected")
    for (name, kind), value in zip(parameters, values, strict=True):
        fits = type(value) is _KINDS[kind]
        if not fits or (kind == "Address" and isinstance(value, bytes) and len(value) != ADDRESS_BYTES):
            raise ContractError(Status.BAD_ARGUMENTS, f"{method}: {name} must be {kind}")
    return values


def _record(x: Frame, address: bytes) -> ContractRecord | None:
    raw = read(x, record_key(address))
    return None if raw is None else ContractRecord.of(raw)


__all__ = ["SYSTEM_ABI", "SYSTEM_ADDRESS", "SystemContract", "contract_address"]
