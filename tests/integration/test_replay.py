"""Stored blocks executed again from a data folder, while it is in use and when it is not."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import msgspec
import pytest

from chain.codec import decode, encode, pack
from chain.errors import BadInput, ConfigError, StoreError
from chain.model.block import Receipt
from chain.model.merkle import pack_writes, unpack_writes
from chain.node.replay import Replayer
from chain.store.layout import height_key, pack_parts, unpack_parts
from contracts.sources import load_source
from tests.integration.stored_chain import StoredChainMaker
from tests.unit.executor.workbench import deployment, hash_of, transaction

PAYMENTS = 24
RECEIPTS, WRITES = 5, 6  # parts of a stored block


class Made:
    """A short chain: a deployment, accounts, payments in two chains of dependence, an empty block, a skipped one."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.maker = StoredChainMaker(self.data)
        deploy, self.bank = deployment(1, "bank", load_source("library/smallbank"))
        self.payments = [
            transaction(at, self.bank, "send_payment", (at % 2, at % 2 + 2, 7)) for at in range(PAYMENTS)
        ]
        broke = transaction(9, self.bank, "send_payment", (8, 9, 10_000))
        self.maker.add([deploy])
        self.maker.add([transaction(1, self.bank, "create_accounts", (0, 10, 500, 500))])
        self.maker.add([*self.payments, broke])
        self.maker.add([])
        self.maker.add([transaction(2, self.bank, "amalgamate", (0, 1))], skipped=[self.payments[0]])
        self.genesis = self.maker.genesis
        self.height = self.maker.header.height


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    chain = Made(tmp_path_factory.mktemp("chain"))
    chain.maker.close()
    yield chain


def files_of(folder: Path) -> dict[str, str]:
    """A digest of each file; the reader tables (`lock.mdb`) are there to be written by readers."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock.mdb"
    }


@pytest.mark.slow
def test_blocks_come_out_again_serially_and_in_parallel_and_nothing_is_written(made: Made) -> None:
    before = files_of(made.data)
    with Replayer(made.data, made.genesis) as replayer:
        deploying, payments, empty, behind_skipped = (
            replayer.block(height, executors=3 if height == 3 else 2) for height in (1, 3, 4, 5)
        )
    for replay in (deploying, payments, empty, behind_skipped):
        assert replay.agrees
        assert replay.parallel_equals_serial
        assert replay.differences == ()
        assert (replay.serial.mode, replay.parallel.mode) == ("serial", "parallel")
    assert empty.transactions == 0
    assert payments.transactions == PAYMENTS + 1
    assert len(payments.parallel.busy_us) == payments.executors == 3
    assert payments.parallel.shard_sizes == (PAYMENTS // 2, PAYMENTS // 2, 1)
    assert payments.parallel.conflicts_predicted > 0
    assert files_of(made.data) == before


def test_a_transaction_by_position_or_hash_comes_to_the_stored_receipt(made: Made) -> None:
    with Replayer(made.data, made.genesis) as replayer:
        traced = replayer.transaction(3, 2)
        assert replayer.transaction(3, hash_of(made.payments[2])) == traced
        assert traced.agrees
        assert (traced.trace.call.contract_name, traced.trace.call.method) == ("bank", "send_payment")
        failed = replayer.transaction(3, PAYMENTS)
        assert failed.agrees
        assert failed.trace.error == "insufficient_funds"
        assert replayer.transaction(5, 0).trace.call.method == "amalgamate"  # behind a skipped one


def test_every_transaction_of_a_chain_comes_to_its_receipt(made: Made) -> None:
    with Replayer(made.data, made.genesis) as replayer:
        for height, count in ((1, 1), (2, 1), (3, PAYMENTS + 1), (5, 1)):
            assert all(replayer.transaction(height, position).agrees for position in range(count))


def test_what_is_not_there_is_said_with_what_is(made: Made) -> None:
    with Replayer(made.data, made.genesis) as replayer:
        for call, text in (
            (lambda: replayer.block(0), "block 0 is genesis"),
            (lambda: replayer.block(6), "the highest is 5"),
            (lambda: replayer.block(-1), "no block -1"),
            (lambda: replayer.transaction(3, 99), r"positions are 0\.\.24"),
            (lambda: replayer.transaction(4, 0), "it is empty"),
            (lambda: replayer.transaction(3, bytes(32)), "no transaction 0x00"),
            (lambda: replayer.transaction(2, hash_of(made.payments[0])), "is in block 3, not in block 2"),
        ):
            with pytest.raises(BadInput, match=text):
                call()
        with pytest.raises(ConfigError, match=r"must be 2\.\.64"):
            replayer.block(1, executors=1)
    with pytest.raises(StoreError, match="no such folder"):
        Replayer(made.data / "nowhere", made.genesis)
    with pytest.raises(StoreError, match="no blocks environment"):
        Replayer(made.data / "state", made.genesis)
    other = msgspec.structs.replace(made.genesis, name="another")
    with pytest.raises(ConfigError, match="belongs to chain"):
        Replayer(made.data, other)


def test_the_temporary_state_goes_also_when_it_is_interrupted(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[Path]] = []

    def interrupt(what: str, done: int, total: int) -> None:
        seen.append(list(tmp_path.rglob("*.mdb")))
        if what.startswith("running"):
            raise KeyboardInterrupt

    with Replayer(made.data, made.genesis, progress=interrupt) as replayer, pytest.raises(KeyboardInterrupt):
        replayer.transaction(3, 2)
    assert any(seen)
    assert list(tmp_path.iterdir()) == []


def test_a_chain_is_traced_while_its_owner_goes_on_writing(tmp_path: Path) -> None:
    chain = Made(tmp_path)
    try:
        with Replayer(chain.data, chain.genesis) as replayer:
            assert replayer.transaction(3, 0).agrees
            chain.maker.add([transaction(3, chain.bank, "deposit_checking", (1, 5))])
            assert replayer.transaction(3, 1).agrees
    finally:
        chain.maker.close()


def tamper(
    data: Path, environment: str, database: bytes, change: tuple[int, int, Callable[[bytes], bytes]] | None
) -> None:
    """Change (height, part, how) of a stored block behind the program's back, or drop the whole database."""
    opened = lmdb.open(str(data / environment), max_dbs=8, map_size=2**30)
    with opened.begin(write=True) as txn:
        handle = opened.open_db(database, txn)
        if change is None:
            txn.drop(handle, delete=False)
        else:
            height, part, made = change
            parts = unpack_parts(txn.get(height_key(height), db=handle) or b"")
            parts[part] = made(parts[part])
            txn.put(height_key(height), pack_parts(parts), db=handle)
    opened.close()


def tampered(folder: Path, part: int, made: Callable[[bytes], bytes]) -> Made:
    """A chain with one part of block 3 changed."""
    chain = Made(folder)
    chain.maker.close()
    tamper(chain.data, "blocks", b"blocks", (3, part, made))
    return chain


def more_gas(packed: bytes) -> bytes:
    receipts = unpack_parts(packed)
    receipt = decode(Receipt, receipts[4])
    receipts[4] = encode(msgspec.structs.replace(receipt, gas_used=receipt.gas_used + 1, result=pack(1)))
    return pack_parts(receipts)


def another_value(packed: bytes) -> bytes:
    writes = unpack_writes(packed)
    key, _ = writes[1]
    return pack_writes([writes[0], (key, pack(12_345)), *writes[2:]])


@pytest.mark.slow
def test_a_receipt_that_was_changed_is_found(tmp_path: Path) -> None:
    chain = tampered(tmp_path, RECEIPTS, more_gas)
    with Replayer(chain.data, chain.genesis) as replayer:
        replay = replayer.block(3)
        traced = replayer.transaction(3, 4)
    assert not replay.agrees
    assert replay.parallel_equals_serial
    assert [check.what for check in replay.checks if not check.agrees] == ["receipts"]
    gas, result = replay.differences
    assert (gas.what, gas.position, gas.transaction_hash) == ("gas_used", 4, hash_of(chain.payments[4]))
    assert gas.stored == gas.serial + 1 == gas.parallel + 1
    assert (result.what, result.stored, result.serial) == ("result", pack(1), b"")
    assert not traced.agrees


@pytest.mark.slow
def test_a_write_that_was_changed_is_found_and_stops_what_builds_on_it(tmp_path: Path) -> None:
    chain = tampered(tmp_path, WRITES, another_value)
    with Replayer(chain.data, chain.genesis) as replayer:
        replay = replayer.block(3)
        with pytest.raises(StoreError, match="write set of block 3 does not lead to its state root"):
            replayer.block(4)
    assert [check.what for check in replay.checks if not check.agrees] == ["write set"]
    (difference,) = replay.differences
    assert (difference.what, difference.stored, difference.parallel) == ("bank checking[1]", 12_345, 416)
    assert difference.serial == difference.parallel
