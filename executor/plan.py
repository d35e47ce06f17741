"""From predicted accesses to shards and their executors, in plain Python: the twin of `executor.kernels`.

Writes are buffered, so only a read after a write orders two transactions: each predicted read is linked to its latest
earlier predicted writer and to those that have added to the key since. Adds commute, so two of them are not linked.
Linked transactions form a shard, kept in block order. Shards go to executors heaviest first: to the executor where
their contract ran last while that one has room, else to the least loaded. Equal input gives an equal plan, though no
result depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from executor.outcome import SHARD_SIZES_MAX, ExecutionInput
from executor.predict import Predictor
from executor.state import BaseState
from executor.summary import Mode
from executor.table import AccessTable
from executor.transactions import calls_of

GAS_SAMPLE: Final = 8  # every n-th transaction's gas corrects the estimate for its method
GAS_ESTIMATE: Final = 10_000  # of a method not seen yet
METHODS_MAX: Final = 4_096  # methods with an estimate
NO_HOME: Final = -1


class Load(NamedTuple):
    """What the assignment of shards looks at beside the shards. Lists are by transaction, but for `homes`."""

    weights: Sequence[int]  # at least 1: what it will probably cost, gas
    contracts: Sequence[int]  # number of the contract that it calls
    homes: list[int]  # by contract: the executor where it runs, or NO_HOME until the assignment gives it one
    head_start: int  # gas's worth of other work that executor 0 does for the block; negative: the others do


class Plan(NamedTuple):
    """`shares[e]` are the positions that executor e runs, ascending; `loads[e]` their weight."""

    shares: list[list[int]]
    loads: list[int]
    shards: int
    heaviest_shard: int  # its weight
    shard_sizes: tuple[int, ...]  # transactions of the `SHARD_SIZES_MAX` largest, descending
    conflicts: int  # reads that were linked to an earlier writer
    methods: Sequence[int]  # by transaction: the number of its method, for `Planner.learn`

    @property
    def largest_shard(self) -> int:
        """Transactions."""
        return self.shard_sizes[0] if self.shard_sizes else 0


class Planner(Protocol):
    """Makes a plan from a block; any plan at all gives the same results of execution."""

    def plan(self, block: ExecutionInput, *, base: BaseState, executors: int, head_start: float) -> Plan:
        """`head_start`: the part of the block's weight that executor 0's other work is worth."""
        ...

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        """What transactions of a plan have cost."""
        ...


def make_plan(table: AccessTable, load: Load, executors: int, methods: Sequence[int] = ()) -> Plan:
    """Shares for `executors` executors."""
    shard_of, conflicts = find_shards(table)
    return assign(shard_of, load, executors)._replace(conflicts=conflicts, methods=methods)


# --- shards ---


def find_shards(table: AccessTable) -> tuple[list[int], int]:
    """For each transaction the first transaction of its shard; and how many reads found an earlier writer.

    A read of a group follows every earlier writer inside it, and a read of a node follows every earlier transaction
    that may have written anywhere in a group around it. Once writers were read they are one shard, so one of them
    stands for all from then on.
    """
    links = _Links(table)
    for transaction in range(table.count):
        for at in range(table.starts[transaction], table.starts[transaction + 1]):
            node, mode = table.nodes[at], table.modes[at]
            if mode & Mode.READ:
                links.read(node, transaction)
            if mode & Mode.WRITE or (mode & Mode.ADD and table.groups[node]):
                links.write(node, transaction)
            elif mode & Mode.ADD:
                links.add(node, transaction)
    return [links.find(transaction) for transaction in range(table.count)], links.conflicts


class _Links:
    """Union-find over transactions; the earliest is the root. Writers are kept by node, those of whole groups and
    those inside a group that somebody reads as a whole in lists of their own."""

    def __init__(self, table: AccessTable) -> None:
        self.conflicts = 0
        self._parents = list(range(table.count))
        self._above, self._groups = table.parents, table.groups
        self._last = [-1] * len(table.parents)  # latest writer of a key
        self._adders: dict[int, list[int]] = {}  # of a key since then
        self._inside: dict[int, list[int]] = {
            node: []
            for node, mode in zip(table.nodes, table.modes, strict=True)
            if table.groups[node] and mode & Mode.READ
        }
        self._broad: dict[int, list[int]] = {}  # writers of a group as a whole

    def find(self, item: int) -> int:
        parents = self._parents
        while parents[item] != item:
            parents[item] = item = parents[parents[item]]
        return item

    def read(self, node: int, reader: int) -> None:
        writer = self._last[node]
        if writer >= 0:
            self._join(writer, reader)
        self._join_all(self._adders, node, reader)
        self._join_all(self._inside, node, reader)
        outer = node
        while outer >= 0:
            self._join_all(self._broad, outer, reader)
            outer = self._above[outer]

    def write(self, node: int, writer: int) -> None:
        if self._groups[node]:
            self._broad.setdefault(node, []).append(writer)
        else:
            self._last[node] = writer
            self._adders.pop(node, None)
        self._enter(node, writer)

    def add(self, node: int, adder: int) -> None:
        self._adders.setdefault(node, []).append(adder)
        self._enter(node, adder)

    def _enter(self, node: int, writer: int) -> None:
        outer = self._above[node]
        while outer >= 0:
            if outer in self._inside:
                self._inside[outer].append(writer)
            outer = self._above[outer]

    def _join_all(self, writers: dict[int, list[int]], node: int, reader: int) -> None:
        found = writers.get(node)
        if found:
            for writer in found:
                self._join(writer, reader)
            writers[node] = [reader]

    def _join(self, writer: int, reader: int) -> None:
        if writer == reader:
            return
        self.conflicts += 1
        first, second = self.find(writer), self.find(reader)
        self._parents[max(first, second)] = min(first, second)


# --- executors ---


def assign(shard_of: Sequence[int], load: Load, executors: int) -> Plan:
    """The heaviest shard first."""
    members: dict[int, list[int]] = {}
    for transaction, shard in enumerate(shard_of):
        members.setdefault(shard, []).append(transaction)
    weights = {shard: sum([load.weights[item] for item in items]) for shard, items in members.items()}
    homes = load.homes
    loads = [max(-load.head_start, 0)] * executors
    loads[0] = max(load.head_start, 0)
    room = (sum(weights.values()) + sum(loads)) / executors
    owners: dict[int, int] = {}
    for shard in sorted(members, key=lambda item: (-weights[item], item)):
        weight, contract = weights[shard], load.contracts[shard]
        owner = homes[contract]
        if not (0 <= owner < executors and loads[owner] + weight <= room):
            owner = loads.index(min(loads))
            if homes[contract] == NO_HOME:
                homes[contract] = owner
        loads[owner] += weight
        owners[shard] = owner
    shares: list[list[int]] = [[] for _ in range(executors)]
    for transaction, shard in enumerate(shard_of):
        shares[owners[shard]].append(transaction)
    return Plan(
        shares=shares,
        loads=[sum([load.weights[item] for item in share]) for share in shares],
        shards=len(members),
        heaviest_shard=max(weights.values(), default=0),
        shard_sizes=tuple(sorted([len(items) for items in members.values()], reverse=True)[:SHARD_SIZES_MAX]),
        conflicts=0,
        methods=(),
    )


# --- the whole way ---


class Estimates:
    """What transactions cost by method, and where contracts ran last."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bytes, str], int] = {}
        self._contract_numbers: dict[bytes, int] = {}
        self.contracts: list[int] = []  # by method
        self.gas: list[int] = []  # by method
        self.homes: list[int] = []  # by contract

    def number(self, target: bytes, method: str) -> int:
        """The number of a method; the numbers start again when there are too many."""
        known = self._numbers.get((target, method))
        if known is not None:
            return known
        if target not in self._contract_numbers:
            self._contract_numbers[target] = len(self.homes)
            self.homes.append(NO_HOME)
        number = self._numbers[target, method] = len(self.gas)
        self.gas.append(GAS_ESTIMATE)
        self.contracts.append(self._contract_numbers[target])
        return number

    def tidy(self) -> bool:
        """Forget all if there are too many methods; between blocks only. True if it did."""
        if len(self.gas) <= METHODS_MAX:
            return False
        self.__init__()  # type: ignore[misc]
        return True

    def load(self, methods: Sequence[int], head_start: float) -> Load:
        """For transactions of these methods; `head_start` as a part of their weight."""
        weights = [self.gas[method] for method in methods]
        contracts = [self.contracts[method] for method in methods]
        return Load(weights, contracts, self.homes, int(head_start * sum(weights)))

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        """Correct the estimates from a sample."""
        for at in range(0, len(positions), GAS_SAMPLE):
            method = plan.methods[positions[at]]
            if method < len(self.gas):  # else all was forgotten since
                known = self.gas[method]
                self.gas[method] = max(known + (gas[at] - known) // 4, 1)


class PlainPlanner:
    """Plans with a predictor and this module alone."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._estimates = Estimates()

    def plan(self, block: ExecutionInput, *, base: BaseState, executors: int, head_start: float) -> Plan:
        estimates = self._estimates
        estimates.tidy()
        calls = calls_of(block)
        table = self._predictor.predict(calls, base=base, height=block.height, time_ms=block.time_ms)
        methods = [estimates.number(call.target, call.method) for call in calls]
        return make_plan(table, estimates.load(methods, head_start), executors, methods)

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        self._estimates.learn(plan, positions, gas)
