"""The check of a chaos run: a sound history passes, and each way of lying in one is caught."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.chaos.faults import KINDS as FAULTS
from bench.chaos.faults import draw_faults
from bench.chaos.history import KINDS, Chain, Placed, Read, Send, check_history, longest_gap_ms
from bench.chaos.launch import OFFSET, set_offset
from bench.chaos.liveness import LivenessPlan
from bench.chaos.run import ChaosPlan
from chain.errors import ConfigError

History = tuple[list[Send], list[Read], list[Chain]]


def history() -> History:
    """Two sessions of three transactions each, a read after each, three nodes."""
    sends: list[Send] = []
    reads: list[Read] = []
    placed: dict[bytes, Placed] = {}
    for number in range(3):
        for session in range(2):
            at, height = 100 * number + 10 * session, number + 1
            tx_hash, receipt = bytes((session, number)) * 16, bytes((1, session, number))
            placed[tx_hash] = Placed(height, session, receipt)
            sends.append(
                Send(session=session, tx_hash=tx_hash, start_ms=at, end_ms=at + 30, outcome="certified", height=height,
                     position=session, receipt=receipt, value=number + 1)
            )  # fmt: skip
            reads.append(
                Read(session=session, start_ms=at + 30, end_ms=at + 40, min_height=height, height=height,
                     value=number + 1)
            )  # fmt: skip
    headers = [bytes((height,)) * 32 for height in range(4)]
    chains = [
        Chain(node=f"node-{at}", headers=list(headers), transactions=dict(placed), counts={0: 3, 1: 3})
        for at in range(3)
    ]
    return sends, reads, chains


def test_a_sound_history_breaks_no_promise() -> None:
    assert check_history(*history()) == []


def drop_a_receipt(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    del chains[1].transactions[sends[2].tx_hash]
    chains[1].counts[0] = 2


def change_a_result(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    placed = chains[2].transactions[sends[3].tx_hash]
    chains[2].transactions[sends[3].tx_hash] = Placed(placed.height, placed.position, b"other")


def move_a_transaction(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    placed = chains[0].transactions[sends[0].tx_hash]
    chains[0].transactions[sends[0].tx_hash] = Placed(placed.height + 1, placed.position, placed.receipt)


def answer_for_a_lower_height(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    reads[4].height -= 1


def answer_below_what_the_session_had_seen(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    reads[4].height = reads[4].min_height = 1


def ask_for_more_than_is_answered(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    reads[0].min_height += 1


def forget_an_own_write(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    reads[5].value -= 1


def show_what_was_never_sent(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    reads[5].value += 1


def give_two_transactions_one_result(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    sends[4].value = sends[2].value


def leave_one_open(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    sends.append(Send(session=0, tx_hash=b"\x07" * 32, start_ms=400, end_ms=500, outcome="pending", reason="timeout"))


def execute_what_had_expired(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    sends[5].outcome = "expired"
    reads.pop()


def fork(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    chains[2].headers[2] = bytes(32)


def execute_twice(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    chains[0].twice.append(sends[0].tx_hash)


def count_wrongly(sends: list[Send], reads: list[Read], chains: list[Chain]) -> None:
    chains[1].counts[1] += 1


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (drop_a_receipt, "lost"),
        (change_a_result, "changed"),
        (move_a_transaction, "changed"),
        (answer_for_a_lower_height, "went_back"),
        (answer_below_what_the_session_had_seen, "went_back"),
        (ask_for_more_than_is_answered, "went_back"),
        (forget_an_own_write, "wrong_read"),
        (show_what_was_never_sent, "wrong_read"),
        (give_two_transactions_one_result, "wrong_result"),
        (leave_one_open, "undecided"),
        (execute_what_had_expired, "expired_but_executed"),
        (fork, "forked"),
        (execute_twice, "twice"),
        (count_wrongly, "miscounted"),
    ],
)
def test_each_lie_is_caught_by_its_name(
    lie: Callable[[list[Send], list[Read], list[Chain]], None], kind: str
) -> None:
    sends, reads, chains = copy.deepcopy(history())
    lie(sends, reads, chains)
    found = check_history(sends, reads, chains)
    assert {violation.kind for violation in found} == {kind}
    assert kind in KINDS


def test_what_was_sent_again_after_the_run_binds_no_read() -> None:
    sends, reads, chains = history()
    sends.append(
        Send(session=0, tx_hash=b"\x09" * 32, start_ms=205, end_ms=206, outcome="certified", resent=True, height=4,
             position=0, receipt=b"r", value=4)
    )  # fmt: skip
    for chain in chains:
        chain.transactions[b"\x09" * 32] = Placed(4, 0, b"r")
        chain.counts[0] = 4
    assert check_history(sends, reads, chains) == []


def test_the_longest_gap_includes_both_ends() -> None:
    assert longest_gap_ms([], 0, 70) == 70
    assert longest_gap_ms([10, 20, 50], 0, 60) == 30
    assert longest_gap_ms([10, 20, 50], 0, 100) == 50
    assert longest_gap_ms([10, 900], 5, 60) == 50


def test_a_seed_gives_the_same_faults_and_every_kind_in_each_round() -> None:
    def drawn(seed: int) -> list[object]:
        faults = draw_faults(seed, ("a", "b", "c", "d"), tuple(FAULTS))
        return [next(faults) for _ in range(2 * len(FAULTS))]

    assert drawn(7) == drawn(7) != drawn(8)
    kinds = [fault.kind for fault in drawn(7)]  # type: ignore[attr-defined]
    assert sorted(kinds[: len(FAULTS)]) == sorted(kinds[len(FAULTS) :]) == sorted(FAULTS)


def test_a_clock_file_holds_the_offset(tmp_path: Path) -> None:
    for offset_ms in (0, -600_000, 3_600_000):
        set_offset(tmp_path / "clock", offset_ms)
        assert OFFSET.unpack((tmp_path / "clock").read_bytes()) == (offset_ms,)


@pytest.mark.parametrize("field", [{"nodes": 3}, {"seconds": 0}, {"sessions": 0}, {"faults": ("earthquake",)}])
def test_a_plan_out_of_range_is_refused_by_name(field: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(field)).removesuffix("s")):
        ChaosPlan(**field)  # type: ignore[arg-type]


def test_a_scenario_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="leader-killed, frozen, partitioned"):
        LivenessPlan(scenario="sleepy")  # type: ignore[arg-type]
