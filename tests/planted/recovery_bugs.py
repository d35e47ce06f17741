"""Bugs in retransmission, catching up and recovery."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

SAFETY: Final = "consensus/safety.py"
ORDERING: Final = "consensus/ordering.py"
REPLICA: Final = "consensus/replica.py"
RETRANSMISSION: Final = "consensus/retransmission.py"
CATCH_UP: Final = "consensus/catch_up.py"
RECOVERY_PY: Final = "consensus/recovery.py"

RETRANSMISSIONS: Final = (
    Bug(
        "own votes are not said again",
        "when nothing moves a replica says its votes again",
        RETRANSMISSION,
        "        messages += self._ordering.own_messages(above=self._ordering.ordered_height)\n",
        "",
        "tests/unit/consensus/test_replica.py::"
        "test_while_work_is_outstanding_everything_is_said_again_at_growing_intervals",
        is_liveness=True,
    ),
    Bug(
        "the own view-change is not said again",
        "when nothing moves a replica says its view-change again",
        RETRANSMISSION,
        "        messages: list[Verified[Message]] = [] if own is None else [own]\n",
        "        messages: list[Verified[Message]] = []\n",
        "tests/unit/consensus/test_replica.py::test_without_a_quorum_for_its_view_a_replica_does_not_go_further",
        is_liveness=True,
    ),
    Bug(
        "own checkpoint votes are not said again",
        "when nothing moves a replica says its checkpoint votes again",
        RETRANSMISSION,
        "        messages += self._checkpoints.own_votes(above=self._checkpoints.low)\n",
        "",
        "tests/planted/test_gaps.py::test_a_checkpoint_vote_is_said_again_while_its_block_is_not_certified",
        is_liveness=True,
    ),
    Bug(
        "a status is always answered",
        "a status is answered at most once in an interval",
        RETRANSMISSION,
        "            return False\n"
        "        self._at.pop(peer, None)\n",
        "            pass\n"
        "        self._at.pop(peer, None)\n",
        "tests/unit/consensus/test_replica.py::test_a_peer_is_not_answered_again_at_once",
    ),
    Bug(
        "two replicas answer each other for ever",
        "the own status is an answer only to one that has certified less",
        RETRANSMISSION,
        "        if theirs.certified < self._checkpoints.low:\n",
        "        if theirs.certified <= self._checkpoints.low:\n",
        "tests/unit/consensus/test_replica.py::test_the_answer_to_a_status_is_what_the_peer_seems_to_miss",
    ),
    Bug(
        "one that has missed a new view is not told",
        "a status of a lower view is answered with the new view",
        RETRANSMISSION,
        "            messages.append(new_view)\n",
        "            pass\n",
        "tests/unit/consensus/test_recovery.py::test_a_restarted_leader_can_still_show_its_new_view",
        is_liveness=True,
    ),
    Bug(
        "one that has missed the last checkpoint votes is not told",
        "a status is answered with the checkpoint votes above its certified height",
        RETRANSMISSION,
        "        messages += self._checkpoints.own_votes(above=theirs.certified)\n",
        "",
        "tests/unit/consensus/test_replica.py::test_the_answer_to_a_status_is_what_the_peer_seems_to_miss",
        is_liveness=True,
    ),
    Bug(
        "a connection that comes up is told nothing",
        "the status is sent to each validator whose connection comes up",
        REPLICA,
        "                if peer != self._safety.id:\n"
        "                    out.append(Send(to=ValidatorId(peer), message=self._retransmission.status()))\n",
        "                pass\n",
        "tests/unit/consensus/test_replica.py::test_to_a_peer_that_connects_a_replica_says_where_it_stands",
        is_liveness=True,
    ),
)

CATCHING_UP: Final = (
    Bug(
        "one liar's claim is the target",
        "the target is the height that more than F claim",
        CATCH_UP,
        "self._epoch.limit(corroborated or max(self._claims.values()))",
        "self._epoch.limit(max(self._claims.values()))",
        "tests/unit/consensus/test_catch_up.py::test_what_more_than_f_claim_goes_before_what_one_claims",
    ),
    Bug(
        "what was asked of a lone claimant holds up the rest",
        "what was asked of a lone claimant does not hold up what more than F claim",
        CATCH_UP,
        "        if self.outstanding is not None and not low < corroborated < self.outstanding[1]:\n",
        "        if self.outstanding is not None:\n",
        "tests/unit/consensus/test_catch_up.py::test_a_liar_does_not_hold_up_a_request_that_others_confirm",
        is_liveness=True,
    ),
    Bug(
        "all that is missing is asked for at once",
        "blocks are asked for 32 at a time",
        CATCH_UP,
        "Height(min(target, low + FETCH_BLOCKS_MAX))",
        "Height(target)",
        "tests/unit/consensus/test_catch_up.py::test_a_range_is_bounded_and_one_is_open_at_a_time",
    ),
    Bug(
        "claimants whose blocks do not come are asked for ever",
        "claimants whose blocks did not come are forgotten until they claim again",
        CATCH_UP,
        "            for sender in self._sources:\n                self._claims.pop(sender, None)\n",
        "",
        "tests/unit/consensus/test_catch_up.py::test_a_claim_that_led_nowhere_is_dropped",
        is_liveness=True,
    ),
    Bug(
        "a fetch that failed is never repeated",
        "what did not come is asked for again",
        CATCH_UP,
        "                self._claims.pop(sender, None)\n            self.outstanding = None\n",
        "                self._claims.pop(sender, None)\n",
        "tests/planted/test_gaps.py::test_what_did_not_come_is_asked_for_again_when_somebody_claims_it_again",
        is_liveness=True,
    ),
    Bug(
        "the weight of F corroborates",
        "more than F claim the target",
        CATCH_UP,
        "            if weight > self._validators.tolerated_weight:\n",
        "            if weight >= self._validators.tolerated_weight:\n",
        "tests/unit/consensus/test_catch_up.py::test_what_more_than_f_claim_goes_before_what_one_claims",
    ),
    Bug(
        "claims of those who do not have the block are asked",
        "it asks those who claim it",
        CATCH_UP,
        "sorted(sender for sender, height in self._claims.items() if height >= last))",
        "sorted(self._claims))",
        "tests/unit/consensus/test_catch_up.py::test_what_more_than_f_claim_goes_before_what_one_claims",
    ),
    Bug(
        "a fetched block that holds another proposal than the one ordered goes unnoticed",
        "a fetched certified block with another proposal than the one ordered here is a divergence",
        REPLICA,
        "slot.ordered.digest != block.header.proposal_digest:",
        "not slot.ordered.digest:",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_a_fetched_block_that_was_ordered_differently_here_stops_this_node[False]",
    ),
    Bug(
        "fetched blocks are taken from any height",
        "fetched blocks are kept within a bound",
        REPLICA,
        "        if height > self._checkpoints.low + FETCH_BLOCKS_MAX:\n            return\n",
        "",
        "tests/unit/consensus/test_checkpoint.py::test_a_fetched_block_that_is_here_already_or_far_ahead_is_ignored",
    ),
    Bug(
        "a fetched block whose parts differ is taken",
        "header, certificate and proposal belong together",
        "consensus/checkpoint.py",
        "            or certificate.digest != header_hash(header)\n"
        "            or header.proposal_digest != proposal_digest",
        "            or header.proposal_digest != proposal_digest",
        "tests/unit/consensus/test_checkpoint.py::test_a_fetched_block_that_does_not_hold_together_is_our_bug",
    ),
    Bug(
        "votes far ahead do not tell that this node is behind",
        "checkpoint votes above the range that is kept are claims",
        REPLICA,
        "                if height > self._checkpoints.horizon:  # not kept",
        "                if height > 2**62:  # not kept",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_checkpoint_votes_beyond_the_horizon_only_say_that_this_node_is_behind",
        is_liveness=True,
    ),
)

RECOVERY: Final = (
    Bug(
        "votes are forgotten over a restart",
        "after a restart a node never contradicts its vote",
        SAFETY,
        "                    self._remember_vote(MessageType(kind), View(view), Height(height), Digest(digest))\n",
        "                    pass\n",
        "tests/unit/consensus/test_safety.py::test_a_second_prepare_is_refused_after_a_restart",
    ),
    Bug(
        "the view that was left is forgotten over a restart",
        "after a restart a replica does not vote in a view it has left",
        SAFETY,
        "            case ViewChangeRecord(message=message):\n"
        "                self.view, self.changing = View(message.view), True\n",
        "            case ViewChangeRecord(message=message):\n                pass\n",
        "tests/unit/consensus/test_safety.py::test_after_a_view_change_nothing_is_voted_until_the_new_view",
    ),
    Bug(
        "the view that was entered is forgotten over a restart",
        "after a restart a replica is in the view it had entered",
        SAFETY,
        "            case NewViewRecord(message=message):\n"
        "                self.view, self.changing = View(message.view), False\n",
        "            case NewViewRecord(message=message):\n                self.changing = False\n",
        "tests/unit/consensus/test_safety.py::test_entering_a_view_is_journalled_and_raises_the_floor_of_views",
    ),
    Bug(
        "prepared certificates are forgotten over a restart",
        "prepared certificates go into the next view-change after a restart",
        RECOVERY_PY,
        "            slot.prepared = certificate\n",
        "            pass\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "what was ordered is not executed again after a restart",
        "what was ordered and not stored is executed again",
        RECOVERY_PY,
        "            slot.ordered = certificate\n",
        "            pass\n",
        "tests/unit/consensus/test_recovery.py::"
        "test_ordered_heights_are_executed_again_from_the_journal_and_certified_blocks_stored_again",
    ),
    Bug(
        "block certificates are forgotten over a restart",
        "a block that was certified is certified after a restart without asking anybody",
        RECOVERY_PY,
        "        checkpoints.restore(certificate)\n",
        "        pass\n",
        "tests/unit/consensus/test_recovery.py::"
        "test_ordered_heights_are_executed_again_from_the_journal_and_certified_blocks_stored_again",
    ),
    Bug(
        "of two proposals of one view the wrong one is taken up after a restart",
        "after a restart a replica stands by the proposal it voted for",
        RECOVERY_PY,
        "is_fresh and slot.accepted is None and said in (None, digest):",
        "is_fresh and slot.accepted is None:",
        "tests/unit/consensus/test_recovery.py::test_of_two_proposals_of_one_view_the_one_voted_for_is_taken_up_again",
    ),
    Bug(
        "a proposal of an earlier view is fresh again after a restart",
        "messages of an older view do not count in a new one",
        RECOVERY_PY,
        "        is_fresh = record.view == view and record.proposal.height >= plan.first_fresh\n",
        "        is_fresh = record.proposal.height >= plan.first_fresh\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "of the votes of two views the older one is remembered",
        "after a restart a node never contradicts its vote",
        SAFETY,
        "    if said is None or said[0] < view:\n        table[height] = (view, digest)\n",
        "    if said is None:\n        table[height] = (view, digest)\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "a restarted leader forgets what it proposed",
        "a leader proposes once at each (view, height), restarts included",
        SAFETY,
        "                self._proposals[height] = (view, digest)\n",
        "                pass\n",
        "tests/unit/consensus/test_safety.py::"
        "test_two_pre_prepares_at_one_view_and_height_are_refused_also_after_a_restart",
    ),
    Bug(
        "a restarted replica does not say where it stands",
        "after a restart a replica tells the others where it stands",
        REPLICA,
        "        self._ordering.proceed_all(now, out)\n"
        "        out.append(Broadcast(message=self._retransmission.status()))\n",
        "        self._ordering.proceed_all(now, out)\n",
        "tests/unit/consensus/test_replica.py::test_on_start_a_replica_says_where_it_stands",
        is_liveness=True,
    ),
    Bug(
        "the bodies that are durable are forgotten over a restart",
        "proposals in the journal are voted for, executed and served after a restart",
        RECOVERY_PY,
        "        ordering.restore(height).durable[digest] = record.proposal\n",
        "        ordering.restore(height)\n",
        "tests/unit/consensus/test_recovery.py::test_after_a_restart_own_votes_of_the_view_are_repeated_byte_for_byte",
    ),
    Bug(
        "the window is that of the last stored block although the journal reaches further",
        "after a restart the ranges also reach as far as the journal does",
        ORDERING,
        "        self._restored_height = Height(max(self._restored_height, height))\n",
        "",
        "tests/unit/consensus/test_recovery.py::"
        "test_prepared_heights_beyond_the_window_of_the_stored_block_still_go_into_a_view_change",
    ),
)
