"""CPU of signature checks as they come in at a node: in bursts, from several sources, with single votes between."""

from __future__ import annotations

import asyncio
import time
from random import Random

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from chain.crypto import PrivateKey, Scheme, Verifier
from chain.crypto.batches import checker_of
from chain.crypto.schemes import Item

SECONDS = 1.0
SIGNERS = 64
ITEMS = 1_024


def make_items() -> list[Item]:
    keys = [PrivateKey.from_secret(Scheme.ED25519, at.to_bytes(32, "big")) for at in range(1, SIGNERS + 1)]
    messages = [at.to_bytes(32, "big") for at in range(ITEMS)]
    return [
        (int(key.scheme), key.public_key, message, key.sign(message))
        for key, message in zip(keys * (ITEMS // SIGNERS), messages, strict=True)
    ]


async def load(verifier: Verifier, items: list[Item], rate: float, burst: int, votes: float) -> None:
    """`rate` transactions a second in bursts, `votes` single urgent items a second, for `SECONDS`."""
    random, loop = Random(1), asyncio.get_running_loop()
    asked: list[asyncio.Task[list[bool]]] = []
    start = loop.time()
    due = {False: start, True: start + (random.expovariate(votes) if votes else SECONDS)}
    while (urgent := due[True] < due[False]) or due[False] < start + SECONDS:
        if due[urgent] >= start + SECONDS:
            break
        await asyncio.sleep(due[urgent] - loop.time())
        first = random.randrange(ITEMS - burst)
        chosen = items[first : first + (1 if urgent else burst)]
        asked.append(loop.create_task(verifier.verify(chosen, urgent=urgent)))
        due[urgent] += random.expovariate(votes if urgent else rate / burst)
    assert all(all(verdicts) for verdicts in await asyncio.gather(*asked))


@pytest.mark.parametrize(("rate", "burst", "votes"), [(2_500, 25, 0), (2_500, 25, 100), (2_500, 10, 100), (50, 1, 0)])
def test_checks_as_they_come_in(benchmark: BenchmarkFixture, rate: float, burst: int, votes: float) -> None:
    checker, items = checker_of("auto"), make_items()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def make() -> Verifier:
            return Verifier(2, checker.check, checker.batching)

        verifier = runner.run(make())
        before = time.process_time()
        benchmark.pedantic(lambda: runner.run(load(verifier, items, rate, burst, votes)), rounds=2, iterations=1)  # type: ignore[no-untyped-call]
        spent = time.process_time() - before
        benchmark.extra_info["cpu_us_per_item"] = round(spent * 1e6 / max(1, verifier.items_checked), 1)
        benchmark.extra_info["checks_us_per_item"] = round(verifier.cpu_us / max(1, verifier.items_checked), 1)
        benchmark.extra_info["items_per_batch"] = round(verifier.items_checked / max(1, verifier.batches), 1)
        runner.run(verifier.close())
