"""The data folder: one process, three environments that belong together, the state caught up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.errors import BadInput, ConfigError, StoreError
from chain.store import Store, StoreLimits, open_store
from chain.store.lock import FolderLock
from tests.unit.store.factory import ChainFactory, Made, key_of, some_writes

LIMITS = StoreLimits(
    blocks_map_bytes=16 * 1024 * 1024, state_map_bytes=16 * 1024 * 1024, journal_map_bytes=16 * 1024 * 1024
)


def write(store: Store, made: Made, *, state: bool = True) -> None:
    height = made.header.height
    store.journal.write([(height, b"vote")], [(height, made.header.proposal_digest, made.proposal, made.bodies)])
    store.blocks.append([made.block])
    if state:
        store.state.apply([(height, made.header.state_root, made.writes)])


def model(chain: ChainFactory, height: int) -> list[tuple[bytes, bytes]]:
    values: dict[bytes, bytes | None] = {}
    for made in chain.made[:height]:
        values.update(made.writes)
    return sorted((key, value) for key, value in values.items() if value is not None)


def test_a_folder_serves_one_process(tmp_path: Path) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path / "data", chain.genesis_header, limits=LIMITS)
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        open_store(tmp_path / "data", chain.genesis_header, limits=LIMITS)
    store.close()
    open_store(tmp_path / "data", chain.genesis_header, limits=LIMITS).close()


def test_a_lock_is_released_twice_without_harm(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.release()
    lock.release()
    FolderLock(tmp_path).release()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened"):
        FolderLock(tmp_path / "file")


def test_a_state_behind_its_blocks_is_caught_up(tmp_path: Path) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    assert store.replayed == 0
    for height in range(1, 151):
        write(store, chain.block(some_writes(height), transactions=1), state=height <= 10)
    store.close()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    assert store.replayed == 140
    assert store.state.height() == 150
    assert store.state.state_root() == chain.tip.state_root
    assert store.state.scan(b"") == model(chain, 150)
    store.close()


def test_a_lost_state_is_made_again_from_the_blocks(tmp_path: Path) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    for height in range(1, 6):
        write(store, chain.block(some_writes(height)))
    store.close()
    shutil.rmtree(tmp_path / "state")
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    assert store.replayed == 5
    assert store.state.scan(b"") == model(chain, 5)
    store.close()


def _lose_blocks(path: Path) -> None:
    shutil.rmtree(path / "blocks")


def _lose_journal(path: Path) -> None:
    shutil.rmtree(path / "journal")


def _empty_journal(path: Path) -> None:
    os.truncate(path / "journal" / "data.mdb", 0)


def _swap(path: Path) -> None:
    shutil.rmtree(path / "state")
    shutil.copytree(path / "journal", path / "state")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (_lose_blocks, "blocks end at 0. Blocks are always written first"),
        (_lose_journal, "3 blocks but no journal"),
        (_empty_journal, "3 blocks but no journal"),
        (_swap, "holds a journal environment where state belongs|not a state environment"),
    ],
)
def test_environments_that_do_not_belong_together_are_refused(
    tmp_path: Path, damage: Callable[[Path], None], text: str
) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    for height in range(1, 4):
        write(store, chain.block(some_writes(height)))
    store.close()
    damage(tmp_path)
    for _ in range(2):  # refusing leaves nothing open or locked
        with pytest.raises(StoreError, match=text):
            open_store(tmp_path, chain.genesis_header, limits=LIMITS)


def test_a_state_of_other_writes_is_refused(tmp_path: Path) -> None:
    chain, fork = ChainFactory(), ChainFactory()
    for at, factory in enumerate((chain, fork)):
        store = open_store(tmp_path / str(at), factory.genesis_header, limits=LIMITS)
        write(store, factory.block([(key_of(1), bytes([at + 1]))]))
        store.close()
    shutil.rmtree(tmp_path / "0" / "state")
    shutil.copytree(tmp_path / "1" / "state", tmp_path / "0" / "state")
    with pytest.raises(StoreError, match=r"state root at height 1 is [0-9a-f]{64}, the block's is"):
        open_store(tmp_path / "0", chain.genesis_header, limits=LIMITS)


def test_the_folder_of_another_chain_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path, ChainFactory().genesis_header, limits=LIMITS).close()
    with pytest.raises(ConfigError, match="belongs to chain"):
        open_store(tmp_path, ChainFactory(name="another").genesis_header, limits=LIMITS)


@pytest.mark.parametrize("wrong", [0, 4096, 1024 * 1024 + 1, -1])
def test_map_sizes_are_checked(wrong: int) -> None:
    with pytest.raises(ConfigError, match=f"journal_map_bytes is {wrong}, must be a multiple of 4096"):
        StoreLimits(journal_map_bytes=wrong)


def test_transactions_by_hash_skip_what_execution_skipped(tmp_path: Path) -> None:
    chain = ChainFactory()
    store = open_store(tmp_path, chain.genesis_header, limits=LIMITS)
    made = chain.block([], transactions=3, skipped=(0, 2))
    write(store, made)
    executed = [raw for at, raw in enumerate(made.bodies) if at not in (0, 2)]
    assert [store.transaction(item) for item in made.hashes] == executed
    assert [store.transaction_at(1, at) for at in range(3)] == executed
    assert store.transaction(bytes(32)) is None
    assert store.transaction_at(2, 0) is None
    assert store.receipt_proof(bytes(32), chain.validators) is None
    for height in (0, 2):
        with pytest.raises(BadInput, match=r"must be 1\.\.1"):
            store.value_proof(key_of(1), height, chain.validators)
    assert {name: size for name, (_, size) in store.used_bytes().items()} == dict.fromkeys(
        ("blocks", "state", "journal"), 16 * 1024 * 1024
    )
    store.close()
