"""The workloads: real contracts, set up by real transactions; nothing fails, equal seeds give equal blocks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.execute import workloads
from bench.execute.run import check_receipts
from bench.execute.workloads import WORKLOADS, Workload, blocks_of
from bench.execute.world import CHAIN, Made, World, block_of
from bench.workloads.draws import zipf_weights
from chain.model.transaction import split_transaction, transaction_hash
from chain.store.state import StateReader
from contracts.runtime import Machine
from contracts.sources import load_source
from executor.governor import Governor
from executor.parallel import Lead
from executor.planners import planner_of
from executor.process import NoProgress
from executor.state import BaseState

BLOCKS = 2
TRANSACTIONS = 30


@pytest.fixture(autouse=True)
def small_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer accounts, so that the set-up is quick."""
    monkeypatch.setattr(workloads, "ACCOUNTS", 500)


def made_by(name: str, folder: Path, seed: int) -> tuple[World, list[list[Made]]]:
    world = World(folder)
    return world, blocks_of(WORKLOADS[name], world, seed=seed, blocks=BLOCKS, transactions=TRANSACTIONS)


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_transaction_fails_and_hashes_and_senders_are_right(name: str, tmp_path: Path) -> None:
    world, blocks = made_by(name, tmp_path / "state", 1)
    first = world.height + 1
    world.close()
    base = BaseState(StateReader(tmp_path / "state"))
    lead = Lead(
        base=base, machine=Machine(CHAIN.rule_set), chain=CHAIN, planner=planner_of("empty"),
        governor=Governor("serial"), progress=NoProgress(), executors=1, lost=lambda index, reason: None,
    )  # fmt: skip
    assert [len(block) for block in blocks] == [TRANSACTIONS] * BLOCKS
    for height, block in enumerate(blocks, first):
        made = block_of(height, block)
        output = lead.execute(made)
        check_receipts(output)
        assert len(output.receipts) == TRANSACTIONS
        of = made.of(height=height, time_ms=made.time_ms, transactions=made.transactions)
        assert (of.hashes, of.senders) == (made.hashes, made.senders)
    base.close()


def test_seeds(tmp_path: Path) -> None:
    found = []
    for at, seed in enumerate((1, 1, 2)):
        world, blocks = made_by("smallbank_uniform", tmp_path / str(at), seed)
        world.close()
        found.append(blocks)
    assert found[0] == found[1] != found[2]


def test_hashes_are_those_of_the_raw_transactions(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    made = world.transaction("a", bytes(20), "method", (1,), 1)
    assert made.hash == transaction_hash(split_transaction(made.raw)[0])
    world.close()


def test_a_set_up_that_fails_is_told(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    bank = world.deploy("bank", load_source("library/smallbank"))
    with pytest.raises(BenchError, match="set-up failed: status 12 missing_key: checking"):
        world.run([world.transaction("a", bank, "deposit_checking", (1, 1), 100_000)])
    world.close()


def test_a_workload_that_runs_dry_is_told(tmp_path: Path) -> None:
    world = World(tmp_path / "state")
    dry = Workload("", "", lambda world, draw, count: iter([world.transaction("a", bytes(20), "m", (), 1)]))
    with pytest.raises(BenchError, match="made 1 of 4 transactions"):
        blocks_of(dry, world, seed=1, blocks=2, transactions=2)
    world.close()


def test_zipf_ranks() -> None:
    weights = zipf_weights(4, 0.9)
    steps = [after - before for before, after in zip([0.0, *weights], weights, strict=False)]
    assert steps == pytest.approx([1, 2**-0.9, 3**-0.9, 4**-0.9])
    assert random.Random(1).random() < 1 <= weights[0]
