"""From `Signed` to `Verified`: shape, ranges, membership, nested certificates, every signature.

`examine` checks all that needs no cryptography and lists the signatures that remain, so that a driver can check them
in a batch on another thread; `verify` is the one-call path. Nothing else makes `Verified` from a peer's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias, assert_never

from chain.errors import HeadraceError, InvariantError, PeerFault
from chain.model.block import Certificate, check_proposal_shape
from chain.model.validators import ValidatorSet
from chain.types import DIGEST_BYTES, SIGNATURE_BYTES, Digest, Height, ValidatorId, View
from consensus.epoch import Epoch, epoch_height
from consensus.messages import (
    VIEW_MAX,
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    Status,
    Verified,
    ViewChange,
    signing_bytes,
    subject,
)

WINDOW_MAX: Final = 64  # the largest window that a genesis may ask for
HEIGHT_MAX: Final = 2**63 - 1

SignatureItem: TypeAlias = tuple[bytes, bytes, bytes]  # Ed25519 public key, message, signature
VerifySignature: TypeAlias = Callable[[bytes, bytes, bytes], bool]


class OtherEpoch(HeadraceError):
    """A message of an earlier or later epoch, or of one that is not known here yet: nobody's fault, and dropped.

    `certified` is the block that its sender claims to have, if it says so. Its signature has not been checked.
    """

    def __init__(self, certified: Height | None) -> None:
        super().__init__("other_epoch: its sender votes, or voted, with other validators")
        self.certified = certified


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A message in which only the signatures are still to be checked: all of `items`, without exception."""

    signed: Signed[Message]
    digest: Digest
    items: tuple[SignatureItem, ...]

    def verified(self) -> Verified[Message]:
        """To be called only after every signature of `items` has been found good."""
        signed = self.signed
        return Verified(sender=signed.sender, message=signed.message, signature=signed.signature, digest=self.digest)


def verify(
    signed: Signed[Message],
    *,
    validators: ValidatorSet | None = None,
    chain_id: bytes,
    verify_signature: VerifySignature,
    window: int = WINDOW_MAX,
    epoch: Epoch | None = None,
) -> Verified[Message]:
    """Check everything about `signed` that does not depend on the replica's state but for its epoch.

    Raises:
        PeerFault: whatever is wrong with it; the text begins with a snake_case reason.
        OtherEpoch: it cannot be judged by this epoch's validators.
    """
    examined = examine(signed, validators=validators, epoch=epoch, chain_id=chain_id, window=window)
    _check_items(examined.items, verify_signature)
    return examined.verified()


def verification_items(
    signed: Signed[Message], *, validators: ValidatorSet, chain_id: bytes, window: int = WINDOW_MAX
) -> tuple[SignatureItem, ...]:
    """The signatures of `signed`, its own and the nested ones, each once. Raises PeerFault as `examine` does."""
    return examine(signed, validators=validators, chain_id=chain_id, window=window).items


def examine(
    signed: Signed[Message],
    *,
    validators: ValidatorSet | None = None,
    epoch: Epoch | None = None,
    chain_id: bytes,
    window: int = WINDOW_MAX,
) -> Examined:
    """All checks of `verify` except the signatures. Either `validators`, who never change, or the receiver's `epoch`.

    Raises:
        PeerFault: unknown sender, a field out of range, a nested part that does not hold.
        OtherEpoch: it cannot be judged by this epoch's validators.
    """
    if epoch is None:
        if validators is None:
            raise InvariantError("a message is examined against a validator set or an epoch")
        epoch = Epoch(validators)
    examination = _Examination(epoch=epoch, chain_id=chain_id, window=window)
    digest = examination.message(signed.sender, signed.message, signed.signature)
    return Examined(signed=signed, digest=digest, items=tuple(dict.fromkeys(examination.items)))


def certificate_items(
    certificate: Certificate, *, kind: MessageType, validators: ValidatorSet, chain_id: bytes
) -> tuple[SignatureItem, ...]:
    """The signatures of `certificate`, its shape, signers and weight checked.

    Raises:
        PeerFault: another kind, a field out of range, signers not distinct and ascending members, less than a quorum.
    """
    examination = _Examination(epoch=Epoch(validators), chain_id=chain_id, window=WINDOW_MAX)
    examination.certificate(certificate, kind, validators)
    return tuple(examination.items)


def verify_certificate(
    certificate: Certificate,
    *,
    validators: ValidatorSet,
    chain_id: bytes,
    verify_signature: VerifySignature,
    kind: MessageType = MessageType.CHECKPOINT,
) -> None:
    """Check a certificate that came alone (sync, restart, export).

    Raises:
        PeerFault: as `certificate_items`, or a signature is wrong.
    """
    items = certificate_items(certificate, kind=kind, validators=validators, chain_id=chain_id)
    _check_items(items, verify_signature)


def _check_items(items: Iterable[SignatureItem], verify_signature: VerifySignature) -> None:
    for public_key, message, signature in items:
        if not verify_signature(public_key, message, signature):
            raise PeerFault("bad_signature: a signature does not match its signer and subject")


def _require(condition: bool, reason: str, detail: str) -> None:
    if not condition:
        raise PeerFault(f"{reason}: {detail}")


class _Examination:
    """One pass over a message; collects the signatures it meets."""

    def __init__(self, *, epoch: Epoch, chain_id: bytes, window: int) -> None:
        self._epoch = epoch
        self._validators: ValidatorSet = epoch.validators
        self._chain_id = chain_id
        self._window = window
        self.items: list[SignatureItem] = []

    def message(self, sender: ValidatorId, message: Message, signature: bytes) -> Digest:
        heights = _epoch_heights(message)
        self._place(message, heights)
        member = self._validators.get(sender)
        if member is None:
            is_later = any(height > self._epoch.end for height in heights)
            if is_later or (isinstance(message, Status) and not self._epoch.is_fixed):
                raise OtherEpoch(_claim(message))  # a validator of an epoch to come, or one who only follows
            raise PeerFault("unknown_sender: not a member of the validator set")
        _require(len(signature) == SIGNATURE_BYTES, "bad_signature", f"{len(signature)} bytes")
        self._shape(sender, message)
        covered = subject(message)
        self.items.append((member.public_key, covered.signing_bytes(self._chain_id), signature))
        return covered.digest

    def _place(self, message: Message, heights: tuple[int, ...]) -> None:
        """Votes are for a height; what is said about views is said in the epoch above the stable certificate.

        A vote above what is certain may turn out to be this epoch's. What nests certificates cannot be checked by then.
        """
        past = [1 <= height <= self._epoch.base for height in heights]
        if past and all(past):
            raise OtherEpoch(None)
        _require(not any(past), "bad_new_view", "view-changes of two epochs")
        is_later = any(height > self._epoch.end for height in heights)
        if is_later and isinstance(message, ViewChange | NewView):
            raise OtherEpoch(None)
        if self._epoch.boundary is not None and is_later and not isinstance(message, Checkpoint):
            raise OtherEpoch(None)

    def _shape(self, sender: ValidatorId, message: Message) -> None:
        match message:
            case PrePrepare():
                self._pre_prepare(sender, message)
            case Prepare() | Commit():
                self._view(message.view, lowest=0)
                self._vote(message.height, message.digest)
            case Checkpoint():
                self._vote(message.height, message.digest)
            case ViewChange():
                self._view_change(message)
            case NewView():
                self._new_view(sender, message)
            case Status():
                self._view(message.view, lowest=0)
                _require(0 <= message.certified <= message.ordered <= HEIGHT_MAX, "bad_height", "in a status")
            case _:
                assert_never(message)

    def _view(self, view: int, *, lowest: int) -> None:
        _require(lowest <= view <= VIEW_MAX, "bad_view", f"{view}, must be {lowest}..{VIEW_MAX}")

    def _vote(self, height: int, digest: bytes) -> None:
        _require(1 <= height <= HEIGHT_MAX, "bad_height", f"{height}, must be 1..{HEIGHT_MAX}")
        _require(len(digest) == DIGEST_BYTES, "bad_digest", f"{len(digest)} bytes, must be {DIGEST_BYTES}")

    def _leads(self, sender: ValidatorId, view: int) -> None:
        _require(self._validators.leader(View(view)) == sender, "not_leader", f"of view {view}")

    def _pre_prepare(self, sender: ValidatorId, message: PrePrepare) -> None:
        proposal = message.proposal
        self._view(message.view, lowest=0)
        if proposal.height > self._epoch.end and self._validators.leader(View(message.view)) != sender:
            raise OtherEpoch(None)
        self._leads(sender, message.view)
        _require(check_proposal_shape(proposal), "bad_proposal", "a field has the wrong length or range")
        _require(proposal.height >= 1, "bad_height", f"{proposal.height}, must be 1..{HEIGHT_MAX}")
        _require(proposal.chain_id == self._chain_id, "wrong_chain", "the proposal is for another chain")
        _require(proposal.proposer == sender, "bad_proposer", "a fresh proposal names its leader")

    def certificate(self, certificate: Certificate, kind: MessageType, validators: ValidatorSet) -> None:
        """Of `validators`. A block's certificate has view 0."""
        _require(certificate.kind == kind, "bad_certificate", f"kind {certificate.kind}, must be {int(kind)}")
        self._view(certificate.view, lowest=0)
        _require(kind != MessageType.CHECKPOINT or certificate.view == 0, "bad_certificate", "a block's view is 0")
        self._vote(certificate.height, certificate.digest)
        signers = [ValidatorId(entry.validator) for entry in certificate.signatures]
        _require(
            all(low < high for low, high in pairwise(signers)),
            "bad_certificate",
            "signers must be distinct and ascending",
        )
        message = signing_bytes(
            chain_id=self._chain_id,
            kind=kind,
            view=View(certificate.view),
            height=Height(certificate.height),
            digest=certificate.digest,
        )
        for entry in certificate.signatures:
            member = validators.get(ValidatorId(entry.validator))
            if member is None:
                raise PeerFault("bad_certificate: signed by a stranger")
            _require(len(entry.signature) == SIGNATURE_BYTES, "bad_signature", f"{len(entry.signature)} bytes")
            self.items.append((member.public_key, message, entry.signature))
        _require(validators.is_quorum(signers), "bad_certificate", "less than a quorum")

    def _view_change(self, message: ViewChange) -> None:
        self._view(message.view, lowest=1)
        height = 0
        if message.stable is not None:
            height = message.stable.height
            self.certificate(message.stable, MessageType.CHECKPOINT, self._certifiers(height))
        last = height + self._window
        for certificate in message.prepared:
            _require(height < certificate.height <= last, "bad_view_change", "prepared heights ascend in the window")
            _require(certificate.view < message.view, "bad_view_change", "prepared in a view not yet left")
            _require(certificate.height <= self._epoch.limit(certificate.height), "bad_view_change", "of two epochs")
            self.certificate(certificate, MessageType.PREPARE, self._validators)
            height = certificate.height

    def _certifiers(self, height: int) -> ValidatorSet:
        """Who certified the stable block: the base is the last block of the epoch before."""
        previous = self._epoch.previous
        return previous if previous is not None and height == self._epoch.base else self._validators

    def _new_view(self, sender: ValidatorId, message: NewView) -> None:
        self._view(message.view, lowest=1)
        self._leads(sender, message.view)
        senders = [ValidatorId(entry.sender) for entry in message.view_changes]
        _require(
            all(low < high for low, high in pairwise(senders)),
            "bad_new_view",
            "senders of view-changes must be distinct and ascending",
        )
        for entry in message.view_changes:
            _require(entry.message.view == message.view, "bad_new_view", "a view-change for another view")
            self.message(ValidatorId(entry.sender), entry.message, entry.signature)
        _require(self._validators.is_quorum(senders), "bad_new_view", "less than a quorum of view-changes")


def _epoch_heights(message: Message) -> tuple[int, ...]:
    """The heights that decide which epoch a message belongs to. A status belongs to none."""
    match message:
        case PrePrepare(proposal=proposal):
            return (proposal.height,)
        case Prepare(height=height) | Commit(height=height) | Checkpoint(height=height):
            return (height,)
        case ViewChange(stable=stable):
            return (epoch_height(stable),)
        case NewView(view_changes=changes):
            return tuple(epoch_height(change.message.stable) for change in changes)
        case Status():
            return ()
        case _:
            assert_never(message)


def _claim(message: Message) -> Height | None:
    match message:
        case Status(certified=height) | Checkpoint(height=height):
            return Height(height) if 0 <= height <= HEIGHT_MAX else None
        case _:
            return None
