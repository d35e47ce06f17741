"""The pool: transactions in order of arrival, reserved by live proposals, bounded in count and bytes.

A transaction is *waiting* (may be packed), *reserved* (in one live proposal, by digest) or gone (executed or expired).
Nothing acknowledged is dropped to make room: a full pool refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chain.errors import BadInput, InvariantError
from chain.model.transaction import Transaction
from chain.types import Digest, Height, Instant

LISTED_SPARE: Final = 1_024  # transactions gone that the lists by expiry hold, beside as many as are here


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    transactions_max: int = 100_000
    bytes_max: int = 256 * 1024 * 1024


class _Entry:
    """One transaction and where it stands."""

    __slots__ = ("arrived", "holder", "transaction")

    def __init__(self, transaction: Transaction, arrived: Instant, holder: Digest | None) -> None:
        self.transaction = transaction
        self.arrived = arrived
        self.holder = holder  # digest of the live proposal that holds it; None: it waits


class Pool:
    """Single-threaded; every method is O(transactions named), but `release`, which is rare. `remove` is on average."""

    __slots__ = ("_by_expiry", "_bytes", "_entries", "_limits", "_listed", "_waiting", "arrivals")

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._entries: dict[Digest, _Entry] = {}
        self._waiting: dict[Digest, _Entry] = {}  # in packing order
        self._by_expiry: dict[int, list[Digest]] = {}  # some of them gone: `_forget_gone`
        self._listed = 0  # in these lists
        self._bytes = 0
        self.arrivals = 0  # transactions that ever came to wait here

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, transaction_hash: object) -> bool:
        return transaction_hash in self._entries

    @property
    def bytes_held(self) -> int:
        return self._bytes

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def has_room(self, *, transactions: int, transaction_bytes: int) -> bool:
        """`check_room` would not raise."""
        return (
            len(self._entries) + transactions <= self._limits.transactions_max
            and self._bytes + transaction_bytes <= self._limits.bytes_max
        )

    def check_room(self, *, transactions: int, transaction_bytes: int) -> None:
        """Raises BadInput("pool_full") if so much does not fit."""
        if len(self._entries) + transactions > self._limits.transactions_max:
            raise BadInput("pool_full", f"the pool holds {len(self._entries)} transactions; try again later")
        if self._bytes + transaction_bytes > self._limits.bytes_max:
            raise BadInput("pool_full", f"the pool holds {self._bytes} bytes; try again later")

    def add(self, transaction: Transaction, now: Instant) -> bool:
        """Take in a checked transaction; False if it is here already.

        Raises:
            BadInput: "pool_full".
        """
        if transaction.hash in self._entries:
            return False
        self.check_room(transactions=1, transaction_bytes=len(transaction.raw))
        self._waiting[transaction.hash] = self._insert(transaction, now, None)
        self.arrivals += 1
        return True

    def _insert(self, transaction: Transaction, now: Instant, holder: Digest | None) -> _Entry:
        transaction_hash, expiry = transaction.hash, transaction.body.expiry
        entry = self._entries[transaction_hash] = _Entry(transaction, now, holder)
        self._bytes += len(transaction.raw)
        listed = self._by_expiry.get(expiry)
        if listed is None:
            self._by_expiry[expiry] = [transaction_hash]
        else:
            listed.append(transaction_hash)
        self._listed += 1
        return entry

    def get(self, transaction_hash: Digest) -> Transaction | None:
        entry = self._entries.get(transaction_hash)
        return None if entry is None else entry.transaction

    def reserved_by(self, transaction_hash: Digest) -> Digest | None:
        """Digest of the live proposal that holds the transaction."""
        entry = self._entries.get(transaction_hash)
        return None if entry is None else entry.holder

    def select(self, *, height: Height, count_max: int, bytes_max: int, gas_max: int) -> list[Transaction]:
        """The oldest waiting transactions that fit, expired ones left out. Does not reserve them."""
        chosen: list[Transaction] = []
        size = gas = 0
        for entry in self._waiting.values():
            transaction = entry.transaction
            body = transaction.body
            if body.expiry < height:
                continue
            size += len(transaction.raw)
            gas += body.gas_limit
            if size > bytes_max or gas > gas_max:
                break
            chosen.append(transaction)
            if len(chosen) == count_max:
                break
        return chosen

    def reserve(self, digest: Digest, transactions: Sequence[Transaction], now: Instant) -> None:
        """Mark the transactions as held by the live proposal; unknown ones are taken in (a proposal is never refused
        for want of room: its bodies are bounded by the chain's parameters)."""
        entries, waiting = self._entries, self._waiting
        for transaction in transactions:
            entry = entries.get(transaction.hash)
            if entry is None:
                self._insert(transaction, now, digest)
            elif entry.holder is None:
                entry.holder = digest
                del waiting[transaction.hash]
            elif entry.holder != digest:
                raise InvariantError(f"transaction {transaction.hash.hex()} reserved by two live proposals")

    def release(self, digest: Digest) -> int:
        """The proposal lost its place: what it held waits again, before all others. Returns how many."""
        released = {held: entry for held, entry in self._entries.items() if entry.holder == digest}
        for entry in released.values():
            entry.holder = None
        self._waiting = released | self._waiting
        return len(released)

    def remove(self, hashes: Iterable[Digest]) -> None:
        """Forget transactions: executed, or found to be so."""
        entries, waiting = self._entries, self._waiting
        for transaction_hash in hashes:
            entry = entries.pop(transaction_hash, None)
            if entry is None:
                continue
            self._bytes -= len(entry.transaction.raw)
            if entry.holder is None:
                del waiting[transaction_hash]
        if self._listed > 2 * len(entries) + LISTED_SPARE:
            self._forget_gone()

    def _forget_gone(self) -> None:
        """Make the lists by expiry anew: once for at least as many removals as it looks at transactions."""
        self._by_expiry = {}
        for transaction_hash, entry in self._entries.items():
            self._by_expiry.setdefault(entry.transaction.body.expiry, []).append(transaction_hash)
        self._listed = len(self._entries)

    def expire(self, height: Height) -> list[Digest]:
        """Forget transactions that can no longer execute above `height`, reserved ones too; ascending by hash."""
        due = [expiry for expiry in self._by_expiry if expiry <= height]
        listed = [held for expiry in due for held in self._by_expiry.pop(expiry)]
        self._listed -= len(listed)
        gone = sorted({held for held in listed if held in self._entries})
        self.remove(gone)
        return gone

    def overdue(self, *, before: Instant, count_max: int) -> list[Transaction]:
        """Waiting transactions that arrived before the instant, at most `count_max`."""
        found: list[Transaction] = []
        for entry in self._waiting.values():
            if len(found) == count_max or entry.arrived >= before:
                break
            found.append(entry.transaction)
        return found
