"""The blocks environment: certified blocks by height, and the indices that find things in them.

    blocks   height -> header, certificate, proposal digest, skipped positions, hashes, receipts, writes

The indices (`chain.store.indexing`) are in the same environment, and follow from the blocks.

Heights are strictly consecutive from genesis at 0. `append` takes a run of blocks: all of it is durable on return, or
none of it is there.

A chain that was joined by snapshot has genesis and then a gap: the first block here is `base`, and the blocks from
there to below `executed_from` were adopted, not executed: they have no receipts and no write sets.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from chain.codec import Record, decode
from chain.errors import DecodeError, InvariantError, StoreError
from chain.model.block import Certificate, Header, WriteSet, decode_header, encode_header, header_hash
from chain.model.merkle import unpack_writes
from chain.store.environment import META, Environment, WriteTransaction, open_environment
from chain.store.indexing import (
    EVENTS,
    HISTORY,
    INDEX_LIMITS,
    TRANSACTIONS,
    ChainIndex,
    Indexed,
    IndexLimits,
    Place,
)  # fmt: skip
from chain.store.layout import (
    count_parts,
    height_key,
    pack_integers,
    pack_parts,
    part,
    part_view,
    unpack_integers,
    unpack_parts,
)  # fmt: skip
from chain.types import DIGEST_BYTES, Digest

BLOCKS_MAP_BYTES: Final = 512 * 1024**3

_BLOCKS: Final = b"blocks"
_HISTORY_OFF_KEY: Final = b"history-off"
_BASE_KEY: Final = b"base"
_EXECUTED_FROM_KEY: Final = b"executed-from"

_HEADER, _CERTIFICATE, _PROPOSAL, _SKIPPED, _HASHES, _RECEIPTS, _WRITES = range(7)


class StoredBlock(Record, frozen=True, kw_only=True):
    """A block as stored; its bodies are in the journal under `proposal_digest`."""

    header: bytes  # encode_header
    certificate: bytes  # encode(Certificate); empty for genesis only
    proposal_digest: bytes
    skipped: tuple[int, ...]  # positions in the proposal that execution skipped, ascending
    hashes: bytes  # executed transaction hashes, 32 bytes each, in block order
    receipts: tuple[bytes, ...]  # encode(Receipt), in block order
    writes: bytes  # pack_writes of the block's write set


class BlockStore:
    """Blocks and their indices; safe for threads, one writer at a time."""

    def __init__(
        self,
        path: Path,
        genesis: Header,
        *,
        map_bytes: int = BLOCKS_MAP_BYTES,
        history: bool = True,
        index_limits: IndexLimits = INDEX_LIMITS,
        readonly: bool = False,
    ) -> None:
        """Open, or make with the genesis block in it. `history` counts when it is made: a gap could not be proved over.

        `readonly` is for another process than the node's, whether that runs or not: its tip is the one at opening.

        Raises:
            StoreError, ConfigError: as `Environment` and `Environment.check_stamp` say, or another genesis is inside.
        """
        self.path = path
        self.chain_id = genesis.chain_id
        self._env: Environment = open_environment(
            path, kind="blocks", databases=(_BLOCKS, TRANSACTIONS, EVENTS, HISTORY), map_bytes=map_bytes,
            readonly=readonly,
        )  # fmt: skip
        try:
            if self._env.check_stamp(genesis.chain_id):
                if readonly:
                    raise StoreError(f"{path}: the blocks environment was never finished; start its node")
                self._create(genesis, history)
            if self.header(0) != encode_header(genesis):
                raise StoreError(f"{path}: its genesis block is not the configured one")
            self._appending = threading.Lock()
            self._tip = self._load_tip()
            with self._env.read() as txn:
                meta = self._env.database(META)
                self.has_history: bool = txn.get(_HISTORY_OFF_KEY, db=meta) is None
                self._base = _load_height(txn.get(_BASE_KEY, db=meta))
                self._executed_from = _load_height(txn.get(_EXECUTED_FROM_KEY, db=meta))
            self._index = ChainIndex(
                self._env, self, history=self.has_history, limits=index_limits, base=self._base, tip=self._tip.height
            )
        except BaseException:
            self._env.close()
            raise

    def _create(self, genesis: Header, history: bool) -> None:
        block = StoredBlock(
            header=encode_header(genesis), certificate=b"", proposal_digest=genesis.proposal_digest, skipped=(),
            hashes=b"", receipts=(), writes=b"",
        )  # fmt: skip
        with self._env.write() as txn:
            self._env.put_stamp(txn, genesis.chain_id)
            txn.put(height_key(0), _pack_block(block), db=self._env.database(_BLOCKS))
            if not history:
                txn.put(_HISTORY_OFF_KEY, b"1", db=self._env.database(META))

    def _load_tip(self) -> Header:
        with self._env.read() as txn:
            cursor = txn.cursor(self._env.database(_BLOCKS))
            if not cursor.last():
                raise StoreError(f"{self.path}: holds no genesis block")
            height, data = int.from_bytes(cursor.key(), "big"), part(cursor.value(), _HEADER)
        try:
            header = decode_header(data)
        except DecodeError as error:
            raise StoreError(f"{self.path}: the header of block {height} cannot be read: {error}") from None
        if header.height != height:
            raise StoreError(f"{self.path}: block {height} holds a header of height {header.height}")
        return header

    # --- writing ---

    def append(self, blocks: Sequence[StoredBlock]) -> None:
        """Make a run of blocks durable in one transaction.

        Raises:
            InvariantError: not the next heights in order, another chain, a broken parent link, a certificate of
                something else, counts that do not fit, or a transaction executed twice.
            StoreError: the disk refuses. Nothing of the run is kept in either case.
        """
        if not blocks:
            return
        with self._appending:
            headers = self._checked(blocks, self._tip)
            for header, block in zip(headers, blocks, strict=True):
                if len(block.receipts) != header.transaction_count:
                    raise InvariantError(
                        f"block {header.height}: {len(block.receipts)} receipts for {header.transaction_count} "
                        "transactions"
                    )
            self._write(headers, blocks)

    def adopt(self, blocks: Sequence[StoredBlock]) -> None:
        """`append` for blocks that were not executed here, in a store that has none that were: no receipts, no writes.
        The first one may have any height above genesis. Whoever calls has checked each certificate.

        Raises:
            InvariantError, StoreError: as `append`; or blocks here were executed.
        """
        if not blocks:
            return
        with self._appending:
            if self._tip.height >= self._executed_from:
                raise InvariantError("blocks adopted on top of executed ones")
            if any(block.receipts or block.writes for block in blocks):
                raise InvariantError("adopted blocks have receipts or writes")
            headers = self._checked(blocks, self._tip if self._tip.height else None)
            base = headers[0].height if not self._tip.height else self._base
            self._write(headers, blocks, adopted=(base, headers[-1].height + 1))
            self._base, self._executed_from = base, headers[-1].height + 1

    def _write(
        self, headers: Sequence[Header], blocks: Sequence[StoredBlock], adopted: tuple[int, int] | None = None
    ) -> None:
        entries = self._index.check(
            [
                Indexed(header.height, block.hashes, block.receipts, block.writes)
                for header, block in zip(headers, blocks, strict=True)
            ]
        )
        tip = headers[-1]
        with self._env.write() as txn:
            self._put(txn, headers, blocks)
            if adopted is not None:
                meta = self._env.database(META)
                txn.put(_BASE_KEY, height_key(adopted[0]), db=meta)
                txn.put(_EXECUTED_FROM_KEY, height_key(adopted[1]), db=meta)
            put = self._index.put(txn, entries, tip.height)
        self._index.keep(entries, tip.height, put=put)
        self._tip = tip

    def _put(self, txn: WriteTransaction, headers: Sequence[Header], blocks: Sequence[StoredBlock]) -> None:
        for header, block in zip(headers, blocks, strict=True):
            txn.put(height_key(header.height), _pack_block(block), append=True, db=self._env.database(_BLOCKS))

    def _checked(self, blocks: Sequence[StoredBlock], parent: Header | None) -> list[Header]:
        """The headers; `parent` is None where the first block may be any."""
        headers: list[Header] = []
        for block in blocks:
            before = 0 if parent is None else parent.height
            try:
                header = decode_header(block.header)
                certificate = decode(Certificate, block.certificate)
            except DecodeError as error:
                raise InvariantError(f"block after {before}: {error}") from None
            count = header.transaction_count
            problems = {
                f"height {header.height} where {before + 1} is next": parent is not None
                and header.height != parent.height + 1,
                "another chain id": header.chain_id != self.chain_id,
                "parent hash is not the hash of the block before": parent is not None
                and header.parent_hash != header_hash(parent),
                "certificate of another header": certificate.height != header.height
                or certificate.digest != header_hash(header),
                "another proposal digest than the header": block.proposal_digest != header.proposal_digest,
                f"{len(block.hashes)} bytes of hashes for {count} transactions": len(block.hashes)
                != count * DIGEST_BYTES,
            }
            for problem, found in problems.items():
                if found:
                    raise InvariantError(f"block after {before}: {problem}")
            headers.append(header)
            parent = header
        return headers

    # --- reading ---

    def height(self) -> int:
        """The highest stored height; 0 is genesis."""
        return self._tip.height

    @property
    def base(self) -> int:
        """The lowest height here above genesis; what is below was never here."""
        return self._base

    @property
    def executed_from(self) -> int:
        """The lowest height above genesis whose receipts and writes are here."""
        return self._executed_from

    def transaction_count(self) -> int:
        """How many executed transactions are indexed here: since genesis, or since `base`."""
        return self._index.transaction_count()

    def transaction_hashes(self) -> Iterator[bytes]:
        """The hashes that `transaction_count` counts, in block order, those of a block or several joined in each item.
        What is stored meanwhile is not among them."""
        for height in range(self._base, self._tip.height + 1):
            hashes = self.hashes(height)
            if hashes:
                yield hashes

    def tip(self) -> Header:
        """The header at `height()`."""
        return self._tip

    def _part(self, height: int, index: int) -> bytes | None:
        if height < 0:
            return None
        with self._env.view() as txn:
            value = txn.get(height_key(height), db=self._env.database(_BLOCKS))
            return None if value is None else part(value, index)

    def header(self, height: int) -> bytes | None:
        return self._part(height, _HEADER)

    def headers(self, first: int, last: int) -> list[bytes]:
        """Headers of the heights `first`..`last` that are stored, ascending."""
        found: list[bytes] = []
        with self._env.view() as txn:
            for height in range(max(first, 0), last + 1):
                value = txn.get(height_key(height), db=self._env.database(_BLOCKS))
                if value is None:
                    break
                found.append(part(value, _HEADER))
        return found

    def certificate(self, height: int) -> bytes | None:
        """None for genesis, which nobody signs, and above the tip."""
        return self._part(height, _CERTIFICATE) or None

    def proposal_digest(self, height: int) -> Digest | None:
        found = self._part(height, _PROPOSAL)
        return None if found is None else Digest(found)

    def skipped(self, height: int) -> tuple[int, ...] | None:
        """Positions in the proposal that execution skipped, ascending."""
        found = self._part(height, _SKIPPED)
        return None if found is None else unpack_integers(found)

    def hashes(self, height: int) -> bytes | None:
        """Hashes of the executed transactions, 32 bytes each, in block order."""
        return self._part(height, _HASHES)

    def writes(self, height: int) -> bytes | None:
        """The packed write set (`chain.model.merkle.unpack_writes`); empty bytes for genesis."""
        return None if 0 < height < self._executed_from else self._part(height, _WRITES)

    def write_set(self, height: int) -> WriteSet:
        """Raises StoreError where no such block is stored."""
        writes = self.writes(height)
        if writes is None:
            raise StoreError(
                f"{self.path}: no block {height} with its writes, there are {self._executed_from}..{self.height()}"
            )
        return unpack_writes(writes)

    def receipts(self, height: int) -> list[bytes] | None:
        if 0 < height < self._executed_from:
            return None
        found = self._part(height, _RECEIPTS)
        return None if found is None else unpack_parts(found)

    def receipt_at(self, height: int, position: int) -> bytes | None:
        """One receipt without reading the others."""
        with self._env.view() as txn:
            value = txn.get(height_key(height), db=self._env.database(_BLOCKS)) if height >= 0 else None
            if value is None:
                return None
            receipts = part_view(value, _RECEIPTS)
            return part(receipts, position) if 0 <= position < count_parts(receipts) else None

    def receipt(self, transaction_hash: bytes) -> bytes | None:
        location = self.transaction_location(transaction_hash)
        return None if location is None else self.receipt_at(*location)

    def parts_for_peers(self, height: int) -> tuple[bytes, bytes, bytes, bytes] | None:
        """(header, certificate, proposal digest, packed skipped positions), from one look at the block."""
        with self._env.view() as txn:
            value = txn.get(height_key(height), db=self._env.database(_BLOCKS)) if height > 0 else None
            if value is None:
                return None
            return part(value, _HEADER), part(value, _CERTIFICATE), part(value, _PROPOSAL), part(value, _SKIPPED)

    def block(self, height: int) -> StoredBlock | None:
        """The whole block; where it was adopted, without receipts and writes."""
        if height < 0:
            return None
        with self._env.view() as txn:
            value = txn.get(height_key(height), db=self._env.database(_BLOCKS))
            parts = None if value is None else unpack_parts(value)
        if parts is None:
            return None
        return StoredBlock(
            header=parts[_HEADER],
            certificate=parts[_CERTIFICATE],
            proposal_digest=parts[_PROPOSAL],
            skipped=unpack_integers(parts[_SKIPPED]),
            hashes=parts[_HASHES],
            receipts=tuple(unpack_parts(parts[_RECEIPTS])),
            writes=parts[_WRITES],
        )

    def transaction_location(self, transaction_hash: bytes) -> tuple[int, int] | None:
        """(height, position among the executed transactions), or None if it was never executed."""
        return self.transaction_locations((transaction_hash,))[0]

    def transaction_locations(self, hashes: Sequence[bytes]) -> list[tuple[int, int] | None]:
        """`transaction_location` of each."""
        return self._index.locations(hashes)

    def proposal_position(self, height: int, position: int) -> int | None:
        """Where in its proposal the transaction stands that was executed at `position` of block `height`."""
        skipped = self.skipped(height)
        if skipped is None:
            return None
        for gap in skipped:
            if gap > position:
                break
            position += 1
        return position

    def write_heights(self, key: bytes, *, first: int = 1, last: int | None = None) -> list[int]:
        """Every height in `first`..`last` that wrote (or deleted) a state key, ascending. It reads all these blocks.

        Raises:
            StoreError: this environment keeps no history.
        """
        self._need_history()
        return sorted(self._index.write_heights(key, first, self.height() if last is None else last))

    def last_write_height(self, key: bytes, at: int) -> int | None:
        """The latest height at or before `at` that wrote (or deleted) a state key; None if none did.

        Raises:
            StoreError: this environment keeps no history.
        """
        self._need_history()
        return next(self._index.write_heights(key, 1, at), None)

    def _need_history(self) -> None:
        if not self.has_history:
            raise StoreError(f"{self.path}: keeps no history of keys; it was made with history off")

    def event_places(self, contract: bytes, name: str | None, first: int, last: int) -> Iterator[Place]:
        """Of a contract's events of one name (None: any) in the heights `first`..`last`, ascending; the index names an
        event by the first `EVENT_NAME_BYTES` of its name."""
        return self._index.event_places(contract, name, first, last)

    @property
    def indexed_height(self) -> int:
        """Up to here the index is on disk; for the blocks above it is in memory, and derived from them at opening."""
        return self._index.height

    @property
    def environment(self) -> Environment:
        """For the other modules of this package."""
        return self._env

    def close(self) -> None:
        self._env.close()


def _load_height(data: bytes | None) -> int:
    """A height of the meta database; 1 where it is not set: the chain is here from its first block on."""
    return 1 if data is None else int.from_bytes(data, "big")


def _pack_block(block: StoredBlock) -> bytes:
    return pack_parts(
        (
            block.header,
            block.certificate,
            block.proposal_digest,
            pack_integers(block.skipped),
            block.hashes,
            pack_parts(block.receipts),
            block.writes,
        )
    )
