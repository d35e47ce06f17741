"""Many scenarios: what they covered, added up over calls in a small file, whatever ends a call."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import consensus
from chain.errors import ConfigError
from chain.sim.twins.generator import nodes_of, scenario_of
from chain.sim.twins.run import run

CHUNK: Final = 50  # numbers that are played, counted and lost together
VIOLATIONS_KEPT: Final = 50
SAVE_S: Final = 5.0


@dataclass(slots=True)
class Totals:
    """What scenarios came to. `views` and heights are sums over the scenarios."""

    scenarios: int = 0
    steps: int = 0
    messages: int = 0
    crashes: int = 0
    views: int = 0
    heights_ordered: int = 0
    heights_certified: int = 0
    healed: int = 0
    healing_rounds_max: int = 0
    cpu_s: float = 0.0
    violations: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)  # (number, problem), the first of them

    def add(self, other: Totals) -> None:
        for name in ("scenarios", "steps", "messages", "crashes", "views", "heights_ordered", "heights_certified"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.healed += other.healed
        self.healing_rounds_max = max(self.healing_rounds_max, other.healing_rounds_max)
        self.cpu_s = round(self.cpu_s + other.cpu_s, 3)
        self.violations += other.violations
        self.failed = [*self.failed, *other.failed][:VIOLATIONS_KEPT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The numbers `first` to `last` (not in it), as far as they have that many validators."""

    first: int
    last: int
    seed: int
    nodes: tuple[int, ...]
    only: frozenset[str] | None = None


def play(job: Job) -> Totals:
    totals = Totals()
    start = time.process_time()
    for number in range(job.first, job.last):
        if nodes_of(number, seed=job.seed) not in job.nodes:
            continue
        outcome = run(scenario_of(number, seed=job.seed), only=job.only)
        totals.scenarios += 1
        totals.steps += outcome.steps
        totals.messages += outcome.messages
        totals.crashes += outcome.crashes
        totals.views += outcome.views
        totals.heights_ordered += outcome.ordered
        totals.heights_certified += outcome.certified
        totals.healed += bool(outcome.healing_rounds)
        totals.healing_rounds_max = max(totals.healing_rounds_max, outcome.healing_rounds)
        if outcome.problem:
            totals.violations += 1
            totals.failed.append((number, outcome.problem))
    totals.cpu_s = time.process_time() - start
    return totals


def played(jobs: Iterator[Job], workers: int) -> Iterator[tuple[Job, Totals]]:
    """The jobs and what came of them, in their order; stopping early loses what is not done yet."""
    if workers <= 1:
        for job in jobs:
            yield job, play(job)
        return
    # An interrupt is for the parent: it stops handing out jobs, and the workers finish what they have.
    with ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        running: deque[tuple[Job, Future[Totals]]] = deque()
        try:
            for job in jobs:
                running.append((job, pool.submit(play, job)))
                if len(running) >= 2 * workers:
                    job, done = running.popleft()
                    yield job, done.result()
            while running:
                job, done = running.popleft()
                yield job, done.result()
        finally:
            for _, future in running:
                future.cancel()


def source_digest() -> str:
    """Which core was run: a digest of its source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(consensus.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def default_state_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "headrace" / "twins.json"


class State:
    """The sums of all calls with one seed and one choice of sizes, and where the next call goes on."""

    def __init__(self, path: Path, *, seed: int, nodes: tuple[int, ...]) -> None:
        """Raises ConfigError if the file is there and is something else."""
        self._path = path
        self._key = f"seed {seed} nodes {','.join(map(str, nodes))}"
        self._saved = time.monotonic()
        self._all: dict[str, dict[str, object]] = {}
        if path.exists():
            try:
                self._all = json.loads(path.read_text(encoding="utf-8"))["runs"]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path} is not a state file of this program: {error}") from None
        known = self._all.get(self._key, {"next": 0, "totals": {}, "sources": {}})
        self.next: int = known["next"]  # type: ignore[assignment]
        self.totals = Totals(**known["totals"])  # type: ignore[arg-type]
        self.sources: dict[str, int] = known["sources"]  # type: ignore[assignment]
        self._source = source_digest()

    def add(self, job: Job, totals: Totals) -> None:
        self.next = job.last
        self.totals.add(totals)
        self.sources[self._source] = self.sources.get(self._source, 0) + totals.scenarios
        if time.monotonic() - self._saved > SAVE_S:
            self.save()

    @property
    def of_this_core(self) -> int:
        """Scenarios that were played against just these sources of the core."""
        return self.sources.get(self._source, 0)

    def save(self) -> None:
        self._saved = time.monotonic()
        self._all[self._key] = {"next": self.next, "totals": asdict(self.totals), "sources": self.sources}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps({"runs": self._all}, indent=1), encoding="utf-8")
        beside.replace(self._path)
