"""A deployed suite on a local chain, with a clock that stands still until it is told to move."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chain.codec import unpack
from contracts.language import contract_abi
from contracts.runtime import Machine
from contracts.runtime.testing import LocalChain, Result
from contracts.suite import Suite, resolve

START_MS = 1_790_000_000_000  # September 2026

_MACHINE = Machine()  # holds compiled code only: one for all worlds saves compiling each suite again and again

Planned = tuple[Any, ...]  # (signer, contract, method, *arguments)


class SuiteWorld:
    """The suite's contracts by short name ("order" for "credit.order"); accounts by any name.

    Every transaction is a block of its own unless given to `block`. Arguments and events of all transactions are kept.
    """

    def __init__(
        self, suite: Suite, aliases: Mapping[str, str] | None = None, *, gas_limit: int = 100_000_000
    ) -> None:
        """`aliases` makes one account of two names, for instance {"operator": "regulator"}."""
        self.suite = suite
        self.chain = LocalChain(time_ms=START_MS, gas_limit=gas_limit)
        self.chain.machine = _MACHINE
        self.aliases = dict(aliases or {})
        self.contracts: dict[str, bytes] = {}
        self.arguments: list[tuple[Any, ...]] = []
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        parties = {role: self.address(role) for role in suite.parties}
        for deployment in suite.deployments:
            self.contracts[deployment.name] = self.chain.deploy(
                deployment.name, deployment.source_text(), *resolve(deployment.arguments, parties, self.contracts),
                sender=self.address(suite.admin),
            )  # fmt: skip
        for call in suite.wiring:
            short = call.contract.removeprefix(f"{suite.name}.")
            self.do(call.signer, short, call.method, *resolve(call.arguments, parties, self.contracts))

    # Time and names

    @property
    def time_ms(self) -> int:
        return self.chain.time_ms

    @property
    def height(self) -> int:
        return self.chain.height

    def advance(self, by_ms: int) -> None:
        self.chain.advance(by_ms)

    def set_time(self, time_ms: int) -> None:
        assert time_ms >= self.chain.time_ms, "block time never runs back"
        self.chain.time_ms = time_ms

    def address(self, name: str) -> bytes:
        return self.chain.account(self.aliases.get(name, name))

    def contract(self, short: str) -> bytes:
        return self.contracts[f"{self.suite.name}.{short}"]

    # Transactions

    def call(self, signer: str, contract: str, method: str, *arguments: Any) -> Result:
        """One transaction, whatever comes of it."""
        result = self.chain.call(self.contract(contract), method, *arguments, sender=self.address(signer))
        self.arguments.append(arguments)
        self.events += [(name, tuple(values.values())) for name, values in result.events]
        return result

    def do(self, signer: str, contract: str, method: str, *arguments: Any) -> Any:
        """One transaction that must not fail; what it answers."""
        result = self.call(signer, contract, method, *arguments)
        assert result.ok, f"{contract}.{method}: {result.error}"
        return result.value

    def ok(self, signer: str, contract: str, method: str, *arguments: Any) -> None:
        """One transaction that must answer `ok`."""
        answer = self.do(signer, contract, method, *arguments)
        assert answer == "ok", f"{contract}.{method}: {answer}"

    def fails(self, signer: str, contract: str, method: str, *arguments: Any) -> str:
        """One transaction that must revert; its reason."""
        result = self.call(signer, contract, method, *arguments)
        assert result.status == 1, f"{contract}.{method}: status {result.status} {result.error} {result.value!r}"
        assert not result.outcome.writes
        return result.error

    def block(self, calls: list[Planned]) -> list[tuple[int, Any]]:
        """Several transactions at one height, in this order: (status, answer or reason) each."""
        height, ends = self.chain.height, []
        for signer, contract, method, *arguments in calls:
            self.chain.height = height  # the call is one above it
            result = self.call(signer, contract, method, *arguments)
            ends.append((int(result.status), result.value if result.ok else result.error))
        return ends

    # Reads

    def read(self, signer: str, contract: str, method: str, *arguments: Any) -> Any:
        """A signed read, or a simulated call, that must not fail."""
        result = self._read(signer, contract, method, arguments, signed=True)
        assert result.ok, f"{contract}.{method}: {result.error}"
        return result.value

    def refuses_read(self, signer: str, contract: str, method: str, *arguments: Any, signed: bool = True) -> str:
        """A read that must revert; its reason."""
        result = self._read(signer, contract, method, arguments, signed=signed)
        assert result.status == 1, f"{contract}.{method}: status {result.status} {result.error}"
        return result.error

    def _read(self, signer: str, contract: str, method: str, arguments: tuple[Any, ...], *, signed: bool) -> Result:
        return self.chain.read(
            self.contract(contract), method, *arguments, sender=self.address(signer), signed=signed
        )

    # What there is

    def event_values(self, name: str) -> tuple[Any, ...]:
        """The values of the latest event of that name."""
        return next(values for event, values in reversed(self.events) if event == name)

    def stored(self, contract: str = "") -> dict[bytes, Any]:
        """Every stored value by key: of one contract, or of all of the suite's."""
        prefixes = (self.contract(contract),) if contract else tuple(self.contracts.values())
        return {key: unpack(value) for key, value in self.chain.state.items() if key.startswith(prefixes)}

    def methods(self, mutability: str) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """(contract, method) -> [(parameter, type)] of the suite's ABI."""
        found = {}
        for deployment in self.suite.deployments:
            short = deployment.name.removeprefix(f"{self.suite.name}.")
            for method in json.loads(contract_abi(deployment.source_text()))["methods"]:
                if method["mutability"] == mutability:
                    parameters = [(parameter["name"], parameter["type"]) for parameter in method["parameters"]]
                    found[short, method["name"]] = parameters
        return found


def leaves(value: object) -> list[object]:
    """The scalars in nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]
