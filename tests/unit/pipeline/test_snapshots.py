"""Taking snapshots: in a thread, once, at the snapshot's own height, again after a restart, with the same root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chain.errors import StoreError
from chain.model.block import SNAPSHOT_LAG
from chain.model.snapshot import Pair, snapshot_root
from chain.pipeline.snapshots import SnapshotTaker
from chain.pipeline.spans import CpuMeter
from chain.store import Store, open_store
from chain.types import Height
from tests.unit.store.factory import ChainFactory, some_writes

INTERVAL = 20
S, COMMIT = INTERVAL, Height(INTERVAL + SNAPSHOT_LAG)


def state_after(chain: ChainFactory, height: int) -> list[Pair]:
    state: dict[bytes, bytes] = {}
    for made in chain.made[:height]:
        for key, value in made.writes:
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    return sorted(state.items())


class World:
    def __init__(self, folder: Path) -> None:
        self.chain = ChainFactory()
        for height in range(1, 2 * INTERVAL + 1):
            self.chain.block(some_writes(height))
        self.folder = folder
        self.store = self.open()
        self.taken = 0
        self.errors: list[BaseException] = []

    def open(self) -> Store:
        return open_store(self.folder, self.chain.genesis_header, snapshot_interval=INTERVAL)

    def restart(self) -> None:
        self.store.close()
        self.store = self.open()

    def add(self, last: int) -> None:
        """Blocks up to a height."""
        blocks = self.chain.made[self.store.blocks.height() : last]
        self.store.blocks.append([made.block for made in blocks])
        self.store.state.apply([(made.header.height, made.header.state_root, made.writes) for made in blocks])

    def run(self, scenario: Callable[[SnapshotTaker], None]) -> SnapshotTaker:
        """With a taker; it has taken what there is to take at the end."""

        async def go() -> SnapshotTaker:
            with ThreadPoolExecutor(1) as thread:
                taker = SnapshotTaker(
                    store=self.store, interval=INTERVAL, thread=thread, cpu=CpuMeter(), taken=self.on_taken,
                    failed=self.errors.append,
                )  # fmt: skip
                scenario(taker)
                async with asyncio.timeout(10):
                    while taker.is_taking:
                        await asyncio.sleep(0)
                return taker

        return asyncio.run(go())

    def on_taken(self) -> None:
        self.taken += 1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


def test_a_header_says_nothing_a_root_or_waits_for_it(world: World) -> None:
    world.add(S + 3)

    def scenario(taker: SnapshotTaker) -> None:
        assert taker.root_in(Height(COMMIT - 1)) == taker.root_in(Height(S)) == b""
        assert taker.root_in(COMMIT) is None
        taker.stored(Height(S + 3))
        taker.stored(Height(S + 3))

    taker = world.run(scenario)
    assert world.taken == taker.taken_count == 1
    expected = snapshot_root(state_after(world.chain, S))
    assert taker.root_in(COMMIT) == expected
    assert expected not in {snapshot_root(state_after(world.chain, at)) for at in (S - 1, S + 1, S + 3)}


def test_nothing_is_taken_below_the_first_snapshot_height(world: World) -> None:
    world.add(S - 1)
    world.run(SnapshotTaker.start)
    assert world.taken == 0


@pytest.mark.parametrize("at", [S, S + 1, COMMIT - 1])
def test_a_restart_before_it_was_taken_gives_the_same_root(world: World, at: int) -> None:
    world.add(at)
    world.restart()
    taker = world.run(SnapshotTaker.start)
    assert world.taken == 1
    assert taker.root_in(COMMIT) == snapshot_root(state_after(world.chain, S))


def test_a_restart_after_it_was_taken_finds_it(world: World) -> None:
    world.add(S + 1)
    world.run(SnapshotTaker.start)
    world.restart()
    taker = world.run(SnapshotTaker.start)
    assert world.taken == 1
    assert taker.root_in(COMMIT) == snapshot_root(state_after(world.chain, S))


def test_a_lost_file_is_made_again_until_the_committing_header_is_stored(world: World) -> None:
    world.add(COMMIT - 1)
    world.run(SnapshotTaker.start)
    for file in (world.folder / "snapshots").iterdir():
        file.unlink()
    world.restart()
    world.run(SnapshotTaker.start)
    assert world.taken == 2


def test_what_was_kept_for_it_is_let_go_when_the_committing_header_is_stored(world: World) -> None:
    world.add(COMMIT - 1)
    world.run(SnapshotTaker.start)
    assert world.store.state.snapshot_height == S
    world.add(COMMIT)
    world.run(lambda taker: taker.stored(COMMIT))
    assert world.store.state.snapshot_height is None
    assert world.errors == []


def test_a_state_that_is_not_what_a_stored_header_says_stops_the_node(tmp_path: Path) -> None:
    """As after the state was damaged or replaced: better told now than served. These headers commit to nothing."""
    world = World(tmp_path)
    world.add(COMMIT)
    world.run(SnapshotTaker.start)
    [error] = world.errors
    assert isinstance(error, StoreError)
    assert "says otherwise" in str(error)
    world.restart()
    assert world.store.snapshots.heights() == (), "what was refused is neither served nor taken for granted"
    world.run(SnapshotTaker.start)
    assert len(world.errors) == 2
    world.store.close()
