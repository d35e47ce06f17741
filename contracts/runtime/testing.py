"""A chain in a dict, for testing contracts: deploy a source, call it, look at values and events, move the clock.

    chain = LocalChain()
    alice, bob = chain.account("alice"), chain.account("bob")
    token = chain.deploy("token", source, "Points", "PTS", 1_000, sender=alice)
    done = chain.call(token, "transfer", bob, 5, sender=alice)
    assert done.ok and done.events == [("Transferred", {"source": alice, "destination": bob, "amount": 5})]
    assert chain.read(token, "balance_of", bob).value == 5
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from chain.codec import pack, tagged_digest, unpack
from chain.model.block import Event
from chain.types import Address
from contracts.language import NEWEST
from contracts.runtime.adds import settle
from contracts.runtime.errors import Status
from contracts.runtime.frame import BlockContext, Outcome
from contracts.runtime.machine import Machine
from contracts.runtime.records import plain
from contracts.system.contract import SYSTEM_ABI, SYSTEM_ADDRESS

_TAG_ACCOUNT: Final = b"headrace/test-account/1"
_TAG_TRANSACTION: Final = b"headrace/test-transaction/1"
_NOBODY: Final = Address(bytes(20))
_GAS: Final = 100_000_000


class DictState(dict[bytes, bytes]):
    """A `State` in a dict."""

    def peek(self, key: bytes) -> bytes | None:
        return self.get(key)

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return sorted((key, raw) for key, raw in self.items() if key.startswith(prefix))[:limit]

    def apply(self, writes: dict[bytes, bytes | None]) -> None:
        for key, raw in writes.items():
            if raw is None:
                self.pop(key, None)
            else:
                self[key] = raw


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome in Python values. Structs come as tuples of their fields."""

    outcome: Outcome
    value: Any
    events: list[tuple[str, dict[str, Any]]]

    @property
    def ok(self) -> bool:
        return self.outcome.status == Status.OK

    @property
    def status(self) -> Status:
        return Status(self.outcome.status)

    @property
    def error(self) -> str:
        return self.outcome.error

    @property
    def gas_used(self) -> int:
        return self.outcome.gas_used


class LocalChain:
    """Every call is a transaction in a block of its own. `time_ms` is the next block's time and may be set."""

    def __init__(
        self,
        *,
        time_ms: int = 1_700_000_000_000,
        deployers: Iterable[bytes] = (),
        gas_limit: int = _GAS,
        rule_set: int = NEWEST,
        window: int = 8,
        validators: Iterable[tuple[str, bytes, int]] = (),
    ) -> None:
        self.state = DictState()
        self.machine = Machine(rule_set)
        self.height = 0
        self.time_ms = time_ms
        self.chain_id = tagged_digest(b"headrace/test-chain/1", b"")
        self.gas_limit = gas_limit
        self._deployers = frozenset(deployers)
        self._window = window
        self._validators = tuple(validators)
        self._transactions = 0
        self._events: dict[tuple[bytes, str], tuple[str, ...]] = {}

    def account(self, name: str) -> Address:
        """An address, the same for the same name."""
        return Address(tagged_digest(_TAG_ACCOUNT, name.encode())[-20:])

    def advance(self, milliseconds: int) -> None:
        """Move the clock."""
        self.time_ms += milliseconds

    def deploy(self, name: str, source: str, *arguments: Any, sender: bytes = _NOBODY) -> Address:
        """Deploy a source and run its init.

        Raises:
            AssertionError: the deployment failed; the text is its error.
        """
        result = self.call(SYSTEM_ADDRESS, "deploy", name, source, pack(plain(arguments)), sender=sender)
        if not result.ok:
            raise AssertionError(f"deploying {name}: {result.status.name} {result.error}")
        return Address(result.value)

    def call(
        self, target: bytes, method: str, *arguments: Any, sender: bytes = _NOBODY, gas_limit: int | None = None
    ) -> Result:
        """Execute a transaction and keep its writes."""
        self.height += 1
        self._transactions += 1
        outcome = self.machine.execute(
            self.state,
            self.block(),
            sender=Address(sender),
            transaction_hash=tagged_digest(_TAG_TRANSACTION, self._transactions.to_bytes(8, "big")),
            target=target,
            method=method,
            arguments=pack(plain(arguments)),
            gas_limit=self.gas_limit if gas_limit is None else gas_limit,
        )
        self.state.apply(settle(outcome, self.state.peek))
        return self._result(outcome)

    def read(
        self, target: bytes, method: str, *arguments: Any, sender: bytes = _NOBODY, signed: bool = False
    ) -> Result:
        """A read, or the simulation of a transaction; nothing is kept."""
        outcome = self.machine.query(
            self.state,
            self.block(),
            sender=Address(sender),
            target=target,
            method=method,
            arguments=pack(plain(arguments)),
            gas_limit=self.gas_limit,
            signed=signed,
        )
        return self._result(outcome)

    def block(self) -> BlockContext:
        gas = max(_GAS, self.gas_limit)
        return BlockContext(
            self.chain_id, self.height, self.time_ms, self.machine.rule_set, gas, self._deployers, self._window,
            self._validators,
        )  # fmt: skip

    def _result(self, outcome: Outcome) -> Result:
        value = unpack(outcome.result) if outcome.result else None
        return Result(outcome, value, [self._event(event) for event in outcome.events])

    def _event(self, event: Event) -> tuple[str, dict[str, Any]]:
        key = (event.contract, event.name)
        if key not in self._events:
            is_system = event.contract == SYSTEM_ADDRESS
            abi = SYSTEM_ABI if is_system else self.read(SYSTEM_ADDRESS, "abi", event.contract).value
            for declared in json.loads(abi)["events"]:
                names = tuple(field["name"] for field in declared["fields"])
                self._events[event.contract, declared["name"]] = names
        values = unpack(event.values)
        assert isinstance(values, tuple)
        return event.name, dict(zip(self._events[key], values, strict=True))
