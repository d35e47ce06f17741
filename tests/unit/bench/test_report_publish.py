"""Running what is published: every plan is known, one that fails spoils nothing, Ctrl-C ends all of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from bench.cluster import results
from bench.cluster.command import PLANS
from bench.cluster.plan import PlanFile
from bench.cluster.results import Result
from bench.cluster.run import Say
from bench.errors import BenchError
from bench.report.published import PUBLISHED, chosen, measure_all, seconds_of, write_all
from chain.cli.main import main
from chain.errors import ConfigError
from tests.unit.bench.report_samples import load, million, result, run, sources, sustained

Keep = Callable[[Result], None]


def quiet(text: str) -> None:
    pass


def test_every_plan_of_the_folder_is_published_and_can_be_run() -> None:
    assert {entry.plan for entry in PUBLISHED} == {path.stem for path in PLANS.glob("*.toml")}
    for full in (False, True):
        plans = chosen([], full=full)
        assert [entry.plan for entry, _ in plans] == [entry.plan for entry in PUBLISHED if full or not entry.long]
        assert all(plan.runs and plan.name == entry.plan for entry, plan in plans)


def test_the_short_ones_take_some_twenty_minutes() -> None:
    assert 10 * 60 < sum(seconds_of(plan) for _, plan in chosen([], full=False)) < 25 * 60


def test_a_plan_is_chosen_by_name() -> None:
    ((entry, plan),) = chosen(["million"], full=False)
    assert entry.plan == plan.name == "million"
    with pytest.raises(ConfigError, match="must be one of sustained"):
        chosen(["nothing"], full=False)


def plans(*names: str) -> list[PlanFile]:
    return [plan for _, plan in chosen(names, full=False)]


async def measured(plan: PlanFile, say: Say, *, keep: Keep) -> Result:
    """What `run_cluster` does, but for the measuring."""
    made = result(plan.name, run("a", [load()]))
    keep(made)
    if plan.name == "fsync":
        raise BenchError("a node ended")
    return made


def test_a_plan_that_fails_leaves_all_other_results(tmp_path: Path) -> None:
    older = result("fsync", run("older", [load()]))
    results.save(older, tmp_path / "fsync.json")
    failures = measure_all(plans("latency_50", "fsync", "workloads"), tmp_path, quiet, measure=measured)
    assert failures == ["fsync: a node ended"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "latency_50.json", "fsync.json", "fsync.json.failed", "workloads.json",
    }  # fmt: skip
    assert results.load(tmp_path / "fsync.json") == older
    assert results.load(tmp_path / "fsync.json.failed").runs[0].name == "a"


@pytest.mark.parametrize(("name", "raised"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", typer.Exit)])
def test_a_signal_ends_all_plans(name: str, raised: type[BaseException], tmp_path: Path) -> None:
    started: list[str] = []

    async def stopped(plan: PlanFile, say: Say, *, keep: Keep) -> Result:
        started.append(plan.name)
        if plan.name == "fsync":
            os.kill(os.getpid(), getattr(signal, name))
            await asyncio.Event().wait()
        return await measured(plan, say, keep=keep)

    with pytest.raises(raised):
        measure_all(plans("latency_50", "fsync", "workloads"), tmp_path, quiet, measure=stopped)
    assert started == ["latency_50", "fsync"]
    assert [path.name for path in tmp_path.iterdir()] == ["latency_50.json"]


@pytest.mark.slow
def test_page_pictures_and_document_are_written(tmp_path: Path) -> None:
    sources(tmp_path, sustained(), million())
    document = tmp_path / "benchmarks.md"
    write_all(tmp_path, document, quiet)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names >= {"sustained_cpu.png", "million_growth.png", "million_over_time.png"}
    assert "sustained_four_nodes_2500_stages.png" not in names
    assert all(f"({name})" in document.read_text() for name in names)


def test_it_says_beforehand_what_would_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "publish", "--dry", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "sustained: 3 runs" in told and "million" not in told and "minutes in all" in told
    assert main(["bench", "publish", "--dry", "--results", str(tmp_path / "none")]) == 2
    assert list(tmp_path.iterdir()) == []
