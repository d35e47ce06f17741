"""The bodies of live proposals: from the moment they are here until their block is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chain.errors import InvariantError
from chain.model.block import Proposal
from chain.model.transaction import Transaction
from chain.types import Digest


@dataclass(frozen=True, slots=True)
class LiveProposal:
    digest: Digest
    proposal: Proposal
    transactions: Sequence[Transaction]  # in the order of the proposal's hashes


class ProposalArchive(Protocol):
    """Proposals and bodies that are durable here."""

    def load_proposal(self, digest: Digest) -> LiveProposal | None: ...


class Bodies:
    """Live proposals by digest, in memory; falls back to what is durable after a restart."""

    def __init__(self, archive: ProposalArchive) -> None:
        self._archive = archive
        self._live: dict[Digest, LiveProposal] = {}

    def __len__(self) -> int:
        return len(self._live)

    def put(self, live: LiveProposal) -> None:
        self._live[live.digest] = live

    def find(self, digest: Digest) -> LiveProposal | None:
        live = self._live.get(digest)
        if live is None:
            live = self._archive.load_proposal(digest)
            if live is not None:
                self._live[digest] = live
        return live

    def get(self, digest: Digest) -> LiveProposal:
        """Raises InvariantError if the bodies are not here: nothing is persisted or executed without them."""
        live = self.find(digest)
        if live is None:
            raise InvariantError(f"bodies of proposal {digest.hex()} are not here")
        return live

    def transaction(self, height: int, transaction_hash: Digest) -> bytes | None:
        """The raw transaction in a live proposal of a height; a linear search."""
        for live in self._live.values():
            if live.proposal.height == height:
                for transaction in live.transactions:
                    if transaction.hash == transaction_hash:
                        return transaction.raw
        return None

    def forget(self, digest: Digest) -> None:
        self._live.pop(digest, None)

    def forget_up_to(self, height: int) -> None:
        """Drop everything at or below a stored height, losers of view changes included."""
        for digest in [digest for digest, live in self._live.items() if live.proposal.height <= height]:
            del self._live[digest]
