"""The state: a run of heights at once, snapshots for readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.errors import ConfigError, InvariantError, StoreError
from chain.store import StateReader, StateStore

CHAIN = bytes(32)
ROOT = bytes([7]) * 32
MAP = 16 * 1024 * 1024


def open_state(path: Path) -> StateStore:
    return StateStore(path / "state", chain_id=CHAIN, genesis_state_root=ROOT, map_bytes=MAP)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    store = open_state(tmp_path)
    yield store
    store.close()


def root(height: int) -> bytes:
    return bytes([height]) * 32


def test_a_new_state_is_empty_at_genesis(state: StateStore) -> None:
    assert state.height() == 0
    assert state.state_root() == ROOT
    assert state.get(b"a") is None
    assert state.get(b"") is None
    assert state.scan(b"") == []
    state.apply([])
    assert state.height() == 0


def test_a_run_is_applied_in_order_and_deletes_take_effect(state: StateStore) -> None:
    state.apply([(1, root(1), [(b"a", b"1"), (b"b", b"1")]), (2, root(2), [(b"a", None), (b"c", b"2")])])
    assert state.scan(b"") == [(b"b", b"1"), (b"c", b"2")]
    state.apply([(3, root(3), [(b"a", b"3"), (b"b", None), (b"never", None)]), (4, root(4), [])])
    assert state.scan(b"") == [(b"a", b"3"), (b"c", b"2")]
    assert (state.height(), state.state_root()) == (4, root(4))
    assert state.get(b"a") == b"3"
    assert state.get(b"b") is None


@pytest.mark.parametrize(
    "run",
    [
        [(2, root(2), [])],
        [(1, root(1), [(b"k", b"v")]), (3, root(3), [])],
        [(1, root(1), []), (1, root(1), [])],
        [(0, root(0), [])],
        [(1, root(1), [(b"k", b"v"), (b"l", b"")])],
        [(1, root(1), [(b"", b"v")])],
        [(1, root(1), [(b"k", b"v"), (b"x" * 512, b"v")])],
    ],
)
def test_a_wrong_run_is_our_bug_and_changes_nothing(
    state: StateStore, run: list[tuple[int, bytes, list[tuple[bytes, bytes | None]]]]
) -> None:
    with pytest.raises(InvariantError):
        state.apply(run)
    assert state.height() == 0
    assert state.scan(b"") == []
    state.apply([(1, root(1), [(b"x" * 511, b"v")])])
    assert state.height() == 1


def test_it_survives_reopening(tmp_path: Path) -> None:
    for height in range(1, 4):
        state = open_state(tmp_path)
        assert state.height() == height - 1
        state.apply([(height, root(height), [(b"k%d" % height, b"v")])])
        state.close()
    state = open_state(tmp_path)
    assert state.state_root() == root(3)
    assert len(state.scan(b"k")) == 3
    state.close()
    with pytest.raises(ConfigError, match="belongs to chain"):
        StateStore(tmp_path / "state", chain_id=ROOT, genesis_state_root=ROOT, map_bytes=MAP)


def test_a_reader_keeps_its_snapshot_until_it_is_refreshed(state: StateStore) -> None:
    state.apply([(1, root(1), [(b"a", b"1"), (b"aa", b"1"), (b"b", b"1")])])
    reader = StateReader(state.path, map_bytes=MAP)
    state.apply([(2, root(2), [(b"a", b"2"), (b"aa", None)])])
    assert (reader.height(), reader.state_root()) == (1, root(1))
    assert reader.get(b"a") == b"1"
    assert reader.scan(b"a") == [(b"a", b"1"), (b"aa", b"1")]
    assert reader.refresh() == 2
    assert reader.get(b"a") == b"2"
    assert reader.scan(b"a") == [(b"a", b"2")]
    assert reader.scan(b"") == [(b"a", b"2"), (b"b", b"1")]
    assert reader.scan(b"\xff") == []
    assert reader.state_root() == root(2)
    assert reader.get(b"missing") is None
    assert reader.get(b"") is None
    assert reader.get(b"x" * 600) is None
    reader.close()
    with pytest.raises(StoreError, match="cannot be read"):
        reader.get(b"a")
    assert state.get(b"b") == b"1"


def test_a_reader_s_scan_stops_at_its_limit(state: StateStore) -> None:
    keys = [b"k%d" % number for number in range(6)]
    state.apply([(1, root(1), [(b"a", b"1"), *[(key, b"v") for key in keys], (b"z", b"1")])])
    reader = StateReader(state.path, map_bytes=MAP)
    for limit in range(9):
        assert [key for key, _ in reader.scan(b"k", limit)] == keys[:limit]
    assert [key for key, _ in reader.scan(b"k", 1 << 62)] == [key for key, _ in reader.scan(b"k")] == keys
    assert [key for key, _ in reader.scan(b"", 2)] == [b"a", b"k0"]
    reader.close()


def test_a_reader_needs_a_state(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no state environment here"):
        StateReader(tmp_path / "state", map_bytes=MAP)
    assert not (tmp_path / "state").exists()


def test_a_closed_writer_leaves_its_readers_in_this_process_alone(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.apply([(1, root(1), [(b"a", b"1")])])
    readers = [StateReader(state.path, map_bytes=MAP) for _ in range(3)]
    state.close()
    assert [reader.get(b"a") for reader in readers] == [b"1"] * 3
    with pytest.raises(StoreError, match="already open in this process"):
        open_state(tmp_path)
    for reader in readers:
        reader.close()
    open_state(tmp_path).close()
