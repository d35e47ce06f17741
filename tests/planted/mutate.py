"""`python -m tests.planted.mutate`: changes one condition after the other and sees which tests notice.

Every guard and comparison of the modules is negated, dropped, shifted by one, or loses an operand (`mutations.py`);
each mutant meets, cheap ones first, the tests that reach its line (`warm.py`): unit, paper, scenarios, integration;
with `--sim` the scripts and twenty small seeds of the simulator, too. `--state FILE` keeps what is known; mutants of
functions that have not changed since are not tried again, unless they survived.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.planted.mutations import Mutation, mutations
from tests.planted.page import score_page
from tests.planted.row import Row
from tests.planted.tree import ROOT, copy_tree, environment
from tests.planted.warm import CPU_S, Change, Outcome, Warm

MODULES: Final = (
    "consensus/votes.py",
    "consensus/safety.py",
    "consensus/ordering.py",
    "consensus/checkpoint.py",
    "consensus/view_change.py",
    "consensus/verification.py",
    "consensus/replica.py",
    "consensus/recovery.py",
    "consensus/slot.py",
    "consensus/catch_up.py",
    "chain/model/validators.py",
    "chain/sync/blocks.py",
    "chain/store/journal.py",
    "consensus/pace.py",
    "consensus/timers.py",
    "consensus/retransmission.py",
    "consensus/leader.py",
    "consensus/speculation.py",
    "consensus/wire.py",
    "consensus/messages.py",
    "consensus/story.py",
    "consensus/epoch.py",
    "consensus/kept.py",
    "consensus/succession.py",
    "consensus/follower.py",
    "chain/sync/checking.py",
    "chain/sync/download.py",
    "chain/sync/snapshots.py",
    "chain/sync/proposals.py",
    "chain/sync/server.py",
)
LADDER: Final = (
    "tests/unit/consensus",
    "tests/paper",
    "tests/unit/sync",
    "tests/unit/store",
    "tests/unit/pipeline",
    "tests/unit/node",
    "tests/unit/model",
    "tests/planted",
    "tests/scenarios/test_votes.py",
    "tests/scenarios/test_view_change.py",
    "tests/scenarios/test_liveness.py",
    "tests/scenarios/test_recovery_storage.py",
    "tests/integration/test_store.py",
)
SIM: Final = ("tests/sim/test_scripts.py", "tests/sim/test_speculation.py", "tests/planted/seeds.py")
LEFT_OUT: Final = ("tests/planted/test_corpus.py", "tests/planted/test_mutations.py")


def row(mutation: Mutation, outcome: Outcome) -> Row:
    return Row(
        file=mutation.file, function=mutation.function, line=mutation.line, what=mutation.what, text=mutation.text,
        key=mutation.key, verdict=outcome.verdict, killer=outcome.killer, tried=outcome.tried,
        seconds=outcome.seconds,
    )  # fmt: skip


def load_rows(path: Path | None) -> dict[str, Row]:
    """What an earlier run found, by key."""
    if path is None or not path.exists():
        return {}
    rows = [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]
    return {known.key: known for known in rows}


def score(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """How many of each verdict, by module."""
    table: dict[str, dict[str, int]] = {}
    for known in rows:
        counts = table.setdefault(
            known.file, {"mutants": 0, "killed": 0, "endless": 0, "survived": 0, "unreached": 0}
        )
        counts["mutants"] += 1
        counts[known.verdict] += 1
    return table


def page(modules: list[str], state: Path | None) -> str:
    """The score and the survivors as Markdown: what is known of the sources as they are."""
    known = load_rows(state)
    found = {file: mutations((ROOT / file).read_text(encoding="utf-8"), file) for file in modules}
    rows = [known[mutation.key] for every in found.values() for mutation in every if mutation.key in known]
    return score_page({file: len(every) for file, every in found.items()}, rows)


def try_here(modules: list[str], state: Path | None, *, again: bool, cpu_s: float, with_sim: bool) -> list[Row]:
    """In the tree that this process imports from: every mutation of the modules."""
    known = {} if again else load_rows(state)
    found = [mutation for file in modules for mutation in mutations((ROOT / file).read_text(encoding="utf-8"), file)]
    rows: list[Row] = []

    def tell(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def work(warm: Warm) -> None:
        for nodeid in warm.sick:
            tell(f"fails without any change: {nodeid}")
        done = 0
        for mutation in found:
            earlier = known.get(mutation.key)
            if earlier is not None and earlier.verdict in ("killed", "endless"):
                earlier.line = mutation.line
                rows.append(earlier)
                continue
            change = Change(mutation.key, mutation.file, mutation.tree(), (mutation.line, mutation.last_line))
            rows.append(row(mutation, warm.judge(change)))
            done += 1
            if rows[-1].verdict != "killed":
                shown = rows[-1]
                tell(f"{shown.verdict:>9}  {shown.file}:{shown.line} {shown.function}: {shown.what}  [{shown.text}]")
            if state is not None:
                with state.open("ab") as file:
                    file.write(msgspec.json.encode(rows[-1]) + b"\n")
            if done % 100 == 0:
                tell(f"{len(rows)} of {len(found)}")

    warm = Warm(root=ROOT, files=sorted({mutation.file for mutation in found}), work=work, tell=tell, cpu_s=cpu_s)
    paths = [path for path in (*LADDER, *(SIM if with_sim else ())) if (ROOT / path).exists()]
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    pytest.main(["-q", "-s", "-p", "no:xdist", "-p", "no:cacheprovider", *ignored, *paths], plugins=[warm])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted.mutate", description=__doc__)
    parser.add_argument("--module", nargs="+", default=list(MODULES), help="files, as consensus/votes.py")
    parser.add_argument("--state", type=Path, help="what is known, a line of JSON each; appended to")
    parser.add_argument("--again", action="store_true", help="also those that were killed before")
    parser.add_argument("--sim", action="store_true", help="with scripts and seeds of the simulator: slow")
    parser.add_argument("--cpu", type=float, default=CPU_S, help="seconds of CPU for one mutant")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--page", action="store_true", help="only print what `--state` knows, as in the docs")
    parser.add_argument("--here", action="store_true", help="in this tree instead of a copy (nothing is written to it)")
    options = parser.parse_args()
    if options.page:
        sys.stdout.write(page(options.module, options.state))
        return 0
    if not options.here:
        with tempfile.TemporaryDirectory(prefix="headrace-mutants-") as folder:
            copy_tree(Path(folder))
            arguments = list(sys.argv[1:])
            if options.state is not None:
                arguments += ["--state", str(options.state.resolve())]
            command = [sys.executable, "-m", "tests.planted.mutate", "--here", *arguments]
            return subprocess.run(command, cwd=folder, env=environment(Path(folder)), check=False).returncode
    start = time.monotonic()
    rows = try_here(options.module, options.state, again=options.again, cpu_s=options.cpu, with_sim=options.sim)
    left = [known for known in rows if known.verdict in ("survived", "unreached")]
    summary = {
        "mutants": len(rows),
        "killed": len(rows) - len(left),
        "survived": len(left),
        "seconds": round(time.monotonic() - start),
        "modules": score(rows),
    }
    if options.json:
        survivors = [msgspec.to_builtins(known) for known in left]
        sys.stdout.write(json.dumps({**summary, "survivors": survivors}) + "\n")
    else:
        for file, counts in score(rows).items():
            sys.stdout.write(f"{file:>32}  {counts}\n")
        sys.stdout.write(f"{len(rows)} mutants, {len(left)} left, {summary['seconds']} s\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
