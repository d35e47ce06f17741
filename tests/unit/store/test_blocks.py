"""The blocks environment: what goes in comes out, and what must not go in does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput, ConfigError, InvariantError, StoreError
from chain.model.block import Receipt, WriteSet, encode_header
from chain.store import BlockStore, StoredBlock, find_events
from tests.unit.store.factory import CONTRACT, OTHER_CONTRACT, ChainFactory, key_of, some_writes

MAP = 16 * 1024 * 1024


@pytest.fixture
def chain() -> ChainFactory:
    return ChainFactory()


@pytest.fixture
def blocks(chain: ChainFactory, tmp_path: Path) -> Iterator[BlockStore]:
    store = BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP)
    yield store
    store.close()


def test_new_store_holds_genesis_only(chain: ChainFactory, blocks: BlockStore) -> None:
    assert blocks.height() == 0
    assert blocks.header(0) == encode_header(chain.genesis_header)
    assert blocks.certificate(0) is None
    assert blocks.writes(0) == b""
    assert blocks.receipts(0) == []
    for height in (-1, 1):
        assert blocks.header(height) is None
        assert blocks.certificate(height) is None
        assert blocks.receipts(height) is None
        assert blocks.receipt_at(height, 0) is None
        assert blocks.skipped(height) is None
        assert blocks.proposal_digest(height) is None
        assert blocks.proposal_position(height, 0) is None
        assert blocks.hashes(height) is None
        assert blocks.writes(height) is None
        assert blocks.block(height) is None


def test_a_run_of_blocks_reads_back_in_every_way(chain: ChainFactory, blocks: BlockStore) -> None:
    made = [chain.block(some_writes(height), skipped=(1,) if height % 2 else ()) for height in range(1, 6)]
    blocks.append([item.block for item in made[:2]])
    blocks.append([])
    blocks.append([item.block for item in made[2:]])
    assert blocks.height() == 5
    assert blocks.tip() == made[-1].header
    assert blocks.transaction_count() == sum(len(item.hashes) for item in made)
    assert blocks.headers(2, 99) == [item.block.header for item in made[1:]]
    for item in made:
        height = item.header.height
        assert blocks.block(height) == item.block
        assert blocks.header(height) == item.block.header
        assert blocks.certificate(height) == item.block.certificate
        assert blocks.proposal_digest(height) == item.block.proposal_digest
        assert blocks.skipped(height) == item.block.skipped
        assert blocks.hashes(height) == item.block.hashes
        assert blocks.receipts(height) == list(item.block.receipts)
        assert blocks.writes(height) == item.block.writes
        assert blocks.write_set(height) == item.writes
        for position, digest in enumerate(item.hashes):
            assert blocks.transaction_location(digest) == (height, position)
            assert blocks.receipt(digest) == item.block.receipts[position]
            assert blocks.receipt_at(height, position) == item.block.receipts[position]
        assert blocks.receipt_at(height, len(item.hashes)) is None
        assert blocks.receipt_at(height, -1) is None
    with pytest.raises(StoreError, match="no block 6"):
        blocks.write_set(6)


def test_unknown_transactions_have_no_location(chain: ChainFactory, blocks: BlockStore) -> None:
    made = chain.block([])
    blocks.append([made.block])
    asked = [bytes(32), made.hashes[0], b"", b"x" * 600]
    assert blocks.transaction_locations(asked) == [None, (1, 0), None, None]
    assert blocks.receipt(bytes(32)) is None


@pytest.mark.parametrize(
    ("skipped", "positions"), [((), [0, 1, 2]), ((0,), [1, 2, 3]), ((1, 2), [0, 3, 4]), ((0, 2, 4), [1, 3, 5])]
)
def test_executed_positions_map_to_proposal_positions(
    chain: ChainFactory, blocks: BlockStore, skipped: tuple[int, ...], positions: list[int]
) -> None:
    blocks.append([chain.block([], transactions=3, skipped=skipped).block])
    assert [blocks.proposal_position(1, position) for position in range(3)] == positions


def _wrong_blocks(chain: ChainFactory) -> dict[str, StoredBlock]:
    good = chain.block([]).block
    later = chain.block([]).block
    stranger = ChainFactory(name="another").block([]).block

    def changed(**fields: object) -> StoredBlock:
        return msgspec.structs.replace(good, **fields)

    return {
        "height 2 where 1 is next": later,
        "another chain id": stranger,
        "certificate of another header": changed(certificate=later.certificate),
        "not the canonical|certificate|Certificate": changed(certificate=b"\x90"),
        "Header": changed(header=good.header + b"\x00"),
        "another proposal digest": changed(proposal_digest=bytes(32)),
        "bytes of hashes": changed(hashes=good.hashes[:-1]),
        "2 receipts for 3": changed(receipts=good.receipts[:-1]),
        "receipt 0": changed(receipts=(b"\xc1", *good.receipts[1:])),
    }


@pytest.mark.parametrize("at", range(9))
def test_a_wrong_block_is_our_bug_and_nothing_of_the_run_is_kept(
    chain: ChainFactory, blocks: BlockStore, at: int
) -> None:
    reason, wrong = list(_wrong_blocks(chain).items())[at]
    with pytest.raises(InvariantError, match=reason):
        blocks.append([wrong])
    assert blocks.height() == 0
    good = chain.made[0].block
    with pytest.raises(InvariantError):
        blocks.append([good, wrong, chain.made[1].block])
    assert blocks.height() == 0
    assert blocks.header(1) is None
    assert blocks.transaction_location(chain.made[0].hashes[0]) is None
    blocks.append([good])
    assert blocks.height() == 1


def test_a_broken_parent_link_is_refused(chain: ChainFactory, blocks: BlockStore) -> None:
    blocks.append([chain.block([]).block])
    fork = ChainFactory()
    fork.block([(key_of(1), b"\x01")])
    with pytest.raises(InvariantError, match="parent hash"):
        blocks.append([fork.block([]).block])


def test_a_transaction_executed_twice_is_refused(chain: ChainFactory, blocks: BlockStore) -> None:
    first = chain.block([], transactions=1)
    blocks.append([first.block])
    again = chain.block([], transactions=1)
    twice = msgspec.structs.replace(again.block, hashes=first.block.hashes)
    with pytest.raises(InvariantError, match="executed before"):
        blocks.append([twice])
    assert blocks.height() == 1
    assert blocks.header(2) is None


def test_events_by_contract_and_name_in_block_order(chain: ChainFactory, blocks: BlockStore) -> None:
    blocks.append([chain.block([]).block for _ in range(4)])
    expected = [
        (height, position, index, decode(Receipt, data).events[index])
        for height, made in enumerate(chain.made, 1)
        for position, data in enumerate(made.block.receipts)
        for index in range(2)
    ]

    def found(**query: object) -> list[tuple[object, ...]]:
        events = find_events(blocks, **query)  # type: ignore[arg-type]
        for event in events:
            assert event.transaction_hash == chain.made[event.height - 1].hashes[event.position]
        return [(*event.place, event.event) for event in events]

    assert found() == expected
    assert found(contract=CONTRACT) == [item for item in expected if item[2] == 0]
    assert found(contract=CONTRACT, name="Paid") == [item for item in expected if item[2] == 0]
    assert found(contract=OTHER_CONTRACT, name="Moved") == [item for item in expected if item[2] == 1]
    assert found(contract=CONTRACT, name="Pai") == []
    assert found(contract=CONTRACT, name="Paid\x00") == []
    assert found(contract=CONTRACT, name="Moved") == []
    assert found(contract=bytes(20)) == []
    assert found(name="Moved") == [item for item in expected if item[2] == 1]
    middle = [item for item in expected if item[2] == 0 and 2 <= item[0] <= 3]
    assert found(contract=CONTRACT, first=2, last=3) == middle
    assert found(first=9) == []
    pages: list[tuple[object, ...]] = []
    while page := found(limit=5, after=pages[-1][:3] if pages else None):
        pages += page
    assert pages == expected


def test_events_of_one_contract_under_several_names_are_merged_by_place(
    chain: ChainFactory, blocks: BlockStore
) -> None:
    names = ("b", "a" * 300, "a" * 299 + "c", "a", "a\x00b", "", "长")  # the long ones share an index entry
    for _ in range(3):
        made = chain.block([], transactions=2)
        receipts = tuple(
            encode(
                msgspec.structs.replace(
                    receipt, events=tuple(msgspec.structs.replace(receipt.events[0], name=name) for name in names)
                )
            )
            for receipt in (decode(Receipt, data) for data in made.block.receipts)
        )
        blocks.append([msgspec.structs.replace(made.block, receipts=receipts)])
    events = find_events(blocks, contract=CONTRACT)
    assert [event.place for event in events] == sorted(event.place for event in events)
    assert len(events) == 3 * 2 * 7
    for name in names:
        only = find_events(blocks, contract=CONTRACT, name=name)
        assert [event.event.name for event in only] == [name] * 6
        assert [event.height for event in only] == [1, 1, 2, 2, 3, 3]


def test_event_queries_are_bounded(chain: ChainFactory, blocks: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks.append([chain.block([], transactions=1).block for _ in range(3)])
    for limit in (0, 10_001):
        with pytest.raises(BadInput, match="limit"):
            find_events(blocks, limit=limit)
    with pytest.raises(BadInput, match="20"):
        find_events(blocks, contract=b"short")
    monkeypatch.setattr("chain.store.events.EVENT_SCAN_HEIGHTS_MAX", 2)
    with pytest.raises(BadInput, match="without a contract"):
        find_events(blocks)
    assert len(find_events(blocks, last=2)) == 4
    assert len(find_events(blocks, contract=CONTRACT)) == 3


def test_history_of_a_key(chain: ChainFactory, blocks: BlockStore) -> None:
    key, longer = key_of(1), key_of(1) + bytes(8)  # one key is a prefix of the other
    history: list[WriteSet] = [
        [(key, b"\x01")],
        [(longer, b"\x01")],
        [],
        [(key, None), (longer, b"\x02")],
        [(longer, b"\x03")],
    ]
    blocks.append([chain.block(writes).block for writes in history])
    assert blocks.write_heights(key) == [1, 4]
    assert blocks.write_heights(longer) == [2, 4, 5]
    assert blocks.write_heights(longer, first=3, last=4) == [4]
    assert [blocks.last_write_height(key, at) for at in range(6)] == [None, 1, 1, 1, 4, 4]
    assert [blocks.last_write_height(longer, at) for at in range(6)] == [None, None, 2, 2, 4, 5]
    assert blocks.last_write_height(key_of(2), 5) is None
    assert blocks.write_heights(key_of(2)) == []


def test_history_may_be_off_from_the_start_and_then_stays_off(chain: ChainFactory, tmp_path: Path) -> None:
    for history in (False, True):
        store = BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP, history=history)
        if not history:
            store.append([chain.block([(key_of(1), b"\x01")]).block])
        with pytest.raises(StoreError, match="history off"):
            store.last_write_height(key_of(1), 1)
        store.close()


def test_reopened_it_goes_on_where_it_was(chain: ChainFactory, tmp_path: Path) -> None:
    for _ in range(3):
        store = BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP)
        assert store.height() == len(chain.made)
        assert store.tip() == chain.tip
        store.append([chain.block(some_writes(1)).block])
        store.close()


def test_the_folder_of_another_chain_is_a_configuration_error(chain: ChainFactory, tmp_path: Path) -> None:
    BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP).close()
    other = ChainFactory(name="another").genesis_header
    with pytest.raises(ConfigError, match=f"belongs to chain {chain.genesis_header.chain_id.hex()}"):
        BlockStore(tmp_path / "blocks", other, map_bytes=MAP)
    changed = msgspec.structs.replace(chain.genesis_header, time_ms=5)
    with pytest.raises(StoreError, match="genesis block is not the configured one"):
        BlockStore(tmp_path / "blocks", changed, map_bytes=MAP)
    BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=MAP).close()


