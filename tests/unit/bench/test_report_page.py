"""The page: it stands alone, it has every run and figure, and nothing that a result says can become markup."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from msgspec.structs import replace

from bench.cluster import results
from bench.cluster.results import Memory, Result
from bench.errors import BenchError
from bench.report.charts import charts_of, compared
from bench.report.look import HOW_TO_INSTALL
from bench.report.page import page_of
from bench.report.published import draw_all
from bench.report.sources import load_results
from chain.cli.main import main
from tests.unit.bench.cluster_samples import BOX
from tests.unit.bench.report_samples import ablation, load, result, run, sources, sweep

PNG = b"\x89PNG"
VOID = {"meta", "path", "use", "rect", "br"}


class Reader(HTMLParser):
    """Tags, the addresses they name, and whether all that opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(sources(tmp_path_factory.mktemp("results"), ablation(), sweep()))


@pytest.mark.slow
def test_it_asks_nobody_for_anything(page: str) -> None:
    reader = read(page)
    assert reader.open == []
    assert all(address.startswith("#") for address in reader.addresses)
    assert "script" not in reader.tags and "link" not in reader.tags and "img" not in reader.tags
    assert not re.search(r"https?:|//[a-z]|@import", page)
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", page))


@pytest.mark.slow
def test_what_is_referred_to_is_there_once(page: str) -> None:
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    referred = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert set(referred) <= set(names) and referred


@pytest.mark.slow
def test_every_run_and_every_kind_of_picture_is_there(page: str) -> None:
    for entry in (*ablation().runs, *sweep().runs):
        assert f"<td>{entry.name}" in page
    for title in (
        "Saturation", "By pipeline", "Latency", "CPU by kind of work", "Who works on which height when",
        "Throughput over time", "Memory and disk over transactions", "Ratios", "Knee", "Failures by reason",
        "Machine, versions, seeds",
    ):  # fmt: skip
        assert f">{title}</h3>" in page
    assert "abc1234" in page and "Plan of every run" in page and "&quot;link_delay_ms&quot;: 20" in page
    assert "3.00 × (2.9" in page or "2.99 × (2.9" in page


@pytest.mark.slow
def test_colours_follow_the_theme(page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--ink)" in drawn and "#22303d" not in drawn
    assert "prefers-color-scheme: dark" in page


@pytest.mark.slow
def test_what_a_result_says_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&"
    made = result(evil, run(evil, [load(failed=2, failed_by_reason={evil: 2}, missing=[evil])], question=evil))
    made.machine.update(commit=made.machine["commit"])
    results.save(made, tmp_path / "evil.json")
    page = page_of(load_results([tmp_path / "evil.json"]))
    reader = read(page)
    assert "script" not in reader.tags and reader.open == []
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") > 5


@pytest.mark.slow
def test_a_run_of_which_little_is_known_is_shown_all_the_same(tmp_path: Path) -> None:
    bare = load(
        latency_ms=None, cdf=[], cpu=None, spans=[], memory=[], disk=None, slices=None, samples=[],
        series=load().series, missing=["CPU of other machines"],
    )  # fmt: skip
    page = page_of(sources(tmp_path, result("bare", run("bare", [bare]))))
    assert "<td>bare" in page and "Not measured: CPU of other machines" in page


@pytest.mark.slow
def test_results_of_one_plan_are_compared(tmp_path: Path) -> None:
    before = result("mine", run("calm", [load(100.0 + at, repeat=at) for at in range(3)]))
    after = result("mine", run("calm", [load(200.0 + at, repeat=at) for at in range(3)]))
    page = page_of(sources(tmp_path, before, after))
    assert "made-0 (A) and made-1 (B)" in page and "differs" in page and "1.990" in page
    assert page_of(sources(tmp_path, before, after)) == page
    assert page.index(">How to read this</h2>") < page.index(">Compared</h2>") < page.index("made-0 (A)")


@pytest.mark.slow
def test_what_is_not_comparable_has_no_ratio(tmp_path: Path) -> None:
    own, other = (result("mine", run("calm", [load()])) for _ in range(2))
    other.runs[0].plan.update(urls=["http://a:1"], nodes=4, addressed=1)
    page = page_of(sources(tmp_path, own, other))
    assert "calm loaded a network that ran already: 4 validators, 1 of them addressed." in page
    assert "Of networks that ran already CPU is what their nodes say" in page
    row = re.search(r"<td[^>]*>CPU, us/tx/node</td>(.*?)</tr>", page)
    assert row is not None and re.findall(r"<td[^>]*>([^<]*)</td>", row[1]) == [
        "150", "150", "–", "–", "–", "measured differently"
    ]  # fmt: skip


def test_pictures_that_prove_little_say_so(tmp_path: Path) -> None:
    def cautions(made: Result) -> dict[str, str]:
        return {chart.name.removeprefix(made.name): chart.caution for chart in charts_of(sources(tmp_path, made)[0])}

    assert set(cautions(ablation()).values()) == {""}
    once = cautions(sweep())
    assert once["_saturation"] == "Only one repeat: differences may be chance."
    assert once["_latency"] == once["_cpu"] == once["_growth"] == ""
    box = {**BOX, "calibration": {"two_processes_gain": 1.45}}
    busy = cautions(replace(ablation(), machine=box))
    assert "(two processes gain 1.45)" in busy["_by_pipeline"] and busy["_latency"] and busy["_stages"]
    assert busy["_cpu"] == ""  # hardly touched by others
    two = result("mine", run("a", [load()]), run("b", [load(repeat=at) for at in range(2)], executors=2))
    assert cautions(two)["_by_execution"] == "Only one repeat of some runs: differences may be chance."


@pytest.mark.slow
def test_a_word_of_caution_stands_under_its_picture(tmp_path: Path) -> None:
    page = page_of(sources(tmp_path, sweep()))
    assert '<span class="caution">Only one repeat: differences may be chance.</span></figcaption>' in page


def test_lines_of_memory_that_coincide_are_both_seen(tmp_path: Path) -> None:
    at = [Memory(at_s=second, resident=3e8, pss=2e8, pss_without_lmdb=1e8, pss_without_lmdb_max=1e8)
          for second in (0.0, 3.0)]  # fmt: skip
    (source,) = sources(tmp_path, result("one", run("one", [load(memory=at)])))
    (chart,) = [chart for chart in charts_of(source) if chart.name == "one_growth"]
    figure = Figure()
    chart.paint(figure)
    largest, average = figure.axes[0].get_lines()[-2:]
    assert np.array_equal(largest.get_ydata(), average.get_ydata())
    assert largest.get_linestyle() == "-" and average.get_linestyle() == "--"
    assert largest.get_markersize() > average.get_markersize()


def test_results_of_different_plans_are_compared_only_where_they_share_a_run(tmp_path: Path) -> None:
    mine, other, third = (result(name, run(at, [load()])) for name, at in (("a", "x"), ("b", "y"), ("c", "x")))
    assert compared(sources(tmp_path, mine, other)) == []
    assert [len(group) for group in compared(sources(tmp_path, mine, third))] == [2]
    assert compared(sources(tmp_path, mine, other, third)) == []


@pytest.mark.slow
def test_the_command_writes_page_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = sources(tmp_path, sweep())
    folder = tmp_path / "new" / "png"
    output = tmp_path / "report.html"
    assert main(["bench", "report", str(source.path), "--output", str(output), "--png", str(folder)]) == 0
    told = capsys.readouterr().out.split("\n")
    pictures = sorted(folder.iterdir())
    assert told[0] == str(output) and sorted(filter(None, told[1:])) == [str(path) for path in pictures]
    assert {path.name for path in pictures} >= {"send_payment_saturation.png", "send_payment_stages.png"}
    assert all(path.read_bytes().startswith(PNG) for path in pictures)


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "{}", '{"format": "headrace-bench-cluster-1"}', '{"workload": "zipf", "results": []}']
)
def test_a_file_that_is_no_result_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["bench", "report", str(path), "--output", str(tmp_path / "report.html")]) == 2
    assert f"headrace bench: {path}: is no result of `headrace bench cluster`: " in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_result_that_is_missing_was_asked_for_wrongly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.json")
    for command in (["report", missing], ["compare", missing, missing], ["document", "--results", str(tmp_path)]):
        assert main(["bench", *command]) == 2
        assert str(tmp_path) in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = sources(tmp_path, sweep())
    assert main(["bench", "report", str(source.path), "--png", str(source.path / "png")]) == 2
    assert "--png is " in capsys.readouterr().err


def test_a_result_without_a_point_and_one_given_twice_are_refused(tmp_path: Path) -> None:
    results.save(result("empty", run("a", [])), tmp_path / "empty.json")
    with pytest.raises(BenchError, match="no measured point"):
        load_results([tmp_path / "empty.json"])
    results.save(result("full", run("a", [load()])), tmp_path / "full.json")
    with pytest.raises(BenchError, match="is given twice"):
        load_results([tmp_path / "full.json", tmp_path / "." / "full.json"])
    with pytest.raises(BenchError, match="cannot be read"):
        load_results([tmp_path / "none.json"])


def test_without_matplotlib_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sources(tmp_path, sweep())
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BenchError, match=re.escape(HOW_TO_INSTALL)):
        draw_all(made, [], tmp_path)
