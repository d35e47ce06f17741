"""The promises, checked from outside the core on everything that leaves an honest node.

A broken promise raises `Violation` at once, so that the story ends where it went wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chain.codec import encode, tagged_digest
from chain.model.block import Certificate, Header, Proposal, header_hash, proposal_digest
from chain.model.validators import ValidatorSchedule
from chain.sim.disk import Journal
from chain.sim.executor import SerialReference
from chain.sim.keys import verify_signature
from chain.sim.members import SimMembers
from chain.types import Digest, Height, ValidatorId, View
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
    signing_bytes,
)

TAG_SEEN = b"simulation/seen/1"


class Violation(Exception):
    """A promise of the design is broken; `promise` is its short name."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


JournalOf = Callable[[bytes], Journal | None]  # of an honest validator; None for others


def short(node: bytes) -> str:
    return node[:4].hex()


class NodeHistory:
    """What has left one honest node over all its lives."""

    def __init__(self) -> None:
        self.said: dict[tuple[int, int, int], bytes] = {}  # (type, view, height) -> digest
        self.commits: dict[int, tuple[int, bytes]] = {}  # height -> (view, digest) of the latest commit sent
        self.left_below: dict[int, int] = {}  # by epoch: it has said that it left all views below this one
        self.refused: set[tuple[int, int, bytes]] = set()  # (view, height, digest) it must not prepare
        self.executed: dict[int, bytes] = {}  # height -> proposal digest
        self.next_execute = 1
        self.next_store = 1
        self.certified = 0  # the highest block it ever had
        self.votes = 0


class Checkers:
    """One for a whole run."""

    def __init__(self, *, members: SimMembers, chain_id: Digest, genesis: Header) -> None:
        self._chain_id = chain_id
        self._histories: dict[ValidatorId, NodeHistory] = {}
        self._reference = SerialReference(genesis, members)
        self.blocks: dict[int, bytes] = {}  # height -> header hash, the first stored anywhere
        self.ordered: dict[int, bytes] = {}  # height -> proposal digest, the first executed anywhere
        self.proposed: set[bytes] = set()  # transactions a client submitted
        self.seen: dict[bytes, int] = {}  # transaction -> height at which it was executed

    @property
    def schedule(self) -> ValidatorSchedule:
        """The sets, as executing one ordered height after the other gives them."""
        return self._reference.members.schedule

    def history(self, node: ValidatorId) -> NodeHistory:
        return self._histories.setdefault(node, NodeHistory())

    # --- lives ---

    def on_boot(self, node: ValidatorId, stored: int) -> None:
        """A life begins: execution and storing go on above what is on disk."""
        history = self.history(node)
        history.next_execute = history.next_store = stored + 1
        history.certified = max(history.certified, stored)

    # --- votes ---

    def on_refused(self, node: ValidatorId, *, view: int, height: int, digest: bytes) -> None:
        """An honest node has found that it must not vote for a fresh proposal of this view."""
        self.history(node).refused.add((view, height, digest))

    def on_send(self, node: ValidatorId, message: Message, journal: Journal, *, window: int, stored: int) -> None:
        """A message of its own leaves an honest node that has stored blocks up to `stored`."""
        match message:
            case PrePrepare():
                digest = proposal_digest(message.proposal)
                key = (MessageType.PRE_PREPARE, message.view, message.proposal.height)
                self._check_view(node, message.view, key[2], "pre-prepare")
                self._durable((message.view, message.proposal.height, digest) in journal.proposal_keys, node, key)
            case Prepare() | Commit():
                digest = Digest(message.digest)
                kind = MessageType.PREPARE if isinstance(message, Prepare) else MessageType.COMMIT
                key = (kind, message.view, message.height)
                self._check_view(node, message.view, key[2], kind.name.lower())
                if kind is MessageType.PREPARE and (message.view, message.height, digest) in self.history(node).refused:
                    raise Violation("refused", f"{short(node)} prepares h{message.height}, which it has refused")
                self._durable((kind, message.view, message.height, digest) in journal.vote_keys, node, key)
                if isinstance(message, Commit):
                    self._remember_commit(node, message)
            case Checkpoint():
                digest = Digest(message.digest)
                key = (MessageType.CHECKPOINT, 0, message.height)
                self._durable((MessageType.CHECKPOINT, 0, message.height, digest) in journal.vote_keys, node, key)
                self.check_checkpoint(node, message.height, digest)
            case ViewChange():
                digest = tagged_digest(TAG_SEEN, encode(message))
                key = (MessageType.VIEW_CHANGE, message.view, self._base_of(message))
                self._durable(encode(message) in journal.view_messages, node, key)
                self._check_view_change(node, message)
            case NewView():
                digest = tagged_digest(TAG_SEEN, encode(message))
                key = (MessageType.NEW_VIEW, message.view, self._base_of(message.view_changes[0].message))
                self._durable(encode(message) in journal.view_messages, node, key)
            case Status():
                return
        at = key[2] + 1 if isinstance(message, ViewChange | NewView) else key[2]
        self._check_epoch(node, at, type(message).__name__, stored=stored)
        self._no_contradiction(node, key, digest)
        if key[2] > self.history(node).certified + window:
            raise Violation(
                "window", f"{short(node)} votes at h{key[2]} with h{self.history(node).certified} certified"
            )

    def _base_of(self, message: ViewChange) -> int:
        """The base of the epoch that a view-change belongs to."""
        stable = 0 if message.stable is None else message.stable.height
        return self.schedule.base(stable + 1)

    def _check_epoch(self, node: ValidatorId, height: int, what: str, *, stored: int) -> None:
        """Whoever votes for a height is in its set, and has stored the last block of the epoch before."""
        if node not in self.schedule.at(height):
            raise Violation("one_set", f"{short(node)}: {what} h{height}, whose validators it is none of")
        if self.schedule.base(height) > stored:
            raise Violation("barrier", f"{short(node)}: {what} h{height} with h{stored} stored")

    def on_heard(self, sender: ValidatorId, message: Message, journal_of: JournalOf) -> None:
        """A message has been found genuine: if its sender is honest, the sender must have meant exactly this."""
        journal = journal_of(sender)
        if journal is not None:
            self._check_genuine(sender, message, journal)
        if isinstance(message, NewView):
            self._check_new_view(message, journal_of)
        for certificate in message.prepared if isinstance(message, ViewChange) else ():
            key = (certificate.kind, certificate.view, certificate.height, certificate.digest)
            for vote in certificate.signatures:
                voter = journal_of(vote.validator)
                if voter is not None and key not in voter.vote_keys:
                    raise Violation("unforgeable", f"a certificate has a vote {short(vote.validator)} never gave")

    def _check_new_view(self, message: NewView, journal_of: JournalOf) -> None:
        """Its own rule for what begins a view: a quorum of distinct senders, all asking for this very view."""
        for change in message.view_changes:
            if change.message.view != message.view:
                raise Violation("new_view", f"a view-change for v{change.message.view} stands for v{message.view}")
            self.on_heard(ValidatorId(change.sender), change.message, journal_of)
        bases = {self._base_of(change.message) for change in message.view_changes}
        if len(bases) != 1:
            raise Violation("new_view", f"v{message.view} begins with view-changes of {len(bases)} epochs")
        senders = [ValidatorId(change.sender) for change in message.view_changes]
        if not self.schedule.at(bases.pop() + 1).is_quorum(senders):
            raise Violation("new_view", f"v{message.view} begins without a quorum")

    def _check_genuine(self, sender: ValidatorId, message: Message, journal: Journal) -> None:
        match message:
            case PrePrepare():
                digest = proposal_digest(message.proposal)
                genuine = (message.view, message.proposal.height, digest) in journal.proposal_keys
            case Prepare():
                genuine = (MessageType.PREPARE, message.view, message.height, message.digest) in journal.vote_keys
            case Commit():
                genuine = (MessageType.COMMIT, message.view, message.height, message.digest) in journal.vote_keys
            case Checkpoint():
                genuine = (MessageType.CHECKPOINT, 0, message.height, message.digest) in journal.vote_keys
            case ViewChange() | NewView():
                genuine = encode(message) in journal.view_messages
            case Status():
                genuine = True
        if not genuine:
            raise Violation("unforgeable", f"{short(sender)} never said this {type(message).__name__}")

    def _no_contradiction(self, node: ValidatorId, key: tuple[int, int, int], digest: bytes) -> None:
        history = self.history(node)
        history.votes += 1
        before = history.said.setdefault(key, digest)
        if before != digest:
            kind, view, height = key
            name = MessageType(kind).name.lower()
            raise Violation("no_contradiction", f"{short(node)} said two things as {name} v{view} h{height}")

    def _durable(self, holds: bool, node: ValidatorId, key: tuple[int, int, int]) -> None:
        if not holds:
            kind, view, height = key
            name = MessageType(kind).name.lower()
            raise Violation("durable_before_visible", f"{short(node)}: {name} v{view} h{height} is not in its journal")

    def _check_view(self, node: ValidatorId, view: int, height: int, what: str) -> None:
        left_below = self.history(node).left_below.get(self.schedule.base(height), 0)
        if view < left_below:
            raise Violation("left_views_stay_left", f"{short(node)}: {what} in v{view} after view-change v{left_below}")

    def _remember_commit(self, node: ValidatorId, message: Commit) -> None:
        commits = self.history(node).commits
        if message.height not in commits or commits[message.height][0] <= message.view:
            commits[message.height] = (message.view, message.digest)

    def _check_view_change(self, node: ValidatorId, message: ViewChange) -> None:
        """A commit vote claims a prepared certificate; leaving the view, the node must hand it on."""
        history = self.history(node)
        base = self._base_of(message)
        history.left_below[base] = max(history.left_below.get(base, 0), message.view)
        stable = message.stable.height if message.stable is not None else 0
        prepared = {certificate.height: certificate for certificate in message.prepared}
        for height, (view, digest) in sorted(history.commits.items()):
            if height <= stable:
                del history.commits[height]
            elif view < message.view:
                certificate = prepared.get(height)
                if certificate is None or (certificate.view, certificate.digest) < (view, b""):
                    raise Violation("prepared_handed_on", f"{short(node)}: view-change v{message.view} lacks h{height}")
                if certificate.view == view and certificate.digest != digest:
                    raise Violation(
                        "prepared_handed_on", f"{short(node)}: another digest prepared at h{height} v{view}"
                    )

    # --- the life of a block ---

    def on_execute(self, node: ValidatorId, proposal: Proposal, *, journal: Journal, fetched: bool) -> None:
        """It is told to execute: by a quorum of commits that is on its disk, or in a block that has its certificate."""
        history = self.history(node)
        digest = proposal_digest(proposal)
        if not fetched and (proposal.height, digest) not in journal.ordered_keys:
            raise Violation("ordered_before_executed", f"{short(node)} is to execute h{proposal.height}, not ordered")
        if proposal.height != history.next_execute:
            raise Violation("execute_in_order", f"{short(node)}: h{proposal.height}, not h{history.next_execute}")
        history.next_execute += 1
        if history.executed.setdefault(proposal.height, digest) != digest:
            raise Violation(
                "ordered_once", f"{short(node)} executes another proposal at h{proposal.height} than before"
            )
        if proposal.height not in self.ordered:
            self._reference.execute(proposal, digest)
        if self.ordered.setdefault(proposal.height, digest) != digest:
            raise Violation("agreement", f"two proposals ordered at h{proposal.height}, seen at {short(node)}")

    def check_checkpoint(self, node: ValidatorId, height: int, digest: bytes) -> None:
        """A vote for an executed header: of what is ordered here, and as executing one height after the other gives it.

        So nothing in it stems from an execution ahead of order that was, or should have been, thrown away.
        """
        if height not in self.history(node).executed:
            raise Violation("ordered_before_signed", f"{short(node)} signs a header of h{height}, which is not ordered")
        if digest != self._reference.hashes[height]:
            raise Violation("as_serial", f"{short(node)} signs another header of h{height} than serial execution gives")

    def on_store(self, node: ValidatorId, header: Header, certificate: Certificate) -> None:
        history = self.history(node)
        if header.height != history.next_store:
            raise Violation("store_in_order", f"{short(node)}: h{header.height}, not h{history.next_store}")
        history.next_store += 1
        history.certified = max(history.certified, header.height)
        self.check_certificate(header, certificate)
        digest = header_hash(header)
        if self._reference.hashes.get(header.height) != digest:
            raise Violation("as_serial", f"{short(node)} stores another h{header.height} than serial execution gives")
        if self.blocks.setdefault(header.height, digest) != digest:
            raise Violation("agreement", f"two blocks at h{header.height}, seen at {short(node)}")

    def check_certificate(self, header: Header, certificate: Certificate) -> None:
        """The checker's own rule, sharing no code with the core: distinct signers of a quorum's weight, this header."""
        digest = header_hash(header)
        if (
            certificate.kind != MessageType.CHECKPOINT
            or certificate.height != header.height
            or certificate.digest != digest
        ):
            raise Violation("certificate", f"h{header.height}: the certificate is about something else")
        message = signing_bytes(
            chain_id=self._chain_id,
            kind=MessageType.CHECKPOINT,
            view=View(0),
            height=Height(header.height),
            digest=digest,
        )
        weights = {
            member.id: member.weight
            for vote in certificate.signatures
            for member in self.schedule.at(header.height).members
            if member.id == vote.validator and verify_signature(member.public_key, message, vote.signature)
        }
        total = sum(member.weight for member in self.schedule.at(header.height).members)
        if header.validator_set_hash != self.schedule.at(header.height).digest:
            raise Violation("one_set", f"h{header.height} names another validator set than it has")
        if 3 * sum(weights.values()) < 2 * total + 1:
            raise Violation("certificate", f"h{header.height}: {len(weights)} distinct good signatures")

    def on_transactions(self, node: ValidatorId, height: int, transactions: Sequence[bytes]) -> None:
        """The transactions a node says it executed at a height, duplicates already skipped."""
        if height not in self.history(node).executed:
            raise Violation("ordered_before_shown", f"{short(node)} shows receipts of h{height}, which is not ordered")
        for transaction in transactions:
            if self.seen.setdefault(transaction, height) != height:
                raise Violation("executed_once", f"a transaction at h{self.seen[transaction]} again at h{height}")
            if transaction not in self.proposed:
                raise Violation("validity", f"h{height} holds a transaction nobody submitted")
