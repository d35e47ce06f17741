"""A chain in memory for tests of execution: contracts that do everything a transaction can do to state, accounts,
raw transactions, and executors that answer in this process with the code of the real ones."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from functools import cache

from chain.codec import Record, Value, decode, encode, pack, tagged_digest
from chain.crypto import PrivateKey, Scheme
from chain.model.block import Receipt, WriteSet
from chain.model.merkle import unpack_writes
from chain.model.transaction import TransactionBody, join_transaction, split_transaction, transaction_hash
from contracts.runtime import Machine
from contracts.system.registry import SYSTEM_ADDRESS
from executor.governor import Governor
from executor.outcome import ExecutionInput, ExecutionOutput, ShareOutcome
from executor.parallel import Lead
from executor.plan import PlainPlanner, Planner
from executor.predict import Predictor, SummaryPredictor
from executor.process import NoProgress
from executor.protocol import ChannelLost, OfferShare, RunShare
from executor.state import BaseState
from executor.transactions import ChainContext
from executor.worker import answer_share

CHAIN_ID = bytes(31) + b"\x07"
GAS = 5_000_000
CHAIN = ChainContext(chain_id=CHAIN_ID, rule_set=1, transaction_gas_max=100_000_000, deployers=())

ARENA = '''"""Everything a transaction can do to state."""

STEP = 3


class Arena(Interface):
    @external
    def poke(self, key: int, value: int, fail: bool) -> int: ...


class Cell(Struct):
    group: int
    value: int


class Moved(Event):
    source: Address
    target: Address
    amount: int


class Board(Contract):
    total: Value[int]
    balances: Map[Address, int]
    cells: Map[tuple[int, int], Cell]
    log: List[int]

    def init(self, start: int):
        self.total.set(start)

    @external
    def fund(self, amount: int):
        self.balances[ctx.sender] = self.balances.get(ctx.sender, 0) + amount

    @external
    def send(self, target: Address, amount: int):
        mine = self.balances[ctx.sender]
        require(mine >= amount, "insufficient")
        self.balances[ctx.sender] = mine - amount
        self.balances[target] = self.balances.get(target, 0) + amount
        emit(Moved(source=ctx.sender, target=target, amount=amount))

    @external
    def put(self, group: int, index: int, value: int):
        self.cells[(group, index)] = Cell(group=group, value=value)

    @external
    def drop(self, group: int, index: int) -> bool:
        if (group, index) in self.cells:
            del self.cells[(group, index)]
            return True
        return False

    @external
    def strict(self, group: int, index: int) -> int:
        cell = self.cells[(group, index)]
        self.total.set(self.total.get() + cell.value)
        return cell.value

    @external
    def sum_group(self, group: int, into: int) -> int:
        amount = 0
        for key, cell in self.cells.scan(group):
            amount = amount + cell.value + STEP
        self.cells[(into, 99)] = Cell(group=into, value=amount)
        return amount

    @external
    def follow(self, group: int, index: int) -> int:
        """Where to write depends on what is there."""
        cell = self.cells.get((group, index), Cell(group=group, value=0))
        target = cell.value % 5
        self.cells[(cell.group, target)] = Cell(group=group, value=cell.value + 1)
        return target

    @external
    def append(self, value: int) -> int:
        self.log.append(value)
        return len(self.log)

    @external
    def count(self, amount: int) -> int:
        self.total.set(self.total.get() + amount)
        return self.total.get()

    @external
    def poke(self, key: int, value: int, fail: bool) -> int:
        self.cells[(7, key)] = Cell(group=7, value=value)
        self.log.append(value)
        require(not fail, "poked_to_fail")
        return value + 1

    @external
    def relay(self, other: Address, key: int, value: int, fail: bool) -> int:
        self.cells[(8, key)] = Cell(group=8, value=value)
        return Arena(other).poke(key, value, fail)

    @external
    def relay_caught(self, other: Address, key: int, value: int, fail: bool) -> str:
        self.cells[(8, key)] = Cell(group=8, value=value)
        reason = "fine"
        try:
            Arena(other).poke(key, value, fail)
        except CallFailed as failure:
            reason = failure.reason
            self.cells[(9, key)] = Cell(group=9, value=value)
        return reason

    @external
    def burn(self, rounds: int) -> int:
        self.cells[(1, 1)] = Cell(group=1, value=rounds)
        done = 0
        while done < rounds:
            done = done + 1
        return done
'''

ARENA_UPGRADED = ARENA.replace("STEP = 3", "STEP = 11").replace("return value + 1", "return value + 1000")

_nonces = itertools.count()


@cache
def account(number: int) -> PrivateKey:
    return PrivateKey.from_secret(Scheme.ED25519, hashlib.sha256(b"account %d" % number).digest())


def transaction(
    sender: int, target: bytes, method: str, arguments: tuple[Value, ...], *, gas_limit: int = GAS
) -> bytes:
    """A raw transaction; execution does not check signatures, so it carries none."""
    key = account(sender)
    body = TransactionBody(
        chain_id=CHAIN_ID,
        scheme=int(key.scheme),
        public_key=key.public_key,
        nonce=next(_nonces).to_bytes(16, "big"),
        expiry=1_000_000,
        target=target,
        method=method,
        arguments=pack(arguments),
        gas_limit=gas_limit,
    )
    return join_transaction(encode(body), bytes(64))


def hash_of(raw: bytes) -> bytes:
    body_bytes, _ = split_transaction(raw)
    return transaction_hash(body_bytes)


def deployment(
    sender: int, name: str, source: str, arguments: tuple[Value, ...] = (), *, gas_limit: int = 50_000_000
) -> tuple[bytes, bytes]:
    """(raw transaction, address of the contract it makes)."""
    raw = transaction(sender, SYSTEM_ADDRESS, "deploy", (name, source, pack(arguments)), gas_limit=gas_limit)
    return raw, tagged_digest(b"headrace/contract/1", hash_of(raw))[-20:]


def block_of(height: int, transactions: Sequence[bytes]) -> ExecutionInput:
    return ExecutionInput.of(height=height, time_ms=1_700_000_000_000 + height, transactions=transactions)


def results_of(output: ExecutionOutput) -> tuple[object, ...]:
    """All of an output but its stats."""
    return (
        output.height, output.transaction_root, output.receipt_root, output.state_root, output.gas_used,
        output.receipts, output.writes,
    )  # fmt: skip


def receipts_of(output: ExecutionOutput) -> list[Receipt]:
    return [decode(Receipt, receipt) for receipt in output.receipts]


class MemoryReader:
    """A store in memory, shared by readers; each moves to the newest snapshot only on `refresh`."""

    def __init__(self, shared: MemoryReader | None = None) -> None:
        self._versions: list[dict[bytes, bytes]] = [{}] if shared is None else shared._versions
        self._roots: list[bytes] = [bytes(32)] if shared is None else shared._roots
        self._seen = self._versions[-1]
        self._seen_height = self.height
        self.gets = 0

    @property
    def height(self) -> int:
        """Of the newest snapshot."""
        return len(self._versions) - 1

    def store(self, height: int, writes: WriteSet, state_root: bytes = bytes(32)) -> None:
        assert height == len(self._versions)
        self._roots.append(state_root)
        values: dict[bytes, bytes | None] = {**self._versions[-1], **dict(writes)}
        self._versions.append({key: value for key, value in values.items() if value is not None})

    def fork(self) -> MemoryReader:
        """A store that goes its own way from here."""
        copy = MemoryReader()
        copy._versions, copy._roots = list(self._versions), list(self._roots)
        copy.refresh()
        return copy

    def refresh(self) -> int:
        self._seen = self._versions[-1]
        self._seen_height = self.height
        return self.height

    def get(self, key: bytes) -> bytes | None:
        self.gets += 1
        return self._seen.get(key)

    def scan(self, prefix: bytes, limit: int | None = None) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in self._seen.items() if key.startswith(prefix))[:limit]

    def state_root(self) -> bytes:
        """The root of what this reader sees."""
        return self._roots[self._seen_height]

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


@cache
def machine() -> Machine:
    """One machine for all tests that do not care whose compile cache they use."""
    return Machine(1)


class Oracle:
    """Executes serially and stores at once."""

    def __init__(self, reader: MemoryReader | None = None) -> None:
        self.reader = reader if reader is not None else MemoryReader()
        self.base = BaseState(self.reader)
        self.lead = Lead(
            base=self.base,
            machine=machine(),
            chain=CHAIN,
            planner=PlainPlanner(SummaryPredictor()),
            governor=Governor("serial"),
            progress=NoProgress(),
            executors=1,
            lost=lambda index, reason: None,
        )

    def run(self, transactions: Sequence[bytes]) -> ExecutionOutput:
        output = self.lead.execute(block_of(self.base.height + 1, transactions))
        self.reader.store(output.height, unpack_writes(output.writes), output.state_root)
        self.base.refresh()
        return output


class Loopback:
    """An executor in this process behind the real one's interface and encoding; `broken` makes it fail."""

    def __init__(self, reader: MemoryReader, *, machine: Machine) -> None:
        self._base = BaseState(MemoryReader(reader))
        self._machine = machine
        self._answer: ShareOutcome | None = None
        self.broken = False
        self.closed = False
        self.shares = 0

    def send(self, share: Record) -> None:
        assert isinstance(share, RunShare)
        self.shares += 1
        self._answer = answer_share(
            share, chain=CHAIN, base=self._base, machine=self._machine, progress=NoProgress()
        )

    def offer(self, share: OfferShare) -> bool:
        return False

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        if self.broken or self._answer is None:
            raise ChannelLost("broken for the test")
        return self._answer

    def close(self) -> None:
        self.closed = True


class Team:
    """A lead with loopback executors over a store of its own that lags behind as it is told."""

    def __init__(
        self,
        reader: MemoryReader,
        *,
        executors: int,
        predictor: Predictor | None = None,
        planner: Planner | None = None,
    ) -> None:
        self.reader = reader
        self.lost: list[tuple[int, str]] = []
        self.lead = Lead(
            base=BaseState(MemoryReader(reader)),
            machine=machine(),
            chain=CHAIN,
            planner=planner or PlainPlanner(predictor if predictor is not None else SummaryPredictor()),
            governor=Governor("forced"),
            progress=NoProgress(),
            executors=executors,
            lost=lambda index, reason: self.lost.append((index, reason)),
        )
        self.links = {index: Loopback(reader, machine=machine()) for index in range(1, executors)}
        for index, link in self.links.items():
            self.lead.attach(index, link)
        self._unstored: list[ExecutionOutput] = []

    def run(self, transactions: Sequence[bytes]) -> ExecutionOutput:
        output = self.lead.execute(block_of(self.lead.height + 1, transactions))
        self._unstored.append(output)
        return output

    def store(self, heights: int) -> None:
        """Store so many of the heights that wait."""
        for output in self._unstored[:heights]:
            self.reader.store(output.height, unpack_writes(output.writes), output.state_root)
        del self._unstored[:heights]
