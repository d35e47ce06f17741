"""Failures of parallel execution that real chains had, each named after what went wrong there."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from chain.codec import unpack
from chain.model.block import Receipt
from contracts.runtime import Machine, Status
from contracts.system.registry import SYSTEM_ADDRESS
from executor.outcome import ExecutionOutput, ShareOutcome
from executor.predict import AccessTable
from executor.process import NoProgress
from executor.protocol import Channel, ChannelLost, RunShare
from executor.serial import execute_serially
from executor.state import BaseState
from executor.transactions import Call
from executor.worker import SocketLink
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
    """The adversary: no transaction depends on any other, so conflicting neighbours go to different executors."""

    def predict(self, calls: Sequence[Call], *, base: BaseState, height: int, time_ms: int) -> AccessTable:
        table = AccessTable()
        for _ in calls:
            table.end()
        return table


class Scene:
    """A board with some cells, an oracle, and a team of two whose predictions are as bad as can be."""

    def __init__(self, *, executors: int = 2, boards: int = 1) -> None:
        self.oracle = Oracle()
        made = [deployment(0, f"board.{number}", ARENA, (0,)) for number in range(boards)]
        self.oracle.run([raw for raw, _ in made])
        self.boards = [address for _, address in made]
        self.board = self.boards[0]
        self.oracle.run([transaction(0, self.board, "put", (0, index, 5)) for index in range(3)])
        self.team = Team(self.oracle.reader.fork(), executors=executors, predictor=Alternating())
        self.team.root = self.oracle.root

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
        for predictor in (Alternating(), None):
            for _ in range(2):
                team = Team(reader.fork(), executors=executors, predictor=predictor)
                team.root = scene.team.root
                assert results_of(team.run(transactions))[1:3] == expected[1:3]
                assert results_of(team.run(transactions[:0]))[0] == 4


def test_gas_differs_between_a_warm_and_a_cold_cache() -> None:
    scene = Scene()
    transactions = [scene.call("put", 0, 1, 5), scene.call("relay_caught", scene.board, 1, 2, True)]
    reader = scene.oracle.reader
    block = block_of(reader.height + 1, transactions)
    outputs = []
    for machine in (Machine(1), Machine(1)):
        for _ in range(2):
            base = BaseState(MemoryReader(reader))
            output, _ = execute_serially(
                block, base=base, machine=machine, chain=CHAIN, progress=NoProgress(), reason="test"
            )
            outputs.append(results_of(output))
    assert outputs.count(outputs[0]) == 4


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
    """A link whose answers do not fit together in one way or another."""

    def __init__(self, link: object, spoil: str) -> None:
        self._link = link
        self._spoil = spoil

    def send(self, share: RunShare) -> None:
        self._link.send(share)  # type: ignore[attr-defined]

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        import msgspec

        answer: ShareOutcome = self._link.receive(timeout_s=timeout_s)  # type: ignore[attr-defined]
        wrong = {
            "receipts": answer.receipts[:-1],
            "gas": (-1, *answer.gas[1:]),
            "read_refs": b"\xff" * len(answer.read_refs),
            "read_versions": answer.read_versions[:-1],
            "read_counts": b"\xff\xff\xff\xff" + answer.read_counts[4:],
            "write_counts": answer.write_counts + bytes(4),
            "write_values": answer.write_values[:-1],
            "scans": ((1_000, b"", ()),),
        }[self._spoil]
        return msgspec.structs.replace(answer, **{self._spoil: wrong})

    def close(self) -> None:
        self._link.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spoil",
    ["receipts", "gas", "read_refs", "read_versions", "read_counts", "write_counts", "write_values", "scans"],
)
def test_an_executor_returns_garbage(spoil: str) -> None:
    scene = Scene()
    scene.team.lead.attach(1, _Garbage(scene.team.links[1], spoil))
    output, _ = scene.both([scene.call("put", 1, n, n) for n in range(8)])
    assert output.stats.executors_lost == 1
    assert "do not fit together" in scene.team.lost[0][1]


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
    share = RunShare(height=1, time_ms=0, overlays=(), positions=b"", transactions=(bytes(8 * 1024 * 1024),))
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
