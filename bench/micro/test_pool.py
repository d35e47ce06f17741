"""The way of a transaction into the pool and into a proposal: microseconds of CPU a transaction, all threads.

Signatures go through the real verifier with its threads, and whether a transaction is executed already is looked up in
the index of a real store with 100,000 transactions, behind its filter. Batches come one after the other: many small
ones at once share their signature checks, and cost what a large one costs.

    test_intake     from raw bytes to the pool; `checks_us_per_transaction` of that are the signatures
    test_pool       the pool alone: added, chosen, reserved, removed
    test_pack       the pack stage: chosen, hashed into a proposal, reserved, handed to the core
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
import uvloop

from bench.micro.figures import CPU, note_cpu
from bench.micro.stored import fill
from chain.crypto import Verifier
from chain.crypto.batches import checker_of
from chain.model.block import Proposal
from chain.model.genesis import ChainParameters
from chain.model.transaction import Transaction
from chain.node.executed import ExecutedTransactions
from chain.pipeline.bodies import Bodies, LiveProposal
from chain.pipeline.pack import PackRequest, PackStage
from chain.pipeline.spans import CpuMeter, Spans
from chain.pool import Intake, Pool, PoolLimits
from chain.types import Digest, Height, Instant, ValidatorId, View
from tests.unit.pool.transactions import CHAIN_ID, make_transaction

pytestmark = CPU

STORED_BLOCKS: Final = 50  # of 2,000 transactions
PER_ROUND: Final = 400  # transactions at most
BATCHES_MAX: Final = 10  # of a round of `test_intake`: a small batch waits for company, which takes time, not CPU
ROUNDS: Final = 10
WARMUP: Final = 2
NOW: Final = Instant(1_000)
EACH_SIZE: Final = pytest.mark.parametrize("size", [5, 40, 400])


@pytest.fixture(scope="module")
def transactions() -> list[list[Transaction]]:
    """Of each round."""
    numbers = iter(range((WARMUP + ROUNDS) * PER_ROUND))
    return [[make_transaction(next(numbers)) for _ in range(PER_ROUND)] for _ in range(WARMUP + ROUNDS)]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutedTransactions]:
    store = fill(tmp_path_factory.mktemp("filled") / "blocks", STORED_BLOCKS)
    yield ExecutedTransactions(store, Height(store.height()))
    store.close()


@EACH_SIZE
def test_intake(
    benchmark: Any, known: ExecutedTransactions, transactions: list[list[Transaction]], size: int
) -> None:
    checker, pool = checker_of("auto"), Pool(PoolLimits())
    rounds = iter(transactions)
    count = min(PER_ROUND, BATCHES_MAX * size)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def make() -> Verifier:
            return Verifier(2, checker.check, checker.batching)

        verifier = runner.run(make())
        intake = Intake(
            pool=pool, verifier=verifier, known=known, chain_id=CHAIN_ID, lifetime_max=1_000,
            transaction_gas_max=100_000_000, height=lambda: Height(1), now=lambda: NOW,
        )  # fmt: skip

        async def submit(batches: list[list[bytes]]) -> None:
            for batch in batches:
                _, added = await intake.submit(batch)
                assert len(added) == len(batch)

        def given() -> tuple[tuple[list[list[bytes]]], dict[str, Any]]:
            raws = [transaction.raw for transaction in next(rounds)]
            return ([raws[at : at + size] for at in range(0, count, size)],), {}

        benchmark.pedantic(
            lambda batches: runner.run(submit(batches)), setup=given, rounds=ROUNDS, warmup_rounds=WARMUP
        )
        runner.run(verifier.close())
    note_cpu(benchmark, transaction=count, batch=count // size)
    benchmark.extra_info["checks_us_per_transaction"] = round(verifier.cpu_us / max(1, verifier.items_checked), 2)
    benchmark.extra_info["signatures_by"] = checker.name


@EACH_SIZE
def test_pool(benchmark: Any, transactions: list[list[Transaction]], size: int) -> None:
    pool = Pool(PoolLimits())
    chosen = transactions[0]
    batches = [chosen[at : at + size] for at in range(0, PER_ROUND, size)]

    def live() -> None:
        for batch in batches:
            for transaction in batch:
                pool.add(transaction, NOW)
            taken = pool.select(height=Height(1), count_max=size, bytes_max=2**22, gas_max=2**31)
            pool.reserve(taken[0].hash, taken, NOW)
            pool.remove([transaction.hash for transaction in taken])

    benchmark(live)
    assert len(pool) == 0
    note_cpu(benchmark, transaction=PER_ROUND, batch=PER_ROUND // size)


class NoArchive:
    """Nothing is durable here."""

    def load_proposal(self, digest: Digest) -> LiveProposal | None:
        return None


@EACH_SIZE
def test_pack(benchmark: Any, transactions: list[list[Transaction]], size: int) -> None:
    """Blocks of `size`, each packed on request because so many wait."""
    rounds = iter(transactions)
    pool, packed = Pool(PoolLimits()), asyncio.Event()
    bodies = Bodies(NoArchive())
    proposals: list[Proposal] = []

    def take(view: View, proposal: Proposal) -> None:
        proposals.append(proposal)
        packed.set()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def start() -> PackStage:
            stage = PackStage(
                chain_id=CHAIN_ID, proposer=ValidatorId(b"\x01" * 20), pool=pool, bodies=bodies, spans=Spans(),
                parameters=ChainParameters(block_transactions_max=size), cpu=CpuMeter(), block_interval_ms=200,
                in_flight=lambda: 0, backlog=lambda: 0, backlog_max=8, wall_ms=lambda: NOW, packed=take,
            )  # fmt: skip
            running.append(asyncio.get_running_loop().create_task(stage.run()))
            return stage

        async def stop() -> None:
            running[0].cancel()
            await asyncio.gather(*running, return_exceptions=True)

        async def pack(blocks: int) -> None:
            for _ in range(blocks):
                packed.clear()
                stage.request(PackRequest(View(0), Height(len(proposals) + 1)))
                await packed.wait()

        def given() -> tuple[tuple[int], dict[str, Any]]:
            pool.remove([digest for proposal in proposals for digest in proposal.transaction_hashes()])
            proposals.clear()
            bodies.forget_up_to(PER_ROUND)
            for transaction in next(rounds):
                pool.add(transaction, NOW)
            return (PER_ROUND // size,), {}

        running: list[asyncio.Task[None]] = []
        stage = runner.run(start())
        benchmark.pedantic(
            lambda blocks: runner.run(pack(blocks)), setup=given, rounds=ROUNDS, warmup_rounds=WARMUP
        )
        runner.run(stop())
    assert sum(proposal.count for proposal in proposals) == PER_ROUND
    note_cpu(benchmark, transaction=PER_ROUND, block=PER_ROUND // size)
