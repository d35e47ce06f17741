"""What the mutations of joining by snapshot found to be tested nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput, PeerFault, StoreError
from chain.model.block import (
    SNAPSHOT_LAG,
    Certificate,
    Header,
    VoteSignature,
    decode_header,
    encode_header,
    header_hash,
)
from chain.model.genesis import genesis_header
from chain.model.merkle import InclusionProof
from chain.model.snapshot import SnapshotHead, chunk_count, snapshot_root
from chain.model.trust import TrustLink
from chain.model.validators import ValidatorSchedule
from chain.store import JoinFolder
from chain.sync import BlockChecker, CheckedBlock, RequestKind
from chain.sync.snapshots import COUNT_MAX, NoSource, SnapshotLoader, check_adopted, check_head, with_hashes
from chain.sync.wire import (
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    FetchedBlock,
    SnapshotAnswer,
    SnapshotRequest,
    TrustAnswer,
    TrustRequest,
)
from chain.types import DIGEST_BYTES, Height, View
from consensus.messages import MessageType, signing_bytes
from tests.unit.store.factory import ChainFactory
from tests.unit.sync.chain import INTERVAL, KEYS, LIFETIME, PEERS, Joiner, Lie, Served, header_at, serve

S = 2 * INTERVAL
COMMIT = S + SNAPSHOT_LAG
LIAR, HONEST = PEERS[:2]
LOW, HIGH = bytes(DIGEST_BYTES), b"\xff" * DIGEST_BYTES  # on either side of any digest
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


def signed(header: Header, *, height: int | None = None) -> Certificate:
    """What a quorum of this chain says when it is not honest: every check but that of the signatures is alone."""
    height, digest = header.height if height is None else height, header_hash(header)
    message = signing_bytes(
        chain_id=header.chain_id, kind=MessageType.CHECKPOINT, view=View(0), height=Height(height), digest=digest
    )
    votes = [VoteSignature(validator=key.validator_id, signature=key.sign(message)) for key in KEYS[:3]]
    votes.sort(key=lambda vote: vote.validator)
    return Certificate(kind=MessageType.CHECKPOINT, view=0, height=height, digest=digest, signatures=tuple(votes))


# --- what ties a snapshot to a certificate ---


def asked(served: Served, height: int = S) -> SnapshotAnswer:
    request = encode(SnapshotRequest(height=height))
    return decode(SnapshotAnswer, served.server.answer(RequestKind.SNAPSHOT, request))


def chained(answer: SnapshotAnswer, change: Callable[[int, Header], Header]) -> SnapshotAnswer:
    """`change` gets every header; those after it follow it, and a quorum signs the last one."""
    headers: list[Header] = []
    for at, data in enumerate(answer.headers):
        header = change(at, decode_header(data))
        if headers:
            header = msgspec.structs.replace(header, parent_hash=header_hash(headers[-1]))
        headers.append(header)
    return msgspec.structs.replace(
        answer, headers=tuple(map(encode_header, headers)), certificate=encode(signed(headers[-1]))
    )


def last_changed(answer: SnapshotAnswer, **fields: Any) -> SnapshotAnswer:
    last = len(answer.headers) - 1
    return chained(answer, lambda at, header: msgspec.structs.replace(header, **fields) if at == last else header)


def with_head(answer: SnapshotAnswer, **fields: Any) -> SnapshotAnswer:
    head = msgspec.structs.replace(decode(SnapshotHead, answer.head), **fields)
    return msgspec.structs.replace(answer, head=encode(head))


def moved(answer: SnapshotAnswer, by: int) -> SnapshotAnswer:
    return chained(answer, lambda at, header: msgspec.structs.replace(header, height=header.height + by))


def checked(answer: SnapshotAnswer, served: Served, **changes: Any) -> SnapshotHead:
    schedule = ValidatorSchedule.of_genesis(served.genesis)
    chain = header_at(served, 0).chain_id
    arguments: dict[str, Any] = {
        "height": S, "interval": INTERVAL, "chain_id": chain, "schedule": schedule,
        "checker": BlockChecker(chain_id=chain, schedule=lambda: schedule), **changes,
    }  # fmt: skip
    return check_head(answer, **arguments)[0]


def refused(answer: SnapshotAnswer, served: Served, **changes: Any) -> str:
    with pytest.raises(BadInput) as caught:
        checked(answer, served, **changes)
    return f"{caught.value.code}: {caught.value.message}"


def test_a_snapshot_is_of_a_height_at_which_this_chain_makes_one(served: Served) -> None:
    answer = asked(served)
    for interval, is_good in ((1, True), (2, True), (S, True), (0, False), (-1, False), (30, False), (S + 1, False)):
        if is_good:
            assert checked(answer, served, interval=interval).height == S
        else:
            assert refused(answer, served, interval=interval).startswith("wrong_snapshot")
    for height in (S - INTERVAL, S + INTERVAL):
        assert refused(answer, served, height=height).startswith("wrong_snapshot")
        assert refused(with_head(answer, height=height), served).startswith("wrong_snapshot")
    for height in (0, -INTERVAL):
        assert refused(with_head(moved(answer, height - S), height=height), served, height=height).startswith(
            "wrong_snapshot"
        )
    assert checked(with_head(moved(answer, 1 - S), height=1), served, height=1, interval=1).height == 1


@pytest.mark.parametrize("by", [-1, 1])
def test_its_headers_begin_at_its_height(served: Served, by: int) -> None:
    assert refused(moved(asked(served), by), served).startswith("wrong_headers")


def test_its_headers_are_as_many_as_they_should_be(served: Served) -> None:
    answer = asked(served)
    for headers in (answer.headers[:-1], (*answer.headers, answer.headers[-1]), ()):
        assert refused(msgspec.structs.replace(answer, headers=headers), served).startswith("wrong_headers")


def test_every_header_follows_the_one_before(served: Served) -> None:
    answer = asked(served)
    other = msgspec.structs.replace(decode_header(answer.headers[3]), gas_used=9)
    forked = msgspec.structs.replace(
        answer, headers=(*answer.headers[:3], encode_header(other), *answer.headers[4:])
    )
    assert refused(forked, served).startswith("wrong_headers")


def test_every_header_is_of_this_chain(served: Served) -> None:
    for wrong in (0, SNAPSHOT_LAG):
        foreign = chained(
            asked(served),
            lambda at, header, wrong=wrong: (  # type: ignore[misc]
                msgspec.structs.replace(header, chain_id=LOW) if at == wrong else header
            ),
        )
        assert refused(foreign, served).startswith("wrong_chain")


@pytest.mark.parametrize("by", [-1, 1])
def test_the_certificate_is_of_the_height_of_the_header(served: Served, by: int) -> None:
    answer = asked(served)
    assert checked(last_changed(answer), served).height == S, "this is how a quorum signs"
    certificate = signed(decode_header(answer.headers[-1]), height=COMMIT + by)
    wrong = msgspec.structs.replace(answer, certificate=encode(certificate))
    assert refused(wrong, served) == f"bad_certificate: the certificate is not of header {COMMIT}"


@pytest.mark.parametrize("digest", [LOW, HIGH])
def test_the_certificate_is_of_that_header(served: Served, digest: bytes) -> None:
    answer = asked(served)
    certificate = msgspec.structs.replace(decode(Certificate, answer.certificate), digest=digest)
    wrong = msgspec.structs.replace(answer, certificate=encode(certificate))
    assert refused(wrong, served) == f"bad_certificate: the certificate is not of header {COMMIT}"


@pytest.mark.parametrize("digest", [LOW, HIGH])
def test_the_header_names_the_set_that_is_in_force(served: Served, digest: bytes) -> None:
    assert refused(last_changed(asked(served), validator_set_hash=digest), served).startswith("wrong_set")


def test_a_header_that_commits_to_no_state_commits_to_none_that_a_peer_makes_up(served: Served) -> None:
    answer = asked(served)
    for committed, said in ((b"", b""), (b"", LOW), (LOW, HIGH), (HIGH, LOW)):
        wrong = with_head(last_changed(answer, snapshot_root=committed), root=said)
        assert refused(wrong, served).startswith("wrong_root")


def test_the_number_of_keys_is_within_its_bounds(served: Served) -> None:
    answer = asked(served)
    for count in (0, 1, COUNT_MAX):
        assert checked(with_head(answer, count=count), served).count == count
    for count in (-1, COUNT_MAX + 1):
        assert refused(with_head(answer, count=count), served).startswith("too_large")


def test_the_hashes_of_the_chunks_lead_to_the_root(served: Served) -> None:
    answer = asked(served)
    head = decode(SnapshotHead, answer.head)
    request = ChunksRequest(height=S, first=0, last=chunk_count(head.count) - 1, offset=0)
    hashes = served.server.answer(RequestKind.CHUNK_HASHES, encode(request))
    assert with_hashes(head, header_at(served, S), hashes).head == head
    for root in (LOW, HIGH):
        with pytest.raises(BadInput, match="do not lead"):
            with_hashes(msgspec.structs.replace(head, root=root), header_at(served, S), hashes)


# --- blocks that are stored without having been executed ---


def adopted(served: Served, blocks: list[CheckedBlock], *, last: int = S, sets: ValidatorSchedule | None = None) -> int:
    schedule = sets or ValidatorSchedule.of_genesis(served.genesis)
    return len(check_adopted(blocks, None, schedule, header_at(served, last)))


def known(served: Served, first: int = S - 4, last: int = S) -> list[CheckedBlock]:
    request = encode(BlocksRequest(first=first, last=last))
    fetched = decode(BlocksAnswer, served.server.answer(RequestKind.BLOCKS, request)).blocks
    schedule = ValidatorSchedule.of_genesis(served.genesis)
    return BlockChecker(chain_id=header_at(served, 0).chain_id, schedule=lambda: schedule).check(fetched, first)


def test_blocks_on_either_side_of_the_snapshots_own_are_not_compared_with_it(served: Served) -> None:
    assert adopted(served, known(served), last=S - 2) == 5


@pytest.mark.parametrize("digest", [LOW, HIGH])
def test_a_block_is_signed_by_the_set_of_its_height(served: Served, digest: bytes) -> None:
    blocks = [dataclasses.replace(known(served)[0], certified_by=digest)]
    with pytest.raises(BadInput, match="not signed by the validator set in force"):
        adopted(served, blocks)


def with_header(block: CheckedBlock, **fields: Any) -> CheckedBlock:
    return dataclasses.replace(block, header=msgspec.structs.replace(block.header, **fields))


def test_a_blocks_transactions_are_those_its_header_counts(served: Served) -> None:
    block = known(served)[0]
    count = block.header.transaction_count
    assert count >= 2
    wrong: list[dict[str, Any]] = [
        {"transaction_count": count - 1}, {"transaction_count": count + 1}, {"transaction_root": LOW},
        {"transaction_root": HIGH},
    ]  # fmt: skip
    for fields in wrong:
        with pytest.raises(BadInput, match="other transactions than were executed"):
            adopted(served, [with_header(block, **fields)])


@pytest.mark.parametrize("skipped", [(9,), (0, 0), (1, 0), (0, 9)])
def test_what_a_block_skipped_are_ascending_positions_of_its_proposal(served: Served, skipped: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="not positions of its proposal"):
        adopted(served, [dataclasses.replace(known(served)[0], skipped=skipped)])


# --- what peers are asked for ---


def requests_of(joiner: Joiner, kinds: tuple[RequestKind, ...]) -> list[tuple[bytes, RequestKind]]:
    return [(peer, kind) for peer, kind in joiner.asked if kind in kinds]


def chunk_answers(change: Callable[[ChunksRequest, ChunksAnswer], ChunksAnswer]) -> Lie:
    def lie(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind is not RequestKind.CHUNKS:
            return answer
        return encode(change(decode(ChunksRequest, payload), decode(ChunksAnswer, answer)))

    return lie


def test_a_peer_that_has_lied_is_asked_for_nothing_more(joiner: Joiner) -> None:
    """Whatever it lied about: its proof of the validator sets, its snapshot, a chunk."""
    rubbish = b"\xff" * 9
    stages = (RequestKind.TRUST, RequestKind.SNAPSHOT, RequestKind.CHUNKS)
    for number, wrong in enumerate(stages):
        one = Joiner(joiner.served, joiner.folder / str(number))
        one.lies = {
            LIAR: lambda kind, payload, answer, wrong=wrong: (  # type: ignore[misc]
                rubbish if kind is wrong else answer
            )
        }
        assert one.load() == S
        assert {peer for peer, _ in one.faults} == {LIAR}
        order = [RequestKind.TRUST, RequestKind.SNAPSHOT, RequestKind.CHUNK_HASHES, RequestKind.CHUNKS]
        later = (*order[order.index(wrong) + 1 :], RequestKind.BLOCKS)
        assert LIAR not in {peer for peer, _ in requests_of(one, later)}


def test_only_those_who_have_the_snapshot_are_asked_for_its_chunks(joiner: Joiner) -> None:
    without = msgspec.structs.replace(joiner.served.tip, snapshots=())
    assert joiner.load({LIAR: without, HONEST: joiner.served.tip}) == S
    assert {peer for peer, _ in requests_of(joiner, (RequestKind.CHUNKS,))} == {HONEST}


def test_a_peer_whose_blocks_begin_where_they_must_is_good_enough(joiner: Joiner) -> None:
    tip = joiner.served.tip
    assert joiner.load({HONEST: msgspec.structs.replace(tip, base=S - LIFETIME)}) == S
    other = Joiner(joiner.served, joiner.folder / "other")
    with pytest.raises(NoSource, match=f"blocks {S - LIFETIME}..{S}"):
        other.load({HONEST: msgspec.structs.replace(tip, base=S - LIFETIME + 1)})


def test_a_proof_of_the_validator_sets_may_be_as_long_as_the_bounds_say(
    joiner: Joiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = InclusionProof(index=0, count=1, siblings=())
    link = TrustLink(header=b"", certificate=b"", parent_state_root=LOW, leaf=b"", proof=proof)
    genesis = joiner.served.genesis
    answers = [encode(TrustAnswer(links=(link,) * 2, rest=2)), encode(TrustAnswer(links=(link,) * 2, rest=0))]
    size = sum(map(len, answers))

    def two_by_two(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        return answers[decode(TrustRequest, payload).first // 2] if kind is RequestKind.TRUST else answer

    for number, (links_max, bytes_max, is_good) in enumerate(((4, size, True), (3, size, False), (4, size - 1, False))):
        monkeypatch.setattr("chain.sync.snapshots.TRUST_LINKS_MAX", links_max)
        monkeypatch.setattr("chain.sync.snapshots.TRUST_BYTES_MAX", bytes_max)
        one = Joiner(joiner.served, joiner.folder / str(number), {HONEST: two_by_two})
        with nullcontext() if is_good else pytest.raises(NoSource):
            one.load({HONEST: joiner.served.tip}, check_trust=lambda data: ValidatorSchedule.of_genesis(genesis))
        assert [reason.partition(":")[0] for _, reason in one.faults] == ([] if is_good else ["snapshot_bad_trust"])


def test_more_hashes_than_were_asked_for_are_refused(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.sync.snapshots.CHUNK_HASHES_PER_ANSWER_MAX", 1)
    joiner.lies = {LIAR: lambda kind, payload, it: it + it if kind is RequestKind.CHUNK_HASHES else it}
    assert joiner.load() == S
    assert joiner.asked.count((LIAR, RequestKind.CHUNK_HASHES)) == 1
    assert joiner.faults == [(LIAR, "snapshot_wrong_root: 64 bytes of hashes for chunks 0..0")]


def test_chunks_beyond_those_asked_for_are_left_unread(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good ones, and the word that the last of them is not whole."""
    monkeypatch.setattr("chain.sync.snapshots.CHUNKS_PER_REQUEST", 1)
    seen: list[ChunksRequest] = []

    def all_of_them(request: ChunksRequest, answer: ChunksAnswer) -> ChunksAnswer:
        seen.append(request)
        every = msgspec.structs.replace(request, last=request.last + 5)
        more = decode(ChunksAnswer, joiner.served.server.answer(RequestKind.CHUNKS, encode(every)))
        return msgspec.structs.replace(more, rest=7 if len(more.chunks) > 1 else 0)

    joiner.lies = {HONEST: chunk_answers(all_of_them)}
    assert joiner.load({HONEST: joiner.served.tip}) == S
    assert joiner.faults == []
    assert sorted((request.first, request.last, request.offset) for request in seen) == [
        (at, at, 0) for at in range(len(seen))
    ]
    assert len(seen) > 1


REST_LIES: dict[str, tuple[ChunksAnswer, ...]] = {
    "nothing, and more of it": (ChunksAnswer(chunks=(), rest=5),),
    "no part": (ChunksAnswer(chunks=(b"\x92",), rest=5), ChunksAnswer(chunks=(), rest=5)),
    "an empty part": (ChunksAnswer(chunks=(b"\x92",), rest=5), ChunksAnswer(chunks=(b"",), rest=5)),
    "two parts": (ChunksAnswer(chunks=(b"\x92",), rest=5), ChunksAnswer(chunks=(b"\x92", b"\x92"), rest=0)),
}


@pytest.mark.parametrize("name", REST_LIES)
def test_the_rest_of_a_chunk_is_one_part_after_the_other(joiner: Joiner, name: str) -> None:
    first, *rest = REST_LIES[name]
    offsets: list[int] = []

    def lie(request: ChunksRequest, answer: ChunksAnswer) -> ChunksAnswer:
        offsets.append(request.offset)
        return rest[0] if request.offset and rest else first

    joiner.lies = {LIAR: chunk_answers(lie)}
    assert joiner.load() == S
    if rest:
        assert [peer for peer, reason in joiner.faults if reason.startswith("snapshot_wrong_chunk: the rest")] == [LIAR]
    assert len(offsets) <= 4


def test_a_chunk_in_parts_may_be_as_large_as_the_bound_says(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    server = joiner.served.server
    request = encode(ChunksRequest(height=S, first=0, last=9, offset=0))
    largest = max(map(len, decode(ChunksAnswer, server.answer(RequestKind.CHUNKS, request)).chunks))
    monkeypatch.setattr("chain.sync.server.ANSWER_BYTES_MAX", largest // 3)
    monkeypatch.setattr("chain.sync.snapshots.CHUNK_BYTES_MAX", largest)
    assert joiner.load() == S
    assert joiner.faults == []
    monkeypatch.setattr("chain.sync.snapshots.CHUNK_BYTES_MAX", largest - 1)
    other = Joiner(joiner.served, joiner.folder / "other")
    with pytest.raises(NoSource, match="has the chunks"):
        other.load()
    assert {reason.partition(":")[0] for _, reason in other.faults} == {"snapshot_wrong_chunk"}


# --- the blocks before, in several runs ---


def reforged(height: int, **fields: Any) -> Lie:
    """A quorum has signed another header of that height."""

    def change(block: FetchedBlock) -> FetchedBlock:
        header = decode_header(block.header)
        if header.height != height:
            return block
        forged = msgspec.structs.replace(header, **fields)
        return msgspec.structs.replace(block, header=encode_header(forged), certificate=encode(signed(forged)))

    def lie(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind is not RequestKind.BLOCKS:
            return answer
        return encode(BlocksAnswer(blocks=tuple(change(block) for block in decode(BlocksAnswer, answer).blocks)))

    return lie


@pytest.mark.parametrize("height", [S - LIFETIME + 1, S - LIFETIME + 10, S])
def test_blocks_follow_each_other_also_from_one_answer_to_the_next(
    joiner: Joiner, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    monkeypatch.setattr("chain.sync.snapshots.BLOCKS_PER_ANSWER_MAX", 5)
    joiner.lies = {LIAR: reforged(height, parent_hash=HIGH)}
    with pytest.raises(NoSource):
        joiner.load({LIAR: joiner.served.tip})
    assert [reason.partition(":")[0] for _, reason in joiner.faults] == ["snapshot_wrong_block"]
    joiner.lies = {}
    joiner.asked.clear()
    assert joiner.load() == S
    firsts = len(requests_of(joiner, (RequestKind.BLOCKS,)))
    assert firsts <= -(-(S - height) // 5) + 1 + 5, "what was good before it is not loaded again"


def test_more_blocks_than_were_asked_for_are_left_unread(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.sync.snapshots.BLOCKS_PER_ANSWER_MAX", 5)
    asked_for: list[int] = []

    def all_of_them(kind: RequestKind, payload: bytes, answer: bytes) -> bytes:
        if kind is not RequestKind.BLOCKS:
            return answer
        request = decode(BlocksRequest, payload)
        asked_for.append(request.first)
        return joiner.served.server.answer(kind, encode(msgspec.structs.replace(request, last=request.last + 9)))

    joiner.lies = {HONEST: all_of_them}
    assert joiner.load({HONEST: joiner.served.tip}) == S
    assert joiner.faults == []
    assert sorted(asked_for) == list(range(S - LIFETIME, S + 1, 5))


def test_what_is_loaded_is_told_up_to_its_end(joiner: Joiner, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    make = SnapshotLoader.__init__
    monkeypatch.setattr(
        SnapshotLoader, "__init__", lambda self, **given: make(self, told=lambda *it: told.append(it), **given)
    )
    monkeypatch.setattr("chain.sync.snapshots.BLOCKS_PER_ANSWER_MAX", 5)
    monkeypatch.setattr("chain.sync.snapshots.CHUNKS_PER_REQUEST", 1)
    assert joiner.load() == S
    chunks = chunk_count(len(joiner.served.pairs(S)))
    blocks = LIFETIME + 1
    assert [it for it in told if it[0] == "chunks"] == [("chunks", at + 1, chunks) for at in range(chunks)]
    steps = [*range(5, blocks, 5), blocks]
    assert [it for it in told if it[0] == "blocks"] == [("blocks", at, blocks) for at in steps]
    assert told[-1] == ("checking", 0, 1)


# --- damage on this disk ---


def test_damage_is_noticed_whichever_way_the_roots_differ(served: Served, tmp_path: Path) -> None:
    root = decode(SnapshotHead, asked(served).head).root
    pairs = dict(served.pairs(S))
    extras = [b"%d" % number for number in range(20)]
    roots = {extra: snapshot_root(sorted({**pairs, b"\x00extra": extra}.items())) for extra in extras}
    assert min(roots.values()) < root < max(roots.values())
    for extra in (min(extras, key=roots.__getitem__), max(extras, key=roots.__getitem__)):
        joiner = Joiner(served, tmp_path / extra.decode())

        def no_blocks(kind: RequestKind, number: int) -> None:
            if kind is RequestKind.BLOCKS:
                raise PeerFault("not_connected")

        joiner.before_answer = no_blocks
        with pytest.raises(NoSource):
            joiner.load()
        with closing(JoinFolder(joiner.folder, genesis_header(served.genesis))) as folder:
            folder.put([(0, [(b"\x00extra", extra)])])
        joiner.before_answer = lambda kind, number: None
        with pytest.raises(StoreError, match="thrown away"):
            joiner.load()


def test_without_any_proof_of_the_validator_sets_there_is_no_source(joiner: Joiner) -> None:
    for is_silent in (False, True):
        one = Joiner(joiner.served, joiner.folder / str(is_silent))

        def nothing(kind: RequestKind, payload: bytes, answer: bytes, is_silent: bool = is_silent) -> bytes:
            if is_silent:
                raise PeerFault("not_connected")
            return b"\xff" * 9

        one.lies = dict.fromkeys(PEERS, nothing)
        with pytest.raises(NoSource, match="nobody in reach proves"):
            one.load()
        assert {kind for _, kind in one.asked} == {RequestKind.TRUST}
