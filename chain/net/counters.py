"""Plain counters of one peer; whoever exports metrics reads the attributes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class PeerCounters:
    """Totals since the gateway was made; they survive reconnects."""

    connections: int = 0  # times a connection became live
    dials: int = 0
    losses: int = 0  # times a live connection ended
    frames_sent: int = 0
    frames_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    writes: int = 0  # writes to the transport; frames_sent / writes is the coalescing
    frames_unsent: int = 0  # asked to be sent while there was no connection
    frames_dropped: Counter[str] = field(default_factory=Counter)  # by class of the outbox
    requests_sent: int = 0
    requests_timed_out: int = 0
    requests_served: int = 0
    requests_refused: int = 0  # by us
    responses_late: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # reason -> times; what this peer did wrong
    byes: Counter[str] = field(default_factory=Counter)  # reason -> times; why this peer closed
