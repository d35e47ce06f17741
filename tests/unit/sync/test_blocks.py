"""Fetching certified blocks: from several peers at once, in order; what a lying or lazy peer sends is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from chain.codec import decode, encode
from chain.errors import PeerFault
from chain.model.block import Certificate, Proposal, decode_header, encode_header, header_hash, proposal_digest
from chain.model.transaction import join_transaction, split_transaction
from chain.model.validators import ValidatorSchedule
from chain.store.layout import pack_integers, pack_parts, unpack_parts
from chain.sync import BlockChecker, BlockFetcher, CheckedBlock, RequestKind
from chain.sync.wire import BlocksAnswer, BlocksRequest, FetchedBlock, TipAnswer
from chain.types import Height, ValidatorId
from tests.unit.pool.transactions import CHAIN_ID, make_transaction
from tests.unit.store.factory import ChainFactory

LIAR = ValidatorId(b"\x01" * 20)
HONEST = ValidatorId(b"\x02" * 20)
OTHER = ValidatorId(b"\x03" * 20)
OLD, NEW, STRANGE = (ChainFactory(name=name) for name in ("old", "new", "strange"))


def make_block(height: int, signer: ChainFactory = OLD, **fields: Any) -> FetchedBlock:
    """Certified by `signer`'s validators; `fields` of the header are changed before."""
    transaction = make_transaction(height)
    proposal = Proposal(chain_id=CHAIN_ID, height=height, timestamp_ms=height, proposer=HONEST, hashes=transaction.hash)
    header = msgspec.structs.replace(
        signer.genesis_header, chain_id=CHAIN_ID, height=height, proposal_digest=proposal_digest(proposal),
        validator_set_hash=signer.validators.digest, **fields,
    )  # fmt: skip
    return FetchedBlock(
        bodies=pack_parts((encode(proposal), transaction.raw)),
        header=encode_header(header),
        certificate=encode(signer.certify(header)),
        skipped=pack_integers(()),
    )


CHAIN = [make_block(height) for height in range(1, 13)]
AFTER_CHANGE = [*CHAIN[:6], *(make_block(height, NEW) for height in range(7, 13))]  # a new set is in force from 7 on


class World:
    """Peers answer from their chains; what is posted counts as executed and stored at once."""

    def __init__(
        self,
        *,
        chain: Sequence[FetchedBlock] = CHAIN,
        lie: Callable[[FetchedBlock], FetchedBlock] | None = None,
        batch: int = 3,
        window: int = 32,
        boundary: int | None = None,
        slow: bool = False,
    ) -> None:
        """With a `boundary` the new set is scheduled when the block `window` below it is executed."""
        self.chain = chain
        self.lie = lie
        self.batch = batch
        self.window = window
        self.boundary = boundary
        self.slow = slow  # a block is executed some turns of the loop after it was posted
        self.height = 0  # executed
        self.schedule = ValidatorSchedule(OLD.validators)
        self.posted: list[int] = []
        self.kept: list[int] = []
        self.faults: list[tuple[ValidatorId, str]] = []
        self.asked: list[ValidatorId] = []
        self.open = self.open_max = 0

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        if kind is RequestKind.TIP:
            return encode(TipAnswer(height=len(self.chain), base=1, snapshots=()))
        assert kind is RequestKind.BLOCKS
        self.asked.append(peer)
        self.open += 1
        self.open_max = max(self.open, self.open_max)
        await asyncio.sleep(0)
        self.open -= 1
        request = decode(BlocksRequest, payload)
        blocks = list(self.chain[request.first - 1 : request.last][: self.batch])
        if peer == LIAR:
            if self.lie is None:
                raise PeerFault("not_connected")
            blocks = [self.lie(block) for block in blocks]
        return encode(BlocksAnswer(blocks=tuple(blocks)))

    async def keep(self, blocks: Sequence[CheckedBlock]) -> None:
        self.kept += [block.header.height for block in blocks]

    def post(self, block: CheckedBlock) -> None:
        height = block.header.height
        assert height <= self.deliverable()
        assert height in self.kept, "bodies are durable first"
        self.posted.append(height)
        if self.slow:
            asyncio.get_running_loop().call_soon(self.execute, height)
        else:
            self.execute(height)

    def execute(self, height: int) -> None:
        self.height = height
        if self.boundary is not None and height == self.boundary - self.window:
            self.schedule.add(self.boundary + 1, NEW.validators)
        self.fetcher.progressed()

    def deliverable(self) -> Height:
        boundary = self.schedule.boundary(self.height + 1)
        return Height(self.height + self.window if boundary is None else min(self.height + self.window, boundary))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.task = asyncio.get_running_loop().create_task(work)
        return self.task

    def run(
        self, sources: Sequence[ValidatorId], last: int | None = None, peers: Sequence[ValidatorId] = ()
    ) -> World:
        async def scenario() -> None:
            with ThreadPoolExecutor(1) as thread:
                self.fetcher = BlockFetcher(
                    ask=self.ask, checker=BlockChecker(chain_id=CHAIN_ID, schedule=lambda: self.schedule),
                    schedule=lambda: self.schedule, keep=self.keep, post=self.post,
                    certified_height=lambda: Height(self.height), deliverable=self.deliverable, peers=lambda: peers,
                    fault=lambda peer, reason: self.faults.append((peer, reason)), spawn=self.spawn, thread=thread,
                )  # fmt: skip
                self.fetcher.want(Height(1), Height(last or len(self.chain)), sources)
                async with asyncio.timeout(20):
                    await self.task

        asyncio.run(scenario())
        return self


def change_header(signer: ChainFactory = OLD, **fields: Any) -> Callable[[FetchedBlock], FetchedBlock]:
    """A lie that holds together, and is certified by the validators of `signer`."""

    def lie(block: FetchedBlock) -> FetchedBlock:
        header = msgspec.structs.replace(decode_header(block.header), **fields)
        return msgspec.structs.replace(
            block, header=encode_header(header), certificate=encode(signer.certify(header))
        )

    return lie


def change_certificate(change: Callable[[Certificate], Certificate]) -> Callable[[FetchedBlock], FetchedBlock]:
    def lie(block: FetchedBlock) -> FetchedBlock:
        return msgspec.structs.replace(block, certificate=encode(change(decode(Certificate, block.certificate))))

    return lie


def of_another_header(block: FetchedBlock) -> FetchedBlock:
    """The header is changed, the certificate is the genuine one."""
    header = msgspec.structs.replace(decode_header(block.header), gas_used=99)
    return msgspec.structs.replace(block, header=encode_header(header))


def forge_header(block: FetchedBlock) -> FetchedBlock:
    """Header and certificate agree, but nobody has signed this header."""
    header = msgspec.structs.replace(decode_header(block.header), gas_used=99)
    certificate = msgspec.structs.replace(decode(Certificate, block.certificate), digest=header_hash(header))
    return msgspec.structs.replace(block, header=encode_header(header), certificate=encode(certificate))


def change_bodies(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[FetchedBlock], FetchedBlock]:
    def lie(block: FetchedBlock) -> FetchedBlock:
        proposal, *raws = unpack_parts(block.bodies)
        return msgspec.structs.replace(block, bodies=pack_parts((proposal, *change(raws))))

    return lie


def forged_signature(raws: list[bytes]) -> list[bytes]:
    return [join_transaction(split_transaction(raws[0])[0], bytes(64))]


LIES: dict[str, Callable[[FetchedBlock], FetchedBlock]] = {
    "a forged certificate": forge_header,
    "a certificate of another header": of_another_header,
    "less than a quorum": change_certificate(
        lambda it: msgspec.structs.replace(it, signatures=it.signatures[:2])
    ),
    "one signer three times": change_certificate(
        lambda it: msgspec.structs.replace(it, signatures=it.signatures[:1] * 3)
    ),
    "a vote of another kind": change_certificate(lambda it: msgspec.structs.replace(it, kind=2)),
    "strangers' certificate": change_header(STRANGE),
    "strangers' set": change_header(STRANGE, validator_set_hash=STRANGE.validators.digest),
    "another height": change_header(height=99),
    "another chain": change_header(chain_id=bytes(32)),
    "another proposal": change_header(proposal_digest=bytes(32)),
    "a missing body": change_bodies(lambda raws: []),
    "another body": change_bodies(lambda raws: [make_transaction(99).raw]),
    "a forged body": change_bodies(forged_signature),
    "broken parts": lambda block: msgspec.structs.replace(block, bodies=block.bodies[:-1]),
}  # fmt: skip


def test_a_lie_is_counted_against_the_liar_and_the_next_peer_is_asked() -> None:
    for name, lie in LIES.items():
        world = World(lie=lie).run([LIAR, HONEST])
        assert world.posted == list(range(1, 13)), name
        assert {peer for peer, _ in world.faults} == {LIAR}, name
        assert len(world.faults) == 1, f"{name}: a peer that lied is asked no more"


def test_nothing_but_liars_ends_the_run_and_posts_nothing() -> None:
    for name, lie in LIES.items():
        world = World(lie=lie).run([LIAR])
        assert world.posted == [], name


def test_a_silent_peer_is_passed_over_without_a_fault() -> None:
    world = World().run([LIAR, HONEST])
    assert world.posted == list(range(1, 13))
    assert world.faults == []


def test_a_chain_is_fetched_from_several_peers_at_once_and_posted_in_order() -> None:
    long = [make_block(height) for height in range(1, 400)]
    world = World(chain=long, batch=64).run([HONEST, OTHER])
    assert world.posted == list(range(1, 400))
    assert {HONEST, OTHER} == set(world.asked)
    assert world.open_max > 1


def test_peers_that_the_core_has_not_heard_of_take_part_and_extend_the_target() -> None:
    long = [make_block(height) for height in range(1, 200)]
    world = World(chain=long, batch=16).run([HONEST], last=20, peers=[HONEST, OTHER])
    assert world.posted == list(range(1, 200))
    assert OTHER in world.asked


def test_a_peer_that_claims_more_than_it_has_ends_the_run() -> None:
    world = World().run([HONEST], last=10_000)
    assert world.posted == list(range(1, 13))
    assert world.faults == []


def test_a_change_of_validators_inside_the_range_is_followed() -> None:
    """The set from 7 on is known once block 4 is executed; everything is fetched long before that."""
    world = World(chain=AFTER_CHANGE, batch=12, window=2, boundary=6).run([HONEST])
    assert world.posted == list(range(1, 13))
    assert world.faults == []


def test_a_block_waits_until_the_set_of_its_height_is_certain() -> None:
    """Execution is slow here: `post` checks that nothing comes before its turn."""
    world = World(chain=AFTER_CHANGE, batch=12, window=2, boundary=6, slow=True).run([HONEST])
    assert world.posted == list(range(1, 13))
    assert world.faults == []


def test_after_a_change_the_quorum_of_the_old_set_counts_no_more() -> None:
    world = World(chain=CHAIN, batch=12, window=2, boundary=6).run([HONEST])
    assert world.posted == [1, 2, 3, 4, 5, 6]
    assert [(peer, reason.partition(":")[0]) for peer, reason in world.faults] == [(HONEST, "sync_wrong_set")]


def test_before_a_change_the_quorum_of_the_new_set_does_not_count() -> None:
    early = [*CHAIN[:5], make_block(6, NEW), *AFTER_CHANGE[6:]]
    world = World(chain=early, batch=12, window=2, boundary=6).run([HONEST])
    assert world.posted == [1, 2, 3, 4, 5]
    assert [(peer, reason.partition(":")[0]) for peer, reason in world.faults] == [(HONEST, "sync_wrong_set")]


def test_a_certificate_that_only_claims_the_new_set_is_refused_when_the_set_is_known() -> None:
    forged = [*AFTER_CHANGE[:6], *(change_header(STRANGE)(block) for block in AFTER_CHANGE[6:])]
    world = World(chain=forged, batch=12, window=2, boundary=6).run([HONEST])
    assert world.posted == [1, 2, 3, 4, 5, 6]
    assert [(peer, reason.partition(":")[0]) for peer, reason in world.faults] == [(HONEST, "sync_bad_certificate")]
