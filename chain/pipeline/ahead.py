"""The heights on their way through execution: what to run next, what may be published, what is void.

Bookkeeping without input or output, so that the simulator drives the very same rules as the node. A height is *named*
once its proposal is prepared, *ordered* once consensus has fixed it, *started* when it is handed to the executors,
*finished* when their answer is here, and *published* when it is both ordered and finished: only then does anything of
it leave this bookkeeping. Heights are started strictly one after the other, whether they are ordered or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from chain.errors import InvariantError
from chain.model.block import Proposal
from chain.types import Digest, Height


class Expiring(Protocol):
    """What skipping needs of a transaction."""

    @property
    def hash(self) -> Digest: ...

    @property
    def expiry(self) -> Height: ...


T = TypeVar("T", bound=Expiring)
OutT = TypeVar("OutT")


@dataclass(slots=True)
class AheadStats:
    """Heights since the start: handed to the executors before they were ordered, and what became of them."""

    speculated: int = 0
    kept: int = 0
    discarded: int = 0


@dataclass(slots=True, eq=False)
class Work(Generic[T, OutT]):
    """One height between naming and publishing."""

    proposal: Proposal
    digest: Digest
    ordered: bool = False
    void: bool = False  # another proposal took its place: nothing may be done with it any more
    started: bool = False
    time_ms: int = 0  # block time
    skipped: tuple[int, ...] = ()  # positions
    kept: list[T] = field(default_factory=list)  # transactions to execute, in order
    hashes: list[Digest] = field(default_factory=list)  # theirs
    output: OutT | None = None

    @property
    def height(self) -> Height:
        return Height(self.proposal.height)


class ExecutionLine(Generic[T, OutT]):
    """All heights above the last published one that are prepared or ordered, without a gap."""

    def __init__(self, *, height: Height, time_ms: int) -> None:
        """`height` and `time_ms` are those of the last block executed and published."""
        self.height = height
        self.stats = AheadStats()
        self._time_ms = time_ms
        self._works: deque[Work[T, OutT]] = deque()
        self._started = 0  # of `_works`, from the left
        self._running: set[Digest] = set()  # transactions kept by started works
        self._void_from: Height | None = None

    def __len__(self) -> int:
        return len(self._works)

    @property
    def waiting(self) -> int:
        """Heights that are not started."""
        return len(self._works) - self._started

    @property
    def unanswered(self) -> int:
        """Heights that are started and not finished."""
        return sum(work.output is None for work in self._works if work.started)

    # --- from consensus ---

    def speculate(self, proposal: Proposal, digest: Digest) -> None:
        """The proposal is prepared. Another one at its height, and all that was to run on top of that, is void."""
        self._name(proposal, digest)

    def order(self, proposal: Proposal, digest: Digest) -> None:
        """The proposal is ordered; what was done for it ahead counts now.

        Raises:
            InvariantError: a height below is not ordered, or another proposal was ordered here.
        """
        work = self._name(proposal, digest)
        at = proposal.height - self.height - 1
        if at and not self._works[at - 1].ordered:
            raise InvariantError(f"height {proposal.height} is ordered, height {proposal.height - 1} is not")
        if work.started and not work.ordered:
            self.stats.kept += 1
        work.ordered = True

    def _name(self, proposal: Proposal, digest: Digest) -> Work[T, OutT]:
        at = proposal.height - self.height - 1
        if not 0 <= at <= len(self._works):
            raise InvariantError(f"execute: height {proposal.height} after {self.height + len(self._works)}")
        if at < len(self._works) and self._works[at].digest != digest:
            self._void(at)
        if at == len(self._works):
            self._works.append(Work(proposal, digest))
        return self._works[at]

    def _void(self, at: int) -> None:
        """Nothing from this place on will be ordered as it stands."""
        while len(self._works) > at:
            work = self._works.pop()
            if work.ordered:
                raise InvariantError(f"height {work.height} is ordered and was given another proposal")
            work.void = True
            if work.started:
                self._started -= 1
                self._running.difference_update(work.hashes)
                self._void_from = work.height
                self.stats.discarded += 1

    # --- to and from the executors ---

    def take_void(self) -> Height | None:
        """Once: the executors must forget what they were given from this height on, before they are given more."""
        height, self._void_from = self._void_from, None
        return height

    def next(self) -> Work[T, OutT] | None:
        """The lowest height that is not started."""
        return self._works[self._started] if self._started < len(self._works) else None

    def start(self, work: Work[T, OutT], transactions: Sequence[T], executed: Sequence[bool]) -> None:
        """The height of `next` begins. `executed` says of each transaction whether a published height holds it.

        What is in a lower height that is not published yet counts as well, so the outcome is that of executing one
        height after the other.

        Raises:
            InvariantError: not the height of `next`, or the executors have not been told to forget.
        """
        if work is not self.next() or self._void_from is not None:
            raise InvariantError(f"height {work.height} started out of turn")
        running, height = self._running, work.proposal.height
        hashes = [transaction.hash for transaction in transactions]
        late = [transaction.expiry < height for transaction in transactions]
        if True in executed or True in late or not running.isdisjoint(hashes):
            skips = [done or old or key in running for done, old, key in zip(executed, late, hashes, strict=True)]
            work.skipped = tuple([position for position, skip in enumerate(skips) if skip])
            transactions = [item for item, skip in zip(transactions, skips, strict=True) if not skip]
            hashes = [key for key, skip in zip(hashes, skips, strict=True) if not skip]
        work.kept, work.hashes = list(transactions), hashes
        running.update(hashes)
        before_ms = self._works[self._started - 1].time_ms if self._started else self._time_ms
        work.time_ms = max(before_ms, work.proposal.timestamp_ms)
        work.started = True
        self._started += 1
        self.stats.speculated += not work.ordered

    def finish(self, work: Work[T, OutT], output: OutT) -> None:
        """The executors' answer. Void work is forgotten already."""
        if not work.void:
            work.output = output

    def publishable(self) -> Work[T, OutT] | None:
        """The lowest height, if it is ordered and finished."""
        work = self._works[0] if self._works else None
        return work if work is not None and work.ordered and work.output is not None else None

    def publish(self, work: Work[T, OutT]) -> None:
        """`publishable` is executed for good; from now on others know of its transactions.

        Raises:
            InvariantError: it is not the publishable one.
        """
        if work is not self.publishable():
            raise InvariantError(f"height {work.height} published before it is ordered and executed")
        self._works.popleft()
        self._started -= 1
        self._running.difference_update(work.hashes)
        self.height, self._time_ms = work.height, work.time_ms
