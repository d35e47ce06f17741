"""The journal environment: consensus records and proposals with their bodies, durable before a vote leaves.

    records     sequence number -> height, record
    slots       name -> sequence number of the one record that has this name
    proposals   height, proposal digest -> proposal, raw transactions
    digests     proposal digest -> height

It is an environment of its own, so that a vote's sync never waits for a block's. Records are dropped when their height
is stored; the proposals of stored blocks stay, because their bodies are the blocks' bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from chain.errors import InvariantError, StoreError
from chain.store.environment import Environment, WriteTransaction, open_environment
from chain.store.layout import count_parts, height_key, pack_parts, part, unpack_parts
from chain.types import DIGEST_BYTES, Digest

JOURNAL_MAP_BYTES: Final = 512 * 1024**3
KEPT: Final = 2**63 - 1  # the height of a record that pruning never drops
SLOT_BYTES_MAX: Final = 64

_RECORDS: Final = b"records"
_SLOTS: Final = b"slots"
_PROPOSALS: Final = b"proposals"
_DIGESTS: Final = b"digests"


class JournalRecord(NamedTuple):
    """A record to write. One with a slot takes the place of the last one that had this slot."""

    height: int
    data: bytes
    slot: str = ""


class JournalProposal(NamedTuple):
    """A proposal to write, with the raw transactions in its order."""

    height: int
    digest: bytes
    proposal: bytes  # encode(Proposal)
    transactions: Sequence[bytes]


class JournalStore:
    """Safe for threads, one writer at a time; every call that writes is one transaction and one sync."""

    def __init__(
        self, path: Path, *, chain_id: bytes, map_bytes: int = JOURNAL_MAP_BYTES, readonly: bool = False
    ) -> None:
        """Open, or make it empty. `readonly` is for another process than the node's, whether that runs or not.

        Raises:
            StoreError, ConfigError: as `Environment` and `Environment.check_stamp` say.
        """
        self.path = path
        self._env: Environment = open_environment(
            path, kind="journal", databases=(_RECORDS, _SLOTS, _PROPOSALS, _DIGESTS), map_bytes=map_bytes,
            readonly=readonly,
        )  # fmt: skip
        try:
            self.is_new: bool = self._env.check_stamp(chain_id)
            if self.is_new:
                if readonly:
                    raise StoreError(f"{path}: the journal environment was never finished; start its node")
                with self._env.write() as txn:
                    self._env.put_stamp(txn, chain_id)
        except BaseException:
            self._env.close()
            raise

    def write(
        self,
        records: Sequence[JournalRecord | tuple[int, bytes]] = (),
        proposals: Sequence[JournalProposal | tuple[int, bytes, bytes, Sequence[bytes]]] = (),
        *,
        prune_below: int = 0,
    ) -> None:
        """Durable on return. `prune_below` also drops older records (as `prune`) without a sync of its own.

        A proposal that is here already is not written again.

        Raises:
            InvariantError: a height or a digest that cannot be one.
            StoreError: the disk refuses; nothing of the call is kept.
        """
        packed = [(JournalProposal(*item), pack_parts((item[2], *item[3]))) for item in proposals]
        with self._env.write() as txn:
            for proposal, value in packed:
                self._put_proposal(txn, proposal, value)
            if prune_below > 0:
                self._prune_records(txn, prune_below)
            self._put_records(txn, [JournalRecord(*item) for item in records])

    def _put_proposal(self, txn: WriteTransaction, proposal: JournalProposal, value: bytes) -> None:
        if len(proposal.digest) != DIGEST_BYTES or not 0 <= proposal.height < KEPT:
            raise InvariantError(f"journal: a proposal of height {proposal.height}, digest {proposal.digest.hex()}")
        at = height_key(proposal.height)
        if txn.put(proposal.digest, at, overwrite=False, db=self._env.database(_DIGESTS)):
            txn.put(at + proposal.digest, value, db=self._env.database(_PROPOSALS))

    def _put_records(self, txn: WriteTransaction, records: Sequence[JournalRecord]) -> None:
        database, slots = self._env.database(_RECORDS), self._env.database(_SLOTS)
        cursor = txn.cursor(database)
        sequence = int.from_bytes(cursor.key(), "big") + 1 if cursor.last() else 0
        for number, record in enumerate(records, sequence):
            if not 0 <= record.height <= KEPT:
                raise InvariantError(f"journal: a record of height {record.height}")
            key = height_key(number)
            if record.slot:
                name = record.slot.encode()
                if len(name) > SLOT_BYTES_MAX:
                    raise InvariantError(f"journal: slot {record.slot!r} has more than {SLOT_BYTES_MAX} bytes")
                replaced = txn.replace(name, key, db=slots)
                if replaced is not None:
                    txn.delete(replaced, db=database)
            txn.put(key, height_key(record.height) + record.data, append=True, db=database)

    def load(self) -> list[bytes]:
        """All records in the order they were written; a slot's record stands where it was last written."""
        with self._env.view() as txn:
            return [bytes(value[8:]) for _, value in txn.cursor(self._env.database(_RECORDS))]

    def prune(self, below_height: int) -> None:
        """Drop the records of heights under `below_height`. The sync is not worth waiting for: see `write`."""
        with self._env.write() as txn:
            self._prune_records(txn, below_height)

    def _prune_records(self, txn: WriteTransaction, below_height: int) -> None:
        database = self._env.database(_RECORDS)
        limit = height_key(max(below_height, 0))
        dropped = [key for key, value in txn.cursor(database) if value[:8] < limit]
        slots = self._env.database(_SLOTS)
        named = {sequence: name for name, sequence in txn.cursor(slots)}
        for key in dropped:
            txn.delete(key, db=database)
            if key in named:
                txn.delete(named[key], db=slots)

    def remove(self, unwanted: Callable[[bytes], bool]) -> int:
        """Drop the records that `unwanted` says yes to, durably; returns how many. For repairs of a stopped node:
        whoever removes a vote must know that it cannot count any more."""
        database, slots = self._env.database(_RECORDS), self._env.database(_SLOTS)
        with self._env.write() as txn:
            dropped = [key for key, value in txn.cursor(database) if unwanted(bytes(value[8:]))]
            named = {sequence: name for name, sequence in txn.cursor(slots)}
            for key in dropped:
                txn.delete(key, db=database)
                if key in named:
                    txn.delete(named[key], db=slots)
        return len(dropped)

    # --- proposals and bodies ---

    def proposal(self, digest: bytes) -> tuple[bytes, list[bytes]] | None:
        """(encoded proposal, raw transactions in its order), or None if it is not here."""
        with self._env.view() as txn:
            value = self._find(txn, digest)
            if value is None:
                return None
            proposal, *transactions = unpack_parts(value)
            return proposal, transactions

    def proposal_parts(self, digest: bytes) -> bytes | None:
        """The proposal and its raw transactions as they lie here: `chain.store.layout.pack_parts` of them."""
        with self._env.view() as txn:
            value = self._find(txn, digest)
            return None if value is None else bytes(value)

    def proposal_bytes(self, digest: bytes) -> bytes | None:
        """The encoded proposal without its bodies."""
        with self._env.view() as txn:
            value = self._find(txn, digest)
            return None if value is None else part(value, 0)

    def body(self, digest: bytes, position: int) -> bytes | None:
        """One raw transaction by its position in the proposal, without reading the others."""
        with self._env.view() as txn:
            value = self._find(txn, digest)
            if value is None or not 0 <= position < count_parts(value) - 1:
                return None
            return part(value, position + 1)

    def has_proposal(self, digest: bytes) -> bool:
        with self._env.view() as txn:
            return self._find(txn, digest) is not None

    def proposals_at(self, height: int) -> list[Digest]:
        """Digests of the proposals kept for a height, ascending."""
        with self._env.read() as txn:
            return [Digest(key[8:]) for key in self._keys_at(txn, height)]

    def prune_proposals(self, height: int, keep_digest: bytes) -> int:
        """Drop the proposals of a height that lost to `keep_digest`; returns how many."""
        with self._env.read() as txn:
            if all(key[8:] == keep_digest for key in self._keys_at(txn, height)):
                return 0  # nothing to drop costs no sync
        with self._env.write() as txn:
            lost = [key for key in self._keys_at(txn, height) if key[8:] != keep_digest]
            for key in lost:
                txn.delete(key, db=self._env.database(_PROPOSALS))
                txn.delete(key[8:], db=self._env.database(_DIGESTS))
            return len(lost)

    def _find(self, txn: lmdb.Transaction[memoryview], digest: bytes) -> memoryview | None:
        if len(digest) != DIGEST_BYTES:
            return None
        at = txn.get(digest, db=self._env.database(_DIGESTS))
        return None if at is None else txn.get(bytes(at) + digest, db=self._env.database(_PROPOSALS))

    def _keys_at(self, txn: lmdb.Transaction[bytes], height: int) -> list[bytes]:
        if not 0 <= height <= KEPT:
            return []
        prefix = height_key(height)
        found: list[bytes] = []
        cursor = txn.cursor(self._env.database(_PROPOSALS))
        if cursor.set_range(prefix):
            for key in cursor.iternext(values=False):
                if not key.startswith(prefix):
                    break
                found.append(key)
        return found

    @property
    def environment(self) -> Environment:
        """For the other modules of this package."""
        return self._env

    def close(self) -> None:
        self._env.close()
