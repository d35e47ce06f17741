"""A node's life on the real stores, cut short before and behind every write, sync and rename there is in it.

The life: votes and proposals into the journal, blocks and state, a view change, pruning, a snapshot. It is lived once
with a look at the disk at every operation, and each thing that a kill or a power loss could leave there is opened as a
node opens it. Then once for each operation with a disk that is full from there on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import StoreError
from chain.model.block import Certificate, Proposal, Receipt, WriteSet, header_hash, proposal_digest
from chain.model.merkle import merkle_root, pack_writes, state_root
from chain.model.snapshot import SnapshotHead, snapshot_root
from chain.model.transaction import Transaction
from chain.node.archive import BlockWriter, JournalWriter, load_journal
from chain.pipeline.bodies import LiveProposal
from chain.pipeline.execute import ExecutedBlock
from chain.pipeline.store import CertifiedBlock
from chain.store import IndexLimits, Store, StoreLimits, open_store
from chain.types import Digest
from consensus.effects import Broadcast, Effect, Persist, ProposalRecord, Send
from consensus.events import Event, Executed, ProposalPacked, Started, Timer, TransactionsWaiting
from consensus.messages import Checkpoint, Commit, Message, MessageType, Prepare, PrePrepare, Verified, ViewChange
from executor.outcome import ExecutionOutput, ExecutionStats
from tests.integration.crash_disk import Disk, Files, no_space, torn, without_unsynced, write_files
from tests.unit.consensus.members import START, Chain
from tests.unit.consensus.solo import Solo
from tests.unit.pool.transactions import make_transaction
from tests.unit.store.factory import some_writes

CHAIN: Final = Chain()
SELF: Final = 1  # leads view 1
INTERVAL: Final = 2  # heights between snapshots
LAST: Final = 5
LIMITS: Final = StoreLimits(
    blocks_map_bytes=1 << 24, state_map_bytes=1 << 24, journal_map_bytes=1 << 24, index=IndexLimits(heights=2)
)  # fmt: skip
NO_STATS: Final = ExecutionStats(
    **{item.name: "" if item.type is str else 0 for item in msgspec.structs.fields(ExecutionStats)}  # type: ignore[arg-type]
)


# --- the chain that is lived ---


@dataclass
class Made:
    """One height: what is ordered, and what executing it gives."""

    proposal: Proposal
    transactions: list[Transaction]
    block: ExecutedBlock
    certificate: Certificate
    writes: WriteSet


def make_chain() -> list[Made]:
    made: list[Made] = []
    parent = CHAIN.genesis
    for height in range(1, LAST + 1):
        transactions = [make_transaction(10 * height + at, chain_id=Digest(CHAIN.id)) for at in range(height % 3)]
        hashes = [transaction.hash for transaction in transactions]
        leader = 0 if height < 3 else SELF
        proposal = msgspec.structs.replace(
            CHAIN.proposal(height, leader=leader, timestamp_ms=1_000_000), hashes=b"".join(hashes)
        )
        writes = some_writes(height)
        receipts = tuple(
            encode(Receipt(transaction_hash=item, status=0, gas_used=1, result=b"", error="", events=()))
            for item in hashes
        )
        header = msgspec.structs.replace(
            parent, height=height, time_ms=1_000_000, parent_hash=header_hash(parent),
            proposal_digest=proposal_digest(proposal), validator_set_hash=CHAIN.validators.digest,
            transaction_count=len(hashes), transaction_root=merkle_root(hashes), receipt_root=merkle_root(receipts),
            state_root=state_root(parent.state_root, writes), gas_used=len(hashes),
        )  # fmt: skip
        output = ExecutionOutput(
            height=height, transaction_root=header.transaction_root, receipt_root=header.receipt_root,
            state_root=header.state_root, gas_used=header.gas_used, receipts=receipts, writes=pack_writes(writes),
            stats=NO_STATS,
        )  # fmt: skip
        block = ExecutedBlock(
            header=header, header_hash=header_hash(header), proposal=proposal,
            proposal_digest=proposal_digest(proposal), skipped=(), hashes=hashes, output=output,
        )  # fmt: skip
        certificate = CHAIN.certificate(
            MessageType.CHECKPOINT, height=height, digest=header_hash(header), signers=(0, 1, 2)
        )
        made.append(Made(proposal, transactions, block, certificate, writes))
        parent = header
    return made


MADE: Final = make_chain()
BODIES: Final = {proposal_digest(item.proposal): item.transactions for item in MADE}
OTHER: Final = CHAIN.proposal(3, leader=0)  # proposed in view 0 and never prepared


@dataclass
class Ledger:
    """What has been promised to others so far; it only grows."""

    sent: list[Verified[Message]] = field(default_factory=list)
    stored: int = 0  # the height of which clients were told
    snapshots: list[SnapshotHead] = field(default_factory=list)
    opened: bool = False

    def mark(self) -> tuple[int, int, int, bool]:
        return len(self.sent), self.stored, len(self.snapshots), self.opened

    def copy(self) -> Ledger:
        return Ledger(list(self.sent), self.stored, list(self.snapshots), self.opened)


class Validator(Solo):
    """The real core; what it says is sent when what it persists is durable, as its driver does it."""

    def __init__(self, journal: JournalWriter, ledger: Ledger) -> None:
        self._writer = journal
        self._ledger = ledger
        super().__init__(CHAIN, SELF)

    def step(self, event: Event) -> list[Effect]:
        effects = super().step(event)
        records = [effect.record for effect in effects if isinstance(effect, Persist)]
        done = 0
        if records:
            while not isinstance(effects[done], Persist):
                self._send(effects[done])
                done += 1
            live = [self._live(record.proposal) for record in records if isinstance(record, ProposalRecord)]
            self._writer.write(records, live)
        for effect in effects[done:]:
            self._send(effect)
        return effects

    def _send(self, effect: Effect) -> None:
        if isinstance(effect, Broadcast | Send) and effect.message.sender == self.replica.id:
            self._ledger.sent.append(effect.message)

    def _live(self, proposal: Proposal) -> LiveProposal:
        digest = proposal_digest(proposal)
        return LiveProposal(digest, proposal, BODIES.get(digest, []))


def live(folder: Path, ledger: Ledger) -> None:
    """From an empty folder to block `LAST`. Raises whatever the disk does."""
    store = open_store(folder, CHAIN.genesis, limits=LIMITS, snapshot_interval=INTERVAL)
    try:
        _live(store, ledger)
    finally:
        store.close()


def _live(store: Store, ledger: Ledger) -> None:
    ledger.opened = True
    journal, writer = JournalWriter(store.journal), BlockWriter(store)
    solo = Validator(journal, ledger)

    def certify(item: Made) -> None:
        solo.step(Executed(header=item.block.header))
        solo.certify(item.block.header, 0, 2)

    def keep(*items: Made) -> None:
        writer.write([CertifiedBlock(item.block, item.certificate) for item in items])
        ledger.stored = items[-1].block.header.height
        journal.prune_below = ledger.stored + 1
        height = store.state.snapshot_height
        if height is not None and height not in store.snapshots.heights():
            with store.state.snapshot(height) as pairs:
                ledger.snapshots.append(store.snapshots.write(height, pairs))
            store.state.release_snapshot(height)

    for item in MADE[:2]:
        solo.order(item.proposal)
    for item in MADE[:2]:
        certify(item)  # what is said of the second height is in the journal when the first one is pruned
        keep(item)
    solo.propose(OTHER)
    solo.prepare(OTHER, 0)
    solo.propose(CHAIN.proposal(4, leader=0))
    solo.fire(Timer.VIEW)
    for number in (0, 2):
        solo.hear_signed(CHAIN.view_change(number, 1, stable=MADE[1].certificate))
    assert solo.replica.view == 1
    assert not solo.replica.is_changing
    for item in MADE[2:]:
        propose_and_order(solo, item)
    for item in MADE[2:]:
        certify(item)
    keep(*MADE[2:4])
    keep(MADE[4])


def propose_and_order(solo: Validator, item: Made) -> None:
    """As the leader of view 1."""
    solo.step(TransactionsWaiting(overdue=False))
    solo.step(ProposalPacked(view=solo.replica.view, proposal=item.proposal))
    solo.prepare(item.proposal, 0, 2, view=1)
    solo.commit(item.proposal, 0, 2, view=1)


# --- what must hold of whatever is left ---


def check(files: Files, ledger: Ledger, folder: Path) -> None:
    """Opened as a node opens it; every promise of the ledger is kept."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_files(files, folder)
    for is_last in (False, True):  # recovery may be repeated
        store = open_store(folder, CHAIN.genesis, limits=LIMITS, snapshot_interval=INTERVAL)
        try:
            _check_blocks(store, ledger)
            _check_votes(store, ledger)
            _check_snapshots(store, ledger)
            if is_last:
                _go_on(store)
        finally:
            store.close()


def _state_at(height: int) -> list[tuple[bytes, bytes]]:
    values: dict[bytes, bytes | None] = {}
    for item in MADE[:height]:
        values.update(item.writes)
    return sorted((key, value) for key, value in values.items() if value is not None)


def _check_blocks(store: Store, ledger: Ledger) -> None:
    height = store.blocks.height()
    assert height >= ledger.stored, "a block of which clients were told is lost"
    assert store.state.height() == height
    assert store.state.scan(b"") == _state_at(height)
    for item in MADE[:height]:
        at = item.block.header.height
        assert store.blocks.tip().height >= at
        assert store.blocks.hashes(at) == b"".join(item.block.hashes)
        assert store.journal.proposal(item.block.proposal_digest) == (
            encode(item.proposal), [transaction.raw for transaction in item.transactions]
        ), "a block without its bodies"  # fmt: skip
    _check_index(store)


def _check_index(store: Store) -> None:
    """What is on disk of it and what was derived again are the index of all blocks here, and of no other."""
    blocks = store.blocks
    assert blocks.height() - LIMITS.index.heights < blocks.indexed_height <= blocks.height()
    here = MADE[: blocks.height()]
    assert blocks.transaction_count() == sum(len(item.block.hashes) for item in here)
    for item in MADE:
        height, hashes = item.block.header.height, item.block.hashes
        wanted = [(height, at) if item in here else None for at in range(len(hashes))]
        assert blocks.transaction_locations(hashes) == wanted
    for key in {key for item in MADE for key, _ in item.writes}:
        wrote = [item.block.header.height for item in here if key in dict(item.writes)]
        assert blocks.write_heights(key) == wrote


def _check_votes(store: Store, ledger: Ledger) -> None:
    tip = store.blocks.tip()
    data = store.blocks.certificate(tip.height)
    certificate = None if data is None else decode(Certificate, data)
    replica = CHAIN.replica(SELF, load_journal(store), last=(tip, certificate))
    replica.validate_state()
    said = {}
    for message in ledger.sent:
        assert replica._safety.may_have_said(message), f"forgotten: {message.message}"
        for key, value in _votes(message.message):
            said[key] = value
    effects = replica.step(Started(), START)
    replica.validate_state()
    for effect in effects:
        if isinstance(effect, Broadcast):
            for key, value in _votes(effect.message.message):
                assert said.get(key, value) == value, "a vote of before the crash is contradicted"
    for message in ledger.sent:
        if isinstance(message.message, Prepare) and message.message.height > tip.height:
            assert store.journal.has_proposal(message.message.digest), "voted for what is not here"


def _votes(message: Message) -> Iterator[tuple[Any, bytes]]:
    match message:
        case PrePrepare(view=view, proposal=proposal):
            yield (PrePrepare, view, proposal.height), proposal_digest(proposal)
        case Prepare(view=view, height=height, digest=digest) | Commit(view=view, height=height, digest=digest):
            yield (type(message), view, height), digest
        case Checkpoint(height=height, digest=digest):
            yield (Checkpoint, 0, height), digest
        case ViewChange(view=view):
            yield (ViewChange, view, 0), encode(message)


def _check_snapshots(store: Store, ledger: Ledger) -> None:
    heights = store.snapshots.heights()
    for head in ledger.snapshots[-2:]:
        assert head.height in heights, "a finished snapshot is lost"
    for height in heights:
        found = store.snapshots.head(height)
        assert found is not None
        assert found.root == snapshot_root(_state_at(height))


def _go_on(store: Store) -> None:
    """The rest of the chain can be stored, and what was begun for a snapshot can be finished."""
    writer = BlockWriter(store)
    for item in MADE[store.blocks.height() :]:
        raws = LiveProposal(item.block.proposal_digest, item.proposal, item.transactions)
        JournalWriter(store.journal).write((), [raws])
        writer.write([CertifiedBlock(item.block, item.certificate)])
    assert store.state.scan(b"") == _state_at(LAST)
    height = store.state.snapshot_height
    if height is not None:
        with store.state.snapshot(height) as pairs:
            assert store.snapshots.write(height, pairs).root == snapshot_root(_state_at(height))


# --- every point ---


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be had: what is asked is what is written, not whether the machine keeps it."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="headrace-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def fingerprint(files: Files) -> bytes:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(b"%d %d " % (len(name), len(data)) + name.encode() + data)
    return digest.digest()


@pytest.mark.slow
def test_a_kill_or_a_power_loss_at_any_write_sync_or_rename_breaks_no_promise(folder: Path) -> None:
    """Each thing that may be left on disk is checked with all that was promised by the time it could be left there."""
    ledger = Ledger()
    images: dict[bytes, tuple[Files, Ledger, str]] = {}
    with Disk(folder / "life") as disk:

        def take(name: str, files: Files) -> None:
            images[fingerprint(files)] = files, ledger.copy(), name

        def point(name: str) -> None:
            take(f"before {name}", disk.files())

        def after(name: str, before: Files) -> None:
            files = disk.files()
            for image in torn(before, files) if name.endswith(("commit", "write")) else ():
                take(f"torn {name}", image)
            take(f"without what nobody synced, {name}", without_unsynced(files, disk.unsynced))
            take(f"after {name}", files)

        disk.point, disk.after = point, after
        live(folder / "life", ledger)
        take("the end", disk.files())
    for files, promised, name in images.values():
        try:
            check(files, promised, folder / "again")
        except Exception as error:
            error.add_note(name)
            raise
    sys.stdout.write(f"{disk.count} operations, {len(images)} different things that may be left\n")
    assert ledger.stored == LAST
    assert [head.height for head in ledger.snapshots] == [2, 4]
    assert disk.count > 100
    assert len(images) > 100


def fail_at(folder: Path, at: int) -> tuple[Ledger, str | None]:
    """Live with a disk that takes nothing from operation `at` on; the operation's name, None if there are fewer."""
    ledger, failed = Ledger(), list[str]()
    with Disk(folder) as disk:

        def point(name: str) -> None:
            if disk.count >= at and not name.endswith(("unlink", "rmdir")):
                failed.append(name)
                raise no_space(name)

        disk.point = point
        try:
            live(folder, ledger)
        except StoreError:
            assert failed
        else:
            assert not failed, f"nobody was told that {failed[0]} has failed"
    return ledger, failed[0] if failed else None


@pytest.mark.slow
def test_a_disk_that_is_full_from_any_operation_on_is_told_and_breaks_no_promise(folder: Path) -> None:
    at = 1
    while True:
        life = folder / "life"
        ledger, name = fail_at(life, at)
        if name is None:
            break
        try:
            check(Disk(life).files(), ledger, folder / "again")
        except Exception as error:
            error.add_note(f"full at operation {at}, {name}")
            raise
        shutil.rmtree(life, ignore_errors=True)
        at += 1
    sys.stdout.write(f"{at - 1} operations failed in turn\n")
    assert at > 100
