"""Signatures checked in processes of their own: verdicts, a worker that dies, the end."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chain.crypto import PrivateKey, Scheme, verify_batch
from chain.crypto.schemes import Item
from chain.crypto.verify_pool import FRAME_BYTES_MAX, VerifyPool, serve
from chain.errors import InvariantError


def items(count: int) -> list[Item]:
    """Every third one is spoilt; both schemes, and one that nobody knows."""
    made: list[Item] = []
    for number in range(1, count + 1):
        scheme = Scheme.ED25519 if number % 2 else Scheme.SECP256K1
        key = PrivateKey.from_secret(scheme, number.to_bytes(32, "big"))
        message, spoilt = number.to_bytes(4, "big") * 8, bytes(32)
        made.append((int(scheme), key.public_key, spoilt if number % 3 == 0 else message, key.sign(message)))
    return [*made, (99, b"", b"", b"")]


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifyPool]:
    made = VerifyPool(2, "never")
    yield made
    made.close()


def pids(pool: VerifyPool) -> list[int]:
    return [worker.process.pid for worker in pool._all]


def test_verdicts_are_those_of_the_libraries_from_any_thread(pool: VerifyPool) -> None:
    asked = items(20)
    expected = verify_batch(asked)
    assert {True, False} == set(expected)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(pool.check, [asked] * 12)) == [expected] * 12
    assert pool.check([]) == []
    assert pool.cpu_us > 0


def test_a_worker_that_died_is_replaced_and_its_batch_checked_again(pool: VerifyPool) -> None:
    before = pids(pool)
    spent = pool.cpu_us
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    asked = items(5)
    assert [pool.check(asked) for _ in range(3)] == [verify_batch(asked)] * 3
    assert not set(before) & set(pids(pool)) and len(pids(pool)) == 2
    assert pool.cpu_us > spent


def test_ctrl_c_ends_no_worker_and_the_end_of_the_input_does() -> None:
    pool = VerifyPool(1, "never")
    worker = pool._all[0].process
    worker.send_signal(signal.SIGINT)
    asked = items(3)
    assert pool.check(asked) == verify_batch(asked)
    assert pids(pool) == [worker.pid]
    pool.close()
    assert worker.returncode == 0


def test_a_worker_that_cannot_start_is_told() -> None:
    with pytest.raises(InvariantError, match="does not start"):
        VerifyPool(1, "no such kernel")


def test_bounds() -> None:
    with pytest.raises(InvariantError, match=r"must be 1\.\.64"):
        VerifyPool(65, "never")
    for said in (b"", b"\0\0", (FRAME_BYTES_MAX + 1).to_bytes(4, "little"), (9).to_bytes(4, "little") + b"short"):
        answers = io.BytesIO()
        serve(io.BytesIO(said), answers, verify_batch)
        assert answers.getvalue() == b""
