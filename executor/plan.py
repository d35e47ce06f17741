"""From predicted accesses to shards and their executors, on flat lists of integers.

Writes are buffered, so only a read after a write orders two transactions: each predicted read is linked to its latest
earlier predicted writer. Linked transactions form a shard, kept in block order; shards go to executors by load, the
heaviest first to the least loaded. Equal input gives an equal plan, though no result depends on it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from executor.access import Mode
from executor.predict import AccessTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`shares[e]` are the positions that executor e runs, ascending; `loads[e]` their weight."""

    shares: list[list[int]]
    loads: list[int]
    shards: int
    largest_shard: int  # transactions


def make_plan(table: AccessTable, weights: Sequence[int], executors: int) -> Plan:
    """Shares for `executors` executors; `weights[t]` (at least 1) is what transaction t will probably cost."""
    return assign(find_shards(table), weights, executors)


def find_shards(table: AccessTable) -> list[int]:
    """For each transaction the first transaction of its shard."""
    groups, scanned = table.groups, bytearray(len(table.parents))
    wide = False
    for node, mode in zip(table.nodes, table.modes, strict=True):
        if groups[node]:
            wide = True
            if mode & Mode.READ:
                scanned[node] = 1
    parents = _link_wide(table, scanned) if wide else _link_keys(table)
    return [_find(parents, transaction) for transaction in range(table.count)]


def _find(parents: list[int], item: int) -> int:
    while parents[item] != item:
        parents[item] = item = parents[parents[item]]
    return item


def _join(parents: list[int], first: int, second: int) -> None:
    """The earlier transaction becomes the root."""
    first, second = _find(parents, first), _find(parents, second)
    if first < second:
        parents[second] = first
    else:
        parents[first] = second


def _link_keys(table: AccessTable) -> list[int]:
    """Union-find over transactions where every access is one key."""
    parents = list(range(table.count))
    last = [-1] * len(table.parents)  # latest writer of a node
    starts, nodes, modes = table.starts, table.nodes, table.modes
    at = 0
    for transaction in parents[:]:
        end = starts[transaction + 1]
        while at < end:
            node, mode = nodes[at], modes[at]
            at += 1
            if mode & 1:
                writer = last[node]
                if writer >= 0 and writer != transaction:
                    _join(parents, writer, transaction)
            if mode & 2:
                last[node] = transaction
    return parents


def _link_wide(table: AccessTable, scanned: bytearray) -> list[int]:
    """The same where some accesses cover whole groups: a read of a group follows every earlier writer inside it, and a
    read of a node follows every earlier transaction that may have written anywhere in a group around it. Once writers
    were read they are one shard, so one of them stands for all from then on."""
    parents = list(range(table.count))
    last = [-1] * len(table.parents)  # latest writer of a key
    inside: dict[int, list[int]] = {node: [] for node in range(len(scanned)) if scanned[node]}
    broad: dict[int, list[int]] = {}  # writers of a group as a whole
    above, groups = table.parents, table.groups
    for transaction in range(table.count):
        for at in range(table.starts[transaction], table.starts[transaction + 1]):
            node, mode = table.nodes[at], table.modes[at]
            if mode & 1:
                if last[node] >= 0:
                    _join(parents, last[node], transaction)
                if inside.get(node):
                    inside[node] = _join_all(parents, inside[node], transaction)
                outer = node
                while outer >= 0:
                    if outer in broad:
                        broad[outer] = _join_all(parents, broad[outer], transaction)
                    outer = above[outer]
            if mode & 2:
                if groups[node]:
                    broad.setdefault(node, []).append(transaction)
                else:
                    last[node] = transaction
                outer = above[node]
                while outer >= 0:
                    if outer in inside:
                        inside[outer].append(transaction)
                    outer = above[outer]
    return parents


def _join_all(parents: list[int], writers: list[int], reader: int) -> list[int]:
    """Join the writers with their reader; what stands for them afterwards."""
    for writer in writers:
        _join(parents, writer, reader)
    return [reader]


def assign(shard_of: Sequence[int], weights: Sequence[int], executors: int) -> Plan:
    """Longest processing time first."""
    members: dict[int, list[int]] = {}
    loads: dict[int, int] = {}
    for transaction, shard in enumerate(shard_of):
        if shard in members:
            members[shard].append(transaction)
            loads[shard] += weights[transaction]
        else:
            members[shard] = [transaction]
            loads[shard] = weights[transaction]
    heap = [(0, executor) for executor in range(executors)]
    shares: list[list[int]] = [[] for _ in range(executors)]
    for shard in sorted(members, key=loads.__getitem__, reverse=True):
        load, executor = heap[0]
        heapq.heapreplace(heap, (load + loads[shard], executor))
        shares[executor].extend(members[shard])
    for share in shares:
        share.sort()
    totals = [0] * executors
    for load, executor in heap:
        totals[executor] = load
    return Plan(
        shares=shares,
        loads=totals,
        shards=len(members),
        largest_shard=max([len(shard) for shard in members.values()], default=0),
    )
