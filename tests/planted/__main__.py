"""`python -m tests.planted`: plants each bug of the corpus and sees its test catch it; exit code 1 if one survives."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tests.planted.corpus import BUGS, GROUPS
from tests.planted.page import table
from tests.planted.runner import Verdict, judge_all, misfits


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--list", action="store_true", help="only the table of bugs and killers, as in the docs")
    options = parser.parse_args()
    if options.list:
        sys.stdout.write(table())
        return 0
    wrong = misfits()
    if wrong:
        sys.stderr.write(f"the corpus does not fit the sources: {json.dumps(wrong, indent=1)}\n")
        return 2
    bugs = [bug for bug in BUGS if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug's name contains {options.only!r}")

    def tell(verdict: Verdict) -> None:
        mark = "killed" if verdict.killed else "SURVIVED"
        sys.stderr.write(f"{mark:>8}  {verdict.seconds:5.1f} s  {verdict.name}: {verdict.how}\n")
        sys.stderr.flush()

    verdicts, sick = judge_all(bugs, workers=options.workers, tell=tell)
    survivors = [verdict.name for verdict in verdicts if not verdict.killed]
    killed = {verdict.name for verdict in verdicts if verdict.killed}
    by = {
        group: {"planted": len(chosen), "killed": sum(bug.name in killed for bug in chosen)}
        for group, members in GROUPS.items()
        if (chosen := [bug for bug in members if bug in bugs])
    }
    summary = {
        "planted": len(verdicts),
        "killed": len(killed),
        "survivors": survivors,
        "by": by,
        "failing_without_a_bug": sick,
    }
    if options.json:
        sys.stdout.write(json.dumps({**summary, "bugs": [asdict(verdict) for verdict in verdicts]}) + "\n")
    else:
        sys.stdout.write("".join(f"{key:>22}  {value}\n" for key, value in summary.items()))
    return 1 if survivors or sick else 0


if __name__ == "__main__":
    sys.exit(main())
