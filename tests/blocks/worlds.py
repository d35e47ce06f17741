"""Chains that stand ready: contracts deployed, accounts funded, the first heights stored. One per name and rule set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from chain.cli.demo import credit_phases, income_phases, load_census_income, load_german_credit
from chain.cli.demo.workload import ORGANISATIONS, Parties, Phase, Signer
from chain.codec import Value, decode, encode, pack, tagged_digest
from chain.crypto import PrivateKey, Scheme
from chain.model.block import Receipt
from chain.model.transaction import TransactionBody, join_transaction, split_transaction, transaction_hash
from contracts import credit, income
from contracts.runtime import Machine
from contracts.sources import load_source
from contracts.suite import CALL_GAS_LIMIT, DEPLOYMENT_GAS_LIMIT, Suite, resolve
from contracts.system.registry import SYSTEM_ADDRESS
from tests.blocks.arena import arena_source
from tests.blocks.reference import Reference

CHAIN_ID: Final = bytes(31) + b"\x07"
GAS_MAX: Final = 100_000_000
GAS: Final = 5_000_000
START_MS: Final = 1_790_000_000_000
ACCOUNTS: Final = 12  # with funds
ARENAS: Final = 4
PEOPLE: Final = 10  # subjects of a suite
NAMES: Final = ("arena", "credit", "income")


@cache
def account(name: int | str) -> PrivateKey:
    return PrivateKey.from_secret(Scheme.ED25519, hashlib.sha256(b"account %s" % str(name).encode()).digest())


def transaction(
    sender: PrivateKey, target: bytes, method: str, arguments: tuple[Value, ...], *, nonce: int, gas_limit: int = GAS
) -> bytes:
    """A raw transaction; execution does not check signatures, so it carries none."""
    body = TransactionBody(
        chain_id=CHAIN_ID,
        scheme=int(sender.scheme),
        public_key=sender.public_key,
        nonce=nonce.to_bytes(16, "big"),
        expiry=1_000_000,
        target=target,
        method=method,
        arguments=pack(arguments),
        gas_limit=gas_limit,
    )
    return join_transaction(encode(body), bytes(64))


def deployed_by(raw: bytes) -> bytes:
    """The address of the contract that a transaction deploys."""
    body_bytes, _ = split_transaction(raw)
    return tagged_digest(b"headrace/contract/1", transaction_hash(body_bytes))[-20:]


def block_time_ms(height: int) -> int:
    return START_MS + height * 1_000


@dataclass(slots=True)
class World:
    """A chain at `height`, and what its writers need to know."""

    name: str
    rule_set: int
    values: dict[bytes, bytes] = field(default_factory=dict)
    height: int = 0
    root: bytes = bytes(32)
    time_ms: int = 0
    deployers: tuple[bytes, ...] = ()
    contracts: dict[str, bytes] = field(default_factory=dict)
    arenas: tuple[bytes, ...] = ()
    tokens: tuple[bytes, ...] = ()
    phases: tuple[Phase, ...] = ()  # of a suite, those that come next
    signers: dict[str, PrivateKey] = field(default_factory=dict)

    def reference(self) -> Reference:
        """An executor of its own, at this world's height."""
        return Reference(
            reference_machine(self.rule_set),
            chain_id=CHAIN_ID,
            transaction_gas_max=GAS_MAX,
            deployers=self.deployers,
            values=self.values,
            height=self.height,
            root=self.root,
        )


@cache
def reference_machine(rule_set: int) -> Machine:
    """The references' machine: its caches are not those of the executors under test."""
    return Machine(rule_set)


class _Builder:
    """Blocks of set-up transactions, none of which may fail."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reference = world.reference()
        self._nonce = 0

    def call(
        self, sender: PrivateKey, target: bytes, method: str, arguments: tuple[Value, ...], gas_limit: int = GAS
    ) -> bytes:
        self._nonce += 1
        return transaction(sender, target, method, arguments, nonce=self._nonce, gas_limit=gas_limit)

    def deploy(self, sender: PrivateKey, name: str, source: str, arguments: tuple[Value, ...]) -> tuple[bytes, bytes]:
        """(raw transaction, address)."""
        packed = (name, source, pack(arguments))
        raw = self.call(sender, SYSTEM_ADDRESS, "deploy", packed, DEPLOYMENT_GAS_LIMIT)
        return raw, deployed_by(raw)

    def run(self, transactions: Sequence[bytes], *, time_ms: int = 0) -> None:
        result = self.reference.run(transactions, time_ms=time_ms or block_time_ms(self.reference.height + 1))
        for raw in result.receipts:
            receipt = decode(Receipt, raw)
            assert receipt.status == 0, receipt

    def done(self) -> World:
        self.world.values = self.reference.values
        self.world.height = self.reference.height
        self.world.root = self.reference.root
        return self.world


def without_adds(source: str) -> str:
    """A source of rule set 2 as it had to be written before: adds as reads and writes."""
    source = re.sub(r"self\.(\w+)\.add\((\w+)\)", r"self.\1.set(self.\1.get(0) + \2)", source)
    return re.sub(r"self\.(\w+)\.add\((\w+), (\w+)\)", r"self.\1[\2] = self.\1.get(\2, 0) + \3", source)


@cache
def arena_world(rule_set: int, *, restricted: bool) -> World:
    """Four arenas that know each other, two tokens, SmallBank. `restricted`: only account 0 may deploy."""
    world = World("arena", rule_set)
    build = _Builder(world)
    first = account(0)
    source = arena_source(rule_set)
    arenas: list[bytes] = []
    made = []
    for number in range(ARENAS):
        raw, address = build.deploy(first, f"arena.{number}", source, (number, tuple(arenas)))
        made.append(raw)
        arenas.append(address)
    tokens = []
    for name in ("one", "two"):
        token = load_source("library/token") if rule_set > 1 else without_adds(load_source("library/token"))
        raw, address = build.deploy(first, f"token.{name}", token, (name, "T", 10_000))
        made.append(raw)
        tokens.append(address)
    raw, bank = build.deploy(first, "bank", load_source("library/smallbank"), ())
    world.contracts = {"bank": bank}
    made.append(raw)
    if rule_set > 1:
        raw, world.contracts["counter"] = build.deploy(first, "counter", load_source("library/counter"), ())
        made.append(raw)
    build.run(made)
    world.arenas, world.tokens = tuple(arenas), tuple(tokens)
    calls = [build.call(first, arena, "route", (n, to)) for arena in arenas for n, to in enumerate(arenas)]
    for number in range(ACCOUNTS):
        sender = account(number)
        calls += [build.call(sender, arena, "fund", (1_000,)) for arena in arenas]
        calls += [build.call(first, token, "mint", (sender.address, 300)) for token in tokens]
    for arena in arenas:
        calls += [build.call(first, arena, "put", (group, index, 5)) for group in range(3) for index in range(3)]
        calls += [build.call(first, arena, "make", (key, key)) for key in range(0, 8, 2)]
        calls += [build.call(first, arena, "append", (value,)) for value in range(3)]
        if rule_set > 1:
            calls += [build.call(first, arena, "add", (key, 20)) for key in range(5)]
            calls.append(build.call(first, arena, "add_pot", (15,)))
    calls.append(build.call(first, bank, "create_accounts", (0, 40, 100, 100)))
    build.run(calls)
    if restricted:
        world.deployers = (first.address,)
    return build.done()


def _signer(name: Signer) -> str:
    known = name if isinstance(name, str) else f"{name[0]} {name[1]}"
    return "regulator" if known == "operator" else known


@cache
def suite_worlds(name: str, rule_set: int) -> tuple[World, ...]:
    """The credit or the income suite with its people, before each phase of the demo's workload."""
    suite: Suite = credit.SUITE if name == "credit" else income.SUITE
    signers = {role: account(role) for role in ORGANISATIONS}
    signers |= {f"subject {number}": account(f"subject {number}") for number in range(PEOPLE)}
    organisations = {role: signers[role].address for role in ORGANISATIONS}
    parties = Parties(organisations, [signers[f"subject {number}"].address for number in range(PEOPLE)])
    world = World(name, rule_set, signers=signers)
    build = _Builder(world)
    roles = parties.roles()
    for deployment in suite.deployments:
        arguments = resolve(deployment.arguments, roles, world.contracts)
        raw, address = build.deploy(signers[_signer(suite.admin)], deployment.name, deployment.source_text(), arguments)
        world.contracts[deployment.name] = address
        build.run([raw], time_ms=START_MS)
    wiring = [
        build.call(
            signers[_signer(call.signer)], world.contracts[call.contract], call.method,
            resolve(call.arguments, roles, world.contracts), CALL_GAS_LIMIT,
        )
        for call in suite.wiring
    ]  # fmt: skip
    build.run(wiring, time_ms=START_MS)
    if name == "credit":
        phases = credit_phases(load_german_credit(PEOPLE), parties, seed=b"blocks", now_ms=START_MS)
    else:
        phases = income_phases(load_census_income(PEOPLE), parties, seed=b"blocks", now_ms=START_MS)
    return tuple(_before_each_phase(build, phases))


def _before_each_phase(build: _Builder, phases: Sequence[Phase]) -> list[World]:
    world, reference = build.world, build.reference
    made: list[World] = []
    time_ms = START_MS
    for number, phase in enumerate(phases):
        time_ms = max(time_ms, phase.not_before_ms)
        made.append(
            World(
                world.name, world.rule_set, dict(reference.values), reference.height, reference.root, time_ms,
                contracts=world.contracts, phases=tuple(phases[number : number + 3]), signers=world.signers,
            )
        )  # fmt: skip
        calls = [suite_call(world, phase, index, nonce=1_000_000 + number * 10_000 + index)
                 for index in range(len(phase.calls))]  # fmt: skip
        reference.run(calls, time_ms=time_ms)
    return made


def suite_call(world: World, phase: Phase, index: int, *, nonce: int, gas_limit: int = CALL_GAS_LIMIT) -> bytes:
    """The raw transaction of a planned call."""
    call = phase.calls[index]
    return transaction(
        world.signers[_signer(call.signer)], world.contracts[call.contract], call.method, call.arguments,
        nonce=nonce, gas_limit=gas_limit,
    )  # fmt: skip
