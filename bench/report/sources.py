"""The files a report is made of: results of bench cluster, and CPU budgets that were measured otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.cluster import results
from bench.cluster.results import Result
from bench.errors import NotAResult

BUDGET_FORMAT: Final = "headrace-bench-budget-1"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """CPU microseconds a transaction and node, by kind of work, at one offered rate."""

    label: str
    commit: str
    offered_tps: float
    us_per_tx_per_node: float
    by_work_us: dict[str, float]
    tps: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """A file of budgets; `measured` says how they came about."""

    format: str
    measured: str
    budgets: list[Budget]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A result, where it is from, and a label that no other of the same report has."""

    label: str
    path: Path
    result: Result


def load_results(paths: Sequence[Path]) -> list[Source]:
    """The results in these files, in this order.

    Raises:
        NotAResult: a file cannot be read or is no result of bench cluster, or is given twice, or has no point.
    """
    found: list[tuple[Path, Result]] = []
    for path in paths:
        if any(path.resolve() == known.resolve() for known, _ in found):
            raise NotAResult(f"{path}: is given twice")
        result = results.load(path)
        if not any(run.points for run in result.runs):
            raise NotAResult(f"{path}: holds no measured point, its run was stopped before the first")
        found.append((path, result))
    names = [result.name for _, result in found]
    stems = [path.stem for path, _ in found]
    sources = []
    for path, result in found:
        label = result.name
        if names.count(result.name) > 1:
            label = path.stem if stems.count(path.stem) == 1 else str(path.with_suffix(""))
        sources.append(Source(label=label, path=path, result=result))
    return sources


def load_folder(folder: Path) -> tuple[list[Source], list[Budgets]]:
    """Results and budgets among the folder's JSON files, by name; those of other benchmarks are left out.

    Raises:
        NotAResult: the folder cannot be read, a file is broken, or there is no result.
    """
    files: list[Path] = []
    budgets: list[Budgets] = []
    for path in sorted(folder.glob("*.json")):
        kind = _format_of(path)
        if kind == results.FORMAT:
            files.append(path)
        elif kind == BUDGET_FORMAT:
            budgets.append(load_budgets(path))
    if not files:
        raise NotAResult(f"{folder}: no result there; make them with headrace bench publish, or bench cluster --output")
    return load_results(files), budgets


def load_budgets(path: Path) -> Budgets:
    """Raises NotAResult: the file cannot be read, or holds no budgets."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Budgets)
    except OSError as error:
        raise NotAResult(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise NotAResult(f"{path}: holds no budgets: {error}") from None


def _format_of(path: Path) -> str | None:
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise NotAResult(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise NotAResult(f"{path}: is no JSON: {error}") from None
    found = document.get("format") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None
