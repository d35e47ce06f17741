"""Of ordering: votes, journal of votes, slots, checkpoints, view changes."""

from __future__ import annotations

from typing import Final

_SAFETY: Final = "consensus/safety.py"
_ORDERING: Final = "consensus/ordering.py"
_CHECKPOINT: Final = "consensus/checkpoint.py"
_VIEW_CHANGE: Final = "consensus/view_change.py"

_FRESH: Final = (
    "equivalent: what is fresh has `accepted` and `proposal` (`accept_fresh` sets all three, `give_up` and `clear` "
    "take all three back); it is there for the type checker"
)
_PREPARED: Final = (
    "equivalent: a height is prepared only in a view that was entered, and `self.view` is the last one entered"
)
_ONE_BLOCK: Final = (
    "harmless: it matters only where the journal has two certificates of one height, and both prove its block"
)

REASONS: Final[dict[tuple[str, str, str, str], str]] = {
    (
        _SAFETY, "Safety.remember", "`>` becomes `>=`", "height > self.floor",
    ): "harmless: at the floor nothing is signed and `may_have_said` is true whatever is remembered",
    (
        _SAFETY, "Safety.remember_proposal", "`>` becomes `>=`", "height > self.floor",
    ): "equivalent: `recover` passes on only proposals above the last stored block, which is the floor then",
    (
        _SAFETY, "Safety.remember_proposal", "operand 1 of `and` is dropped: `height > self.floor`",
        "height > self.floor and self._validators.leader(view) == self.id",
    ): "equivalent: `recover` passes on only proposals above the last stored block, which is the floor then",
    (
        _SAFETY, "Safety.forget", "`<=` becomes `<`", "height <= floor",
    ): "harmless: at the floor nothing is signed and `may_have_said` is true; the next call drops what is left there",
    (
        _SAFETY, "Safety.enter", "`==` becomes `<=`", "view == self.view",
    ): "equivalent: a lower view is refused by the first operand of `or`",
    (
        _SAFETY, "Safety._sign", "operand 1 of `or` is dropped: `covered`", "covered or subject(message)",
    ): "equivalent: `covered` is the subject of the message, handed in to spare computing its digest again",
    (
        _SAFETY, "_raise_to", "`<` becomes `<=`", "said[0] < view",
    ): "equivalent: the journal has no two different votes of one type, view and height, as `_repeats` refuses them",
    (
        _SAFETY, "_repeats", "`==` becomes `>=`", "said[0] == view",
    ): "equivalent: where `said[0]` is higher, its first operand (`said[0] > view`) makes the `if` before raise",
    (
        _ORDERING, "Ordering.prepared_proposal", "`!=` becomes `<`", "slot.prepared.view != self.view",
    ): _PREPARED,
    (
        _ORDERING, "Ordering._vote_commit", "`!=` becomes `<`", "slot.prepared.view != self.view",
    ): _PREPARED,
    (
        _ORDERING, "Ordering.knows_reproposals", "operand 1 of `or` is dropped: `slot is None`",
        "slot is None or reproposal.digest not in slot.durable",
    ): "equivalent: only a re-proposal beyond the horizon has no slot, and then `next_height` lies beyond the window, "
    "where this is not asked",
    (
        _ORDERING, "Ordering._ignore_message", "`==` becomes `>=`", "view == self._safety.view",
    ): "equivalent: a higher view makes the first operand of `or` true",
    (
        _ORDERING, "Ordering._ignore_message", "`!=` becomes `<`", "view != self.view",
    ): "equivalent: what is above `self._safety.view` was kept before, and that is `self.view` while active",
    (
        _ORDERING, "Ordering._vote_prepare", "operand 2 of `and` is dropped: `slot.accepted is not None`",
        "slot.own_prepare is None and slot.accepted is not None and (slot.contents is Contents.DURABLE)",
    ): "equivalent: contents are DURABLE only of what is accepted; it is there for the type checker",
    (
        _ORDERING, "Ordering._vote_commit", "operand 2 of `or` is dropped: `slot.accepted is None`",
        "slot.own_commit is not None or slot.accepted is None",
    ): "harmless: after a restart without the proposal it says the commit at once that the prepared certificate of the "
    "journal proves; elsewhere nothing is prepared in the view without an accepted proposal",
    (
        _ORDERING, "Ordering._is_unique", "`==` becomes `>=`", "len(hashes) == proposal.count",
    ): "equivalent: a set of the hashes has never more members than there are hashes",
    (
        _ORDERING, "Ordering.leave", "operand 2 of `and` is dropped: `slot.accepted is not None`",
        "slot.fresh and slot.accepted is not None and (not slot.is_prepared(slot.accepted))",
    ): _FRESH,
    (
        _ORDERING, "Ordering.repeat_votes", "operand 2 of `and` is dropped: `slot.accepted is not None`",
        "slot.fresh and slot.accepted is not None and (slot.proposal is not None)",
    ): _FRESH,
    (
        _ORDERING, "Ordering.repeat_votes", "operand 3 of `and` is dropped: `slot.proposal is not None`",
        "slot.fresh and slot.accepted is not None and (slot.proposal is not None)",
    ): _FRESH,
    (
        _CHECKPOINT, "Checkpoints.on_executed", "`>` becomes `>=`", "at > end",
    ): "equivalent: at a height that was certain before, `_assemble` has looked at every vote as it came",
    (
        _CHECKPOINT, "Checkpoints._assemble", "operand 1 of `or` is dropped: `tally is None`",
        "tally is None or height in self._certificates or height > self._epoch.end",
    ): "equivalent: a height without votes is looked at only after it was fetched, and so has its certificate",
    (
        _CHECKPOINT, "Checkpoints.certify", "`<` becomes `<=`", "self.stable.height < height",
    ): _ONE_BLOCK,
    (
        _CHECKPOINT, "Checkpoints.restore", "`<` becomes `<=`", "self.stable.height < height",
    ): _ONE_BLOCK,
    (
        _VIEW_CHANGE, "Plan.up_to", "`==` becomes `>=`", "len(kept) == len(self.reproposals)",
    ): "equivalent: `kept` is a part of the reproposals, so never longer",
    (
        _VIEW_CHANGE, "plan_of", "operand 1 of `and` is dropped: `certificate.height > low`",
        "certificate.height > low and (known is None or certificate.view > known.view)",
    ): "equivalent: of `highest` only heights above `low` are read, and others do not raise its maximum above `low`",
    (
        _VIEW_CHANGE, "plan_of", "`>` becomes `>=`", "certificate.height > low",
    ): "equivalent: of `highest` only heights above `low` are read, and `low` itself does not raise its maximum",
    (
        _VIEW_CHANGE, "plan_of", "`>` becomes `>=`", "certificate.view > known.view",
    ): "harmless: with at most F faulty, two prepared certificates of one view and height are of one proposal; only "
    "whom to ask for it differs",
    (
        _VIEW_CHANGE, "ViewChanges.note_quorum", "operand 1 of `or` is dropped: `self.quorum_seen`",
        "self.quorum_seen or self._validators.is_quorum(senders)",
    ): "equivalent: of each sender the highest view is kept, so a quorum seen for a view is still there while it is "
    "waited for; it only spares counting",
}  # fmt: skip
