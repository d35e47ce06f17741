"""The environment in memory behaves as LMDB does: the same operations on both, drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chain.errors import InvariantError, StoreError
from chain.store import environment
from chain.store.environment import Environment, open_environment
from chain.store.memory import DiskFull, MemoryFile

NAMES = (b"one", b"two")
KEYS = [bytes((first, second)) for first in b"abc" for second in range(6)]


def open_real(path: Path) -> Environment:
    return open_environment(path / "real", kind="blocks", databases=NAMES, map_bytes=16 * 1024 * 1024)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[MemoryFile]:
    made = MemoryFile()
    environment.openers[tmp_path / "disk"] = made.open
    yield made
    del environment.openers[tmp_path / "disk"]


def open_memory(path: Path) -> Environment:
    return open_environment(path / "disk" / "memory", kind="blocks", databases=NAMES, map_bytes=16 * 1024 * 1024)


def change(random: Random, txn: Any, db: Any) -> object:
    key, value = random.choice(KEYS), bytes((random.randrange(256),)) * 3
    match random.randrange(6):
        case 0:
            return txn.put(key, value, db=db)
        case 1:
            return txn.put(key, value, overwrite=False, db=db)
        case 2:
            return txn.delete(key, db=db)
        case 3:
            return txn.replace(key, value, db=db)
        case 4:
            return txn.cursor(db).putmulti([(key, value), (random.choice(KEYS), value)], overwrite=False)[1]
        case _:
            cursor = txn.cursor(db)
            return cursor.set_range(key) and cursor.delete()


def look(random: Random, txn: Any, db: Any) -> object:
    key = random.choice(KEYS)
    cursor = txn.cursor(db)
    seen: list[object] = [txn.get(key, db=db), txn.stat(db)["entries"], list(txn.cursor(db))]
    seen += [cursor.set_range(key), bytes(cursor.key()), bytes(cursor.value())]
    if cursor.prev():
        seen += [bytes(cursor.key()), cursor.next() and cursor.next(), bytes(cursor.key())]
    seen += [cursor.last(), bytes(cursor.key()), cursor.first(), bytes(cursor.value()), cursor.next()]
    if cursor.set_range(key):
        seen.append(list(cursor.iternext(values=False)))
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_it_answers_as_lmdb_does(tmp_path: Path, file: MemoryFile, seed: int) -> None:
    real, memory = open_real(tmp_path), open_memory(tmp_path)
    for step in range(60):
        answers = []
        for opened in (real, memory):
            random = Random(f"{seed} {step}")
            held = opened.begin_read()
            try:
                with opened.write() as txn:
                    answer = [change(random, txn, opened.database(random.choice(NAMES))) for _ in range(5)]
                    if random.random() < 0.2:
                        raise KeyError
            except KeyError:
                answer = []
            with opened.read() as txn:
                answer.append(look(random, txn, opened.database(random.choice(NAMES))))
            answer.append(look(random, held, opened.database(NAMES[0])))  # an old snapshot
            held.abort()
            answers.append(answer)
        assert answers[0] == answers[1], f"step {step}"
    real.close()
    memory.close()


def test_it_refuses_what_lmdb_refuses(tmp_path: Path, file: MemoryFile) -> None:
    for opened in (open_real(tmp_path), open_memory(tmp_path)):
        with pytest.raises(InvariantError, match="a key is empty"), opened.write() as txn:
            txn.put(b"", b"value", db=opened.database(NAMES[0]))
        with pytest.raises(InvariantError, match="a key is empty"), opened.write() as txn:
            txn.put(bytes(512), b"value", db=opened.database(NAMES[0]))
        with opened.write() as txn:
            assert txn.put(b"b", b"1", append=True, db=opened.database(NAMES[0]))
            assert not txn.put(b"a", b"1", append=True, db=opened.database(NAMES[0]))
        opened.close()


def test_a_commit_is_all_there_or_not_at_all(tmp_path: Path, file: MemoryFile) -> None:
    opened = open_memory(tmp_path)

    def full(when: str) -> None:
        if when == "before":
            raise DiskFull("no space left on device")

    file.at_commit = full
    with pytest.raises(StoreError, match="the disk is full"), opened.write() as txn:
        txn.put(b"a", b"1", db=opened.database(NAMES[0]))
    file.at_commit = lambda when: None
    with opened.read() as txn:
        assert txn.get(b"a", db=opened.database(NAMES[0])) is None
    with pytest.raises(StoreError, match="an earlier write failed"), opened.write() as txn:
        txn.put(b"a", b"1", db=opened.database(NAMES[0]))
    opened.close()


def test_a_crash_loses_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    for synced, left in ((True, b"1"), (False, None)):
        made = MemoryFile()
        opened = made.open(str(tmp_path / f"{synced}"), readonly=False, sync=synced, metasync=True)
        opened.open_db(b"one")
        with opened.begin(write=True) as txn:
            txn.put(b"a", b"1", db=b"one")
        assert opened.begin().get(b"a", db=b"one") == b"1"
        made.crash()
        assert opened.begin().get(b"a", db=b"one") == left
