"""Of validator sets, sync and the journal store."""

from __future__ import annotations

from typing import Final

_VALIDATORS: Final = "chain/model/validators.py"
_JOURNAL: Final = "chain/store/journal.py"
_SNAPSHOTS: Final = "chain/sync/snapshots.py"
_PROPOSALS: Final = "chain/sync/proposals.py"
_DOWNLOAD: Final = "chain/sync/download.py"
_BLOCKS: Final = "chain/sync/blocks.py"
_SERVER: Final = "chain/sync/server.py"

_WORKER: Final = (
    "equivalent: `_work` asks the same before its first request, so the worker that is started ends at once"
)

REASONS: Final[dict[tuple[str, str, str, str], str]] = {
    # --- validator sets ---
    (
        _VALIDATORS, "ValidatorSet.__init__", "`!=` becomes `<`", "len(self._by_id) != len(self.members)",
    ): "equivalent: a dictionary of the members by id never has more entries than there are members",
    # --- journal ---
    (
        _JOURNAL, "JournalStore.write", "`>` becomes `>=`", "prune_below > 0",
    ): "harmless: pruning below 0 drops nothing, as no height is negative; it only costs a look at every record",
    (
        _JOURNAL, "JournalStore._put_records", "`+ 1` becomes `+ 2`", "int.from_bytes(cursor.key(), 'big') + 1",
    ): "equivalent: numbers of records only have to ascend; `load` and the slots never look at a gap between them",
    (
        _JOURNAL, "JournalStore._find", "`!=` becomes `<`", "len(digest) != DIGEST_BYTES",
    ): "equivalent: `_put_proposal` lets only keys of 32 bytes into the database of digests, so a longer one is not "
    "found there",
    (
        _JOURNAL, "JournalStore._keys_at", "`<=` becomes `<`", "0 <= height <= KEPT",
    ): "equivalent: `_put_proposal` refuses a proposal of the height KEPT, so there is none to find",
    # --- snapshots ---
    (
        _SNAPSHOTS, "SnapshotLoader._best_trust", "`>` becomes `>=`", "len(schedule.epochs) > len(best[1].epochs)",
    ): "harmless: with at most F faulty in each set only one chain of sets has certificates: two proofs of one length "
    "that both hold say the same",
    (
        _SNAPSHOTS, "SnapshotLoader._load_chunks", "`- 1` becomes `- 0`", "total - 1",
    ): "equivalent: `Download` asks nobody for more than its own `last`, whatever a source says it has",
    (
        _SNAPSHOTS, "SnapshotLoader._fetch_chunks", "`==` becomes `<=`", "len(answer.chunks) == len(chunks)",
    ): "equivalent: `chunks` is the beginning of `answer.chunks`, so it is never longer",
    (
        _SNAPSHOTS, "_adopted", "`!=` becomes `>`", "len(executed) != len(hashes) - len(skipped)",
    ): "equivalent: each position takes away one hash at most, so there are never fewer left than the difference",
    # --- bodies of proposals ---
    (
        _PROPOSALS, "ProposalObtainer._run", "the guard is dropped", "not wanted.fresh",
    ): "equivalent: `_obtain` raises BadInput for fresh wishes only; of a required one `_fetch_whole` takes every "
    "BadInput for a failure of that peer",
    (
        _PROPOSALS, "ProposalObtainer._obtain", "operand 1 of `or` is dropped: `wanted.proposal is None`",
        "wanted.proposal is None or not wanted.fresh",
    ): "equivalent: a fresh wish always has its proposal (`Ordering` sends it with the pre-prepare's); it is there for "
    "the type checker",
    (
        _PROPOSALS, "ProposalObtainer._fetch_whole", "the guard is dropped", "not bodies.proposal",
    ): "equivalent: an empty proposal does not decode, and a peer whose answer does not decode is passed over as well",
    # --- downloads ---
    (
        _DOWNLOAD, "Download._start", "operand 2 of `and` is dropped: `not state.refused`",
        "state.workers < REQUESTS_PER_SOURCE and (not state.refused) and (state.failures < FAILURES_MAX)",
    ): _WORKER,
    (
        _DOWNLOAD, "Download._start", "operand 3 of `and` is dropped: `state.failures < FAILURES_MAX`",
        "state.workers < REQUESTS_PER_SOURCE and (not state.refused) and (state.failures < FAILURES_MAX)",
    ): _WORKER,
    (
        _DOWNLOAD, "Download._start", "`<` becomes `<=`", "state.failures < FAILURES_MAX",
    ): _WORKER,
    (
        _DOWNLOAD, "Download._on_worker_done", "operand 3 of `and` is dropped: `self._error is None`",
        "not worker.cancelled() and (error := worker.exception()) is not None and (self._error is None)",
    ): "harmless: if two workers end with errors of ours before the reader looks, it is told the later one, not the "
    "earlier; either ends the download",
    (
        _DOWNLOAD, "Download._serve", "operand 2 of `and` is dropped: `not state.refused`",
        "not units and (not state.refused)",
    ): "harmless: a refused source is asked no more, so what it is thought to have is never looked at again; its "
    "worker ends a moment later",
    (
        _DOWNLOAD, "Download._may_come", "operand 1 of `and` is dropped: `window.next <= window.last`",
        "window.next <= window.last and known >= window.next",
    ): "equivalent: once all is given out `runs` ends, and ends every worker that still waits; until then `extend` "
    "gives work to those that wait as to new ones",
    # --- fetching blocks ---
    (
        _BLOCKS, "BlockFetcher._run", "operand 2 of `and` is dropped: `self._sources`",
        "(first := (max(self._certified_height(), self._posted) + 1)) <= self._target and self._sources",
    ): "equivalent: a download without sources gives nothing and refuses nobody, so the `if` behind it ends the run",
    (
        _BLOCKS, "BlockFetcher._run", "operand 1 of `and` is dropped: `not self._download.complete`",
        "not self._download.complete and len(self._refused) == lied",
    ): "equivalent: a complete download has reached the target; only the wish of a refused source raises that without "
    "extending it, and what such a source alone claims nobody else gives",
    (
        _BLOCKS, "BlockFetcher._run", "`==` becomes `<=`", "len(self._refused) == lied",
    ): "equivalent: while a run lasts, those refused only become more",
    # --- serving ---
    (
        _SERVER, "SyncServer._chunks", "operand 1 of `or` is dropped: `rest`", "rest or size > ANSWER_BYTES_MAX",
    ): "equivalent: a chunk with a rest comes as ANSWER_BYTES_MAX bytes (`Archive.load_chunk`), so behind another one "
    "the size is above it",
}  # fmt: skip
