"""The state at a snapshot height outlives later blocks and restarts; snapshot files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import BadInput, InvariantError, StoreError
from chain.model.block import WriteSet
from chain.model.snapshot import CHUNK_LEAVES, Pair, chunk_count, snapshot_root, unpack_chunk
from chain.store import JoinFolder, SnapshotFolder, StateStore, StoredBlock, open_store
from chain.store.blocks import BlockStore
from chain.store.joining import JOINING
from tests.unit.store.factory import ChainFactory, key_of, some_writes, value_of

CHAIN_ID = bytes(32)
INTERVAL = 10


def open_state(path: Path) -> StateStore:
    return StateStore(
        path, chain_id=CHAIN_ID, genesis_state_root=bytes(32), map_bytes=2**24, snapshot_interval=INTERVAL
    )


def root(height: int) -> bytes:
    return height.to_bytes(32, "big")


def items(first: int, last: int) -> list[tuple[int, bytes, WriteSet]]:
    return [(height, root(height), some_writes(height)) for height in range(first, last + 1)]


def after(height: int) -> list[Pair]:
    """What applying the heights one by one comes to."""
    state: dict[bytes, bytes] = {}
    for at in range(1, height + 1):
        for key, value in some_writes(at):
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    return sorted(state.items())


def read(state: StateStore, height: int) -> list[Pair]:
    with state.snapshot(height) as pairs:
        return list(pairs)


def test_the_state_at_a_snapshot_height_can_be_read_while_the_chain_goes_on(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    assert state.snapshot_height is None
    for height in range(1, 25):
        state.apply(items(height, height))
        at = height // INTERVAL * INTERVAL
        assert state.snapshot_height == (at or None)
        if at:
            assert read(state, at) == after(at)
        assert state.scan(b"") == after(height)
    with pytest.raises(StoreError, match="no longer kept"):
        read(state, 10)
    state.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=8), st.sets(st.integers(0, 7)))
def test_runs_and_restarts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], restarts: set[int]
) -> None:
    path = tmp_path_factory.mktemp("state")
    state = open_state(path)
    height = 0
    for number, length in enumerate(lengths):
        state.apply(items(height + 1, height + length))
        height += length
        if number in restarts:
            state.close()
            state = open_state(path)
        at = height // INTERVAL * INTERVAL
        assert state.snapshot_height == (at or None)
        if at:
            assert read(state, at) == after(at)
        assert (state.height(), state.scan(b"")) == (height, after(height))
    state.close()


def test_a_released_snapshot_is_dropped_with_the_next_write(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.apply(items(1, 12))
    state.release_snapshot(10)
    assert state.snapshot_height is None
    state.close()
    state = open_state(tmp_path)
    assert state.snapshot_height == 10, "releasing is not worth a write of its own"
    state.release_snapshot(10)
    state.apply(items(13, 13))
    state.close()
    state = open_state(tmp_path)
    assert state.snapshot_height is None
    state.apply(items(14, 21))
    assert read(state, 20) == after(20)
    state.close()


def test_heights_out_of_order_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with pytest.raises(InvariantError, match="height 12 where 11 is next"):
        state.apply([*items(1, 10), *items(12, 12)])
    assert state.height() == 0
    state.close()


# --- files ---


def many(count: int) -> list[Pair]:
    return [(key_of(number), value_of(number, 1)) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 256, 257, 700])
def test_a_snapshot_file_reads_back_in_chunks_and_parts(tmp_path: Path, count: int) -> None:
    folder = SnapshotFolder(tmp_path)
    pairs = many(count)
    head = folder.write(100, iter(pairs))
    folder.close()
    folder = SnapshotFolder(tmp_path)
    assert folder.head(100) == head
    assert (head.root, head.count, head.height) == (snapshot_root(pairs), count, 100)
    with folder.reading(100) as file:
        assert file is not None
        found: list[Pair] = []
        for index in range(chunk_count(count)):
            data = file.chunk(index)
            assert len(data) == file.chunk_bytes(index)
            assert b"".join(file.chunk(index, offset=at, bytes_max=100) for at in range(0, len(data), 100)) == data
            own, digest = unpack_chunk(data, index, count)
            assert file.hashes(index, 1) == digest
            found += own
        assert found == pairs
        assert file.hashes(chunk_count(count), 5) == b""
        for index in (-1, chunk_count(count)):
            with pytest.raises(IndexError):
                file.chunk(index)
    folder.close()


def test_the_last_two_are_kept_and_half_a_file_is_no_snapshot(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    for height in (10, 20, 30):
        folder.write(height, iter(many(height)))
    assert folder.heights() == (20, 30)
    folder.close()
    (tmp_path / "0000000000000040.partial").write_bytes(b"half")
    folder = SnapshotFolder(tmp_path)
    assert folder.heights() == (20, 30)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".snapshot", ".snapshot"]
    folder.close()
    [cut] = tmp_path.glob("*30.snapshot")
    whole = cut.read_bytes()
    for damaged in (whole[:-9], whole[1:], whole[:100] + whole[101:], b""):
        cut.write_bytes(damaged)
        with pytest.raises(StoreError, match="not a whole snapshot"):
            SnapshotFolder(tmp_path)


def test_a_snapshot_may_be_made_again_while_it_is_served(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    folder.write(10, iter(many(CHUNK_LEAVES + 1)))
    with folder.reading(10) as file:
        assert file is not None
        first = file.chunk(0)
    folder.write(10, iter(many(CHUNK_LEAVES + 1)))
    with folder.reading(10) as file:
        assert file is not None
        assert file.chunk(0) == first
    folder.close()


# --- a chain that begins above genesis ---


@pytest.fixture
def chain() -> ChainFactory:
    chain = ChainFactory()
    for height in range(1, 13):
        chain.block(some_writes(height), skipped=(1,) if height % 3 == 0 else ())
    return chain


def adopted(block: StoredBlock) -> StoredBlock:
    return StoredBlock(
        header=block.header, certificate=block.certificate, proposal_digest=block.proposal_digest,
        skipped=block.skipped, hashes=block.hashes, receipts=(), writes=b"",
    )  # fmt: skip


def join(folder: Path, chain: ChainFactory, *, first: int = 5, last: int = 9) -> JoinFolder:
    """All but the last step."""
    joining = JoinFolder(folder, chain.genesis_header, blocks_map_bytes=2**24, state_map_bytes=2**24)
    joining.begin(b"plan")
    joining.put([(0, after(last))])
    joining.blocks.adopt([adopted(made.block) for made in chain.made[first - 1 : last]])
    return joining


def test_a_joined_chain_goes_on_like_any_other(tmp_path: Path, chain: ChainFactory) -> None:
    open_store(tmp_path, chain.genesis_header).close()
    joining = join(tmp_path, chain)
    joining.complete(height=9, state_root=chain.made[8].header.state_root)
    for _ in range(2):
        store = open_store(tmp_path, chain.genesis_header)
        assert (store.blocks.base, store.blocks.executed_from) == (5, 10)
        for made in chain.made[store.blocks.height() :][:1]:
            store.blocks.append([made.block])
            store.state.apply([(made.header.height, made.header.state_root, made.writes)])
        assert store.state.scan(b"") == after(store.blocks.height())
        store.close()
    store = open_store(tmp_path, chain.genesis_header)
    assert store.blocks.height() == 11
    assert [at for at in range(14) if store.blocks.header(at) is not None] == [0, *range(5, 12)]
    assert store.blocks.receipts(7) is None
    assert store.blocks.writes(7) is None
    assert store.blocks.receipts(10) is not None
    with pytest.raises(StoreError, match="no block 7 with its writes"):
        store.blocks.write_set(7)
    location = store.blocks.transaction_location(chain.made[6].hashes[0])
    assert location == (7, 0)
    with pytest.raises(BadInput, match="not kept by this node"):
        store.receipt_proof(chain.made[6].hashes[0], chain.validators)
    with pytest.raises(BadInput, match="not kept by this node"):
        store.value_proof(key_of(1), 11, chain.validators)
    assert store.value_proof(key_of(37), 11, chain.validators)["claim"]["written_at"] == 11
    store.close()


def test_a_transaction_of_an_adopted_block_is_not_stored_again(tmp_path: Path, chain: ChainFactory) -> None:
    blocks = BlockStore(tmp_path, chain.genesis_header, map_bytes=2**24)
    blocks.adopt([adopted(made.block) for made in chain.made[3:9]])
    with pytest.raises(InvariantError, match="adopted blocks have receipts"):
        blocks.adopt([chain.made[9].block])
    with pytest.raises(InvariantError, match="height 12 where 10 is next"):
        blocks.adopt([adopted(chain.made[11].block)])
    blocks.append([chain.made[9].block])
    with pytest.raises(InvariantError, match="on top of executed"):
        blocks.adopt([adopted(chain.made[10].block)])
    blocks.close()


def test_a_crash_while_the_loaded_chain_is_put_in_place_is_made_good(tmp_path: Path, chain: ChainFactory) -> None:
    """The folders are moved one after the other; whatever was done, the next opening does the rest."""
    for number, undone in enumerate((("blocks", "state"), ("state",), ())):
        data = tmp_path / str(number)
        open_store(data, chain.genesis_header).close()
        joining = join(data, chain)
        joining.complete(height=9, state_root=chain.made[8].header.state_root)
        for part in ("blocks", "state"):
            if part not in undone:
                for file in (data / part).iterdir():
                    file.unlink()
                (data / part).rmdir()
                (data / JOINING / part).rename(data / part)
        store = open_store(data, chain.genesis_header)
        assert (store.blocks.height(), store.state.height()) == (9, 9)
        assert not (data / JOINING).exists()
        store.close()


def test_without_the_last_word_nothing_loaded_is_used(tmp_path: Path, chain: ChainFactory) -> None:
    open_store(tmp_path, chain.genesis_header).close()
    joining = join(tmp_path, chain)
    joining.close()
    store = open_store(tmp_path, chain.genesis_header)
    assert (store.blocks.height(), store.state.height()) == (0, 0)
    store.close()
    again = JoinFolder(tmp_path, chain.genesis_header, blocks_map_bytes=2**24, state_map_bytes=2**24)
    assert (again.plan(), again.loaded(), again.blocks.height()) == (b"plan", frozenset({0}), 9)
    with pytest.raises(InvariantError, match="blocks up to 9 for a state at 8"):
        again.complete(height=8, state_root=chain.made[7].header.state_root)
    again.begin(b"other")
    assert (again.loaded(), again.blocks.height()) == (frozenset(), 0), "a new plan begins with nothing"
    again.discard()
    assert not (tmp_path / JOINING).exists()


def test_a_joined_node_whose_state_is_lost_says_what_to_do(tmp_path: Path, chain: ChainFactory) -> None:
    open_store(tmp_path, chain.genesis_header).close()
    join(tmp_path, chain).complete(height=9, state_root=chain.made[8].header.state_root)
    open_store(tmp_path, chain.genesis_header).close()
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="Move the whole data folder away"):
        open_store(tmp_path, chain.genesis_header)
