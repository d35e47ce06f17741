"""What people read of a block executed again."""

from __future__ import annotations

from chain.cli.traces import replay_document, replay_lines
from chain.node.replay import BlockReplay, Check, Difference
from tests.unit.node.test_executions import stats


def replay(check: Check, *differences: Difference) -> BlockReplay:
    return BlockReplay(
        height=7, transactions=8, executors=2, checks=(check,), differences=differences,
        serial=stats(mode="serial", reason="configured", busy_us=(900,)), parallel=stats(),
    )  # fmt: skip


def test_parallel_execution_that_is_not_equal_to_serial_is_called_a_bug() -> None:
    key = bytes(20) + b"total\x00"
    found = replay(
        Check(what="gas_used", stored=1_000, serial=1_000, parallel=1_001),
        Difference(what="bank total", stored=5, serial=5, parallel=None, key=key),
    )
    lines = replay_lines(found)
    assert ["gas", "used", "1,000", "=", "1,001"] in [line.split() for line in lines]
    assert "first difference, write set: bank total" in lines
    assert "  parallel  -" in lines
    assert "not equal to serial" in lines[-1]
    document = replay_document(found)
    assert (document["agrees"], document["parallel_equals_serial"]) == (False, False)
    assert document["differences"][0]["key"] == key


def test_what_is_stored_is_to_blame_where_both_ways_agree() -> None:
    found = replay(Check(what="receipts", stored=b"\x01" * 32, serial=b"\x02" * 32, parallel=b"\x02" * 32))
    assert not found.agrees
    assert found.parallel_equals_serial
    assert replay_lines(found)[-1].startswith("DIFFERS in receipts: what is stored is damaged")
