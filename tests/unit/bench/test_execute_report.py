"""Files, tables and the picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.execute import report
from bench.execute.plot import HOW_TO_INSTALL, draw, spread_out
from chain.cli.main import main
from tests.unit.bench.samples import report_of

PNG = b"\x89PNG"


def test_results_are_written_and_read_again(tmp_path: Path) -> None:
    results = [report_of("zipf"), report_of("cpu_heavy"), report_of("zipf", predictions="adversarial", mode="forced")]
    written = report.save(results, tmp_path)
    assert [path.name for path in written] == [
        "execute_zipf.json", "execute_cpu_heavy.json", "execute_zipf_adversarial_forced.json",
    ]  # fmt: skip
    found = report.load_folder(tmp_path)
    assert [report.label(result) for result in found] == ["cpu_heavy", "zipf", "zipf (adversarial, forced)"]


def test_several_results_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    report.save([report_of("zipf"), report_of("cpu_heavy")], path)
    assert [result["workload"] for result in json.loads(path.read_text())["results"]] == ["zipf", "cpu_heavy"]
    assert len(report.load([path])) == 2
    report.save([report_of("zipf")], path)
    assert json.loads(path.read_text())["workload"] == "zipf"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workload": "nope"}', '{"results": [1]}'])
def test_what_is_no_result_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "execute_x.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"execute_x\.json"):
        report.load([path])


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="headrace bench execute --output"):
        report.load_folder(tmp_path)


def test_the_table_shows_unequal_bytes_and_how_blocks_were_executed() -> None:
    text = report.render([report_of("zipf"), report_of("cpu_heavy", equal=False)])
    lines = text.splitlines()
    assert lines[0].split()[0] == "workload"
    assert lines[1].endswith("yes") and lines[2].endswith("NO")
    assert "zipf, 2 executors, blocks of all repeats: 2 parallel (planned)" in text
    assert "zipf, CPU of a transaction in an executor: 11.0 us serial, 12.0 us tracked" in text
    assert "commit abc1234" in lines[-1]


def test_the_markdown_calls_the_model_a_model() -> None:
    text = report.markdown([report_of("zipf")])
    assert "| zipf | 10.0 | 1.54 | 0.95 | 1.25 | 1.60 | 0 | 100.0 -> 150.0 | yes |" in text
    assert "**a model**" in text and "| zipf | 1.60 | 2.50 |" in text
    assert "**a model**" not in report.markdown([report_of("zipf", model={})])


def test_a_table_is_put_between_the_marks_of_a_document(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.put_into(document, "new")
    report.put_into(document, "newer")
    assert document.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"
    document.write_text("no marks")
    with pytest.raises(BenchError, match="has no lines"):
        report.put_into(document, "new")
    assert document.read_text() == "no marks"


def test_labels_are_moved_apart_in_their_order() -> None:
    moved = spread_out([0.1, 0.0, 0.1, 0.9], 0.05)
    assert moved[1] == 0.0 and moved[3] == 0.9
    assert sorted(moved)[1:3] == [0.1, pytest.approx(0.15)]


@pytest.mark.slow
def test_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.save([report_of("zipf"), report_of("cpu_heavy"), report_of("credit_order", model={})], tmp_path)
    target = tmp_path / "execute.png"
    assert main(["bench", "plot", "execute", "--results", str(tmp_path), "--output", str(target)]) == 0
    assert target.read_bytes().startswith(PNG)
    assert capsys.readouterr().out.strip() == str(target)
    draw([report_of("zipf", model={})], target)
    with pytest.raises(BenchError, match="cannot be drawn"):
        draw([report_of("zipf")], tmp_path / "none" / "execute.png")


def test_without_matplotlib_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BenchError) as caught:
        draw([report_of("zipf")], tmp_path / "execute.png")
    assert str(caught.value) == HOW_TO_INSTALL


def test_only_execution_has_pictures_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("plot", "table"):
        assert main(["bench", command, "cluster"]) == 2
        assert "only of execute" in capsys.readouterr().err
