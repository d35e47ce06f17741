"""Execution by hashing: the header is a pure function of the parent header and the proposal."""

from __future__ import annotations

from chain.codec import tagged_digest
from chain.model.block import Header, Proposal, header_hash, proposal_digest

TAG_STATE = b"simulation/state/1"
TAG_TRANSACTIONS = b"simulation/transactions/1"


class SimExecutor:
    """Holds the chain's tip as executed here; transactions already executed are skipped without effect."""

    def __init__(self, tip: Header, executed: set[bytes]) -> None:
        self.tip = tip
        self.executed = executed
        self.newest: list[bytes] = []  # executed by the newest block
        self.skipped = 0
        self.corrupt = False  # scripts: it computes something else than the others

    def execute(self, proposal: Proposal) -> Header:
        if proposal.height != self.tip.height + 1:
            raise AssertionError(f"execute {proposal.height} on top of {self.tip.height}")
        fresh: list[bytes] = []
        for transaction in proposal.transaction_hashes():
            if transaction in self.executed:
                self.skipped += 1
                continue
            self.executed.add(transaction)
            fresh.append(transaction)
        self.newest = fresh
        digest = proposal_digest(proposal)
        if self.corrupt:
            fresh.append(b"not what the others computed")
        root = tagged_digest(TAG_TRANSACTIONS, b"".join(fresh))
        self.tip = Header(
            chain_id=proposal.chain_id,
            height=proposal.height,
            time_ms=max(self.tip.time_ms, proposal.timestamp_ms),
            parent_hash=header_hash(self.tip),
            proposal_digest=digest,
            rule_set=self.tip.rule_set,
            validator_set_hash=self.tip.validator_set_hash,
            transaction_count=len(fresh),
            transaction_root=root,
            receipt_root=root,
            state_root=tagged_digest(TAG_STATE, self.tip.state_root + root),
            gas_used=len(fresh),
        )
        return self.tip
