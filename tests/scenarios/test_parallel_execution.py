"""Failures of parallel execution that real chains had, each named after what went wrong there."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Sequence

import msgspec
import pytest

from chain.codec import Record, pack, unpack
from chain.model.block import Receipt
from contracts.runtime import Machine, Status
from contracts.system.registry import SYSTEM_ADDRESS
from executor.outcome import ExecutionInput, ExecutionOutput, ShareOutcome
from executor.parallel import Link
from executor.plan import PlainPlanner, Plan
from executor.predict import SummaryPredictor
from executor.process import NoProgress
from executor.protocol import Channel, ChannelLost, OfferShare, RunShare
from executor.serial import execute_serially
from executor.state import BaseState
from executor.worker import SocketLink
from tests.blocks.checking import compare
from tests.blocks.crew import Crew
from tests.blocks.worlds import account as named_account
from tests.blocks.worlds import arena_world
from tests.blocks.worlds import transaction as raw_transaction
from tests.unit.executor.workbench import (
    ARENA,
    ARENA_UPGRADED,
    CHAIN,
    MemoryReader,
    Oracle,
    Team,
    account,
    block_of,
    deployment,
    receipts_of,
    results_of,
    transaction,
)


class Alternating:
    """The adversary: neighbours go to different executors, whatever they do."""

    def __init__(self) -> None:
        self._planner = PlainPlanner(SummaryPredictor())

    def plan(self, block: ExecutionInput, *, base: BaseState, executors: int, head_start: float) -> Plan:
        count = len(block.transactions)
        shares = [list(range(executor, count, executors)) for executor in range(executors)]
        made = self._planner.plan(block, base=base, executors=executors, head_start=head_start)
        return made._replace(shares=shares, loads=[len(share) for share in shares])

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        pass


class Scene:
    """A board with some cells, an oracle, and a team of two whose predictions are as bad as can be."""

    def __init__(self, *, executors: int = 2, boards: int = 1) -> None:
        self.oracle = Oracle()
        made = [deployment(0, f"board.{number}", ARENA, (0,)) for number in range(boards)]
        self.oracle.run([raw for raw, _ in made])
        self.boards = [address for _, address in made]
        self.board = self.boards[0]
        self.oracle.run([transaction(0, self.board, "put", (0, index, 5)) for index in range(3)])
        self.team = Team(self.oracle.reader.fork(), executors=executors, planner=Alternating())

    def call(self, method: str, *arguments: object, sender: int = 0, board: int = 0) -> bytes:
        return transaction(sender, self.boards[board], method, arguments)  # type: ignore[arg-type]

    def both(self, transactions: list[bytes]) -> tuple[ExecutionOutput, list[Receipt]]:
        """Execute on the team and on the oracle; they must agree."""
        output, expected = self.team.run(transactions), self.oracle.run(transactions)
        assert results_of(output) == results_of(expected)
        assert output.stats.mode == "parallel"
        return output, receipts_of(output)


def test_a_wrong_conflict_annotation_forks_the_chain() -> None:
    scene = Scene()
    output, receipts = scene.both([scene.call("count", 1) for _ in range(20)])
    assert [unpack(receipt.result) for receipt in receipts] == list(range(1, 21))
    assert output.stats.reexecuted == 19  # each but the first saw a total that was not the latest


def test_a_read_of_a_missing_key_is_not_tracked() -> None:
    """The second transaction looks for a cell that does not exist until the first one makes it."""
    scene = Scene()
    output, receipts = scene.both([scene.call("put", 3, 3, 7), scene.call("strict", 3, 3)])
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.OK]
    assert output.stats.reexecuted == 1


def test_a_read_of_a_deleted_key_is_not_tracked() -> None:
    scene = Scene()
    output, receipts = scene.both([scene.call("drop", 0, 1), scene.call("strict", 0, 1)])
    assert receipts[1].status == Status.MISSING_KEY
    assert output.stats.reexecuted == 1


@pytest.mark.parametrize("change", ["put", "drop"])
def test_a_scan_is_not_tracked(change: str) -> None:
    """A phantom appears in the scanned group, or an element of it disappears."""
    scene = Scene()
    arguments = (0, 9, 100) if change == "put" else (0, 1)
    output, receipts = scene.both([scene.call(change, *arguments), scene.call("sum_group", 0, 1)])
    assert unpack(receipts[1].result) == (3 + 1) * 3 + 15 + 100 if change == "put" else 2 * (5 + 3)
    assert output.stats.reexecuted == 1


def test_a_scan_does_not_notice_what_a_rerun_changed() -> None:
    """`follow` writes elsewhere when it runs again, and a scan on its own executor saw the first place."""
    scene = Scene(executors=2)
    transactions = [
        scene.call("put", 0, 0, 13),  # executor A
        scene.call("follow", 0, 0),  # executor B reads 5 and writes (0, 0), again reads 13 and writes (0, 3)
        scene.call("put", 2, 2, 1),
        scene.call("sum_group", 0, 1),
    ]
    output, _ = scene.both(transactions)
    assert output.stats.reexecuted == 2


def test_code_is_not_tracked() -> None:
    """Stale code is called after an upgrade in the same block, by an executor that has the old code at hand."""
    scene = Scene()
    upgrade = transaction(0, SYSTEM_ADDRESS, "upgrade", (scene.board, ARENA_UPGRADED), gas_limit=90_000_000)
    output, receipts = scene.both([scene.call("poke", 1, 1, False), upgrade, scene.call("poke", 1, 1, False)])
    assert [unpack(receipts[0].result), unpack(receipts[2].result)] == [2, 1_001]
    _, receipts = scene.both([scene.call("poke", 1, 1, False), scene.call("poke", 2, 1, False)])
    assert [unpack(receipt.result) for receipt in receipts] == [1_001, 1_001]
    assert output.stats.reexecuted >= 1


def test_a_permission_is_not_tracked() -> None:
    """The contract is frozen in the block, or its admin changes, before the transaction that depends on it."""
    scene = Scene()
    freeze = transaction(0, SYSTEM_ADDRESS, "freeze", (scene.board,))
    _, receipts = scene.both([freeze, scene.call("count", 1), scene.call("count", 2)])
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.FROZEN, Status.FROZEN]
    new_admin = transaction(0, SYSTEM_ADDRESS, "set_admin", (scene.board, account(3).address))
    unfreezes = [transaction(sender, SYSTEM_ADDRESS, "unfreeze", (scene.board,)) for sender in (0, 3)]
    _, receipts = scene.both([new_admin, *unfreezes, scene.call("count", 1)])
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.FORBIDDEN, Status.OK, Status.OK]


def test_a_contract_is_deployed_and_called_in_one_block() -> None:
    scene = Scene()
    raw, address = deployment(1, "board.new", ARENA, (40,))
    calls = [transaction(1, address, "count", (1,)) for _ in range(3)]
    _, receipts = scene.both([calls[0], raw, *calls[1:]])
    assert [receipt.status for receipt in receipts] == [Status.UNKNOWN_CONTRACT, Status.OK, Status.OK, Status.OK]
    assert unpack(receipts[3].result) == 42


def test_a_revert_rolls_back_only_part_of_nested_state() -> None:
    """The callee fails after it wrote; caught, the caller's writes stay; not caught, nothing does."""
    scene = Scene(boards=2)
    other = scene.boards[1]
    transactions = [
        scene.call("relay_caught", other, 1, 50, True),
        scene.call("relay", other, 2, 60, True),
        scene.call("relay", other, 3, 70, False),
        scene.call("sum_group", 7, 0, board=1),
        scene.call("sum_group", 8, 0),
        scene.call("sum_group", 9, 0),
        scene.call("append", 0, board=1),
    ]
    _, receipts = scene.both(transactions)
    results = [unpack(receipt.result) if receipt.result else None for receipt in receipts]
    assert results == ["poked_to_fail", None, 71, 70 + 3, 50 + 3 + 70 + 3, 50 + 3, 2]
    assert receipts[1].status == Status.REVERTED
    assert receipts[1].error == "poked_to_fail"


def test_a_failed_transaction_holds_although_it_read_what_changed() -> None:
    """Whether it fails depends on what it reads, so a failure is validated like a success."""
    scene = Scene()
    send = scene.call("send", account(4).address, 100, sender=2)
    output, receipts = scene.both([scene.call("fund", 100, sender=2), send, send])
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.OK, Status.REVERTED]
    assert output.stats.reexecuted >= 1


def test_two_runs_of_one_block_differ() -> None:
    """Cold and warm caches, other executor counts, other shares: one result."""
    scene = Scene()
    transactions = [scene.call("follow", n % 3, n % 2, sender=n % 4) for n in range(30)]
    transactions += [scene.call("sum_group", n % 3, n % 2) for n in range(6)]
    expected = results_of(scene.oracle.run(transactions))
    for executors in (2, 3, 4, 8, 16):
        reader = scene.team.reader.fork()
        for planner in (Alternating(), None):
            for _ in range(2):
                team = Team(reader.fork(), executors=executors, planner=planner)
                assert results_of(team.run(transactions))[1:3] == expected[1:3]
                assert results_of(team.run(transactions[:0]))[0] == 4


def test_gas_differs_between_a_warm_and_a_cold_cache() -> None:
    scene = Scene()
    transactions = [scene.call("put", 0, 1, 5), scene.call("relay_caught", scene.board, 1, 2, True)]
    reader = scene.oracle.reader
    block = block_of(reader.height + 1, transactions)
    results = []
    for machine in (Machine(1), Machine(1)):
        for _ in range(2):
            base = BaseState(MemoryReader(reader))
            results.append(execute_serially(block, base=base, machine=machine, chain=CHAIN, progress=NoProgress()))
    assert results.count(results[0]) == 4


def test_an_executor_fails_in_the_middle_of_a_run_of_blocks() -> None:
    scene = Scene(executors=4)
    for number in range(6):
        if number == 2:
            scene.team.links[2].broken = True
        if number == 4:
            scene.team.links[1].broken = scene.team.links[3].broken = True
        output, _ = scene.both([scene.call("count", 1) for _ in range(8)]) if number < 4 else _alone_or_not(scene)
        assert output.stats.executors_lost == {2: 1, 4: 2}.get(number, 0)
    assert sorted([index for index, _ in scene.team.lost]) == [1, 2, 3]


def _alone_or_not(scene: Scene) -> tuple[ExecutionOutput, list[Receipt]]:
    transactions = [scene.call("count", 1) for _ in range(8)]
    output, expected = scene.team.run(transactions), scene.oracle.run(transactions)
    assert results_of(output) == results_of(expected)
    return output, receipts_of(output)


class _Garbage:
    """A link whose answers do not fit together in one way or another, or are not answers to what was asked."""

    def __init__(self, link: Link, spoil: str) -> None:
        self._link = link
        self._spoil = spoil

    def send(self, share: Record) -> None:
        self._link.send(share)

    def offer(self, share: OfferShare) -> bool:
        return self._link.offer(share)

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        answer = self._link.receive(timeout_s=timeout_s)
        wrong = {
            "number": answer.number - 1,
            "receipts": answer.receipts[:-1],
            "receipt_hashes": answer.receipt_hashes[:-32],
            "gas": (-1, *answer.gas[1:]),
            "read_keys": answer.read_keys[:-1],
            "read_marks": b"\xff\xff\xff\xff" + answer.read_marks[4:],
            "write_counts": answer.write_counts + bytes(4),
            "write_refs": b"\xff" * len(answer.write_refs),
            "write_values": answer.write_values[:-1],
            "scans": ((1_000, b""),),
            "adds": ((1_000, b"", 1, 0, 0),),
            "leaves": answer.leaves[:-1],
            "leaf_hashes": answer.leaf_hashes[:-1],
        }[self._spoil]
        return msgspec.structs.replace(answer, **{self._spoil: wrong})

    def close(self) -> None:
        self._link.close()


@pytest.mark.parametrize(
    "spoil",
    [
        "number", "receipts", "receipt_hashes", "gas", "read_keys", "read_marks", "write_counts", "write_refs",
        "write_values", "scans", "adds", "leaves", "leaf_hashes",
    ],
)  # fmt: skip
def test_an_executor_returns_garbage(spoil: str) -> None:
    scene = Scene()
    scene.team.lead.attach(1, _Garbage(scene.team.links[1], spoil))
    output, _ = scene.both([scene.call("put", 1, n, n) for n in range(8)])
    assert output.stats.executors_lost == 1
    assert len(scene.team.lost) == 1


@pytest.mark.parametrize("answer", [b"", b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1", b"\xff" * 4, b"\x08\x00\x00\x00abc"])
def test_what_an_executor_returns_cannot_be_decoded(answer: bytes) -> None:
    """An empty answer, no msgpack, a huge length, a torn frame: each at once, none waits for bytes that never come."""
    ours, theirs = socket.socketpair()
    link = SocketLink(ours)
    theirs.sendall(answer)
    theirs.close()
    with pytest.raises(ChannelLost):
        link.receive(timeout_s=10)
    link.close()


def test_a_lost_answer_hangs_the_block() -> None:
    """An executor that takes the share and never answers."""
    ours, theirs = socket.socketpair()
    link = SocketLink(ours)
    with theirs, pytest.raises(ChannelLost, match="timed out"):
        link.receive(timeout_s=0.05)
    link.close()


def test_an_executor_that_does_not_read_blocks_the_lead() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    share = RunShare(
        number=1, told=0, height=1, time_ms=0, overlays=(), positions=b"", hashes=b"", senders=b"",
        transactions=(bytes(8 * 1024 * 1024),),
    )  # fmt: skip
    with theirs, pytest.raises(ChannelLost, match="timed out"):
        channel.send(share, timeout_s=0.05)
    channel.close()


def test_speculative_results_are_reused_for_another_block() -> None:
    """A block whose executor was lost halfway, then another block at the next height: nothing of the first one's
    shares, answered too late, is taken for the second one's."""
    scene = Scene()
    link = scene.team.links[1]
    link.broken = True
    scene.both([scene.call("put", 3, n, 1) for n in range(4)])
    link.broken = False  # its answer to the first block is still in it
    scene.team.lead.attach(1, link)
    output, receipts = scene.both([scene.call("strict", 3, n) for n in range(4)])
    assert {receipt.status for receipt in receipts} == {Status.OK}
    assert output.stats.executors_lost == 0


def test_a_scan_sees_a_discarded_block() -> None:
    """The other executor has scanned on top of a block that a view change took back; then it scans in its place."""
    scene = Scene()
    team = scene.team
    idle = scene.call("put", 3, 3, 3)
    scene.both([idle, idle])  # stays executed and is not stored yet
    height = team.lead.height + 1
    team.run([scene.call("put", 0, 9, 100)])
    team.run([idle, scene.call("sum_group", 0, 1)])
    team.lead.discard(height)
    scene.both([scene.call("sum_group", 0, 2), scene.call("sum_group", 0, 1)])


def test_a_value_of_a_discarded_block_is_read() -> None:
    scene = Scene()
    team = scene.team
    height = team.lead.height + 1
    team.run([scene.call("put", 0, 1, 50), scene.call("put", 0, 2, 60)])
    team.run([scene.call("strict", 0, 1), scene.call("strict", 0, 2)])
    team.lead.discard(height)
    _, receipts = scene.both([scene.call("put", 3, 3, 3), scene.call("strict", 0, 1)])
    assert unpack(receipts[1].result) == 5


# --- adds: rule set 2 ---


class AddScene:
    """An arena whose sums are added to, executed with the worst plan and, independently, serially."""

    def __init__(self) -> None:
        self.world = arena_world(2, restricted=False)
        self.reference = self.world.reference()
        self.crew = Crew(self.world, executors=2, planner=Alternating(), draw=random.Random(0))
        self._nonces = itertools.count(1 << 40)

    def call(self, method: str, *arguments: object) -> bytes:
        return raw_transaction(
            named_account(0), self.world.arenas[0], method, arguments, nonce=next(self._nonces)  # type: ignore[arg-type]
        )

    def both(self, transactions: list[bytes]) -> tuple[ExecutionOutput, list[Receipt]]:
        output = self.crew.execute(transactions, time_ms=1)
        compare(output, self.reference.run(transactions, time_ms=1), block=0)
        return output, receipts_of(output)

    def sum_of(self, key: int) -> object:
        found = self.reference.values.get(self.world.arenas[0] + b"sums\x00" + pack(key))
        return None if found is None else unpack(found)


def test_adds_of_many_wait_for_each_other() -> None:
    scene = AddScene()
    output, receipts = scene.both([scene.call("add", 50, amount) for amount in range(1, 21)])
    assert {receipt.status for receipt in receipts} == {Status.OK}
    assert scene.sum_of(50) == 210
    assert output.stats.reexecuted == 0


def test_an_add_succeeds_beyond_its_bound() -> None:
    """Each executor alone stays within the bound, both together do not: the third one fails, at its position."""
    scene = AddScene()
    output, receipts = scene.both([scene.call("add_within", 50, 4, 0, 9) for _ in range(3)])
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.OK, Status.ARITHMETIC]
    assert receipts[2].error.startswith("above_maximum")
    assert scene.sum_of(50) == 8
    assert output.stats.reexecuted == 1


def test_an_add_fails_that_should_succeed() -> None:
    """A withdrawal fails on the state before the block and succeeds after the deposit in front of it."""
    scene = AddScene()
    _, receipts = scene.both([scene.call("add_within", 50, 8, 0, 20), scene.call("add_within", 50, -5, 0, 20)])
    assert [receipt.status for receipt in receipts] == [Status.OK, Status.OK]
    assert scene.sum_of(50) == 3


def test_a_read_after_an_add_sees_a_stale_sum() -> None:
    scene = AddScene()
    _, receipts = scene.both([scene.call("add", 50, 5), scene.call("add_read", 50, 2), scene.call("add", 50, 1)])
    assert unpack(receipts[1].result) == 7
    assert scene.sum_of(50) == 8


def test_an_add_of_a_failed_call_is_taken_back() -> None:
    """The caller's own add to the same key stays, and what the failed one had seen is still looked at."""
    scene = AddScene()
    _, receipts = scene.both([scene.call("add_self_caught", 50, 4, True), scene.call("add_self_caught", 50, 4, False)])
    assert [unpack(receipt.result) for receipt in receipts] == [Status.REVERTED, 1]
    assert scene.sum_of(50) == 4 + 4 + 4


def test_a_set_in_between_is_lost_among_adds() -> None:
    scene = AddScene()
    scene.both([scene.call("add", 50, 5), scene.call("sum_set", 50, 100), scene.call("add", 50, 1)])
    assert scene.sum_of(50) == 101
    one = [scene.call("add", 50, 1) for _ in range(2)]
    scene.both([scene.call("add", 50, 5), scene.call("sum_delete", 50), *one])
    assert scene.sum_of(50) == 2
