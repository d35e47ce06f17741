"""A node's pool by hashes alone: a transaction waits until a proposal that holds it is ordered here."""

from __future__ import annotations

from collections.abc import Iterable


class SimPool:
    """`known`: bodies held; `waiting`: arrival time of those not ordered; `reserved`: digest of the live proposal."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.waiting: dict[bytes, int] = {}
        self.reserved: dict[bytes, bytes] = {}
        self.overdue: set[bytes] = set()  # of the waiting ones
        self.ordered: set[bytes] = set()

    def add(self, transaction: bytes, now: int) -> bool:
        """False if it is here already, or ordered."""
        self.known.add(transaction)
        if transaction in self.waiting or transaction in self.ordered:
            return False
        self.waiting[transaction] = now
        return True

    def select(self, count_max: int) -> list[bytes]:
        """The oldest that no live proposal holds."""
        free = (transaction for transaction in self.waiting if transaction not in self.reserved)
        return [transaction for transaction, _ in zip(free, range(count_max), strict=False)]

    def refusal(self, digest: bytes, transactions: list[bytes]) -> str:
        """Why a fresh proposal must not be voted for; empty if it may."""
        if len(set(transactions)) != len(transactions):
            return "duplicate_in_proposal"
        for transaction in transactions:
            if transaction in self.ordered:
                return "already_ordered"
            if self.reserved.get(transaction, digest) != digest:
                return "in_another_proposal"
        return ""

    def reserve(self, digest: bytes, transactions: Iterable[bytes], now: int) -> None:
        for transaction in transactions:
            self.add(transaction, now)
            self.reserved.setdefault(transaction, digest)

    def release(self, digest: bytes) -> list[bytes]:
        freed = [transaction for transaction, holder in self.reserved.items() if holder == digest]
        for transaction in freed:
            del self.reserved[transaction]
        return freed

    def order(self, transactions: Iterable[bytes]) -> None:
        for transaction in transactions:
            self.ordered.add(transaction)
            self.waiting.pop(transaction, None)
            self.overdue.discard(transaction)
            self.reserved.pop(transaction, None)
