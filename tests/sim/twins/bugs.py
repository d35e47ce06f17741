"""Bugs of the core that break safety, as replacements of source text. Where a guard of the core's own would stop a bug
before it does harm, the guard is taken out with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REPLICA: Final = "consensus/replica.py"
ORDERING: Final = "consensus/ordering.py"
SAFETY: Final = "consensus/safety.py"
VOTES: Final = "consensus/votes.py"
VIEWS: Final = "consensus/view_change.py"
RECOVERY: Final = "consensus/recovery.py"
VERIFICATION: Final = "consensus/verification.py"
SLOT: Final = "consensus/slot.py"
CHECKPOINT: Final = "consensus/checkpoint.py"


@dataclass(frozen=True, slots=True)
class Bug:
    """`changes`: (file, text that is in it exactly once, what stands there instead)."""

    name: str
    changes: tuple[tuple[str, str, str], ...]


# Guards of the core that would turn a bug into a stop of the process.
_COMMIT_UNGUARDED: Final = (
    SAFETY,
    "if prepared.kind != MessageType.PREPARE or not self._validators.is_quorum(signers):",
    "if prepared.kind != MessageType.PREPARE and signers:",
)
_ACTIVE_UNGUARDED: Final = (SAFETY, "if self.changing or view != self.view:", "if view > self.view:")
_REPEAT_UNGUARDED: Final = (
    SAFETY,
    "        if said[0] > view or (said[0] == view and said[1] != digest):",
    "        if said[0] > view:",
)
_REPEAT_WRITTEN: Final = (
    SAFETY,
    "        if said[0] == view:\n            return True",
    "        if said == (view, digest):\n            return True",
)
_CERTIFICATES_UNCHECKED: Final = (
    VERIFICATION,
    '_require(validators.is_quorum(signers), "bad_certificate", "less than a quorum")',
    '_require(bool(signers), "bad_certificate", "less than a quorum")',
)

# What the explicit-state search is run on, and in which plan it finds it.
EXPLORED: Final = (
    ("a view-change carries no prepared certificates", "silent, 1 height, 2 views"),
    ("a second proposal of one view gets a second vote", "leads view 0, 1 height, 1 view"),
    ("a quorum of commits and checkpoint votes is W - 2F", "leads view 0, 1 height, 1 view"),
    ("votes for different proposals are added up", "leads view 0, 1 height, 1 view"),
    ("a new view is made of F + 1 view-changes", "silent, 1 height, 2 views"),
    ("votes are given in a view that has been left", "silent, 1 height, 2 views"),
    ("votes are forgotten at a restart", "leads view 0, 1 height, 1 view, 1 restart of each"),
    ("votes and proposals are forgotten at a restart", "leads view 0, 1 height, 1 view, 1 restart of each"),
    ("prepared certificates are forgotten at a restart", "silent, 1 height, 2 views, 1 restart of each"),
    ("the view that was left is entered again at a restart", "silent, 1 height, 2 views, 1 restart of each"),
    ("a view-change carries the prepared certificate of one height only", "silent, 2 heights, 2 views"),
    ("below the highest height prepared, a new view fills everything with gaps", "silent, 2 heights, 2 views"),
)

BUGS: Final[tuple[Bug, ...]] = (
    Bug(
        "a quorum of prepares is F + 1",
        (
            (
                VOTES,
                "return self._weights.get(digest, 0) >= self._validators.quorum_weight",
                "return self._weights.get(digest, 0) > self._validators.tolerated_weight",
            ),
            _COMMIT_UNGUARDED,
            _CERTIFICATES_UNCHECKED,
        ),
    ),
    Bug(
        "a quorum of commits and checkpoint votes is W - 2F",
        (
            (
                VOTES,
                "if weight >= self._validators.quorum_weight:",
                "if weight >= self._validators.quorum_weight - self._validators.tolerated_weight:",
            ),
        ),
    ),
    Bug(
        "votes for different proposals are added up",
        (
            (
                VOTES,
                "return self._weights.get(digest, 0) >= self._validators.quorum_weight",
                "return sum(self._weights.values()) >= self._validators.quorum_weight",
            ),
            _COMMIT_UNGUARDED,
            _CERTIFICATES_UNCHECKED,
        ),
    ),
    Bug(
        "a vote said again counts again (quorums and checkpoints by signatures, not by signers)",
        (
            (
                VOTES,
                "        if earlier is not None:\n            return",
                (
                    "        if earlier is not None:\n"
                    "            if earlier.message.digest == vote.message.digest:\n"
                    "                self._weights[Digest(vote.message.digest)] += 1\n"
                    "            return"
                ),
            ),
            _COMMIT_UNGUARDED,
            _CERTIFICATES_UNCHECKED,
        ),
    ),
    Bug(
        "a view-change carries no prepared certificates",
        (
            (
                REPLICA,
                "prepared = self._ordering.prepared_above(0 if stable is None else stable.height)",
                "prepared = ()",
            ),
        ),
    ),
    Bug(
        "a view-change carries only what this view prepared",
        (
            (
                ORDERING,
                "return tuple(slot.prepared for slot in slots if slot.prepared is not None)",
                (
                    "return tuple(slot.prepared for slot in slots if slot.prepared is not None and "
                    "slot.prepared.view == self.view)"
                ),
            ),
        ),
    ),
    Bug(
        "a view-change carries no stable certificate",
        (
            (REPLICA, "        stable = self._checkpoints.stable\n", "        stable = None\n"),
        ),
    ),
    Bug(
        "of two prepared certificates the one of the lower view is chosen",
        (
            (
                VIEWS,
                "known is None or certificate.view > known.view)",
                "known is None or certificate.view < known.view)",
            ),
        ),
    ),
    Bug(
        "of two prepared certificates the first one seen is chosen",
        (
            (VIEWS, "(known is None or certificate.view > known.view)", "known is None"),
        ),
    ),
    Bug(
        "a new view proposes again only what more than one view-change reports",
        (
            (
                VIEWS,
                "        for certificate in change.prepared:\n",
                (
                    "        for certificate in change.prepared:\n"
                    "            if sum(certificate.height in {own.height for own in other.prepared} for "
                    "other in changes) < 2:\n"
                    "                continue\n"
                ),
            ),
        ),
    ),
    Bug(
        "the locked proposal is ignored: whoever lacks its contents takes a fresh one in its place",
        (
            (
                ORDERING,
                "            if reproposal is not None:\n                slot.accept_again",
                (
                    "            if reproposal is not None and reproposal.digest in slot.durable:\n"
                    "                slot.accept_again"
                ),
            ),
            (
                ORDERING,
                "        if height < self.plan.first_fresh or proposal.chain_id",
                "        if proposal.chain_id",
            ),
            (
                ORDERING,
                "return Height(max(self.plan.first_fresh, taken + 1))",
                "return Height(taken + 1)",
            ),
            (
                ORDERING,
                "            if height > self.low and (slot is None",
                "            if False and (slot is None",
            ),
        ),
    ),
    Bug(
        "a second proposal of one view gets a second vote",
        (
            (
                ORDERING,
                "        if slot.accepted is not None:\n            if slot.accepted != digest:",
                "        if slot.accepted == digest:\n            if slot.accepted != digest:",
            ),
            (
                ORDERING,
                "        slot.accept_fresh(proposal, digest, received)\n",
                "        slot.own_prepare = None\n        slot.accept_fresh(proposal, digest, received)\n",
            ),
            _REPEAT_UNGUARDED,
            _REPEAT_WRITTEN,
        ),
    ),
    Bug(
        "a commit is given with the proposal alone, without prepares",
        (
            (
                ORDERING,
                "            if not slot.prepares.has_quorum(slot.accepted):\n",
                "            if slot.own_prepare is None:\n",
            ),
            _COMMIT_UNGUARDED,
            _CERTIFICATES_UNCHECKED,
        ),
    ),
    Bug(
        "votes are given in a view that has been left",
        (
            (ORDERING, "        return not self._safety.changing\n", "        return True\n"),
            _ACTIVE_UNGUARDED,
        ),
    ),
    Bug(
        "votes of the old view count in the new one",
        (
            (
                SLOT,
                "        self.prepares, self.commits = prepares, commits\n        self.accepted",
                "        self.accepted",
            ),
        ),
    ),
    Bug(
        "a new view is made of view-changes for earlier views too",
        (
            (
                VIEWS,
                "if self._latest[sender].message.view == view]",
                "if 0 < self._latest[sender].message.view <= view]",
            ),
            (VIEWS, "if change.message.view <= view]:", "if change.message.view < 0]:"),
            (
                VERIFICATION,
                '_require(entry.message.view == message.view, "bad_new_view"',
                '_require(entry.message.view <= message.view, "bad_new_view"',
            ),
        ),
    ),
    Bug(
        "a new view is made of F + 1 view-changes",
        (
            (
                VIEWS,
                "return tuple(changes) if self._validators.is_quorum(",
                "return tuple(changes) if self._validators.has_honest(",
            ),
            (
                VERIFICATION,
                '_require(self._validators.is_quorum(senders), "bad_new_view"',
                '_require(self._validators.has_honest(senders), "bad_new_view"',
            ),
        ),
    ),
    Bug(
        "a vote leaves before it is written",
        (
            (
                SAFETY,
                (
                    "            self._persist(VoteRecord(kind=MessageType.COMMIT, view=view, "
                    "height=height, digest=digest), out)\n"
                    "        return self._say(Commit(view=view, height=height, digest=digest), out)"
                ),
                (
                    "            said = self._say(Commit(view=view, height=height, digest=digest), out)\n"
                    "            self._persist(VoteRecord(kind=MessageType.COMMIT, view=view, "
                    "height=height, digest=digest), out)\n"
                    "            return said\n"
                    "        return self._say(Commit(view=view, height=height, digest=digest), out)"
                ),
            ),
        ),
    ),
    Bug(
        "votes are forgotten at a restart",
        (
            (
                SAFETY,
                "                if height > self.floor:\n                    self._remember_vote",
                "                if height < 0:\n                    self._remember_vote",
            ),
        ),
    ),
    Bug(
        "votes and proposals are forgotten at a restart",
        (
            (
                SAFETY,
                "                if height > self.floor:\n                    self._remember_vote",
                "                if height < 0:\n                    self._remember_vote",
            ),
            (
                RECOVERY,
                "                if record.proposal.height > ordering.low:",
                "                if record.proposal.height < 0:",
            ),
        ),
    ),
    Bug(
        "prepared certificates are forgotten at a restart",
        (
            (RECOVERY, "            slot.prepared = certificate\n", "            pass\n"),
        ),
    ),
    Bug(
        "the view that was left is entered again at a restart",
        (
            (
                SAFETY,
                "                self.view, self.changing = View(message.view), True\n",
                "                pass\n",
            ),
            (RECOVERY, "                own = record\n", "                own = None\n"),
            _REPEAT_UNGUARDED,
        ),
    ),
    Bug(
        "a new view begins above what is certified elsewhere: blocks below are filled with gaps",
        (
            (VIEWS, "low = max((change.stable.height", "low = min((change.stable.height"),
        ),
    ),
    Bug(
        "a prepared certificate is dropped when the next view begins",
        (
            (
                SLOT,
                (
                    "        self.accepted = self.proposal = self.pre_prepare = self.own_prepare = "
                    "self.own_commit = None\n"
                ),
                (
                    "        self.accepted = self.proposal = self.pre_prepare = self.own_prepare = "
                    "self.own_commit = None\n"
                    "        self.prepared = None\n"
                ),
            ),
        ),
    ),
    Bug(
        "a replica enters a new view below the one it has asked for",
        (
            (
                REPLICA,
                "        if view > self._safety.view or (view == self._safety.view and self.is_changing):",
                "        if view > self._ordering.view:",
            ),
            (
                SAFETY,
                "        if view < self.view or (view == self.view and not self.changing):",
                "        if view < 0:",
            ),
        ),
    ),
    Bug(
        "a view-change carries the prepared certificate of one height only",
        (
            (
                ORDERING,
                "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)",
                "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)[:1]",
            ),
        ),
    ),
    Bug(
        "below the highest height prepared, a new view fills everything with gaps",
        (
            (VIEWS, "        if prepared is None:", "        if prepared is None or number < max(highest):"),
        ),
    ),
)
