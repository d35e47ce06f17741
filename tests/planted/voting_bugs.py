"""Bugs in votes, certificates and what is checked of a message."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

VOTES_PY: Final = "consensus/votes.py"
ORDERING: Final = "consensus/ordering.py"
MESSAGES: Final = "consensus/messages.py"
VERIFICATION: Final = "consensus/verification.py"
VALIDATORS: Final = "chain/model/validators.py"
KEPT: Final = "consensus/kept.py"

VOTES: Final = (
    Bug(
        "a signer who votes twice counts twice",
        "a certificate counts distinct signers",
        VOTES_PY,
        "            return earlier if earlier.message.digest != vote.message.digest else None\n",
        "            if earlier.message.digest != vote.message.digest:\n                return earlier\n",
        "tests/unit/consensus/test_votes.py::test_distinct_signers_are_counted_not_votes",
    ),
    Bug(
        "signers are counted instead of their weights",
        "a quorum weighs at least W - F",
        VOTES_PY,
        "self._weights.get(digest, 0) + member.weight",
        "self._weights.get(digest, 0) + 1",
        "tests/planted/test_weights.py::"
        "test_two_of_four_are_a_quorum_if_they_are_heavy_and_three_are_none_if_they_are_light",
    ),
    Bug(
        "unequal votes are counted together",
        "prepared is a quorum of equal prepares",
        VOTES_PY,
        "        return self._weights.get(digest, 0) >= self._validators.quorum_weight\n",
        "        return sum(self._weights.values()) >= self._validators.quorum_weight\n",
        "tests/unit/consensus/test_recovery.py::test_no_prefix_of_the_journal_leads_to_a_conflicting_vote",
    ),
    Bug(
        "F + 1 are a quorum",
        "a quorum weighs at least W - F",
        VALIDATORS,
        "self.quorum_weight: int = self.total_weight - self.tolerated_weight",
        "self.quorum_weight: int = self.tolerated_weight + 1",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_a_quorum_of_equal_votes_stores_the_block_with_a_certificate_that_proves_it",
    ),
    Bug(
        "a quorum may be one short",
        "a quorum weighs at least W - F",
        VALIDATORS,
        "return self.weight(validators) >= self.quorum_weight",
        "return self.weight(validators) + 1 >= self.quorum_weight",
        "tests/planted/test_weights.py::"
        "test_two_light_voters_that_agree_are_more_than_f_where_one_heavy_one_is_not_alone",
    ),
    Bug(
        "F is W // 3",
        "F = (W - 1) // 3",
        VALIDATORS,
        "(self.total_weight - 1) // 3",
        "self.total_weight // 3",
        "tests/planted/test_weights.py::test_less_than_a_third_is_tolerated_whatever_the_total[6-1]",
    ),
    Bug(
        "F is taken for more than F",
        "'f+1' means more than F",
        VALIDATORS,
        "return self.weight(validators) > self.tolerated_weight",
        "return self.weight(validators) >= self.tolerated_weight",
        "tests/planted/test_weights.py::"
        "test_two_light_voters_that_agree_are_more_than_f_where_one_heavy_one_is_not_alone",
    ),
    Bug(
        "a repeated name weighs again",
        "weight of distinct members",
        VALIDATORS,
        "for validator in sorted(set(validators)) if",
        "for validator in validators if",
        "tests/planted/test_gaps.py::test_a_name_given_twice_weighs_once",
    ),
    Bug(
        "the type is not signed",
        "votes sign domain tag, chain id, message type, view, height and digest",
        MESSAGES,
        "chain_id, int(kind), view, height, digest))",
        "chain_id, 0, view, height, digest))",
        "tests/scenarios/test_votes.py::test_a_prepare_is_replayed_as_a_commit",
    ),
    Bug(
        "the view is not signed",
        "votes sign domain tag, chain id, message type, view, height and digest",
        MESSAGES,
        "chain_id, int(kind), view, height, digest))",
        "chain_id, int(kind), 0, height, digest))",
        "tests/scenarios/test_votes.py::test_a_certificate_of_an_older_view_is_replayed_as_a_newer_one",
    ),
    Bug(
        "the height is not signed",
        "votes sign domain tag, chain id, message type, view, height and digest",
        MESSAGES,
        "chain_id, int(kind), view, height, digest))",
        "chain_id, int(kind), view, 0, digest))",
        "tests/scenarios/test_votes.py::test_a_checkpoint_vote_of_one_height_certifies_another",
    ),
    Bug(
        "the chain is not signed",
        "votes sign domain tag, chain id, message type, view, height and digest",
        MESSAGES,
        "chain_id, int(kind), view, height, digest))",
        'b"", int(kind), view, height, digest))',
        "tests/scenarios/test_votes.py::test_a_vote_is_replayed_on_another_chain",
    ),
    Bug(
        "a view-change's contents are not signed",
        "the digest of a view-change covers the whole message",
        MESSAGES,
        "tagged_digest(TAG_VIEW_CHANGE, encode(message))",
        'tagged_digest(TAG_VIEW_CHANGE, b"")',
        "tests/unit/consensus/test_verification.py::test_a_forged_new_view_is_refused[prepared dropped]",
    ),
    Bug(
        "equivocation of a voter goes unreported",
        "two contradicting votes of one sender are evidence",
        ORDERING,
        "        if earlier is not None:\n            report(out, earlier, received, reason=FaultReason.EQUIVOCATION)\n"
        "            return\n        self._proceed(slot, now, out)\n",
        "        if earlier is not None:\n            return\n        self._proceed(slot, now, out)\n",
        "tests/scenarios/test_votes.py::test_equivocation_is_reported_with_both_messages_as_evidence",
    ),
    Bug(
        "a second pre-prepare takes the place of the first",
        "one proposal for each (view, height)",
        ORDERING,
        "        if slot.accepted is not None:\n            if slot.accepted != digest:\n",
        "        if slot.accepted is not None and slot.own_prepare is not None:\n"
        "            if slot.accepted != digest:\n",
        "tests/planted/test_gaps.py::test_of_two_proposals_the_first_counts_also_while_its_bodies_are_on_their_way",
    ),
    Bug(
        "a pre-prepare of anybody is taken",
        "pre-prepares come from the leader of the view",
        ORDERING,
        "        if received.sender != self._validators.leader(self.view) or proposal.proposer != received.sender:\n",
        "        if proposal.proposer != received.sender:\n",
        "tests/unit/consensus/test_replica.py::"
        "test_the_core_itself_refuses_proposals_and_new_views_of_validators_who_do_not_lead",
    ),
    Bug(
        "a proposal of another proposer is fresh",
        "a fresh proposal names its leader",
        ORDERING,
        "        if received.sender != self._validators.leader(self.view) or proposal.proposer != received.sender:\n",
        "        if received.sender != self._validators.leader(self.view):\n",
        "tests/unit/consensus/test_replica.py::"
        "test_the_core_itself_refuses_proposals_and_new_views_of_validators_who_do_not_lead",
    ),
    Bug(
        "a fresh proposal may stand where the new view has put another",
        "a fresh proposal below the first fresh height gets no vote",
        ORDERING,
        "if height < self.plan.first_fresh or proposal.chain_id != self._chain_id:",
        "if proposal.chain_id != self._chain_id:",
        "tests/scenarios/test_view_change.py::test_a_node_below_the_new_views_checkpoint_fetches_the_blocks",
    ),
    Bug(
        "a transaction may stand in two proposals of a view",
        "no hash is in another proposal of this view",
        ORDERING,
        "            other is slot or hashes.isdisjoint(other.hashes) for other in self._slots.values()\n",
        "            True for other in self._slots.values()\n",
        "tests/unit/consensus/test_ordering.py::test_a_hash_in_two_live_proposals_is_a_fault",
    ),
    Bug(
        "a transaction may stand twice in a proposal",
        "no hash stands twice in a proposal",
        ORDERING,
        "return len(hashes) == proposal.count and all(",
        "return all(",
        "tests/unit/consensus/test_ordering.py::test_a_hash_twice_in_one_proposal_is_a_fault",
    ),
    Bug(
        "a refused proposal gets a vote all the same",
        "a replica votes only for contents it may vote for",
        ORDERING,
        "slot.accepted is not None and slot.contents is Contents.DURABLE:",
        "slot.accepted is not None and slot.contents in (Contents.DURABLE, Contents.REFUSED):",
        "tests/scenarios/test_view_change.py::"
        "test_the_transactions_of_a_refused_proposal_are_never_given_back_to_the_pool",
    ),
    Bug(
        "a vote goes out before the bodies are here",
        "before a prepare vote leaves, the proposal and all its bodies are durable here",
        ORDERING,
        "slot.accepted is not None and slot.contents is Contents.DURABLE:",
        "slot.accepted is not None and slot.contents in (Contents.DURABLE, Contents.OBTAINING):",
        "tests/scenarios/test_view_change.py::"
        "test_the_transactions_of_a_refused_proposal_are_never_given_back_to_the_pool",
    ),
    Bug(
        "a proposal of the future gets a vote",
        "a fresh proposal's timestamp is within a bound of local time, else the vote waits",
        ORDERING,
        "            if slot.proposal.timestamp_ms > now + self._drift_ms_max:\n",
        "            if slot.proposal.timestamp_ms > now + 1_000 * self._drift_ms_max:\n",
        "tests/unit/consensus/test_ordering.py::test_a_timestamp_ahead_of_the_clock_waits_and_the_past_is_not_judged",
    ),
    Bug(
        "a proposal of the past waits for ever",
        "the past side of a timestamp is not judged",
        ORDERING,
        "            if slot.proposal.timestamp_ms > now + self._drift_ms_max:\n",
        "            if abs(slot.proposal.timestamp_ms - now) > self._drift_ms_max:\n",
        "tests/unit/consensus/test_ordering.py::test_a_timestamp_ahead_of_the_clock_waits_and_the_past_is_not_judged",
        is_liveness=True,
    ),
    Bug(
        "votes go beyond the window",
        "height <= low + window",
        ORDERING,
        "        return self._epoch.limit(self.low + self._window)\n",
        "        return self._epoch.limit(self.low + self._window + 1)\n",
        "tests/unit/consensus/test_ordering.py::"
        "test_the_leader_asks_for_one_proposal_at_a_time_while_transactions_wait_and_the_window_has_room",
    ),
    Bug(
        "messages are kept for any height",
        "low watermark < height <= low + 2 x window; what is beyond is not kept",
        ORDERING,
        "        if not self.low < height <= self.horizon:\n            return True\n",
        "        if not self.low < height:\n            return True\n",
        "tests/unit/consensus/test_ordering.py::test_what_lies_beyond_the_horizon_is_not_kept",
    ),
    Bug(
        "messages for certified heights are taken in again",
        "low watermark < height",
        ORDERING,
        "        if not self.low < height <= self.horizon:\n            return True\n",
        "        if not height <= self.horizon:\n            return True\n",
        "tests/paper/test_pbft_checkpoint.py::test_a_stable_checkpoint_empties_the_log_up_to_it",
    ),
    Bug(
        "of a sender in later views every message is kept",
        "of each sender only the messages of the highest view it speaks in are kept",
        KEPT,
        "            known_view, known = view, {}\n",
        "            known_view = view\n",
        "tests/planted/test_gaps.py::test_of_a_sender_ahead_only_its_highest_view_is_kept",
    ),
    Bug(
        "what was said in a view before it was entered is lost",
        "messages for a view that this replica has not entered are kept until it does",
        ORDERING,
        "            self._ahead.add(received, view, height)\n"
        "            return True\n",
        "            return True\n",
        "tests/unit/consensus/test_ordering.py::"
        "test_messages_of_later_views_are_kept_one_a_type_and_height_of_the_highest_view",
        is_liveness=True,
    ),
    Bug(
        "commits of different proposals make an order",
        "ordered is a quorum of equal commits",
        VOTES_PY,
        "            if weight >= self._validators.quorum_weight:\n                return digest\n",
        "            if sum(self._weights.values()) >= self._validators.quorum_weight:\n"
        "                return digest\n",
        "tests/unit/consensus/test_checkpoint.py::test_a_certificate_for_another_header_stops_this_node_for_good",
    ),
    Bug(
        "more than F commits make an order",
        "ordered is a quorum of equal commits",
        ORDERING,
        "        digest = slot.commits.quorum()\n        if digest is None:\n            return\n",
        "        digest = slot.commits.quorum() or (slot.accepted if slot.commits.has_honest() else None)\n"
        "        if digest is None:\n            return\n",
        "tests/unit/consensus/test_replica.py::test_the_story_of_a_height_is_readable_and_bounded",
    ),
    Bug(
        "a second order at a height goes unnoticed",
        "a commit quorum for another proposal than the one ordered here is a divergence",
        ORDERING,
        "        elif slot.ordered.digest != digest:\n",
        "        elif slot.ordered.digest != digest and not digest:\n",
        "tests/scenarios/test_view_change.py::test_more_than_f_faulty_members_order_a_second_value",
    ),
    Bug(
        "a gap below counts as ordered",
        "ordered_height: all heights up to it are ordered",
        ORDERING,
        "            if slot is None or slot.ordered is None:\n                return\n            self.ordered_height",
        "            if slot is None:\n                return\n            self.ordered_height",
        "tests/planted/test_gaps.py::test_a_height_that_is_ordered_above_a_gap_does_not_count_yet",
    ),
)

EXAMINATION: Final = (
    Bug(
        "a certificate may name a signer twice",
        "a certificate's signers are distinct and ascending",
        VERIFICATION,
        "            all(low < high for low, high in pairwise(signers)),\n",
        "            all(low <= high for low, high in pairwise(signers)),\n",
        "tests/scenarios/test_votes.py::test_the_quorum_counts_signatures_instead_of_distinct_signers",
    ),
    Bug(
        "a stranger's signature is passed over",
        "a stranger makes a certificate invalid",
        VERIFICATION,
        '                raise PeerFault("bad_certificate: signed by a stranger")\n',
        "                continue\n",
        "tests/planted/test_gaps.py::test_a_certificate_that_a_stranger_signed_too_is_no_certificate",
    ),
    Bug(
        "a certificate of less than a quorum is valid",
        "less than a quorum makes a certificate invalid",
        VERIFICATION,
        '        _require(validators.is_quorum(signers), "bad_certificate", "less than a quorum")\n',
        "",
        "tests/unit/consensus/test_verification.py::"
        "test_a_view_change_with_a_bad_prepared_certificate_is_refused[certificate0-bad_certificate]",
    ),
    Bug(
        "a certificate of prepares stands for a block's",
        "a certificate is of the kind asked for",
        VERIFICATION,
        '        _require(certificate.kind == kind, "bad_certificate", f"kind {certificate.kind}, must be '
        '{int(kind)}")\n',
        "        kind = MessageType(certificate.kind)\n",
        "tests/unit/consensus/test_verification.py::"
        "test_a_view_change_with_a_bad_prepared_certificate_is_refused[certificate6-bad_certificate]",
    ),
    Bug(
        "the signatures in certificates are not checked",
        "every nested signature is checked",
        VERIFICATION,
        "            self.items.append((member.public_key, message, entry.signature))\n",
        "            self.items.append((member.public_key, message, entry.signature)) if not signers else None\n",
        "tests/unit/consensus/test_verification.py::"
        "test_a_view_change_with_a_bad_prepared_certificate_is_refused[certificate7-bad_signature]",
    ),
    Bug(
        "the view-changes in a new view are not checked",
        "the view-changes of a new view are valid",
        VERIFICATION,
        "            self.message(ValidatorId(entry.sender), entry.message, entry.signature)\n",
        "            pass\n",
        "tests/unit/consensus/test_verification.py::test_a_forged_new_view_is_refused[other sender]",
    ),
    Bug(
        "view-changes for other views count for a new view",
        "a new view needs a quorum for that one view",
        VERIFICATION,
        '            _require(entry.message.view == message.view, "bad_new_view", "a view-change for another view")\n',
        "",
        "tests/unit/consensus/test_verification.py::test_a_forged_new_view_is_refused[for another view]",
    ),
    Bug(
        "a new view of less than a quorum is valid",
        "a new view needs a quorum",
        VERIFICATION,
        '        _require(self._validators.is_quorum(senders), "bad_new_view", "less than a quorum of view-changes")\n',
        "",
        "tests/unit/consensus/test_verification.py::test_a_forged_new_view_is_refused[too few]",
    ),
    Bug(
        "one sender's view-change counts twice in a new view",
        "the senders of a new view's view-changes are distinct",
        VERIFICATION,
        "            all(low < high for low, high in pairwise(senders)),\n",
        "            all(low <= high for low, high in pairwise(senders)),\n",
        "tests/planted/test_gaps.py::test_a_new_view_with_a_quorum_and_one_of_them_twice_is_refused",
    ),
    Bug(
        "a view-change may hold what was prepared in the view it asks for",
        "prepared certificates of a view-change are of views below it",
        VERIFICATION,
        "            _require(certificate.view < message.view,",
        "            _require(certificate.view <= message.view,",
        "tests/unit/consensus/test_verification.py::test_nothing_is_prepared_in_the_view_asked_for_or_a_later_one",
    ),
    Bug(
        "a view-change may reach beyond the window",
        "prepared certificates lie at most a window above the stable one",
        VERIFICATION,
        "            _require(height < certificate.height <= last,",
        "            _require(height < certificate.height,",
        "tests/unit/consensus/test_verification.py::"
        "test_prepared_certificates_ascend_above_the_stable_one_and_stay_in_the_window",
    ),
    Bug(
        "the stable certificate of a view-change is not checked",
        "a view-change's stable certificate is a valid block certificate",
        VERIFICATION,
        "            self.certificate(message.stable, MessageType.CHECKPOINT, self._certifiers(height))\n",
        "",
        "tests/unit/consensus/test_verification.py::test_a_stable_certificate_must_be_a_block_certificate",
    ),
    Bug(
        "views have no bound",
        "views are at most 2^48",
        VERIFICATION,
        "        _require(lowest <= view <= VIEW_MAX,",
        "        _require(lowest <= view,",
        "tests/unit/consensus/test_verification.py::test_views_out_of_range_are_refused[281474976710657]",
    ),
    Bug(
        "one bad signature of many is overlooked",
        "every signature is checked",
        VERIFICATION,
        "        if not verify_signature(public_key, message, signature):\n",
        "        if not verify_signature(public_key, message, signature) and public_key == items[0][0]:\n",
        "tests/unit/consensus/test_verification.py::test_a_forged_new_view_is_refused[other sender]",
    ),
)
