"""Of the replica around ordering: verification, recovery, timers, catching up, epochs."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[tuple[str, str, str, str], str]] = {
    # --- verification ---
    (
        "consensus/verification.py",
        "_Examination.certificate",
        "`==` becomes `<=`",
        "certificate.view == 0",
    ): "equivalent: the line before has refused negative views",
    (
        "consensus/verification.py",
        "_Examination._certifiers",
        "operand 1 of `and` is dropped: `previous is not None`",
        "previous is not None and height == self._epoch.base",
    ): "equivalent: only the first epoch has no set before it, its base is 0, and `certificate` refuses height 0 "
    "before it looks at the set",
    (
        "consensus/verification.py",
        "_Examination._certifiers",
        "`==` becomes `<=`",
        "height == self._epoch.base",
    ): "equivalent: `_place` drops a view-change whose stable block lies below the base, and `certificate` refuses "
    "heights below 1 before it looks at the set",
    # --- recovery ---
    (
        "consensus/recovery.py",
        "records_above",
        "`>` becomes `>=`",
        "max(_epoch_heights(record)) > boundary",
    ): "equivalent: `_is_of` passes over records at the boundary, which is the base of every epoch they are kept for "
    "or lies below it",
    (
        "consensus/recovery.py",
        "records_above",
        "`max` becomes `min`",
        "max(_epoch_heights(record))",
    ): "equivalent: only a new-view has several heights, and a replica enters none whose heights are not all of its "
    "epoch, so they lie on one side of every boundary",
    (
        "consensus/recovery.py",
        "_restore_certificate",
        "`==` becomes `>=`",
        "certificate.kind == MessageType.CHECKPOINT",
    ): "equivalent: checkpoint is the highest of the three kinds that are journalled",
    (
        "consensus/recovery.py",
        "_restore_certificate",
        "`==` becomes `>=`",
        "certificate.kind == MessageType.COMMIT",
    ): "equivalent: of the two kinds that get here, prepare and commit, commit is the higher",
    (
        "consensus/recovery.py",
        "_restore_certificate",
        "`<=` becomes `<`",
        "slot.prepared.view <= certificate.view",
    ): "equivalent: `Safety.commit` journals one prepared certificate a view and height; only if a crash comes before "
    "the vote it explains it is written a second time, and is the restored one again",
    (
        "consensus/recovery.py",
        "_restore_proposals",
        "`==` becomes `>=`",
        "record.view == view",
    ): "equivalent: the record of a new view is written before any proposal of that view, so no proposal in a journal "
    "is of a later view than its last new view",
    (
        "consensus/recovery.py",
        "_restore_proposals",
        "operand 1 of `and` is dropped: `slot is not None`",
        "slot is not None and is_fresh and (slot.accepted is None) and (said in (None, digest))",
    ): "equivalent: the loop before it has made the slot; the operand is there for the type checker",
    (
        "consensus/recovery.py",
        "_restore_proposals",
        "operand 3 of `and` is dropped: `slot.accepted is None`",
        "slot is not None and is_fresh and (slot.accepted is None) and (said in (None, digest))",
    ): "harmless: of two proposals of one view `said` takes the one voted for; where neither was, either may be voted "
    "for; and a leader votes for its own in the step that proposes it",
    # --- succession ---
    (
        "consensus/succession.py",
        "Succession.add_signer",
        "operand 2 of `or` is dropped: `self._signers[:1]`",
        "using or self._signers[:1]",
    ): "equivalent: the core always speaks under one of the keys, and that one is never given up here, so `using` is "
    "not empty",
    (
        "consensus/succession.py",
        "Succession._succeed",
        "operand 3 of `or` is dropped: `self._inner.diverged is not None`",
        "block is None or self._stored < block[0].height or self._inner.diverged is not None",
    ): "equivalent: a core that has diverged stores no block any more, and once the boundary's is certified all slots "
    "and votes are gone that something could contradict",
    # --- replica ---
    (
        "consensus/replica.py",
        "Replica.in_flight",
        "operand 1 of `and` is dropped: `slot is not None`",
        "slot is not None and slot.is_in_flight",
    ): "equivalent: the heights are those of the slots; the operand is there for the type checker",
    (
        "consensus/replica.py",
        "Replica.standing",
        "operand 1 of `and` is dropped: `slot is not None`",
        "slot is not None and slot.standing is not None",
    ): "equivalent: the heights are those of the slots; the operand is there for the type checker",
    (
        "consensus/replica.py",
        "Replica._on_packed",
        "`!=` becomes `<`",
        "height != self._ordering.next_height()",
    ): "equivalent: the height was the next one when it was asked for, and the next height only grows until the view "
    "ends, which voids the request",
    (
        "consensus/replica.py",
        "Replica._on_view_change",
        "operand 1 of `and` is dropped: `received.message.view > self._ordering.view`",
        "received.message.view > self._ordering.view and self._view_changes.add(received)",
    ): "harmless: a request for a view entered, or one below it, counts nowhere: only views above this replica's are "
    "joined, and only requests for the view it waits for or a higher one make a quorum; of each sender one is kept",
    (
        "consensus/replica.py",
        "Replica._on_view_change",
        "`>` becomes `>=`",
        "received.message.view > self._ordering.view",
    ): "harmless: a request for the view that was entered last counts nowhere: only views above this replica's are "
    "joined, and while it waits it waits for a higher one",
    (
        "consensus/replica.py",
        "Replica._consider_views",
        "the guard is dropped",
        "not self.is_changing",
    ): "equivalent: in a view no request for it is kept, so none can begin it again; and whether a quorum was seen is "
    "asked only while waiting, and forgotten when that begins",
    (
        "consensus/replica.py",
        "Replica._on_new_view",
        "`==` becomes `>=`",
        "view == self._safety.view",
    ): "equivalent: a higher view satisfies the first half of the condition",
    # --- slots and what is kept ---
    (
        "consensus/slot.py",
        "Slot.accept_again",
        "operand 2 of `or` is dropped: `self.durable.get(reproposal.digest)`",
        "reproposal.gap or self.durable.get(reproposal.digest)",
    ): "equivalent: where the proposal is durable, `Ordering._judge` and `_seek` look there first and never at "
    "`proposal`, which else is read of fresh proposals only",
    (
        "consensus/kept.py",
        "Kept.add",
        "`==` becomes `>=`",
        "view == known_view",
    ): "equivalent: the lines before it have raised `known_view` to `view` at least",
    (
        "consensus/kept.py",
        "Kept.take_view",
        "`==` becomes `>=`",
        "at == view",
    ): "equivalent: higher views have been passed over before",
    # --- pace, retransmission, speculation ---
    (
        "consensus/pace.py",
        "Pace._keep_timestamp",
        "`+ 1` becomes `+ 2`",
        "due + 1",
    ): "equivalent: without a deadline any number above `due` will do",
    (
        "consensus/retransmission.py",
        "_waits_for",
        "`==` becomes `<=`",
        "theirs.view == view",
    ): "equivalent: a lower view satisfies the first half of the condition",
    (
        "consensus/speculation.py",
        "Speculation._void",
        "`>=` becomes `>`",
        "named >= height",
    ): "equivalent: both callers overwrite or remove what is named at `height` itself in the next line",
}
