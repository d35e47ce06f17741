"""Bugs in view changes and timers."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

ORDERING: Final = "consensus/ordering.py"
SLOT: Final = "consensus/slot.py"
VIEW_CHANGE: Final = "consensus/view_change.py"
REPLICA: Final = "consensus/replica.py"
PACE: Final = "consensus/pace.py"
TIMERS_PY: Final = "consensus/timers.py"
RECOVERY_PY: Final = "consensus/recovery.py"

VIEW_CHANGES: Final = (
    Bug(
        "of two prepared certificates the one of the lower view wins",
        "a new view keeps the proposal with the prepared certificate of the highest view",
        VIEW_CHANGE,
        "(known is None or certificate.view > known.view)",
        "(known is None or certificate.view < known.view)",
        "",
    ),
    Bug(
        "a new view begins at the lowest stable certificate",
        "low is the highest stable certificate among the view-changes",
        VIEW_CHANGE,
        "    low = max((change.stable.height for change in changes if change.stable is not None), "
        "default=GENESIS_HEIGHT)\n",
        "    low = min((change.stable.height for change in changes if change.stable is not None), "
        "default=GENESIS_HEIGHT)\n",
        "",
    ),
    Bug(
        "what was prepared above a gap is lost",
        "gaps are filled with empty blocks",
        VIEW_CHANGE,
        "    for number in range(low + 1, max(highest, default=low) + 1):\n        height = Height(number)\n",
        "    for number in range(low + 1, max(highest, default=low) + 1):\n        height = Height(number)\n"
        "        if number not in highest:\n            break\n",
        "",
    ),
    Bug(
        "the last prepared height is not proposed again",
        "each height up to the highest prepared one is proposed again",
        VIEW_CHANGE,
        "    for number in range(low + 1, max(highest, default=low) + 1):\n",
        "    for number in range(low + 1, max(highest, default=low)):\n",
        "",
    ),
    Bug(
        "an older view-change takes the place of a newer one",
        "the highest view-change of each sender is kept",
        VIEW_CHANGE,
        "        if known is not None and known.message.view >= change.message.view:\n",
        "        if known is not None and known.message.view == change.message.view:\n",
        "",
    ),
    Bug(
        "F validators make others leave the view",
        "a view change is joined when more than F ask for it",
        VIEW_CHANGE,
        "            if weight > self._validators.tolerated_weight:\n",
        "            if weight >= self._validators.tolerated_weight:\n",
        "",
    ),
    Bug(
        "the highest view that anybody asks for is joined",
        "joining the (f+1)-th highest view among the latest view-changes",
        VIEW_CHANGE,
        "                return View(self._latest[sender].message.view)\n        return None\n",
        "                return View(max(change.message.view for change in self._latest.values()))\n"
        "        return None\n",
        "",
    ),
    Bug(
        "view-changes for higher views count for a new view",
        "a new view needs a quorum for exactly that view",
        VIEW_CHANGE,
        "self._latest[sender].message.view == view]",
        "self._latest[sender].message.view >= view]",
        "",
    ),
    Bug(
        "the leader begins a view without a quorum",
        "a new view needs a quorum of view-changes",
        VIEW_CHANGE,
        "if self._validators.is_quorum(change.sender for change in changes) else None",
        "if self._validators.has_honest(change.sender for change in changes) else None",
        "",
    ),
    Bug(
        "a new view of one who does not lead it is entered",
        "a new view comes from the leader of that view",
        REPLICA,
        "        if received.sender != self._validators.leader(view):\n",
        "        if received.sender not in self._validators:\n",
        "",
    ),
    Bug(
        "a new view that was not asked for is not entered",
        "a valid new-view certificate is accepted for any view above this replica's",
        REPLICA,
        "        if view > self._safety.view or (view == self._safety.view and self.is_changing):\n"
        "            self._enter",
        "        if view == self._safety.view and self.is_changing:\n            self._enter",
        "",
        is_liveness=True,
    ),
    Bug(
        "two new views of one view go unreported",
        "two contradicting messages of one sender are evidence",
        REPLICA,
        "known.message.view == view and known.message != received.message:",
        "known.message.view == view and known.message is None:",
        "",
    ),
    Bug(
        "a view-change leaves out what was prepared",
        "a view-change carries the prepared certificates above its stable block",
        ORDERING,
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)\n",
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None and slot.ordered is None)\n",
        "",
    ),
    Bug(
        "a view-change tells the first prepared height only",
        "a view-change carries a prepared certificate for each height above its stable block",
        ORDERING,
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)\n",
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)[:1]\n",
        "",
    ),
    Bug(
        "the certificate of an earlier view gives way to one of a still earlier view",
        "prepared certificates are of the highest view",
        RECOVERY_PY,
        "        elif slot.prepared is None or slot.prepared.view <= certificate.view:\n",
        "        elif slot.prepared is None or slot.prepared.view >= certificate.view:\n",
        "",
    ),
    Bug(
        "votes of an older view count in the new one",
        "votes for re-proposals are cast anew in the new view",
        SLOT,
        "        self.prepares, self.commits = prepares, commits\n",
        "        pass\n",
        "",
    ),
    Bug(
        "a new view that leaves out what is ordered here goes unnoticed",
        "what is ordered is ordered in every later view",
        ORDERING,
        "        if reproposal is None or reproposal.digest != slot.ordered.digest:\n",
        "        if reproposal is not None and not reproposal.digest:\n",
        "",
    ),
    Bug(
        "a re-proposal is judged like a fresh one",
        "a re-proposal that a new view requires is never refused for its contents",
        SLOT,
        "        self.accepted = self.standing = reproposal.digest\n        self.fresh = False\n",
        "        self.accepted = self.standing = reproposal.digest\n        self.fresh = True\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "a proposal that lost its place keeps its transactions",
        "after a new view the pool's reserved transactions are put right",
        ORDERING,
        "            if slot.standing not in (None, kept) and height > plan.low:\n"
        "                self._abandon(slot, out)\n",
        "",
        "",
    ),
    Bug(
        "a fresh proposal keeps its transactions when its view is left",
        "on leaving, a fresh proposal that is not prepared here gives its transactions back",
        ORDERING,
        "                self._abandon(slot, out)\n                slot.give_up()\n",
        "                slot.give_up()\n",
        "",
    ),
    Bug(
        "the leader packs before it knows what is proposed again",
        "the leader packs when the contents of all re-proposals are here",
        ORDERING,
        "            if height > self.low and (slot is None or reproposal.digest not in slot.durable):\n"
        "                return False\n",
        "            if height > self.low and slot is None:\n                return False\n",
        "",
    ),
    Bug(
        "a leader packs in the view it has left",
        "a replica that has left a view does not lead it",
        REPLICA,
        "        return self.leader == self._safety.id and not self.is_changing\n",
        "        return self._validators.leader(self._ordering.view) == self._safety.id\n",
        "",
    ),
    Bug(
        "a proposal packed for an earlier view is proposed",
        "if nobody waits for the pool's answer any more its transactions go back",
        "consensus/leader.py",
        "        if self.open != (view, height):\n            return False\n",
        "        if self.open is None:\n            return False\n",
        "",
    ),
    Bug(
        "the request of the old view stays open",
        "after a new view something is packed again",
        "consensus/leader.py",
        '        """The view is over."""\n        self.open = None\n',
        '        """The view is over."""\n',
        "",
        is_liveness=True,
    ),
    Bug(
        "an own view-change lacks the stable certificate",
        "a view-change carries the stable certificate",
        REPLICA,
        "        own = self._safety.view_change(view=view, stable=stable, prepared=prepared, out=out)\n",
        "        own = self._safety.view_change(view=view, stable=None, prepared=prepared, out=out)\n",
        "",
    ),
)

TIMERS: Final = (
    Bug(
        "time-outs grow without end",
        "time-outs back off and are capped",
        TIMERS_PY,
        "        self._current_ms = min(2 * self._current_ms, self._cap_ms)\n",
        "        self._current_ms = 2 * self._current_ms\n",
        "",
    ),
    Bug(
        "time-outs do not back off",
        "the view delay doubles with each view left",
        TIMERS_PY,
        "        self._current_ms = min(2 * self._current_ms, self._cap_ms)\n",
        "        self._current_ms = min(self._current_ms, self._cap_ms)\n",
        "",
    ),
    Bug(
        "time-outs stay long after progress",
        "time-outs reset on progress",
        PACE,
        "            self.view_delay.reset()\n",
        "",
        "",
    ),
    Bug(
        "an idle chain changes views",
        "an idle chain runs no timers",
        PACE,
        "        if is_stuck or self._ordering.has_unordered_work():\n            return 1\n",
        "        if is_stuck or self._ordering.has_unordered_work() or self._leader.open is None:\n"
        "            return 1\n",
        "",
    ),
    Bug(
        "a silent leader is waited for",
        "a transaction pooled for too long triggers a view change",
        PACE,
        "        is_stuck = is_wanted and self._ordering.ordered_height < self._ordering.window_end\n",
        "        is_stuck = False\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "a leader that stops in the middle is waited for",
        "work in the window that is not ordered runs the view timer",
        PACE,
        "        if is_stuck or self._ordering.has_unordered_work():\n            return 1\n",
        "        if is_stuck:\n            return 1\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "a block that lacks its certificate is waited for",
        "a block executed here that lacks its certificate runs the view timer",
        PACE,
        "        return CERTIFICATION_PATIENCE if self._checkpoints.awaits_votes else 0\n",
        "        return 0\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "a replica alone in a view change goes on to ever higher views",
        "alone, without a quorum, it runs no view timer",
        PACE,
        "            return int(self._view_changes.quorum_seen)\n",
        "            return 1\n",
        "",
    ),
    Bug(
        "a view change whose leader is dead is waited for",
        "a view change that has a quorum goes on to the next view",
        PACE,
        "            return int(self._view_changes.quorum_seen)\n",
        "            return 0\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "a node that is behind changes views",
        "a syncing node does not disturb healthy ones",
        PACE,
        "        if self._is_behind():\n"
        "            return 0\n",
        "",
        "",
    ),
    Bug(
        "a timer that was replaced fires all the same",
        "the driver's timer counts only if it is still due",
        TIMERS_PY,
        "        if armed_at <= now < at:\n",
        "        if armed_at > now:\n",
        "",
    ),
    Bug(
        "a proposal whose time has come is not looked at again",
        "the vote waits until the timestamp is within the bound",
        REPLICA,
        "            case Timer.TIMESTAMP:\n                self._ordering.proceed_all(now, out)\n",
        "            case Timer.TIMESTAMP:\n                pass\n",
        "",
        is_liveness=True,
    ),
    Bug(
        "a replica that has left its view stays in the retransmission of it",
        "an idle chain runs no timers",
        PACE,
        "            or (self._ordering.has_ordered_work() if changing else self._ordering.has_work())\n",
        "            or self._ordering.has_work()\n",
        "",
    ),
)
