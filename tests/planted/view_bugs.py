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
        "tests/unit/consensus/test_view_change.py::"
        "test_of_two_prepared_certificates_the_one_of_the_higher_view_wins_whatever_the_order",
    ),
    Bug(
        "a new view begins at the lowest stable certificate",
        "low is the highest stable certificate among the view-changes",
        VIEW_CHANGE,
        "    low = max((change.stable.height for change in changes if change.stable is not None), "
        "default=GENESIS_HEIGHT)\n",
        "    low = min((change.stable.height for change in changes if change.stable is not None), "
        "default=GENESIS_HEIGHT)\n",
        "tests/unit/consensus/test_view_change.py::test_the_plan_begins_above_the_highest_stable_certificate",
    ),
    Bug(
        "what was prepared above a gap is lost",
        "gaps are filled with empty blocks",
        VIEW_CHANGE,
        "    for number in range(low + 1, max(highest, default=low) + 1):\n        height = Height(number)\n",
        "    for number in range(low + 1, max(highest, default=low) + 1):\n        height = Height(number)\n"
        "        if number not in highest:\n            break\n",
        "tests/unit/consensus/test_view_change.py::test_gaps_are_filled_with_empty_proposals",
    ),
    Bug(
        "the last prepared height is not proposed again",
        "each height up to the highest prepared one is proposed again",
        VIEW_CHANGE,
        "    for number in range(low + 1, max(highest, default=low) + 1):\n",
        "    for number in range(low + 1, max(highest, default=low)):\n",
        "tests/unit/consensus/test_view_change.py::test_gaps_are_filled_with_empty_proposals",
    ),
    Bug(
        "an older view-change takes the place of a newer one",
        "the highest view-change of each sender is kept",
        VIEW_CHANGE,
        "        if known is not None and known.message.view >= change.message.view:\n",
        "        if known is not None and known.message.view == change.message.view:\n",
        "tests/unit/consensus/test_view_change.py::test_only_the_highest_view_change_of_a_sender_is_kept",
    ),
    Bug(
        "F validators make others leave the view",
        "a view change is joined when more than F ask for it",
        VIEW_CHANGE,
        "            if weight > self._validators.tolerated_weight:\n",
        "            if weight >= self._validators.tolerated_weight:\n",
        "tests/unit/consensus/test_view_change.py::test_the_join_target_is_the_f_plus_first_highest_view",
    ),
    Bug(
        "the highest view that anybody asks for is joined",
        "joining the (f+1)-th highest view among the latest view-changes",
        VIEW_CHANGE,
        "                return View(self._latest[sender].message.view)\n        return None\n",
        "                return View(max(change.message.view for change in self._latest.values()))\n"
        "        return None\n",
        "tests/unit/consensus/test_view_change.py::test_the_join_target_is_the_f_plus_first_highest_view",
    ),
    Bug(
        "view-changes for higher views count for a new view",
        "a new view needs a quorum for exactly that view",
        VIEW_CHANGE,
        "self._latest[sender].message.view == view]",
        "self._latest[sender].message.view >= view]",
        "tests/unit/consensus/test_view_change.py::test_a_quorum_is_for_one_view_but_higher_ones_keep_the_timer_going",
    ),
    Bug(
        "the leader begins a view without a quorum",
        "a new view needs a quorum of view-changes",
        VIEW_CHANGE,
        "if self._validators.is_quorum(change.sender for change in changes) else None",
        "if self._validators.has_honest(change.sender for change in changes) else None",
        "tests/unit/consensus/test_view_change.py::test_a_quorum_is_for_one_view_but_higher_ones_keep_the_timer_going",
    ),
    Bug(
        "a new view of one who does not lead it is entered",
        "a new view comes from the leader of that view",
        REPLICA,
        "        if received.sender != self._validators.leader(view):\n",
        "        if received.sender not in self._validators:\n",
        "tests/unit/consensus/test_replica.py::"
        "test_the_core_itself_refuses_proposals_and_new_views_of_validators_who_do_not_lead",
    ),
    Bug(
        "a new view that was not asked for is not entered",
        "a valid new-view certificate is accepted for any view above this replica's",
        REPLICA,
        "        if view > self._safety.view or (view == self._safety.view and self.is_changing):\n"
        "            self._enter",
        "        if view == self._safety.view and self.is_changing:\n            self._enter",
        "tests/unit/consensus/test_replica.py::"
        "test_time_outs_double_per_failed_view_up_to_the_cap_and_return_to_the_base_on_progress",
        is_liveness=True,
    ),
    Bug(
        "two new views of one view go unreported",
        "two contradicting messages of one sender are evidence",
        REPLICA,
        "known.message.view == view and known.message != received.message:",
        "known.message.view == view and known.message is None:",
        "tests/planted/test_gaps.py::test_two_new_views_of_one_view_are_evidence_and_the_first_one_stands",
    ),
    Bug(
        "a view-change leaves out what was prepared",
        "a view-change carries the prepared certificates above its stable block",
        ORDERING,
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)\n",
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None and slot.ordered is None)\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "a view-change tells the first prepared height only",
        "a view-change carries a prepared certificate for each height above its stable block",
        ORDERING,
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)\n",
        "        return tuple(slot.prepared for slot in slots if slot.prepared is not None)[:1]\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "the certificate of an earlier view gives way to one of a still earlier view",
        "prepared certificates are of the highest view",
        RECOVERY_PY,
        "        elif slot.prepared is None or slot.prepared.view <= certificate.view:\n",
        "        elif slot.prepared is None or slot.prepared.view >= certificate.view:\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "votes of an older view count in the new one",
        "votes for re-proposals are cast anew in the new view",
        SLOT,
        "        self.prepares, self.commits = prepares, commits\n",
        "        pass\n",
        "tests/unit/consensus/test_speculation.py::test_what_only_an_earlier_view_prepared_is_not_named",
    ),
    Bug(
        "a new view that leaves out what is ordered here goes unnoticed",
        "what is ordered is ordered in every later view",
        ORDERING,
        "        if reproposal is None or reproposal.digest != slot.ordered.digest:\n",
        "        if reproposal is not None and not reproposal.digest:\n",
        "tests/scenarios/test_view_change.py::test_more_than_f_faulty_members_make_a_new_view_forget_an_ordered_value",
    ),
    Bug(
        "a re-proposal is judged like a fresh one",
        "a re-proposal that a new view requires is never refused for its contents",
        SLOT,
        "        self.accepted = self.standing = reproposal.digest\n        self.fresh = False\n",
        "        self.accepted = self.standing = reproposal.digest\n        self.fresh = True\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
        is_liveness=True,
    ),
    Bug(
        "a proposal that lost its place keeps its transactions",
        "after a new view the pool's reserved transactions are put right",
        ORDERING,
        "            if slot.standing not in (None, kept) and height > plan.low:\n"
        "                self._abandon(slot, out)\n",
        "",
        "tests/paper/test_pbft_view_change.py::test_what_the_new_view_does_not_keep_is_given_up",
    ),
    Bug(
        "a fresh proposal keeps its transactions when its view is left",
        "on leaving, a fresh proposal that is not prepared here gives its transactions back",
        ORDERING,
        "                self._abandon(slot, out)\n                slot.give_up()\n",
        "                slot.give_up()\n",
        "tests/scenarios/test_view_change.py::"
        "test_the_transactions_of_a_proposal_that_nobody_prepared_are_never_given_back",
    ),
    Bug(
        "the leader packs before it knows what is proposed again",
        "the leader packs when the contents of all re-proposals are here",
        ORDERING,
        "            if height > self.low and (slot is None or reproposal.digest not in slot.durable):\n"
        "                return False\n",
        "            if height > self.low and slot is None:\n                return False\n",
        "tests/scenarios/test_view_change.py::test_a_new_leader_packs_before_it_knows_what_was_proposed_before",
    ),
    Bug(
        "a leader packs in the view it has left",
        "a replica that has left a view does not lead it",
        REPLICA,
        "        return self.leader == self._safety.id and not self.is_changing\n",
        "        return self._validators.leader(self._ordering.view) == self._safety.id\n",
        "tests/scenarios/test_view_change.py::"
        "test_the_transactions_of_a_proposal_that_nobody_prepared_are_never_given_back",
    ),
    Bug(
        "a proposal packed for an earlier view is proposed",
        "if nobody waits for the pool's answer any more its transactions go back",
        "consensus/leader.py",
        "        if self.open != (view, height):\n            return False\n",
        "        if self.open is None:\n            return False\n",
        "tests/planted/test_gaps.py::test_the_answer_to_an_earlier_views_request_is_not_taken",
    ),
    Bug(
        "the request of the old view stays open",
        "after a new view something is packed again",
        "consensus/leader.py",
        '        """The view is over."""\n        self.open = None\n',
        '        """The view is over."""\n',
        "tests/planted/test_gaps.py::test_a_leader_asks_again_when_it_leads_again",
        is_liveness=True,
    ),
    Bug(
        "an own view-change lacks the stable certificate",
        "a view-change carries the stable certificate",
        REPLICA,
        "        own = self._safety.view_change(view=view, stable=stable, prepared=prepared, out=out)\n",
        "        own = self._safety.view_change(view=view, stable=None, prepared=prepared, out=out)\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
)

TIMERS: Final = (
    Bug(
        "time-outs grow without end",
        "time-outs back off and are capped",
        TIMERS_PY,
        "        self._current_ms = min(2 * self._current_ms, self._cap_ms)\n",
        "        self._current_ms = 2 * self._current_ms\n",
        "tests/unit/consensus/test_timers.py::test_the_delay_doubles_up_to_the_cap_and_returns_to_the_base",
    ),
    Bug(
        "time-outs do not back off",
        "the view delay doubles with each view left",
        TIMERS_PY,
        "        self._current_ms = min(2 * self._current_ms, self._cap_ms)\n",
        "        self._current_ms = min(self._current_ms, self._cap_ms)\n",
        "tests/unit/consensus/test_timers.py::test_the_delay_doubles_up_to_the_cap_and_returns_to_the_base",
    ),
    Bug(
        "time-outs stay long after progress",
        "time-outs reset on progress",
        PACE,
        "            self.view_delay.reset()\n",
        "",
        "tests/unit/consensus/test_replica.py::"
        "test_time_outs_double_per_failed_view_up_to_the_cap_and_return_to_the_base_on_progress",
    ),
    Bug(
        "an idle chain changes views",
        "an idle chain runs no timers",
        PACE,
        "        if is_stuck or self._ordering.has_unordered_work():\n            return 1\n",
        "        if is_stuck or self._ordering.has_unordered_work() or self._leader.open is None:\n"
        "            return 1\n",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_a_long_run_of_blocks_is_fetched_range_by_range_and_leaves_nothing_behind",
    ),
    Bug(
        "a silent leader is waited for",
        "a transaction pooled for too long triggers a view change",
        PACE,
        "        is_stuck = is_wanted and self._ordering.ordered_height < self._ordering.window_end\n",
        "        is_stuck = False\n",
        "tests/unit/consensus/test_replica.py::"
        "test_an_overdue_transaction_starts_the_view_timer_and_a_drained_pool_stops_it",
        is_liveness=True,
    ),
    Bug(
        "a leader that stops in the middle is waited for",
        "work in the window that is not ordered runs the view timer",
        PACE,
        "        if is_stuck or self._ordering.has_unordered_work():\n            return 1\n",
        "        if is_stuck:\n            return 1\n",
        "tests/unit/consensus/test_ordering.py::"
        "test_a_refused_proposal_gets_no_vote_and_is_executed_if_it_is_ordered_all_the_same",
        is_liveness=True,
    ),
    Bug(
        "a block that lacks its certificate is waited for",
        "a block executed here that lacks its certificate runs the view timer",
        PACE,
        "        return CERTIFICATION_PATIENCE if self._checkpoints.awaits_votes else 0\n",
        "        return 0\n",
        "tests/unit/consensus/test_checkpoint.py::test_a_certificate_for_another_header_stops_this_node_for_good",
        is_liveness=True,
    ),
    Bug(
        "a replica alone in a view change goes on to ever higher views",
        "alone, without a quorum, it runs no view timer",
        PACE,
        "            return int(self._view_changes.quorum_seen)\n",
        "            return 1\n",
        "tests/unit/consensus/test_recovery.py::test_a_restart_while_the_view_changes_gives_up_what_was_not_prepared",
    ),
    Bug(
        "a view change whose leader is dead is waited for",
        "a view change that has a quorum goes on to the next view",
        PACE,
        "            return int(self._view_changes.quorum_seen)\n",
        "            return 0\n",
        "tests/unit/consensus/test_replica.py::"
        "test_time_outs_double_per_failed_view_up_to_the_cap_and_return_to_the_base_on_progress",
        is_liveness=True,
    ),
    Bug(
        "a node that is behind changes views",
        "a syncing node does not disturb healthy ones",
        PACE,
        "        if self._is_behind():\n"
        "            return 0\n",
        "",
        "tests/unit/consensus/test_replica.py::test_a_replica_that_is_behind_does_not_ask_for_another_view",
    ),
    Bug(
        "a timer that was replaced fires all the same",
        "the driver's timer counts only if it is still due",
        TIMERS_PY,
        "        if armed_at <= now < at:\n",
        "        if armed_at > now:\n",
        "tests/unit/consensus/test_timers.py::test_a_firing_that_was_overtaken_by_a_new_deadline_is_put_back",
    ),
    Bug(
        "a proposal whose time has come is not looked at again",
        "the vote waits until the timestamp is within the bound",
        REPLICA,
        "            case Timer.TIMESTAMP:\n                self._ordering.proceed_all(now, out)\n",
        "            case Timer.TIMESTAMP:\n                pass\n",
        "tests/unit/consensus/test_ordering.py::test_a_timestamp_ahead_of_the_clock_waits_and_the_past_is_not_judged",
        is_liveness=True,
    ),
    Bug(
        "a replica that has left its view stays in the retransmission of it",
        "an idle chain runs no timers",
        PACE,
        "            or (self._ordering.has_ordered_work() if changing else self._ordering.has_work())\n",
        "            or self._ordering.has_work()\n",
        "tests/planted/test_gaps.py::test_who_leaves_a_view_alone_does_not_go_on_about_what_others_have_in_flight",
    ),
)
