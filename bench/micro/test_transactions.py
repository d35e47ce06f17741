"""A transaction from its fields to its bytes and back: microseconds of CPU a transaction.

A payment is SmallBank's (two accounts, an amount); a record carries 4 KB of text. What signatures alone cost, and the
decoding of one payment by scheme, is in test_signatures.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import pytest

from bench.micro.figures import CPU, note_cpu
from chain.codec import Value, decode, encode
from chain.crypto import PrivateKey, Scheme
from chain.model.signing import decode_transaction, sign_transaction, signature_item
from chain.model.transaction import Transaction, join_transaction, transaction_hash
from chain.pool import TransactionsMessage

pytestmark = CPU

COUNT: Final = 100  # in a round
SENDERS: Final = 16
SHAPES: Final[dict[str, tuple[Value, ...]]] = {"payment": (1, 2, 1), "record": ("r" * 4_096,)}
EACH_SHAPE: Final = pytest.mark.parametrize("shape", SHAPES)
EACH_SCHEME: Final = pytest.mark.parametrize("scheme", Scheme, ids=lambda scheme: scheme.name.lower())


@cache
def key_of(sender: int, scheme: Scheme) -> PrivateKey:
    return PrivateKey.from_secret(scheme, bytes((sender + 1,)) * 32)


def sign(number: int, shape: str, scheme: Scheme = Scheme.ED25519) -> Transaction:
    return sign_transaction(
        key_of(number % SENDERS, scheme), chain_id=bytes(32), target=bytes(20), method="send_payment",
        arguments=SHAPES[shape], expiry=1_000, gas_limit=200_000, nonce=number.to_bytes(16, "big"),
    )  # fmt: skip


@cache
def signed(shape: str) -> list[Transaction]:
    return [sign(number, shape) for number in range(COUNT)]


@EACH_SHAPE
def test_encode(benchmark: Any, shape: str) -> None:
    """Body and whole."""
    given = [(transaction.body, transaction.signature) for transaction in signed(shape)]
    made = benchmark(lambda: [join_transaction(encode(body), signature) for body, signature in given])
    assert made == [transaction.raw for transaction in signed(shape)]
    note_cpu(benchmark, transaction=COUNT)


@EACH_SHAPE
def test_hash(benchmark: Any, shape: str) -> None:
    bodies = [transaction.body_bytes for transaction in signed(shape)]
    assert benchmark(lambda: [transaction_hash(body) for body in bodies])[0] == signed(shape)[0].hash
    note_cpu(benchmark, transaction=COUNT)


@EACH_SCHEME
@EACH_SHAPE
def test_sign(benchmark: Any, shape: str, scheme: Scheme) -> None:
    """What a client pays, from the call to the raw bytes."""
    made = benchmark(lambda: [sign(number, shape, scheme) for number in range(COUNT)])
    assert len({transaction.hash for transaction in made}) == COUNT
    note_cpu(benchmark, transaction=COUNT)


@EACH_SHAPE
def test_decode(benchmark: Any, shape: str) -> None:
    """What a node pays before it has looked at the signature, and what it then hands to the verifier."""
    raws = [transaction.raw for transaction in signed(shape)]
    items = benchmark(lambda: [signature_item(decode_transaction(raw)) for raw in raws])
    assert items == [signature_item(transaction) for transaction in signed(shape)]
    note_cpu(benchmark, transaction=COUNT)


@EACH_SHAPE
def test_gossip_message(benchmark: Any, shape: str) -> None:
    """To bytes at its sender and back at a receiver."""
    raws = tuple(transaction.raw for transaction in signed(shape))

    def there_and_back() -> TransactionsMessage:
        return decode(TransactionsMessage, encode(TransactionsMessage(transactions=raws)))

    assert benchmark(there_and_back).transactions == raws
    note_cpu(benchmark, transaction=COUNT)
