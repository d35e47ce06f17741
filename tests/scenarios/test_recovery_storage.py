"""Recovery of the disk: a node killed at any moment, a full map, a full disk, torn files. Nothing is half there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chain.errors import StoreError
from chain.store import JournalRecord, Store, StoreLimits, check_file, open_store
from tests.unit.store.factory import ChainFactory, some_writes

LIMITS = StoreLimits(
    blocks_map_bytes=64 * 1024 * 1024, state_map_bytes=64 * 1024 * 1024, journal_map_bytes=64 * 1024 * 1024
)

# Writes blocks for ever and says after each durable step what it has promised.
WRITER = """
import sys
from pathlib import Path
from tests.scenarios.test_recovery_storage import LIMITS, ChainFactory, grown, open_store, write_step

chain = ChainFactory()
store = open_store(Path(sys.argv[1]), chain.genesis_header, limits=LIMITS)
grown(chain, store.blocks.height())
while True:
    for promise in write_step(store, chain):
        print(promise, flush=True)
"""


def grown(chain: ChainFactory, height: int) -> None:
    """Make blocks up to `height`; the factory makes the same ones in every process."""
    while chain.tip.height < height:
        at = chain.tip.height + 1
        chain.block(some_writes(at, 20), transactions=at % 7, skipped=(0,) if at % 3 == 0 else ())


def write_step(store: Store, chain: ChainFactory, run: int = 2):  # type: ignore[no-untyped-def]
    """What a node does for the next `run` heights, yielding a line after every durable step."""
    low = chain.tip.height
    grown(chain, low + run)
    made = chain.made[low:]
    for item in made:
        height = item.header.height
        store.journal.write(
            [(height, f"vote {height}".encode()), JournalRecord(2**63 - 1, f"view {height}".encode(), "view")],
            [(height, item.header.proposal_digest, item.proposal, item.bodies)],
            prune_below=height - 3,
        )
        yield f"journal {height}"
    store.blocks.append([item.block for item in made])
    yield f"blocks {made[-1].header.height}"
    store.state.apply([(item.header.height, item.header.state_root, item.writes) for item in made])
    yield f"state {made[-1].header.height}"


def assert_whole(store: Store, promised: dict[str, int]) -> ChainFactory:
    """The store stands at a boundary of a run, has all that was promised, and everything in it fits together."""
    chain = ChainFactory()
    height = store.blocks.height()
    grown(chain, height)
    assert height % 2 == 0, "a run of blocks is all there or not at all"
    assert height >= promised["blocks"]
    assert store.state.height() == height >= promised["state"]
    values: dict[bytes, bytes | None] = {}
    for item in chain.made:
        at = item.header.height
        assert store.blocks.block(at) == item.block
        assert [store.transaction(digest) for digest in item.hashes] == [
            raw for place, raw in enumerate(item.bodies) if place not in item.block.skipped
        ]
        values.update(item.writes)
    assert store.state.scan(b"") == sorted((key, value) for key, value in values.items() if value is not None)
    records = store.journal.load()
    voted = [int(record.split()[1]) for record in records if record.startswith(b"vote")]
    assert voted == sorted(voted)
    assert (voted[-1] if voted else 0) >= promised["journal"], "a vote that may have left is still known"
    assert [record for record in records if record.startswith(b"view")] == [b"view %d" % at for at in voted[-1:]]
    return chain


def run_and_kill(data: Path, promises: int) -> dict[str, int]:
    """Start the writer, kill it when it has made this many promises, and return the last of each kind."""
    command = [sys.executable, "-c", WRITER, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(promises)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    promised = {"journal": 0, "blocks": 0, "state": 0}
    for line in lines:
        if line.endswith("\n") and line.strip():
            kind, height = line.split()
            promised[kind] = int(height)
    return promised


@pytest.mark.slow
def test_killed_at_any_moment_it_reopens_at_a_block_boundary(tmp_path: Path) -> None:
    seed = 20240611
    draw = random.Random(seed)
    chain = ChainFactory()
    for _ in range(10):
        promised = run_and_kill(tmp_path, draw.randrange(1, 60))
        for _ in range(2):  # recovery itself may be repeated
            store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
            assert_whole(store, promised)
            store.close()
    for name in ("blocks", "state", "journal"):
        assert check_file(tmp_path / name) == []


def test_killed_between_blocks_and_state_the_state_catches_up(tmp_path: Path) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    for _ in range(3):
        for promise in write_step(store, chain):
            if promise == "blocks 6":
                break
    store.close()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    assert store.replayed == 2
    chain = assert_whole(store, {"journal": 6, "blocks": 6, "state": 4})
    assert list(write_step(store, chain))[-1] == "state 8"
    store.close()


def test_killed_while_the_folder_is_made_it_starts_afresh(tmp_path: Path) -> None:
    """The stamp comes with the first data: an environment without either is new."""
    import lmdb

    for name in ("blocks", "state", "journal"):
        lmdb.open(str(tmp_path / name), map_size=1024 * 1024, max_dbs=2).close()
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    list(write_step(store, chain))
    store.close()


@pytest.mark.parametrize("full", ["blocks", "state", "journal"])
def test_a_full_map_is_told_and_a_larger_one_goes_on(tmp_path: Path, full: str) -> None:
    sizes = {f"{name}_map_bytes": 64 * 1024 * 1024 for name in ("blocks", "state", "journal")}
    sizes[f"{full}_map_bytes"] = 1024 * 1024
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=StoreLimits(**sizes))  # type: ignore[arg-type]
    big = bytes(200_000)
    reached = 0

    def fill() -> None:
        nonlocal reached
        for height in range(1, 100):
            made = chain.block([(b"%020d" % height, big)] if full != "journal" else [], transactions=1)
            store.journal.write([], [(height, made.header.proposal_digest, big if full == "journal" else b"", [])])
            store.blocks.append([made.block])
            store.state.apply([(height, made.header.state_root, made.writes)])
            reached = height

    with pytest.raises(StoreError, match=f"{full}: full, all 1048576 bytes .* Raise the map size of the {full}"):
        fill()
    assert reached >= 1
    assert store.state.height() == reached
    assert store.blocks.height() == reached + (full == "state")
    assert store.journal.has_proposal(chain.tip.proposal_digest) is (full != "journal")
    store.close()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    assert store.replayed == (full == "state")
    assert store.state.height() == store.blocks.height()
    store.close()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.scenarios.test_recovery_storage import LIMITS, ChainFactory, StoreError, grown, open_store, write_step

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
chain = ChainFactory()
store = open_store(Path(sys.argv[1]), chain.genesis_header, limits=LIMITS)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    while True:
        for promise in write_step(store, chain):
            print(promise, flush=True)
except StoreError as error:
    print("refused", error, flush=True)
    attempts = (
        lambda: store.journal.write([(1, b"vote 1")]),
        lambda: store.blocks.append([chain.made[store.blocks.height()].block]),
        lambda: store.state.apply([(store.state.height() + 1, bytes(32), [])]),
    )
    attempts[("journal", "blocks", "state").index(Path(str(error).split(":")[0]).name)]()
"""


def test_a_disk_that_takes_no_more_stops_the_writer_and_loses_nothing_promised(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("refused ")
    assert "an earlier write failed" in done.stderr.splitlines()[-1], "what the disk kept is not known any more"
    promised = {"journal": 0, "blocks": 0, "state": 0}
    for line in lines[:-1]:
        kind, height = line.split()
        promised[kind] = int(height)
    assert promised["state"] > 2
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    chain = assert_whole(store, promised)
    assert list(write_step(store, chain))
    store.close()


@pytest.mark.parametrize("name", ["blocks", "state", "journal"])
@pytest.mark.parametrize("kept", [1, 5_000, 0.5])
def test_a_torn_file_is_refused_by_name(tmp_path: Path, name: str, kept: float) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    for _ in range(5):
        list(write_step(store, chain))
    store.close()
    file = tmp_path / name / "data.mdb"
    os.truncate(file, int(kept * file.stat().st_size) if kept < 1 else int(kept))
    with pytest.raises(StoreError, match=f"{name}/data.mdb"):
        open_store(tmp_path, chain.genesis_header, limits=LIMITS)


def test_every_environment_waits_for_the_disk(tmp_path: Path) -> None:
    """A promise is kept over a power cut only if each commit is synced, data before meta page."""
    store = open_store(tmp_path, ChainFactory().genesis_header, limits=LIMITS)
    assert all(part.environment.is_synced() for part in (store.blocks, store.state, store.journal))
    store.close()
