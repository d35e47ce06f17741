"""Virtual time: one queue of actions, ordered by instant and then by the order in which they were asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Clock:
    """Integer milliseconds; time passes only from one action to the next."""

    def __init__(self) -> None:
        self.now = 0
        self.actions = 0
        self._queue: list[tuple[int, int, Action]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._queue)

    def after(self, delay_ms: int, action: Action) -> None:
        """Run `action` in `delay_ms`; actions of one instant run in the order they were asked for."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + max(0, delay_ms), self._sequence, action))

    def run(self, *, until_ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Run actions up to `until_ms`; True as soon as `done` holds, or at the end if there is no `done`.

        Without a `done` the clock stands at `until_ms` afterwards; an empty queue ends the run at once.
        """
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            if done is not None and done():
                return True
            self.now, _, action = heapq.heappop(queue)
            self.actions += 1
            action()
        if done is not None:
            return done()
        self.now = max(self.now, until_ms)
        return True
