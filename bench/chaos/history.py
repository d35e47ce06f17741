"""What clients saw, what the chain holds in the end, and whether the two agree.

Everything here is plain data and pure functions, so that the check can be tested with doctored histories.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Outcome = Literal["certified", "pending", "expired", "refused"]
SHOWN_MAX: Final = 50  # violations of one kind that are listed


@dataclass(slots=True, kw_only=True)
class Send:
    """A transaction that a session sent. Times in milliseconds since the start of the run.

    `receipt`, `height`, `position` and `value` are what a node said was certified; `value` is the session's count after
    this transaction, as the contract returned it.
    """

    session: int
    tx_hash: bytes
    start_ms: int
    end_ms: int
    outcome: Outcome
    height: int = 0
    position: int = 0
    receipt: bytes = b""
    ok: bool = True
    value: int | None = None
    resent: bool = False
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Read:
    """A session's read of its own count: `height` is what the answer speaks for, `min_height` what was asked."""

    session: int
    start_ms: int
    end_ms: int
    min_height: int
    height: int
    value: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A transaction in a node's chain."""

    height: int
    position: int
    receipt: bytes


@dataclass(slots=True, kw_only=True)
class Chain:
    """All of one node's chain that matters: header hashes by height from 0, executed transactions by hash."""

    node: str
    headers: list[bytes]
    transactions: dict[bytes, Placed]
    twice: list[bytes] = field(default_factory=list)  # hashes that were met at two places
    counts: dict[int, int] = field(default_factory=dict)  # each session's count at the end, read from this node


class Violation(NamedTuple):
    """A promise that was broken: `kind` is one of those in `KINDS`."""

    kind: str
    text: str


KINDS: Final = {
    "lost": "a receipt that a client was given as certified is not in a node's chain",
    "changed": "a certified receipt, or its place, is another one in a node's chain",
    "forked": "two nodes hold different headers at one height",
    "twice": "one transaction was executed twice",
    "undecided": "a transaction was neither certified nor expired after all faults had healed",
    "expired_but_executed": "a transaction that a client was told had expired was executed",
    "went_back": "an answer to a session speaks for a lower height than an earlier one, or than was asked for",
    "wrong_read": "a read shows less than was certified before it, or more than was ever sent",
    "wrong_result": "results of one session's transactions do not follow the order of the chain",
    "miscounted": "the state at the end is not what the executed transactions make",
    "not_recovered": "a node did not come back after its fault had healed",
}


def check_history(sends: Sequence[Send], reads: Sequence[Read], chains: Sequence[Chain]) -> list[Violation]:
    """Every broken promise; an empty list is the good result."""
    found = [
        *_forks(chains),
        *_receipts(sends, chains),
        *_decided(sends, chains),
        *_monotonic(sends, reads),
        *_reads(sends, reads),
        *_results(sends),
        *_counts(sends, chains),
    ]
    shown: dict[str, int] = defaultdict(int)
    kept = []
    for violation in found:
        shown[violation.kind] += 1
        if shown[violation.kind] <= SHOWN_MAX:
            kept.append(violation)
    return kept


def _forks(chains: Sequence[Chain]) -> Iterator[Violation]:
    for chain in chains:
        for tx_hash in chain.twice:
            yield Violation("twice", f"{chain.node}: 0x{tx_hash.hex()}")
    if not chains:
        return
    first = chains[0]
    for chain in chains[1:]:
        for height, pair in enumerate(zip(first.headers, chain.headers, strict=False)):
            if pair[0] != pair[1]:
                yield Violation("forked", f"{first.node} and {chain.node} at height {height}")
                break


def _receipts(sends: Iterable[Send], chains: Sequence[Chain]) -> Iterator[Violation]:
    for send in sends:
        if send.outcome != "certified":
            continue
        for chain in chains:
            placed = chain.transactions.get(send.tx_hash)
            name = f"0x{send.tx_hash.hex()} of session {send.session}, node {chain.node}"
            if placed is None:
                yield Violation("lost", f"{name}: certified at height {send.height}, not in the chain")
            elif placed != Placed(send.height, send.position, send.receipt):
                where = f"{send.height}.{send.position}, is at {placed.height}.{placed.position}"
                what = "" if placed.receipt == send.receipt else ", with another receipt"
                yield Violation("changed", f"{name}: was certified at {where}{what}")


def _decided(sends: Iterable[Send], chains: Sequence[Chain]) -> Iterator[Violation]:
    for send in sends:
        if send.outcome == "pending":
            yield Violation("undecided", f"0x{send.tx_hash.hex()} of session {send.session}: {send.reason}")
        elif send.outcome == "expired" and any(send.tx_hash in chain.transactions for chain in chains):
            yield Violation("expired_but_executed", f"0x{send.tx_hash.hex()} of session {send.session}")


def _monotonic(sends: Sequence[Send], reads: Sequence[Read]) -> Iterator[Violation]:
    """A session does one thing after the other, so that its answers are in order of their end. What was sent again
    after the run was not answered in the session."""
    answers: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for send in sends:
        if send.outcome == "certified" and not send.resent:
            answers[send.session].append((send.end_ms, send.height))
    certified = {session: sorted(items) for session, items in answers.items()}
    seen: dict[int, int] = defaultdict(int)
    for read in sorted(reads, key=lambda item: (item.session, item.end_ms)):
        if read.height < read.min_height:
            text = f"session {read.session} asked for height {read.min_height} and was answered for {read.height}"
            yield Violation("went_back", text)
        own = [height for end_ms, height in certified.get(read.session, ()) if end_ms <= read.start_ms]
        most = max([seen[read.session], *own])
        if read.height < most:
            text = f"session {read.session} had seen height {most} and was answered for {read.height}"
            yield Violation("went_back", text)
        seen[read.session] = max(most, read.height)


def _reads(sends: Sequence[Send], reads: Sequence[Read]) -> Iterator[Violation]:
    """A count lies between what was certified for the session before the read began, and what it had sent by then."""
    by_session: dict[int, list[Send]] = defaultdict(list)
    for send in sends:
        by_session[send.session].append(send)
    last: dict[int, int] = defaultdict(int)
    for read in sorted(reads, key=lambda item: (item.session, item.end_ms)):
        own = by_session[read.session]
        low = sum(
            send.outcome == "certified" and send.ok and not send.resent and send.end_ms <= read.start_ms
            for send in own
        )
        high = sum(send.start_ms <= read.end_ms for send in own)
        low = max(low, last[read.session])
        if not low <= read.value <= high:
            text = f"session {read.session} read {read.value} at height {read.height}, must be {low}..{high}"
            yield Violation("wrong_read", text)
        last[read.session] = max(low, read.value)


def _results(sends: Iterable[Send]) -> Iterator[Violation]:
    """In the order of the chain, the counts that a session's transactions returned rise."""
    by_session: dict[int, list[Send]] = defaultdict(list)
    for send in sends:
        if send.outcome == "certified" and send.ok:
            by_session[send.session].append(send)
    for session, own in by_session.items():
        last = 0
        for send in sorted(own, key=lambda item: (item.height, item.position)):
            if send.value is None or send.value <= last:
                text = f"session {session}: {send.value} at {send.height}.{send.position} after {last}"
                yield Violation("wrong_result", text)
            last = send.value or last


def _counts(sends: Iterable[Send], chains: Sequence[Chain]) -> Iterator[Violation]:
    """Each executed transaction of a session counted once, and nothing else did."""
    for chain in chains:
        executed: Mapping[int, int] = _executed(sends, chain)
        for session, count in sorted(chain.counts.items()):
            if count != executed.get(session, 0):
                text = f"session {session} on {chain.node}: {count}, {executed.get(session, 0)} were executed"
                yield Violation("miscounted", text)


def _executed(sends: Iterable[Send], chain: Chain) -> dict[int, int]:
    counted: dict[int, int] = defaultdict(int)
    for send in sends:
        if send.tx_hash in chain.transactions and send.ok:
            counted[send.session] += 1
    return counted


def longest_gap_ms(times_ms: Sequence[int], first_ms: int, last_ms: int) -> int:
    """The longest time without a certified receipt between two moments."""
    inside = sorted(at for at in times_ms if first_ms <= at <= last_ms)
    edges = [first_ms, *inside, last_ms]
    return max(later - earlier for earlier, later in itertools.pairwise(edges))
