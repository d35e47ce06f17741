"""A second, independent answer to "what does this block do": one transaction after the other on a plain dict.

It shares nothing with `executor/` but the machine that runs contracts: transactions are decoded by `chain.model`, adds
are settled here, receipts and roots are made here. What is slow about it is meant to be: it should be plain to see.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from chain.codec import encode, pack, unpack
from chain.crypto import address_of
from chain.model.block import Receipt, WriteSet
from chain.model.merkle import merkle_root, pack_writes, state_root
from chain.model.transaction import decode_body, split_transaction, transaction_hash
from contracts.runtime import BlockContext, Machine, Outcome

INTEGER_LOW, INTEGER_HIGH = -(2**255), 2**256 - 1


@dataclass(frozen=True, slots=True)
class Result:
    """What a block did; `gas` and `statuses` by position."""

    height: int
    transaction_root: bytes
    receipt_root: bytes
    state_root: bytes
    gas_used: int
    receipts: tuple[bytes, ...]
    writes: bytes
    hashes: tuple[bytes, ...]
    gas: tuple[int, ...]
    statuses: tuple[int, ...]


@dataclass(slots=True)
class Trace:
    """What one transaction saw and did: the true accesses, from which an adversary makes his predictions."""

    reads: set[bytes] = field(default_factory=set)
    scans: set[bytes] = field(default_factory=set)
    writes: set[bytes] = field(default_factory=set)


class Watched:
    """The state beneath one transaction, with a note of what it asked for."""

    def __init__(self, values: dict[bytes, bytes], ordered: list[bytes], trace: Trace) -> None:
        self._values = values
        self._ordered = ordered
        self._trace = trace

    def get(self, key: bytes) -> bytes | None:
        self._trace.reads.add(key)
        return self._values.get(key)

    def peek(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, prefix: bytes, limit: int = 1 << 62) -> list[tuple[bytes, bytes]]:
        self._trace.scans.add(prefix)
        rows: list[tuple[bytes, bytes]] = []
        at = bisect_left(self._ordered, prefix)
        while at < len(self._ordered) and self._ordered[at].startswith(prefix) and len(rows) < limit:
            rows.append((self._ordered[at], self._values[self._ordered[at]]))
            at += 1
        return rows


class Reference:
    """The state after `height` as a dict, and blocks executed on it."""

    def __init__(
        self,
        machine: Machine,
        *,
        chain_id: bytes,
        transaction_gas_max: int,
        deployers: Sequence[bytes] = (),
        values: dict[bytes, bytes] | None = None,
        height: int = 0,
        root: bytes = bytes(32),
    ) -> None:
        self.machine = machine
        self.values = dict(values or {})
        self.height = height
        self.root = root
        self.traces: list[Trace] = []  # of the latest block, by position
        self.writes: WriteSet = []  # of the latest block, ascending by key
        self._chain_id = chain_id
        self._gas_max = transaction_gas_max
        self._deployers = frozenset(deployers)

    def run(self, transactions: Sequence[bytes], *, time_ms: int) -> Result:
        """Execute the next block and keep its writes."""
        context = BlockContext(
            chain_id=self._chain_id,
            height=self.height + 1,
            time_ms=time_ms,
            rule_set=self.machine.rule_set,
            transaction_gas_max=self._gas_max,
            deployers=self._deployers,
        )
        written: dict[bytes, bytes | None] = {}
        receipts: list[Receipt] = []
        self.traces = []
        ordered = sorted(self.values)
        for raw in transactions:
            trace = Trace()
            receipt, writes = self._one(raw, context, Watched(self.values, ordered, trace))
            trace.writes.update(writes)
            for key, value in writes.items():
                self._put(ordered, key, value)
            written.update(writes)
            receipts.append(receipt)
            self.traces.append(trace)
        self.writes = sorted(written.items())
        self.root = state_root(self.root, self.writes)
        self.height += 1
        encoded = tuple(encode(receipt) for receipt in receipts)
        hashes = tuple(receipt.transaction_hash for receipt in receipts)
        return Result(
            height=self.height,
            transaction_root=merkle_root(hashes),
            receipt_root=merkle_root(encoded),
            state_root=self.root,
            gas_used=sum(receipt.gas_used for receipt in receipts),
            receipts=encoded,
            writes=pack_writes(self.writes),
            hashes=hashes,
            gas=tuple(receipt.gas_used for receipt in receipts),
            statuses=tuple(receipt.status for receipt in receipts),
        )

    def _put(self, ordered: list[bytes], key: bytes, value: bytes | None) -> None:
        if value is not None:
            if key not in self.values:
                insort(ordered, key)
            self.values[key] = value
        elif key in self.values:
            del self.values[key]
            del ordered[bisect_left(ordered, key)]

    def _one(
        self, raw: bytes, context: BlockContext, state: Watched
    ) -> tuple[Receipt, dict[bytes, bytes | None]]:
        body_bytes, _ = split_transaction(raw)
        body = decode_body(body_bytes)
        digest = transaction_hash(body_bytes)
        outcome = self.machine.execute(
            state,
            context,
            sender=address_of(body.scheme, body.public_key),
            transaction_hash=digest,
            target=body.target,
            method=body.method,
            arguments=body.arguments,
            gas_limit=body.gas_limit,
        )
        writes = settled(outcome, self.values)
        if outcome.status:
            assert not writes, f"{digest.hex()} failed and leaves writes"
            assert not outcome.events, f"{digest.hex()} failed and leaves events"
        assert 0 <= outcome.gas_used <= max(body.gas_limit, 0), f"{digest.hex()} used {outcome.gas_used} gas"
        receipt = Receipt(
            transaction_hash=digest,
            status=outcome.status,
            gas_used=outcome.gas_used,
            result=outcome.result,
            error=outcome.error,
            events=outcome.events,
        )
        return receipt, writes


def settled(outcome: Outcome, values: dict[bytes, bytes]) -> dict[bytes, bytes | None]:
    """The writes of a transaction with its adds resolved on `values`, checked against what it claims to have seen."""
    writes = dict(outcome.writes)
    for key, add in getattr(outcome, "adds", {}).items():
        raw = values.get(key)
        old = 0 if raw is None else unpack(raw)
        assert type(old) is int, f"an add to {key.hex()}, which holds no integer"
        assert add.low <= old <= add.high, f"an add saw {add.low}..{add.high} under {key.hex()}, which was {old}"
        if add.delta is None:
            continue
        assert key not in writes, f"a write and an add of {key.hex()} in one outcome"
        assert INTEGER_LOW <= old + add.delta <= INTEGER_HIGH, f"an add leaves the range at {key.hex()}"
        writes[key] = pack(old + add.delta)
    return writes
