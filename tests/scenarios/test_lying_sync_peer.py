"""A peer that lies to a node that is behind: real stores, real gateways, real checks; named after what is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
import pytest

from chain.codec import decode, encode
from chain.model.block import (
    Certificate,
    Proposal,
    Receipt,
    decode_header,
    encode_header,
    header_hash,
    proposal_digest,
)
from chain.model.merkle import merkle_root
from chain.model.validators import ValidatorSchedule
from chain.node.archive import NodeArchive
from chain.node.consortium import NetworkInfo
from chain.pool import Pool, PoolLimits
from chain.store import JournalProposal, Store, StoredBlock, open_store
from chain.store.layout import pack_parts, unpack_parts
from chain.sync import BlockChecker, BlockFetcher, CheckedBlock, RequestKind
from chain.sync.server import SyncServer
from chain.sync.wire import BLOCKS_PER_ANSWER_MAX, BlocksAnswer, BlocksRequest, FetchedBlock, TipAnswer
from chain.types import Digest, Height, ValidatorId
from tests.integration.gateways import DEADLINE_S, Node, make_network, make_node, run, running
from tests.unit.pool.transactions import make_transaction
from tests.unit.store.factory import ChainFactory

HEIGHTS: Final = 80
FACTORY: Final = ChainFactory()
CHAIN_ID: Final = Digest(FACTORY.genesis_header.chain_id)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return make_network(tmp_path_factory.mktemp("sync"))


def receipt(transaction_hash: bytes) -> bytes:
    return encode(Receipt(transaction_hash=transaction_hash, status=0, gas_used=1, result=b"", error="", events=()))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A chain of small blocks, certified by a quorum, every other one empty."""
    opened = open_store(tmp_path_factory.mktemp("honest"), FACTORY.genesis_header)
    parent = FACTORY.genesis_header
    for height in range(1, HEIGHTS + 1):
        transactions = [make_transaction(height, chain_id=CHAIN_ID)] if height % 2 else []
        hashes = [transaction.hash for transaction in transactions]
        proposal = Proposal(
            chain_id=CHAIN_ID, height=height, timestamp_ms=height, proposer=bytes(20), hashes=b"".join(hashes)
        )
        digest = proposal_digest(proposal)
        header = msgspec.structs.replace(
            parent, height=height, time_ms=height, parent_hash=header_hash(parent), proposal_digest=digest,
            validator_set_hash=FACTORY.validators.digest, transaction_count=len(hashes),
            transaction_root=merkle_root(hashes),
        )  # fmt: skip
        raws = [transaction.raw for transaction in transactions]
        opened.journal.write(proposals=[JournalProposal(height, digest, encode(proposal), raws)])
        block = StoredBlock(
            header=encode_header(header), certificate=encode(FACTORY.certify(header)), proposal_digest=digest,
            skipped=(), hashes=b"".join(hashes), receipts=tuple(map(receipt, hashes)), writes=b"",
        )  # fmt: skip
        opened.blocks.append([block])
        parent = header
    yield opened
    opened.close()


Lie = Callable[[BlocksRequest, BlocksAnswer], BlocksAnswer]


class Victim:
    """A node that is behind: the real fetcher over its gateway; what is posted counts as executed at once."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.posted: list[CheckedBlock] = []
        self.faults: list[tuple[ValidatorId, str]] = []
        self.asked = 0

    @property
    def height(self) -> Height:
        return Height(len(self.posted))

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        self.asked += 1
        return await self.node.gateway.request(peer, int(kind), payload, timeout_s)

    async def keep(self, blocks: Sequence[CheckedBlock]) -> None:
        return

    def post(self, block: CheckedBlock) -> None:
        assert block.header.height == len(self.posted) + 1
        self.posted.append(block)
        self.fetcher.progressed()

    async def catch_up(self, last: int, sources: Sequence[ValidatorId]) -> None:
        schedule = ValidatorSchedule(FACTORY.validators)
        tasks: list[asyncio.Task[None]] = []

        def spawn(work: Awaitable[None]) -> asyncio.Task[None]:
            tasks.append(asyncio.ensure_future(work))
            return tasks[-1]

        with ThreadPoolExecutor(1) as thread:
            self.fetcher = BlockFetcher(
                ask=self.ask, checker=BlockChecker(chain_id=CHAIN_ID, schedule=lambda: schedule),
                schedule=lambda: schedule, keep=self.keep, post=self.post, certified_height=lambda: self.height,
                deliverable=lambda: Height(self.height + 32), peers=self.node.gateway.connected,
                fault=lambda peer, reason: self.faults.append((peer, reason)), spawn=spawn, thread=thread,
            )  # fmt: skip
            self.fetcher.want(Height(1), Height(last), sources)
            async with asyncio.timeout(DEADLINE_S):
                await tasks[0]


def scene(
    network: NetworkInfo,
    store: Store,
    lie: Lie,
    *,
    tip: int = HEIGHTS,
    last: int = HEIGHTS,
    before: Callable[[BlocksRequest], Awaitable[None]] | None = None,
) -> tuple[Victim, ValidatorId]:
    """The victim catches up with a liar and an honest peer; it must end with the genuine chain. Returns the liar's id.

    `tip` is the height that the liar claims to have, `last` what the victim's core was told, `before` is awaited
    before the liar answers.
    """
    victim, honest, liar = make_node(network, 0), make_node(network, 1), make_node(network, 2)
    server = SyncServer(NodeArchive(store, Pool(PoolLimits())))
    world = Victim(victim)

    async def answer(peer: ValidatorId, kind: int, payload: bytes) -> bytes:
        return server.answer(kind, payload)

    async def lying_answer(peer: ValidatorId, kind: int, payload: bytes) -> bytes:
        if kind == RequestKind.TIP:
            return encode(TipAnswer(height=tip, base=1, snapshots=()))
        request = decode(BlocksRequest, payload)
        if before is not None:
            await before(request)
        return encode(lie(request, decode(BlocksAnswer, server.answer(kind, payload))))

    honest.serve, liar.serve = answer, lying_answer

    async def play() -> None:
        async with running(victim, honest, liar):
            await world.catch_up(last, (liar.id, honest.id))

    run("asyncio", play())
    assert [encode_header(block.header) for block in world.posted] == store.blocks.headers(1, HEIGHTS)
    assert honest.id not in {peer for peer, _ in world.faults}
    return world, liar.id


# --- lies that a check finds ---


def on_each(change: Callable[[FetchedBlock], FetchedBlock]) -> Lie:
    return lambda request, truth: BlocksAnswer(blocks=tuple(change(block) for block in truth.blocks))


def with_header(block: FetchedBlock, certificate: Callable[[Certificate], Certificate] | None = None) -> FetchedBlock:
    """Another state root, and a certificate that names it."""
    header = msgspec.structs.replace(decode_header(block.header), state_root=bytes(range(32)))
    held = msgspec.structs.replace(decode(Certificate, block.certificate), digest=header_hash(header))
    held = held if certificate is None else certificate(held)
    return msgspec.structs.replace(block, header=encode_header(header), certificate=encode(held))


def an_empty_block_that_nobody_signed(block: FetchedBlock) -> FetchedBlock:
    """All parts belong together; only the quorum is missing."""
    proposal = msgspec.structs.replace(decode(Proposal, unpack_parts(block.bodies)[0]), hashes=b"")
    header = msgspec.structs.replace(
        decode_header(block.header), proposal_digest=proposal_digest(proposal), transaction_count=0,
        transaction_root=merkle_root([]),
    )  # fmt: skip
    certificate = msgspec.structs.replace(
        decode(Certificate, block.certificate), digest=header_hash(header), signatures=()
    )
    return msgspec.structs.replace(
        block, bodies=pack_parts((encode(proposal),)), header=encode_header(header), certificate=encode(certificate)
    )


def signed_by_one(block: FetchedBlock) -> FetchedBlock:
    """A liar's own signature is genuine, and it has only one."""
    header = msgspec.structs.replace(decode_header(block.header), state_root=bytes(range(32)))
    certificate = FACTORY.certify(header, signers=1)
    return msgspec.structs.replace(block, header=encode_header(header), certificate=encode(certificate))


def signed_by_one_three_times(block: FetchedBlock) -> FetchedBlock:
    certificate = decode(Certificate, signed_by_one(block).certificate)
    return msgspec.structs.replace(
        signed_by_one(block),
        certificate=encode(msgspec.structs.replace(certificate, signatures=certificate.signatures * 3)),
    )


def signed_by_strangers(block: FetchedBlock) -> FetchedBlock:
    """A quorum, of another consortium."""
    header = msgspec.structs.replace(decode_header(block.header), state_root=bytes(range(32)))
    return msgspec.structs.replace(
        block, header=encode_header(header), certificate=encode(ChainFactory(name="strangers").certify(header))
    )


def of_a_set_of_its_own(block: FetchedBlock) -> FetchedBlock:
    """Strangers again, and the header names their set: nobody here knows it, until the height's set is certain."""
    strangers = ChainFactory(name="strangers")
    header = msgspec.structs.replace(decode_header(block.header), validator_set_hash=strangers.validators.digest)
    return msgspec.structs.replace(
        block, header=encode_header(header), certificate=encode(strangers.certify(header))
    )


def with_other_bodies(block: FetchedBlock) -> FetchedBlock:
    proposal, *raws = unpack_parts(block.bodies)
    return msgspec.structs.replace(block, bodies=pack_parts((proposal, *raws, make_transaction(999).raw)))


LIES: Final[dict[str, Lie]] = {
    "a forged block": on_each(with_header),
    "an empty block that nobody signed": on_each(an_empty_block_that_nobody_signed),
    "a block that the liar alone signed": on_each(signed_by_one),
    "a block that the liar signed three times": on_each(signed_by_one_three_times),
    "a block that strangers signed": on_each(signed_by_strangers),
    "a block of a validator set of its own": on_each(of_a_set_of_its_own),
    "a block with another transaction": on_each(with_other_bodies),
    "blocks in another order": lambda request, truth: BlocksAnswer(blocks=truth.blocks[::-1]),
    "one block again and again": lambda request, truth: BlocksAnswer(blocks=truth.blocks[:1] * len(truth.blocks)),
    "blocks with a gap": lambda request, truth: BlocksAnswer(blocks=(*truth.blocks[:1], *truth.blocks[2:])),
    "nonsense": on_each(lambda block: msgspec.structs.replace(block, header=b"nonsense")),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_peer_is_named_and_the_genuine_chain_is_taken(network: NetworkInfo, store: Store, lie: str) -> None:
    victim, liar = scene(network, store, LIES[lie])
    assert {peer for peer, _ in victim.faults} == {liar}
    assert len(victim.faults) == 1  # then it is asked no more
    assert victim.asked < 20


def test_one_bad_block_behind_many_good_ones_is_found(network: NetworkInfo, store: Store) -> None:
    def lie(request: BlocksRequest, truth: BlocksAnswer) -> BlocksAnswer:
        return BlocksAnswer(blocks=(*truth.blocks[:-1], with_header(truth.blocks[-1])))

    victim, liar = scene(network, store, lie)
    assert [peer for peer, _ in victim.faults] == [liar]


# --- lies by leaving out, or by promising ---


def test_a_peer_that_withholds_what_it_has_is_passed_over(network: NetworkInfo, store: Store) -> None:
    victim, _ = scene(network, store, lambda request, truth: BlocksAnswer(blocks=()))
    assert victim.faults == []
    assert victim.asked < 20


def test_a_peer_that_gives_one_block_at_a_time_does_not_hold_the_others_back(
    network: NetworkInfo, store: Store
) -> None:
    victim, _ = scene(network, store, lambda request, truth: BlocksAnswer(blocks=truth.blocks[:1]))
    assert victim.faults == []
    assert victim.asked <= HEIGHTS + 10


def test_a_peer_that_gives_more_than_was_asked_for_is_heard_as_far_as_it_was_asked(
    network: NetworkInfo, store: Store
) -> None:
    everything = SyncServer(NodeArchive(store, Pool(PoolLimits()))).answer(
        RequestKind.BLOCKS, encode(BlocksRequest(first=1, last=BLOCKS_PER_ANSWER_MAX))
    )

    def lie(request: BlocksRequest, truth: BlocksAnswer) -> BlocksAnswer:
        return BlocksAnswer(blocks=truth.blocks + decode(BlocksAnswer, everything).blocks * 20)

    victim, _ = scene(network, store, lie)
    assert len(victim.posted) == HEIGHTS


@pytest.mark.parametrize("height", [HEIGHTS + 1_000, 2**62, 2**63 - 1, 2**64 - 1])
def test_a_claim_of_a_huge_height_neither_fills_memory_nor_keeps_the_node_busy_for_ever(
    network: NetworkInfo, store: Store, height: int
) -> None:
    """Claimed to the core (`last`) and as a tip; there is nothing up there, and the run ends."""
    victim, _ = scene(network, store, lambda request, truth: truth, tip=height, last=min(height, 2**63 - 1))
    assert not victim.fetcher.running
    assert victim.asked < 40


@pytest.mark.slow
def test_a_peer_that_never_answers_costs_one_time_out(network: NetworkInfo, store: Store) -> None:
    async def never(request: BlocksRequest) -> None:
        await asyncio.Event().wait()

    victim, _ = scene(network, store, lambda request, truth: truth, before=never)
    assert victim.faults == []
