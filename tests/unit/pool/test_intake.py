"""The way into the pool: every wrong transaction gets its own reason, every right one is checked once."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence

from chain.codec import encode
from chain.crypto import Scheme, verify_batch
from chain.model.transaction import Transaction, join_transaction
from chain.pool import Intake, IntakeResult, Pool, PoolLimits
from chain.types import Digest, Height, Instant
from tests.unit.pool.transactions import CHAIN_ID, make_transaction


class Verifier:
    """The real batch check, counted; `meanwhile` happens while it runs."""

    def __init__(self) -> None:
        self.checked = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[bool]:
        self.checked += len(items)
        self.meanwhile()
        return verify_batch(items)


class Executed:
    def __init__(self, *hashes: Digest) -> None:
        self._hashes = set(hashes)
        self.latest = Height(10)

    def add(self, transaction_hash: Digest) -> None:
        self._hashes.add(transaction_hash)
        self.latest = Height(self.latest + 1)

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        return [transaction_hash in self._hashes for transaction_hash in hashes]

    def executed_since(self, height: Height, hashes: Sequence[Digest]) -> list[bool]:
        return self.executed(hashes)


def make_intake(pool: Pool | None = None, executed: Executed | None = None) -> tuple[Intake, Pool, Verifier]:
    pool = Pool(PoolLimits()) if pool is None else pool
    verifier = Verifier()
    intake = Intake(
        pool=pool,
        verifier=verifier,
        known=executed or Executed(),
        chain_id=CHAIN_ID,
        lifetime_max=1_000,
        transaction_gas_max=1_000_000,
        height=lambda: Height(10),
        now=lambda: Instant(0),
    )
    return intake, pool, verifier


def submit(intake: Intake, *raws: bytes) -> tuple[list[IntakeResult], list[Transaction]]:
    return asyncio.run(intake.submit(raws))


def codes(results: Sequence[IntakeResult]) -> list[str | None]:
    return [result.error.code if result.error else None for result in results]


def test_good_transactions_of_both_schemes_enter() -> None:
    intake, pool, _ = make_intake()
    good = [make_transaction(1), make_transaction(2, scheme=Scheme.SECP256K1)]
    results, added = submit(intake, *[transaction.raw for transaction in good])
    assert codes(results) == [None, None]
    assert [transaction.hash for transaction in added] == [transaction.hash for transaction in good]
    assert len(pool) == 2


def test_each_wrong_transaction_gets_its_reason_and_the_good_one_between_them_enters() -> None:
    done = make_transaction(6)
    intake, pool, _ = make_intake(executed=Executed(done.hash))
    good = make_transaction(1)
    forged = join_transaction(good.body_bytes[:-1] + bytes((good.body_bytes[-1] ^ 1,)), good.signature)
    results, _ = submit(
        intake,
        b"\xc1",
        make_transaction(2, chain_id=Digest(bytes(32))).raw,
        make_transaction(3, expiry=10).raw,
        make_transaction(4, expiry=1_011).raw,
        make_transaction(5, gas_limit=1_000_001).raw,
        good.raw,
        good.raw,
        done.raw,
        forged,
        encode((good.body_bytes, bytes(63))),
    )
    assert codes(results) == [
        "malformed", "wrong_chain", "expired", "expiry_too_far", "gas_limit", None, "duplicate", "duplicate",
        "bad_signature", "malformed",
    ]  # fmt: skip
    assert len(pool) == 1
    assert intake.refused["duplicate"] == 2


def test_another_signature_does_not_make_another_transaction() -> None:
    intake, pool, _ = make_intake()
    good = make_transaction(1)
    submit(intake, good.raw)
    results, _ = submit(intake, join_transaction(good.body_bytes, bytes(64)))
    assert codes(results) == ["duplicate"]
    assert len(pool) == 1


def test_a_known_transaction_costs_no_signature_check() -> None:
    intake, _, verifier = make_intake()
    good = make_transaction(1)
    submit(intake, good.raw)
    submit(intake, good.raw, good.raw)
    assert verifier.checked == 1


def test_a_full_pool_refuses_before_any_signature_check() -> None:
    intake, _, verifier = make_intake(Pool(PoolLimits(transactions_max=2)))
    results, _ = submit(intake, *[make_transaction(at).raw for at in range(4)])
    assert codes(results) == [None, None, "pool_full", "pool_full"]
    assert verifier.checked == 2


def test_a_replayed_transaction_costs_no_signature_check() -> None:
    done = make_transaction(1)
    intake, _, verifier = make_intake(executed=Executed(done.hash))
    results, _ = submit(intake, done.raw)
    assert (codes(results), verifier.checked) == (["duplicate"], 0)


def test_what_is_executed_while_its_signature_is_checked_does_not_enter_the_pool() -> None:
    executed = Executed()
    intake, pool, verifier = make_intake(executed=executed)
    late, other = make_transaction(1), make_transaction(2)
    verifier.meanwhile = lambda: executed.add(late.hash)
    results, added = submit(intake, late.raw, other.raw)
    assert codes(results) == ["duplicate", None]
    assert [transaction.hash for transaction in added] == [other.hash]
    assert late.hash not in pool


def test_what_expires_while_its_signature_is_checked_does_not_enter_the_pool() -> None:
    pool, verifier, height = Pool(PoolLimits()), Verifier(), 10
    intake = Intake(
        pool=pool, verifier=verifier, known=Executed(), chain_id=CHAIN_ID, lifetime_max=1_000,
        transaction_gas_max=1_000_000, height=lambda: Height(height), now=lambda: Instant(0),
    )  # fmt: skip

    def time_passes() -> None:
        nonlocal height
        height = 11

    verifier.meanwhile = time_passes
    results, _ = submit(intake, make_transaction(1, expiry=11).raw)
    assert codes(results) == ["expired"]
    assert len(pool) == 0


def test_gossip_may_be_a_little_ahead_of_this_node() -> None:
    intake, _, _ = make_intake()
    raw = make_transaction(1, expiry=1_015).raw
    assert codes(submit(intake, raw)[0]) == ["expiry_too_far"]
    ahead = Intake(
        pool=Pool(PoolLimits()), verifier=Verifier(), known=Executed(), chain_id=CHAIN_ID, lifetime_max=1_000,
        lifetime_slack=24, transaction_gas_max=1_000_000, height=lambda: Height(10), now=lambda: Instant(0),
    )  # fmt: skip
    assert codes(submit(ahead, raw)[0]) == ["expiry_too_far"], "a client's is judged exactly"
    results, _ = asyncio.run(ahead.submit([raw], gossip=True))
    assert codes(results) == [None]


def test_a_refusal_leaves_no_cycle_behind() -> None:
    """Every refusal is an exception kept in a result; with its frames it would wait for the garbage collector."""
    intake, _, _ = make_intake(executed=Executed(make_transaction(6).hash))
    good = make_transaction(1)
    bad = [b"\xc1", make_transaction(3, expiry=10).raw, make_transaction(6).raw, good.raw, good.raw]
    bad.append(join_transaction(make_transaction(2).body_bytes, bytes(64)))
    submit(intake, *bad)
    gc.collect()
    gc.disable()
    try:
        results, _ = asyncio.run(intake.submit(bad))
        refusals = [weakref.ref(result.error) for result in results if result.error is not None]
        del results
        assert len(refusals) == len(bad)
        assert [refusal() for refusal in refusals] == [None] * len(bad)
    finally:
        gc.enable()


def test_an_expired_transaction_costs_no_signature_check() -> None:
    intake, _, verifier = make_intake()
    assert codes(submit(intake, make_transaction(1, expiry=10).raw)[0]) == ["expired"]
    assert verifier.checked == 0
