"""The only module that signs. It remembers what this validator has said and refuses to contradict it.

Every vote goes `Persist` first, `Broadcast` second. A vote said before (also before a restart) may be repeated, without
another `Persist`; one that contradicts is our bug and raises `InvariantError`.
"""

from __future__ import annotations

from typing import Protocol, TypeVar, assert_never

from chain.errors import InvariantError
from chain.model.block import Certificate, Proposal
from chain.model.validators import ValidatorSet
from chain.types import Digest, Height, ValidatorId, View
from consensus.effects import (
    Broadcast,
    CertificateRecord,
    Effect,
    JournalRecord,
    NewViewRecord,
    Persist,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    SignedViewChange,
    Status,
    Subject,
    Verified,
    ViewChange,
    subject,
)

M = TypeVar("M", bound=Message)


class Signer(Protocol):
    """The validator key. Deterministic, so that `Replica.step` stays a pure function."""

    @property
    def validator_id(self) -> ValidatorId: ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 over `message`."""
        ...


class Safety:
    """What this validator has said above `floor`, and the key with which it says more."""

    def __init__(self, *, signer: Signer, validators: ValidatorSet, chain_id: bytes, floor: Height) -> None:
        self._signer = signer
        self._validators = validators
        self._chain_id = chain_id
        self.id = signer.validator_id
        self.view = View(0)  # the view it is in, or (`changing`) the one it waits for
        self.changing = False
        self.floor = floor  # nothing is signed at or below it
        self._proposals: dict[Height, tuple[View, Digest]] = {}
        self._prepares: dict[Height, tuple[View, Digest]] = {}
        self._commits: dict[Height, tuple[View, Digest]] = {}
        self._checkpoints: dict[Height, Digest] = {}
        self._unwritten: Certificate | None = None

    # --- what the journal says ---

    def remember(self, record: JournalRecord) -> None:
        """Take in one record of the journal, in the order of writing."""
        match record:
            case VoteRecord(kind=kind, view=view, height=height, digest=digest):
                if height > self.floor:
                    self._remember_vote(MessageType(kind), View(view), Height(height), Digest(digest))
            case ViewChangeRecord(message=message):
                self.view, self.changing = View(message.view), True
            case NewViewRecord(message=message):
                self.view, self.changing = View(message.view), False
            case ProposalRecord() | CertificateRecord():
                pass

    def remember_proposal(self, *, view: View, height: Height, digest: Digest) -> None:
        """A proposal accepted in `view`: if this validator led it, it may have signed a pre-prepare for it."""
        if height > self.floor and self._validators.leader(view) == self.id:
            said = self._proposals.get(height)
            if said is None or said[0] < view:  # a second one of this view was obtained, not proposed
                self._proposals[height] = (view, digest)

    def _remember_vote(self, kind: MessageType, view: View, height: Height, digest: Digest) -> None:
        if kind is MessageType.PREPARE:
            _raise_to(self._prepares, view, height, digest)
        elif kind is MessageType.COMMIT:
            _raise_to(self._commits, view, height, digest)
        elif kind is MessageType.CHECKPOINT:
            self._checkpoints[height] = digest

    def said_prepare(self, *, view: View, height: Height) -> Digest | None:
        """The digest this validator voted to prepare at (view, height)."""
        said = self._prepares.get(height)
        return said[1] if said is not None and said[0] == view else None

    def said_checkpoint(self, height: Height) -> Digest | None:
        return self._checkpoints.get(height)

    def may_have_said(self, received: Verified[Message]) -> bool:
        """False: this message bears our signature and we have not sent it, so another process has our key.

        True proves nothing: what was said at or below `floor`, or in a lower view than the last vote, is forgotten.
        """
        match received.message:
            case PrePrepare(view=view, proposal=proposal):
                digest = subject(received.message).digest if received.digest is None else received.digest
                return self._may_have_voted(self._proposals, View(view), Height(proposal.height), digest)
            case Prepare(view=view, height=height, digest=digest):
                return self._may_have_voted(self._prepares, View(view), Height(height), Digest(digest))
            case Commit(view=view, height=height, digest=digest):
                return self._may_have_voted(self._commits, View(view), Height(height), Digest(digest))
            case Checkpoint(height=height, digest=digest):
                return height <= self.floor or self._checkpoints.get(Height(height)) == digest
            case ViewChange(view=view) | NewView(view=view):
                return view <= self.view
            case Status():
                return True
            case _:
                assert_never(received.message)

    def _may_have_voted(
        self, table: dict[Height, tuple[View, Digest]], view: View, height: Height, digest: Digest
    ) -> bool:
        said = table.get(height)
        return height <= self.floor or (said is not None and (view < said[0] or said == (view, digest)))

    def forget(self, floor: Height, stable: Certificate | None) -> None:
        """Block `floor` is certified and executed here: no vote at or below it is given any more."""
        self.floor = floor
        self._unwritten = stable
        for table in (self._proposals, self._prepares, self._commits, self._checkpoints):
            for height in [height for height in table if height <= floor]:
                del table[height]

    # --- votes ---

    def pre_prepare(self, *, view: View, proposal: Proposal, digest: Digest, out: list[Effect]) -> Verified[PrePrepare]:
        """The leader's proposal; one a (view, height)."""
        height = Height(proposal.height)
        self._check_active(view, height)
        if self._validators.leader(view) != self.id:
            raise InvariantError(f"pre-prepare at height {height} in view {view}, which this validator does not lead")
        if not _repeats(self._proposals, view, height, digest, "pre-prepare"):
            self._persist(ProposalRecord(view=view, proposal=proposal), out)
        covered = Subject(kind=MessageType.PRE_PREPARE, view=view, height=height, digest=digest)
        return self._say(PrePrepare(view=view, proposal=proposal), out, covered)

    def prepare(self, *, view: View, height: Height, digest: Digest, out: list[Effect]) -> Verified[Prepare]:
        self._check_active(view, height)
        if not _repeats(self._prepares, view, height, digest, "prepare"):
            self._persist(VoteRecord(kind=MessageType.PREPARE, view=view, height=height, digest=digest), out)
        return self._say(Prepare(view=view, height=height, digest=digest), out)

    def commit(self, *, prepared: Certificate, out: list[Effect]) -> Verified[Commit]:
        """A commit is explained by the prepared certificate, which is journalled before it."""
        view, height, digest = View(prepared.view), Height(prepared.height), Digest(prepared.digest)
        self._check_active(view, height)
        signers = [ValidatorId(entry.validator) for entry in prepared.signatures]
        if prepared.kind != MessageType.PREPARE or not self._validators.is_quorum(signers):
            raise InvariantError(f"commit at height {height} without a prepared certificate")
        if not _repeats(self._commits, view, height, digest, "commit"):
            self._persist(CertificateRecord(certificate=prepared), out)
            self._persist(VoteRecord(kind=MessageType.COMMIT, view=view, height=height, digest=digest), out)
        return self._say(Commit(view=view, height=height, digest=digest), out)

    def checkpoint(self, *, height: Height, digest: Digest, out: list[Effect]) -> Verified[Checkpoint]:
        """The executed header. Independent of views: also given while the view changes."""
        self._check_above_floor(height)
        said = self._checkpoints.get(height)
        if said is not None and said != digest:
            raise InvariantError(f"second checkpoint vote at height {height}: {digest.hex()} after {said.hex()}")
        if said is None:
            self._checkpoints[height] = digest
            self._persist(VoteRecord(kind=MessageType.CHECKPOINT, view=0, height=height, digest=digest), out)
        return self._say(Checkpoint(height=height, digest=digest), out)

    # --- views ---

    def view_change(
        self, *, view: View, stable: Certificate | None, prepared: tuple[Certificate, ...], out: list[Effect]
    ) -> Verified[ViewChange]:
        """Leave all views below `view`; from here on no prepare and no commit until `enter`."""
        if view <= self.view:
            raise InvariantError(f"view-change to {view} from view {self.view}")
        verified = self._sign(ViewChange(view=view, stable=stable, prepared=prepared))
        self.view, self.changing = view, True
        self._persist(ViewChangeRecord(message=verified.message, signature=verified.signature), out)
        out.append(Broadcast(message=verified))
        return verified

    def new_view(self, *, view: View, view_changes: tuple[Verified[ViewChange], ...]) -> Verified[NewView]:
        """The certificate for the view this validator leads; `enter` makes it durable before it is broadcast."""
        if view != self.view or not self.changing or self._validators.leader(view) != self.id:
            raise InvariantError(f"new-view {view} from view {self.view}")
        signed = tuple(
            SignedViewChange(sender=change.sender, message=change.message, signature=change.signature)
            for change in view_changes
        )
        return self._sign(NewView(view=view, view_changes=signed))

    def enter(self, new_view: Verified[NewView], out: list[Effect]) -> None:
        view = View(new_view.message.view)
        if view < self.view or (view == self.view and not self.changing):
            raise InvariantError(f"entering view {view} from view {self.view}")
        self.view, self.changing = view, False
        record = NewViewRecord(sender=new_view.sender, message=new_view.message, signature=new_view.signature)
        self._persist(record, out)
        if new_view.sender == self.id:
            out.append(Broadcast(message=new_view))

    def own_view_change(self, record: ViewChangeRecord) -> Verified[ViewChange]:
        """The view-change of the journal, as it was sent."""
        return Verified(sender=self.id, message=record.message, signature=record.signature)

    def status(self, *, certified: Height, ordered: Height) -> Verified[Status]:
        """Where this replica stands; it promises nothing, so it is not remembered."""
        return self._sign(Status(view=self.view, changing=self.changing, certified=certified, ordered=ordered))

    # --- inside ---

    def _check_above_floor(self, height: Height) -> None:
        if height <= self.floor:
            raise InvariantError(f"vote at height {height}, at or below the certified height {self.floor}")

    def _check_active(self, view: View, height: Height) -> None:
        self._check_above_floor(height)
        if self.changing or view != self.view:
            raise InvariantError(f"vote in view {view} while in view {self.view}, changing: {self.changing}")

    def _sign(self, message: M, covered: Subject | None = None) -> Verified[M]:
        covered = covered or subject(message)
        signature = self._signer.sign(covered.signing_bytes(self._chain_id))
        return Verified(sender=self.id, message=message, signature=signature, digest=covered.digest)

    def _say(self, message: M, out: list[Effect], covered: Subject | None = None) -> Verified[M]:
        verified = self._sign(message, covered)
        out.append(Broadcast(message=verified))
        return verified

    def _persist(self, record: JournalRecord, out: list[Effect]) -> None:
        if self._unwritten is not None:
            out.append(Persist(record=CertificateRecord(certificate=self._unwritten)))
            self._unwritten = None
        out.append(Persist(record=record))


def _raise_to(table: dict[Height, tuple[View, Digest]], view: View, height: Height, digest: Digest) -> None:
    """Keep what was said in the highest view; of two in one view the first, which is the one that was sent."""
    said = table.get(height)
    if said is None or said[0] < view:
        table[height] = (view, digest)


def _repeats(
    table: dict[Height, tuple[View, Digest]], view: View, height: Height, digest: Digest, what: str
) -> bool:
    """True if this very vote was given before; records it if there is none yet."""
    said = table.get(height)
    if said is not None:
        if said[0] > view or (said[0] == view and said[1] != digest):
            raise InvariantError(f"{what} at ({view}, {height}) for {digest.hex()} contradicts {said[1].hex()}")
        if said[0] == view:
            return True
    table[height] = (view, digest)
    return False
