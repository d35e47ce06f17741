"""Bugs at the borders of epochs: one validator set at a time."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

EPOCH: Final = "consensus/epoch.py"
SUCCESSION: Final = "consensus/succession.py"
ORDERING: Final = "consensus/ordering.py"
VERIFICATION: Final = "consensus/verification.py"
REPLICA: Final = "consensus/replica.py"
FOLLOWER: Final = "consensus/follower.py"
LEADER: Final = "consensus/leader.py"
PACE: Final = "consensus/pace.py"

EPOCHS: Final = (
    Bug(
        "votes go beyond the boundary",
        "no replica votes above a boundary before the block at it is certified and stored",
        ORDERING,
        "        return self._epoch.limit(self.low + self._window)\n",
        "        return Height(self.low + self._window)\n",
        "tests/planted/test_epoch_gaps.py::test_at_no_moment_a_leader_asks_for_a_proposal_above_the_boundary",
    ),
    Bug(
        "the next epoch begins before the last block of the old one is stored",
        "an epoch begins when the block below it is stored",
        SUCCESSION,
        "        if block is None or self._stored < block[0].height or",
        "        if block is None or",
        "tests/unit/consensus/test_succession.py::test_nobody_votes_above_the_boundary_before_its_block_is_stored",
    ),
    Bug(
        "a new set takes effect one height early",
        "a change executed at h takes effect at h + window + 1",
        SUCCESSION,
        "            self._schedule.add(event.header.height + self._window + 1, event.validators)\n",
        "            self._schedule.add(event.header.height + self._window, event.validators)\n",
        "tests/unit/consensus/test_succession.py::test_a_block_stored_below_the_boundary_ends_nothing",
    ),
    Bug(
        "the base is certified by the new set",
        "a stable certificate at the base is checked against the set before",
        VERIFICATION,
        "        return previous if previous is not None and height == self._epoch.base else self._validators\n",
        "        return self._validators\n",
        "tests/unit/consensus/test_succession.py::"
        "test_a_stable_certificate_at_the_base_is_checked_against_the_set_before",
        is_liveness=True,
    ),
    Bug(
        "the set before certifies heights of the new epoch",
        "certificates of removed nodes are refused",
        VERIFICATION,
        "        return previous if previous is not None and height == self._epoch.base else self._validators\n",
        "        return previous if previous is not None and height >= self._epoch.base else self._validators\n",
        "tests/unit/consensus/test_succession.py::"
        "test_a_stable_certificate_at_the_base_is_checked_against_the_set_before",
    ),
    Bug(
        "view-changes of an earlier epoch count",
        "nothing of one epoch counts in another",
        VERIFICATION,
        "        if past and all(past):\n            raise OtherEpoch(None)\n",
        "",
        "tests/unit/consensus/test_succession.py::test_a_late_vote_of_the_last_epoch_is_nobodys_fault",
    ),
    Bug(
        "a vote for the next epoch is its sender's fault",
        "messages of an earlier or later epoch are no fault of the sender",
        VERIFICATION,
        "            is_later = any(height > self._epoch.end for height in heights)\n            if is_later or",
        "            is_later = False\n            if is_later or",
        "tests/planted/test_epoch_gaps.py::"
        "test_a_vote_of_a_stranger_for_a_height_that_may_be_anothers_epoch_is_no_fault",
    ),
    Bug(
        "a view-change holds certificates of two epochs",
        "every vote belongs to one validator set",
        VERIFICATION,
        "            _require(certificate.height <= self._epoch.limit(certificate.height),",
        "            _require(certificate.height > 0,",
        "tests/planted/test_epoch_gaps.py::"
        "test_a_view_change_with_a_certificate_above_the_boundary_is_its_senders_fault",
    ),
    Bug(
        "what was said of heights that may be the next epoch's counts at once",
        "nothing follows from what is said of heights that are not certain",
        ORDERING,
        "            self._beyond.add(received, view, height)\n            return True\n",
        "            pass\n",
        "tests/unit/consensus/test_succession.py::"
        "test_votes_of_the_next_epoch_for_heights_this_one_might_have_had_count_nowhere",
    ),
    Bug(
        "what was said of heights that are now certain is lost",
        "what is said of heights that may be the next epoch's is kept",
        ORDERING,
        "        for received in self._beyond.take_up_to(self._epoch.end):\n"
        "            self._hear(received, now, out)\n",
        "",
        "tests/unit/consensus/test_succession.py::"
        "test_votes_of_the_next_epoch_for_heights_this_one_might_have_had_count_nowhere",
        is_liveness=True,
    ),
    Bug(
        "the leader packs no empty blocks on the way to a boundary",
        "a boundary that is not reached counts as work",
        LEADER,
        "        return self.is_waiting or may_be_empty\n",
        "        return self.is_waiting\n",
        "tests/planted/test_epoch_gaps.py::test_a_leader_whose_pool_is_empty_packs_on_the_way_to_the_boundary",
        is_liveness=True,
    ),
    Bug(
        "a leader that does not get to the boundary is waited for",
        "a boundary that is not reached runs the view timer",
        PACE,
        "        is_wanted = self._leader.is_overdue or self._epoch.is_ending(self._checkpoints.low)\n",
        "        is_wanted = self._leader.is_overdue\n",
        "tests/unit/consensus/test_succession.py::"
        "test_the_view_is_changed_where_the_leader_does_not_go_to_the_boundary",
        is_liveness=True,
    ),
    Bug(
        "a node follows although it has a vote again",
        "a node that is in an epoch's set votes",
        SUCCESSION,
        "        if not voters:\n",
        "        if not voters or base:\n",
        "tests/unit/consensus/test_succession.py::test_a_leader_proposes_nothing_above_the_boundary",
    ),
    Bug(
        "a removed validator keeps its vote",
        "a node that is not in an epoch's set has no vote",
        SUCCESSION,
        "        voters = [signer for signer in self._signers if signer.validator_id in epoch.validators]\n",
        "        voters = [signer for signer in self._signers if base or signer.validator_id in epoch.validators]\n",
        "tests/unit/consensus/test_succession.py::"
        "test_a_removed_validator_follows_and_says_nothing_but_where_it_stands",
    ),
    Bug(
        "a restart forgets that a boundary is ahead",
        "the barrier holds over restarts",
        SUCCESSION,
        "            boundary=self._schedule.boundary(height),\n",
        "            boundary=None,\n",
        "tests/unit/consensus/test_succession.py::"
        "test_a_restart_before_the_boundary_is_stored_goes_on_in_the_old_epoch",
    ),
    Bug(
        "the next core is not told that transactions wait",
        "after the border of an epoch transactions are packed again",
        SUCCESSION,
        "        if self._pool is not None:\n            out += self._inner.step(self._pool, now)\n",
        "",
        "tests/unit/consensus/test_succession.py::test_a_leader_proposes_nothing_above_the_boundary",
        is_liveness=True,
    ),
    Bug(
        "the timers of the old epoch run on",
        "nothing of one epoch counts in another",
        SUCCESSION,
        "        out += self._inner.end()\n",
        "",
        "tests/unit/consensus/test_succession.py::test_views_begin_at_0_and_what_was_open_is_void",
    ),
    Bug(
        "a follower executes beyond what is certain",
        "a block is executed when its validator set is known",
        FOLLOWER,
        "            if fetched is None or height > self._epoch.end:\n",
        "            if fetched is None:\n",
        "tests/unit/consensus/test_succession.py::test_blocks_are_not_asked_for_nor_executed_beyond_what_is_certain",
    ),
    Bug(
        "a leader may leave out one transaction for ever",
        "what is ordered does not count for ever while the transaction that has waited longest is left out",
        PACE,
        "        if not delay_ms or since is None or self._safety.changing:\n",
        "        if delay_ms or since is None or self._safety.changing:\n",
        "tests/unit/consensus/test_censorship.py::test_who_is_behind_cannot_tell_what_is_left_out",
        is_liveness=True,
    ),
)
