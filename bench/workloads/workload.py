"""The seam between a workload and whoever runs it: what is set up, and the calls that follow from a seed.

A set-up is data: it yields deployments and batches of calls, and is sent what they gave. So one description sets up a
running network (`Workload.prepare`) and a state without a network (`bench.execute.world`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from bench.errors import BenchError
from chain.client import Client
from chain.codec import Value
from chain.crypto import PrivateKey, Scheme
from contracts.suite import Suite, resolve

GAS_LIMIT_CALL: Final = 1_000_000
SETUP_AT_ONCE: Final = 2_000  # transactions on their way at a time
SETUP_TIMEOUT_MS: Final = 120_000


class Call(NamedTuple):
    """One transaction to come: method and arguments on the workload's contract, signed by an account of that name
    (`account`), or by any account."""

    method: str
    arguments: tuple[Value, ...]
    gas_limit: int
    signer: str | None = None


class Deploy(NamedTuple):
    """A step of a set-up: a deployment by the operator. The set-up is sent the contract's address."""

    name: str
    source: str
    arguments: tuple[Value, ...] = ()


class SetupCall(NamedTuple):
    """A call of a set-up; without a signer it is the operator's."""

    target: bytes
    method: str
    arguments: tuple[Value, ...]
    signer: str | None = None
    gas_limit: int = GAS_LIMIT_CALL


Batch: TypeAlias = "Iterator[SetupCall] | list[SetupCall]"  # may run in any order, all before the next step
Setup: TypeAlias = "Generator[Deploy | Batch, bytes | None, bytes]"  # returns the address that the calls go to


class Start(NamedTuple):
    """What a set-up needs to know: who deploys, and the time of the chain, about."""

    operator: bytes
    now_ms: int


@dataclass(frozen=True, slots=True)
class Workload:
    """`calls` is pure, endless and cheap: every process that signs a share of them walks all of them.

    `follows`: the published benchmark and where this one deviates, for people.
    """

    follows: str
    setup: Callable[[Start], Setup]
    calls: Callable[[int], Iterator[Call]]

    async def prepare(self, client: Client) -> bytes:
        """Deploy and fill on a running network, with the client's key as the operator's; where `calls` go to.

        Raises:
            BenchError: a call of the set-up failed.
        """
        return await carry_out(client, self.setup)


@cache
def account(name: str) -> PrivateKey:
    """The key of the account that benchmarks know by this name."""
    secret = hashlib.sha256(b"headrace benchmark account " + name.encode()).digest()
    return PrivateKey.from_secret(Scheme.ED25519, secret)


def deploy_suite(suite: Suite, parties: dict[str, bytes]) -> Generator[Deploy | Batch, bytes | None, dict[str, bytes]]:
    """A contract suite as it describes itself, by the operator; addresses by contract name."""
    contracts: dict[str, bytes] = {}
    for deployment in suite.deployments:
        arguments = resolve(deployment.arguments, parties, contracts)
        contracts[deployment.name] = yield from deployed(Deploy(deployment.name, deployment.source_text(), arguments))
    yield [
        SetupCall(contracts[call.contract], call.method, resolve(call.arguments, parties, contracts))
        for call in suite.wiring
    ]
    return contracts


def deployed(step: Deploy) -> Generator[Deploy | Batch, bytes | None, bytes]:
    """The address of a new contract."""
    address = yield step
    if address is None:
        raise BenchError("the set-up was not sent the address of its contract")
    return address


async def carry_out(client: Client, setup: Callable[[Start], Setup]) -> bytes:
    """Run a set-up on the network behind `client`, whose key is the operator's."""
    key = client.key
    if key is None:
        raise BenchError("a set-up needs a client with the operator's key")
    await client.status()  # the height that the next calls begin from
    start = Start(operator=key.address, now_ms=int(time.time() * 1_000))
    steps = setup(start)
    answer: bytes | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as ended:
            return bytes(ended.value)
        answer = None
        if isinstance(step, Deploy):
            name = f"{step.name}.{start.now_ms}"  # it may not be the first set-up of this network
            answer = await client.deploy(name, step.source, *step.arguments, timeout_ms=SETUP_TIMEOUT_MS)
            continue
        calls = iter(step)
        while part := list(islice(calls, SETUP_AT_ONCE)):
            await _send(client, part, key)


async def _send(client: Client, calls: list[SetupCall], operator: PrivateKey) -> None:
    transactions = [
        await client.sign(
            call.target, call.method, *call.arguments, gas_limit=call.gas_limit,
            key=operator if call.signer is None else account(call.signer),
        )
        for call in calls
    ]  # fmt: skip
    first = client.height + 1
    for call, result in zip(calls, await client.submit(transactions), strict=True):
        if result.code:
            raise BenchError(f"set-up refused: {call.method}: {result.message}")
    outcomes = await client.wait_for_receipts(
        [transaction.hash for transaction in transactions], from_height=first, timeout_ms=SETUP_TIMEOUT_MS
    )
    for call, transaction in zip(calls, transactions, strict=True):
        outcome = outcomes.get(transaction.hash)
        if outcome is None or outcome.status:
            raise BenchError(f"set-up failed: {call.method}: {'not certified' if outcome is None else outcome.status}")
