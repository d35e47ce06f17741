"""The loops of executor processes, over real sockets in this process: frames queued ahead, discards in between."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import msgspec
import pytest

from chain.codec import Record, pack
from chain.errors import InvariantError
from chain.model.merkle import pack_writes, unpack_writes
from executor import worker as worker_module
from executor.outcome import POSITION_NONE, ExecutionInput, ExecutionOutput, ShareOutcome
from executor.process import NoProgress
from executor.protocol import (
    BlockDone,
    CatchUp,
    Channel,
    ChannelLost,
    Discard,
    ExecuteBlock,
    ExecutorLost,
    OfferShare,
    Overlay,
    Ready,
    RunShare,
    Setup,
    decode_reply,
    decode_request,
)
from executor.share import integers
from executor.state import BaseState
from executor.worker import SocketLink, answer_share, serve_lead, serve_shares
from tests.unit.executor.shares import Bench, Marks
from tests.unit.executor.workbench import (
    ARENA,
    CHAIN,
    MemoryReader,
    Oracle,
    block_of,
    deployment,
    machine,
    results_of,
    transaction,
)

DEADLINE_S = 60.0


def setup_of(role: str, *, executors: int) -> Setup:
    return Setup(
        role=role, index=0, executors=executors, mode="forced", predictor="empty", state_path="", chain=CHAIN
    )


class Board:
    """A board on an oracle, which stores what it runs; the lead's store stays where it was."""

    def __init__(self) -> None:
        self.oracle = Oracle()
        raw, self.address = deployment(0, "board", ARENA, (0,))
        self.oracle.run([raw])
        self.store = self.oracle.reader.fork()

    def block(self, height: int, count: int, amount: int = 1) -> ExecutionInput:
        return block_of(height, [transaction(0, self.address, "count", (amount,)) for _ in range(count)])

    def expected(self, blocks: Sequence[ExecutionInput]) -> list[tuple[object, ...]]:
        """What the blocks do one after the other on what the lead's store holds."""
        oracle = Oracle(self.store.fork())
        return [results_of(oracle.run(block.transactions)) for block in blocks]


def lead_answers(
    board: Board, requests: Sequence[Record], *, executors: Sequence[socket.socket] = (), marks: Marks | None = None
) -> list[Record]:
    """What a lead says, until it has answered all blocks, to requests that are there before it starts."""
    ours, theirs = socket.socketpair()
    control, far_control = socket.socketpair()
    node = Channel(ours)
    for index, executor in enumerate(executors, 1):
        socket.send_fds(control, [bytes([index])], [executor.fileno()])
        executor.close()
    for request in requests:
        node.send(request, timeout_s=DEADLINE_S)

    links: list[SocketLink] = []

    def keep(connection: socket.socket) -> SocketLink:
        links.append(SocketLink(connection))
        return links[-1]

    def serve() -> None:
        try:
            with theirs, pytest.raises(ChannelLost, match="closed"):
                serve_lead(
                    setup_of("lead", executors=1 + len(executors)), Channel(theirs), far_control,
                    BaseState(MemoryReader(board.store)), machine(), marks or NoProgress(),  # type: ignore[arg-type]
                )  # fmt: skip
        finally:
            for link in links:  # the end of the process does that otherwise
                link.close()

    replies: list[Record] = []
    with ours, control, far_control, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "SocketLink", keep)
        with running([serve]):
            try:
                while len(outputs_of(replies)) < sum([isinstance(request, ExecuteBlock) for request in requests]):
                    replies.append(decode_reply(node.receive(timeout_s=DEADLINE_S)))
            finally:
                ours.shutdown(socket.SHUT_RDWR)
    return replies


@contextmanager
def running(loops: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Threads for these loops, which must have ended well when the block has."""
    with ThreadPoolExecutor(max(len(loops), 1)) as pool:
        futures = [pool.submit(loop) for loop in loops]
        try:
            yield
        finally:
            for future in futures:
                future.result(DEADLINE_S)


@contextmanager
def serving(board: Board, count: int) -> Iterator[list[socket.socket]]:
    """The lead's ends of sockets to so many executors, each served in a thread until the lead closes its end."""
    pairs = [socket.socketpair() for _ in range(count)]

    def serve(theirs: socket.socket) -> None:
        base = BaseState(MemoryReader(board.store))
        with theirs, pytest.raises(ChannelLost, match="closed"):
            serve_shares(
                setup_of("share", executors=1 + count), Channel(theirs), base, machine(),
                NoProgress(),  # type: ignore[arg-type]
            )  # fmt: skip

    with running([partial(serve, theirs) for _, theirs in pairs]):
        yield [ours for ours, _ in pairs]


def outputs_of(replies: Sequence[Record]) -> list[ExecutionOutput]:
    return [reply.output for reply in replies if isinstance(reply, BlockDone)]


def execute(*blocks: ExecutionInput) -> list[Record]:
    return [ExecuteBlock(block=block, attempt=1) for block in blocks]


def test_blocks_that_are_queued_ahead_are_answered_in_order() -> None:
    board = Board()
    blocks = [board.block(height, 3) for height in range(2, 8)]
    replies = lead_answers(board, execute(*blocks))
    assert replies[0] == Ready(height=1)
    assert [results_of(output) for output in outputs_of(replies[1:])] == board.expected(blocks)
    assert len(replies) == 7


@pytest.mark.parametrize("executors", [1, 3])
def test_executors_take_part_in_blocks_that_are_queued_ahead(executors: int) -> None:
    board = Board()
    blocks = [board.block(height, 12) for height in range(2, 8)]
    with serving(board, executors) as sockets:
        outputs = outputs_of(lead_answers(board, execute(*blocks), executors=sockets))
    assert [results_of(output) for output in outputs] == board.expected(blocks)
    assert all(output.stats.mode == "parallel" and output.stats.executors_lost == 0 for output in outputs)
    assert all(len([busy for busy in output.stats.busy_us if busy]) == 1 + executors for output in outputs)


def test_a_block_is_planned_while_the_one_before_it_runs() -> None:
    board, marks = Board(), Marks()
    blocks = [board.block(height, 1) for height in (2, 3)]
    lead_answers(board, execute(*blocks), marks=marks)
    assert marks.places == [
        (2, POSITION_NONE), (2, 0), (3, POSITION_NONE), (2, POSITION_NONE), (3, 0), (3, POSITION_NONE),
    ]  # fmt: skip


@pytest.mark.parametrize("executors", [0, 2])
def test_discards_are_obeyed_between_blocks(executors: int) -> None:
    """In the order they came: what was executed before one is answered, what comes after stands on what it left."""
    board = Board()
    first, second, third = (board.block(height, 6) for height in (2, 3, 4))
    again, after = board.block(3, 4, amount=100), board.block(4, 6)
    other = board.block(2, 5, amount=1_000)
    requests = [
        *execute(first, second, third), Discard(height=3), *execute(again, after), Discard(height=9),
        Discard(height=4), Discard(height=2), *execute(other),
    ]  # fmt: skip
    with serving(board, executors) as sockets:
        outputs = outputs_of(lead_answers(board, requests, executors=sockets))
    assert [results_of(output) for output in outputs] == [
        *board.expected([first, second, third]), *board.expected([first, again, after])[1:], *board.expected([other]),
    ]  # fmt: skip


def test_a_new_lead_catches_up_before_it_executes() -> None:
    board = Board()
    blocks = [board.block(height, 2) for height in (2, 3, 4, 5)]
    known = outputs_of(lead_answers(board, execute(*blocks[:2])))
    overlays = tuple(Overlay(height=o.height, state_root=o.state_root, writes=o.writes) for o in known)
    outputs = outputs_of(lead_answers(board, [CatchUp(overlays=overlays), *execute(*blocks[2:])]))
    assert [results_of(output) for output in outputs] == board.expected(blocks)[2:]


def test_an_attempt_after_a_death_goes_one_by_one_also_when_queued_ahead() -> None:
    board = Board()
    blocks = [board.block(height, 6) for height in (2, 3)]
    requests = [*execute(blocks[0]), ExecuteBlock(block=blocks[1], attempt=2)]
    with serving(board, 1) as sockets:
        outputs = outputs_of(lead_answers(board, requests, executors=sockets))
    assert [output.stats.reason for output in outputs] == ["planned", "retry"]


def test_a_dead_executor_is_reported_and_done_without() -> None:
    board = Board()
    blocks = [board.block(height, 6) for height in (2, 3)]
    ours, theirs = socket.socketpair()
    theirs.close()
    replies = lead_answers(board, execute(*blocks), executors=[ours])
    assert [type(reply) for reply in replies] == [Ready, ExecutorLost, BlockDone, BlockDone]
    assert isinstance(replies[1], ExecutorLost)
    assert replies[1].index == 1
    assert [results_of(output) for output in outputs_of(replies)] == board.expected(blocks)


def test_a_lead_refuses_what_is_not_for_it() -> None:
    board = Board()
    share = _share(board, told=0)
    ours, theirs = socket.socketpair()
    control, far_control = socket.socketpair()
    with ours, theirs, control, far_control:
        Channel(ours).send(share)
        with pytest.raises(InvariantError, match="the lead was sent a RunShare"):
            serve_lead(
                setup_of("lead", executors=1), Channel(theirs), far_control,
                BaseState(MemoryReader(board.store)), machine(), NoProgress(),  # type: ignore[arg-type]
            )  # fmt: skip


# --- shares ---


def _share(board: Board, *, told: int, height: int = 2, overlays: tuple[Overlay, ...] = ()) -> RunShare:
    block = board.block(height, 3)
    positions = (0, 2)
    return RunShare(
        number=77, told=told, height=height, time_ms=block.time_ms, overlays=overlays,
        positions=b"".join(position.to_bytes(4, "little") for position in positions),
        hashes=b"".join(map(block.hash_at, positions)), senders=b"".join(map(block.sender_at, positions)),
        transactions=tuple(block.transactions[position] for position in positions),
    )  # fmt: skip


def _offer_of(share: RunShare) -> OfferShare:
    return OfferShare(
        number=share.number, positions=share.positions, hashes=share.hashes, senders=share.senders,
        transactions=share.transactions,
    )  # fmt: skip


def _offered(share: RunShare) -> RunShare:
    """The share without what an offer has said before."""
    return msgspec.structs.replace(
        share, positions=b"", hashes=b"", senders=b"", transactions=(), offered=True
    )


def _answers(board: Board, *requests: Record) -> list[ShareOutcome]:
    """What an executor answers to the lead, over a socket; it ends when there is nothing more to read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel, base = Channel(ours), BaseState(MemoryReader(board.store))
        for request in requests:
            channel.send(request)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(ChannelLost):
            serve_shares(setup_of("share", executors=2), Channel(theirs), base, machine(), NoProgress())  # type: ignore[arg-type]
        channel.receive()  # it is ready
        decode = msgspec.msgpack.Decoder(ShareOutcome).decode
        return [decode(channel.receive()) for request in requests if isinstance(request, RunShare)]


def test_an_offered_share_is_the_same_share() -> None:
    board = Board()
    share = _share(board, told=0)
    (plain,) = _answers(board, share)
    stale = _offer_of(msgspec.structs.replace(share, number=76, transactions=share.transactions[::-1]))
    found = _answers(board, _offer_of(share), _offered(share)) + _answers(board, stale, share)
    found += _answers(board, stale, _offer_of(share), _offered(share))
    for answer in found:
        assert (answer.receipts, answer.write_keys, answer.write_values) == (
            plain.receipts, plain.write_keys, plain.write_values,
        )  # fmt: skip


def test_a_share_that_was_not_offered_is_refused() -> None:
    board = Board()
    share = _share(board, told=0)
    other = msgspec.structs.replace(_offer_of(share), number=76)
    for requests in ([_offered(share)], [other, _offered(share)], [_offer_of(share), _offered(share), _offered(share)]):
        with pytest.raises(InvariantError, match="asked to run share 77, which was not offered"):
            _answers(board, *requests)


def test_an_offer_never_waits_for_its_reader() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        link = SocketLink(ours)
        offer = OfferShare(number=1, positions=b"", hashes=b"", senders=b"", transactions=(bytes(1_000),))
        assert link.offer(offer)
        assert decode_request(Channel(theirs).receive()) == offer
        assert not link.offer(msgspec.structs.replace(offer, transactions=(bytes(64 * 1024 * 1024),)))
        assert not Channel(theirs).is_readable()
    with pytest.raises(ChannelLost):
        link.offer(offer)
    link.close()


def _total(board: Board, value: int, *, height: int) -> Overlay:
    writes = pack_writes([(board.address + b"total\x00", pack(value))])
    return Overlay(height=height, state_root=b"", writes=writes)


def _last_total(board: Board, base: BaseState, share: RunShare) -> bytes | None:
    outcome = answer_share(share, chain=CHAIN, base=base, machine=machine(), progress=NoProgress())
    assert (outcome.number, len(outcome.receipts)) == (77, 2)
    return outcome.write_values[-1]


def test_a_share_runs_on_the_write_sets_that_came_with_it() -> None:
    board = Board()
    base = BaseState(MemoryReader(board.store))
    assert _last_total(board, base, _share(board, told=0)) == pack(2)
    told = _share(board, told=1, height=4, overlays=(_total(board, 10, height=2), _total(board, 20, height=3)))
    assert _last_total(board, base, told) == pack(22)
    assert _last_total(board, base, _share(board, told=3, height=4)) == pack(22)
    assert base.height == 3


@pytest.mark.parametrize("stored", [False, True])
def test_what_an_executor_was_told_beyond_what_stands_is_void(stored: bool) -> None:
    """Also when the height that took the place of a void one was stored meanwhile, so that nobody tells it again."""
    board = Board()
    base = BaseState(MemoryReader(board.store))
    void = (_total(board, 10, height=2), _total(board, 20, height=3))
    assert _last_total(board, base, _share(board, told=1, height=4, overlays=void)) == pack(22)
    anew = _total(board, 500, height=2)
    if stored:
        board.store.store(2, unpack_writes(anew.writes))
    share = _share(board, told=1, height=3, overlays=() if stored else (anew,))
    assert _last_total(board, base, share) == pack(502)


def test_an_executor_is_not_told_what_its_last_share_wrote() -> None:
    """Only what others wrote, and what it did not write alone."""
    board = Board()
    base = BaseState(MemoryReader(board.store))
    assert _last_total(board, base, _share(board, told=0)) == pack(2)
    log = board.address + b"log\x00"
    rest = Overlay(height=2, state_root=b"", writes=pack_writes([(log, pack(9))]), own=77)
    assert _last_total(board, base, _share(board, told=1, height=3, overlays=(rest,))) == pack(4)
    assert base.get(log) == pack(9)
    base.discard(3)
    both = Overlay(height=3, state_root=b"", writes=pack_writes([(board.address + b"total\x00", pack(50))]), own=77)
    assert _last_total(board, base, _share(board, told=2, height=4, overlays=(both,))) == pack(52)


def test_a_write_set_that_builds_on_another_share_is_our_bug() -> None:
    board = Board()
    base = BaseState(MemoryReader(board.store))
    rest = Overlay(height=2, state_root=b"", writes=pack_writes([]), own=77)
    with pytest.raises(InvariantError, match="keep the writes of share 77; the last one was 0"):
        _last_total(board, base, _share(board, told=1, height=3, overlays=(rest,)))
    _last_total(board, base, _share(board, told=1))
    other = Overlay(height=2, state_root=b"", writes=pack_writes([]), own=76)
    with pytest.raises(InvariantError, match="keep the writes of share 76; the last one was 77"):
        _last_total(board, base, _share(board, told=1, height=3, overlays=(other,)))


def test_a_share_of_another_height_than_its_write_sets_reach_is_our_bug() -> None:
    board = Board()
    base = BaseState(MemoryReader(board.store))
    with pytest.raises(InvariantError, match="a share of height 4 on the state after 1"):
        answer_share(
            _share(board, told=0, height=4), chain=CHAIN, base=base, machine=machine(), progress=NoProgress()
        )
    with pytest.raises(InvariantError, match="write set of height 3 on top of height 1"):
        _last_total(board, base, _share(board, told=0, height=4, overlays=(_total(board, 1, height=3),)))


def test_an_executor_marks_where_it_is() -> None:
    """By height and position in the block, so that a transaction that kills it can be named."""
    board, marks = Board(), Marks()
    share = _share(board, told=0)
    answer_share(share, chain=CHAIN, base=BaseState(MemoryReader(board.store)), machine=machine(), progress=marks)
    assert marks.places == [(2, 0), (2, 2)]
    assert list(integers(share.positions)) == [0, 2]


def test_an_executor_refuses_what_is_not_for_it() -> None:
    board = Board()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(InvariantError, match="an executor was sent a Discard"):
        Channel(ours).send(Discard(height=2))
        serve_shares(
            setup_of("share", executors=2), Channel(theirs), BaseState(MemoryReader(board.store)), machine(),
            NoProgress(),  # type: ignore[arg-type]
        )  # fmt: skip


def test_adds_survive_the_way_through_a_socket() -> None:
    bench = Bench()
    block = bench.block([bench.call("within", 1, amount, -(2**40), 2**200) for amount in (5, -7, 2**62, 2**70)])
    share = bench.share(block, range(4))
    assert len(share.adds) == 3  # the last one is too wide
    ours, theirs = socket.socketpair()
    link = SocketLink(theirs)
    with ours:
        Channel(ours).send(share)
        assert link.receive(timeout_s=DEADLINE_S) == share
    link.close()
