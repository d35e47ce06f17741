"""Bugs in what is durable before it is visible, in checkpoints and in noticing divergence."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

VOTES_PY: Final = "consensus/votes.py"
SAFETY: Final = "consensus/safety.py"
ORDERING: Final = "consensus/ordering.py"
CHECKPOINT: Final = "consensus/checkpoint.py"

DURABILITY: Final = (
    Bug(
        "a prepare leaves before its record",
        "votes are in the journal before they leave",
        SAFETY,
        "            self._persist(VoteRecord(kind=MessageType.PREPARE, view=view, height=height, "
        "digest=digest), out)\n"
        "        return self._say(Prepare(view=view, height=height, digest=digest), out)\n",
        "            said = self._say(Prepare(view=view, height=height, digest=digest), out)\n"
        "            self._persist(VoteRecord(kind=MessageType.PREPARE, view=view, height=height, "
        "digest=digest), out)\n"
        "            return said\n"
        "        return self._say(Prepare(view=view, height=height, digest=digest), out)\n",
        "tests/unit/consensus/test_safety.py::test_a_vote_is_persisted_before_it_is_sent",
    ),
    Bug(
        "commit votes are not in the journal",
        "votes are in the journal before they leave",
        SAFETY,
        "            self._persist(VoteRecord(kind=MessageType.COMMIT, view=view, height=height, "
        "digest=digest), out)\n",
        "",
        "tests/unit/consensus/test_safety.py::test_the_prepared_certificate_is_journalled_before_the_commit",
    ),
    Bug(
        "the prepared certificate is not in the journal",
        "prepared certificates are in the journal before the commit vote",
        SAFETY,
        "            self._persist(CertificateRecord(certificate=prepared), out)\n",
        "",
        "tests/unit/consensus/test_safety.py::test_the_prepared_certificate_is_journalled_before_the_commit",
    ),
    Bug(
        "checkpoint votes are not in the journal",
        "checkpoint signatures are in the journal before they leave",
        SAFETY,
        "            self._persist(VoteRecord(kind=MessageType.CHECKPOINT, view=0, height=height, "
        "digest=digest), out)\n",
        "",
        "tests/unit/consensus/test_safety.py::test_two_headers_at_one_height_are_refused_also_after_a_restart",
    ),
    Bug(
        "view-changes are not in the journal",
        "view-change material is in the journal before it leaves",
        SAFETY,
        "        self._persist(ViewChangeRecord(message=verified.message, signature=verified.signature), out)\n",
        "",
        "tests/unit/consensus/test_safety.py::test_after_a_view_change_nothing_is_voted_until_the_new_view",
    ),
    Bug(
        "new views are not in the journal",
        "a new view is in the journal before votes in it",
        SAFETY,
        "        self._persist(record, out)\n        if new_view.sender == self.id:\n",
        "        if new_view.sender == self.id:\n",
        "tests/unit/consensus/test_safety.py::test_entering_a_view_is_journalled_and_raises_the_floor_of_views",
    ),
    Bug(
        "the leader's proposal is not in the journal",
        "a proposal is durable before its pre-prepare leaves",
        SAFETY,
        "            self._persist(ProposalRecord(view=view, proposal=proposal), out)\n",
        "            pass\n",
        "tests/unit/consensus/test_ordering.py::"
        "test_the_leader_asks_for_one_proposal_at_a_time_while_transactions_wait_and_the_window_has_room",
    ),
    Bug(
        "the block certificate does not go with the first record after it",
        "a checkpoint certificate is durable with the first record after its block",
        SAFETY,
        "        self._unwritten = stable\n",
        "        self._unwritten = None\n",
        "tests/unit/consensus/test_safety.py::"
        "test_the_block_certificate_that_opens_the_window_is_journalled_with_the_next_vote",
    ),
    Bug(
        "the order is not in the journal",
        "the commit certificate is in the journal before the checkpoint vote",
        ORDERING,
        "            out.append(Persist(record=CertificateRecord(certificate=slot.ordered)))\n",
        "",
        "tests/unit/consensus/test_ordering.py::test_the_effects_of_a_height_in_order",
    ),
    Bug(
        "a proposal that was obtained is not in the journal",
        "before a prepare vote leaves, the proposal is durable",
        ORDERING,
        "        out.append(Persist(record=ProposalRecord(view=self.view, proposal=proposal)))\n",
        "",
        "tests/unit/consensus/test_ordering.py::test_the_effects_of_a_height_in_order",
    ),
    Bug(
        "a vote that contradicts an earlier one is signed",
        "a node never contradicts its own vote",
        SAFETY,
        "(said[0] == view and said[1] != digest):",
        "(said[0] == view and not digest):",
        "tests/unit/consensus/test_safety.py::test_a_second_prepare_at_one_view_and_height_is_refused",
    ),
    Bug(
        "a vote in a view that was left is signed",
        "after it has asked for a view a replica does not vote in older ones",
        SAFETY,
        "        if self.changing or view != self.view:\n            raise InvariantError(f\"vote in view",
        "        if view > self.view:\n            raise InvariantError(f\"vote in view",
        "tests/unit/consensus/test_safety.py::test_after_a_view_change_nothing_is_voted_until_the_new_view",
    ),
    Bug(
        "a vote at a certified height is signed",
        "low watermark < height",
        SAFETY,
        "        if height <= self.floor:\n            raise",
        "        if height < self.floor:\n            raise",
        "tests/unit/consensus/test_safety.py::test_nothing_is_voted_at_or_below_the_certified_height",
    ),
    Bug(
        "a second checkpoint vote is signed",
        "a node never contradicts its own vote",
        SAFETY,
        "        if said is not None and said != digest:\n            raise InvariantError(f\"second checkpoint",
        "        if said is not None and not digest:\n            raise InvariantError(f\"second checkpoint",
        "tests/unit/consensus/test_safety.py::test_two_headers_at_one_height_are_refused_also_after_a_restart",
    ),
)

CHECKPOINTS: Final = (
    Bug(
        "headers below the quorum make a certificate",
        "a quorum of equal signatures by distinct validators is the block's certificate",
        CHECKPOINT,
        "        digest = tally.quorum()\n        if digest is not None:\n",
        "        digest = tally.quorum() or (self._headers[height][1] if height in self._headers else None)\n"
        "        if digest is not None and tally.has_honest():\n",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_a_quorum_of_equal_votes_stores_the_block_with_a_certificate_that_proves_it",
    ),
    Bug(
        "a certificate for another header goes unnoticed",
        "a node whose executed header differs from a certificate stops",
        CHECKPOINT,
        "        if certificate is not None and executed is not None and certificate.digest != executed[1]:\n",
        "        if certificate is not None and executed is not None and not certificate.digest:\n",
        "tests/unit/consensus/test_checkpoint.py::test_a_certificate_for_another_header_stops_this_node_for_good",
    ),
    Bug(
        "two certificates of one height go unnoticed",
        "two certificates for different headers of one height are a divergence",
        CHECKPOINT,
        "        if known.digest != certificate.digest:\n",
        "        if not known.digest:\n",
        "tests/planted/test_gaps.py::"
        "test_two_certificates_of_one_height_stop_the_node_before_it_has_executed_the_height",
    ),
    Bug(
        "a chain in which no quorum can form goes on waiting",
        "when no quorum of equal headers can form any more, the chain halts loudly",
        CHECKPOINT,
        "        elif height in self._headers and not tally.can_agree():\n",
        "        elif height in self._headers and len(tally) < 0:\n",
        "tests/unit/consensus/test_checkpoint.py::test_it_is_noticed_that_no_quorum_can_form_any_more",
        is_liveness=True,
    ),
    Bug(
        "a chain halts although a quorum can still form",
        "it halts only when no quorum can form any more",
        VOTES_PY,
        "return missing + max(self._weights.values(), default=0) >= self._validators.quorum_weight",
        "return max(self._weights.values(), default=0) >= missing",
        "tests/unit/consensus/test_votes.py::test_it_is_known_when_no_quorum_can_agree_any_more",
    ),
    Bug(
        "heights are executed out of order",
        "execution is strictly by height",
        CHECKPOINT,
        "        if proposal.height != self.issued + 1:\n",
        "        if proposal.height <= self.issued:\n",
        "tests/planted/test_gaps.py::test_no_height_is_executed_before_the_one_below_it",
    ),
    Bug(
        "a header that does not extend the last one is signed",
        "the executed header holds its parent's hash",
        CHECKPOINT,
        "            or header.parent_hash != self._tip\n",
        "",
        "tests/unit/consensus/test_checkpoint.py::test_a_header_that_does_not_extend_the_chain_is_our_bug",
    ),
    Bug(
        "a header of another proposal is signed",
        "the executed header holds the digest of the proposal that was ordered",
        CHECKPOINT,
        "            or header.proposal_digest != self._issued[height]\n",
        "",
        "tests/unit/consensus/test_checkpoint.py::test_a_header_that_does_not_extend_the_chain_is_our_bug",
    ),
    Bug(
        "a header that differs from the one voted for before a restart is signed",
        "execution that does not repeat itself stops the node",
        CHECKPOINT,
        "        if said is not None and said != digest:  # execution",
        "        if said is not None and not digest:  # execution",
        "tests/unit/consensus/test_recovery.py::test_an_execution_that_does_not_repeat_itself_stops_the_node",
    ),
    Bug(
        "a block is stored before it is executed here",
        "only what is certified and executed is stored",
        CHECKPOINT,
        "            if certificate is None or height not in self._headers:\n                break\n",
        "            if certificate is None:\n                break\n            if height not in self._headers:\n"
        "                self.low = height\n                break\n",
        "tests/unit/consensus/test_checkpoint.py::test_votes_may_come_before_the_execution",
    ),
    Bug(
        "a halted node goes on voting",
        "a node that diverged stops voting",
        "consensus/replica.py",
        "        if self._diverged is not None or (not self._started",
        "        if (not self._started",
        "tests/unit/consensus/test_checkpoint.py::test_a_certificate_for_another_header_stops_this_node_for_good",
    ),
    Bug(
        "votes on certified blocks are forgotten at once",
        "the checkpoint votes of the last window of certified blocks are kept for those who miss them",
        CHECKPOINT,
        "        self._recent.pop(Height(height - self._window), None)\n",
        "        self._recent.pop(height, None)\n",
        "tests/unit/consensus/test_replica.py::test_the_answer_to_a_status_is_what_the_peer_seems_to_miss",
        is_liveness=True,
    ),
    Bug(
        "equivocation of a checkpoint voter goes unreported",
        "two contradicting votes of one sender are evidence",
        CHECKPOINT,
        "        if earlier is not None:\n            report(",
        "        if earlier is not None and len(out) > 10_000:\n            report(",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_two_headers_signed_by_one_validator_are_evidence_and_the_first_counts",
    ),
    Bug(
        "checkpoint votes are kept for any height",
        "what is kept of a peer is bounded",
        CHECKPOINT,
        "        if not self.low < height <= self.horizon:\n            return\n",
        "        if not self.low < height:\n            return\n",
        "tests/unit/consensus/test_checkpoint.py::"
        "test_checkpoint_votes_beyond_the_horizon_only_say_that_this_node_is_behind",
    ),
)
