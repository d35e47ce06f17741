"""The whole harness with real engines, tiny; and that nothing is left when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from bench.execute.plan import ExecutePlan
from bench.execute.run import run_execute
from tests.unit.bench.samples import BOX

FIELDS = {
    "workload", "transactions", "serial_us_per_tx", "speedup", "reexecuted", "equal", "two_processes_gain", "serial",
    "by_executors", "blocks", "transactions_per_block", "repeats", "mode", "predictions", "by_predictor", "seed",
    "model", "machine", "transaction_cpu_us",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("predictions", ["inferred", "empty"])
def test_a_tiny_run(predictions: str, tmp_path: Path) -> None:
    said: list[str] = []
    plan = ExecutePlan(
        workload="hot_counter_rmw", executors=(1, 2), blocks=6, transactions=60, warmup=1, repeats=1, mode="forced",
        predictions=predictions,
    )  # fmt: skip
    report = run_execute(plan, said.append, box=BOX)
    assert set(report) >= FIELDS
    assert report["equal"] is True
    assert report["transactions"] == 360
    assert set(report["speedup"]) == {"1", "2"} and min(report["speedup"].values()) > 0
    ways = report["by_executors"]["2"]["decisions"]
    assert ways == [{"mode": "parallel", "reason": "planned", "blocks": 6}]
    assert (report["reexecuted"] > 0) == (predictions == "empty"), "one counter, no edges known"
    assert report["model"]["speedup"]["1"] == 1.0 and "32" in report["model"]["speedup"]
    assert any("repeat 1 of 1" in line for line in said)
    assert psutil.Process().children() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-c", "import sys; from chain.cli.main import main; sys.exit(main())", "bench", "execute",
            "--workload", "hot_counter_rmw", "--blocks", "100", "--transactions", "100", "--repeats", "100",
        ],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "repeat 1" in line:
            break
    running = psutil.Process(process.pid)
    while len(members := running.children(recursive=True)) < 6:  # three serial engines, one of 1, one of 2
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert rest.strip().endswith("every process it started has ended")
    assert psutil.wait_procs(members, timeout=5)[1] == []
    assert list(tmp_path.iterdir()) == []
    process.stderr.close()
