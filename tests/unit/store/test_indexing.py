"""The indices of the blocks: in memory, on disk and half of each they give the same answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from chain.codec import encode
from chain.errors import InvariantError, StoreError
from chain.model.block import Event, Receipt
from chain.store import BlockStore, IndexLimits, StoredBlock, find_events
from chain.store.environment import META, Environment, open_environment
from chain.store.layout import height_key
from chain.store.runs import MERGED, Runs
from tests.unit.store.factory import CONTRACT, OTHER_CONTRACT, ChainFactory, Made, key_of, some_writes

MAP = 16 * 1024 * 1024
NEVER = IndexLimits(transactions=10**9, heights=10**9, keys=10**9)
ALWAYS = IndexLimits(heights=1)


def opened(path: Path, chain: ChainFactory, limits: IndexLimits = NEVER, *, readonly: bool = False) -> BlockStore:
    return BlockStore(path / "blocks", chain.genesis_header, map_bytes=MAP, index_limits=limits, readonly=readonly)


def answers(blocks: BlockStore, chain: ChainFactory) -> object:
    """All that the indices are asked."""
    keys = sorted({key for made in chain.made for key, _ in made.writes})
    return (
        blocks.transaction_count(),
        [blocks.transaction_locations(made.hashes) for made in chain.made],
        [blocks.write_heights(key) for key in keys],
        [blocks.write_heights(key, first=2, last=4) for key in keys],
        [blocks.last_write_height(key, at) for key in keys for at in range(len(chain.made) + 1)],
        find_events(blocks, contract=CONTRACT),
        find_events(blocks, contract=CONTRACT, first=2, last=4),
        find_events(blocks, contract=OTHER_CONTRACT, name="Moved", after=(2, 1, 1), limit=5),
        find_events(blocks, contract=OTHER_CONTRACT, name="Paid"),
    )


def some_chain(heights: int) -> ChainFactory:
    chain = ChainFactory()
    for height in range(1, heights + 1):
        chain.block(some_writes(height), transactions=height % 4)
    return chain


@pytest.mark.parametrize("heights", [1, 2, 3, 5, 7])
def test_what_is_in_memory_and_what_is_on_disk_answer_alike(tmp_path: Path, heights: int) -> None:
    chain = some_chain(7)
    with closing(opened(tmp_path / "memory", chain)) as memory:
        memory.append([made.block for made in chain.made])
        assert memory.indexed_height == 0
        expected = answers(memory, chain)
    with closing(opened(tmp_path / "mixed", chain, IndexLimits(heights=heights))) as mixed:
        for made in chain.made:
            mixed.append([made.block])
        assert mixed.indexed_height == 7 // heights * heights
        assert answers(mixed, chain) == expected
    for limits in (NEVER, IndexLimits(heights=heights)):
        with closing(opened(tmp_path / "mixed", chain, limits)) as again:
            assert again.indexed_height == 7 // heights * heights
            assert answers(again, chain) == expected
    with closing(opened(tmp_path / "mixed", chain, readonly=True)) as reader:
        assert answers(reader, chain) == expected


@pytest.mark.parametrize(
    ("limits", "indexed"),
    [
        (IndexLimits(transactions=8), [0, 0, 3, 3, 3]),
        (IndexLimits(heights=2), [0, 2, 2, 4, 4]),
        (IndexLimits(keys=11), [0, 0, 3, 3, 3]),
    ],
)
def test_it_goes_to_disk_when_a_limit_is_reached(tmp_path: Path, limits: IndexLimits, indexed: list[int]) -> None:
    chain = ChainFactory()
    with closing(opened(tmp_path, chain, limits)) as blocks:
        seen = []
        for height in range(1, 6):
            blocks.append([chain.block(some_writes(height, 4), transactions=3 + height % 2).block])
            seen.append(blocks.indexed_height)
    assert seen == indexed


def test_a_run_that_is_longer_than_a_limit_goes_to_disk_whole(tmp_path: Path) -> None:
    chain = some_chain(7)
    with closing(opened(tmp_path, chain, IndexLimits(heights=3))) as blocks:
        blocks.append([made.block for made in chain.made])
        assert blocks.indexed_height == 7


def test_opening_again_and_again_counts_nothing_twice(tmp_path: Path) -> None:
    chain = ChainFactory()
    for _ in range(6):
        with closing(opened(tmp_path, chain, IndexLimits(heights=2))) as blocks:
            blocks.append([chain.block([(key_of(1), b"\x01")]).block])
            assert blocks.transaction_count() == 3 * len(chain.made)
            assert blocks.write_heights(key_of(1)) == list(range(1, len(chain.made) + 1))


def twice_in_a_run(chain: ChainFactory) -> list[StoredBlock]:
    first, second = chain.block([], transactions=1), chain.block([], transactions=1)
    return [first.block, msgspec.structs.replace(second.block, hashes=first.block.hashes)]


@pytest.mark.parametrize("limits", [NEVER, ALWAYS])
@pytest.mark.parametrize("together", [True, False])
def test_a_transaction_executed_twice_is_found_wherever_the_first_one_is_indexed(
    tmp_path: Path, limits: IndexLimits, *, together: bool
) -> None:
    """In the same run of blocks, in memory, on disk; also after a restart."""
    chain = ChainFactory()
    run = twice_in_a_run(chain)
    with closing(opened(tmp_path, chain, limits)) as blocks:
        if together:
            with pytest.raises(InvariantError, match="executed before"):
                blocks.append(run)
            assert blocks.height() == 0
            return
        blocks.append(run[:1])
        with pytest.raises(InvariantError, match="executed before"):
            blocks.append(run[1:])
    with closing(opened(tmp_path, chain, limits)) as blocks:
        with pytest.raises(InvariantError, match="executed before"):
            blocks.append(run[1:])
        assert blocks.height() == 1


def with_hashes(made: Made, hashes: Sequence[bytes]) -> StoredBlock:
    return msgspec.structs.replace(made.block, hashes=b"".join(hashes))


def test_transactions_whose_hashes_begin_alike_are_told_apart(tmp_path: Path) -> None:
    chain = ChainFactory()
    alike = [bytes(8) + hashlib.sha256(b"%d" % at).digest()[8:] for at in range(7)]
    made = [chain.block([]), chain.block([])]
    with closing(opened(tmp_path, chain, ALWAYS)) as blocks:
        blocks.append([with_hashes(made[0], alike[:3])])
        blocks.append([with_hashes(made[1], alike[3:6])])
        wanted = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), None]
        assert blocks.transaction_locations(alike) == wanted
        assert blocks.receipt(alike[6]) is None


def test_a_height_that_wrote_another_key_of_the_same_digest_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chain.store.indexing.key_digest", lambda key: bytes(32))
    chain = ChainFactory()
    with closing(opened(tmp_path, chain, ALWAYS)) as blocks:
        for height in range(1, 6):
            blocks.append([chain.block([(key_of(height % 2), b"\x01")]).block])
        assert blocks.write_heights(key_of(0)) == [2, 4]
        assert blocks.last_write_height(key_of(0), 5) == 4
        assert blocks.last_write_height(key_of(9), 5) is None


@pytest.mark.parametrize("limits", [NEVER, ALWAYS])
@pytest.mark.parametrize("values", [b"", b"\x90", b"\x91\x90", b"\xa0\x90"])
def test_events_are_found_however_a_receipt_ends(tmp_path: Path, limits: IndexLimits, values: bytes) -> None:
    """A receipt without events ends like one whose last event holds an empty tuple."""
    chain = ChainFactory()
    made = chain.block([])
    events = [(), (Event(contract=CONTRACT, name="Paid", values=values),), ()]
    receipts = tuple(
        encode(Receipt(transaction_hash=item, status=0, gas_used=1, result=b"", error="", events=of))
        for item, of in zip(made.hashes, events, strict=True)
    )
    with closing(opened(tmp_path, chain, limits)) as blocks:
        blocks.append([msgspec.structs.replace(made.block, receipts=receipts)])
        assert [event.place for event in find_events(blocks, contract=CONTRACT)] == [(1, 1, 0)]


def test_a_receipt_that_is_none_is_our_bug_also_among_good_ones_without_events(tmp_path: Path) -> None:
    chain = ChainFactory()
    made = chain.block([])
    good = [
        encode(Receipt(transaction_hash=item, status=0, gas_used=1, result=b"", error="", events=()))
        for item in made.hashes
    ]
    with closing(opened(tmp_path, chain)) as blocks:
        for bad in (b"", good[2][:-1], good[2][:35], good[2] + b"\x00", b"\x95" + good[2][1:], b"\xc1"):
            block = msgspec.structs.replace(made.block, receipts=(good[0], good[1], bad))
            with pytest.raises(InvariantError, match="block 1: receipt 2"):
                blocks.append([block])
        blocks.append([msgspec.structs.replace(made.block, receipts=tuple(good))])
        assert find_events(blocks, contract=CONTRACT) == []


def test_a_reader_of_a_chain_that_goes_on_answers_for_what_it_has_seen(tmp_path: Path) -> None:
    """Another process: the index goes to disk behind its back."""
    chain = some_chain(7)
    path = tmp_path / "blocks"
    with closing(opened(tmp_path, chain, IndexLimits(heights=4))) as blocks:
        blocks.append([made.block for made in chain.made[:3]])
        reader = opened(tmp_path, chain, readonly=True)
        expected = [reader.transaction_locations(made.hashes) for made in chain.made[:3]]
        events = find_events(reader, contract=CONTRACT)
        assert [event.height for event in events] == [1, 2, 2, 3, 3, 3]
        for made in chain.made[3:]:
            blocks.append([made.block])
        assert (blocks.indexed_height, reader.indexed_height, reader.height()) == (4, 0, 3)
        assert [reader.transaction_locations(made.hashes) for made in chain.made[:3]] == expected
        assert find_events(reader, contract=CONTRACT) == events
        reader.close()
    assert path.exists()


def test_an_index_ahead_of_its_blocks_is_refused(tmp_path: Path) -> None:
    chain = some_chain(2)
    with closing(opened(tmp_path, chain, ALWAYS)) as blocks:
        blocks.append([made.block for made in chain.made])
        with blocks.environment.write() as txn:
            txn.put(b"indexed", height_key(3), db=blocks.environment.database(META))
    with pytest.raises(StoreError, match="indexed up to height 3, the blocks end at 2"):
        opened(tmp_path, chain)


def test_a_block_that_is_missing_above_the_indexed_height_is_told(tmp_path: Path) -> None:
    chain = some_chain(3)
    with closing(opened(tmp_path, chain)) as blocks:
        blocks.append([made.block for made in chain.made])
        with blocks.environment.write() as txn:
            txn.delete(height_key(2), db=blocks.environment.database(b"blocks"))
    with pytest.raises(StoreError, match="block 2 is missing"):
        opened(tmp_path, chain)


def test_a_run_of_blocks_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    chain = ChainFactory()
    first = chain.block([]).block
    large = [chain.block([(key_of(at), bytes(500_000))]) for at in range(3)]
    with closing(BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=1024 * 1024)) as blocks:
        blocks.append([first])
        with pytest.raises(StoreError, match="full"):
            blocks.append([made.block for made in large])
        assert blocks.height() == 1
        assert blocks.transaction_locations(large[0].hashes) == [None] * 3
    with closing(BlockStore(tmp_path / "blocks", chain.genesis_header, map_bytes=1024 * 1024)) as blocks:
        assert blocks.height() == 1
        assert blocks.header(2) is None


# --- runs ---


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    made = open_environment(tmp_path, kind="blocks", databases=(b"runs",), map_bytes=256 * 1024 * 1024)
    yield made
    made.close()


def digests(count: int, *, salt: int = 0) -> list[bytes]:
    return [hashlib.sha256(b"%d %d" % (salt, at)).digest() for at in range(count)]


def test_runs_find_all_that_was_added_and_nothing_else(environment: Environment) -> None:
    runs = Runs(environment, b"runs")
    rounds = [digests(1 + number % 7, salt=number) for number in range(60)]
    for number, some in enumerate(rounds):
        with environment.write() as txn:
            runs.add(txn, some, [number * 100 + at for at in range(len(some))], height=number)
    with environment.view() as view:
        for number, some in enumerate(rounds):
            assert sorted(runs.find(view, some)) == [(at, number * 100 + at) for at in range(len(some))]
        assert runs.find(view, digests(500, salt=-1)) == []
        assert runs.find(view, []) == []
    with environment.read() as txn:
        assert runs.entries(txn) == sum(map(len, rounds))
        assert len(list(txn.cursor(environment.database(b"runs")))) < MERGED


def test_entries_with_the_same_key_all_stay(environment: Environment) -> None:
    runs = Runs(environment, b"runs")
    key = digests(1)[0]
    for height in range(20):
        with environment.write() as txn:
            runs.add(txn, [key, *digests(3, salt=height + 1)], [height, 0, 0, 0], height=height)
    with environment.view() as view:
        assert sorted(runs.values(view, key, 0, 99)) == list(range(20))
        assert sorted(runs.values(view, key, 5, 9)) == [5, 6, 7, 8, 9]
        assert runs.values(view, digests(1, salt=99)[0], 0, 99) == []
        assert sorted(runs.find(view, [key])) == [(0, height) for height in range(20)]
        assert len(runs.find(view, [key, key])) == 40


def test_runs_are_few_however_much_is_added(environment: Environment) -> None:
    """Four of a size become one, so there are at most three of each."""
    runs = Runs(environment, b"runs")
    rounds = [digests(1_500, salt=number) for number in range(48)]
    for number, some in enumerate(rounds):
        with environment.write() as txn:
            runs.add(txn, some, range(len(some)), height=number)
    with environment.read() as txn:
        sizes = [int.from_bytes(name[:8], "big") for name, _ in txn.cursor(environment.database(b"runs"))]
    assert sizes == [24_000, 24_000, 24_000]
    with environment.view() as view:
        for some in rounds:
            assert sorted(runs.find(view, some)) == list(enumerate(range(len(some))))
