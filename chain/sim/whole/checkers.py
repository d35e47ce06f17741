"""The promises, checked on what reaches disks, wires and clients; not on what nodes think of themselves.

A checker shares no rule with the code it checks: it counts signers and reads tables on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from chain.codec import decode, encode
from chain.crypto import Scheme
from chain.model.block import (
    Certificate,
    Header,
    Proposal,
    Receipt,
    decode_header,
    header_hash,
    proposal_digest,
)
from chain.model.merkle import unpack_writes
from chain.model.signing import decode_transaction, signature_item
from chain.model.validators import ValidatorSet
from chain.sim.checkers import Violation
from chain.store.layout import unpack_parts
from chain.store.memory import Tables
from chain.types import Digest, Height, ValidatorId, View
from consensus.effects import (
    CertificateRecord,
    JournalRecord,
    NewViewRecord,
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
    ViewChange,
    signing_bytes,
)
from contracts.system.membership import scheduled_set

Verify = Callable[[int, bytes, bytes, bytes], bool]
_records: msgspec.msgpack.Decoder[JournalRecord] = msgspec.msgpack.Decoder(JournalRecord)


@dataclass(slots=True)
class Canonical:
    """A block, as the first node stored it."""

    header: Header
    digest: Digest
    receipts: dict[bytes, bytes]  # by transaction hash
    writes: list[tuple[bytes, bytes | None]]


@dataclass(slots=True)
class Memory:
    """What one node has ever made durable, over all its lives."""

    votes: dict[tuple[int, int, int], bytes] = field(default_factory=dict)  # (kind, view, height) -> digest
    proposals: set[tuple[int, int, bytes]] = field(default_factory=set)  # (view, height, digest)
    bodies: set[bytes] = field(default_factory=set)  # digests of proposals whose bodies are here
    views: set[bytes] = field(default_factory=set)  # encoded view-changes and new-views
    ordered: set[tuple[int, bytes]] = field(default_factory=set)  # (height, digest) with a quorum of commits
    changing: dict[int, int] = field(default_factory=dict)  # epoch -> highest view in a view-change of the journal
    entered: dict[int, int] = field(default_factory=dict)  # ... in a new-view
    left: dict[int, int] = field(default_factory=dict)  # epoch -> view that it said it would enter
    shown: int = 0  # the highest height that a client was told is certified here


class Sets:
    """Which validators are in force where: an epoch is named by its first height."""

    def __init__(self, first: ValidatorSet) -> None:
        self._epochs: list[tuple[int, ValidatorSet]] = [(0, first)]

    def __len__(self) -> int:
        return len(self._epochs)

    def add(self, first: int, validators: ValidatorSet) -> None:
        if first <= self._epochs[-1][0]:
            raise Violation("one_set", f"an epoch from h{first} on after one from h{self._epochs[-1][0]} on")
        self._epochs.append((first, validators))

    def at(self, height: int) -> ValidatorSet:
        return next(validators for first, validators in reversed(self._epochs) if first <= height)

    def first(self, height: int) -> int:
        return next(first for first, _ in reversed(self._epochs) if first <= height)


class Promises:
    """One for a whole run."""

    def __init__(
        self, *, chain_id: Digest, genesis: Header, validators: ValidatorSet, window: int, verify: Verify
    ) -> None:
        self._chain_id = chain_id
        self._sets = self.sets = Sets(validators)
        self._window = window
        self._verify = verify
        self._memories: dict[str, Memory] = {}
        self.blocks: dict[int, Canonical] = {0: Canonical(genesis, header_hash(genesis), {}, [])}
        self.expiries: dict[bytes, int] = {}  # of every transaction that a client has made
        self.executed: dict[bytes, int] = {}  # transaction -> height

    def memory(self, node: str) -> Memory:
        return self._memories.setdefault(node, Memory())

    # --- disks ---

    def on_commit(self, node: str, kind: str, before: Tables, after: Tables) -> str:
        """A commit is on the disk of an honest node; what it brought, in words."""
        match kind:
            case "journal":
                return self._on_journal(node, before, after)
            case "blocks":
                return self._on_blocks(node, before, after)
            case _:
                return ""

    def _on_journal(self, node: str, before: Tables, after: Tables) -> str:
        memory = self.memory(node)
        told: list[str] = []
        for digest in _added(before, after, b"digests"):
            memory.bodies.add(digest)
            told.append(f"bodies {digest[:4].hex()}")
            height = after[b"digests"].values[digest]
            self._check_bodies(node, unpack_parts(after[b"proposals"].values[height + digest]))
        for record in _added(before, after, b"records", values=True):
            told.append(self._remember(node, memory, _records.decode(record[8:])))
        return ", ".join(told)

    def _check_bodies(self, node: str, parts: list[bytes]) -> None:
        """Exactly the transactions of a proposal, each with a genuine signature."""
        proposal, *raws = parts
        transactions = [decode_transaction(raw) for raw in raws]
        if decode(Proposal, proposal).transaction_hashes() != [transaction.hash for transaction in transactions]:
            raise Violation("bodies_kept", f"{node} keeps other bodies than its proposal names")
        if not all(self._verify(*signature_item(transaction)) for transaction in transactions):
            raise Violation("signatures", f"{node} keeps a body with a signature that is none")

    def _remember(self, node: str, memory: Memory, record: JournalRecord) -> str:
        match record:
            case VoteRecord(kind=kind, view=view, height=height, digest=digest):
                said = memory.votes.setdefault((kind, view, height), digest)
                vote = MessageType(kind).name.lower()
                if said != digest:
                    raise Violation("no_contradiction", f"{node} voted twice: {vote} v{view} h{height}")
                return f"{vote} v{view} h{height} {digest[:4].hex()}"
            case ProposalRecord(view=view, proposal=proposal):
                digest = proposal_digest(proposal)
                memory.proposals.add((view, proposal.height, digest))
                if not proposal.hashes:
                    memory.bodies.add(digest)
                return f"proposal v{view} h{proposal.height} {digest[:4].hex()} ({proposal.count} tx)"
            case CertificateRecord(certificate=certificate):
                if certificate.kind == MessageType.COMMIT:
                    memory.ordered.add((certificate.height, certificate.digest))
                name = MessageType(certificate.kind).name.lower()
                return f"certificate {name} v{certificate.view} h{certificate.height}"
            case ViewChangeRecord(message=message):
                memory.views.add(encode(message))
                _raise(memory.changing, self._epoch_of_change(message), message.view)
                return f"view-change v{message.view}"
            case NewViewRecord(message=message):
                memory.views.add(encode(message))
                _raise(memory.entered, self._epoch_of_change(message.view_changes[0].message), message.view)
                return f"new-view v{message.view}"

    def _on_blocks(self, node: str, before: Tables, after: Tables) -> str:
        heights = [int.from_bytes(key, "big") for key in _added(before, after, b"blocks")]
        stored = len(before[b"blocks"].keys) if b"blocks" in before else 0
        for at, height in enumerate(heights):
            if height != stored + at:
                raise Violation("store_in_order", f"{node}: h{height} where h{stored + at} is next")
            if height:
                self._check_block(node, height, after[b"blocks"].values[height.to_bytes(8, "big")])
        return f"blocks {heights[0]}..{heights[-1]}" if heights else ""

    def _check_block(self, node: str, height: int, value: bytes) -> None:
        parts = unpack_parts(value)
        header = decode_header(parts[0])
        digest = header_hash(header)
        self._check_certificate(node, header, decode(Certificate, parts[1]))
        if header.proposal_digest not in self.memory(node).bodies:
            raise Violation("bodies_kept", f"{node} stores h{height} without its bodies")
        hashes, receipts = parts[4], unpack_parts(parts[5])
        found = dict(zip([hashes[at : at + 32] for at in range(0, len(hashes), 32)], receipts, strict=True))
        known = self.blocks.get(height)
        if known is not None:
            if known.digest != digest:
                raise Violation("agreement", f"two blocks at h{height}, seen at {node}")
            if known.receipts != found:
                raise Violation("agreement", f"two sets of receipts at h{height}, seen at {node}")
            return
        self.blocks[height] = Canonical(header, digest, found, unpack_writes(parts[6]))
        if header.parent_hash != self.blocks[height - 1].digest:
            raise Violation("chain", f"h{height} does not follow on h{height - 1}")
        for transaction, receipt in found.items():
            self._check_transaction(height, transaction, receipt)
        scheduled = scheduled_set(parts[6])
        if scheduled is not None:
            self._sets.add(height + self._window + 1, scheduled)

    def _check_transaction(self, height: int, transaction: bytes, receipt: bytes) -> None:
        if self.executed.setdefault(transaction, height) != height:
            raise Violation("executed_once", f"a transaction of h{self.executed[transaction]} again at h{height}")
        expiry = self.expiries.get(transaction)
        if expiry is None:
            raise Violation("validity", f"h{height} holds a transaction nobody submitted")
        if expiry < height:
            raise Violation("expiry", f"a transaction that expires at h{expiry} is executed at h{height}")
        if decode(Receipt, receipt).transaction_hash != transaction:
            raise Violation("receipts", f"h{height}: a receipt of another transaction")

    def _check_certificate(self, node: str, header: Header, certificate: Certificate) -> None:
        """Distinct signers of a quorum's weight in the set in force, on this very header."""
        digest, height = header_hash(header), header.height
        about = (certificate.kind, certificate.height, certificate.digest)
        if about != (MessageType.CHECKPOINT, height, digest):
            raise Violation("certificate", f"{node}: the certificate of h{height} is about something else")
        validators = self._sets.at(height)
        message = signing_bytes(
            chain_id=self._chain_id, kind=MessageType.CHECKPOINT, view=View(0), height=Height(height), digest=digest
        )
        weights: dict[bytes, int] = {}
        for vote in certificate.signatures:
            for member in validators.members:
                if member.id == vote.validator and self._verify(
                    int(Scheme.ED25519), member.public_key, message, vote.signature
                ):
                    weights[member.id] = member.weight
        total = sum(member.weight for member in validators.members)
        if 3 * sum(weights.values()) < 2 * total + 1:
            raise Violation("certificate", f"{node}: h{height} is stored with {len(weights)} distinct good signatures")
        if header.validator_set_hash != validators.digest:
            raise Violation("certificate", f"{node}: h{height} names another validator set than is in force")

    # --- wires ---

    def on_send(self, node: str, own: ValidatorId, message: Message) -> None:
        """A message of its own leaves an honest node; all it says is on its disk."""
        memory = self.memory(node)
        epoch = 0
        match message:
            case PrePrepare(view=view, proposal=proposal):
                digest = proposal_digest(proposal)
                holds = (view, proposal.height, digest) in memory.proposals and digest in memory.bodies
                what, height = "pre-prepare", proposal.height
            case Prepare(view=view, height=height, digest=digest):
                holds = memory.votes.get((MessageType.PREPARE, view, height)) == digest and digest in memory.bodies
                what = "prepare"
            case Commit(view=view, height=height, digest=digest):
                holds = memory.votes.get((MessageType.COMMIT, view, height)) == digest
                what = "commit"
            case Checkpoint(height=height, digest=digest):
                holds = memory.votes.get((MessageType.CHECKPOINT, 0, height)) == digest
                what, view = "checkpoint", -1
            case ViewChange(view=view):
                # of several in one write only the highest reaches the disk: it says all that the lower ones bound us to
                epoch = self._epoch_of_change(message)
                holds = encode(message) in memory.views or view < memory.changing.get(epoch, 0)
                what, height = "view-change", epoch
                _raise(memory.left, epoch, view)
            case NewView():  # an old one may be said again, to those who are behind
                epoch = self._epoch_of_change(message.view_changes[0].message)
                holds = encode(message) in memory.views or message.view < memory.entered.get(epoch, 0)
                what, view, height = "new-view", -1, epoch
            case _:
                return
        if not holds:
            raise Violation("durable_before_visible", f"{node} sends {what} v{view} h{height}, not on its disk")
        epoch = self._sets.first(height)
        if own not in self._sets.at(height):
            raise Violation("members_vote", f"{node} says {what} v{view} h{height} and is no validator there")
        if 0 <= view < memory.left.get(epoch, 0):
            raise Violation("left_views_stay_left", f"{node}: {what} in v{view}, having left for v{memory.left[epoch]}")

    def _epoch_of_change(self, message: ViewChange) -> int:
        """A view-change belongs to the epoch of the height above its stable certificate."""
        return self._sets.first(1 + (message.stable.height if message.stable is not None else 0))

    # --- clients ---

    def on_receipt(self, node: str, transaction: bytes, height: int, receipt: bytes | None, blocks: Tables) -> None:
        """A client was shown a certified receipt."""
        block = self.blocks.get(height)
        if block is None or block.receipts.get(transaction) != receipt:
            raise Violation("receipts", f"{node} shows another receipt of h{height} than was certified")
        if height.to_bytes(8, "big") not in blocks[b"blocks"].values:
            raise Violation("durable_before_visible", f"{node} shows h{height}, which is not on its disk")
        memory = self.memory(node)
        memory.shown = max(memory.shown, height)

    def on_boot(self, node: str, stored: int) -> None:
        """A life begins with what is on the disk."""
        shown = self.memory(node).shown
        if stored < shown:
            raise Violation("receipts", f"{node} showed h{shown} and comes back with h{stored}")

    # --- the end ---

    def check_state(self, node: str, stored: int, state: Tables) -> None:
        """The stored state is what the certified write sets up to `stored` give, one after the other."""
        values = dict(state.get(b"state", _EMPTY).values)
        expected: dict[bytes, bytes] = {}
        for height in range(1, stored + 1):
            for key, value in self.blocks[height].writes:
                if value is None:
                    expected.pop(key, None)
                else:
                    expected[key] = value
        if values != expected:
            raise Violation("state", f"{node}: the state is not what its blocks wrote")

    def check_lost(self, transactions: Mapping[bytes, int]) -> None:
        """Receipts that clients were given (transaction -> height) are still there."""
        for transaction, height in transactions.items():
            if self.executed.get(transaction) != height:
                raise Violation("receipts", f"a receipt of h{height} was given and is gone")


class _Nothing:
    values: dict[bytes, bytes] = {}  # noqa: RUF012


_EMPTY = _Nothing()


def _raise(views: dict[int, int], epoch: int, view: int) -> None:
    views[epoch] = max(views.get(epoch, 0), view)


def _added(before: Tables, after: Tables, name: bytes, *, values: bool = False) -> list[bytes]:
    """Keys (or the values) that a commit brought, ascending by key."""
    old, new = before.get(name), after.get(name)
    if new is None or new is old:
        return []
    known: Mapping[bytes, bytes] = {} if old is None else old.values
    if values:  # a key may have been used before
        return [value for key in new.keys if known.get(key) is not (value := new.values[key])]
    return [key for key in new.keys if key not in known]
