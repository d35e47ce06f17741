"""What must hold of a fetched block before anything of it is used; everything but the order of heights on the chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chain.codec import decode
from chain.crypto import Scheme, verify_batch
from chain.errors import BadInput, PeerFault
from chain.model.block import Certificate, Header, Proposal, decode_header, header_hash, proposal_digest
from chain.model.signing import SignatureItem, signature_item
from chain.model.transaction import Transaction
from chain.model.validators import ValidatorSchedule, ValidatorSet
from chain.store.layout import decode_integers, decode_parts
from chain.sync.proposals import match_bodies
from chain.sync.wire import FetchedBlock
from chain.types import Digest
from consensus.messages import MessageType
from consensus.verification import certificate_items

VerifyBatch = Callable[[Sequence[SignatureItem]], Sequence[bool]]
_ED25519: Final = int(Scheme.ED25519)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBlock:
    """Header, certificate and genuine bodies that belong together. `certified_by` is the digest of the validator set
    whose quorum has signed; None: the header names a set that is not known here yet, and nothing was checked."""

    proposal: Proposal
    digest: Digest
    transactions: Sequence[Transaction]
    header: Header
    certificate: Certificate
    skipped: tuple[int, ...] = ()
    certified_by: bytes | None = None


class BlockChecker:
    """Checks in batches; for threads."""

    def __init__(
        self, *, chain_id: bytes, schedule: Callable[[], ValidatorSchedule], verify: VerifyBatch = verify_batch
    ) -> None:
        self._chain_id = chain_id
        self._schedule = schedule
        self._verify = verify

    def check(self, blocks: Sequence[FetchedBlock], first: int) -> list[CheckedBlock]:
        """The blocks of the heights from `first` on, all their signatures in one batch.

        Raises:
            BadInput: something does not belong together, or a signature or certificate is not good.
        """
        sets: dict[bytes, ValidatorSet] = {validators.digest: validators for _, validators in self._schedule().epochs}
        checked: list[CheckedBlock] = []
        items: list[SignatureItem] = []
        for height, block in enumerate(blocks, first):
            one, more = self._examine(block, height, sets)
            checked.append(one)
            items += more
        if not all(self._verify(items)):
            raise BadInput("bad_signature", f"a signature of the blocks {first}..{first + len(blocks) - 1} is wrong")
        return checked

    def check_certificate(self, certificate: Certificate, validators: ValidatorSet) -> None:
        """A certificate alone, against the set that is in force at its height. Raises BadInput."""
        if not all(self._verify(self._certificate_items(certificate, validators))):
            raise BadInput("bad_certificate", f"a signature of certificate {certificate.height} is wrong")

    def _certificate_items(self, certificate: Certificate, validators: ValidatorSet) -> list[SignatureItem]:
        try:
            items = certificate_items(
                certificate, kind=MessageType.CHECKPOINT, validators=validators, chain_id=self._chain_id
            )
        except PeerFault as fault:
            raise BadInput("bad_certificate", str(fault)) from None
        return [(_ED25519, *item) for item in items]

    def _examine(
        self, block: FetchedBlock, height: int, sets: Mapping[bytes, ValidatorSet]
    ) -> tuple[CheckedBlock, list[SignatureItem]]:
        header = decode_header(block.header)
        certificate = decode(Certificate, block.certificate)
        raw_proposal, *raws = decode_parts(block.bodies) or [b""]
        proposal = decode(Proposal, raw_proposal)
        digest = proposal_digest(proposal)
        if header.height != height or proposal.height != height or certificate.height != height:
            raise BadInput("wrong_height", f"block {header.height} where {height} was asked for")
        if header.chain_id != self._chain_id:
            raise BadInput("wrong_chain", f"block {height} is of another chain")
        if certificate.digest != header_hash(header) or header.proposal_digest != digest:
            raise BadInput("wrong_block", f"header, certificate and proposal of block {height} differ")
        transactions = match_bodies(proposal, raws)
        items = [signature_item(transaction) for transaction in transactions]
        validators = sets.get(header.validator_set_hash)
        if validators is not None:
            items += self._certificate_items(certificate, validators)
        one = CheckedBlock(
            proposal=proposal,
            digest=digest,
            transactions=transactions,
            header=header,
            certificate=certificate,
            skipped=decode_integers(block.skipped),
            certified_by=None if validators is None else validators.digest,
        )
        return one, items
