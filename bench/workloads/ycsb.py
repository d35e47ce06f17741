"""YCSB's workload A, with its reads as transactions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from bench.workloads.draws import Zipf
from bench.workloads.sources import source
from bench.workloads.workload import Call, Deploy, Setup, SetupCall, Workload, deployed

ROWS: Final = 10_000
FIELDS: Final = 10
FIELD_BYTES: Final = 100
ROWS_PER_CALL: Final = 20
ZIPF: Final = 0.99
POPULAR_SEED: Final = 1
GAS_LIMIT: Final = 500_000
GAS_LIMIT_LOAD: Final = 100_000_000


def ycsb(rows: int = ROWS) -> Workload:
    """Half of the calls read a row of ten fields, half write one field of it."""

    def calls(seed: int) -> Iterator[Call]:
        popular = Zipf(rows, ZIPF, random.Random(POPULAR_SEED))  # the same rows for every seed
        draw = random.Random(seed)
        while True:
            row = popular.one(draw)
            if draw.random() < 0.5:
                yield Call("read", (row,), GAS_LIMIT)
            else:
                yield Call("update", (row, draw.randrange(FIELDS), draw.randbytes(FIELD_BYTES)), GAS_LIMIT)

    return Workload(
        f"YCSB workload A: half reads, half updates of one field, rows of {FIELDS} fields of {FIELD_BYTES} bytes by "
        f"Zipf's law with exponent {ZIPF}; {rows:,} rows; reads are transactions, and give the size of what they read",
        lambda start: _load(rows),
        calls,
    )


def _load(rows: int) -> Setup:
    table = yield from deployed(Deploy("bench.ycsb", source("ycsb")))
    filler = bytes(range(FIELD_BYTES))
    yield [
        SetupCall(table, "load", (first, min(ROWS_PER_CALL, rows - first), filler), gas_limit=GAS_LIMIT_LOAD)
        for first in range(0, rows, ROWS_PER_CALL)
    ]
    return table
