"""Bugs in the journal and in the stores."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug

JOURNAL_PY: Final = "chain/store/journal.py"
BLOCKS: Final = "chain/store/blocks.py"
INDEXING: Final = "chain/store/indexing.py"
STATE: Final = "chain/store/state.py"
FOLDER: Final = "chain/store/folder.py"
ENVIRONMENT: Final = "chain/store/environment.py"
ARCHIVE: Final = "chain/node/archive.py"

JOURNAL: Final = (
    Bug(
        "the journal is not synced",
        "durable on return",
        ENVIRONMENT,
        "metasync=synced,\n                sync=synced,",
        "metasync=False,\n                sync=synced and self.kind != 'journal',",
        "tests/unit/store/test_journal.py::test_every_write_waits_for_the_disk",
    ),
    Bug(
        "records of the next height go with those of the stored one",
        "records of a height go when it is stored, not before",
        JOURNAL_PY,
        "        limit = height_key(max(below_height, 0))\n",
        "        limit = height_key(max(below_height + 1, 0))\n",
        "tests/unit/store/test_journal.py::test_pruning_drops_lower_heights_only",
    ),
    Bug(
        "records are never dropped",
        "records of a height go with the first write after it is stored",
        JOURNAL_PY,
        "            if prune_below > 0:\n                self._prune_records(txn, prune_below)\n",
        "",
        "tests/unit/store/test_journal.py::test_pruning_drops_lower_heights_only",
    ),
    Bug(
        "a new record takes the place of the last one",
        "all records are kept, in the order of writing",
        JOURNAL_PY,
        "            txn.put(key, height_key(record.height) + record.data, append=True, db=database)\n",
        "            txn.put(height_key(number - number % 2), height_key(record.height) + record.data, db=database)\n",
        "tests/unit/store/test_journal.py::test_records_load_in_the_order_they_were_written",
    ),
    Bug(
        "old view records stay beside the last one",
        "of the view records only the last is kept",
        JOURNAL_PY,
        "                if replaced is not None:\n                    txn.delete(replaced, db=database)\n",
        "",
        "tests/unit/store/test_journal.py::test_a_slot_holds_its_latest_record_only",
    ),
    Bug(
        "view records go with the height they were written at",
        "the view a replica is in outlives every height",
        ARCHIVE,
        '            return StoredRecord(KEPT, encode(record), "new-view")\n',
        '            return StoredRecord(1, encode(record), "new-view")\n',
        "tests/planted/test_storage_gaps.py::test_the_last_view_records_outlive_every_height_and_each_other",
    ),
    Bug(
        "new-view and view-change records share a place",
        "the last view-change and the last new-view are kept",
        ARCHIVE,
        '            return StoredRecord(KEPT, encode(record), "new-view")\n',
        '            return StoredRecord(KEPT, encode(record), "view-change")\n',
        "tests/planted/test_storage_gaps.py::test_the_last_view_records_outlive_every_height_and_each_other",
    ),
    Bug(
        "the proposal that won is dropped with those that lost",
        "bodies of stored blocks stay",
        JOURNAL_PY,
        "            lost = [key for key in self._keys_at(txn, height) if key[8:] != keep_digest]\n",
        "            lost = [key for key in self._keys_at(txn, height) if key[8:]]\n",
        "tests/unit/store/test_journal.py::test_proposals_that_lost_are_pruned",
    ),
    Bug(
        "proposals that lost stay for ever",
        "proposals that lost their height go when it is stored",
        JOURNAL_PY,
        "            if all(key[8:] == keep_digest for key in self._keys_at(txn, height)):\n",
        "            if any(key[8:] == keep_digest for key in self._keys_at(txn, height)):\n",
        "tests/unit/store/test_journal.py::test_proposals_that_lost_are_pruned",
    ),
    Bug(
        "a proposal's records are written, its bodies are not",
        "the proposal and all its bodies are durable",
        JOURNAL_PY,
        "            txn.put(at + proposal.digest, value, db=self._env.database(_PROPOSALS))\n",
        "            pass\n",
        "tests/unit/store/test_journal.py::test_proposals_and_their_bodies",
    ),
    Bug(
        "a torn journal record is skipped",
        "a journal that cannot be read stops the node",
        ARCHIVE,
        "        return [_records.decode(data) for data in store.journal.load()]\n",
        "        return [_records.decode(data) for data in store.journal.load() if data[:1] > b'\\x80']\n",
        "tests/planted/test_storage_gaps.py::test_a_record_that_cannot_be_read_stops_the_node",
    ),
    Bug(
        "records are written at another height than theirs",
        "records of a height go when it is stored, not before",
        ARCHIVE,
        "            return StoredRecord(certificate.height, encode(record))\n",
        "            return StoredRecord(certificate.view, encode(record))\n",
        "tests/planted/test_storage_gaps.py::test_each_record_goes_with_its_own_height",
    ),
    Bug(
        "a start without the journal is a start",
        "a node that lost its journal does not vote",
        FOLDER,
        "    if height > 0 and (not data.exists() or data.stat().st_size == 0):\n",
        "    if height > 0 and data.exists() and data.stat().st_size == 0:\n",
        "tests/unit/store/test_folder.py::"
        "test_environments_that_do_not_belong_together_are_refused[_lose_journal-3 blocks but no journal]",
    ),
)

STORES: Final = (
    Bug(
        "a block may leave a gap below it",
        "heights are consecutive",
        BLOCKS,
        "header.height != parent.height + 1,",
        "header.height <= parent.height,",
        "tests/unit/store/test_blocks.py::test_a_wrong_block_is_our_bug_and_nothing_of_the_run_is_kept[0]",
    ),
    Bug(
        "a block need not extend the one before",
        "the executed header holds its parent's hash",
        BLOCKS,
        "header.parent_hash != header_hash(parent),",
        "header.parent_hash == header_hash(header),",
        "tests/unit/store/test_blocks.py::test_a_broken_parent_link_is_refused",
    ),
    Bug(
        "a block of another chain is stored",
        "one chain a store",
        BLOCKS,
        "header.chain_id != self.chain_id,",
        "not header.chain_id,",
        "tests/unit/store/test_blocks.py::test_a_wrong_block_is_our_bug_and_nothing_of_the_run_is_kept[1]",
    ),
    Bug(
        "a block is stored with a certificate for another header",
        "certificates are checked at every entrance",
        BLOCKS,
        "                or certificate.digest != header_hash(header),\n",
        "                or not certificate.digest,\n",
        "tests/planted/test_storage_gaps.py::test_a_certificate_of_the_same_height_for_another_header_is_not_stored",
    ),
    Bug(
        "a transaction may be executed twice in a run of blocks",
        "a transaction already executed is executed no more",
        INDEXING,
        "            len(entries.locations) != count\n",
        "            len(entries.locations) > count\n",
        "tests/unit/store/test_indexing.py::test_a_transaction_executed_twice_is_found_wherever_the_first_one_is_indexed[True-limits0]",
    ),
    Bug(
        "a transaction may be executed twice while the first one is indexed in memory",
        "a transaction already executed is executed no more",
        INDEXING,
        "            or not known.keys().isdisjoint(entries.locations)\n",
        "            or not known.keys().isdisjoint(())\n",
        "tests/unit/store/test_indexing.py::test_a_transaction_executed_twice_is_found_wherever_the_first_one_is_indexed[False-limits0]",
    ),
    Bug(
        "a transaction may be executed twice once the first one is indexed on disk",
        "a transaction already executed is executed no more",
        INDEXING,
        "            or any(self._stored_locations(list(entries.locations)))\n",
        "            or any(self._stored_locations([]))\n",
        "tests/unit/store/test_indexing.py::test_a_transaction_executed_twice_is_found_wherever_the_first_one_is_indexed[False-limits1]",
    ),
    Bug(
        "a shortened hash is believed",
        "an entry is believed once the block that it names has been asked",
        INDEXING,
        "            if executed is not None and executed[first : first + DIGEST_BYTES] == wanted:\n",
        "            if executed is not None and wanted:\n",
        "tests/unit/store/test_indexing.py::test_transactions_whose_hashes_begin_alike_are_told_apart",
    ),
    Bug(
        "a shortened digest of a state key is believed",
        "an entry is believed once the block that it names has been asked",
        INDEXING,
        "            if writes and any(written == key for written, _ in unpack_writes(writes)):\n",
        "            if writes:\n",
        "tests/unit/store/test_indexing.py::test_a_height_that_wrote_another_key_of_the_same_digest_is_not_named",
    ),
    Bug(
        "the first block above the indexed height is not derived",
        "what is not on disk of the index is derived from the blocks",
        INDEXING,
        "        for height in range(max(self.height + 1, base), tip + 1):\n",
        "        for height in range(max(self.height + 2, base), tip + 1):\n",
        "tests/unit/store/test_indexing.py::test_what_is_in_memory_and_what_is_on_disk_answer_alike[2]",
    ),
    Bug(
        "the index goes to disk without its height",
        "the indexed height is written with the index",
        INDEXING,
        "        txn.put(_INDEXED_KEY, height_key(height), db=self._env.database(META))\n",
        "",
        "tests/unit/store/test_indexing.py::test_opening_again_and_again_counts_nothing_twice",
    ),
    Bug(
        "the last run of blocks goes to disk without its index",
        "the indexed height is written with the index of all blocks up to it",
        INDEXING,
        "        everything.add(entries)\n",
        "",
        "tests/unit/store/test_indexing.py::test_what_is_in_memory_and_what_is_on_disk_answer_alike[1]",
    ),
    Bug(
        "of the runs that are merged one is lost",
        "runs are merged, nothing of them is lost",
        "chain/store/runs.py",
        "zip(*parts, strict=True)",
        "zip(*parts[1:], strict=True)",
        "tests/unit/store/test_indexing.py::test_runs_find_all_that_was_added_and_nothing_else",
    ),
    Bug(
        "of a run of blocks one transaction each is made",
        "all or nothing, for one block or a run of them",
        BLOCKS,
        "        with self._env.write() as txn:\n            self._put(txn, headers, blocks)\n",
        "        for at in range(len(blocks)):\n"
        "            with self._env.write() as txn:\n"
        "                self._put(txn, headers[at : at + 1], blocks[at : at + 1])\n"
        "        with self._env.write() as txn:\n",
        "tests/unit/store/test_indexing.py::test_a_run_of_blocks_that_finds_no_room_leaves_nothing",
    ),
    Bug(
        "of a certified block only the state is written",
        "blocks first, then the state",
        ARCHIVE,
        "        self._store.blocks.append([_stored_block(block) for block in blocks])\n"
        "        self._store.state.apply(\n",
        "        self._store.state.apply(\n",
        "tests/planted/test_storage_gaps.py::test_blocks_are_written_first_and_then_the_state",
    ),
    Bug(
        "the state may skip a height",
        "a height is all there or not at all",
        STATE,
        "            if at != expected:\n",
        "            if at < expected:\n",
        "tests/unit/store/test_state.py::test_a_wrong_run_is_our_bug_and_changes_nothing[run0]",
    ),
    Bug(
        "the state's height is not written with its values",
        "a height is all there or not at all",
        STATE,
        "            txn.put(_POSITION_KEY, encode(position), db=self._env.database(META))\n"
        "            if self._is_snapshot_height(height):\n",
        "            if self._is_snapshot_height(height):\n",
        "tests/unit/store/test_state.py::test_it_survives_reopening",
    ),
    Bug(
        "deletes are not applied",
        "state after a height is its writes applied",
        STATE,
        "                txn.delete(key, db=database)\n",
        "                pass\n",
        "tests/unit/store/test_state.py::test_a_run_is_applied_in_order_and_deletes_take_effect",
    ),
    Bug(
        "a state of another history is trusted",
        "a state is trusted only if its root is the block's",
        FOLDER,
        "    if state.state_root() != root:\n",
        "    if not state.state_root():\n",
        "tests/unit/store/test_folder.py::test_a_state_of_other_writes_is_refused",
    ),
    Bug(
        "a state ahead of the blocks is trusted",
        "blocks are always written first",
        FOLDER,
        "    if behind < 0:\n",
        "    if behind < -(2**62):\n",
        "tests/unit/store/test_folder.py::"
        "test_environments_that_do_not_belong_together_are_refused[_lose_blocks-blocks end at 0. Blocks are "
        "always written first]",
    ),
    Bug(
        "replay leaves out a height",
        "writes that the state lacks are replayed",
        FOLDER,
        "    for height in range(state.height() + 1, blocks.height() + 1):\n",
        "    for height in range(state.height() + 1, blocks.height()):\n",
        "tests/unit/store/test_folder.py::test_a_state_behind_its_blocks_is_caught_up",
    ),
    Bug(
        "replay does not check what it replays",
        "the write sets lead to the blocks' state roots",
        FOLDER,
        "        if root != _header(blocks, height).state_root:\n",
        "        if not root:\n",
        "tests/planted/test_storage_gaps.py::"
        "test_a_write_set_that_does_not_lead_to_its_blocks_state_root_is_not_replayed",
    ),
    Bug(
        "two processes share a folder",
        "one process a data folder",
        "chain/store/lock.py",
        "            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        "tests/unit/store/test_folder.py::test_a_folder_serves_one_process",
    ),
    Bug(
        "after a failed commit the store goes on",
        "after a failed sync what the disk kept is known only after a restart",
        ENVIRONMENT,
        "                    self._failure = str(error)\n",
        "                    pass\n",
        "tests/planted/test_storage_gaps.py::test_after_a_commit_that_failed_nothing_is_written_until_a_restart",
    ),
    Bug(
        "a write that fails half-way is kept",
        "all or nothing",
        ENVIRONMENT,
        "            except BaseException as error:\n                txn.abort()\n",
        "            except BaseException as error:\n                txn.commit()\n",
        "tests/unit/store/test_environment.py::test_a_full_map_is_told_and_keeps_nothing",
    ),
    Bug(
        "the folder of another chain is opened",
        "a store belongs to one chain",
        ENVIRONMENT,
        "        if stamp.chain_id != chain_id:\n",
        "        if not stamp.chain_id:\n",
        "tests/unit/store/test_environment.py::test_a_stamp_is_needed_and_must_fit",
    ),
    Bug(
        "blocks without their bodies are served as if they were none",
        "the proposals of stored blocks stay, they are the blocks' bodies",
        ARCHIVE,
        "        if bodies is None:\n            raise InvariantError(",
        "        if bodies is None and not digest:\n            raise InvariantError(",
        "tests/planted/test_storage_gaps.py::test_a_block_whose_bodies_are_gone_is_our_bug_and_not_served",
    ),
)
