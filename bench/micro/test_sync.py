"""Catching up, blocks of 200 payments: what a peer pays to serve one, and what whoever fetched it pays to check it.

Checked is everything but the order of heights: hashes, each transaction's signature, the certificate. Executing the
block comes on top (test_executor), and so does making it durable (test_store).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bench.micro.figures import CPU, note_cpu
from bench.sync.chain import ChainMaker, SmallBlocks
from chain.codec import decode, encode
from chain.crypto.batches import checker_of
from chain.model.genesis import chain_id
from chain.model.validators import ValidatorSchedule
from chain.node.archive import NodeArchive, open_node_store
from chain.pool import Pool, PoolLimits
from chain.sync import RequestKind, SyncServer
from chain.sync.checking import BlockChecker
from chain.sync.wire import BlocksAnswer, BlocksRequest, FetchedBlock
from tests.unit.sync.chain import ACCOUNTS, KEYS, OPERATOR, make_genesis

pytestmark = CPU

PAYMENTS: Final = 200  # a block
BLOCKS: Final = 8


class Peer:
    """Serves the last `BLOCKS` of its chain."""

    def __init__(self, folder: Path) -> None:
        self.genesis = make_genesis(interval=0)
        maker = ChainMaker(folder, self.genesis, KEYS)
        payments = SmallBlocks(maker, OPERATOR, accounts=ACCOUNTS, payments=PAYMENTS)
        self.first = maker.tip.height + 1
        payments.add(BLOCKS)
        maker.close()
        self.store = open_node_store(folder, self.genesis)
        self.server = SyncServer(NodeArchive(self.store, Pool(PoolLimits())))

    def answer(self, blocks: int) -> bytes:
        request = BlocksRequest(first=self.first, last=self.first + blocks - 1)
        return self.server.answer(RequestKind.BLOCKS, encode(request))

    def blocks(self, count: int) -> tuple[FetchedBlock, ...]:
        return decode(BlocksAnswer, self.answer(count)).blocks


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    serving = Peer(tmp_path_factory.mktemp("peer"))
    yield serving
    serving.store.close()


def test_serve_blocks(benchmark: Any, peer: Peer) -> None:
    answer = benchmark(peer.answer, BLOCKS)
    assert len(decode(BlocksAnswer, answer).blocks) == BLOCKS
    note_cpu(benchmark, block=BLOCKS)


@pytest.mark.parametrize("count", [1, BLOCKS])
def test_check_fetched_blocks(benchmark: Any, peer: Peer, count: int) -> None:
    """From the peer's answer on; the signatures of all blocks of an answer are one batch."""
    signatures = checker_of("auto")
    schedule = ValidatorSchedule.of_genesis(peer.genesis)
    checker = BlockChecker(chain_id=chain_id(peer.genesis), schedule=lambda: schedule, verify=signatures.check)
    answer = peer.answer(count)

    def check() -> int:
        blocks = checker.check(decode(BlocksAnswer, answer).blocks, peer.first)
        return sum(len(block.transactions) for block in blocks if block.certified_by)

    assert check() == count * PAYMENTS  # the kernel is compiled by now
    assert benchmark(check) == count * PAYMENTS
    note_cpu(benchmark, transaction=count * PAYMENTS, block=count)
    benchmark.extra_info["signatures_by"] = signatures.name
