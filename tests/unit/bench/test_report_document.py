"""The document: every figure to be reached, from the right run, the same text for the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.results import Result
from bench.errors import BenchError
from bench.report.command import RESULTS
from bench.report.document import Remarks, document_of, load_remarks
from bench.report.sources import load_budgets, load_folder
from bench.report.targets import TARGETS, Published, lasting
from chain.cli.main import main
from tests.unit.bench.report_samples import ablation, load, million, result, run, sources, sustained, sweep


def published(folder: Path, *made: Result) -> Published:
    return {source.result.name: source for source in sources(folder, *made)}


def target(key: str) -> Any:
    return next(one for one in TARGETS if one.key == key)


def reading(key: str, folder: Path, *made: Result) -> tuple[float | None, str]:
    found = target(key).read(published(folder, *made))
    return (None if found is None else found.value), target(key).verdict(found)


def test_a_rate_counts_that_every_repeat_kept_up_with_for_a_minute(tmp_path: Path) -> None:
    found = lasting(published(tmp_path, sustained(), sweep()), nodes=4)
    assert [entry.tps for entry in found] == [160.0, 2_500.0]
    assert [entry.source.result.name for entry in found] == ["send_payment", "sustained"]
    assert reading("certified_tps", tmp_path, sustained(), sweep()) == (2_500.0, "first")
    assert reading("certified_tps", tmp_path, sustained(tps=2_400.0)) == (2_400.0, "short")
    assert reading("certified_tps", tmp_path, result("other", run("a", [load(9_000.0, seconds=60.0)]))) == (
        None, "not measured",
    )  # fmt: skip


def test_one_repeat_that_fell_behind_or_was_short_takes_the_rate_away(tmp_path: Path) -> None:
    behind = [load(2_500.0, seconds=60.0, p99=300.0), load(2_000.0, offered_tps=2_500.0, seconds=60.0)]
    assert reading("certified_tps", tmp_path, result("sustained", run("a", behind)))[0] is None
    brief = result("sustained", run("a", [load(2_500.0, seconds=20.0)]))
    assert reading("certified_tps", tmp_path, brief)[0] is None
    closed = result("sustained", run("a", [load(2_500.0, seconds=60.0, closed_loop=True)], in_flight_max=100))
    assert reading("certified_tps", tmp_path, closed)[0] is None


@pytest.mark.parametrize(
    "settings", [{"ablation": {"fsync": "off"}}, {"link_delay_ms": 5}, {"parameters": {"window": 4}}, {"nodes": 1},
                 {"workload": "smallbank"}]
)  # fmt: skip
def test_a_run_that_is_not_the_ordinary_one_counts_for_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    made = result("sustained", run("a", [load(9_000.0, seconds=60.0)], **settings))
    assert reading("certified_tps", tmp_path, made)[0] is None
    assert reading("single_node", tmp_path, made)[0] == (9_000.0 if settings == {"nodes": 1} else None)


def test_cpu_is_that_of_the_highest_lasting_rate(tmp_path: Path) -> None:
    assert reading("cpu", tmp_path, sustained(cpu=150.0)) == (150.0, "first")
    assert reading("cpu_without_verify", tmp_path, sustained(cpu=150.0)) == (105.0, "short")
    assert reading("cpu", tmp_path, sustained(cpu=80.0)) == (80.0, "then")


def test_latency_at_80_percent_is_that_of_the_soaks(tmp_path: Path) -> None:
    assert reading("p99_at_80", tmp_path, sweep()) == (170.0, "then")


def test_latency_at_50_is_that_of_its_plan(tmp_path: Path) -> None:
    calm = result("latency_50", run("latency_50", [load(50.0, p99=400.0)], rate=50))
    assert reading("p50_at_50", tmp_path, calm) == (200.0, "first")
    assert reading("p99_at_50", tmp_path, calm) == (400.0, "first")


def test_the_pipeline_is_on_over_off_at_blocks_of_100(tmp_path: Path) -> None:
    value, verdict = reading("pipeline", tmp_path, ablation())
    assert value == pytest.approx(901 / 301) and verdict == "first"
    free = result(
        "pipeline_on_off",
        run("on_20_free", [load(950.0)], link_delay_ms=20), run("on_0_free", [load(1_000.0)]),
    )  # fmt: skip
    assert reading("distance", tmp_path, free) == (95.0, "then")
    assert reading("pipeline", tmp_path, free) == (None, "not measured")


def test_after_a_million_means_that_there_were_a_million(tmp_path: Path) -> None:
    assert reading("memory", tmp_path, million()) == (280.0, "then")
    assert reading("over_time", tmp_path, million()) == (98.0, "then")
    assert reading("memory", tmp_path, million(certified=999_990))[0] is None


def write(folder: Path, *made: Result) -> tuple[Path, Path]:
    """The folder of results and the document."""
    results = folder / "bench" / "results"
    results.mkdir(parents=True)
    sources(results, *made)
    (results / "before.json").write_bytes((RESULTS / "before_budget.json").read_bytes())
    (results / "execute_zipf.json").write_text("{}")
    (results / "sustained_cpu.png").write_bytes(b"")
    document = folder / "docs" / "benchmarks.md"
    document.parent.mkdir()
    return results, document


def test_the_command_writes_the_same_text_again(tmp_path: Path) -> None:
    results, document = write(tmp_path, sustained(), ablation(), sweep(), million())
    command = ["bench", "document", "--results", str(results), "--into", str(document)]
    assert main(command) == 0
    text = document.read_text()
    assert main(command) == 0
    assert document.read_text() == text
    for one in TARGETS:
        assert f"| {one.figure} |" in text
    for made in (sustained(), ablation(), sweep(), million()):
        for entry in made.runs:
            assert f"| `{entry.name}`" in text
    assert "| **2,500 tx/s** | **yes**, the aim not | 2,500/s offered" in text
    assert "not by this command" in " ".join(text.split())
    assert "| GoQuorum, IBFT, four nodes | 153 | 16.3 x |" in text
    assert "(../bench/results/sustained_cpu.png)" in text and "sustained_latency.png" not in text
    assert "before, 2,500/s (b883c7a) | now, 160/s (abc1234) | now, 2,500/s (abc1234) |" in text
    assert "At 2,500/s a transaction takes 0.82 of what it took before." in text


def test_rows_have_as_many_cells_as_their_heads(tmp_path: Path) -> None:
    strange = result("a|b\nc", run("x|<y>", [load()]))
    text = document_of(
        sources(tmp_path, strange, sustained()), [load_budgets(RESULTS / "before_budget.json")], Remarks(),
        folder=tmp_path, into=tmp_path / "x.md",
    )  # fmt: skip
    tables = [block for block in text.strip().split("\n\n") if block.startswith("|")]
    assert len(tables) > 4
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.split("\n")}) == 1
    assert "<y>" not in text


def test_remarks_stand_with_what_falls_short(tmp_path: Path) -> None:
    remarks = Remarks(figures={"cpu": "TLS takes the rest."}, plans={"sustained": "Read it so."})
    text = document_of(sources(tmp_path, sustained()), [], remarks, folder=tmp_path, into=tmp_path / "x.md")
    assert "signature check included.** TLS takes the rest." in text and "Read it so." in text
    assert "without the signature check.** 105 µs, 100 µs is wanted: 1.05 of it." in text


def test_the_remarks_of_the_project_are_well_formed_and_others_are_refused(tmp_path: Path) -> None:
    assert [entry.tps for entry in load_remarks().elsewhere] == [[69, 113], [82, 229], [153], [404]]
    path = tmp_path / "remarks.toml"
    for text, told in (("figures.speed = 'x'", "figures.speed: must be one of certified_tps"), ("x = 1", "no remarks")):
        path.write_text(text)
        with pytest.raises(BenchError, match=told):
            load_remarks(path)


def test_other_benchmarks_are_left_out_of_a_folder_and_broken_files_are_named(tmp_path: Path) -> None:
    results, document = write(tmp_path, sustained())
    found, budgets = load_folder(results)
    assert [source.label for source in found] == ["sustained"]
    assert [len(one.budgets) for one in budgets] == [3]
    (results / "torn.json").write_text("{")
    with pytest.raises(BenchError, match=r"torn\.json"):
        load_folder(results)
    (tmp_path / "empty").mkdir()
    assert main(["bench", "document", "--results", str(tmp_path / "empty"), "--into", str(document)]) == 2


def test_a_budget_adds_up(tmp_path: Path) -> None:
    for budget in load_budgets(RESULTS / "before_budget.json").budgets:
        if budget.by_work_us:
            assert 0 <= budget.us_per_tx_per_node - sum(budget.by_work_us.values()) < 0.05 * budget.us_per_tx_per_node
    (tmp_path / "x.json").write_text(json.dumps({"format": "headrace-bench-budget-1"}))
    with pytest.raises(BenchError, match="holds no budgets"):
        load_budgets(tmp_path / "x.json")
