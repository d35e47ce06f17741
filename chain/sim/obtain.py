"""Getting proposals and bodies: from the node's own pool and disk first, else from those who should have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chain.codec import decode, encode
from chain.model.block import Proposal, proposal_digest
from consensus.effects import ObtainProposal
from consensus.events import ProposalObtained, ProposalRefused

if TYPE_CHECKING:
    from chain.sim.node import SimNode

RETRY_MS = 150


class Obtainer:
    """Open `ObtainProposal` requests of one life of a node, by digest."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self.open: dict[bytes, ObtainProposal] = {}
        self._proposals: dict[bytes, Proposal] = {}  # found, bodies maybe still missing
        self._attempts: dict[bytes, int] = {}

    def start(self, request: ObtainProposal) -> None:
        running = request.digest in self.open
        self.open[request.digest] = request
        if not running:
            self._node.later(self._node.world.network.delay() // 4, lambda: self._attempt(request.digest))

    def cancel_fresh(self) -> None:
        for digest in [digest for digest, request in self.open.items() if request.fresh]:
            self._close(digest)

    def cancel_up_to(self, height: int) -> None:
        """Blocks up to here are stored: nobody waits for their proposals any more."""
        for digest in [digest for digest, request in self.open.items() if request.height <= height]:
            self._close(digest)

    def _close(self, digest: bytes) -> None:
        self.open.pop(digest, None)
        self._proposals.pop(digest, None)
        self._attempts.pop(digest, None)

    def _attempt(self, digest: bytes) -> None:
        request = self.open.get(digest)
        if request is None:
            return
        node = self._node
        proposal = request.proposal or self._proposals.get(digest) or node.proposal(digest)
        if proposal is not None and all(
            transaction in node.pool.known for transaction in proposal.transaction_hashes()
        ):
            self._finish(request, proposal)
            return
        self._ask(request)
        node.later(RETRY_MS, lambda: self._attempt(digest))

    def _finish(self, request: ObtainProposal, proposal: Proposal) -> None:
        self._close(request.digest)
        node = self._node
        transactions: list[bytes] = [*proposal.transaction_hashes()]
        reason = node.pool.refusal(request.digest, transactions) if request.fresh else ""
        if reason:
            node.step(ProposalRefused(height=request.height, digest=request.digest, reason=reason))
            return
        node.pool.reserve(request.digest, transactions, node.world.clock.now)
        node.obtained[request.digest] = proposal
        node.step(ProposalObtained(digest=request.digest, proposal=proposal))
        node.pool_changed()

    def _ask(self, request: ObtainProposal) -> None:
        """One source after the other; a source answers with the proposal if it holds it with every body."""
        node, digest = self._node, request.digest
        sources = [source for source in request.sources if source != node.validator]
        if not sources:
            return
        attempt = self._attempts[digest] = self._attempts.get(digest, -1) + 1
        peer = node.world.node_of(sources[attempt % len(sources)])

        def compute() -> bytes | None:
            held = peer.proposal(digest)
            return None if held is None else encode(held)

        def answer(data: bytes | None) -> None:
            if data is None or digest not in self.open:
                return
            proposal = decode(Proposal, data)
            if proposal_digest(proposal) == digest:
                self._proposals[digest] = proposal
                node.pool.known.update(proposal.transaction_hashes())
                self._attempt_soon(digest)

        node.world.network.request(node.slot, peer.slot, compute, node.while_alive(answer))

    def _attempt_soon(self, digest: bytes) -> None:
        request = self.open.get(digest)
        proposal = self._proposals.get(digest)
        if request is not None and proposal is not None:
            self._finish(request, proposal)
