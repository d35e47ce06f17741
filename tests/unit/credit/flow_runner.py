"""Runs planned phases on a `SuiteWorld`, each phase as one block, and compares every outcome with the plan."""

from __future__ import annotations

import random
from collections.abc import Sequence

from chain.cli.demo.workload import ORGANISATIONS, Parties, Phase, Signer
from tests.unit.credit.suite_world import SuiteWorld


def account(signer: Signer) -> str:
    """The name that `SuiteWorld` knows a signer by."""
    return signer if isinstance(signer, str) else f"{signer[0]} {signer[1]}"


def parties_of(world: SuiteWorld, subjects: int) -> Parties:
    organisations = {name: world.address(name) for name in ORGANISATIONS}
    return Parties(organisations, [world.address(account(("subject", index))) for index in range(subjects)])


def run(world: SuiteWorld, phases: Sequence[Phase], *, shuffle: int = 0) -> list[str]:
    """Sends everything; what differed from the plan. `shuffle` is a seed for the order within each phase."""
    problems = []
    for phase in phases:
        world.set_time(max(world.time_ms, phase.not_before_ms))
        calls = list(phase.calls)
        if shuffle:
            random.Random(shuffle).shuffle(calls)
        ends = world.block(
            [(account(call.signer), call.contract.split(".")[1], call.method, *call.arguments) for call in calls]
        )
        found = [call.problem(status, result) for call, (status, result) in zip(calls, ends, strict=True)]
        problems += [f"{phase.name}: {problem}" for problem in found if problem]
    return problems
