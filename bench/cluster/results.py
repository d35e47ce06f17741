"""What `headrace bench cluster` writes: one schema, checked when it is read back.

A result holds runs (one of each [[run]] of the plan), a run its points: one measured window each. Times are in
milliseconds, sizes in bytes, CPU in microseconds, where the name does not say otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.errors import BenchError, NotAResult

FORMAT: Final = "headrace-bench-cluster-1"
Role = Literal["run", "sweep", "soak"]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From the intended send time to when the watching process saw the certified block; milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float
    mean: float


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Transactions that came so far within the measured window. `ordered` None: it could not be measured."""

    offered: int
    accepted: int
    ordered: int | None
    certified: int


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """Of the nodes, within the window. A share is that of one core, of a mean node.

    `by_work_us` is what each kind of work took a transaction and node; `rest` is what no meter covers.
    """

    us_per_tx_per_node: float
    by_work_us: dict[str, float]
    busy_share: dict[str, float]
    cores_per_node: float


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """Of the heights in the window, on the watched node. `busy_share` is the part of the window in which the stage
    worked on at least one height; `overlap` 1.0 means one stage after the other."""

    overlap: float
    mean_ms: dict[str, float]
    busy_share: dict[str, float]


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    mean: float
    max: float


class HeightSpan(msgspec.Struct, frozen=True, kw_only=True):
    """When each stage worked on a height: [start, end] in microseconds from the window's start."""

    height: int
    transactions: int
    stages: dict[str, tuple[int, int]]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Of all processes of a node, mean and largest over the nodes. PSS shares what several processes map; without
    LMDB leaves the pages of the databases' files out, which the kernel gives back when anybody needs memory."""

    at_s: float
    resident: float
    pss: float | None = None
    pss_without_lmdb: float | None = None
    pss_without_lmdb_max: float | None = None


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """Of a mean node: blocks of the file system in use, and growth a certified transaction within the window."""

    bytes_start: float
    bytes_end: float
    bytes_per_tx: float


class Slices(msgspec.Struct, frozen=True, kw_only=True):
    """Throughput in consecutive slices of as many certified transactions, from the end of the warm-up on. In an open
    loop below the knee it is the offered rate whatever the nodes could do; a closed loop shows what they can."""

    transactions: int
    tps: list[float]
    last_against_first: float


class LoadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the load itself cost, apart from the nodes: CPU microseconds a transaction. Signing was done before."""

    processes: int
    send_us_per_tx: float
    watch_us_per_tx: float
    sign_us_per_tx: float
    behind_ms_max: float


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """By whole second from the start of the load, warm-up included."""

    accepted: list[int]
    certified: list[int]


class NodeAt(msgspec.Struct, frozen=True, kw_only=True):
    """One node at one moment of the load, as its metrics say; the nodes are asked in turn, one a second."""

    at_s: float
    node: int
    height: int
    cpu_s: float
    resident: int
    pool: int
    depths: dict[str, float]


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that was injected, seconds from the start of the load."""

    kind: str
    node: str
    start_s: float
    end_s: float | None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One load at one rate, and what it came to in the measured window."""

    role: Role
    repeat: int
    seed: int
    offered_tps: float
    closed_loop: bool  # at most `in_flight_max` waited for their certificate: latency is from the actual sending
    warmup_s: float
    seconds: float
    tps: float  # certified within the window
    counts: Counts
    failed: int  # of the whole load
    failed_by_reason: dict[str, int]
    latency_ms: Latency | None  # None: nothing that was due in the window was certified
    cdf: list[tuple[float, float]]  # (milliseconds, share)
    blocks: int
    transactions_per_block: float
    cpu: Cpu | None
    stages: Stages
    depths: dict[str, Depth]
    spans: list[HeightSpan]
    memory: list[Memory]  # before the load, in the middle and at the end of the window
    disk: Disk | None
    slices: Slices | None
    series: Series
    samples: list[NodeAt]
    load: LoadFigures
    faults: list[Injected] = []
    missing: list[str] = []  # what could not be measured here, in words


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """Of one sweep: the highest rate that was sustained, None if none was."""

    repeat: int
    offered_tps: float | None
    tps: float | None
    certified_share_min: float
    p99_ms_max: float


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One [[run]] of a plan with all its repeats."""

    name: str
    question: str
    plan: dict[str, Any]  # every setting, as a plan file would give it
    points: list[Point] = []
    knees: list[Knee] = []


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    format: str = FORMAT
    name: str
    created: str  # UTC, ISO 8601
    seconds: float  # that everything took
    machine: dict[str, Any]
    runs: list[Run]


def save(result: Result, path: Path) -> None:
    """Write it, in the place of an older one at once.

    Raises:
        BenchError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        temporary.replace(path)
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror}") from None


def load(path: Path) -> Result:
    """The result in a file.

    Raises:
        NotAResult: it cannot be read, or is none of this format.
    """
    wrong = f"{path}: is no result of `headrace bench cluster`"
    try:
        data = path.read_bytes()
        document = msgspec.json.decode(data)
    except OSError as error:
        raise NotAResult(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotAResult(f"{wrong}: it is not JSON") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found is None:
        raise NotAResult(f"{wrong}: it names no format")
    if found != FORMAT:
        raise NotAResult(f"{wrong}: its format is {found!r}, must be {FORMAT!r}")
    try:
        return msgspec.json.decode(data, type=Result)
    except msgspec.DecodeError as error:
        raise NotAResult(f"{wrong}: {error}") from None
