"""What a signature costs: sign, verify, a batch, a batch through the verifier's threads.

Signatures are the largest single cost of a transaction; `extra_info` carries microseconds per signature.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.figures import CPU
from chain.crypto import PrivateKey, Scheme, Verifier, address_of, verify, verify_batch
from chain.crypto.batches import KERNELS, checker_of
from chain.crypto.schemes import Item
from chain.model.signing import decode_transaction, sign_transaction

BATCH: Final = 256
SCHEMES: Final = pytest.mark.parametrize("scheme", Scheme, ids=lambda scheme: scheme.name.lower())


def make_batch(scheme: Scheme, count: int = BATCH) -> list[Item]:
    keys = [PrivateKey.from_secret(scheme, bytes((at + 1,)) * 32) for at in range(16)]
    items = []
    for at in range(count):
        key, message = keys[at % len(keys)], at.to_bytes(32, "big")
        items.append((int(scheme), key.public_key, message, key.sign(message)))
    return items


def per_signature(benchmark: BenchmarkFixture, count: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_signature"] = round(benchmark.stats.stats.median / count * 1e6, 2)


@SCHEMES
def test_sign(benchmark: BenchmarkFixture, scheme: Scheme) -> None:
    key = PrivateKey.from_secret(scheme, bytes(range(1, 33)))
    signature = benchmark(key.sign, bytes(32))
    assert verify(scheme, key.public_key, bytes(32), signature)
    per_signature(benchmark, 1)


@SCHEMES
def test_verify(benchmark: BenchmarkFixture, scheme: Scheme) -> None:
    assert benchmark(verify, *make_batch(scheme, 1)[0])
    per_signature(benchmark, 1)


@SCHEMES
def test_verify_batch(benchmark: BenchmarkFixture, scheme: Scheme) -> None:
    assert all(benchmark(verify_batch, make_batch(scheme)))
    per_signature(benchmark, BATCH)


@CPU
@SCHEMES
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("count", [8, 64, 128, 512])
def test_checker(benchmark: BenchmarkFixture, kernel: str, count: int, scheme: Scheme) -> None:
    """Batches, as a node checks them: "auto" in lanes where there are any, "never" by the library."""
    checker = checker_of(kernel)
    items = make_batch(scheme, count)
    assert all(checker.check(items))  # compiled by now
    assert all(benchmark(checker.check, items))
    per_signature(benchmark, count)
    benchmark.extra_info["by"] = checker.name


@SCHEMES
@pytest.mark.parametrize("threads", [1, 2])
def test_verifier(benchmark: BenchmarkFixture, scheme: Scheme, threads: int) -> None:
    """Two threads near half the time of one: the library drops the GIL."""
    items = make_batch(scheme)
    with asyncio.Runner() as runner:

        async def start() -> Verifier:
            return Verifier(threads)

        verifier = runner.run(start())
        assert all(benchmark(lambda: runner.run(verifier.verify(items))))
        runner.run(verifier.close())
    per_signature(benchmark, BATCH)


@SCHEMES
def test_address(benchmark: BenchmarkFixture, scheme: Scheme) -> None:
    key = PrivateKey.from_secret(scheme, bytes(range(1, 33)))
    assert benchmark(address_of, scheme, key.public_key) == key.address


@SCHEMES
def test_decode_transaction(benchmark: BenchmarkFixture, scheme: Scheme) -> None:
    key = PrivateKey.from_secret(scheme, bytes(range(1, 33)))
    made = sign_transaction(
        key, chain_id=bytes(32), target=bytes(20), method="pay", arguments=(bytes(20), 1), expiry=9, gas_limit=9
    )
    assert benchmark(decode_transaction, made.raw).hash == made.hash
