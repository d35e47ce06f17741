"""What a node stands on and did not make itself: clocks, the network, executors, signature checks.

The real ones are the defaults. The simulator puts its own in their place, so that what runs there is `Node` itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chain.crypto import Verifier
from chain.net import Gateway
from chain.pipeline.spans import now_us
from chain.types import Instant
from executor.engine import Engine


def monotonic_ms() -> Instant:
    """For ages: a clock that is set back or forward must not make a leader look silent."""
    return Instant(time.monotonic_ns() // 1_000_000)


def wall_ms() -> Instant:
    return Instant(time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Whatever stands in for `gateway`, `engine` or `verifier` takes their arguments and keeps their promises."""

    wall_ms: Callable[[], Instant] = wall_ms
    monotonic_ms: Callable[[], Instant] = monotonic_ms
    now_us: Callable[[], int] = now_us
    thread_cpu_ns: Callable[[], int] = time.thread_time_ns  # of the calling thread: what serving a peer cost
    gateway: Callable[..., Gateway] = Gateway.from_config
    engine: Callable[..., Engine] = Engine
    verifier: Callable[..., Verifier] = Verifier
    check_cpu_us: Callable[[], int] = lambda: 0  # of processes that check signatures for this one


REAL: Final = Surroundings()
