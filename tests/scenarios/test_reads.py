"""What the API shows of a node whose store, pool and consensus are at different points; after Jepsen's report on Radix.

The API's own side over a real store and a real pool; what a running node would do to them is done here by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chain.model.transaction import transaction_hash
from chain.node.node import Node
from chain.node.services import Services
from chain.node.tracker import OrderedTransactions, Waiters
from chain.pool import Pool, PoolLimits
from chain.rpc.services import TransactionState
from chain.store import JournalProposal, Store, open_store
from chain.types import Digest, Height, Instant
from tests.unit.pool.transactions import make_transaction
from tests.unit.store.factory import ChainFactory, Made, some_writes

SHORT_MS = 50


class World:
    """A node as far as reads look at it."""

    def __init__(self, store: Store, chain: ChainFactory) -> None:
        self.store, self.chain = store, chain
        self.node: Any = SimpleNamespace(
            genesis=chain.genesis, store=store, pool=Pool(PoolLimits()), ordered=OrderedTransactions(),
            waiters=Waiters(), last_header=store.blocks.tip(), validators=chain.validators, observers=(),
        )  # fmt: skip
        self.services = Services(cast("Node", self.node))

    def write(self, *, told: bool = True) -> Made:
        """The next block becomes durable; `told`: the node's loop has heard of it."""
        made = self.chain.block(some_writes(self.chain.tip.height + 1))
        proposal = JournalProposal(made.header.height, made.header.proposal_digest, made.proposal, made.bodies)
        self.store.journal.write(proposals=[proposal])
        self.store.blocks.append([made.block])
        self.store.state.apply([(made.header.height, made.header.state_root, made.writes)])
        if told:
            self.tell(made)
        return made

    def tell(self, made: Made) -> None:
        self.node.last_header = made.header
        self.node.ordered.take(made.header.height)
        self.node.waiters.wake_transactions(made.hashes)
        self.node.waiters.wake_heights(Height(made.header.height))

    def state(self, tx_hash: bytes) -> TransactionState:
        status = asyncio.run(self.services.wait_transaction(tx_hash, "accepted", 0))
        return TransactionState(status.state)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header)
    yield World(store, chain)
    store.close()


def test_an_intermediate_value_is_shown(world: World) -> None:
    """A block that is on disk and of which the node has not heard yet is not there, in no answer at all."""
    world.write()
    second = world.write(told=False)
    services = world.services
    assert services.certified_height() == 1

    async def looks() -> list[object]:
        return [
            await services.header(2), await services.certificate(2), await services.receipts(2),
            await services.hashes(2), await services.proposal(2),
        ]  # fmt: skip

    assert asyncio.run(looks()) == [None] * 5
    assert [world.state(one) for one in second.hashes] == [TransactionState.UNKNOWN] * len(second.hashes)
    world.tell(second)
    assert None not in asyncio.run(looks())
    assert {world.state(one) for one in second.hashes} == {TransactionState.CERTIFIED}


def test_what_is_ordered_is_shown_as_certified(world: World) -> None:
    """Ordered is not final: no receipt is shown before the certificate."""
    tx_hash = transaction_hash(b"ordered")
    world.node.ordered.put(Height(1), [tx_hash])
    status = asyncio.run(world.services.wait_transaction(tx_hash, "certified", SHORT_MS))
    assert (status.state, status.receipt) == (TransactionState.ORDERED, None)


def test_a_committed_transaction_is_missing_from_an_index(world: World) -> None:
    """Header, hashes, receipts and the index by transaction are of one write."""
    for _ in range(5):
        world.write()
    for made in world.chain.made:
        for position, one in enumerate(made.hashes):
            location = world.store.blocks.transaction_location(one)
            assert location == (made.header.height, position)
            status = asyncio.run(world.services.wait_transaction(one, "certified", 0))
            assert (status.state, status.height) == (TransactionState.CERTIFIED, made.header.height)
            assert status.receipt == made.block.receipts[position]


def test_a_transactions_fate_stays_unknown_for_ever(world: World) -> None:
    """Whoever waits learns that it has expired, and then it can never be executed any more."""
    transaction = make_transaction(1, expiry=2)
    world.node.pool.add(transaction, Instant(0))
    assert world.state(transaction.hash) is TransactionState.PENDING

    async def scene() -> TransactionState:
        waiting = asyncio.ensure_future(world.services.wait_transaction(transaction.hash, "certified", 60_000))
        await asyncio.sleep(0)
        for _ in range(2):
            world.write()
            world.node.waiters.wake_transactions(world.node.pool.expire(Height(world.node.last_header.height)))
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            return TransactionState((await waiting).state)

    assert asyncio.run(scene()) is TransactionState.EXPIRED
    assert world.node.last_header.height >= transaction.expiry
    assert Digest(transaction.hash) not in world.node.pool


def test_a_stale_value_is_shown(world: World) -> None:
    """Who has seen height h and asks for it gets h or later, or waits, or is told that it is not there yet."""
    world.write()

    async def scene() -> tuple[bool, bool, bool]:
        there = await world.services.wait_height(1, 0)
        early = await world.services.wait_height(2, SHORT_MS)
        waiting = asyncio.ensure_future(world.services.wait_height(2, 60_000))
        await asyncio.sleep(0)
        world.write()
        async with asyncio.timeout(10):
            return there, early, await waiting

    assert asyncio.run(scene()) == (True, False, True)
