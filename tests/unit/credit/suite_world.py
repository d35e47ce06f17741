"""A deployed suite on one machine over a dict, with a clock that stands still until it is told to move."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from chain.codec import pack, unpack
from chain.model.block import Event
from contracts.language import compile_contract
from contracts.runtime import BlockContext, Machine, Outcome
from contracts.suite import Suite, resolve
from contracts.system import SYSTEM_ADDRESS

GAS = 100_000_000
START_MS = 1_790_000_000_000  # September 2026
CHAIN_ID = sha256(b"test chain").digest()

Planned = tuple[Any, ...]  # (signer, contract, method, *arguments)


class DictState:
    """Everything that was written, by key."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in self.entries.items() if key.startswith(prefix))

    def apply(self, writes: dict[bytes, bytes | None]) -> None:
        for key, value in writes.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value


class LoggedEvent:
    """An event with its values as a tuple."""

    def __init__(self, event: Event) -> None:
        self.contract = event.contract
        self.name = event.name
        values = unpack(event.values)
        assert isinstance(values, tuple)
        self.values = values


_MACHINE = Machine()


class SuiteWorld:
    """The suite's contracts by short name ("order" for "credit.order"); accounts by any name.

    Every transaction is a block of its own unless given to `block`. Arguments and events of all transactions are kept.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.state = DictState()
        self.machine = _MACHINE  # holds nothing but compiled code
        self.contracts: dict[str, bytes] = {}
        self.height = 0
        self.time_ms = START_MS
        self.arguments: list[tuple[Any, ...]] = []
        self.events: list[LoggedEvent] = []
        self._sent = 0
        parties = {role: self.address(role) for role in suite.parties}
        for deployment in suite.deployments:
            packed = pack(resolve(deployment.arguments, parties, self.contracts))
            arguments = (deployment.name, deployment.source_text(), packed)
            outcome = self._execute(suite.admin, SYSTEM_ADDRESS, "deploy", arguments, keep=False)
            assert outcome.status == 0, f"{deployment.name}: {outcome.error}"
            self.contracts[deployment.name] = _result(outcome)
        for call in suite.wiring:
            outcome = self.call(
                call.signer, call.contract.split(".")[1], call.method, *resolve(call.arguments, parties, self.contracts)
            )
            assert outcome.status == 0, f"{call.contract}.{call.method}: {outcome.error}"

    # Time and names

    def address(self, name: str) -> bytes:
        return sha256(b"account " + name.encode()).digest()[:20]

    def advance(self, by_ms: int) -> None:
        self.time_ms += by_ms

    def set_time(self, time_ms: int) -> None:
        assert time_ms >= self.time_ms, "block time never runs back"
        self.time_ms = time_ms

    # Transactions

    def call(self, signer: str, contract: str, method: str, *arguments: Any) -> Outcome:
        """One transaction, whatever comes of it."""
        return self._execute(signer, self.contracts[f"{self.suite.name}.{contract}"], method, arguments)

    def do(self, signer: str, contract: str, method: str, *arguments: Any) -> Any:
        """One transaction that must not fail; what it answers."""
        outcome = self.call(signer, contract, method, *arguments)
        assert outcome.status == 0, f"{contract}.{method}: {outcome.error}"
        return _result(outcome)

    def ok(self, signer: str, contract: str, method: str, *arguments: Any) -> None:
        """One transaction that must answer `ok`."""
        answer = self.do(signer, contract, method, *arguments)
        assert answer == "ok", f"{contract}.{method}: {answer}"

    def fails(self, signer: str, contract: str, method: str, *arguments: Any) -> str:
        """One transaction that must revert; its reason."""
        outcome = self.call(signer, contract, method, *arguments)
        assert outcome.status == 1, f"{contract}.{method}: status {outcome.status} {outcome.error} {outcome.result!r}"
        assert not outcome.writes
        return outcome.error

    def block(self, calls: list[Planned]) -> list[tuple[int, Any]]:
        """Several transactions in one block, in this order: (status, answer or reason) each."""
        self.height += 1
        ends = []
        for signer, contract, method, *arguments in calls:
            target = self.contracts[f"{self.suite.name}.{contract}"]
            outcome = self._execute(signer, target, method, tuple(arguments), own_block=False)
            ends.append((outcome.status, _result(outcome) if outcome.status == 0 else outcome.error))
        return ends

    def _execute(
        self, signer: str, target: bytes, method: str, arguments: tuple[Any, ...], *, keep: bool = True,
        own_block: bool = True,
    ) -> Outcome:  # fmt: skip
        self.height += own_block
        self._sent += 1
        outcome = self.machine.execute(
            self.state, self._context(), sender=self.address(signer), transaction_hash=sha256(pack(self._sent)).digest(),
            target=target, method=method, arguments=pack(arguments), gas_limit=GAS,
        )  # fmt: skip
        self.state.apply(outcome.writes)
        if keep:
            self.arguments.append(arguments)
            self.events.extend(LoggedEvent(event) for event in outcome.events)
        return outcome

    # Reads

    def read(self, signer: str, contract: str, method: str, *arguments: Any) -> Any:
        """A signed read, or a simulated call, that must not fail."""
        outcome = self._query(signer, contract, method, arguments, signed=True)
        assert outcome.status == 0, f"{contract}.{method}: {outcome.error}"
        return _result(outcome)

    def refuses_read(self, signer: str, contract: str, method: str, *arguments: Any, signed: bool = True) -> str:
        """A read that must revert; its reason."""
        outcome = self._query(signer, contract, method, arguments, signed=signed)
        assert outcome.status == 1, f"{contract}.{method}: status {outcome.status} {outcome.error}"
        return outcome.error

    def _query(self, signer: str, contract: str, method: str, arguments: tuple[Any, ...], *, signed: bool) -> Outcome:
        return self.machine.query(
            self.state, self._context(), sender=self.address(signer), method=method, arguments=pack(arguments),
            target=self.contracts[f"{self.suite.name}.{contract}"], gas_limit=GAS, signed=signed,
        )  # fmt: skip

    # What there is

    def event_values(self, name: str) -> tuple[Any, ...]:
        """The values of the latest event of that name."""
        return next(event.values for event in reversed(self.events) if event.name == name)

    def state_values(self, contract: str) -> list[bytes]:
        """Every stored value of a contract, by full name; of all of the suite's with ""."""
        prefixes = tuple(address for name, address in self.contracts.items() if contract in ("", name))
        return [value for key, value in sorted(self.state.entries.items()) if key.startswith(prefixes)]

    def methods(self, mutability: str) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """(contract, method) -> [(parameter, type)] of the suite's ABI."""
        found = {}
        for deployment in self.suite.deployments:
            abi = json.loads(compile_contract(deployment.source_text()).abi)
            for method in abi["methods"]:
                if method["mutability"] == mutability:
                    parameters = [(parameter["name"], parameter["type"]) for parameter in method["parameters"]]
                    found[deployment.name.split(".")[1], method["name"]] = parameters
        return found

    def _context(self) -> BlockContext:
        return BlockContext(
            chain_id=CHAIN_ID, height=self.height, time_ms=self.time_ms, rule_set=1, transaction_gas_max=GAS,
            deployers=frozenset(),
        )  # fmt: skip


def _result(outcome: Outcome) -> Any:
    return unpack(outcome.result) if outcome.result else None
