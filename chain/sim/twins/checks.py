"""The promises of the undoubled processes, checked on everything they write down, say, execute and store.

The rules here share no code with the core. What breaks one raises `Violation` at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from chain.model.block import Certificate, Header, Proposal, header_hash
from chain.model.validators import Validator, ValidatorSet
from chain.sim.checkers import Violation
from chain.sim.keys import verify_signature
from chain.types import Digest, Height, View
from consensus.effects import CertificateRecord, JournalRecord, NewViewRecord, ViewChangeRecord, VoteRecord
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Verified,
    ViewChange,
    signing_bytes,
)

VIEW_MESSAGES_KEPT = 63  # a new-view may be said again many views later
_VOTES = {Prepare: MessageType.PREPARE, Commit: MessageType.COMMIT, Checkpoint: MessageType.CHECKPOINT}


class History:
    """What one honest process has written and said in all its lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written: set[tuple[int, int, int, bytes]] = set()  # (type, view, height, digest) of votes and proposals
        self.view_messages: list[ViewChange | NewView] = []  # written, the newest last
        self.said: dict[tuple[int, int, int], bytes] = {}  # (type, view, height) -> digest
        self.commits: dict[int, tuple[int, bytes]] = {}  # height -> (view, digest) of the latest commit said
        self.ordered: set[tuple[int, bytes]] = set()  # (height, digest), written
        self.left_below = 0  # it has said that it left all views below this one
        self.executed: dict[int, bytes] = {}
        self.next_execute = 1
        self.next_store = 1
        self.certified = 0


class Checks:
    """One for a whole run."""

    def __init__(
        self, *, validators: ValidatorSet, chain_id: Digest, window: int, only: frozenset[str] | None = None
    ) -> None:
        """`only`: the promises that count, where not all of them shall."""
        self._only = only
        self._members: dict[bytes, Validator] = {member.id: member for member in validators.members}
        self._total = sum(member.weight for member in validators.members)
        self._chain_id = chain_id
        self._window = window
        self._good: set[Certificate] = set()
        self.ordered: dict[int, bytes] = {}  # height -> proposal digest, the first ordered anywhere
        self.blocks: dict[int, bytes] = {}  # height -> header hash, the first certified anywhere

    def broken(self, promise: str, text: str) -> None:
        if self._only is None or promise in self._only:
            raise Violation(promise, text)

    # --- written ---

    def on_record(self, history: History | None, record: JournalRecord) -> None:
        """`history` is None for a doubled process. It promises nothing, but what quorums say binds it as well."""
        match record:
            case CertificateRecord(certificate=certificate):
                self.check_certificate(certificate)
                if certificate.kind == MessageType.COMMIT:
                    self._agree_ordered(certificate.height, certificate.digest)
                    if history is not None:
                        history.ordered.add((certificate.height, certificate.digest))
            case NewViewRecord():
                self._check_new_view(record.message)
                if history is not None:
                    history.view_messages = [*history.view_messages[-VIEW_MESSAGES_KEPT:], record.message]
            case ViewChangeRecord() if history is not None:
                history.view_messages = [*history.view_messages[-VIEW_MESSAGES_KEPT:], record.message]
            case VoteRecord() if history is not None:
                history.written.add((record.kind, record.view, record.height, record.digest))

    def on_proposal(self, history: History, view: int, height: int, digest: bytes) -> None:
        history.written.add((MessageType.PRE_PREPARE, view, height, digest))

    def _agree_ordered(self, height: int, digest: bytes) -> None:
        if self.ordered.setdefault(height, digest) != digest:
            self.broken("agreement", f"two proposals ordered at h{height}")

    def _check_new_view(self, message: NewView) -> None:
        for change in message.view_changes:
            if change.message.view != message.view:
                self.broken("new_view", f"a view-change for v{change.message.view} stands for v{message.view}")
        if not self._is_quorum(change.sender for change in message.view_changes):
            self.broken("new_view", f"v{message.view} begins without a quorum")

    def _is_quorum(self, signers: Iterable[bytes]) -> bool:
        known = self._members
        weight = sum(known[signer].weight for signer in set(signers) if signer in known)
        return 3 * weight >= 2 * self._total + 1

    def check_certificate(self, certificate: Certificate) -> None:
        """Distinct signers, all signatures good, of a quorum's weight."""
        if certificate in self._good:
            return
        message = signing_bytes(
            chain_id=self._chain_id,
            kind=MessageType(certificate.kind),
            view=View(certificate.view),
            height=Height(certificate.height),
            digest=certificate.digest,
        )
        signers = [vote.validator for vote in certificate.signatures]
        place = f"{MessageType(certificate.kind).name.lower()} v{certificate.view} h{certificate.height}"
        if len(set(signers)) != len(signers) or not self._is_quorum(signers):
            self.broken("certificate", f"{place}: {len(set(signers))} distinct signers of {len(signers)}")
        for vote in certificate.signatures:
            if not verify_signature(self._members[vote.validator].public_key, message, vote.signature):
                self.broken("certificate", f"{place}: a signature that its signer never gave")
        self._good.add(certificate)

    # --- said ---

    def on_send(self, history: History, verified: Verified[Message]) -> None:
        """A message of its own leaves an honest process."""
        message = verified.message
        kind = type(message)
        if kind is Status:
            return
        digest = verified.digest
        if digest is None:
            self.broken("unverified", f"{history.name}: a {kind.__name__} without a digest")
            return
        if isinstance(message, Prepare | Commit | Checkpoint):
            view = 0 if isinstance(message, Checkpoint) else message.view
            key = (int(_VOTES[type(message)]), view, message.height)
            durable = (*key, digest) in history.written
            if isinstance(message, Commit):
                self._remember_commit(history, message)
            elif isinstance(message, Checkpoint) and message.height not in history.executed:
                self.broken("ordered_before_signed", f"{history.name} signs h{message.height}, which is not ordered")
        elif isinstance(message, PrePrepare):
            key = (int(MessageType.PRE_PREPARE), message.view, message.proposal.height)
            durable = (*key, digest) in history.written
        elif isinstance(message, ViewChange | NewView):
            key = (int(MessageType.VIEW_CHANGE if kind is ViewChange else MessageType.NEW_VIEW), message.view, 0)
            durable = any(message is written or message == written for written in history.view_messages)
            if isinstance(message, ViewChange):
                self._check_view_change(history, message)
        if not durable:
            self.broken("durable_before_visible", f"{history.name}: {_place(key)} is not in its journal")
        if history.said.setdefault(key, digest) != digest:
            self.broken("no_contradiction", f"{history.name} said two things as {_place(key)}")
        if isinstance(message, PrePrepare | Prepare | Commit) and message.view < history.left_below:
            left = history.left_below
            self.broken("left_views_stay_left", f"{history.name}: {_place(key)} after leaving for v{left}")
        if key[2] > history.certified + self._window:
            self.broken("window", f"{history.name}: {_place(key)} with h{history.certified} certified")

    def _remember_commit(self, history: History, message: Commit) -> None:
        known = history.commits.get(message.height)
        if known is None or known[0] <= message.view:
            history.commits[message.height] = (message.view, message.digest)

    def _check_view_change(self, history: History, message: ViewChange) -> None:
        """A commit claims a prepared certificate; leaving the view, the process must hand it on."""
        history.left_below = max(history.left_below, message.view)
        stable = 0 if message.stable is None else message.stable.height
        prepared = {certificate.height: certificate for certificate in message.prepared}
        for height, (view, digest) in sorted(history.commits.items()):
            if height <= stable:
                del history.commits[height]
            elif view < message.view:
                certificate = prepared.get(height)
                if certificate is None or certificate.view < view:
                    self.broken("prepared_handed_on", f"{history.name}: view-change v{message.view} lacks h{height}")
                elif certificate.view == view and certificate.digest != digest:
                    self.broken("prepared_handed_on", f"{history.name}: another digest prepared at h{height} v{view}")

    # --- the life of a block ---

    def on_execute(self, history: History, proposal: Proposal, digest: bytes, *, fetched: bool) -> None:
        height = proposal.height
        if not fetched and (height, digest) not in history.ordered:
            self.broken("ordered_before_executed", f"{history.name} is to execute h{height}, which is not ordered")
        if height != history.next_execute:
            self.broken("execute_in_order", f"{history.name}: h{height}, not h{history.next_execute}")
        history.next_execute += 1
        if history.executed.setdefault(height, digest) != digest:
            self.broken("ordered_once", f"{history.name} executes another proposal at h{height} than before")
        self._agree_ordered(height, digest)

    def on_store(self, history: History, header: Header, certificate: Certificate) -> None:
        digest = header_hash(header)
        about = (certificate.kind, certificate.view, certificate.height, certificate.digest)
        if about != (MessageType.CHECKPOINT, 0, header.height, digest):
            self.broken("certificate", f"h{header.height}: the certificate is about something else")
        self.check_certificate(certificate)
        if header.height != history.next_store:
            self.broken("store_in_order", f"{history.name}: h{header.height}, not h{history.next_store}")
        history.next_store += 1
        history.certified = header.height
        if self.blocks.setdefault(header.height, digest) != digest:
            self.broken("agreement", f"two blocks at h{header.height}, seen at {history.name}")

    def on_boot(self, history: History, stored: int) -> None:
        """A life begins: it goes on above the blocks that are durable."""
        history.next_execute = history.next_store = stored + 1


def _place(key: tuple[int, int, int]) -> str:
    kind, view, height = key
    return f"{MessageType(kind).name.lower()} v{view}" + (f" h{height}" if height else "")
