"""The planner's inner loops as numba kernels, on arrays of integers. `executor.plan` is their twin in plain Python.

Nodes (`executor.table.AccessTable`) are found by 64-bit hashes of their names. Two names of one hash would be taken
for one key, which costs time and changes no result: a plan is a hint.

Compiled once and kept beside this file (or where NUMBA_CACHE_DIR says); `python -m executor.kernels` does that ahead of
time. Importing this takes half a second and 120 MB, so only a lead that shares blocks out does it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Integers = NDArray[np.int64]
Small = NDArray[np.int32]

FNV_OFFSET: Final = np.uint64(0xCBF29CE484222325)
FNV_PRIME: Final = np.uint64(0x100000001B3)
GROUP_MARK: Final = np.uint64(0x9E3779B97F4A7C15)  # sets a group's hash apart from the key with the same bytes

READ: Final = 1
WRITE: Final = 2
ADD: Final = 4

# Parts of a template's key
ARGUMENT: Final = 0
SENDER: Final = 1
CONSTANT: Final = 2

_compiled = njit(cache=True, nogil=True)


@_compiled
def fnv(state: Any, data: Bytes, start: int, end: int) -> Any:
    """FNV-1a, continued from `state` with the bytes from `start` to `end`."""
    for at in range(start, end):
        state = (state ^ np.uint64(data[at])) * FNV_PRIME
    return state


@_compiled
def _length(data: Bytes, at: Any, size: int) -> Any:
    value = 0
    for offset in range(size):
        value = value * 256 + data[at + offset]
    return value


@_compiled
def span(data: Bytes, at: Any, end: Any) -> Any:
    """(where the contents of the msgpack value at `at` begin, where the next value begins); (-1, -1) if that is beyond
    `end`. Arrays are passed over with all they hold; their contents begin after their header."""
    begin, left = -1, 1
    while left > 0:
        if at >= end:
            return -1, -1
        head, inner = data[at], 1
        left -= 1
        if head < 0x80 or head >= 0xE0 or head == 0xC0 or head == 0xC2 or head == 0xC3:
            size = 0
            inner = 0
        elif 0x90 <= head < 0xA0:
            size = 0
            left += head & 0x0F
        elif 0xA0 <= head < 0xC0:
            size = head & 0x1F
        elif head == 0xC4 or head == 0xD9:
            inner, size = 2, _length(data, at + 1, 1)
        elif head == 0xC5 or head == 0xDA:
            inner, size = 3, _length(data, at + 1, 2)
        elif head == 0xC6 or head == 0xDB:
            inner, size = 5, _length(data, at + 1, 4)
        elif 0xCC <= head <= 0xD3:
            inner, size = 1, 1 << (head & 3)
        elif 0xD4 <= head <= 0xD8:  # extensions: integers beyond 64 bits
            inner, size = 2, 1 << (head - 0xD4)
        elif head == 0xC7:
            inner, size = 3, _length(data, at + 1, 1)
        elif head == 0xDC:
            inner, size = 3, 0
            left += _length(data, at + 1, 2)
        else:
            return -1, -1  # nothing that a transaction contains
        if begin < 0:
            begin = at + inner
        at += max(inner, 1) + size
    return (begin, at) if at <= end else (-1, -1)


@_compiled
def read_calls(data: Bytes, offsets: Integers, methods: Hashes, arguments: Integers) -> None:
    """For each raw transaction `data[offsets[t]:offsets[t + 1]]` the hash of its target and method, 0 where it cannot
    be read, and in `arguments[t]` where its packed arguments begin and end."""
    for transaction in range(len(offsets) - 1):
        methods[transaction] = 0
        start, end = offsets[transaction], offsets[transaction + 1]
        if end - start < 4 or data[start] != 0x92:
            continue
        at, limit = span(data, start + 1, end)  # the body's bytes
        if at < 0 or data[at] != 0x99:
            continue
        at += 1
        state = FNV_OFFSET
        for field in range(8):
            begin, after = span(data, at, limit)
            if begin < 0:
                break
            if field == 5 or field == 6:  # target, method
                state = fnv(state, data, begin, after)
            elif field == 7:
                arguments[transaction, 0] = begin
                arguments[transaction, 1] = after
                methods[transaction] = state | np.uint64(1)
            at = after


@_compiled
def hash_names(data: Bytes, offsets: Integers, groups: Bytes, hashes: Hashes) -> None:
    """The hashes of nodes by their names."""
    for index in range(len(offsets) - 1):
        state = fnv(FNV_OFFSET, data, offsets[index], offsets[index + 1])
        hashes[index] = state ^ GROUP_MARK if groups[index] else state


@_compiled
def _slot(table: Hashes, digest: Any) -> Any:
    """Where a hash stands in an open-addressed table (0 is empty), or the free place for it."""
    mask = np.uint64(len(table) - 1)
    at = (digest ^ (digest >> np.uint64(32))) & mask
    while table[at] != 0 and table[at] != digest:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@_compiled
def describe(
    data: Bytes,
    arguments: Integers,
    senders: Bytes,
    template_of: Small,
    template_rows: Small,
    arities: Small,
    rows: Small,
    prefixes: Hashes,
    parts: Small,
    constants: Bytes,
    known: Hashes,
    known_parents: Small,
    known_groups: Bytes,
    described_starts: Small,
    described_nodes: Small,
    described_modes: Small,
) -> Any:
    """The access table of a block: (starts, nodes, modes, parents, groups), as `AccessTable`.

    Transaction t is filled in from template `template_of[t]`; -1 - d there: it is the d-th of the transactions that are
    described already. Template m has rows `template_rows[m]..template_rows[m + 1]` and touches nothing where there are
    not `arities[m]` arguments, because the call is refused; a row is (mode, node around it or
    the node itself, first part, last part, exact): no parts: the node itself. `prefixes[row]` is the FNV state after
    the key's prefix. A part is (kind, number, end): an argument's number, or a constant's place.
    """
    count, total = len(template_of), len(described_nodes)
    for transaction in range(count):
        template = template_of[transaction]
        if template >= 0:
            total += template_rows[template + 1] - template_rows[template]
    nodes, modes = np.empty(total, np.int32), np.empty(total, np.uint8)
    starts = np.zeros(count + 1, np.int32)
    table, ids, parents, groups = _known_nodes(known, known_parents, known_groups, 2 * total)
    made = len(known)
    places = np.empty((32, 2), np.int64)  # where the arguments of one transaction are
    filled = 0
    for transaction in range(count):
        template = template_of[transaction]
        if template < 0:
            done = -1 - template
            for at in range(described_starts[done], described_starts[done + 1]):
                nodes[filled], modes[filled] = described_nodes[at], described_modes[at]
                filled += 1
        elif _places(data, arguments[transaction, 0], arguments[transaction, 1], places) == arities[template]:
            for row in range(template_rows[template], template_rows[template + 1]):
                around, first, last = rows[row, 1], rows[row, 2], rows[row, 3]
                group, key = _names(
                    data, places, senders, transaction, prefixes[row], parts[first:last], constants, rows[row, 4]
                )
                if group != 0:
                    around, made = _node(table, ids, parents, groups, made, group, around, 1)
                if key != 0:
                    around, made = _node(table, ids, parents, groups, made, key, around, 0)
                nodes[filled], modes[filled] = around, rows[row, 0]
                filled += 1
        starts[transaction + 1] = filled
    return starts, nodes[:filled], modes[:filled], parents[:made], groups[:made]


@_compiled
def _known_nodes(known: Hashes, known_parents: Small, known_groups: Bytes, room: int) -> Any:
    """(table of hashes, their nodes, parents, groups) of the nodes there are, with room for as many more."""
    size = 64
    while size < 2 * (len(known) + room):
        size *= 2
    table, ids = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    parents = np.empty(len(known) + room, np.int32)
    groups = np.zeros(len(known) + room, np.uint8)
    for node in range(len(known)):
        place = _slot(table, known[node])
        table[place], ids[place] = known[node], node
        parents[node], groups[node] = known_parents[node], known_groups[node]
    return table, ids, parents, groups


@_compiled
def _node(
    table: Hashes, ids: Small, parents: Small, groups: Bytes, made: int, digest: Any, around: int, group: int
) -> Any:
    """(the node with this hash, nodes there are then); a new one stands inside `around`."""
    place = _slot(table, digest)
    if table[place] == 0:
        table[place], ids[place] = digest, made
        parents[made], groups[made] = around, group
        made += 1
    return ids[place], made


@_compiled
def _names(
    data: Bytes,
    places: Integers,
    senders: Bytes,
    transaction: int,
    state: Any,
    parts: Small,
    constants: Bytes,
    exact: int,
) -> Any:
    """(hash of the group by the first part, hash of the key) of one access; 0 where there is none."""
    group = key = np.uint64(0)
    last = len(parts) - 1
    for part in range(last + 1):
        kind, number = parts[part, 0], parts[part, 1]
        if kind == ARGUMENT:
            begin = places[number, 0]
            if last == 0 and 0x90 <= data[begin] < 0xA0:
                begin += 1  # a tuple as a key is its elements
            state = fnv(state, data, begin, places[number, 1])
        elif kind == SENDER:
            state = (state ^ np.uint64(0xC4)) * FNV_PRIME
            state = (state ^ np.uint64(20)) * FNV_PRIME
            state = fnv(state, senders, 20 * transaction, 20 * transaction + 20)
        else:
            state = fnv(state, constants, number, parts[part, 2])
        if part == last and exact:
            key = state
        elif part == 0:
            group = state ^ GROUP_MARK
    return group, key


@_compiled
def _places(data: Bytes, at: Any, end: Any, places: Integers) -> Any:
    """Where the elements of a packed tuple begin and end; how many there are, -1 if more than there is room for."""
    if at >= end:
        return -1
    head = data[at]
    if 0x90 <= head < 0xA0:
        count = head & 0x0F
        at += 1
    elif head == 0xDC:
        count = _length(data, at + 1, 2)
        at += 3
    else:
        return -1
    if count > len(places):
        return -1
    for index in range(count):
        _, after = span(data, at, end)
        if after < 0:
            return -1
        places[index, 0], places[index, 1] = at, after
        at = after
    return count


# --- shards ---


@_compiled
def _find(parents: Small, item: int) -> int:
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


@_compiled
def _join(roots: Small, writer: int, reader: int) -> int:
    """1 if these are two transactions; the earlier one becomes the root."""
    if writer == reader:
        return 0
    first, second = _find(roots, writer), _find(roots, reader)
    if first < second:
        roots[second] = first
    else:
        roots[first] = second
    return 1


@_compiled
def _join_all(roots: Small, heads: Small, items: Small, following: Small, node: int, reader: int) -> int:
    """Join the writers in a node's list with their reader, who stands for them from then on."""
    entry, joined = heads[node], 0
    if entry < 0:
        return 0
    keep = entry
    while entry >= 0:
        joined += _join(roots, items[entry], reader)
        entry = following[entry]
    items[keep], following[keep] = reader, -1
    return joined


@_compiled
def find_shards(starts: Small, nodes: Small, modes: Bytes, above: Small, groups: Bytes) -> Any:
    """(for each transaction the first of its shard, reads that found an earlier writer), as `executor.plan` has it."""
    count, known = len(starts) - 1, len(above)
    roots = np.arange(count, dtype=np.int32)
    last = np.full(known, -1, np.int32)
    adders, inside, broad = np.full(known, -1, np.int32), np.full(known, -1, np.int32), np.full(known, -1, np.int32)
    scanned = np.zeros(known, np.bool_)
    wide = False
    for at in range(len(nodes)):
        if groups[nodes[at]]:
            wide = True
            if modes[at] & READ:
                scanned[nodes[at]] = True
    depth = 6 if wide else 1
    room = len(nodes) * depth + 1
    items, following = np.empty(room, np.int32), np.empty(room, np.int32)  # list entries
    used = conflicts = 0
    for transaction in range(count):
        for at in range(starts[transaction], starts[transaction + 1]):
            node, mode = nodes[at], modes[at]
            group = groups[node] != 0
            if mode & READ:
                if last[node] >= 0:
                    conflicts += _join(roots, last[node], transaction)
                conflicts += _join_all(roots, adders, items, following, node, transaction)
                conflicts += _join_all(roots, inside, items, following, node, transaction)
                outer = node if wide else -1
                while outer >= 0:
                    conflicts += _join_all(roots, broad, items, following, outer, transaction)
                    outer = above[outer]
            if not mode & (WRITE | ADD):
                continue
            if group:
                items[used], following[used] = transaction, broad[node]
                broad[node] = used
                used += 1
            elif mode & WRITE:
                last[node] = transaction
                adders[node] = -1
            else:
                items[used], following[used] = transaction, adders[node]
                adders[node] = used
                used += 1
            outer = above[node] if wide else -1
            while outer >= 0:
                if scanned[outer]:
                    items[used], following[used] = transaction, inside[outer]
                    inside[outer] = used
                    used += 1
                outer = above[outer]
    for transaction in range(count):
        roots[transaction] = _find(roots, transaction)
    return roots, conflicts


@_compiled
def assign(roots: Small, weights: Integers, contracts: Small, homes: Small, head_start: int, executors: int) -> Any:
    """(executor of each transaction, transactions of each shard by its first one, weight of the heaviest), as
    `executor.plan.assign`."""
    count = len(roots)
    loads = np.full(executors, max(-head_start, 0), np.int64)
    loads[0] = max(head_start, 0)
    sizes, totals = np.zeros(count, np.int32), np.zeros(count, np.int64)
    for transaction in range(count):
        sizes[roots[transaction]] += 1
        totals[roots[transaction]] += weights[transaction]
    room = (totals.sum() + loads.sum()) / executors
    shards = np.flatnonzero(sizes)
    owners = np.zeros(count, np.int32)
    for index in np.argsort(-totals[shards], kind="mergesort"):
        shard = shards[index]
        weight, contract = totals[shard], contracts[shard]
        owner = homes[contract]
        if owner < 0 or owner >= executors or loads[owner] + weight > room:
            owner = np.argmin(loads)
            if homes[contract] < 0:
                homes[contract] = owner
        loads[owner] += weight
        owners[shard] = owner
    for transaction in range(count):
        owners[transaction] = owners[roots[transaction]]
    return owners, sizes[shards], totals.max() if count else 0


def warm_up() -> None:
    """Compile every kernel, or load it from the cache, by planning an empty and a small block."""
    from executor.template import KernelPlanner

    KernelPlanner.warm_up()


if __name__ == "__main__":
    warm_up()
