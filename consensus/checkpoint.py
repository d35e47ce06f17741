"""The second half of consensus: executed headers, checkpoint votes, block certificates, divergence."""

from __future__ import annotations

from chain.errors import InvariantError
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.types import Digest, Height, ValidatorId, View
from consensus.effects import Effect, Execute, Store
from consensus.epoch import Epoch
from consensus.events import BlockFetched
from consensus.faults import Divergence, FaultReason, report
from consensus.messages import Checkpoint, MessageType, Verified
from consensus.safety import Safety
from consensus.votes import Tally


class Checkpoints:
    """Executes strictly by height, signs the headers, and knows when a block is final.

    `low` is the highest block that is certified and executed here: the low watermark of PBFT.
    """

    def __init__(
        self,
        *,
        safety: Safety,
        epoch: Epoch,
        chain_id: bytes,
        window: int,
        last: tuple[Header, Certificate | None],
    ) -> None:
        header, certificate = last
        self._safety = safety
        self._epoch = epoch
        self._chain_id = chain_id
        self._window = window
        self.low = self.issued = self.executed = Height(header.height)
        self.stable = certificate  # the highest block certificate known to be durable or about to be
        self._tip = header_hash(header)  # of the last executed header
        self._issued: dict[Height, Digest] = {}  # proposals being executed or executed and not certified
        self._headers: dict[Height, tuple[Header, Digest]] = {}
        self._tallies: dict[Height, Tally] = {}
        self._certificates: dict[Height, Certificate] = {}
        self._fetched: dict[Height, BlockFetched] = {}
        self._recent: dict[Height, Verified[Checkpoint]] = {}  # own votes, some of them for certified blocks

    @property
    def horizon(self) -> Height:
        """The last height of which checkpoint votes are kept."""
        return self._epoch.limit(self.low + 2 * self._window)

    @property
    def has_work(self) -> bool:
        """A block is being executed or waits for its certificate, or more than F have executed one that is not here."""
        return (
            self.issued > self.low
            or bool(self._certificates)
            or any(tally.has_honest() for tally in self._tallies.values())
        )

    @property
    def awaits_votes(self) -> bool:
        """A block is executed here and not certified."""
        return self.executed > self.low

    # --- execution ---

    def fetched_proposal(self, height: Height) -> tuple[Proposal, Digest] | None:
        """The proposal of a fetched block, and its digest."""
        block = self._fetched.get(height)
        return None if block is None else (block.proposal, Digest(block.header.proposal_digest))

    def is_fetched(self, height: Height) -> bool:
        return height in self._fetched

    def issue(self, proposal: Proposal, digest: Digest, out: list[Effect]) -> None:
        """Ask for the execution of the next height; `digest` is the proposal's."""
        if proposal.height != self.issued + 1:
            raise InvariantError(f"execution of height {proposal.height} after {self.issued}")
        self.issued = Height(proposal.height)
        self._issued[self.issued] = digest
        out.append(Execute(proposal=proposal))

    def on_executed(self, header: Header, out: list[Effect]) -> None:
        """The outcome of the next height. A block that came with its certificate needs no more votes."""
        height = Height(header.height)
        if (
            height != self.executed + 1
            or height > self.issued
            or header.parent_hash != self._tip
            or header.chain_id != self._chain_id
            or header.proposal_digest != self._issued[height]
        ):
            raise InvariantError(f"executed header {height} does not extend height {self.executed}")
        digest = header_hash(header)
        self.executed, self._tip = height, digest
        self._headers[height] = (header, digest)
        self._compare(height)
        if height not in self._fetched:
            self._vote(height, digest, out)
        self._assemble(height)
        end = self._epoch.end
        self._epoch.on_executed(height)
        for certain in [at for at in sorted(self._tallies) if at > end]:  # as far as they are certain now
            self._assemble(certain)

    def cut(self, boundary: Height) -> None:
        """The epoch ends at `boundary`: what is said of higher heights does not count here."""
        for table in (self._tallies, self._certificates, self._fetched):
            for height in [height for height in table if height > boundary]:
                del table[height]

    def _vote(self, height: Height, digest: Digest, out: list[Effect]) -> None:
        said = self._safety.said_checkpoint(height)
        if said is not None and said != digest:  # execution did not repeat itself after a restart
            raise Divergence(height=height, own=digest, certified=None, reason="own_checkpoint_contradicted")
        own = self._safety.checkpoint(height=height, digest=digest, out=out)
        self._recent[height] = own
        self._tally(height).add(own)

    # --- votes and certificates ---

    def on_checkpoint(self, received: Verified[Checkpoint], out: list[Effect]) -> None:
        """Count a vote for a height in flight; this node may not have executed it yet."""
        height = Height(received.message.height)
        if not self.low < height <= self.horizon:
            return
        earlier = self._tally(height).add(received)
        if earlier is not None:
            report(out, earlier, received, reason=FaultReason.EQUIVOCATION)
            return
        self._assemble(height)

    def on_fetched(self, block: BlockFetched) -> None:
        """Take in a block that sync has verified.

        Raises:
            InvariantError: its parts do not belong together, which the driver had promised to check.
            Divergence: it contradicts what is certified or executed here.
        """
        header, certificate = block.header, block.certificate
        height = Height(header.height)
        if (
            certificate.kind != MessageType.CHECKPOINT
            or not certificate.height == height == block.proposal.height
            or certificate.digest != header_hash(header)
            or header.proposal_digest != proposal_digest(block.proposal)
            or header.chain_id != self._chain_id
        ):
            raise InvariantError(f"fetched block {height} does not hold together")
        if height <= self.low or height > self._epoch.limit(height):
            return
        known = self._certificates.setdefault(height, certificate)
        if known.digest != certificate.digest:
            raise Divergence(
                height=height, own=Digest(known.digest), certified=Digest(certificate.digest), reason="certified_twice"
            )
        self._fetched[height] = block
        self._compare(height)

    def _tally(self, height: Height) -> Tally:
        tally = self._tallies.get(height)
        if tally is None:
            tally = self._tallies[height] = Tally(self._epoch.validators)
        return tally

    def _assemble(self, height: Height) -> None:
        """Make the certificate once a quorum agrees, and notice when none can agree any more."""
        tally = self._tallies.get(height)
        if tally is None or height in self._certificates or height > self._epoch.end:
            return
        digest = tally.quorum()
        if digest is not None:
            self._certificates[height] = tally.certificate(
                kind=MessageType.CHECKPOINT, view=View(0), height=height, digest=digest
            )
            self._compare(height)
        elif height in self._headers and not tally.can_agree():
            own = self._headers[height][1]
            raise Divergence(height=height, own=own, certified=None, reason="no_quorum_can_form")

    def _compare(self, height: Height) -> None:
        certificate = self._certificates.get(height)
        executed = self._headers.get(height)
        if certificate is not None and executed is not None and certificate.digest != executed[1]:
            certified = Digest(certificate.digest)
            raise Divergence(height=height, own=executed[1], certified=certified, reason="header_differs")

    def certify(self, out: list[Effect]) -> dict[Height, Digest]:
        """Store what is certified and executed, strictly by height; returns the digests of those proposals."""
        certified: dict[Height, Digest] = {}
        while True:
            height = Height(self.low + 1)
            certificate = self._certificates.get(height)
            if certificate is None or height not in self._headers:
                break
            header, _ = self._headers[height]
            out.append(Store(header=header, certificate=certificate))
            certified[height] = Digest(header.proposal_digest)
            self._drop(height)
            self.low = height
            if self.stable is None or self.stable.height < height:
                self.stable = certificate
            self._safety.forget(height, self.stable)
        return certified

    def _drop(self, height: Height) -> None:
        for table in (self._issued, self._headers, self._tallies, self._certificates, self._fetched):
            table.pop(height, None)
        self._recent.pop(Height(height - self._window), None)

    # --- for others ---

    def own_votes(self, *, above: int) -> list[Verified[Checkpoint]]:
        """This node's checkpoint votes over `above`, ascending: in flight, and the last `window` certified ones."""
        return [self._recent[height] for height in sorted(self._recent) if height > above]

    def certified_ahead(self) -> tuple[Height, tuple[ValidatorId, ...]] | None:
        """The highest block that a quorum has signed and that is not even executed here, and who signed it."""
        ahead = [height for height in self._certificates if height > self.executed and height not in self._fetched]
        if not ahead:
            return None
        signers = self._certificates[max(ahead)].signatures
        return max(ahead), tuple(ValidatorId(entry.validator) for entry in signers)

    def executed_digest(self, height: Height) -> Digest | None:
        """The hash of the header executed here, while the block is not certified."""
        known = self._headers.get(height)
        return None if known is None else known[1]

    def restore(self, certificate: Certificate) -> None:
        """A block certificate out of the journal: the block may have been lost before it was stored."""
        height = Height(certificate.height)
        if height > self.low:
            self._certificates[height] = certificate
        if self.stable is None or self.stable.height < height:
            self.stable = certificate

    def validate_state(self) -> None:
        """Raises InvariantError if a bound or a relation between fields does not hold."""
        if not self.low <= self.executed <= self.issued:
            raise InvariantError(f"low {self.low}, executed {self.executed}, issued {self.issued} out of order")
        if sorted(self._headers) != list(range(self.low + 1, self.executed + 1)):
            raise InvariantError(f"executed headers {sorted(self._headers)} above {self.low} up to {self.executed}")
        for height in self._tallies:
            if not self.low < height <= max(self.horizon, self.issued):
                raise InvariantError(f"checkpoint votes kept for height {height} above {self.low}")
        if len(self._recent) > 3 * self._window + 1:
            raise InvariantError(f"{len(self._recent)} own checkpoint votes kept")
