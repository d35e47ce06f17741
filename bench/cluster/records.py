"""What the load processes write down, in arrays: one entry a transaction, in the order of intended sending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.cluster.parts import WORDS, ScalarT, hash_rows
from bench.errors import BenchError
from chain.rpc.errors import DUPLICATE, ERRORS

COUNTERS: Final = "certified.counters"  # certified so far by load process, 64-bit: what a closed loop goes by
SENT: Final = "sent-{}.npz"
SEEN: Final = "seen.npz"
NO_ANSWER: Final = 1  # code of a transaction that no node answered for
ACCEPTED_BYTES: Final = 37  # of one entry of the answer that says "accepted"
_HASH_AT: Final = 3
_ENTRY_HEAD: Final = b"\x93\xc4\x20"  # array of 3, bytes of length 32
_ENTRY_TAIL: Final = b"\x00\xa0"  # code 0, empty message
HASH_BYTES: Final = 8 * WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Of all transactions of a run; seconds since its start, NaN where it did not happen."""

    due: NDArray[np.float64]
    answered: NDArray[np.float64]
    codes: NDArray[np.int32]  # 0: accepted; the API's error numbers; -status of HTTP; NO_ANSWER
    certified: NDArray[np.float64]
    statuses: NDArray[np.uint16]  # of the receipt: 0 is success

    def __len__(self) -> int:
        return len(self.due)

    @property
    def offered(self) -> int:
        """Those that were sent; of a closed loop that ran out of time not all."""
        return int(np.count_nonzero(~np.isnan(self.due)))

    def failures(self) -> dict[str, int]:
        """Of all transactions, by reason: refused, reverted, or accepted and not certified in time."""
        certified = ~np.isnan(self.certified) | np.isnan(self.due)
        reasons: Counter[str] = Counter()
        codes, counts = np.unique(self.codes[~certified & (self.codes != 0)], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            reasons[reason_of(code)] += count
        reasons["reverted"] = int(np.count_nonzero(self.statuses != 0))
        reasons["not_certified"] = int(np.count_nonzero(~certified & (self.codes == 0)))
        return {reason: count for reason, count in sorted(reasons.items()) if count}


def reason_of(code: int) -> str:
    """The name of what `Records.codes` says."""
    if code == NO_ANSWER:
        return "no_answer"
    if code in ERRORS:
        return ERRORS[code][0]
    return f"http_{-code}"


def answer_codes(answer: bytes, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
    """The code of each transaction of one answer of the binary path. A duplicate was accepted before.

    Raises:
        BenchError: the answer is not for these transactions.
    """
    count = len(hashes)
    body = answer[len(answer) - ACCEPTED_BYTES * count :]
    if len(answer) - len(body) in (1, 3, 5) and len(body) == ACCEPTED_BYTES * count:
        rows = np.frombuffer(body, dtype=np.uint8).reshape(count, ACCEPTED_BYTES)
        frame = np.frombuffer(_ENTRY_HEAD + _ENTRY_TAIL, dtype=np.uint8)
        edges = np.concatenate((rows[:, :_HASH_AT], rows[:, _HASH_AT + HASH_BYTES :]), axis=1)
        if bool((edges == frame).all()):
            told = np.ascontiguousarray(rows[:, _HASH_AT : _HASH_AT + HASH_BYTES]).view("<u8")
            if not np.array_equal(told, hashes):
                raise BenchError("a node answered for other transactions than it was sent")
            return np.zeros(count, dtype=np.int32)
    items = msgspec.msgpack.decode(answer, type=list[tuple[bytes, int, str]])
    if len(items) != count:
        raise BenchError(f"a node answered for {len(items)} transactions, it was sent {count}")
    return np.array([0 if code == DUPLICATE else code for _, code, _ in items], dtype=np.int32)


class HashIndex:
    """Finds the places of many hashes at once."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        """`hashes` are rows of four words; their order is that of the places."""
        self._hashes = hashes
        first = np.ascontiguousarray(hashes[:, 0])
        self._order = np.argsort(first, kind="stable")
        self._sorted = first[self._order]

    def places(self, blob: bytes) -> NDArray[np.int64]:
        """The place of each hash of the blob; -1: unknown."""
        rows = hash_rows(blob)
        if len(self._sorted) == 0:
            return np.full(len(rows), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sorted, rows[:, 0]), len(self._sorted) - 1)
        places = self._order[at]
        known = (self._hashes[places] == rows).all(axis=1)
        return np.where(known, places, -1)


def interleave(shares: Sequence[NDArray[ScalarT]]) -> NDArray[ScalarT]:
    """Entry j of share p of P becomes entry j P + p; shares differ in length by one at most, longer ones first."""
    whole = np.empty((sum(map(len, shares)), *shares[0].shape[1:]), dtype=shares[0].dtype)
    for at, share in enumerate(shares):
        whole[at :: len(shares)] = share
    return whole


def load_records(folder: Path, processes: int) -> Records:
    """What the processes of a run have written.

    Raises:
        BenchError: a file is missing or damaged.
    """
    try:
        sent = []
        for process in range(processes):
            with np.load(folder / SENT.format(process)) as file:
                sent.append({name: file[name] for name in ("due", "answered", "codes")})
        with np.load(folder / SEEN) as file:
            certified, statuses = file["certified"], file["statuses"]
    except (OSError, ValueError, KeyError) as error:
        raise BenchError(f"{folder}: the load processes left no whole result: {error}") from None
    due = interleave([one["due"] for one in sent])
    if len(certified) != len(due):
        raise BenchError(f"{len(certified)} transactions were watched, {len(due)} sent")
    return Records(
        due=due,
        answered=interleave([one["answered"] for one in sent]),
        codes=interleave([one["codes"] for one in sent]),
        certified=certified,
        statuses=statuses,
    )
