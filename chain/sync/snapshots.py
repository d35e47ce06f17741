"""Loads a certified snapshot and the blocks before it, from several peers at once, into a folder of its own.

    trust chain -> validator sets -> certificate of the commit header -> headers down to the snapshot's height
                                     its snapshot root -> chunk hashes -> chunks
    validator sets -> certificates of the last `lifetime_max` blocks -> their transactions' hashes (duplicate index)

Nothing is written before it is checked, and the state as a whole is checked again before it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chain.codec import Record, decode, encode
from chain.crypto import verify_batch
from chain.errors import BadInput, DecodeError, PeerFault, StoreError
from chain.model.block import SNAPSHOT_LAG, Certificate, Header, decode_header, encode_header, header_hash
from chain.model.genesis import Genesis, chain_id
from chain.model.merkle import merkle_root
from chain.model.snapshot import CHUNK_LEAVES, Pair, SnapshotHead, chunk_count, root_of_chunks, unpack_chunk
from chain.model.trust import TRUST_BYTES_MAX, TRUST_LINKS_MAX, TrustLink, encode_trust
from chain.model.validators import ValidatorSchedule
from chain.store import SNAPSHOTS_KEPT, JoinFolder, SnapshotFolder, StoredBlock
from chain.sync.checking import BlockChecker, CheckedBlock, VerifyBatch
from chain.sync.download import Download
from chain.sync.wire import (
    BLOCKS_PER_ANSWER_MAX,
    CHUNK_HASHES_PER_ANSWER_MAX,
    Ask,
    BlocksAnswer,
    BlocksRequest,
    ChunksAnswer,
    ChunksRequest,
    RequestKind,
    SnapshotAnswer,
    SnapshotRequest,
    TipAnswer,
    TrustAnswer,
    TrustRequest,
)
from chain.types import DIGEST_BYTES, ValidatorId

REQUEST_TIMEOUT_S: Final = 10.0
SOURCE_TIMEOUT_S: Final = 60.0  # for all answers to one question that takes several
CHUNKS_PER_REQUEST: Final = 64
CHUNKS_AHEAD: Final = 1_024
BLOCKS_AHEAD: Final = 512
CHUNK_BYTES_MAX: Final = CHUNK_LEAVES * (1024 * 1024 + 1_024)  # values are at most a mebibyte
CHUNK_HASHES_BYTES_MAX: Final = 64 * 1024 * 1024  # taken before they are checked: 2**21 chunks, 2**29 keys
COUNT_MAX: Final = CHUNK_HASHES_BYTES_MAX // DIGEST_BYTES * CHUNK_LEAVES

Tips = Mapping[ValidatorId, TipAnswer]


class NoSource(PeerFault):
    """Nobody in reach can give what is missing."""


class _Plan(Record, frozen=True, kw_only=True):
    """What is being loaded, checked; kept over restarts."""

    answer: SnapshotAnswer
    hashes: bytes
    trust: bytes


@dataclass(frozen=True, slots=True)
class CertifiedSnapshot:
    """A snapshot that a certificate vouches for."""

    head: SnapshotHead
    header: Header  # at the snapshot's own height
    hashes: bytes  # of the chunks

    def check_chunk(self, index: int, data: bytes) -> list[Pair]:
        """The pairs of a chunk from anybody. Raises BadInput."""
        pairs, digest = unpack_chunk(data, index, self.head.count)
        if digest != self.hashes[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]:
            raise BadInput("wrong_chunk", f"chunk {index} does not lead to the snapshot's root")
        return pairs


def check_head(
    answer: SnapshotAnswer,
    *,
    height: int,
    interval: int,
    chain_id: bytes,
    schedule: ValidatorSchedule,
    checker: BlockChecker,
) -> tuple[SnapshotHead, Header]:
    """What a peer says of the snapshot at `height`, tied to the certificate of the header that commits to it, and the
    header at `height`. Nothing vouches for the number of keys yet: only that it is at most `COUNT_MAX`.

    Raises:
        BadInput: anything does not belong together, or a validator set in force has not signed it.
    """
    head = decode(SnapshotHead, answer.head)
    if interval < 1 or height < 1 or height % interval or head.height != height:
        raise BadInput("wrong_snapshot", f"a snapshot of height {head.height} where {height} was asked for")
    headers = [decode_header(data) for data in answer.headers[: SNAPSHOT_LAG + 2]]
    if [header.height for header in headers] != list(range(height, height + SNAPSHOT_LAG + 1)):
        raise BadInput("wrong_headers", f"not the headers {height}..{height + SNAPSHOT_LAG}")
    for parent, header in pairwise(headers):
        if header.parent_hash != header_hash(parent):
            raise BadInput("wrong_headers", f"header {header.height} does not follow the one before")
    commit, certificate = headers[-1], decode(Certificate, answer.certificate)
    if any(header.chain_id != chain_id for header in headers):
        raise BadInput("wrong_chain", "headers of another chain")
    if certificate.height != commit.height or certificate.digest != header_hash(commit):
        raise BadInput("bad_certificate", f"the certificate is not of header {commit.height}")
    validators = schedule.at(commit.height)
    if commit.validator_set_hash != validators.digest:
        raise BadInput("wrong_set", f"header {commit.height} names another validator set than is in force")
    checker.check_certificate(certificate, validators)
    if not commit.snapshot_root or head.root != commit.snapshot_root:
        raise BadInput("wrong_root", f"header {commit.height} does not commit to this state")
    if not 0 <= head.count <= COUNT_MAX:
        raise BadInput("too_large", f"a snapshot of {head.count} keys where at most {COUNT_MAX} are taken")
    return head, headers[0]


def check_snapshot(
    answer: SnapshotAnswer,
    hashes: bytes,
    *,
    height: int,
    interval: int,
    chain_id: bytes,
    schedule: ValidatorSchedule,
    checker: BlockChecker,
) -> CertifiedSnapshot:
    """`check_head`, and the hashes of all chunks, which certify the number of keys. Raises BadInput."""
    head, header = check_head(
        answer, height=height, interval=interval, chain_id=chain_id, schedule=schedule, checker=checker
    )
    return with_hashes(head, header, hashes)


def with_hashes(head: SnapshotHead, header: Header, hashes: bytes) -> CertifiedSnapshot:
    """The snapshot that `check_head` found, once the hashes of its chunks are here too. Raises BadInput."""
    if root_of_chunks(hashes, head.count) != head.root:
        raise BadInput("wrong_root", "the chunks do not lead to the snapshot's root")
    return CertifiedSnapshot(head, header, hashes)


class SnapshotLoader:
    """`load` once; cancelled or failed at any moment, another one goes on where it stopped."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        folder: JoinFolder,
        snapshots: SnapshotFolder,
        ask: Ask,
        check_trust: Callable[[bytes], ValidatorSchedule],
        save_trust: Callable[[bytes], None],
        keep: Callable[[Sequence[CheckedBlock]], Awaitable[None]],
        fault: Callable[[ValidatorId, str], None],
        thread: Executor,
        told: Callable[[str, int, int], None] = lambda what, done, total: None,
        verify: VerifyBatch = verify_batch,
    ) -> None:
        """`check_trust` makes the schedule of validator sets out of a peer's proof, or raises BadInput; `keep` makes
        bodies durable; `told` hears what is being loaded, how far it is, how far it goes."""
        self._chain_id = chain_id(genesis)
        self._parameters = genesis.parameters
        self._folder = folder
        self._snapshots = snapshots
        self._ask = ask
        self._check_trust = check_trust
        self._save_trust = save_trust
        self._keep = keep
        self._fault = fault
        self._thread = thread
        self._told = told
        self._verify = verify
        self.refused: set[ValidatorId] = set()
        self._silent: set[ValidatorId] = set()  # let a time-out pass: once is enough for one load

    async def load(self, tips: Tips) -> int:
        """The height at which the loaded chain stands: complete, and used from the next opening of the data folder on.

        Raises:
            NoSource: nobody in reach has a snapshot that holds, or all of one; what is loaded stays for the next time.
            StoreError: the disk refuses, or what was loaded does not lead to the certified root.
        """
        snapshot, schedule, trust = await self._choose(tips)
        await self._load_chunks(snapshot, tips)
        await self._load_blocks(snapshot, schedule, tips)
        await self._finish(snapshot, trust)
        return snapshot.head.height

    async def _aside(self, work: Callable[..., object], *arguments: object) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _refuse(self, source: ValidatorId, reason: str) -> None:
        self.refused.add(source)
        self._fault(source, reason)

    # --- which one ---

    async def _choose(self, tips: Tips) -> tuple[CertifiedSnapshot, ValidatorSchedule, bytes]:
        """The one begun earlier if somebody still has it, else the newest that holds."""
        saved = self._folder.plan()
        offers = {peer: tip.snapshots[-SNAPSHOTS_KEPT:] for peer, tip in tips.items()}  # more nobody keeps
        offered = {height for heights in offers.values() for height in heights}
        if saved is not None:
            plan = decode(_Plan, saved, bytes_max=2**40)
            height = decode(SnapshotHead, plan.answer.head).height
            if height in offered:
                schedule = self._check_trust(plan.trust)
                head, header = self._check_head(plan.answer, height, schedule)
                return with_hashes(head, header, plan.hashes), schedule, plan.trust
        trust, schedule = await self._best_trust(tips)
        for height in sorted(offered, reverse=True):
            for source in [peer for peer, heights in offers.items() if height in heights]:
                found = await self._ask_snapshot(source, height, schedule, trust)
                if found is not None:
                    return found, schedule, trust
        raise NoSource("no snapshot that holds is in reach")

    async def _best_trust(self, tips: Tips) -> tuple[bytes, ValidatorSchedule]:
        """Of all proofs that hold the longest: one honest peer is enough to know the newest set."""
        best: tuple[bytes, ValidatorSchedule] | None = None
        for source in tips:
            try:
                async with asyncio.timeout(SOURCE_TIMEOUT_S):
                    trust = await self._ask_trust(source)
                schedule = await asyncio.get_running_loop().run_in_executor(self._thread, self._check_trust, trust)
            except BadInput as error:
                self._refuse(source, f"snapshot_{error.code}: {error.message}")
            except TimeoutError:
                self._silent.add(source)
            except PeerFault:
                continue
            else:
                if best is None or len(schedule.epochs) > len(best[1].epochs):
                    best = trust, schedule
        if best is None:
            raise NoSource("nobody in reach proves the validator sets")
        return best

    async def _ask_trust(self, source: ValidatorId) -> bytes:
        """All links that a source has, unchecked, in as many answers as they take."""
        links: list[TrustLink] = []
        size = 0
        while True:
            request = encode(TrustRequest(first=len(links)))
            data = await self._ask(source, RequestKind.TRUST, request, REQUEST_TIMEOUT_S)
            answer = decode(TrustAnswer, data)
            links += answer.links
            size += len(data)
            if size > TRUST_BYTES_MAX or len(links) > TRUST_LINKS_MAX:
                raise BadInput("bad_trust", f"{len(links)} links of {size} bytes and more to come")
            if answer.rest <= 0:
                return encode_trust(links)
            if not answer.links:
                raise BadInput("bad_trust", f"no link where {answer.rest} should follow")

    async def _ask_snapshot(
        self, source: ValidatorId, height: int, schedule: ValidatorSchedule, trust: bytes
    ) -> CertifiedSnapshot | None:
        """None: this source does not have it, or lied, or is silent.

        What a certificate vouches for is checked before the hashes are asked for: their number is only a word."""
        if source in self.refused or source in self._silent:
            return None
        try:
            request = encode(SnapshotRequest(height=height))
            answer = decode(
                SnapshotAnswer, await self._ask(source, RequestKind.SNAPSHOT, request, REQUEST_TIMEOUT_S)
            )
            loop = asyncio.get_running_loop()
            head, header = await loop.run_in_executor(self._thread, self._check_head, answer, height, schedule)
            async with asyncio.timeout(SOURCE_TIMEOUT_S):
                hashes = await self._ask_hashes(source, height, chunk_count(head.count))
            snapshot = await loop.run_in_executor(self._thread, with_hashes, head, header, hashes)
        except BadInput as error:
            self._refuse(source, f"snapshot_{error.code}: {error.message}")
            return None
        except TimeoutError:
            self._silent.add(source)
            return None
        except PeerFault:
            return None
        await self._aside(self._folder.begin, encode(_Plan(answer=answer, hashes=hashes, trust=trust)))
        return snapshot

    async def _ask_hashes(self, source: ValidatorId, height: int, count: int) -> bytes:
        parts: list[bytes] = []
        for first in range(0, count, CHUNK_HASHES_PER_ANSWER_MAX):
            last = min(count, first + CHUNK_HASHES_PER_ANSWER_MAX) - 1
            request = encode(ChunksRequest(height=height, first=first, last=last, offset=0))
            part = await self._ask(source, RequestKind.CHUNK_HASHES, request, REQUEST_TIMEOUT_S)
            if len(part) != (last - first + 1) * DIGEST_BYTES:
                raise BadInput("wrong_root", f"{len(part)} bytes of hashes for chunks {first}..{last}")
            parts.append(part)
        return b"".join(parts)

    def _check_head(
        self, answer: SnapshotAnswer, height: int, schedule: ValidatorSchedule
    ) -> tuple[SnapshotHead, Header]:
        return check_head(
            answer, height=height, interval=self._parameters.snapshot_interval, chain_id=self._chain_id,
            schedule=schedule, checker=self._checker(schedule),
        )  # fmt: skip

    def _checker(self, schedule: ValidatorSchedule) -> BlockChecker:
        return BlockChecker(chain_id=self._chain_id, schedule=lambda: schedule, verify=self._verify)

    # --- the state ---

    async def _load_chunks(self, snapshot: CertifiedSnapshot, tips: Tips) -> None:
        total = chunk_count(snapshot.head.count)
        height = snapshot.head.height
        first = len(self._folder.loaded())  # they are given out, and written, in order
        sources = {
            peer: total - 1 for peer, tip in tips.items() if height in tip.snapshots and peer not in self.refused
        }

        async def fetch(source: ValidatorId, first: int, last: int) -> list[tuple[int, list[Pair]]]:
            return await self._fetch_chunks(snapshot, source, first, last)

        download = Download(
            first=first, last=total - 1, sources=sources, fetch=fetch, fault=self._refuse,
            per_request=CHUNKS_PER_REQUEST, ahead=CHUNKS_AHEAD, name="snapshot",
        )  # fmt: skip
        async with aclosing(download.runs()) as runs:
            async for run in runs:
                await self._aside(self._folder.put, run.units)
                self._told("chunks", run.first + len(run.units), total)
        if not download.complete:
            raise NoSource(f"nobody in reach has the chunks of the snapshot at height {height}")

    async def _fetch_chunks(
        self, snapshot: CertifiedSnapshot, source: ValidatorId, first: int, last: int
    ) -> list[tuple[int, list[Pair]]]:
        answer = await self._ask_chunks(snapshot, source, first, last, 0)
        chunks = list(answer.chunks[: last - first + 1])
        rest = answer.rest if len(answer.chunks) == len(chunks) else 0
        while chunks and rest > 0:  # the last one is larger than a message
            have = len(chunks[-1])
            at = first + len(chunks) - 1
            more = await self._ask_chunks(snapshot, source, at, at, have)
            if len(more.chunks) != 1 or not more.chunks[0] or have + len(more.chunks[0]) > CHUNK_BYTES_MAX:
                raise BadInput("wrong_chunk", f"the rest of chunk {at} does not fit")
            chunks[-1] += more.chunks[0]
            rest = more.rest

        def check() -> list[tuple[int, list[Pair]]]:
            return [(index, snapshot.check_chunk(index, data)) for index, data in enumerate(chunks, first)]

        return await asyncio.get_running_loop().run_in_executor(self._thread, check)

    async def _ask_chunks(
        self, snapshot: CertifiedSnapshot, source: ValidatorId, first: int, last: int, offset: int
    ) -> ChunksAnswer:
        request = encode(ChunksRequest(height=snapshot.head.height, first=first, last=last, offset=offset))
        return decode(ChunksAnswer, await self._ask(source, RequestKind.CHUNKS, request, REQUEST_TIMEOUT_S))

    # --- the blocks before ---

    async def _load_blocks(self, snapshot: CertifiedSnapshot, schedule: ValidatorSchedule, tips: Tips) -> None:
        """The last `lifetime_max` heights: a transaction that one of them holds must not be executed again."""
        blocks, last = self._folder.blocks, snapshot.head.height
        first = max(1, last - self._parameters.lifetime_max)
        checker = self._checker(schedule)

        async def fetch(source: ValidatorId, first: int, last: int) -> list[CheckedBlock]:
            request = encode(BlocksRequest(first=first, last=last))
            answer = decode(BlocksAnswer, await self._ask(source, RequestKind.BLOCKS, request, REQUEST_TIMEOUT_S))
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, checker.check, answer.blocks[: last - first + 1], first)

        while blocks.height() < last:
            sources = {
                peer: tip.height for peer, tip in tips.items() if tip.base <= first and peer not in self.refused
            }
            download = Download(
                first=max(first, blocks.height() + 1), last=last, sources=sources, fetch=fetch, fault=self._refuse,
                per_request=BLOCKS_PER_ANSWER_MAX, ahead=BLOCKS_AHEAD, name="snapshot",
            )  # fmt: skip
            async with aclosing(download.runs()) as runs:
                async for run in runs:
                    try:
                        parent = blocks.tip() if blocks.height() else None
                        stored = check_adopted(run.units, parent, schedule, snapshot.header)
                    except BadInput as error:
                        download.refuse(run.source, f"snapshot_{error.code}: {error.message}")
                        break
                    await self._keep(run.units)
                    await self._aside(blocks.adopt, stored)
                    self._told("blocks", blocks.height() - first + 1, last - first + 1)
            if blocks.height() < last and not download.refused:
                raise NoSource(f"nobody in reach has the blocks {first}..{last}")

    # --- the end ---

    async def _finish(self, snapshot: CertifiedSnapshot, trust: bytes) -> None:
        """Once more over the whole state as it is stored: this is also the snapshot that this node serves."""
        height = snapshot.head.height
        self._told("checking", 0, 1)
        loop = asyncio.get_running_loop()
        head = await loop.run_in_executor(self._thread, lambda: self._snapshots.write(height, self._folder.pairs()))
        if (head.root, head.count) != (snapshot.head.root, snapshot.head.count):  # nothing vouches for the rest
            await self._aside(self._folder.discard)
            raise StoreError(f"the state loaded for height {height} does not lead to its root; it was thrown away")
        self._save_trust(trust)
        state_root = snapshot.header.state_root
        await self._aside(lambda: self._folder.complete(height=height, state_root=state_root))


def check_adopted(
    blocks: Sequence[CheckedBlock], parent: Header | None, schedule: ValidatorSchedule, last: Header
) -> list[StoredBlock]:
    """Consecutive checked blocks as they are stored without having been executed.

    Each must be signed by the set in force at its height and follow the one before (`parent`: None where the first may
    be any); the one at the height of `last` must be that one.

    Raises:
        BadInput: one of them is none of this chain.
    """
    stored: list[StoredBlock] = []
    for block in blocks:
        header = block.header
        if block.certified_by != schedule.at(header.height).digest:
            raise BadInput("wrong_set", f"block {header.height} is not signed by the validator set in force")
        if parent is not None and header.parent_hash != header_hash(parent):
            raise BadInput("wrong_block", f"block {header.height} does not follow the one before")
        if header.height == last.height and header != last:
            raise BadInput("wrong_block", f"block {header.height} is not the one the snapshot belongs to")
        stored.append(_adopted(block))
        parent = header
    return stored


def _adopted(block: CheckedBlock) -> StoredBlock:
    hashes = block.proposal.transaction_hashes()
    skipped = frozenset(block.skipped)
    executed = [transaction_hash for at, transaction_hash in enumerate(hashes) if at not in skipped]
    if tuple(sorted(skipped)) != block.skipped or len(executed) != len(hashes) - len(skipped):
        raise DecodeError(f"block {block.header.height}: not positions of its proposal")
    if len(executed) != block.header.transaction_count or merkle_root(executed) != block.header.transaction_root:
        raise BadInput("wrong_block", f"block {block.header.height}: other transactions than were executed")
    return StoredBlock(
        header=encode_header(block.header),
        certificate=encode(block.certificate),
        proposal_digest=block.digest,
        skipped=block.skipped,
        hashes=b"".join(executed),
        receipts=(),
        writes=b"",
    )
