"""Bugs in the driver and in sync."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

ORDER: Final = "chain/pipeline/order.py"
EXECUTED: Final = "chain/node/executed.py"
PACK: Final = "chain/pipeline/pack.py"
STORE_STAGE: Final = "chain/pipeline/store.py"
FETCH: Final = "chain/sync/blocks.py"
CHECKING: Final = "chain/sync/checking.py"
DOWNLOAD: Final = "chain/sync/download.py"
PROPOSALS: Final = "chain/sync/proposals.py"
SERVER: Final = "chain/sync/server.py"

DRIVER: Final = (
    Bug(
        "a vote leaves while its record is being written",
        "nothing behind a Persist leaves before it is durable",
        ORDER,
        "                await loop.run_in_executor(self._journal_thread, self._write, records, proposals)\n",
        "                writing = loop.run_in_executor(self._journal_thread, self._write, records, proposals)\n"
        "                writing.add_done_callback(lambda done: done.exception())\n",
        "tests/unit/pipeline/test_order.py::test_nothing_leaves_at_all_when_the_journal_cannot_be_written",
    ),
    Bug(
        "a vote leaves before its record is written",
        "nothing behind a Persist leaves before it is durable",
        ORDER,
        "                while not held and not isinstance(effects[done], Persist):  # what stands",
        "                while done < len(effects):  # what stands",
        "tests/unit/pipeline/test_order.py::test_nothing_behind_a_persist_leaves_before_it_is_durable",
    ),
    Bug(
        "records are written without the bodies",
        "the proposal and all its bodies are durable before the prepare vote",
        ORDER,
        "for record in records if isinstance(record, ProposalRecord)]",
        "for record in records if isinstance(record, VoteRecord)]",
        "tests/unit/pipeline/test_order.py::test_nothing_behind_a_persist_leaves_before_it_is_durable",
    ),
    Bug(
        "only the first record of a batch is written",
        "one synced write covers all records that piled up",
        ORDER,
        "            self._journal.write(records, proposals)\n",
        "            self._journal.write(records[:1], proposals)\n",
        "tests/unit/pipeline/test_order.py::test_nothing_behind_a_persist_leaves_before_it_is_durable",
    ),
    Bug(
        "a message with a bad signature reaches the core",
        "the core takes only what is verified",
        ORDER,
        "                if all(verdicts[first:at]):\n",
        "                if any([True, *verdicts[first:at]]):\n",
        "tests/unit/pipeline/test_order.py::test_a_message_with_a_wrong_signature_reaches_no_core",
    ),
    Bug(
        "the verdict on one message is taken for another's",
        "the core takes only what is verified",
        ORDER,
        "                first, at = at, at + len(message.items)\n",
        "                first, at = at, at + 1\n",
        "tests/planted/test_driver_gaps.py::test_each_message_stands_and_falls_with_its_own_signatures",
    ),
    Bug(
        "a sender's frames pile up without end",
        "each sender has a bounded inbox",
        ORDER,
        "        while len(self.frames) > FRAMES_PENDING_MAX or self.size > FRAME_BYTES_PENDING_MAX:\n",
        "        while not self.frames:\n",
        "tests/unit/pipeline/test_order.py::test_a_sender_that_floods_loses_its_own_frames_only",
    ),
    Bug(
        "one sender is heard before all others",
        "one sender after the other",
        ORDER,
        "            taken = [(peer, frame) for peer, inbox in self._frames.items() if (frame := "
        "inbox.take()) is not None]\n",
        "            taken = [\n"
        "                (peer, frame)\n"
        "                for peer, inbox in list(self._frames.items())\n"
        "                for frame in [inbox.take() for _ in list(inbox.frames)]\n"
        "                if frame is not None\n"
        "            ]\n",
        "tests/planted/test_driver_gaps.py::test_a_round_hears_one_sender_after_the_other",
    ),
    Bug(
        "a halted node goes on sending",
        "a promise that broke stops the node",
        ORDER,
        "        if self._halted:\n            return\n        match effect:\n",
        "        match effect:\n",
        "tests/unit/pipeline/test_order.py::test_a_halt_stops_what_is_already_on_its_way_out",
    ),
    Bug(
        "the filter of executed transactions forgets when it grows",
        "a transaction is executed once",
        EXECUTED,
        "            self._tables.append(table)\n",
        "            self._tables = [table]\n",
        "tests/unit/node/test_executed.py::test_the_filter_never_forgets_however_much_it_grows",
    ),
    Bug(
        "the filter is believed before it knows what was stored",
        "a transaction is executed once",
        EXECUTED,
        "        self.is_filled = count == 0\n",
        "        self.is_filled = True\n",
        "tests/unit/node/test_executed.py::test_a_long_chain_is_read_later_and_until_then_the_store_is_asked",
    ),
    Bug(
        "what is executed and not stored is unknown to the filter",
        "a transaction is executed once",
        EXECUTED,
        '        self.filter.add(b"".join(hashes))\n',
        "",
        "tests/unit/node/test_executed.py::test_executed_is_what_is_stored_and_what_waits_to_be",
    ),
    Bug(
        "a leader may wait longer than others wait for him",
        "a waiting leader is no silent one",
        PACK,
        "    return min(interval_ms, view_timeout_ms // PATIENCE_PARTS, pooled_ms_max // PATIENCE_PARTS)\n",
        "    return interval_ms\n",
        "tests/unit/pipeline/test_pack.py::test_a_waiting_leader_is_no_silent_one",
    ),
    Bug(
        "what leaves does not wait for a record that is held back",
        "nothing behind a Persist leaves before it is durable",
        ORDER,
        "    return not any(isinstance(effect, LEAVING) for effect in effects) and all(\n",
        "    return all(\n",
        "tests/unit/pipeline/test_order.py::test_whatever_leaves_waits_for_what_was_held_back",
    ),
    Bug(
        "a prepared certificate is held back",
        "prepared certificates are in the journal before they leave",
        ORDER,
        " and record.certificate.kind == MessageType.COMMIT for record in records\n",
        " for record in records\n",
        "tests/unit/pipeline/test_order.py::test_no_other_record_is_held_back",
    ),
    Bug(
        "a timer armed again for later rings when it was first due",
        "one timer of each kind",
        ORDER,
        "        if loop.time() < due - TIMER_SLACK_S:\n",
        "        if loop.time() < due - TIMER_SLACK_S and False:\n",
        "tests/planted/test_driver_gaps.py::test_a_timer_set_anew_takes_the_place_of_the_last_one",
    ),
    Bug(
        "blocks are stored out of order",
        "blocks are stored strictly by height",
        STORE_STAGE,
        "                if block.executed.header.height != self._last + 1:\n",
        "                if block.executed.header.height <= self._last:\n",
        "tests/unit/pipeline/test_store_stage.py::test_another_height_than_the_next_is_our_bug",
    ),
    Bug(
        "a block is stored with a certificate of another header",
        "a block is stored with its certificate",
        STORE_STAGE,
        "        if header_hash(header) != block.certificate.digest:\n",
        "        if not block.certificate.digest:\n",
        "tests/unit/pipeline/test_store_stage.py::test_a_certificate_for_another_header_stores_nothing",
    ),
    Bug(
        "a block counts as stored before it is",
        "certified is told when the block is durable",
        STORE_STAGE,
        "            await loop.run_in_executor(self._thread, self._write, blocks)\n            end_us = now_us()\n",
        "            self._stored(blocks[:0])\n            self._stored(blocks)\n"
        "            await loop.run_in_executor(self._thread, self._write, blocks)\n            end_us = now_us()\n",
        "tests/unit/pipeline/test_store_stage.py::test_blocks_that_pile_up_are_written_at_once_and_told_when_durable",
    ),
)

SYNC: Final = (
    Bug(
        "a fetched block's certificate is not checked",
        "certificates are checked at every entrance: sync",
        CHECKING,
        "            items += self._certificate_items(certificate, validators)\n",
        "            pass\n",
        "tests/unit/sync/test_blocks.py::test_a_lie_is_counted_against_the_liar_and_the_next_peer_is_asked",
    ),
    Bug(
        "an empty block's certificate is not checked",
        "certificates are checked at every entrance: empty blocks too",
        CHECKING,
        "            items += self._certificate_items(certificate, validators)\n",
        "            items += self._certificate_items(certificate, validators) if transactions else []\n",
        "tests/planted/test_driver_gaps.py::test_an_empty_block_needs_its_certificate_like_any_other",
    ),
    Bug(
        "a fetched block may be of another height",
        "blocks belong to the heights asked for",
        CHECKING,
        "        if header.height != height or proposal.height != height or certificate.height != height:\n",
        "        if proposal.height != header.height or certificate.height != header.height:\n",
        "tests/planted/test_driver_gaps.py::test_a_good_block_of_another_height_is_not_the_one_asked_for",
    ),
    Bug(
        "a fetched block's certificate may be of another header",
        "header and certificate belong together",
        CHECKING,
        "        if certificate.digest != header_hash(header) or header.proposal_digest != digest:\n",
        "        if header.proposal_digest != digest:\n",
        "tests/unit/sync/test_blocks.py::test_a_lie_is_counted_against_the_liar_and_the_next_peer_is_asked",
    ),
    Bug(
        "a fetched block may come with another proposal",
        "header and proposal belong together",
        CHECKING,
        "        if certificate.digest != header_hash(header) or header.proposal_digest != digest:\n",
        "        if certificate.digest != header_hash(header):\n",
        "tests/unit/sync/test_blocks.py::test_a_lie_is_counted_against_the_liar_and_the_next_peer_is_asked",
    ),
    Bug(
        "fetched bodies' signatures are not checked",
        "every body's signature is checked",
        CHECKING,
        "        items = [signature_item(transaction) for transaction in transactions]\n",
        "        items = [signature_item(transaction) for transaction in transactions[:0]]\n",
        "tests/unit/sync/test_blocks.py::test_a_lie_is_counted_against_the_liar_and_the_next_peer_is_asked",
    ),
    Bug(
        "bodies need not be the proposal's",
        "bodies are exactly the proposal's transactions",
        PROPOSALS,
        "        if transaction.hash != transaction_hash:\n",
        "        if not transaction_hash:\n",
        "tests/unit/sync/test_proposals.py::test_bodies_swapped_by_the_answering_peer_are_not_taken",
    ),
    Bug(
        "a peer that sends nothing is asked for ever",
        "blocks come from one source after the other",
        DOWNLOAD,
        "            if not state.failures:\n"
        "                state.last = min(state.last, first - 1)  # it has less than it said\n",
        "",
        "tests/unit/sync/test_blocks.py::test_a_peer_that_claims_more_than_it_has_ends_the_run",
        is_liveness=True,
    ),
    Bug(
        "a peer's bad block is not held against it",
        "bad input is told to whoever sent it",
        DOWNLOAD,
        '            self.refuse(source, f"{self._name}_{error.code}: {error.message}")\n',
        "            state.failures += 1\n",
        "tests/unit/sync/test_blocks.py::test_a_lie_is_counted_against_the_liar_and_the_next_peer_is_asked",
    ),
    Bug(
        "an answer may be as long as its sender likes",
        "blocks come at most 64 an answer",
        FETCH,
        ".blocks[: last - first + 1], first)",
        ".blocks, first)",
        "tests/planted/test_driver_gaps.py::test_what_a_peer_sends_beyond_what_it_was_asked_for_is_left_unread",
    ),
    Bug(
        "a proposal with too many transactions gets a vote",
        "a fresh proposal is limited by count",
        PROPOSALS,
        "        if wanted.proposal.count > self._parameters.block_transactions_max:\n",
        "        if wanted.proposal.count > 2 * self._parameters.block_transactions_max:\n",
        "tests/unit/sync/test_proposals.py::"
        "test_a_fresh_proposal_beyond_the_chains_limits_is_refused[limits0-too_many]",
    ),
    Bug(
        "a proposal with too many bytes gets a vote",
        "a fresh proposal is limited by bytes",
        PROPOSALS,
        "for transaction in transactions) > limits.block_bytes_max:",
        "for transaction in transactions) > 2 * limits.block_bytes_max:",
        "tests/unit/sync/test_proposals.py::"
        "test_a_fresh_proposal_beyond_the_chains_limits_is_refused[limits1-too_large]",
    ),
    Bug(
        "a proposal with too much gas gets a vote",
        "a fresh proposal is limited by declared gas",
        PROPOSALS,
        "for transaction in transactions) > limits.block_gas_max:",
        "for transaction in transactions) > 2 * limits.block_gas_max:",
        "tests/unit/sync/test_proposals.py::"
        "test_a_fresh_proposal_beyond_the_chains_limits_is_refused[limits2-too_much_gas]",
    ),
    Bug(
        "a proposal with an executed transaction gets a vote",
        "no hash of a fresh proposal is executed",
        PROPOSALS,
        "        if any(self._index.executed([transaction.hash for transaction in transactions])):\n",
        "        if all(self._index.executed([transaction.hash for transaction in transactions])) and transactions:\n",
        "tests/unit/sync/test_proposals.py::test_a_fresh_proposal_with_an_executed_transaction_is_refused",
    ),
    Bug(
        "a proposal with a transaction of another live one gets a vote",
        "no hash of a fresh proposal is in another live one",
        PROPOSALS,
        "            if holder is not None and holder != wanted.digest:\n",
        "            if holder is not None and holder == wanted.digest:\n",
        "tests/unit/sync/test_proposals.py::"
        "test_a_fresh_proposal_with_a_transaction_of_another_live_proposal_is_refused",
    ),
    Bug(
        "a proposal with an expired transaction gets a vote",
        "an expiry lies between the height and lifetime_max above it",
        PROPOSALS,
        "            if not wanted.height <= transaction.body.expiry <= wanted.height + limits.lifetime_max:\n",
        "            if not transaction.body.expiry <= wanted.height + limits.lifetime_max:\n",
        "tests/unit/sync/test_proposals.py::test_a_fresh_proposal_with_an_expired_transaction_is_refused",
    ),
    Bug(
        "a proposal with a transaction that lives too long gets a vote",
        "an expiry lies between the height and lifetime_max above it",
        PROPOSALS,
        "            if not wanted.height <= transaction.body.expiry <= wanted.height + limits.lifetime_max:\n",
        "            if not wanted.height <= transaction.body.expiry:\n",
        "tests/unit/sync/test_proposals.py::test_a_fresh_proposal_beyond_the_chains_limits_is_refused[limits3-expired]",
    ),
    Bug(
        "bodies that were asked for are taken unsigned",
        "each signature has been checked once before the vote",
        PROPOSALS,
        "        if not all(await self._verifier.verify([signature_item(transaction) for transaction in "
        "transactions])):\n",
        "        if not all([True for _ in transactions]):\n",
        "tests/unit/sync/test_proposals.py::test_a_forged_body_is_not_taken_from_a_peer",
    ),
    Bug(
        "bodies of another chain are taken",
        "a transaction binds its chain id",
        PROPOSALS,
        "            if transaction.body.chain_id != self._chain_id:\n",
        "            if not transaction.body.chain_id:\n",
        "tests/planted/test_driver_gaps.py::"
        "test_a_body_of_another_chain_or_with_more_gas_than_one_may_ask_for_is_not_taken_from_a_peer",
    ),
    Bug(
        "a required proposal is taken whatever its digest",
        "missing bodies are fetched by hash",
        PROPOSALS,
        "                    if proposal_digest(proposal) != wanted.digest:\n",
        "                    if not wanted.digest:\n",
        "tests/unit/sync/test_proposals.py::test_the_answer_to_a_digest_must_be_that_proposal_with_its_bodies",
    ),
    Bug(
        "a required proposal is asked of one node only",
        "missing bodies are fetched from those who prepared it",
        PROPOSALS,
        "            for source in wanted.sources:\n                try:\n                    answer",
        "            for source in wanted.sources[:1]:\n                try:\n                    answer",
        "tests/unit/sync/test_proposals.py::test_a_required_proposal_is_never_refused_for_its_contents",
        is_liveness=True,
    ),
    Bug(
        "what must be had stays what may be refused",
        "a proposal that is ordered is obtained without being judged",
        PROPOSALS,
        "            if not open_task[0].fresh or wanted.fresh:\n                return\n",
        "            if not open_task[0].fresh or wanted.fresh or wanted.digest:\n                return\n",
        "tests/planted/test_driver_gaps.py::test_a_proposal_that_must_be_had_is_no_longer_judged",
        is_liveness=True,
    ),
    Bug(
        "an answer leaves out what is not here",
        "blocks of an answer are consecutive",
        SERVER,
        "            if block is None:\n"
        "                break\n"
        "            size",
        "            if block is None:\n"
        "                continue\n"
        "            size",
        "tests/planted/test_driver_gaps.py::test_the_blocks_of_an_answer_follow_each_other",
    ),
    Bug(
        "an answer may be longer than a message",
        "one message-size constant for every layer",
        SERVER,
        "            if blocks and size > ANSWER_BYTES_MAX:\n                break\n",
        "",
        "tests/planted/test_driver_gaps.py::test_no_answer_is_longer_than_a_message",
    ),
    Bug(
        "a request may ask for any number of bodies",
        "at most 131,072 hashes a request",
        SERVER,
        "        if rest or count > HASHES_PER_REQUEST_MAX:\n",
        "        if rest:\n",
        "tests/planted/test_driver_gaps.py::test_a_request_for_more_bodies_than_a_message_has_hashes_is_refused",
    ),
)
