"""Membership executed in shares equals membership executed one by one: receipts, writes, gas."""

from __future__ import annotations

import random

import pytest

from chain.codec import Value, decode
from chain.model.block import Receipt
from chain.model.merkle import unpack_writes
from chain.model.signing import ValidatorKey
from chain.model.validators import validator_id
from contracts.runtime import Machine
from contracts.system import SYSTEM_ADDRESS
from contracts.system.members import possession_digest
from contracts.system.membership import MEMBERSHIP_KEY, SETS_PREFIX
from executor.process import NoProgress
from executor.serial import execute_serially
from executor.share import run_share
from executor.state import BaseState
from executor.transactions import ChainContext, call_at
from executor.validate import ShareResult, validate
from tests.unit.executor.shares import assert_equal
from tests.unit.executor.workbench import CHAIN_ID, MemoryReader, account, block_of, transaction

KEYS = 9
CHAIN = ChainContext(
    chain_id=CHAIN_ID, rule_set=3, transaction_gas_max=100_000_000, deployers=(), window=1,
    validators=tuple((f"node {n}", account(n).public_key, 1) for n in range(4)),
)  # fmt: skip


def possession(number: int, replaces: bytes = b"") -> bytes:
    key = ValidatorKey(account(number).secret)
    return key.sign(possession_digest(chain_id=CHAIN_ID, public_key=key.public_key, replaces=replaces))


def some_call(draw: random.Random, open_up_to: int) -> bytes:
    """A membership call that may or may not be in order."""
    sender, other = draw.randrange(6), draw.randrange(KEYS)
    key, own = account(other).public_key, validator_id(account(sender).public_key)
    name, endpoint = f"node {other}", f"host-{other}:{draw.randint(1, 3)}"
    calls: list[tuple[str, tuple[Value, ...]]] = [
        ("propose_add", (name, key, draw.randint(1, 3), endpoint, possession(other))),
        ("propose_observer", (name, key, endpoint, possession(other))),
        ("propose_promotion", (validator_id(key), 1)),
        ("propose_remove", (validator_id(key),)),
        ("propose_weight", (validator_id(key), draw.randint(1, 3))),
        ("set_endpoint", (endpoint,)),
        ("rotate_key", (key, possession(other, own))),
        ("withdraw", (draw.randint(1, open_up_to),)),
        *[("approve", (draw.randint(max(1, open_up_to - 3), open_up_to),))] * 9,
    ]
    method, arguments = draw.choice(calls)
    return transaction(sender, SYSTEM_ADDRESS, method, arguments)


@pytest.mark.parametrize("seed", range(6))
def test_shares_equal_serial_execution(seed: int) -> None:
    draw = random.Random(seed)
    machine, reader = Machine(3), MemoryReader()
    base = BaseState(reader)
    succeeded = 0
    for height in range(1, 13):
        block = block_of(height, [some_call(draw, height) for _ in range(10)])
        context = CHAIN.block(height=height, time_ms=block.time_ms)
        expected = execute_serially(block, base=base, machine=machine, chain=CHAIN, progress=NoProgress())
        cut: list[list[int]] = [[], [], []]
        for position in range(10):
            draw.choice(cut).append(position)
        shares = [
            ShareResult(
                share,
                run_share(
                    [call_at(block, position) for position in share], share,
                    base=base, machine=Machine(3), progress=NoProgress(), context=context,
                ),
            )
            for share in cut
        ]  # fmt: skip
        result, _, _ = validate(
            lambda position, block=block: call_at(block, position), 10, shares,  # type: ignore[misc]
            base=base, machine=machine, progress=NoProgress(), context=context,
        )  # fmt: skip
        assert_equal(result, expected)
        succeeded += sum(decode(Receipt, receipt).status == 0 for receipt in expected.receipts)
        writes = unpack_writes(expected.packed_writes)
        assert sum(key.startswith(SETS_PREFIX) for key, _ in writes) <= 1
        reader.store(height, writes)
        base.refresh()
    assert succeeded > 10 and reader.get(MEMBERSHIP_KEY) is not None
    assert reader.scan(SETS_PREFIX), "no seed may pass without a change of the set"
