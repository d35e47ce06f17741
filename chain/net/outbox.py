"""What waits to be sent to one peer: priorities, byte bounds, link delay. No IO: the connection asks and writes.

| class | frames | when full |
|---|---|---|
| 0 system | hello, ping, pong, bye, refusal | refused |
| 1 consensus | CONSENSUS | the oldest are dropped: the newest vote matters, and status messages repair the rest |
| 2 control | CONTROL, requests, responses | refused, so that the caller learns at once |
| 3 transactions | TRANSACTIONS | refused: the pool sends again what stays unordered |
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Final

from chain.net.frames import FrameKind
from chain.types import MESSAGE_BYTES_MAX

SYSTEM, CONSENSUS, CONTROL, TRANSACTIONS = range(4)
CLASS_NAMES: Final = ("system", "consensus", "control", "transactions")
CLASS_BYTES_MAX: Final = (64 * 1024, 4 * MESSAGE_BYTES_MAX, 4 * MESSAGE_BYTES_MAX, 2 * MESSAGE_BYTES_MAX)

_CLASS_OF: Final[dict[int, int]] = {
    FrameKind.CONSENSUS: CONSENSUS,
    FrameKind.CONTROL: CONTROL,
    FrameKind.REQUEST: CONTROL,
    FrameKind.RESPONSE: CONTROL,
    FrameKind.TRANSACTIONS: TRANSACTIONS,
}


class Outbox:
    """Frames of one connection; within a class they leave in the order in which they came.

    With a delay, a frame becomes ready that much later, on a whole millisecond so that neighbours share a write, and
    counts against its bound from the start. Times are seconds of whatever clock the caller keeps.
    """

    __slots__ = ("_bytes", "_delay_s", "_delayed", "_dropped", "_ready")

    def __init__(self, delay_s: float = 0.0, dropped: Counter[str] | None = None) -> None:
        """`dropped` counts, by class name, the frames that were refused or had to make way."""
        self._delay_s = delay_s
        self._dropped: Counter[str] = Counter() if dropped is None else dropped
        self._ready: tuple[deque[bytes], ...] = (deque(), deque(), deque(), deque())
        self._delayed: deque[tuple[float, int, bytes]] = deque()  # ascending by time
        self._bytes = [0, 0, 0, 0]  # ready and delayed

    def put(self, kind: int, frame: bytes, now: float) -> bool:
        """Queue a frame. False: it is refused because its class is full (a frame never exceeds an empty class)."""
        rank = _CLASS_OF.get(kind, SYSTEM)
        size = len(frame)
        if self._bytes[rank] + size > CLASS_BYTES_MAX[rank] and not self._make_way(rank, size):
            self._dropped[CLASS_NAMES[rank]] += 1
            return False
        self._bytes[rank] += size
        if self._delay_s:
            self._delayed.append((math.ceil((now + self._delay_s) * 1_000) / 1_000, rank, frame))
        else:
            self._ready[rank].append(frame)
        return True

    def take(self, bytes_max: int, now: float) -> list[bytes]:
        """The next frames to write, highest class first; at least one if any is ready, else up to `bytes_max`."""
        self._release(now)
        taken: list[bytes] = []
        total = 0
        for rank, queue in enumerate(self._ready):
            while queue and (total + len(queue[0]) <= bytes_max or not taken):
                frame = queue.popleft()
                self._bytes[rank] -= len(frame)
                total += len(frame)
                taken.append(frame)
            if queue:
                break
        return taken

    def has_ready(self) -> bool:
        """True if `take` has more to give right now."""
        return any(self._ready)

    def next_due(self) -> float | None:
        """When the next delayed frame becomes ready; None if there is none."""
        return self._delayed[0][0] if self._delayed else None

    @property
    def bytes_queued(self) -> int:
        return sum(self._bytes)

    def clear(self) -> None:
        """Forget everything: the connection is gone."""
        for queue in self._ready:
            queue.clear()
        self._delayed.clear()
        self._bytes = [0, 0, 0, 0]

    def _release(self, now: float) -> None:
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            _, rank, frame = delayed.popleft()
            self._ready[rank].append(frame)

    def _make_way(self, rank: int, size: int) -> bool:
        """Drop the oldest frames of the consensus class until `size` bytes fit."""
        if rank != CONSENSUS:
            return False
        queue = self._ready[CONSENSUS]
        while self._bytes[CONSENSUS] + size > CLASS_BYTES_MAX[CONSENSUS]:
            if not queue:
                return False  # all of it is on the delayed link
            self._bytes[CONSENSUS] -= len(queue.popleft())
            self._dropped[CLASS_NAMES[CONSENSUS]] += 1
        return True
