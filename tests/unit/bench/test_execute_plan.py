"""What is asked wrongly is refused before anything starts, with the field, the value and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from bench.execute.plan import ExecutePlan, executors_named, workloads_named
from bench.execute.workloads import WORKLOADS
from chain.cli.main import main
from chain.errors import ConfigError

NAMES = {
    "cpu_heavy", "cpu_heavy_one_contract", "smallbank_uniform", "credit_order", "zipf", "hot_counter",
    "hot_counter_rmw", "same_sender", "alternating_scans", "mixed_80_20",
}  # fmt: skip


def test_the_published_names() -> None:
    assert set(WORKLOADS) == NAMES
    assert workloads_named("all") == list(WORKLOADS)
    assert workloads_named("zipf, cpu_heavy") == ["zipf", "cpu_heavy"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"workload": "smallbank"}, "workload is 'smallbank', must be one of cpu_heavy"),
        ({"predictions": "good"}, "predictions is 'good', must be one of inferred, adversarial, empty, everything"),
        ({"mode": "serial"}, "mode is 'serial', must be one of parallel, forced"),
        ({"executors": (1, 0)}, "executors has 0, each must be 1..64"),
        ({"executors": (2, 65)}, "executors has 65"),
        ({"executors": (2, 2)}, "executors is 2,2, must not name a number twice"),
        ({"executors": ()}, "executors is empty"),
        ({"blocks": 0}, "blocks is 0, must be 1..10000"),
        ({"transactions": 20_001}, "transactions is 20001, must be 1..20000"),
        ({"repeats": 0}, "repeats is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_values(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(").replace(".", r"\.")):
        ExecutePlan(**{"workload": "zipf", **changed})


def test_lists_on_the_command_line() -> None:
    assert executors_named("1,2, 4") == (1, 2, 4)
    with pytest.raises(ConfigError, match="executors is '1,two', must be numbers such as 1,2"):
        executors_named("1,two")
    with pytest.raises(ConfigError, match=r"workload is 'nope', must be one of .* or all"):
        workloads_named("zipf,nope")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workload", "nope"], ["--executors", "0"], ["--executors", "x"], ["--predictions", "nope"],
        ["--blocks", "0"], ["--mode", "serial"],
    ],
)  # fmt: skip
def test_the_command_ends_with_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "execute", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("headrace bench: ") and captured.err.count("\n") == 1
