"""Planning a block with numba kernels: transactions whose keys follow from arguments and sender alone are read from
their raw bytes and never become Python objects; the others are described by the predictor.

A template is a method's summary in the form of integers (`executor.kernels.describe`). It is made when a method is
first met and made again when the contract's record changes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np

from chain.codec import pack
from contracts.system.registry import SYSTEM_ADDRESS, record_key
from executor import kernels
from executor.outcome import SHARD_SIZES_MAX, ExecutionInput
from executor.plan import Estimates, Load, Plan
from executor.predict import SummaryPredictor
from executor.state import BaseState
from executor.summary import Access
from executor.table import EVERYTHING, AccessTable
from executor.transactions import Call, call_at

PARTS_MAX: Final = 8
ARGUMENTS_MAX: Final = 32


class _Row(NamedTuple):
    """One access of a template: its key is the prefix and the parts after it."""

    variable: str
    suffix: bytes  # after the variable's name
    mode: int
    parts: tuple[tuple[int, Any], ...]  # (kernels.ARGUMENT, number), (kernels.SENDER, 0), (kernels.CONSTANT, bytes)
    exact: bool


class _Template(NamedTuple):
    arity: int
    rows: list[_Row]


class _Method:
    """A method that was met: `rows` are its template, None where the predictor must describe its transactions."""

    __slots__ = ("arity", "number", "record", "rows", "target")

    def __init__(self, target: bytes, number: int, record: bytes | None, template: _Template | None) -> None:
        self.target = target
        self.number = number
        self.record = record
        self.arity = 0 if template is None else template.arity
        self.rows = None if template is None else template.rows


class KernelPlanner:
    """Plans as `executor.plan.PlainPlanner` with a `SummaryPredictor` does, in a fraction of the time."""

    def __init__(self) -> None:
        self._predictor = SummaryPredictor()
        self._estimates = Estimates()
        self._methods: dict[int, _Method] = {}  # by the kernel's hash of target and method

    @staticmethod
    def warm_up() -> None:
        """Compile the kernels, or load them from the cache."""
        data, places = np.frombuffer(b"\x00", np.uint8), np.zeros((1, 2), np.int64)
        kernels.read_calls(data, np.zeros(2, np.int64), np.zeros(1, np.uint64), places)
        table = AccessTable()
        table.end()
        access = _described(table, np.array([-1], np.int32), [], data, places, data)
        _shards(access, np.ones(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.int32), 0, 1)

    def plan(self, block: ExecutionInput, *, base: BaseState, executors: int, head_start: float) -> Plan:
        if self._estimates.tidy():
            self._methods.clear()
        count = len(block.transactions)
        data = np.frombuffer(b"".join(block.transactions) or b"\x00", np.uint8)
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.fromiter(map(len, block.transactions), np.int64, count), out=offsets[1:])
        hashes, arguments = np.empty(count, np.uint64), np.empty((count, 2), np.int64)
        kernels.read_calls(data, offsets, hashes, arguments)
        distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        methods = [
            self._method(digest, block, position, base)
            for digest, position in zip(distinct.tolist(), first.tolist(), strict=True)
        ]
        managed = any(method.target == SYSTEM_ADDRESS for method in methods)
        template_of, described = _division(methods, inverse, managed=managed)
        table = self._predictor.predict(
            [call_at(block, position) for position in described],
            base=base, height=block.height, time_ms=block.time_ms,
        )  # fmt: skip
        access = _described(
            table, template_of, [] if managed else methods, data, arguments, np.frombuffer(block.senders, np.uint8)
        )
        estimates = self._estimates
        numbers = np.array([method.number for method in methods], np.int32)[inverse]
        weights = np.array(estimates.gas, np.int64)[numbers]
        homes = np.array(estimates.homes, np.int32)
        contracts = np.array(estimates.contracts, np.int32)[numbers]
        plan = _shards(access, weights, contracts, homes, int(head_start * int(weights.sum())), executors)
        estimates.homes[:] = homes.tolist()
        return plan._replace(methods=numbers.tolist())

    def learn(self, plan: Plan, positions: Sequence[int], gas: Sequence[int]) -> None:
        self._estimates.learn(plan, positions, gas)

    def _method(self, digest: int, block: ExecutionInput, position: int, base: BaseState) -> _Method:
        """The method that this transaction calls, its template made anew if the contract has changed."""
        known = self._methods.get(digest)
        if known is not None and digest:
            record = base.get(record_key(known.target))
            if record == known.record:
                return known
        call = call_at(block, position)
        record = base.get(record_key(call.target))
        made = _Method(
            call.target, self._estimates.number(call.target, call.method), record, self._template(call, base)
        )
        self._methods[digest] = made
        return made

    def _template(self, call: Call, base: BaseState) -> _Template | None:
        """The template of the method that `call` calls; None if there is none."""
        summaries = None if call.target == SYSTEM_ADDRESS else self._predictor.summaries(base, call.target)
        summary = None if summaries is None else summaries.get(call.method)
        if summary is None or summary.calls or summary.loops or summary.arity > ARGUMENTS_MAX:
            return None
        rows: list[_Row] = []
        for access, mode in summary.accesses:
            row = _row(access, mode, call.target)
            if row is None:
                return None
            rows.append(row)
        return _Template(summary.arity, rows)


def _row(access: Access, mode: int, contract: bytes) -> _Row | None:
    """The access as a template's row; None if its key follows from more than arguments, sender and constants."""
    if access.kind == "List" and access.exact:
        return None
    suffix = b"\x01" if access.kind == "Length" else b"\x00"
    parts: list[tuple[int, Any]] = []
    for element in access.key[: None if access.exact else 1]:
        if element is None:
            if access.exact or parts:
                return None
            break
        match element:
            case ("argument", int(number)):
                parts.append((kernels.ARGUMENT, number))
            case ("context", "sender" | "origin"):
                parts.append((kernels.SENDER, 0))
            case ("context", "this"):
                parts.append((kernels.CONSTANT, pack(contract)))
            case ("constant", value) if type(value) is not tuple:
                parts.append((kernels.CONSTANT, pack(value)))
            case _:
                return None
    if len(parts) > PARTS_MAX or (access.kind != "Map" and parts):
        return None
    exact = access.exact and (access.kind != "Map" or bool(parts))
    return _Row(access.variable, suffix, mode, tuple(parts), exact)


def _division(
    methods: Sequence[_Method], inverse: np.ndarray[Any, Any], *, managed: bool
) -> tuple[kernels.Small, list[int]]:
    """Which template fills in each transaction, or -1 - d for the d-th of those that the predictor describes; and the
    positions of these. A block that manages contracts is described as a whole."""
    has_template = np.array([method.rows is not None and not managed for method in methods], np.bool_)
    template_of = inverse.astype(np.int32)
    described = np.flatnonzero(~has_template[inverse])
    template_of[described] = -1 - np.arange(len(described), dtype=np.int32)
    return template_of, described.tolist()


def _described(
    table: AccessTable,
    template_of: kernels.Small,
    methods: Sequence[_Method],
    data: kernels.Bytes,
    arguments: kernels.Integers,
    senders: kernels.Bytes,
) -> Any:
    """The access table of the block (`kernels.describe`); `table` has the transactions that the predictor described."""
    template_rows, rows, parts = [0], array("i"), array("i")
    prefixes: list[bytes] = []
    constants = bytearray()
    for method in methods:
        for row in method.rows or ():
            name = method.target + row.variable.encode()
            around = table.node(name, table.node(method.target, EVERYTHING, 1), 1)
            prefix = name + row.suffix
            if row.exact and not row.parts:
                around = table.node(prefix, around, 0)
            first = len(parts) // 3
            for kind, value in row.parts:
                if kind == kernels.CONSTANT:
                    parts.extend((kind, len(constants), len(constants) + len(value)))
                    constants += value
                else:
                    parts.extend((kind, value, 0))
            rows.extend((row.mode, around, first, len(parts) // 3, row.exact))
            prefixes.append(prefix)
        template_rows.append(len(prefixes))
    names = [b"", *table.names]
    no_groups = bytes(len(prefixes))
    return kernels.describe(
        data,
        arguments,
        senders,
        np.asarray(template_of, np.int32),
        np.array(template_rows, np.int32),
        np.array([method.arity for method in methods], np.int32),
        np.array(rows, np.int32).reshape(-1, 5),
        _hashes(prefixes, no_groups),
        np.array(parts, np.int32).reshape(-1, 3),
        np.frombuffer(bytes(constants) or b"\x00", np.uint8),
        _hashes(names, table.groups),
        np.array(table.parents, np.int32),
        np.frombuffer(bytes(table.groups), np.uint8),
        np.array(table.starts, np.int32),
        np.array(table.nodes, np.int32),
        np.frombuffer(bytes(table.modes), np.uint8).astype(np.int32),
    )


def _hashes(names: Sequence[bytes], groups: bytes | bytearray) -> kernels.Hashes:
    hashes = np.empty(len(names), np.uint64)
    data = np.frombuffer(b"".join(names) or b"\x00", np.uint8)
    offsets = np.fromiter(accumulate(map(len, names), initial=0), np.int64, len(names) + 1)
    kernels.hash_names(data, offsets, np.frombuffer(bytes(groups) or b"\x00", np.uint8), hashes)
    return hashes


def _shards(access: Any, weights: Any, contracts: Any, homes: Any, head_start: int, executors: int) -> Plan:
    """The plan of an access table; `homes` is changed to where contracts run from now on."""
    starts, nodes, modes, parents, groups = access
    roots, conflicts = kernels.find_shards(starts, nodes, modes, parents, groups)
    owners, sizes, heaviest = kernels.assign(roots, weights, contracts, homes, head_start, executors)
    sizes[::-1].sort()
    loads = np.bincount(owners, weights=weights, minlength=executors)
    return Plan(
        shares=[np.flatnonzero(owners == executor).tolist() for executor in range(executors)],
        loads=[int(load) for load in loads],
        shards=len(sizes),
        heaviest_shard=int(heaviest),
        shard_sizes=tuple(sizes[:SHARD_SIZES_MAX].tolist()),
        conflicts=int(conflicts),
        methods=(),
    )


def make_plan_with_kernels(table: AccessTable, load: Load, executors: int) -> Plan:
    """`executor.plan.make_plan` by kernels, for a table that is there already."""
    access = (
        np.array(table.starts, np.int32),
        np.array(table.nodes, np.int32),
        np.frombuffer(bytes(table.modes), np.uint8),
        np.array(table.parents, np.int32),
        np.frombuffer(bytes(table.groups), np.uint8),
    )
    homes = np.array(load.homes, np.int32)
    weights, contracts = np.array(load.weights, np.int64), np.array(load.contracts, np.int32)
    plan = _shards(access, weights, contracts, homes, load.head_start, executors)
    load.homes[:] = homes.tolist()
    return plan
