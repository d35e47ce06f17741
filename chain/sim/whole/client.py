"""Clients: they sign, send to some node, wait for the certified receipt, and try another node when one is silent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from chain.crypto import PrivateKey
from chain.errors import StoreError
from chain.model.signing import sign_transaction
from chain.rpc.services import TransactionState
from chain.sim.whole.keys import account
from chain.sim.whole.loop import Process
from contracts.system import SYSTEM_ADDRESS
from contracts.system.contract import contract_address

if TYPE_CHECKING:
    from chain.sim.whole.member import Member
    from chain.sim.whole.world import World

SOURCE: Final = '''"""Accounts that move money."""


class Moved(Event):
    """Who has how much now."""

    name: str
    amount: int


class Ledger(Contract):
    """Reads what it writes, so that every lost or doubled execution shows in the state."""

    amounts: Map[str, int]
    moves: Value[int]

    @external
    def put(self, name: str, amount: int) -> int:
        require(amount > 0, "amount")
        self.amounts[name] = self.amounts.get(name, 0) + amount
        self.moves.add(1)
        emit(Moved(name=name, amount=self.amounts[name]))
        return self.amounts[name]

    @external
    def move(self, source: str, target: str, amount: int):
        left = self.amounts.get(source, 0) - amount
        require(left >= 0, "not_enough")
        self.amounts[source] = left
        self.amounts[target] = self.amounts.get(target, 0) + amount
        self.moves.add(1)
'''
GAS: Final = 3_000_000
DEPLOY_GAS: Final = 20_000_000
NAMES: Final = ("ada", "ben", "cleo", "dan")
ANSWER_S: Final = 5.0  # so long a client waits for one node
WAIT_MS: Final = 4_000
TRIES_PAUSE_S: Final = 0.3


@dataclass(slots=True, eq=False)
class Request:
    """One transaction of a client."""

    raw: bytes
    hash: bytes
    expiry: int
    done: bool = False  # certified, or it can never be any more
    height: int = 0  # where it was certified


class Clients:
    """All clients of a run. `requests` is every transaction made, in order."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self.requests: list[Request] = []
        self.receipts: dict[bytes, int] = {}  # what clients were shown as certified: transaction -> height
        self.refused: dict[str, int] = {}
        deployment = self._make(SYSTEM_ADDRESS, "deploy", ("ledger", SOURCE, b"\x90"), life=10_000, gas=DEPLOY_GAS)
        self._contract = contract_address(deployment.hash)
        self._pending = [deployment]

    @property
    def open(self) -> list[Request]:
        return [request for request in self.requests if not request.done]

    def make(self) -> Request:
        """The next transaction: a deposit, or a move that may fail."""
        if self._pending:
            return self._pending.pop()
        random, plan = self._random, self._world.plan
        life = 10_000
        if plan.short_expiry_rate and random.randrange(1_000) < plan.short_expiry_rate:
            life = random.randint(1, 12)
        one, other = random.choice(NAMES), random.choice(NAMES)
        if random.random() < 0.5:
            return self._make(self._contract, "put", (one, random.randint(1, 50)), life=life, gas=GAS)
        return self._make(self._contract, "move", (one, other, random.randint(1, 60)), life=life, gas=GAS)

    def system(self, key: PrivateKey, method: str, arguments: tuple[Any, ...]) -> Request:
        """A call of the system contract."""
        return self._make(SYSTEM_ADDRESS, method, arguments, life=10_000, gas=DEPLOY_GAS, key=key)

    def _make(
        self,
        target: bytes,
        method: str,
        arguments: tuple[Any, ...],
        *,
        life: int,
        gas: int,
        key: PrivateKey | None = None,
    ) -> Request:
        world = self._world
        expiry = world.height + life
        transaction = sign_transaction(
            key or account(f"client {len(self.requests) % 3}"), chain_id=world.chain_id, target=target, method=method,
            arguments=arguments, expiry=expiry, gas_limit=gas, nonce=len(self.requests).to_bytes(16, "big"),
        )  # fmt: skip
        request = Request(transaction.raw, transaction.hash, expiry)
        self.requests.append(request)
        world.promises.expiries[request.hash] = expiry
        return request

    # --- one client ---

    async def run(self, number: int) -> None:
        """Make transactions until the chaos is over or there are enough of them."""
        world, plan = self._world, self._world.plan
        while world.chaos and len(self.requests) < plan.transactions_max:
            request = self.make()
            if self._random.random() < 0.8:
                world.spawn(self.bring_through(request))  # and does not wait for it
            else:
                await self.bring_through(request)
            await asyncio.sleep(self._random.randint(*plan.pause_ms) / 1_000)

    async def bring_through(self, request: Request) -> None:
        """Until it is certified or has expired."""
        world = self._world
        while not request.done:
            member = self._random.choice(world.honest)
            if member.running:
                await self._try(member, request)
            if world.height >= request.expiry and request.hash not in world.promises.executed:
                request.done = True
            if not request.done:
                await asyncio.sleep(TRIES_PAUSE_S * self._random.uniform(0.1, 2.0))

    async def _try(self, member: Member, request: Request) -> None:
        """One attempt at one node, which may die meanwhile."""
        process = member.process
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._world.call(member, self._ask(member, request))
        except (TimeoutError, ConnectionError):
            return
        except StoreError:
            if process.alive and not member.stopping:
                raise

    async def _ask(self, member: Member, request: Request) -> None:
        """In the node's process: what its API would do."""
        services = member.services
        (result,) = await services.submit([request.raw])
        if result.error:
            self.refused[result.error] = self.refused.get(result.error, 0) + 1
        patience_ms = WAIT_MS if result.error in ("", "duplicate") else 0  # "expired" may be what was executed before
        status = await services.wait_transaction(request.hash, "certified", patience_ms)
        if status.state is TransactionState.CERTIFIED and member.process.alive:
            self._world.check_receipt(member, request.hash, status)
            self.receipts[request.hash] = request.height = status.height or 0
            request.done = True


def gone(process: Process) -> ConnectionError:
    return ConnectionError(f"{process.name} has ended")
