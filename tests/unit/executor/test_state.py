"""The layers of state: what is read where, what is dropped when, what is recorded."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from chain.errors import InvariantError
from chain.model.block import WriteSet
from chain.store.state import StateReader, StateStore
from contracts.runtime import Add, Outcome, integer_bytes
from executor import state as state_module
from executor.state import ALL_ROWS, BaseState, BlockState, PrefixIndex, TrackedState, merge_scan
from tests.unit.executor.workbench import MemoryReader

WORD = 2**63 - 1  # what an add's numbers are clamped to
ANYWHERE = (-(2**255), 2**256 - 1)  # bounds of an add without bounds


def test_base_reads_unstored_heights_before_the_snapshot() -> None:
    reader = MemoryReader()
    reader.store(1, [(b"a", b"3"), (b"b", b"3")])
    base = BaseState(reader)
    base.append(2, {b"a": b"4", b"c": b"4"})
    base.append(3, {b"b": None})
    assert (base.get(b"a"), base.get(b"b"), base.get(b"c"), base.get(b"d")) == (b"4", None, b"4", None)
    assert base.scan(b"") == [(b"a", b"4"), (b"c", b"4")]
    assert base.height == 3


def test_base_drops_what_the_snapshot_has_caught_up_with() -> None:
    reader = MemoryReader()
    base = BaseState(reader)
    for height in (1, 2, 3):
        base.append(height, {b"k": b"%d" % height, b"only%d" % height: b"x"})
    reader.store(1, [(b"k", b"1"), (b"only1", b"x")])
    reader.store(2, [(b"k", b"2"), (b"only2", b"x")])
    base.refresh()
    assert base.unstored_heights == 1
    assert base.get(b"k") == b"3"
    reader.store(3, [(b"k", b"3"), (b"only3", b"x")])
    base.refresh()
    assert base.unstored_heights == 0
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


def test_what_is_not_stored_is_read_also_when_the_cache_was_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "CACHE_BYTES_MAX", 2_000)
    reader = MemoryReader()
    reader.store(1, [(b"%d" % number, b"old") for number in range(100)])
    base = BaseState(reader)
    for height in range(2, 12):
        base.append(height, {b"%d" % number: b"%d" % height for number in range(height, 100)})
    assert [base.get(b"%d" % number) for number in range(100)] == [
        b"old" if number < 2 else b"%d" % min(number, 11) for number in range(100)
    ]


def test_base_cache_counts_values_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "CACHE_BYTES_MAX", 100_000)
    reader = MemoryReader()
    reader.store(1, [(b"%d" % number, b"v") for number in range(100)])
    base = BaseState(reader)
    for number in range(100):
        base.get(b"%d" % number)
    for height in range(2, 40):
        base.append(height, {b"%d" % height: bytes(10_000)})
        reader.store(height, [(b"%d" % height, bytes(10_000))])
        base.refresh()
    assert sum(len(value) for value in base._cache.values() if value) <= 110_000


def test_base_refuses_a_gap_and_ignores_what_it_has() -> None:
    reader = MemoryReader()
    reader.store(1, [])
    reader.store(2, [(b"k", b"2")])
    base = BaseState(reader)
    base.append(1, {b"k": b"1"})
    assert base.get(b"k") == b"2"
    with pytest.raises(InvariantError, match="height 4 on top of height 2"):
        base.append(4, {})


def test_base_refuses_a_snapshot_that_goes_back() -> None:
    reader = MemoryReader()
    reader.store(1, [])
    base = BaseState(reader)
    reader._versions.pop()
    with pytest.raises(InvariantError, match="went back"):
        base.refresh()


def test_base_knows_the_root_of_its_snapshot_only() -> None:
    reader = MemoryReader()
    reader.store(1, [], b"root 1")
    base = BaseState(reader)
    base.append(2, {})
    assert base.snapshot_root == b"root 1"
    reader.store(2, [], b"root 2")
    assert base.snapshot_root == b"root 1"  # until it moves
    base.refresh()
    assert base.snapshot_root == b"root 2"


def test_a_discarded_height_leaves_nothing_in_overlay_and_cache() -> None:
    base = _base([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
    base.append(2, {b"a": b"2", b"c": b"2", b"n": b"2"})
    base.append(3, {b"a": b"3", b"b": None, b"m": b"3"})
    base.append(4, {b"a": b"4"})
    assert [base.get(key) for key in (b"a", b"b", b"m", b"n")] == [b"4", None, b"3", b"2"]
    assert base.scan(b"") == [(b"a", b"4"), (b"c", b"2"), (b"m", b"3"), (b"n", b"2")]
    base.discard(3)
    assert base.height == 2
    assert base.unstored_heights == 1
    assert base.scan(b"") == [(b"a", b"2"), (b"b", b"1"), (b"c", b"2"), (b"n", b"2")]
    assert [base.get(key) for key in (b"a", b"b", b"m", b"n")] == [b"2", b"1", None, b"2"]
    base.discard(2)
    assert (base.height, base.unstored_heights) == (1, 0)
    assert [base.get(key) for key in (b"a", b"c", b"n")] == [b"1", b"1", None]


def test_a_height_that_was_never_executed_is_discarded_in_vain() -> None:
    base = _base([(b"a", b"1")])
    base.append(2, {b"a": b"2"})
    base.discard(3)
    base.discard(9)
    assert (base.height, base.get(b"a")) == (2, b"2")


def test_a_stored_height_cannot_be_discarded() -> None:
    reader = MemoryReader()
    base = BaseState(reader)
    base.append(1, {b"a": b"1"})
    base.append(2, {b"a": b"2"})
    reader.store(1, [(b"a", b"1")])
    base.refresh()
    with pytest.raises(InvariantError, match="discard height 1; the state is stored up to 1"):
        base.discard(1)
    assert (base.height, base.get(b"a")) == (2, b"2")  # nothing has happened
    base.discard(2)
    assert (base.height, base.get(b"a")) == (1, b"1")


def test_a_discarded_height_is_executed_again() -> None:
    base = _base([])
    base.append(2, {b"a": b"2", b"only old": b"2"})
    base.discard(2)
    base.append(2, {b"a": b"2 again"})
    assert (base.height, base.get(b"a"), base.get(b"only old")) == (2, b"2 again", None)
    assert base.scan(b"") == [(b"a", b"2 again")]


def test_a_known_height_takes_the_place_of_the_old_one_and_of_all_above() -> None:
    """As on an executor that hears of the new height before it hears of the discarding."""
    base = _base([(b"a", b"1")])
    for height in (2, 3, 4):
        base.append(height, {b"a": b"%d" % height, b"only%d" % height: b"x"})
    base.append(3, {b"a": b"3 again"})
    assert base.height == 3
    assert base.scan(b"") == [(b"a", b"3 again"), (b"only2", b"x")]
    assert [base.get(key) for key in (b"a", b"only2", b"only3", b"only4")] == [b"3 again", b"x", None, None]


def test_layers_equal_one_dict_whatever_is_stored_and_discarded_when() -> None:
    """Random blocks, stored late by a random number of heights, some discarded and executed anew: reads and scans equal
    those of a plain dict."""
    for seed in range(60):
        draw = random.Random(seed)
        reader = MemoryReader()
        base = BaseState(reader)
        models: list[dict[bytes, bytes]] = [{}]  # by height
        waiting: list[tuple[int, WriteSet]] = []
        for _ in range(30):
            if waiting and draw.random() < 0.3:
                height = draw.choice(waiting)[0]
                if draw.random() < 0.5:
                    base.discard(height)  # otherwise the height that replaces it says so
                del models[height:]
                waiting = [item for item in waiting if item[0] < height]
            height = len(models)
            keys = sorted({b"%d/%d" % (draw.randrange(4), draw.randrange(6)) for _ in range(draw.randrange(8))})
            writes: WriteSet = [(key, draw.choice([None, b"%d %d" % (height, draw.randrange(9))])) for key in keys]
            base.append(height, dict(writes))
            waiting.append((height, writes))
            models.append(_applied(models[-1], writes))
            while waiting and draw.random() < 0.4:
                reader.store(*waiting.pop(0))
            if draw.random() < 0.7:
                base.refresh()
            assert base.height == height
            prefix, limit = b"%d/" % draw.randrange(4), draw.choice([0, 1, 2, 3, ALL_ROWS])
            assert base.scan(prefix, limit) == _under(models[-1], prefix)[:limit], seed
            for _ in range(6):
                key = b"%d/%d" % (draw.randrange(4), draw.randrange(6))
                assert base.get(key) == base.peek(key) == models[-1].get(key), seed


def _applied(model: dict[bytes, bytes], writes: WriteSet) -> dict[bytes, bytes]:
    merged: dict[bytes, bytes | None] = {**model, **dict(writes)}
    return {key: value for key, value in merged.items() if value is not None}


def _under(model: dict[bytes, bytes], prefix: bytes) -> list[tuple[bytes, bytes]]:
    return sorted(item for item in model.items() if item[0].startswith(prefix))


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
    reader = MemoryReader()
    reader.store(1, [(b"a", b"1"), (b"b", b"1")])
    reader.refresh()
    changes: WriteSet = [(b"b", None), (b"c", b"2"), (b"d", None)]
    assert merge_scan(reader.scan, b"", ALL_ROWS, changes) == [(b"a", b"1"), (b"c", b"2")]


def test_merge_scan_asks_for_no_more_rows_than_it_may_need() -> None:
    asked: list[tuple[bytes, int]] = []

    def below(prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        asked.append((prefix, limit))
        return [(b"p%d" % number, b"0") for number in range(9)][:limit]

    assert merge_scan(below, b"p", 2, []) == [(b"p0", b"0"), (b"p1", b"0")]
    assert merge_scan(below, b"p", 2, [(b"p0", None), (b"p1", None)]) == [(b"p2", b"0"), (b"p3", b"0")]
    assert merge_scan(below, b"p", 2, [(b"p8", b"1"), (b"p00", b"1")]) == [(b"p0", b"0"), (b"p00", b"1")]
    assert asked == [(b"p", 2), (b"p", 4), (b"p", 4)]


def test_limited_scans_equal_one_dict_through_all_layers(tmp_path: Path) -> None:
    """Snapshot, unstored heights and the block's own writes, each with deletions: the first rows are those of a plain
    dict, and the state environment cuts off like the store in memory."""
    for seed in range(40):
        draw = random.Random(seed)
        heights: list[WriteSet] = []
        for height in range(1, 5):
            keys = sorted({b"%d/%d" % (draw.randrange(3), draw.randrange(20)) for _ in range(draw.randrange(4, 30))})
            heights.append([(key, draw.choice([None, b"%d" % height, b"x"])) for key in keys])
        stored = draw.randrange(1, 4)
        reader = MemoryReader()
        for height, writes in enumerate(heights[:stored], 1):
            reader.store(height, writes)
        bases = [BaseState(reader)]
        if seed < 6:
            store = StateStore(tmp_path / str(seed), chain_id=bytes(32), genesis_state_root=bytes(32), map_bytes=2**22)
            store.apply([(height, b"", writes) for height, writes in enumerate(heights[:stored], 1)])
            store.close()
            bases.append(BaseState(StateReader(tmp_path / str(seed), map_bytes=2**22)))
        own = {b"%d/%d" % (draw.randrange(3), draw.randrange(20)): draw.choice([None, b"own"]) for _ in range(6)}
        model: dict[bytes, bytes] = {}
        for writes in heights:
            model = _applied(model, writes)
        for base in bases:
            for height in range(stored + 1, 5):
                base.append(height, dict(heights[height - 1]))
            block, tracked = BlockState(base), TrackedState(base)
            block.commit(own)
            tracked.commit(_wrote(own))
            for prefix in (b"", b"0/", b"1/1", b"2/"):
                for limit in (0, 1, 2, 5, 1_000):
                    assert base.scan(prefix, limit) == _under(model, prefix)[:limit], seed
                    expected = _under(_applied(model, list(own.items())), prefix)[:limit]
                    assert block.scan(prefix, limit) == tracked.scan(prefix, limit) == expected, seed
            base.close()


def _base(writes: WriteSet) -> BaseState:
    """A base whose snapshot is of height 1."""
    reader = MemoryReader()
    reader.store(1, writes)
    return BaseState(reader)


def _wrote(writes: dict[bytes, bytes | None]) -> Outcome:
    return Outcome(status=0, gas_used=0, writes=writes)


def _added(adds: dict[bytes, Add], writes: dict[bytes, bytes | None] | None = None) -> Outcome:
    return Outcome(status=0, gas_used=0, writes=writes or {}, adds=adds)


def test_block_state_reads_its_own_writes_and_sorts_them() -> None:
    state = BlockState(_base([(b"p/a", b"0"), (b"p/b", b"0")]))
    state.commit({b"p/b": None, b"p/c": b"1"})
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/c", b"1")]
    state.commit({b"p/b": b"2", b"o": b"2"})  # after the first scan the index must follow
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/b", b"2"), (b"p/c", b"1")]
    assert state.keys_under(b"p/") == [b"p/b", b"p/c"]
    assert dict(state.written()) == {b"p/b": b"2", b"p/c": b"1", b"o": b"2"}
    state.commit({b"p/bb": b"3"})
    state.commit({b"p/b": None})
    assert state.scan(b"p/", 2) == [(b"p/a", b"0"), (b"p/bb", b"3")]
    assert dict(state.written())[b"p/b"] is None


def test_tracked_state_records_reads_also_of_missing_keys() -> None:
    state = TrackedState(_base([(b"a", b"0")]))
    assert state.get(b"a") == b"0"
    assert state.get(b"missing") is None
    assert state.conflicts == 0
    state.commit(_wrote({b"a": b"1", b"gone": None}))
    state.commit(_wrote({}))
    assert state.get(b"a") == b"1"
    assert state.get(b"gone") is None
    assert state.get(b"missing") is None
    state.commit(_wrote({}))
    assert state.read_keys == [b"a", b"missing", b"a", b"gone", b"missing"]
    assert list(state.read_marks) == [2, 2, 5]
    assert state.conflicts == 2


def test_tracked_state_records_scans() -> None:
    state = TrackedState(_base([(b"p/a", b"0"), (b"p/b", b"0")]))
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/b", b"0")]
    state.commit(_wrote({b"p/b": None, b"p/c": b"1", b"q": b"1"}))
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/c", b"1")]
    assert state.scan(b"o/") == []
    state.commit(_wrote({b"p/d": b"2"}))  # after the first scan the index must follow
    assert state.scan(b"p/", 2) == [(b"p/a", b"0"), (b"p/c", b"1")]
    assert state.scan(b"p/") == [(b"p/a", b"0"), (b"p/c", b"1"), (b"p/d", b"2")]
    state.commit(_wrote({}))
    assert state.scans == [(0, b"p/"), (1, b"p/"), (1, b"o/"), (2, b"p/"), (2, b"p/")]
    assert state.conflicts == 3
    assert state.read_keys == []


def test_tracked_state_notes_writes_in_the_order_of_transactions() -> None:
    state = TrackedState(_base([]))
    for writes in ({b"b": b"1", b"a": b"1"}, {}, {b"a": None}):
        state.commit(_wrote(dict(writes)))
    counts, written = state.written()
    assert written == [(b"b", b"1"), (b"a", b"1"), (b"a", None)]
    assert list(counts) == [2, 0, 1]


def test_tracked_state_abandons_without_a_trace() -> None:
    state = TrackedState(_base([(b"a", b"0")]))
    state.get(b"x")
    state.scan(b"x")
    state.abandon()
    state.get(b"a")
    state.scan(b"a")
    state.commit(_added({b"t": Add(1, 0, 9)}, {b"w": b"1"}))
    state.get(b"b")
    state.scan(b"b")
    state.peek(b"c")
    state.abandon()
    state.get(b"a")
    state.commit(_wrote({}))
    assert state.read_keys == [b"a", b"a"]
    assert list(state.read_marks) == [0, 1, 1, 2]
    assert (state.scans, state.adds) == ([(1, b"a")], [(1, b"t", 1, 0, 9)])
    counts, writes = state.written()
    assert (list(counts), [key for key, _ in writes]) == ([0, 2, 0, 0], [b"w", b"t"])


def test_a_peek_is_no_read() -> None:
    state = TrackedState(_base([(b"a", b"0")]))
    assert (state.peek(b"a"), state.peek(b"b")) == (b"0", None)
    state.commit(_wrote({b"b": b"1"}))
    assert state.peek(b"b") == b"1"
    state.commit(_wrote({}))
    assert (state.read_keys, list(state.read_marks), state.conflicts) == ([], [0, 0], 0)


# --- adds ---


def test_an_add_is_settled_on_the_value_known_here_and_noted() -> None:
    state = TrackedState(_base([(b"t", integer_bytes(100))]))
    state.commit(_added({b"t": Add(5, 0, 195)}, {b"w": b"1"}))
    state.commit(_added({b"t": Add(-2, 2, WORD), b"new": Add(4, -4, 4)}))
    assert state.adds == [(0, b"t", 5, 0, 195), (1, b"t", -2, 2, WORD), (1, b"new", 4, -4, 4)]
    assert (state.read_keys, list(state.read_marks)) == ([], [0, 0])
    counts, writes = state.written()
    assert list(counts) == [2, 2]
    assert writes == [
        (b"w", b"1"), (b"t", integer_bytes(105)), (b"t", integer_bytes(103)), (b"new", integer_bytes(4)),
    ]  # fmt: skip
    assert state.get(b"t") == integer_bytes(103)
    state.commit(_wrote({}))
    assert state.conflicts == 1


def test_what_is_left_of_an_add_may_be_what_it_saw() -> None:
    state = TrackedState(_base([]))
    state.commit(_added({b"t": Add(None, -5, 10)}))
    assert (state.adds, state.written()[1]) == ([(0, b"t", None, -5, 10)], [])
    assert state.read_keys == []


def test_bounds_of_adds_are_clamped_to_what_a_message_carries() -> None:
    """Narrower than the truth is safe; what does not fit into 64 bits could not be sent at all."""
    state = TrackedState(_base([]))
    state.commit(_added({b"t": Add(5, *ANYWHERE), b"u": Add(-WORD + 1, -WORD, WORD), b"v": Add(None, *ANYWHERE)}))
    assert state.adds == [
        (0, b"t", 5, -WORD, WORD), (0, b"u", -WORD + 1, -WORD, WORD), (0, b"v", None, -WORD, WORD),
    ]  # fmt: skip
    assert [tuple(item) for item in msgspec.msgpack.decode(msgspec.msgpack.encode(state.adds))] == state.adds


@pytest.mark.parametrize("delta", [WORD, -WORD, 2**64, -(2**200)])
def test_a_wide_delta_becomes_a_read_and_a_write(delta: int) -> None:
    state = TrackedState(_base([(b"t", integer_bytes(1))]))
    state.commit(_added({b"t": Add(delta, *ANYWHERE)}))
    assert state.adds == []
    assert (state.read_keys, list(state.read_marks)) == ([b"t"], [1])
    _, writes = state.written()
    assert writes == [(b"t", integer_bytes(1 + delta))]
    msgspec.msgpack.encode(writes)


@pytest.mark.parametrize(
    ("value", "add"),
    [
        (2**70, Add(1, 2**69, 2**71)),
        (2**70, Add(None, 2**63, ANYWHERE[1])),
        (-(2**70), Add(1, ANYWHERE[0], -(2**63))),
    ],
)
def test_bounds_that_no_word_reaches_become_a_read(value: int, add: Add) -> None:
    """Neither end fits into a message, and an interval clamped to nothing would never hold."""
    state = TrackedState(_base([(b"t", integer_bytes(value))]))
    state.commit(_added({b"t": add}))
    assert (state.adds, state.read_keys) == ([], [b"t"])
    assert state.written()[1] == ([] if add.delta is None else [(b"t", integer_bytes(value + 1))])


def test_an_add_that_does_not_fit_what_is_known_is_our_bug() -> None:
    state = TrackedState(_base([(b"t", integer_bytes(1)), (b"text", b"\xa1x")]))
    for key, add in ((b"t", Add(1, 2, 9)), (b"text", Add(1, *ANYWHERE))):
        with pytest.raises(InvariantError, match="was not made for"):
            state.commit(_added({key: add}))
        state.abandon()
    assert (state.adds, state.written()[1], state.read_keys) == ([], [], [])
