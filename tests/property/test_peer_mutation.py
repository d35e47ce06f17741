"""What nodes say to each other beside consensus, bent in every way: requests, answers, gossip, hellos and frames.

A request is answered or refused, whatever it holds; of an answer nothing is taken that is not genuine.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import chain.sync.wire
from chain.codec import Record, decode, encode
from chain.crypto import verify_batch
from chain.errors import BadInput
from chain.model.block import (
    SNAPSHOT_LAG,
    Certificate,
    Header,
    Proposal,
    decode_header,
    encode_header,
    header_hash,
    proposal_digest,
)
from chain.model.merkle import InclusionProof
from chain.model.signing import decode_transaction
from chain.model.snapshot import SnapshotHead, pack_chunk, root_of_chunks, unpack_chunk
from chain.model.transaction import Transaction, TransactionBody, join_transaction, split_transaction, transaction_hash
from chain.model.trust import TrustLink
from chain.model.validators import ValidatorSchedule
from chain.net.frames import PROTOCOL_VERSION, FrameKind, Hello, encode_hello
from chain.node.archive import NodeArchive
from chain.node.consortium import NetworkInfo
from chain.pool import Intake, Pool, PoolLimits
from chain.pool.gossip import TransactionsMessage
from chain.store import JournalProposal, Store, open_store
from chain.store.layout import pack_parts, unpack_parts
from chain.sync import BlockChecker, CheckedBlock, ProposalObtainer, RequestKind, Wanted
from chain.sync.server import SyncServer
from chain.sync.snapshots import check_snapshot
from chain.sync.wire import (
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    FetchedBlock,
    ProposalBodies,
    ProposalRequest,
    SnapshotAnswer,
    SnapshotRequest,
    TipAnswer,
    TransactionsAnswer,
    TransactionsRequest,
    TrustAnswer,
    TrustRequest,
)
from chain.types import MESSAGE_BYTES_MAX, ZERO_DIGEST, Digest, Height, Instant, ValidatorId
from tests.integration.gateways import (
    DEADLINE_S,
    context_of,
    frame,
    make_network,
    make_node,
    raw_peer,
    run,
    running,
    until,
)
from tests.property.mutation import Codec, Others, bent_bytes, codec_of, mutants
from tests.unit.pool.transactions import CHAIN_ID, key, make_transaction
from tests.unit.store.factory import ChainFactory, some_writes

FACTORY: Final = ChainFactory()
HONEST: Final = ValidatorId(b"\x02" * 20)
LIAR: Final = ValidatorId(b"\x01" * 20)


class Bodies(Record, frozen=True, kw_only=True):
    """`FetchedBlock.bodies` taken apart."""

    proposal: bytes
    transactions: tuple[bytes, ...]


HEADER: Final = Codec(decode_header, encode)  # also with the field that its rule set has not
BODIES: Final = Codec(
    lambda data: Bodies(proposal=unpack_parts(data)[0], transactions=tuple(unpack_parts(data)[1:])),
    lambda bodies: pack_parts((bodies.proposal, *bodies.transactions)),
)
OTHERS: Final = Others(
    identities=FACTORY.validators.ids(),
    digests=[bytes(range(32))],
    signatures=[bytes(range(64))],
    encoded={
        (FetchedBlock, "header"): HEADER,
        (FetchedBlock, "certificate"): codec_of(Certificate),
        (FetchedBlock, "bodies"): BODIES,
        (Bodies, "proposal"): codec_of(Proposal),
        (ProposalBodies, "proposal"): codec_of(Proposal),
        (SnapshotAnswer, "head"): codec_of(SnapshotHead),
        (SnapshotAnswer, "headers"): HEADER,
        (SnapshotAnswer, "certificate"): codec_of(Certificate),
    },
)


# --- requests ---

TRUST_LINK: Final = TrustLink(
    header=b"h", certificate=b"c", parent_state_root=bytes(32), leaf=b"l",
    proof=InclusionProof(index=0, count=1, siblings=()),
)  # fmt: skip
REQUESTS: Final = {
    RequestKind.BLOCKS: BlocksRequest(first=1, last=3),
    RequestKind.PROPOSAL: ProposalRequest(digest=bytes(32)),
    RequestKind.TRANSACTIONS: TransactionsRequest(hashes=bytes(96)),
    RequestKind.TIP: None,
    RequestKind.SNAPSHOT: SnapshotRequest(height=2),
    RequestKind.CHUNK_HASHES: ChunksRequest(height=2, first=0, last=1, offset=0),
    RequestKind.CHUNKS: ChunksRequest(height=2, first=1, last=1, offset=1),
    RequestKind.TRUST: TrustRequest(first=0),
}


def stored(path: Path) -> Store:
    """Some blocks and a snapshot of several chunks."""
    factory = ChainFactory()
    store = open_store(path, factory.genesis_header)
    for height in range(1, 3 + SNAPSHOT_LAG):
        made = factory.block(some_writes(height), transactions=1)
        store.journal.write(
            proposals=[JournalProposal(height, made.header.proposal_digest, made.proposal, made.bodies)]
        )
        store.blocks.append([made.block])
        store.state.apply([(height, made.header.state_root, made.writes)])
    store.snapshots.write(2, iter([(number.to_bytes(4, "big"), b"value") for number in range(1_000)]))
    return store


def bent_requests(kind: RequestKind) -> Iterator[bytes]:
    sample = REQUESTS[kind]
    yield from (b"", b"\xc1", bytes(100), b"\x90", b"\xdd\xff\xff\xff\xff")
    if sample is not None:
        yield from (encode(mutant.value) for mutant in mutants(sample, OTHERS))
        yield from (mutant.value for mutant in bent_bytes(sample))


def test_every_kind_of_request_is_among_the_samples() -> None:
    assert set(REQUESTS) == set(RequestKind)
    records = {type(sample) for sample in REQUESTS.values()} - {type(None)}
    named = {kind for name, kind in vars(chain.sync.wire).items() if name.endswith("Request") and name != "Record"}
    assert records == named


def test_a_bent_request_is_answered_within_the_bound_or_refused(tmp_path: Path) -> None:
    store = stored(tmp_path)
    server = SyncServer(NodeArchive(store, Pool(PoolLimits())), trust=lambda: [TRUST_LINK])
    outcomes: Counter[str] = Counter()
    try:
        for kind in RequestKind:
            sample = REQUESTS[kind]
            assert server.answer(kind, b"" if sample is None else encode(sample)) is not None
            for payload in bent_requests(kind):
                try:
                    answer = server.answer(kind, payload)
                except BadInput:
                    outcomes["refused"] += 1
                else:
                    assert len(answer) <= MESSAGE_BYTES_MAX
                    outcomes["answered"] += 1
        for unknown in (0, 9, 99, 255):
            with pytest.raises(BadInput):
                server.answer(unknown, b"")
    finally:
        store.close()
    assert min(outcomes.values()) > 20, outcomes


# --- blocks ---


@cache
def answer_of_blocks() -> BlocksAnswer:
    blocks = []
    for height in (1, 2):
        transactions = [make_transaction(number) for number in (2 * height, 2 * height + 1)]
        proposal = Proposal(
            chain_id=CHAIN_ID, height=height, timestamp_ms=height, proposer=HONEST,
            hashes=b"".join(transaction.hash for transaction in transactions),
        )  # fmt: skip
        header = msgspec.structs.replace(
            FACTORY.genesis_header, chain_id=CHAIN_ID, height=height, rule_set=3,
            proposal_digest=proposal_digest(proposal), validator_set_hash=FACTORY.validators.digest,
        )  # fmt: skip
        blocks.append(
            FetchedBlock(
                bodies=pack_parts((encode(proposal), *(transaction.raw for transaction in transactions))),
                header=encode_header(header),
                certificate=encode(FACTORY.certify(header)),
                skipped=b"",
            )
        )
    return BlocksAnswer(blocks=tuple(blocks))


def check_blocks(answer: bytes) -> list[CheckedBlock]:
    schedule = ValidatorSchedule(FACTORY.validators)
    checker = BlockChecker(chain_id=CHAIN_ID, schedule=lambda: schedule)
    return checker.check(decode(BlocksAnswer, answer).blocks[:2], 1)


def substance(block: CheckedBlock) -> tuple[Any, ...]:
    """All but the positions skipped, which the blocks before a snapshot are checked for when they are adopted."""
    return block.proposal, block.header, block.certificate, [transaction.raw for transaction in block.transactions]


def test_of_a_bent_answer_no_block_is_taken_that_a_quorum_has_not_signed() -> None:
    genuine = check_blocks(encode(answer_of_blocks()))
    assert all(block.certified_by == FACTORY.validators.digest for block in genuine)
    outcomes: Counter[str] = Counter()
    for mutant in mutants(answer_of_blocks(), OTHERS):
        try:
            taken = check_blocks(encode(mutant.value))
        except BadInput:
            outcomes["refused"] += 1
            continue
        for block, original in zip(taken, genuine, strict=False):
            if block.certified_by is None:  # checked again when its height's set is certain, and refused there
                assert block.header.validator_set_hash != FACTORY.validators.digest
                outcomes["of an unknown set"] += 1
            else:
                assert substance(block) == substance(original), mutant
                outcomes["genuine"] += 1
    assert outcomes["refused"] > 150, outcomes
    assert 0 < outcomes["genuine"] < 30, outcomes


def test_an_answer_that_no_encoder_of_ours_writes_is_refused_at_decoding() -> None:
    answers = [answer_of_blocks(), TipAnswer(height=1, base=1, snapshots=(1,)), ChunksAnswer(chunks=(b"x",), rest=0),
               ProposalBodies(proposal=b"p", transactions=(b"t",)), TransactionsAnswer(transactions=(b"t",)),
               SnapshotAnswer(head=b"h", headers=(b"h",), certificate=b"c"),
               TrustAnswer(links=(TRUST_LINK,), rest=1),
               TransactionsMessage(transactions=(b"t",))]  # fmt: skip
    count = 0
    for answer in answers:
        for mutant in bent_bytes(answer):
            with pytest.raises(BadInput):
                decode(type(answer), mutant.value)
            count += 1
    assert count > 400


# --- snapshots ---


def make_snapshot() -> tuple[SnapshotAnswer, bytes, list[bytes]]:
    """(answer, chunk hashes, chunks) of a state of 300 keys at height 100, certified at 116."""
    pairs = [(number.to_bytes(4, "big"), b"value %d" % number) for number in range(300)]
    chunks = [pack_chunk(pairs[at : at + 256], alone=False) for at in (0, 256)]
    hashes = b"".join(top for _, top in chunks)
    root = root_of_chunks(hashes, len(pairs))
    headers: list[Header] = []
    for height in range(100, 100 + SNAPSHOT_LAG + 1):
        header = msgspec.structs.replace(
            FACTORY.genesis_header, chain_id=CHAIN_ID, height=height, rule_set=3,
            parent_hash=header_hash(headers[-1]) if headers else ZERO_DIGEST,
            validator_set_hash=FACTORY.validators.digest,
            snapshot_root=root if height == 100 + SNAPSHOT_LAG else b"",
        )  # fmt: skip
        headers.append(header)
    head = SnapshotHead(height=100, root=root, count=300, leaf_bytes=sum(len(data) for data, _ in chunks))
    answer = SnapshotAnswer(
        head=encode(head),
        headers=tuple(encode_header(header) for header in headers),
        certificate=encode(FACTORY.certify(headers[-1])),
    )
    return answer, hashes, [data for data, _ in chunks]


def test_a_bent_snapshot_is_none() -> None:
    schedule = ValidatorSchedule(FACTORY.validators)
    checker = BlockChecker(chain_id=CHAIN_ID, schedule=lambda: schedule)

    def check(answer: SnapshotAnswer, hashes: bytes) -> Any:
        again = decode(SnapshotAnswer, encode(answer))
        return check_snapshot(
            again, hashes, height=100, interval=50, chain_id=CHAIN_ID, schedule=schedule, checker=checker
        )

    answer, hashes, chunks = make_snapshot()
    snapshot = check(answer, hashes)
    assert [len(snapshot.check_chunk(index, data)) for index, data in enumerate(chunks)] == [256, 44]
    count = 0
    for mutant in mutants(answer, OTHERS):
        if mutant.path == "head>leaf_bytes":
            continue  # no root covers it; the loader must not depend on it
        with pytest.raises(BadInput):
            check(mutant.value, hashes)
        count += 1
    assert count > 60
    for bent in (b"", hashes[:32], hashes + bytes(32), hashes[32:] + hashes[:32], hashes[:-1], bytes(64)):
        with pytest.raises(BadInput):
            check(answer, bent)
    for index, data in enumerate(chunks):
        bent_chunks = [b"", data[:-1], data + b"\0", data + data, chunks[1 - index], bytes(len(data))]
        bent_chunks += [data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :] for at in range(0, len(data), 97)]
        for bent in bent_chunks:
            with pytest.raises(BadInput):
                snapshot.check_chunk(index, bent)
    for count in (0, -1):
        with pytest.raises(BadInput):
            unpack_chunk(chunks[0], 0, count)


# --- bodies of a proposal ---


class _Peers:
    """The liar answers first, with what the test says; then an honest peer."""

    def __init__(self, lie: bytes, truth: bytes) -> None:
        self.answers = {LIAR: lie, HONEST: truth}
        self.obtained: list[tuple[Proposal, list[bytes]]] = []
        self.settled = asyncio.Event()

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        return self.answers[peer]

    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[bool]:
        return verify_batch(items)

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        return [False] * len(hashes)

    def on_obtained(self, digest: Digest, proposal: Proposal, transactions: Sequence[Transaction]) -> None:
        self.obtained.append((proposal, [transaction.raw for transaction in transactions]))
        self.settled.set()

    async def obtain(self, digest: Digest) -> None:
        obtainer = ProposalObtainer(
            chain_id=CHAIN_ID, parameters=FACTORY.genesis.parameters, pool=Pool(PoolLimits()), verifier=self,
            index=self, ask=self.ask, find=lambda digest: None, obtained=self.on_obtained,
            refused=lambda height, digest, reason: None, now=lambda: Instant(0), spawn=asyncio.ensure_future,
        )  # fmt: skip
        obtainer.want(Wanted(height=Height(7), digest=digest, proposal=None, fresh=False, sources=(LIAR, HONEST)))
        async with asyncio.timeout(DEADLINE_S):
            await self.settled.wait()


def test_bent_bodies_are_passed_over_and_the_next_source_is_asked() -> None:
    transactions = [make_transaction(number) for number in (1, 2)]
    proposal = Proposal(
        chain_id=CHAIN_ID, height=7, timestamp_ms=1, proposer=HONEST,
        hashes=b"".join(transaction.hash for transaction in transactions),
    )  # fmt: skip
    genuine = ProposalBodies(
        proposal=encode(proposal), transactions=tuple(transaction.raw for transaction in transactions)
    )
    forged = join_transaction(split_transaction(transactions[0].raw)[0], bytes(64))
    lies = [encode(mutant.value) for mutant in mutants(genuine, OTHERS)]
    lies.append(encode(msgspec.structs.replace(genuine, transactions=(forged, transactions[1].raw))))

    async def scene() -> None:
        for lie in lies:
            peers = _Peers(lie, encode(genuine))
            await peers.obtain(proposal_digest(proposal))
            assert peers.obtained == [(proposal, list(genuine.transactions))]

    assert len(lies) > 50
    asyncio.run(scene())


# --- gossip ---


class _Executed:
    latest = Height(10)

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        return [False] * len(hashes)

    def executed_since(self, height: Height, hashes: Sequence[Digest]) -> list[bool]:
        return [False] * len(hashes)


class _Verifier:
    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[bool]:
        return verify_batch(items)


def make_intake() -> tuple[Intake, Pool]:
    pool = Pool(PoolLimits())
    intake = Intake(
        pool=pool, verifier=_Verifier(), known=_Executed(), chain_id=CHAIN_ID, lifetime_max=1_000,
        transaction_gas_max=1_000_000, height=lambda: Height(10), now=lambda: Instant(0),
    )  # fmt: skip
    return intake, pool


def bodies_bent() -> list[bytes]:
    genuine = make_transaction(1)
    return [encode(mutant.value) for mutant in mutants(genuine.body, OTHERS)]


def test_gossip_that_was_bent_on_its_way_fills_no_pool() -> None:
    genuine = make_transaction(1)
    raws = [join_transaction(body, genuine.signature) for body in bodies_bent()]
    raws += [join_transaction(genuine.body_bytes, mutant.value) for mutant in mutants(genuine.signature, OTHERS)]
    raws += [mutant.value for mutant in bent_bytes((genuine.body_bytes, genuine.signature))]
    intake, pool = make_intake()
    message = decode(TransactionsMessage, encode(TransactionsMessage(transactions=tuple(raws))))
    results, added = asyncio.run(intake.submit(message.transactions, gossip=True))
    assert len(results) == len(raws) > 100
    assert all(result.error is not None for result in results)
    assert added == []
    assert (len(pool), pool.bytes_held) == (0, 0)


def test_what_an_account_signs_itself_is_taken_only_as_the_rules_allow() -> None:
    """Bent and signed anew: chain, scheme, key, expiry and gas are judged here, the rest when it is executed."""
    raws = [join_transaction(body, key().sign(transaction_hash(body))) for body in bodies_bent()]
    intake, pool = make_intake()
    results, added = asyncio.run(intake.submit(raws, gossip=True))
    bodies = [transaction.body for transaction in added]
    genuine = make_transaction(1).body
    assert len(results) == len(raws)
    assert len(pool) == len(added) > 5
    assert pool.bytes_held == sum(len(transaction.raw) for transaction in added)
    for body in bodies:
        assert (body.chain_id, body.scheme, body.public_key) == (CHAIN_ID, genuine.scheme, genuine.public_key)
        assert 10 < body.expiry <= 1_010
        assert 0 < body.gas_limit <= 1_000_000
    judged = {"nonce", "expiry", "target", "method", "arguments", "gas_limit"}
    changed = {
        name for body in bodies for name in TransactionBody.__struct_fields__
        if getattr(body, name) != getattr(genuine, name)
    }  # fmt: skip
    assert changed <= judged
    assert all(decode_transaction(transaction.raw).hash == transaction.hash for transaction in added)


# --- hellos and frames, on real sockets ---


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return make_network(tmp_path_factory.mktemp("bent"))


@pytest.mark.slow
def test_a_bent_hello_opens_nothing(network: NetworkInfo) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)
    genuine = Hello(version=PROTOCOL_VERSION, chain_id=network.chain_id, node=peer.id, instance=bytes(range(16)))
    others = Others(identities=[target.id, make_node(network, 1).id])
    frames = [encode_hello(mutant.value) for mutant in mutants(genuine, others) if mutant.path != "instance"]
    frames += [encode_hello(mutant.value) for mutant in mutants(genuine, others)
               if mutant.path == "instance" and len(mutant.value.instance) != 16]  # fmt: skip
    frames += [frame(FrameKind.HELLO, mutant.value) for mutant in list(bent_bytes(genuine))[::3]]

    async def scene() -> None:
        async with running(target):
            for data in frames:
                async with raw_peer(target, context_of(peer)) as raw:
                    await raw.write(data)
                    await raw.read_bye()
            assert not target.connected
            assert target.gateway.counters[peer.id].connections == 0
            async with raw_peer(target, context_of(peer)) as raw:
                await raw.write(encode_hello(genuine))
                await until(lambda: target.connected == [peer.id])

    assert len(frames) > 40
    run("asyncio", scene())


@pytest.mark.slow
def test_a_bent_frame_of_a_live_peer_ends_at_most_its_own_connection(network: NetworkInfo) -> None:
    target, peer, friend = make_node(network, 3), make_node(network, 0), make_node(network, 1)
    hello = encode_hello(
        Hello(version=PROTOCOL_VERSION, chain_id=network.chain_id, node=peer.id, instance=bytes(range(16)))
    )
    payloads = (b"", bytes(9), b"\xff" * 300)
    kinds = (*FrameKind, 0, 7, 20, 255)
    lengths = (0, 2**32 - 1)

    async def scene() -> None:
        async with running(target, friend):
            data = [frame(kind, payload) for kind in kinds for payload in payloads]
            data += [length.to_bytes(4, "big") + bytes((kind,)) for kind in kinds for length in lengths]
            for one in data:
                async with raw_peer(target, context_of(peer)) as raw:
                    await raw.write(hello + one + frame(FrameKind.BYE, b"\x01"))
                    await raw.read_to_end()
            assert await friend.gateway.request(target.id, 1, b"alive", DEADLINE_S) == b"\x01alive"
            assert friend.lost == []
            await until(lambda: len(target.gateway._connections) == 1)

    run("asyncio", scene())


def test_the_thread_that_checks_answers_survives_them() -> None:
    """Whatever is wrong with an answer arrives as BadInput where it was asked for, through the executor too."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            for mutant in list(mutants(answer_of_blocks(), OTHERS))[::10]:
                try:
                    await loop.run_in_executor(thread, check_blocks, encode(mutant.value))
                except BadInput:
                    continue
            assert len(await loop.run_in_executor(thread, check_blocks, encode(answer_of_blocks()))) == 2

    asyncio.run(scene())
