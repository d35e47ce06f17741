"""The pool: transactions in order of arrival, reserved by live proposals, bounded in count and bytes.

A transaction is *waiting* (may be packed), *reserved* (in one live proposal, by digest) or gone (executed or expired).
Nothing acknowledged is dropped to make room: a full pool refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chain.errors import BadInput, InvariantError
from chain.model.transaction import Transaction
from chain.types import Digest, Height, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    transactions_max: int = 100_000
    bytes_max: int = 256 * 1024 * 1024


class Pool:
    """Single-threaded; every method is O(transactions named), except `release`, which is rare."""

    __slots__ = ("_arrived", "_by_expiry", "_bytes", "_limits", "_reserved", "_transactions", "_waiting")

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._transactions: dict[Digest, Transaction] = {}
        self._waiting: dict[Digest, None] = {}  # in packing order
        self._reserved: dict[Digest, Digest] = {}  # transaction hash -> digest of the live proposal that holds it
        self._arrived: dict[Digest, Instant] = {}
        self._by_expiry: dict[int, set[Digest]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._transactions)

    def __contains__(self, transaction_hash: object) -> bool:
        return transaction_hash in self._transactions

    @property
    def bytes_held(self) -> int:
        return self._bytes

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def check_room(self, *, transactions: int, transaction_bytes: int) -> None:
        """Raises BadInput("pool_full") if so much does not fit."""
        if len(self._transactions) + transactions > self._limits.transactions_max:
            raise BadInput("pool_full", f"the pool holds {len(self._transactions)} transactions; try again later")
        if self._bytes + transaction_bytes > self._limits.bytes_max:
            raise BadInput("pool_full", f"the pool holds {self._bytes} bytes; try again later")

    def add(self, transaction: Transaction, now: Instant) -> bool:
        """Take in a checked transaction; False if it is here already.

        Raises:
            BadInput: "pool_full".
        """
        transaction_hash = transaction.hash
        if transaction_hash in self._transactions:
            return False
        self.check_room(transactions=1, transaction_bytes=len(transaction.raw))
        self._insert(transaction, now)
        self._waiting[transaction_hash] = None
        return True

    def _insert(self, transaction: Transaction, now: Instant) -> None:
        self._transactions[transaction.hash] = transaction
        self._arrived[transaction.hash] = now
        self._by_expiry.setdefault(transaction.body.expiry, set()).add(transaction.hash)
        self._bytes += len(transaction.raw)

    def get(self, transaction_hash: Digest) -> Transaction | None:
        return self._transactions.get(transaction_hash)

    def reserved_by(self, transaction_hash: Digest) -> Digest | None:
        """Digest of the live proposal that holds the transaction."""
        return self._reserved.get(transaction_hash)

    def select(self, *, height: Height, count_max: int, bytes_max: int, gas_max: int) -> list[Transaction]:
        """The oldest waiting transactions that fit, expired ones left out. Does not reserve them."""
        chosen: list[Transaction] = []
        size = gas = 0
        for transaction_hash in self._waiting:
            transaction = self._transactions[transaction_hash]
            if transaction.body.expiry < height:
                continue
            size += len(transaction.raw)
            gas += transaction.body.gas_limit
            if size > bytes_max or gas > gas_max:
                break
            chosen.append(transaction)
            if len(chosen) == count_max:
                break
        return chosen

    def reserve(self, digest: Digest, transactions: Sequence[Transaction], now: Instant) -> None:
        """Mark the transactions as held by the live proposal; unknown ones are taken in (a proposal is never refused
        for want of room: its bodies are bounded by the chain's parameters)."""
        for transaction in transactions:
            transaction_hash = transaction.hash
            holder = self._reserved.get(transaction_hash)
            if holder is not None and holder != digest:
                raise InvariantError(f"transaction {transaction_hash.hex()} reserved by two live proposals")
            if transaction_hash not in self._transactions:
                self._insert(transaction, now)
            self._reserved[transaction_hash] = digest
            self._waiting.pop(transaction_hash, None)

    def release(self, digest: Digest) -> int:
        """The proposal lost its place: what it held waits again, before all others. Returns how many."""
        released = [held for held, holder in self._reserved.items() if holder == digest]
        for transaction_hash in released:
            del self._reserved[transaction_hash]
        self._waiting = dict.fromkeys(released) | self._waiting
        return len(released)

    def remove(self, hashes: Iterable[Digest]) -> None:
        """Forget transactions: executed, or found to be so."""
        for transaction_hash in hashes:
            transaction = self._transactions.pop(transaction_hash, None)
            if transaction is None:
                continue
            self._bytes -= len(transaction.raw)
            expiring = self._by_expiry[transaction.body.expiry]
            expiring.discard(transaction_hash)
            if not expiring:
                del self._by_expiry[transaction.body.expiry]
            self._arrived.pop(transaction_hash, None)
            self._waiting.pop(transaction_hash, None)
            self._reserved.pop(transaction_hash, None)

    def expire(self, height: Height) -> list[Digest]:
        """Forget transactions that can no longer execute above `height`, reserved ones too; ascending by hash."""
        due = [expiry for expiry in self._by_expiry if expiry <= height]
        gone = sorted(held for expiry in due for held in self._by_expiry[expiry])
        self.remove(gone)
        return gone

    def oldest_waiting(self) -> Instant | None:
        """When the longest-waiting transaction arrived."""
        for transaction_hash in self._waiting:
            return self._arrived[transaction_hash]
        return None

    def overdue(self, *, before: Instant, count_max: int) -> list[Transaction]:
        """Waiting transactions that arrived before the instant, at most `count_max`."""
        found: list[Transaction] = []
        for transaction_hash in self._waiting:
            if len(found) == count_max or self._arrived[transaction_hash] >= before:
                break
            found.append(self._transactions[transaction_hash])
        return found
