"""Results for people: a table for the terminal and one for the documents, and reading and writing the files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchError
from bench.execute.limits import least_speedup
from bench.execute.workloads import WORKLOADS

BEGIN: Final = "<!-- figures of bench execute: begin -->"
END: Final = "<!-- figures of bench execute: end -->"
FILE_PATTERN: Final = "execute_*.json"
RESULTS: Final = Path(__file__).resolve().parents[1] / "results"
HEADS: Final = (
    "workload", "serial us/tx", "speed-up", "at least", "worst block", "two processes", "run twice", "CPU us/tx",
    "equal",
)  # fmt: skip


def file_name(result: dict[str, Any]) -> str:
    """`execute_NAME.json`, with the predictions where they are not the ordinary ones."""
    kind = "" if result["predictions"] == "inferred" else f"_{result['predictions']}"
    mode = "" if result["mode"] == "parallel" else f"_{result['mode']}"
    return f"execute_{result['workload']}{kind}{mode}.json"


def save(results: Sequence[dict[str, Any]], path: Path) -> list[Path]:
    """Into one file, or, if `path` is a folder, each into a file of its own there; what was written.

    Raises:
        BenchError: it cannot be written.
    """
    documents = {path / file_name(result): result for result in results} if path.is_dir() else {path: merged(results)}
    try:
        for target, document in documents.items():
            target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return list(documents)


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document: the result itself, or several under `results`."""
    return results[0] if len(results) == 1 else {"results": list(results)}


def load(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The results in these files, in the order of the workloads.

    Raises:
        BenchError: a file cannot be read or holds no result.
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            for result in document.get("results", [document]):
                if result["workload"] not in WORKLOADS:
                    raise BenchError(f"{path}: no workload is called {result['workload']!r}")
                found.append(result)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise BenchError(f"{path}: holds no result of bench execute: {error}") from None
    order = list(WORKLOADS)
    return sorted(found, key=lambda result: (order.index(result["workload"]), file_name(result)))


def load_folder(folder: Path) -> list[dict[str, Any]]:
    """Raises BenchError: there are none."""
    results = load(sorted(folder.glob(FILE_PATTERN)))
    if not results:
        raise BenchError(f"{folder}: no {FILE_PATTERN} there; make them with headrace bench execute --output {folder}")
    return results


def label(result: dict[str, Any]) -> str:
    """The workload's name, with what is not ordinary about the run."""
    extra = [result["predictions"]] if result["predictions"] != "inferred" else []
    extra += [result["mode"]] if result["mode"] != "parallel" else []
    name = str(result["workload"])
    return f"{name} ({', '.join(extra)})" if extra else name


def row(result: dict[str, Any]) -> tuple[str, ...]:
    """The cells under `HEADS`; the speed-up is that of the largest number of executors."""
    executors = list(result["speedup"])[-1]
    lane = result["by_executors"][executors]
    return (
        label(result),
        f"{result['serial_us_per_tx']:.1f}",
        f"{result['speedup'][executors]:.2f}",
        f"{least_speedup(result):.2f}",
        f"{lane['worst_block_speedup']:.2f}",
        f"{result['two_processes_gain']:.2f}",
        str(lane["reexecuted"]),
        f"{result['serial']['cpu_us_per_tx']:.1f} -> {lane['cpu_us_per_tx']:.1f}",
        "yes" if result["equal"] else "NO",
    )


def render(results: Sequence[dict[str, Any]]) -> str:
    """The table, how the blocks were executed, and the box."""
    rows = [HEADS, *[row(result) for result in results]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    lines.append("")
    for result in results:
        costs = result["transaction_cpu_us"]
        lines.append(
            f"{label(result)}, CPU of a transaction in an executor: {costs['serial']:.1f} us serial, "
            f"{costs['tracked']:.1f} us tracked"
        )
        for executors, lane in result["by_executors"].items():
            ways = ", ".join(f"{way['blocks']} {way['mode']} ({way['reason']})" for way in lane["decisions"])
            lines.append(f"{label(result)}, {executors_text(executors)}, blocks of all repeats: {ways}")
    lines.append("")
    lines.append(provenance(results[0]))
    return "\n".join(lines)


def executors_text(count: str) -> str:
    """For instance "2 executors"."""
    return "1 executor" if count == "1" else f"{count} executors"


def provenance(result: dict[str, Any]) -> str:
    """How and on what it was measured, in one line."""
    box = result["machine"]
    repeats = "one pass" if result["repeats"] == 1 else f"fastest of {result['repeats']} passes"
    return (
        f"{result['blocks']} blocks of {result['transactions_per_block']} transactions, {repeats}, "
        f"seed {result['seed']}; {box['cores']} cores {box['processor']}, "
        f"{box['memory_gib']} GiB, Python {box['python']}, commit {box['commit']}"
    )


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The table and the model for a document."""
    lines = [_cells(HEADS), _cells(["---"] * len(HEADS)), *[_cells(row(result)) for result in results]]
    modelled = [result for result in results if result["model"]]
    if modelled:
        counts = [count for count in modelled[0]["model"]["speedup"] if count != "1"]
        lines += [
            "",
            "Speed-up by executors, **a model** (measured CPU times, a core for each executor, no contention):",
            "",
            _cells(["workload", *counts]),
            _cells(["---"] * (1 + len(counts))),
        ]
        for result in modelled:
            lines.append(_cells([label(result), *[f"{result['model']['speedup'][count]:.2f}" for count in counts]]))
    return "\n".join([*lines, "", provenance(results[0]) + "."])


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def put_into(document: Path, text: str) -> None:
    """Replace what stands between the marks in a document.

    Raises:
        BenchError: it has no marks, or cannot be read or written.
    """
    try:
        before, found, rest = document.read_text(encoding="utf-8").partition(BEGIN)
        _, closed, after = rest.partition(END)
        if not found or not closed:
            raise BenchError(f"{document}: has no lines {BEGIN!r} and {END!r} to put the figures between")
        document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{document}: {error.strerror}") from None
