"""The layers of state: what is read where, what is dropped when, what is recorded."""

from __future__ import annotations

import random

import pytest

from chain.errors import InvariantError
from chain.model.block import WriteSet
from executor import state as state_module
from executor.outcome import POSITION_NONE
from executor.state import BaseState, BlockState, PrefixIndex, TrackedState, merge_scan
from tests.unit.executor.workbench import MemoryReader


def test_base_reads_unstored_heights_before_the_snapshot() -> None:
    reader = MemoryReader()
    reader.store(1, [(b"a", b"3"), (b"b", b"3")])
    base = BaseState(reader)
    base.append(2, [(b"a", b"4"), (b"c", b"4")])
    base.append(3, [(b"b", None)])
    assert (base.get(b"a"), base.get(b"b"), base.get(b"c"), base.get(b"d")) == (b"4", None, b"4", None)
    assert base.scan(b"") == [(b"a", b"4"), (b"c", b"4")]
    assert base.height == 3


def test_base_drops_what_the_snapshot_has_caught_up_with() -> None:
    reader = MemoryReader()
    base = BaseState(reader)
    for height in (1, 2, 3):
        base.append(height, [(b"k", b"%d" % height), (b"only%d" % height, b"x")])
    reader.store(1, [(b"k", b"1"), (b"only1", b"x")])
    reader.store(2, [(b"k", b"2"), (b"only2", b"x")])
    base.refresh()
    assert base.overlay_size == 2  # k and only3 of height 3
    assert base.get(b"k") == b"3"
    reader.store(3, [(b"k", b"3"), (b"only3", b"x")])
    base.refresh()
    assert base.overlay_size == 0
    assert base.get(b"k") == b"3"
    assert [key for key, _ in base.scan(b"only")] == [b"only1", b"only2", b"only3"]


def test_base_forgets_cached_values_when_the_snapshot_overtakes_it() -> None:
    reader = MemoryReader()
    reader.store(1, [(b"k", b"old")])
    base = BaseState(reader)
    assert base.get(b"k") == b"old"
    reader.store(2, [(b"k", b"new")])  # a block this process was never told of
    assert base.get(b"k") == b"old"  # one block never sees two snapshots
    assert base.refresh() == 2
    assert base.height == 2
    assert base.get(b"k") == b"new"


def test_base_reads_the_store_once_a_key() -> None:
    reader = MemoryReader()
    reader.store(1, [(b"k", b"v")])
    base = BaseState(reader)
    for _ in range(3):
        assert base.get(b"k") == b"v"
        assert base.get(b"missing") is None
    assert reader.gets == 2


def test_base_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "CACHE_BYTES_MAX", 10_000)
    reader = MemoryReader()
    reader.store(1, [(b"%d" % number, b"v" * 100) for number in range(500)])
    base = BaseState(reader)
    for number in range(500):
        assert base.get(b"%d" % number) == b"v" * 100
    assert len(base._cache) < 50


def test_base_refuses_a_gap_and_ignores_what_it_has() -> None:
    reader = MemoryReader()
    reader.store(1, [])
    reader.store(2, [(b"k", b"2")])
    base = BaseState(reader)
    base.append(1, [(b"k", b"1")])
    assert base.get(b"k") == b"2"
    with pytest.raises(InvariantError, match="height 4 on top of height 2"):
        base.append(4, [])


def test_base_refuses_a_snapshot_that_goes_back() -> None:
    reader = MemoryReader()
    reader.store(1, [])
    base = BaseState(reader)
    reader._versions.pop()
    with pytest.raises(InvariantError, match="went back"):
        base.refresh()


def test_layers_equal_one_dict_whatever_is_stored_when() -> None:
    """Random blocks, stored late by a random number of heights: reads and scans equal those of a plain dict."""
    for seed in range(30):
        draw = random.Random(seed)
        reader = MemoryReader()
        base = BaseState(reader)
        model: dict[bytes, bytes] = {}
        waiting: list[tuple[int, WriteSet]] = []
        for height in range(1, 25):
            keys = sorted({b"%d/%d" % (draw.randrange(4), draw.randrange(6)) for _ in range(draw.randrange(8))})
            writes: WriteSet = [(key, draw.choice([None, b"%d" % height])) for key in keys]
            base.append(height, writes)
            waiting.append((height, writes))
            for key, value in writes:
                if value is None:
                    model.pop(key, None)
                else:
                    model[key] = value
            while waiting and draw.random() < 0.5:
                reader.store(*waiting.pop(0))
            if draw.random() < 0.7:
                base.refresh()
            prefix = b"%d/" % draw.randrange(4)
            assert base.scan(prefix) == sorted(item for item in model.items() if item[0].startswith(prefix)), seed
            for _ in range(6):
                key = b"%d/%d" % (draw.randrange(4), draw.randrange(6))
                assert base.get(key) == model.get(key), seed


def test_prefix_index_follows_new_keys() -> None:
    keys: dict[bytes, int] = {b"b1": 0, b"a": 0}
    index = PrefixIndex(keys)
    assert index.under(b"b") == [b"b1"]
    keys[b"b0"] = 0
    index.add(b"b0")
    assert index.under(b"b") == [b"b0", b"b1"]
    assert index.under(b"") == [b"a", b"b0", b"b1"]
    assert index.under(b"c") == []


def test_merge_scan_replaces_adds_and_deletes() -> None:
    below = [(b"a", b"1"), (b"b", b"1")]
    assert merge_scan(below, [(b"b", None), (b"c", b"2"), (b"d", None)]) == [(b"a", b"1"), (b"c", b"2")]


def _base(writes: WriteSet) -> BaseState:
    reader = MemoryReader()
    reader.store(1, writes)
    return BaseState(reader)


def test_block_state_reads_its_own_writes_and_sorts_them() -> None:
    state = BlockState(_base([(b"p/a", b"0"), (b"p/b", b"0")]))
    state.commit({b"p/b": None, b"p/c": b"1"})
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/c", b"1")]
    state.commit({b"p/b": b"2", b"o": b"2"})  # after the first scan the index must follow
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/b", b"2"), (b"p/c", b"1")]
    assert state.keys_under(b"p/") == [b"p/b", b"p/c"]
    assert state.write_set() == [(b"o", b"2"), (b"p/b", b"2"), (b"p/c", b"1")]


def test_tracked_state_records_versions_and_missing_keys() -> None:
    state = TrackedState(_base([(b"a", b"0")]))
    state.begin()
    assert state.get(b"a") == b"0"
    assert state.get(b"missing") is None
    state.commit(4, [(b"a", b"1"), (b"gone", None)])
    state.begin()
    assert state.get(b"a") == b"1"
    assert state.get(b"gone") is None
    state.commit(9, [])
    assert state.read_keys() == (b"a", b"missing", b"gone")
    assert list(state.read_counts) == [2, 2]
    assert list(state.read_refs) == [0, 1, 0, 2]
    assert list(state.read_versions) == [POSITION_NONE, POSITION_NONE, 4, 4]


def test_tracked_state_records_scans_with_what_the_block_put_there() -> None:
    state = TrackedState(_base([(b"p/a", b"0"), (b"p/b", b"0")]))
    state.begin()
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/b", b"0")]
    state.commit(2, [(b"p/b", None), (b"p/c", b"1"), (b"q", b"1")])
    state.begin()
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/c", b"1")]
    state.commit(5, [])
    assert state.scans == [(0, b"p/", ()), (1, b"p/", ((b"p/b", 2), (b"p/c", 2)))]


def test_tracked_state_abandons_without_a_trace() -> None:
    state = TrackedState(_base([(b"a", b"0")]))
    state.begin()
    state.get(b"a")
    state.commit(0, [])
    state.begin()
    state.get(b"b")
    state.scan(b"a")
    state.abandon()
    assert (list(state.read_counts), list(state.read_refs), state.scans) == ([1, 0], [0], [])
