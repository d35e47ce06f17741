"""What must not be opened is refused with a text that helps; what fails keeps nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from chain.codec import encode
from chain.errors import ConfigError, StoreError
from chain.store import check_file
from chain.store.environment import META, STAMP_KEY, Environment, Stamp, open_environment

CHAIN = bytes(32)
MAP = 4 * 1024 * 1024


def opened(path: Path, *, kind: str = "blocks", map_bytes: int = MAP, readonly: bool = False) -> Environment:
    return open_environment(path, kind=kind, databases=(b"data",), map_bytes=map_bytes, readonly=readonly)


def filled(path: Path, count: int = 200) -> Path:
    """A stamped environment with `count` values of 1,000 bytes, closed."""
    environment = opened(path)
    with environment.write() as txn:
        environment.put_stamp(txn, CHAIN)
        for number in range(count):
            txn.put(b"%06d" % number, bytes(1_000), db=environment.database(b"data"))
    environment.close()
    return path / "data.mdb"


def test_a_stamp_is_needed_and_must_fit(tmp_path: Path) -> None:
    environment = opened(tmp_path)
    assert environment.check_stamp(CHAIN)
    with environment.write() as txn:
        environment.put_stamp(txn, CHAIN)
    assert not environment.check_stamp(CHAIN)
    with pytest.raises(ConfigError, match=r"belongs to chain 00.*configured genesis makes chain 01"):
        environment.check_stamp(b"\x01" * 32)
    wrong = [
        (encode(Stamp(format=1, kind="blocks", chain_id=CHAIN)), "has store format 1, this program reads 2: move"),
        (encode(Stamp(format=3, kind="blocks", chain_id=CHAIN)), "has store format 3, this program reads 2: move"),
        (encode(Stamp(format=2, kind="state", chain_id=CHAIN)), "holds a state environment where blocks belongs"),
        (b"nonsense", "stamp cannot be read"),
    ]
    for data, text in wrong:
        with environment.write() as txn:
            txn.put(STAMP_KEY, data, db=environment.database(META))
        with pytest.raises(StoreError, match=text):
            environment.check_stamp(CHAIN)
    with environment.write() as txn:
        txn.delete(STAMP_KEY, db=environment.database(META))
        txn.put(b"k", b"v", db=environment.database(b"data"))
    with pytest.raises(StoreError, match="without a format stamp"):
        environment.check_stamp(CHAIN)
    environment.close()


def _garbage(file: Path) -> None:
    file.write_bytes(b"\xa5" * file.stat().st_size)


def _half_a_page(file: Path) -> None:
    os.truncate(file, 2_000)


def _cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _cut_last_page(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 4096)


def _other_magic(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for at in (16, 4096 + 16):
        data[at : at + 4] = b"\x00\x00\x00\x00"
    file.write_bytes(data)


def _other_version(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for at in (20, 4096 + 20):
        data[at : at + 4] = (99).to_bytes(4, "little")
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [_garbage, _half_a_page, _cut_in_half, _cut_last_page, _other_magic, _other_version]
)
@pytest.mark.parametrize("readonly", [False, True])
def test_a_torn_or_foreign_file_is_refused(tmp_path: Path, damage: Callable[[Path], None], readonly: bool) -> None:
    file = filled(tmp_path / "blocks")
    damage(file)
    with pytest.raises(StoreError, match=r"data.mdb|LMDB"):
        opened(tmp_path / "blocks", readonly=readonly)
    assert check_file(file.parent)


def test_a_whole_file_has_no_faults_and_a_damaged_page_is_found(tmp_path: Path) -> None:
    file = filled(tmp_path / "blocks")
    assert check_file(file.parent) == []
    assert check_file(tmp_path / "nothing")
    data = bytearray(file.read_bytes())
    data[10 * 4096 : 11 * 4096] = b"\xa5" * 4096
    file.write_bytes(data)
    assert check_file(file.parent)


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(tmp_path / "file")


def test_an_unfinished_environment_is_not_read(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path / "state"), map_size=MAP).close()
    with pytest.raises(StoreError, match="never finished"):
        opened(tmp_path / "state", readonly=True)


def test_a_writer_cannot_be_shared_in_a_process_but_read(tmp_path: Path) -> None:
    filled(tmp_path)
    environment = opened(tmp_path)
    with pytest.raises(StoreError, match="already open in this process"):
        opened(tmp_path)
    reader = opened(tmp_path, readonly=True)
    environment.close()
    with reader.read() as txn:
        assert txn.get(b"000000", db=reader.database(b"data")) == bytes(1_000)
    reader.close()
    opened(tmp_path).close()


def test_a_full_map_is_told_and_keeps_nothing(tmp_path: Path) -> None:
    environment = opened(tmp_path, map_bytes=1024 * 1024)
    data = environment.database(b"data")
    with environment.write() as txn:
        txn.put(b"before", b"kept", db=data)

    def fill() -> None:
        with environment.write() as txn:
            for number in range(2_000):
                txn.put(b"%06d" % number, bytes(1_000), db=environment.database(b"data"))

    for _ in range(2):
        with pytest.raises(StoreError, match=r"full, all 1048576 bytes.*nothing of this write was kept.*Raise the map"):
            fill()
    with environment.read() as txn:
        assert txn.stat(data)["entries"] == 1
        assert txn.get(b"before", db=data) == b"kept"
    with environment.write() as txn:
        txn.put(b"after", b"small", db=data)
    environment.close()
    environment = opened(tmp_path, map_bytes=8 * 1024 * 1024)
    fill()
    environment.close()


def test_an_exception_inside_a_write_keeps_nothing(tmp_path: Path) -> None:
    environment = opened(tmp_path)
    data = environment.database(b"data")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), environment.write() as txn:
            txn.put(b"k", b"v", db=data)
            raise error
    with environment.read() as txn:
        assert txn.get(b"k", db=data) is None
    with environment.write() as txn:
        txn.put(b"k", b"v", db=data)
    environment.close()


def test_room_unused_costs_nothing(tmp_path: Path) -> None:
    environment = opened(tmp_path, map_bytes=1024**4)
    with environment.write() as txn:
        txn.put(b"k", b"v", db=environment.database(b"data"))
    assert environment.used_bytes() < 100_000
    assert (tmp_path / "data.mdb").stat().st_size < 100_000
    environment.close()
