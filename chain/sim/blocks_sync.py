"""Catching up: blocks with certificates from any peer, checked before the core hears of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chain.codec import Record, decode, encode
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from consensus.effects import FetchBlocks
from consensus.events import BlockFetched

if TYPE_CHECKING:
    from chain.sim.node import SimNode

RETRY_MS: Final = 200
BLOCKS_MAX: Final = 4  # of one answer
FRUITLESS_MAX: Final = 40  # fruitless attempts until a request is dropped


class BlockAnswer(Record, frozen=True, kw_only=True):
    blocks: tuple[tuple[Proposal, Header, Certificate], ...]


class BlockFetcher:
    """The newest `FetchBlocks` of one life of a node."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._next = 0
        self._last = 0
        self._sources: tuple[bytes, ...] = ()
        self._turn = 0  # whose turn among the sources
        self._fruitless = 0
        self._running = False
        self._held: list[tuple[Proposal, Header, Certificate]] = []  # of the last answer, not given to the core yet
        self._waits = False  # for the core to take them

    def start(self, request: FetchBlocks) -> None:
        self._next = max(self._next, request.first)
        self._last = max(self._last, request.last)
        self._sources = tuple(source for source in request.sources if source != self._node.validator)
        self._fruitless = 0
        if not self._running:
            self._running = True
            self._ask()

    def _ask(self) -> None:
        node = self._node
        if self._next > self._last or self._fruitless >= FRUITLESS_MAX or not self._sources:
            self._running = False
            return
        peer = node.world.node_of(self._sources[self._turn % len(self._sources)])
        self._turn += 1
        self._fruitless += 1
        first, last = self._next, min(self._last, self._next + BLOCKS_MAX - 1)

        def compute() -> bytes | None:
            blocks = [block for height in range(first, last + 1) if (block := peer.disk_blocks.get(height)) is not None]
            if not blocks:
                return None
            answer = BlockAnswer(blocks=tuple((block.proposal, block.header, block.certificate) for block in blocks))
            return encode(answer)

        node.world.network.request(node.slot, peer.slot, compute, node.while_alive(self._answered))

    def _answered(self, data: bytes | None) -> None:
        if data is None:
            self._node.later(RETRY_MS, self._ask)
            return
        self._held = list(decode(BlockAnswer, data).blocks)
        self._waits = True
        self.progressed()

    def progressed(self) -> None:
        """Blocks go to the core as soon as it is known who certifies them, which more execution may tell."""
        node = self._node
        while self._waits and self._held and self._held[0][1].height <= node.replica.epoch.end:
            proposal, header, certificate = self._held.pop(0)
            if header.height == self._next and self._genuine(proposal, header, certificate):
                self._fruitless = 0
                self._next += 1
                node.pool.known.update(proposal.transaction_hashes())
                node.obtained[proposal_digest(proposal)] = proposal
                node.step(BlockFetched(proposal=proposal, header=header, certificate=certificate))
        if self._waits and not self._held:
            self._waits = False
            node.later(1, self._ask)

    def _genuine(self, proposal: Proposal, header: Header, certificate: Certificate) -> bool:
        return (
            header.proposal_digest == proposal_digest(proposal)
            and certificate.height == header.height
            and certificate.digest == header_hash(header)
            and self._node.world.core.certificate_holds(
                certificate, self._node.members.schedule.at(header.height)
            )
        )
