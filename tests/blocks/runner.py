"""A seed from beginning to end: generate, execute every way, compare, shrink what fails."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from chain.errors import HeadraceError
from tests.blocks.checking import EXECUTORS, Report, Way, expect, problem_of, ways_of
from tests.blocks.generator import Case, case_of
from tests.blocks.shrink import describe, shrunk


def run_seed(
    seed: int, *, executors: Sequence[int] = EXECUTORS, every: bool = False, shrink: bool = True,
    make: Callable[[int], Case] = case_of,
) -> Report:  # fmt: skip
    """Generate the case of a seed and check it all ways; a failing one is shrunk."""
    case = make(seed)
    report = Report(seed, f"{case.world.name}/{case.world.rule_set}", blocks=len(case.blocks))
    report.transactions = sum(len(block) for block in case.blocks)
    try:
        expected = expect(case)
    except (AssertionError, HeadraceError) as error:
        report.problem, report.way = f"reference: {error!r}", "reference"
        return report
    digest = hashlib.sha256()
    for result in expected.results:
        digest.update(result.state_root + result.receipt_root + result.transaction_root)
        digest.update(repr((result.gas, result.statuses)).encode())
        report.statuses = dict(sorted((Counter(report.statuses) + Counter(result.statuses)).items()))
    report.digest = digest.hexdigest()
    for way in ways_of(seed, executors, every=every):
        problem = problem_of(case, way, expected, report)
        if problem:
            report.problem, report.way = problem, str(way)
            if shrink:
                small = shrunk(case, partial(_still, way))
                report.smallest = describe(small)
                report.problem = _still(way, small) or problem
            break
    return report


def _still(way: Way, case: Case) -> str:
    return problem_of(case, way, expect(case), None)
