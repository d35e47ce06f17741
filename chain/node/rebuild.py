"""`headrace doctor rebuild`: the state of a stopped node made again from its certified blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from chain.codec import decode
from chain.crypto import Scheme, verify
from chain.errors import BadInput, PeerFault, StoreError
from chain.model.block import SNAPSHOT_LAG, Certificate, decode_header, header_hash
from chain.model.genesis import Genesis, genesis_header
from chain.model.trust import SETS_PREFIX
from chain.model.validators import ValidatorSchedule
from chain.node.divergence import REPORT, load_divergence
from chain.store import JournalStore, StoredChain
from chain.store.lock import FolderLock
from consensus import verify_certificate
from consensus.effects import JournalRecord, VoteRecord
from consensus.messages import MessageType
from contracts.system.membership import scheduled_rows

WORK: Final = "rebuilding"
OLD_STATE: Final = "state.replaced"
PROGRESS_BLOCKS: Final = 1_000

_records: msgspec.msgpack.Decoder[JournalRecord] = msgspec.msgpack.Decoder(JournalRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What was done."""

    height: int  # of the state now; so many certificates were checked
    votes_taken_back: int
    report_kept_as: Path | None
    old_state: Path


def rebuild_state(
    data: Path,
    genesis: Genesis,
    *,
    take_back_vote: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Rebuilt:
    """Makes `data/state` again from the write sets of the stored blocks, each checked against its header, the headers
    against each other and against their certificates. The old state stays beside it as `state.replaced`.

    `take_back_vote` is a height above the stored ones: this node's own checkpoint votes from there on are taken out of
    its journal, so that it may come to another header. That is safe only if the header it voted for can get no
    certificate any more: another one has it, or no quorum of equal headers can form.

    Raises:
        StoreError: the node runs, something stored is damaged, or the disk refuses; the old state is untouched.
        BadInput: `pruned`: not all blocks are here; `out_of_range`: `take_back_vote` is not above the stored blocks.
    """
    lock = FolderLock(data)
    try:
        shutil.rmtree(data / WORK, ignore_errors=True)
        with StoredChain(data, genesis_header(genesis)) as stored:
            tip = stored.blocks.height()
            if take_back_vote is not None and take_back_vote <= tip:
                raise BadInput(
                    "out_of_range", f"the vote to take back is for height {take_back_vote}, block {tip} is stored"
                )
            with stored.state_before(
                tip + 1, data / WORK, lambda done, total: progress("making the state again", done, total),
                snapshot_interval=genesis.parameters.snapshot_interval,
            ) as state:  # fmt: skip
                height = state.height()
                schedule = ValidatorSchedule.of_genesis(genesis)
                schedule.restore(scheduled_rows(state.scan(SETS_PREFIX)))
            _check_chain(stored, genesis, schedule, progress)
        _drop_uncertified_snapshots(data, tip)
        _put_in_place(data)
        taken = 0 if take_back_vote is None else _take_back(data, genesis, take_back_vote)
        kept = _put_report_aside(data)
        return Rebuilt(
            height=height, votes_taken_back=taken, report_kept_as=kept, old_state=data / OLD_STATE
        )
    finally:
        lock.release()


def _check_chain(
    stored: StoredChain, genesis: Genesis, schedule: ValidatorSchedule, progress: Callable[[str, int, int], None]
) -> None:
    """Headers follow each other and each is certified by the set of its height.

    That set was scheduled by blocks below, whose write sets lead to their state roots: from genesis on, each
    certificate stands on those before it. Raises StoreError.
    """
    parent, tip = genesis_header(genesis), stored.blocks.height()
    for height in range(1, tip + 1):
        raw, signed = stored.blocks.header(height), stored.blocks.certificate(height)
        if raw is None or signed is None:
            raise BadInput("pruned", f"block {height} is not in {stored.path}: let the node begin with an empty folder")
        header, certificate = decode_header(raw), decode(Certificate, signed)
        validators = schedule.at(height)
        if (
            header.parent_hash != header_hash(parent)
            or certificate.digest != header_hash(header)
            or header.validator_set_hash != validators.digest
        ):
            raise StoreError(f"{stored.path}: block {height} does not follow block {height - 1}, or is not certified")
        try:
            verify_certificate(
                certificate, validators=validators, chain_id=header.chain_id, verify_signature=_verify_vote
            )
        except PeerFault as error:
            raise StoreError(f"{stored.path}: the certificate of block {height} is wrong: {error}") from None
        parent = header
        if height % PROGRESS_BLOCKS == 0:
            progress("checking certificates", height, tip)


def _verify_vote(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return verify(Scheme.ED25519, public_key, message, signature)


def _drop_uncertified_snapshots(data: Path, tip: int) -> None:
    """A snapshot that no stored header commits to was made from the old state: the node takes it again from the new."""
    try:
        for file in (data / "snapshots").glob("*.snapshot"):
            if int(file.stem) + SNAPSHOT_LAG > tip:
                file.unlink()
    except (OSError, ValueError) as error:
        raise StoreError(f"{data / 'snapshots'}: cannot be cleared of what the old state led to: {error}") from None


def _put_in_place(data: Path) -> None:
    """The old state goes aside, the new one takes its name; a crash in between leaves no state at all, and the node
    makes it again from its blocks when it starts."""
    try:
        shutil.rmtree(data / OLD_STATE, ignore_errors=True)
        if (data / "state").exists():
            (data / "state").rename(data / OLD_STATE)
        (data / WORK / "state").rename(data / "state")
        shutil.rmtree(data / WORK, ignore_errors=True)
        descriptor = os.open(data, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"{data}: the state cannot be put in place: {error}") from None


def _take_back(data: Path, genesis: Genesis, height: int) -> int:
    journal = JournalStore(data / "journal", chain_id=genesis_header(genesis).chain_id)
    try:
        return journal.remove(lambda record: _is_checkpoint_vote(record, height))
    finally:
        journal.close()


def _is_checkpoint_vote(data: bytes, from_height: int) -> bool:
    record = _records.decode(data)
    return (
        isinstance(record, VoteRecord) and record.kind == MessageType.CHECKPOINT and record.height >= from_height
    )


def _put_report_aside(data: Path) -> Path | None:
    report = load_divergence(data)
    if report is None:
        return None
    kept = data / f"divergence-{int(report['height'])}.json"
    (data / REPORT).replace(kept)
    return kept
