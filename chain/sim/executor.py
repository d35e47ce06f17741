"""Execution by hashing: the header is a pure function of the parent header and the proposal.

What decides which height runs when, and what becomes of it, is the node's own `ExecutionLine`; the executors behind it
take what they are told one after the other, as the real lead does, and know nothing of order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from chain.codec import tagged_digest
from chain.model.block import Header, Proposal, header_hash
from chain.model.validators import ValidatorSet
from chain.pipeline.ahead import ExecutionLine, Work
from chain.sim.members import SimMembers
from chain.types import Digest, Height

TAG_STATE = b"simulation/state/1"
TAG_TRANSACTIONS = b"simulation/transactions/1"
IN_FLIGHT_MAX: Final = 4
EXPIRY: Final = Height(2**62)


class SimTransaction(NamedTuple):
    hash: Digest
    expiry: Height = EXPIRY


class Outcome(NamedTuple):
    """What the executors answer."""

    transaction_root: Digest
    state_root: Digest


SimWork = Work[SimTransaction, Outcome]
Later = Callable[[Callable[[], None]], None]


def run_block(parent_state_root: bytes, transactions: Sequence[bytes]) -> Outcome:
    """A block's outcome: all that was ever executed goes into the state root."""
    root = tagged_digest(TAG_TRANSACTIONS, b"".join(transactions))
    return Outcome(root, tagged_digest(TAG_STATE, parent_state_root + root))


def header_on(
    parent: Header, proposal: Proposal, digest: Digest, count: int, outcome: Outcome, validators: ValidatorSet
) -> Header:
    """The executed header of `proposal` on top of `parent`; `validators` certify it."""
    return Header(
        chain_id=proposal.chain_id,
        height=proposal.height,
        time_ms=max(parent.time_ms, proposal.timestamp_ms),
        parent_hash=header_hash(parent),
        proposal_digest=digest,
        rule_set=parent.rule_set,
        validator_set_hash=validators.digest,
        transaction_count=count,
        transaction_root=outcome.transaction_root,
        receipt_root=outcome.transaction_root,
        state_root=outcome.state_root,
        gas_used=count,
    )


class SimExecutors:
    """The executor processes: what they are told waits in line, and each block takes its time."""

    def __init__(self, *, height: Height, state_root: bytes, work_later: Later) -> None:
        self._first = height
        self._roots = [state_root]  # after `_first`, and after each height executed since
        self._frames: deque[tuple[SimWork | Height, Callable[[SimWork, Outcome], None]]] = deque()
        self._busy = False
        self._work_later = work_later
        self.corrupt = False  # scripts: they compute something else than the others

    def execute(self, work: SimWork, answer: Callable[[SimWork, Outcome], None]) -> None:
        self._frames.append((work, answer))
        self._go_on()

    def discard(self, height: Height) -> None:
        self._frames.append((height, lambda work, outcome: None))
        self._go_on()

    def _go_on(self) -> None:
        while self._frames and not self._busy:
            told, answer = self._frames.popleft()
            if isinstance(told, Work):
                self._busy = True
                self._work_later(lambda work=told, answer=answer: self._finish(work, answer))  # type: ignore[misc]
            else:
                del self._roots[told - self._first :]

    def _finish(self, work: SimWork, answer: Callable[[SimWork, Outcome], None]) -> None:
        self._busy = False
        if work.height != self._first + len(self._roots):
            raise AssertionError(f"execute {work.height} on top of {self._first + len(self._roots) - 1}")
        hashes: list[bytes] = [transaction.hash for transaction in work.kept]
        outcome = run_block(self._roots[-1], [*hashes, b"not what the others computed"] if self.corrupt else hashes)
        self._roots.append(outcome.state_root)
        answer(work, outcome)
        self._go_on()


class SimExecution:
    """The execute stage of one life of a node."""

    def __init__(
        self,
        *,
        tip: Header,
        executed: set[bytes],
        members: SimMembers,
        soon: Later,
        work_later: Later,
        published: Callable[[Header, list[bytes], ValidatorSet | None], None],
    ) -> None:
        """`executed` are the transactions up to `tip`, and `members` knows what they scheduled; `published` is told
        each header, what it executed, and the set it scheduled.
        """
        self.line: ExecutionLine[SimTransaction, Outcome] = ExecutionLine(
            height=Height(tip.height), time_ms=tip.time_ms
        )
        self.executors = SimExecutors(height=Height(tip.height), state_root=tip.state_root, work_later=work_later)
        self.skipped = 0
        self._tip = tip
        self._executed = executed
        self._members = members
        self._soon = soon
        self._published = published
        self._pending = False

    def speculate(self, proposal: Proposal, digest: Digest) -> None:
        self.line.speculate(proposal, digest)
        self._wake()

    def order(self, proposal: Proposal, digest: Digest) -> None:
        self.line.order(proposal, digest)
        self._wake()

    def _wake(self) -> None:
        if not self._pending:
            self._pending = True
            self._soon(self._run)

    def _run(self) -> None:
        self._pending = False
        while (work := self.line.publishable()) is not None:
            self._publish(work)
        void = self.line.take_void()
        if void is not None:
            self.executors.discard(void)
        while self.line.unanswered < IN_FLIGHT_MAX and (next_work := self.line.next()) is not None:
            transactions = [SimTransaction(transaction) for transaction in next_work.proposal.transaction_hashes()]
            executed = [transaction.hash in self._executed for transaction in transactions]
            self.line.start(next_work, transactions, executed)
            self.executors.execute(next_work, self._answered)

    def _answered(self, work: SimWork, outcome: Outcome) -> None:
        self.line.finish(work, outcome)
        self._wake()

    def _publish(self, work: SimWork) -> None:
        if work.output is None:
            raise AssertionError(f"height {work.height} is published without an outcome")
        validators = self._members.schedule.at(work.height)
        self._tip = header_on(self._tip, work.proposal, work.digest, len(work.kept), work.output, validators)
        hashes: list[bytes] = [transaction.hash for transaction in work.kept]
        self._executed.update(hashes)
        self.skipped += len(work.skipped)
        self.line.publish(work)
        self._published(self._tip, hashes, self._members.execute(work.height, hashes))


class SerialReference:
    """What every node must come to: ordered proposals executed one after the other, none of them ahead."""

    def __init__(self, genesis: Header, members: SimMembers) -> None:
        self._tip = genesis
        self.members = members
        self._executed: set[bytes] = set()
        self.hashes: dict[int, bytes] = {}  # height -> header hash

    def execute(self, proposal: Proposal, digest: Digest) -> None:
        """The next height."""
        if proposal.height != self._tip.height + 1:
            raise AssertionError(f"reference: {proposal.height} on top of {self._tip.height}")
        kept: list[bytes] = [known for known in proposal.transaction_hashes() if known not in self._executed]
        self._executed.update(kept)
        outcome = run_block(self._tip.state_root, kept)
        validators = self.members.schedule.at(proposal.height)
        self._tip = header_on(self._tip, proposal, digest, len(kept), outcome, validators)
        self.members.execute(proposal.height, kept)
        self.hashes[self._tip.height] = header_hash(self._tip)
