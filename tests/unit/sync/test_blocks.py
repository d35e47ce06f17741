"""Fetching certified blocks: what a lying or lazy peer sends is not believed, the next peer is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from chain.codec import decode, encode
from chain.errors import PeerFault
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.model.transaction import join_transaction, split_transaction
from chain.sync import BlockFetcher, CheckedBlock, RequestKind
from chain.sync.wire import BlocksAnswer, BlocksRequest, FetchedBlock, ProposalBodies
from chain.types import ZERO_DIGEST, Height, ValidatorId
from tests.unit.pool.transactions import CHAIN_ID, make_transaction

LIAR = ValidatorId(b"\x01" * 20)
HONEST = ValidatorId(b"\x02" * 20)


def make_block(height: int) -> FetchedBlock:
    transaction = make_transaction(height)
    proposal = Proposal(chain_id=CHAIN_ID, height=height, timestamp_ms=height, proposer=HONEST, hashes=transaction.hash)
    header = Header(
        chain_id=CHAIN_ID, height=height, time_ms=height, parent_hash=ZERO_DIGEST,
        proposal_digest=proposal_digest(proposal), rule_set=1, validator_set_hash=ZERO_DIGEST, transaction_count=1,
        transaction_root=ZERO_DIGEST, receipt_root=ZERO_DIGEST, state_root=ZERO_DIGEST, gas_used=0,
    )  # fmt: skip
    certificate = Certificate(kind=4, view=0, height=height, digest=header_hash(header), signatures=())
    return FetchedBlock(
        bodies=ProposalBodies(proposal=encode(proposal), transactions=(transaction.raw,)),
        header=encode(header),
        certificate=encode(certificate),
    )


CHAIN = [make_block(height) for height in range(1, 8)]


class World:
    """Peers answer from their chains; what is delivered counts as stored."""

    def __init__(self, *, lie: Callable[[FetchedBlock], FetchedBlock] | None, batch: int = 3) -> None:
        self.lie = lie
        self.batch = batch
        self.delivered: list[int] = []
        self.faults: list[tuple[ValidatorId, str]] = []
        self.asked: list[ValidatorId] = []

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        assert kind is RequestKind.BLOCKS
        self.asked.append(peer)
        request = decode(BlocksRequest, payload)
        blocks = CHAIN[request.first - 1 : request.last][: self.batch]
        if peer == LIAR:
            if self.lie is None:
                raise TimeoutError
            blocks = [self.lie(block) for block in blocks]
        return encode(BlocksAnswer(blocks=tuple(blocks)))

    def check_certificate(self, certificate: Certificate, header: Header) -> None:
        """Stands for the quorum check, which has its own tests: a marked certificate is a forged one."""
        if certificate.view == 99:
            raise PeerFault("bad_signature")

    async def deliver(self, blocks: Sequence[CheckedBlock]) -> None:
        self.delivered += [block.header.height for block in blocks]

    async def wait_stored(self, height: Height, timeout_s: float) -> bool:
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.task = asyncio.get_running_loop().create_task(work)
        return self.task

    def run(self, sources: Sequence[ValidatorId], last: int = 7) -> None:
        async def scenario() -> None:
            thread = ThreadPoolExecutor(1)
            fetcher = BlockFetcher(
                ask=self.ask, check_certificate=self.check_certificate, deliver=self.deliver,
                stored_height=lambda: Height(self.delivered[-1] if self.delivered else 0),
                wait_stored=self.wait_stored, fault=lambda peer, reason: self.faults.append((peer, reason)),
                spawn=self.spawn,
                thread=thread,
            )  # fmt: skip
            fetcher.want(Height(1), Height(last), sources)
            async with asyncio.timeout(20):
                await self.task
            thread.shutdown()

        asyncio.run(scenario())


def change_header(**fields: Any) -> Callable[[FetchedBlock], FetchedBlock]:
    """A consistent lie: header and certificate match, the contents differ."""

    def lie(block: FetchedBlock) -> FetchedBlock:
        header = msgspec.structs.replace(decode(Header, block.header), **fields)
        certificate = msgspec.structs.replace(decode(Certificate, block.certificate), digest=header_hash(header))
        return msgspec.structs.replace(block, header=encode(header), certificate=encode(certificate))

    return lie


def change_certificate(**fields: Any) -> Callable[[FetchedBlock], FetchedBlock]:
    def lie(block: FetchedBlock) -> FetchedBlock:
        certificate = msgspec.structs.replace(decode(Certificate, block.certificate), **fields)
        return msgspec.structs.replace(block, certificate=encode(certificate))

    return lie


def drop_body(block: FetchedBlock) -> FetchedBlock:
    return msgspec.structs.replace(block, bodies=msgspec.structs.replace(block.bodies, transactions=()))


def swap_body(block: FetchedBlock) -> FetchedBlock:
    return msgspec.structs.replace(
        block, bodies=msgspec.structs.replace(block.bodies, transactions=(make_transaction(99).raw,))
    )


def forge_signature(block: FetchedBlock) -> FetchedBlock:
    body, _ = split_transaction(block.bodies.transactions[0])
    forged = (join_transaction(body, bytes(64)),)
    return msgspec.structs.replace(block, bodies=msgspec.structs.replace(block.bodies, transactions=forged))


def check_liar_is_passed_over(lie: Callable[[FetchedBlock], FetchedBlock] | None) -> World:
    """A lie is counted against the liar, silence is not."""
    world = World(lie=lie)
    world.run([LIAR, HONEST])
    assert world.delivered == [1, 2, 3, 4, 5, 6, 7]
    assert world.asked[0] == LIAR
    assert {peer for peer, _ in world.faults} == ({LIAR} if lie else set())
    return world


def test_a_chain_is_fetched_in_batches_and_in_order() -> None:
    world = World(lie=None)
    world.run([HONEST])
    assert world.delivered == [1, 2, 3, 4, 5, 6, 7]
    assert len(world.asked) == 3


def test_a_forged_certificate_is_not_believed() -> None:
    check_liar_is_passed_over(change_certificate(view=99))


def test_a_certificate_of_another_header_is_not_believed() -> None:
    check_liar_is_passed_over(change_certificate(digest=bytes(32)))


def test_a_block_of_another_height_is_not_believed() -> None:
    check_liar_is_passed_over(change_header(height=5))


def test_a_header_of_another_proposal_is_not_believed() -> None:
    check_liar_is_passed_over(change_header(proposal_digest=bytes(32)))


def test_missing_or_other_bodies_are_not_believed() -> None:
    check_liar_is_passed_over(drop_body)
    check_liar_is_passed_over(swap_body)


def test_a_body_with_another_signature_is_not_believed() -> None:
    check_liar_is_passed_over(forge_signature)


def test_a_silent_peer_is_passed_over() -> None:
    check_liar_is_passed_over(None)


def test_nothing_but_liars_ends_the_run_and_delivers_nothing() -> None:
    world = World(lie=drop_body)
    world.run([LIAR])
    assert world.delivered == []
    assert 1 < len(world.faults) < 10
