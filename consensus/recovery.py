"""Rebuilding a replica from its journal: what it said, what it accepted, what it knows to be prepared and ordered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from chain.model.block import Certificate, proposal_digest
from chain.types import Digest, Height, ValidatorId, View
from consensus.checkpoint import Checkpoints
from consensus.effects import (
    CertificateRecord,
    JournalRecord,
    NewViewRecord,
    ProposalRecord,
    ViewChangeRecord,
    VoteRecord,
)
from consensus.epoch import Epoch, epoch_height
from consensus.messages import MessageType, Verified
from consensus.ordering import Ordering
from consensus.safety import Safety
from consensus.view_change import Plan, ViewChanges, plan_of


def recover(
    journal: Sequence[JournalRecord],
    *,
    epoch: Epoch,
    safety: Safety,
    ordering: Ordering,
    checkpoints: Checkpoints,
    view_changes: ViewChanges,
    chain_id: bytes,
) -> None:
    """Fill the parts of a fresh replica from the records, in the order of writing; any prefix of a journal will do.

    Records of other epochs are passed over: what was said in them binds nobody in this one. Nothing is said here:
    `Started` repeats what was said in the current view.
    """
    proposals: list[ProposalRecord] = []
    own: ViewChangeRecord | None = None
    new_view: NewViewRecord | None = None
    for record in journal:
        if not _is_of(record, epoch):
            continue
        safety.remember(record)
        match record:
            case VoteRecord():
                pass
            case ProposalRecord():
                if record.proposal.height > ordering.low:
                    proposals.append(record)
            case CertificateRecord(certificate=certificate):
                _restore_certificate(certificate, ordering, checkpoints)
            case ViewChangeRecord():
                own = record
            case NewViewRecord():
                own, new_view = None, record
            case _:
                assert_never(record)
    view, plan = View(0), Plan()
    if new_view is not None:
        view = View(new_view.message.view)
        plan = plan_of((entry.message for entry in new_view.message.view_changes), chain_id=chain_id)
        view_changes.enter(
            Verified(sender=ValidatorId(new_view.sender), message=new_view.message, signature=new_view.signature)
        )
    if own is not None:
        view_changes.leave_for(safety.own_view_change(own))
    _restore_proposals(proposals, view, plan, safety, ordering)


def records_above(journal: Sequence[JournalRecord], boundary: Height) -> tuple[JournalRecord, ...]:
    """What a journal says of later epochs than the one that ends at `boundary`: nothing, unless blocks were lost."""
    return tuple(record for record in journal if max(_epoch_heights(record)) > boundary)


def _is_of(record: JournalRecord, epoch: Epoch) -> bool:
    """It was written in this epoch; its heights were certain then, even where they are not yet again.

    Where the last blocks were lost with those that say where their epoch ended, that one's validators may have been
    counted above its end: such a certificate has no quorum of this epoch's.
    """
    if isinstance(record, CertificateRecord) and not epoch.validators.is_quorum(
        ValidatorId(entry.validator) for entry in record.certificate.signatures
    ):
        return False
    return all(epoch.base < height <= epoch.limit(height) for height in _epoch_heights(record))


def _epoch_heights(record: JournalRecord) -> list[Height]:
    """The heights that decide of which epoch a record is."""
    match record:
        case VoteRecord(height=height):
            return [Height(height)]
        case ProposalRecord(proposal=proposal):
            return [Height(proposal.height)]
        case CertificateRecord(certificate=certificate):
            return [Height(certificate.height)]
        case ViewChangeRecord(message=message):
            return [epoch_height(message.stable)]
        case NewViewRecord(message=message):
            return [epoch_height(entry.message.stable) for entry in message.view_changes]
        case _:
            assert_never(record)


def _restore_certificate(certificate: Certificate, ordering: Ordering, checkpoints: Checkpoints) -> None:
    height = Height(certificate.height)
    if certificate.kind == MessageType.CHECKPOINT:
        checkpoints.restore(certificate)
    elif height > ordering.low:
        slot = ordering.restore(height)
        if certificate.kind == MessageType.COMMIT:
            slot.ordered = certificate
        elif slot.prepared is None or slot.prepared.view <= certificate.view:
            slot.prepared = certificate


def _restore_proposals(
    proposals: list[ProposalRecord], view: View, plan: Plan, safety: Safety, ordering: Ordering
) -> None:
    digests: list[Digest] = [proposal_digest(record.proposal) for record in proposals]
    for record, digest in zip(proposals, digests, strict=True):
        height = Height(record.proposal.height)
        ordering.restore(height).durable[digest] = record.proposal
        safety.remember_proposal(view=View(record.view), height=height, digest=digest)
    ordering.restored(view, plan)
    for record, digest in zip(proposals, digests, strict=True):
        slot = ordering.slot(Height(record.proposal.height))
        is_fresh = record.view == view and record.proposal.height >= plan.first_fresh
        said = safety.said_prepare(view=view, height=Height(record.proposal.height))
        # The journal may hold two: one the leader sent and this node voted for, and one it obtained for being ordered.
        if slot is not None and is_fresh and slot.accepted is None and said in (None, digest):
            slot.accept_fresh(record.proposal, digest, None)
    if safety.changing:
        ordering.leave([])  # the pool is new: nothing is reserved in it
    for height in ordering.heights:
        slot = ordering.slot(height)
        if slot is not None:
            slot.prune()
