"""Joining by snapshot: what is loaded is what was executed; no lie gets in; a crash at any moment costs only time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput, PeerFault, StoreError
from chain.model.block import SNAPSHOT_LAG, Certificate, decode_header, encode_header, header_hash
from chain.model.genesis import genesis_header
from chain.model.merkle import EMPTY_ROOT, InclusionProof
from chain.model.snapshot import CHUNK_LEAVES, SnapshotHead, chunk_count, snapshot_root
from chain.model.trust import TrustLink, decode_trust, encode_trust
from chain.model.validators import ValidatorSchedule
from chain.node.archive import NodeArchive
from chain.pool import Pool, PoolLimits
from chain.store import JOINING, SNAPSHOTS_KEPT, JoinFolder
from chain.sync import BlockChecker, RequestKind, SyncServer
from chain.sync.snapshots import COUNT_MAX, CertifiedSnapshot, NoSource, check_adopted, check_snapshot
from chain.sync.wire import (
    SNAPSHOTS_PER_TIP_MAX,
    TRUST_BYTES_WANTED,
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    FetchedBlock,
    SnapshotAnswer,
    SnapshotRequest,
    TipAnswer,
    TrustAnswer,
)
from chain.types import DIGEST_BYTES, MESSAGE_BYTES_MAX, ValidatorId
from tests.unit.store.factory import ChainFactory
from tests.unit.sync.chain import BLOCKS, INTERVAL, LIFETIME, PEERS, Joiner, Lie, Served, header_at, serve

S = 2 * INTERVAL
COMMIT = S + SNAPSHOT_LAG
LIAR = PEERS[0]
STRANGERS = ChainFactory(name="strangers")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = serve(tmp_path_factory.mktemp("served") / "data")
    try:
        yield served
    finally:
        served.close()


@pytest.fixture
def joiner(served: Served, tmp_path: Path) -> Joiner:
    return Joiner(served, tmp_path / "data")


def check_loaded(joiner: Joiner, height: int = S) -> None:
    """The folder stands at the snapshot's height with exactly the state that execution came to."""
    served, store = joiner.served, joiner.open()
    try:
        assert store.state.height() == store.blocks.height() == height
        assert store.state.scan(b"") == served.pairs(height)
        assert store.state.state_root() == header_at(served, height).state_root
        assert (store.blocks.base, store.blocks.executed_from) == (height - LIFETIME, height + 1)
        for at in range(height - LIFETIME, height + 1):
            hashes = served.store.blocks.hashes(at)
            assert hashes and store.blocks.hashes(at) == hashes
            assert store.blocks.transaction_location(hashes[:DIGEST_BYTES]) == (at, 0), "the duplicate index"
            assert store.blocks.certificate(at) == served.store.blocks.certificate(at)
            digest = served.store.blocks.proposal_digest(at)
            assert digest is not None
            assert store.journal.proposal(digest) == served.store.journal.proposal(digest)
        assert store.snapshots.head(height) == served.store.snapshots.head(height), "it can serve the snapshot itself"
        assert store.state.snapshot_height == height, "and make it again, until the header that commits to it is stored"
        assert not (joiner.folder / JOINING).exists()
    finally:
        store.close()


def test_what_is_loaded_is_what_was_executed(joiner: Joiner) -> None:
    assert joiner.load() == S
    assert joiner.faults == []
    assert {peer for peer, kind in joiner.asked if kind is RequestKind.CHUNKS} <= set(PEERS)
    assert len(joiner.trust) == 1
    check_loaded(joiner)


def test_until_it_is_complete_the_folder_stands_at_genesis(joiner: Joiner) -> None:
    joiner.lies = dict.fromkeys(PEERS, silent_for(RequestKind.BLOCKS))
    with pytest.raises(NoSource):
        joiner.load()
    store = joiner.open()
    assert (store.blocks.height(), store.state.height(), store.state.scan(b"")) == (0, 0, [])
    store.close()


# --- lies ---


def silent_for(*kinds: RequestKind) -> Lie:
    def lie(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind in kinds:
            raise PeerFault("not_connected")
        return answer

    return lie


def chunks(change: Callable[[list[bytes]], list[bytes]]) -> Lie:
    def lie(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind is not RequestKind.CHUNKS:
            return answer
        honest = decode(ChunksAnswer, answer)
        return encode(ChunksAnswer(chunks=tuple(change(list(honest.chunks))), rest=0))

    return lie


def snapshot(change: Callable[[SnapshotAnswer], SnapshotAnswer]) -> Lie:
    def lie(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        return encode(change(decode(SnapshotAnswer, answer))) if kind is RequestKind.SNAPSHOT else answer

    return lie


def blocks(change: Callable[[FetchedBlock], FetchedBlock]) -> Lie:
    def lie(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind is not RequestKind.BLOCKS:
            return answer
        return encode(BlocksAnswer(blocks=tuple(change(block) for block in decode(BlocksAnswer, answer).blocks)))

    return lie


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def other_hashes(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
    return flip(answer, 0) if kind is RequestKind.CHUNK_HASHES else answer


def forged_trust(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
    forged = encode(TrustAnswer(links=(make_link(b""),), rest=0))
    return forged if kind is RequestKind.TRUST else answer


def make_link(certificate: bytes) -> TrustLink:
    """A link that proves nothing."""
    proof = InclusionProof(index=0, count=1, siblings=())
    return TrustLink(header=b"", certificate=certificate, parent_state_root=bytes(32), leaf=b"", proof=proof)


def change_header(answer: SnapshotAnswer, at: int, *, certify: bool = False, **fields: Any) -> SnapshotAnswer:
    headers = [decode_header(data) for data in answer.headers]
    headers[at] = msgspec.structs.replace(headers[at], **fields)
    certificate = encode(STRANGERS.certify(headers[-1])) if certify else answer.certificate
    return msgspec.structs.replace(
        answer, headers=tuple(encode_header(header) for header in headers), certificate=certificate
    )


def change_certificate(answer: SnapshotAnswer, **fields: Any) -> SnapshotAnswer:
    certificate = msgspec.structs.replace(decode(Certificate, answer.certificate), **fields)
    return msgspec.structs.replace(answer, certificate=encode(certificate))


def change_head(answer: SnapshotAnswer, **fields: Any) -> SnapshotAnswer:
    return msgspec.structs.replace(
        answer, head=encode(msgspec.structs.replace(decode(SnapshotHead, answer.head), **fields))
    )


def forge_certificate(answer: SnapshotAnswer) -> SnapshotAnswer:
    """Another state: header and certificate agree, but nobody has signed this header."""
    header = msgspec.structs.replace(decode_header(answer.headers[-1]), gas_used=77)
    return change_certificate(change_header(answer, -1, gas_used=77), digest=header_hash(header))


def first_signers(answer: SnapshotAnswer, count: int) -> SnapshotAnswer:
    return change_certificate(answer, signatures=decode(Certificate, answer.certificate).signatures[:count])


CHUNK_LIES: dict[str, Lie] = {
    "a flipped bit": chunks(lambda them: [flip(them[0], len(them[0]) - 1), *them[1:]]),
    "a missing key": chunks(lambda them: [them[0][them[0].index(b"\x92", 1) :], *them[1:]]),
    "an extra key": chunks(lambda them: [*them[:-1], them[-1] + b"\x92\xc4\x02zz\xc4\x01v"]),
    "swapped chunks": chunks(lambda them: them[::-1]),
    "chunks too many": chunks(lambda them: [*them[1:], them[0]]),
    "an empty chunk": chunks(lambda them: [b"", *them[1:]]),
    "rubbish": lambda kind, payload, answer: b"\xff" * 9 if kind is RequestKind.CHUNKS else answer,
}  # fmt: skip
SNAPSHOT_LIES: dict[str, Lie] = {
    "other chunk hashes": other_hashes,
    "a forged trust chain": forged_trust,
    "a header in between": snapshot(lambda it: change_header(it, 3, gas_used=9)),
    "another first header": snapshot(lambda it: change_header(it, 0, state_root=bytes(32))),
    "another root": snapshot(lambda it: change_header(it, -1, snapshot_root=bytes(32))),
    "a certificate of another header": snapshot(lambda it: change_header(it, -1, gas_used=9)),
    "strangers' certificate": snapshot(lambda it: change_header(it, -1, certify=True)),
    "strangers' set": snapshot(
        lambda it: change_header(it, -1, certify=True, validator_set_hash=STRANGERS.validators.digest)
    ),
    "a forged certificate": snapshot(forge_certificate),
    "less than a quorum": snapshot(lambda it: first_signers(it, 2)),
    "no signature": snapshot(lambda it: first_signers(it, 0)),
    "another kind of certificate": snapshot(lambda it: change_certificate(it, kind=3)),
    "a certificate of another height": snapshot(lambda it: change_certificate(it, height=COMMIT - 1)),
    "headers too few": snapshot(lambda it: msgspec.structs.replace(it, headers=it.headers[1:])),
    "headers too many": snapshot(lambda it: msgspec.structs.replace(it, headers=(*it.headers, it.headers[-1]))),
    "a key more": snapshot(lambda it: change_head(it, count=decode(SnapshotHead, it.head).count + 1)),
    "a key less": snapshot(lambda it: change_head(it, count=decode(SnapshotHead, it.head).count - 1)),
    "keys without end": snapshot(lambda it: change_head(it, count=2**62)),
    "an empty state": snapshot(lambda it: change_head(it, count=0, root=EMPTY_ROOT)),
    "another height": snapshot(lambda it: change_head(it, height=S - 1)),
}  # fmt: skip


def replace_block(height: int, **fields: Any) -> Callable[[FetchedBlock], FetchedBlock]:
    """The honest block of a height with another header, certified by strangers."""

    def change(block: FetchedBlock) -> FetchedBlock:
        header = decode_header(block.header)
        if header.height != height:
            return block
        forged = msgspec.structs.replace(header, **fields)
        return msgspec.structs.replace(
            block, header=encode_header(forged), certificate=encode(STRANGERS.certify(forged))
        )

    return change


BLOCK_LIES: dict[str, Lie] = {
    "strangers' certificate": blocks(replace_block(S - 5)),
    "strangers' set": blocks(replace_block(S - 5, validator_set_hash=STRANGERS.validators.digest)),
    "a skipped transaction": blocks(lambda it: msgspec.structs.replace(it, skipped=bytes(4))),
    "a position that is none": blocks(lambda it: msgspec.structs.replace(it, skipped=b"\x00\x00\x00\x09")),
    "another certificate": blocks(
        lambda it: msgspec.structs.replace(
            it, certificate=encode(msgspec.structs.replace(decode(Certificate, it.certificate), signatures=()))
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*CHUNK_LIES, *SNAPSHOT_LIES, *(f"block: {name}" for name in BLOCK_LIES)])
def test_a_lie_is_refused_named_and_made_good_by_another_peer(joiner: Joiner, name: str) -> None:
    lie = {**CHUNK_LIES, **SNAPSHOT_LIES, **{f"block: {key}": value for key, value in BLOCK_LIES.items()}}[name]
    joiner.lies = {LIAR: lie}
    assert joiner.load() == S
    assert {peer for peer, _ in joiner.faults} == {LIAR}
    check_loaded(joiner)


def test_a_word_that_nothing_vouches_for_spoils_nothing(joiner: Joiner) -> None:
    """`leaf_bytes` is in no root."""
    joiner.lies = dict.fromkeys(PEERS, snapshot(lambda it: change_head(it, leaf_bytes=7)))
    assert joiner.load() == S
    check_loaded(joiner)


def test_with_liars_only_nothing_is_ever_used(served: Served, tmp_path: Path) -> None:
    worst = (CHUNK_LIES["an extra key"], SNAPSHOT_LIES["a forged certificate"], BLOCK_LIES["strangers' certificate"])
    for number, lie in enumerate(worst):
        joiner = Joiner(served, tmp_path / str(number), dict.fromkeys(PEERS, lie))
        with pytest.raises(NoSource):
            joiner.load()
        store = joiner.open()
        assert (store.blocks.height(), store.state.height()) == (0, 0)
        store.close()


def test_every_byte_of_a_chunk_counts(served: Served) -> None:
    """A bit at many places of the last chunk, and as many truncations."""
    snapshot = certified(served)
    with served.store.snapshots.reading(S) as file:
        assert file is not None
        last = chunk_count(snapshot.head.count) - 1
        data = file.chunk(last)
    assert len(snapshot.check_chunk(last, data)) == snapshot.head.count - last * CHUNK_LEAVES
    for at in range(0, len(data), 97):
        for changed in (flip(data, at), data[:at]):
            with pytest.raises(BadInput):
                snapshot.check_chunk(last, changed)
    with pytest.raises(BadInput):
        snapshot.check_chunk(last - 1, data)


def certified(served: Served, height: int = S, **changes: Any) -> CertifiedSnapshot:
    request = encode(SnapshotRequest(height=height))
    answer = decode(SnapshotAnswer, served.server.answer(RequestKind.SNAPSHOT, request))
    count = chunk_count(decode(SnapshotHead, answer.head).count)
    hashes = served.server.answer(
        RequestKind.CHUNK_HASHES, encode(ChunksRequest(height=height, first=0, last=count - 1, offset=0))
    )
    schedule = ValidatorSchedule.of_genesis(served.genesis)
    chain = header_at(served, 0).chain_id
    arguments: dict[str, Any] = {
        "height": height, "interval": INTERVAL, "chain_id": chain, "schedule": schedule,
        "checker": BlockChecker(chain_id=chain, schedule=lambda: schedule), **changes,
    }  # fmt: skip
    return check_snapshot(answer, hashes, **arguments)


def test_the_root_is_that_of_the_state_at_the_snapshots_own_height(served: Served) -> None:
    snapshot = certified(served)
    assert snapshot.header.height == S
    assert snapshot.head.root == snapshot_root(served.pairs(S)) == header_at(served, COMMIT).snapshot_root
    assert snapshot.head.root not in {snapshot_root(served.pairs(S - 1)), snapshot_root(served.pairs(S + 1))}


def test_a_snapshot_is_of_the_height_asked_for(served: Served) -> None:
    """An older one, certified like any, does not pass for the one asked for."""
    request = encode(SnapshotRequest(height=INTERVAL))
    stale = served.server.answer(RequestKind.SNAPSHOT, request)
    with pytest.raises(BadInput, match="where 100 was asked for"):
        check_snapshot(
            decode(SnapshotAnswer, stale), b"", height=S, interval=INTERVAL, chain_id=b"",
            schedule=ValidatorSchedule.of_genesis(served.genesis),
            checker=BlockChecker(chain_id=b"", schedule=lambda: ValidatorSchedule.of_genesis(served.genesis)),
        )  # fmt: skip


def test_the_set_is_the_one_in_force_at_the_commit_height(served: Served) -> None:
    changed = ValidatorSchedule.of_genesis(served.genesis)
    changed.add(COMMIT, STRANGERS.validators)
    with pytest.raises(BadInput, match="another validator set"):
        certified(served, schedule=changed)
    later = ValidatorSchedule.of_genesis(served.genesis)
    later.add(COMMIT + 1, STRANGERS.validators)
    assert certified(served, schedule=later).head.height == S


def test_an_adopted_block_is_signed_by_the_set_in_force_at_its_height(served: Served) -> None:
    request = encode(BlocksRequest(first=S - 4, last=S))
    fetched = decode(BlocksAnswer, served.server.answer(RequestKind.BLOCKS, request)).blocks
    schedule = ValidatorSchedule.of_genesis(served.genesis)
    known = BlockChecker(chain_id=header_at(served, 0).chain_id, schedule=lambda: schedule).check(fetched, S - 4)
    last = header_at(served, S)
    assert [block.proposal_digest for block in check_adopted(known, None, schedule, last)] == [
        block.digest for block in known
    ]
    changed = ValidatorSchedule.of_genesis(served.genesis)
    changed.add(S, STRANGERS.validators)
    unchecked = [dataclasses.replace(block, certified_by=None) for block in known]
    for blocks, sets in ((known, changed), (unchecked, schedule)):
        with pytest.raises(BadInput, match="not signed by the validator set in force"):
            check_adopted(blocks, None, sets, last)
    with pytest.raises(BadInput, match="does not follow"):
        check_adopted(known[::2], None, schedule, last)
    with pytest.raises(BadInput, match="not the one the snapshot belongs to"):
        check_adopted(known, None, schedule, msgspec.structs.replace(last, gas_used=1))


def test_the_longest_trust_chain_that_holds_counts(joiner: Joiner) -> None:
    """An old proof alone would let removed validators vouch for a chain of theirs."""

    def check_trust(data: bytes) -> ValidatorSchedule:
        schedule = ValidatorSchedule.of_genesis(joiner.served.genesis)
        if decode_trust(data):
            schedule.add(S + 1, STRANGERS.validators)
        return schedule

    joiner.lies = {PEERS[2]: forged_trust}
    with pytest.raises(NoSource):
        joiner.load(check_trust=check_trust)
    assert {reason.partition(":")[0] for _, reason in joiner.faults} == {"snapshot_wrong_set"}


# --- what a liar may cost ---


@pytest.mark.parametrize(("error", "asked_max"), [(TimeoutError(), 1), (PeerFault("refused"), SNAPSHOTS_KEPT)])
def test_invented_heights_hold_nobody_up(joiner: Joiner, error: Exception, asked_max: int) -> None:
    """Every question to a peer that does not answer costs a time-out: it had 50,000 of them, 139 hours."""

    def before(kind: RequestKind, number: int) -> None:
        if joiner.asked[-1] == (LIAR, RequestKind.SNAPSHOT):
            raise error

    joiner.before_answer = before
    invented = TipAnswer(height=10**8, base=1, snapshots=tuple(range(1_000, 51_000)))
    assert joiner.load({LIAR: invented, PEERS[1]: joiner.served.tip}) == S
    assert 1 <= joiner.asked.count((LIAR, RequestKind.SNAPSHOT)) <= asked_max


def test_a_tip_names_few_snapshots() -> None:
    for count in (SNAPSHOTS_PER_TIP_MAX, SNAPSHOTS_PER_TIP_MAX + 1):
        data = encode(TipAnswer(height=1, base=1, snapshots=tuple(range(count))))
        if count <= SNAPSHOTS_PER_TIP_MAX:
            assert len(decode(TipAnswer, data).snapshots) == count
        else:
            with pytest.raises(BadInput):
                decode(TipAnswer, data)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: change_head(forge_certificate(it), count=COUNT_MAX),
        lambda it: change_head(it, count=COUNT_MAX, root=bytes(32)),
        lambda it: change_head(it, count=COUNT_MAX + 1),
    ],
)
def test_no_hash_is_asked_for_before_a_quorum_has_signed_the_root(
    joiner: Joiner, change: Callable[[SnapshotAnswer], SnapshotAnswer]
) -> None:
    joiner.lies = {LIAR: snapshot(change)}
    assert joiner.load() == S
    assert (LIAR, RequestKind.CHUNK_HASHES) not in joiner.asked
    assert {peer for peer, _ in joiner.faults} == {LIAR}


def test_hashes_come_whole_answer_by_answer(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that gives one hash at a time would be asked two million times."""
    monkeypatch.setattr("chain.sync.snapshots.CHUNK_HASHES_PER_ANSWER_MAX", 2)
    joiner.lies = {
        LIAR: lambda kind, payload, answer: answer[:DIGEST_BYTES] if kind is RequestKind.CHUNK_HASHES else answer
    }
    assert joiner.load() == S
    assert joiner.asked.count((LIAR, RequestKind.CHUNK_HASHES)) == 1
    assert {peer for peer, _ in joiner.faults} == {LIAR}


def test_a_chain_of_trust_longer_than_a_message_comes_in_parts(joiner: Joiner) -> None:
    links = [make_link(bytes((number,)) * (TRUST_BYTES_WANTED // 4)) for number in range(20)]
    server = SyncServer(NodeArchive(joiner.served.store, Pool(PoolLimits())), trust=lambda: links)
    sizes: list[int] = []

    def many(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind is RequestKind.TRUST:
            answer = server.answer(kind, payload)
            sizes.append(len(answer))
        return answer

    got: list[bytes] = []

    def check_trust(data: bytes) -> ValidatorSchedule:
        got.append(data)
        return ValidatorSchedule.of_genesis(joiner.served.genesis)

    joiner.lies = {LIAR: many}
    assert joiner.load({LIAR: joiner.served.tip}, check_trust=check_trust) == S
    assert got[0] == encode_trust(links) and len(got[0]) > MESSAGE_BYTES_MAX
    assert len(sizes) == 7 and max(sizes) <= TRUST_BYTES_WANTED + 100


@pytest.mark.parametrize("links", [(), (make_link(bytes(9)),), (make_link(bytes(600)),)])
def test_a_chain_of_trust_without_end_is_refused(
    joiner: Joiner, monkeypatch: pytest.MonkeyPatch, links: tuple[TrustLink, ...]
) -> None:
    monkeypatch.setattr("chain.sync.snapshots.TRUST_LINKS_MAX", 20)
    monkeypatch.setattr("chain.sync.snapshots.TRUST_BYTES_MAX", 5_000)
    endless = encode(TrustAnswer(links=links, rest=1))
    joiner.lies = {LIAR: lambda kind, payload, answer: endless if kind is RequestKind.TRUST else answer}
    assert joiner.load() == S
    assert joiner.asked.count((LIAR, RequestKind.TRUST)) <= 21
    assert [peer for peer, reason in joiner.faults if reason.startswith("snapshot_bad_trust")] == [LIAR]


# --- crashes, and what peers have ---


def test_a_crash_at_any_moment_costs_only_time(served: Served, tmp_path: Path) -> None:
    """It dies before every answer in turn; the next attempt goes on from what is on disk."""

    class Crash(BaseException):
        pass

    joiner = Joiner(served, tmp_path / "data")
    stop_at = 1
    attempts = 0
    while True:
        joiner.asked.clear()

        def crash(kind: RequestKind, number: int, limit: int = stop_at) -> None:
            if number == limit:
                raise Crash

        joiner.before_answer = crash
        attempts += 1
        try:
            assert joiner.load() == S
            break
        except (Crash, BaseExceptionGroup):
            store = joiner.open()
            assert (store.blocks.height(), store.state.height()) == (0, 0), "half of it is never used"
            store.close()
            stop_at += 1
    assert attempts > 5
    check_loaded(joiner)


def test_what_is_loaded_is_not_loaded_again(joiner: Joiner) -> None:
    joiner.lies = dict.fromkeys(PEERS, silent_for(RequestKind.BLOCKS))
    with pytest.raises(NoSource):
        joiner.load()
    joiner.asked.clear()
    joiner.lies = {}
    assert joiner.load() == S
    assert {kind for _, kind in joiner.asked} == {RequestKind.BLOCKS}
    check_loaded(joiner)


def test_a_snapshot_that_nobody_has_any_more_gives_way_to_a_newer_one(joiner: Joiner) -> None:
    older = TipAnswer(height=BLOCKS, base=1, snapshots=(INTERVAL,))
    joiner.lies = dict.fromkeys(PEERS, silent_for(RequestKind.BLOCKS))
    with pytest.raises(NoSource):
        joiner.load(dict.fromkeys(PEERS, older))
    joiner.lies = {}
    assert joiner.load(dict.fromkeys(PEERS, TipAnswer(height=BLOCKS, base=1, snapshots=(S,)))) == S
    check_loaded(joiner)


def test_what_was_damaged_on_this_disk_is_thrown_away(joiner: Joiner) -> None:
    """The state is checked as a whole before it is used: a chunk on disk that is not what was checked is noticed."""
    joiner.lies = dict.fromkeys(PEERS, silent_for(RequestKind.BLOCKS))
    with pytest.raises(NoSource):
        joiner.load()
    folder = JoinFolder(joiner.folder, genesis_header(joiner.served.genesis))
    folder.put([(0, [(b"\x00extra", b"value")])])
    folder.close()
    joiner.lies = {}
    with pytest.raises(StoreError, match="thrown away"):
        joiner.load()
    assert joiner.load() == S
    check_loaded(joiner)


def test_a_chunk_larger_than_a_message_comes_in_parts(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.sync.server.ANSWER_BYTES_MAX", 700)
    joiner.lies = {}
    assert joiner.load() == S
    assert sum(kind is RequestKind.CHUNKS for _, kind in joiner.asked) > 10
    check_loaded(joiner)


def test_peers_without_the_blocks_before_are_not_asked_for_them(joiner: Joiner) -> None:
    tip = joiner.served.tip
    short = msgspec.structs.replace(tip, base=S - 3)
    assert joiner.load({PEERS[0]: short, PEERS[1]: tip}) == S
    assert {peer for peer, kind in joiner.asked if kind is RequestKind.BLOCKS} == {ValidatorId(PEERS[1])}
    check_loaded(joiner)
