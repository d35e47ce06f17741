"""The store with real processes and threads: readers beside the writer, proofs from the disk, the folder lock."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from chain.errors import StoreError
from chain.model.genesis_json import genesis_to_json
from chain.offline import verify_proof
from chain.store import StateReader, Store, StoreLimits, open_store
from chain.store.state import StateStore
from tests.unit.store.factory import ChainFactory, key_of, some_writes

LIMITS = StoreLimits(
    blocks_map_bytes=64 * 1024 * 1024, state_map_bytes=64 * 1024 * 1024, journal_map_bytes=64 * 1024 * 1024
)
DEADLINE_S = 30


@pytest.fixture
def chain() -> ChainFactory:
    return ChainFactory()


@pytest.fixture
def store(chain: ChainFactory, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "data", chain.genesis_header, limits=LIMITS)
    yield opened
    opened.close()


def grow(store: Store, chain: ChainFactory, count: int = 1) -> None:
    for _ in range(count):
        made = chain.block(some_writes(chain.tip.height + 1), skipped=(1,))
        height = made.header.height
        store.journal.write([(height, b"vote")], [(height, made.header.proposal_digest, made.proposal, made.bodies)])
        store.blocks.append([made.block])
        store.state.apply([(height, made.header.state_root, made.writes)])


def test_proofs_of_what_is_stored_hold_offline(store: Store, chain: ChainFactory) -> None:
    grow(store, chain, 30)
    genesis = json.loads(json.dumps(genesis_to_json(chain.genesis)))
    for height in (1, 17, 30):
        for position, digest in enumerate(chain.made[height - 1].hashes):
            document = json.loads(json.dumps(store.receipt_proof(digest, chain.validators)))
            claim = verify_proof(document, genesis).claim
            assert (claim["height"], claim["position"]) == (height, position)
            assert claim["transaction"]["method"] == "pay"
        values: dict[bytes, bytes | None] = {}
        for made in chain.made[:height]:
            values.update(made.writes)
        for number in (*range(0, 40, 3), 500):
            value = values.get(key_of(number))
            document = json.loads(json.dumps(store.value_proof(key_of(number), height, chain.validators)))
            claim = verify_proof(document, genesis).claim
            assert (claim["key"], claim["value"]) == (key_of(number).hex(), None if value is None else value.hex())
            assert claim["written_at"] == store.blocks.last_write_height(key_of(number), height)


def _read_on_request(path: str, pipe: Connection) -> None:
    reader = StateReader(Path(path), map_bytes=LIMITS.state_map_bytes)
    while pipe.recv():
        pipe.send((reader.refresh(), reader.scan(b"")))
    reader.close()


def test_readers_in_other_processes_see_whole_heights(store: Store, chain: ChainFactory) -> None:
    grow(store, chain)
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    reader = spawn.Process(target=_read_on_request, args=(str(store.state.path), theirs))
    reader.start()
    try:
        for _ in range(5):
            mine.send(True)
            assert mine.poll(DEADLINE_S)
            assert mine.recv() == (chain.tip.height, store.state.scan(b""))
            grow(store, chain, 2)
        mine.send(False)
        reader.join(DEADLINE_S)
        assert reader.exitcode == 0
    finally:
        reader.kill()
        reader.join()


def test_a_killed_reader_does_not_pin_old_pages(store: Store, chain: ChainFactory) -> None:
    grow(store, chain)
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    reader = spawn.Process(target=_read_on_request, args=(str(store.state.path), theirs))
    reader.start()
    mine.send(True)
    assert mine.poll(DEADLINE_S)
    reader.kill()
    reader.join()
    grow(store, chain, 3)
    used = store.state.environment.used_bytes()
    grow(store, chain, 40)
    assert store.state.environment.used_bytes() == used, "pages of dead snapshots must be used again"


def test_a_reader_sees_no_height_half_written(store: Store, chain: ChainFactory) -> None:
    """Every height rewrites one value in two keys; a snapshot must show them equal, and equal to its height."""
    done = threading.Event()
    torn: list[object] = []

    def watch() -> None:
        reader = StateReader(store.state.path, map_bytes=LIMITS.state_map_bytes)
        while not done.is_set():
            height = reader.refresh()
            seen = (reader.get(b"one"), reader.get(b"two"))
            if height and seen != (b"%d" % height, b"%d" % height):
                torn.append((height, seen))
        reader.close()

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    for height in range(1, 101):
        store.state.apply([(height, bytes(32), [(b"one", b"%d" % height), (b"two", b"%d" % height)])])
    done.set()
    for watcher in watchers:
        watcher.join()
    assert torn == []


def test_a_reader_in_a_forked_child_is_refused_not_corrupted(store: Store, tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            StateReader(store.state.path, map_bytes=LIMITS.state_map_bytes)
        except StoreError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        assert "already open in this process" in pipe.read()
    assert store.state.get(b"k") is None


def test_a_forked_child_does_not_hold_the_folder_of_a_killed_node(chain: ChainFactory, tmp_path: Path) -> None:
    """Executors outlive a killed node for a moment; the node started next must get its folder."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from chain.store import open_store; from tests.unit.store.factory import ChainFactory\n"
        "store = open_store(Path(sys.argv[1]), ChainFactory().genesis_header)\n"
        "if os.fork() == 0: print(os.getpid(), flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        child = int(node.stdout.readline())
        try:
            with pytest.raises(StoreError, match=f"in use by process {node.pid}"):
                open_store(tmp_path, chain.genesis_header)
            node.kill()
            node.wait()
            open_store(tmp_path, chain.genesis_header).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_another_process_is_refused_and_told_who_holds_the_folder(store: Store, chain: ChainFactory) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from chain.errors import StoreError; from chain.store import open_store\n"
        "from tests.unit.store.factory import ChainFactory\n"
        "try: open_store(Path(sys.argv[1]), ChainFactory().genesis_header)\n"
        "except StoreError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True)
    assert f"in use by process {os.getpid()};" in done.stdout


def test_a_reader_that_waits_released_does_not_keep_old_pages(tmp_path: Path) -> None:
    """Executors wait for work for hours; what they would pin grows with every block."""

    def grown(folder: Path, *, release: bool) -> int:
        state = StateStore(folder, chain_id=bytes(32), genesis_state_root=bytes(32))
        reader = StateReader(state.path)
        before = (state.path / "data.mdb").stat().st_size
        for height in range(1, 41):
            if release:
                reader.release()
            state.apply([(height, bytes(32), [(b"key%03d" % key, bytes(200) + b"x") for key in range(40)])])
        size = (state.path / "data.mdb").stat().st_size
        assert reader.refresh() == 40
        assert reader.get(b"key000") == bytes(200) + b"x"
        reader.close()
        state.close()
        return size - before

    assert 4 * grown(tmp_path / "released", release=True) < grown(tmp_path / "held", release=False)
