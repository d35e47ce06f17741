"""A short chain with snapshots, made once for a test module, and peers in this process that serve it."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.sync.chain import ChainMaker, SmallBlocks
from chain.codec import decode, encode
from chain.crypto import PrivateKey, Scheme
from chain.errors import BadInput, PeerFault
from chain.model.block import Header, decode_header
from chain.model.genesis import ChainParameters, Genesis, genesis_header
from chain.model.signing import ValidatorKey
from chain.model.validators import Validator, ValidatorSchedule
from chain.node.archive import NodeArchive, open_node_store
from chain.node.members import schedule_of_trust
from chain.pool import Pool, PoolLimits
from chain.store import JoinFolder, JournalProposal, Store
from chain.sync import CheckedBlock, RequestKind, SyncServer
from chain.sync.snapshots import SnapshotLoader, Tips
from chain.sync.wire import TipAnswer
from chain.types import ValidatorId

INTERVAL, LIFETIME, BLOCKS = 50, 40, 128
ACCOUNTS = 500
OPERATOR = PrivateKey.from_secret(Scheme.ED25519, bytes(31) + b"\x09")
KEYS = [ValidatorKey(bytes(31) + bytes((number,))) for number in range(1, 5)]
PEERS = tuple(ValidatorId(bytes((number,)) * 20) for number in (1, 2, 3))


def make_genesis(interval: int = INTERVAL) -> Genesis:
    return Genesis(
        name="snapshots",
        created_ms=1_700_000_000_000,
        parameters=ChainParameters(snapshot_interval=interval, lifetime_max=LIFETIME),
        validators=tuple(
            Validator(name=f"bank {number}", public_key=key.public_key, weight=1) for number, key in enumerate(KEYS)
        ),
        ca_certificate_sha256=bytes(32),
        deployers=(OPERATOR.address,),
    )


@dataclass
class Served:
    """The chain in a folder, and what answers for it."""

    folder: Path
    genesis: Genesis
    store: Store
    server: SyncServer

    @property
    def tip(self) -> TipAnswer:
        return decode(TipAnswer, self.server.answer(RequestKind.TIP, b""))

    def pairs(self, height: int) -> list[tuple[bytes, bytes]]:
        """The state at a height, from the write sets."""
        state: dict[bytes, bytes] = {}
        for at in range(1, height + 1):
            for key, value in self.store.blocks.write_set(at):
                if value is None:
                    state.pop(key, None)
                else:
                    state[key] = value
        return sorted(state.items())

    def close(self) -> None:
        self.store.close()


def serve(folder: Path, *, blocks: int = BLOCKS) -> Served:
    genesis = make_genesis()
    shutil.copytree(_made(blocks), folder, dirs_exist_ok=True)
    store = open_node_store(folder, genesis)
    return Served(folder, genesis, store, SyncServer(NodeArchive(store, Pool(PoolLimits()))))


@cache
def _made(blocks: int) -> Path:
    """The chain's folder, made once for a process: executing it takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-chain-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    maker = ChainMaker(folder / "data", make_genesis(), KEYS)
    payments = SmallBlocks(maker, OPERATOR, accounts=ACCOUNTS, payments=2)
    payments.add(blocks - maker.tip.height)
    maker.close()
    return folder / "data"


Lie = Callable[[RequestKind, bytes, bytes], bytes]  # kind, request, honest answer -> answer; may raise


class Joiner:
    """A node's folder that loads from peers in this process; every peer may lie."""

    def __init__(self, served: Served, folder: Path, lies: dict[ValidatorId, Lie] | None = None) -> None:
        self.served = served
        self.folder = folder
        self.lies = lies or {}
        self.asked: list[tuple[ValidatorId, RequestKind]] = []
        self.faults: list[tuple[ValidatorId, str]] = []
        self.trust: list[bytes] = []
        self.before_answer: Callable[[RequestKind, int], None] = lambda kind, number: None
        self.tips: dict[ValidatorId, TipAnswer] = {}

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        self.asked.append((peer, kind))
        self.before_answer(kind, len(self.asked))
        await asyncio.sleep(0)
        try:
            answer = self.served.server.answer(kind, payload)
        except BadInput as error:
            raise PeerFault(f"refused: {error.code}") from None
        lie = self.lies.get(peer)
        return answer if lie is None else lie(kind, payload, answer)

    def load(
        self, tips: Tips | None = None, *, check_trust: Callable[[bytes], ValidatorSchedule] | None = None
    ) -> int:
        """One attempt from the folder as it is, as after a start. Raises what the loader raises."""
        genesis = self.served.genesis
        store = open_node_store(self.folder, genesis)
        folder = JoinFolder(store.path, genesis_header(genesis))

        async def keep(blocks: Sequence[CheckedBlock]) -> None:
            store.journal.write(
                proposals=[
                    JournalProposal(
                        block.header.height, block.digest, encode(block.proposal), [tx.raw for tx in block.transactions]
                    )
                    for block in blocks
                ]
            )

        async def scenario() -> int:
            with ThreadPoolExecutor(2) as thread:
                loader = SnapshotLoader(
                    genesis=genesis, folder=folder, snapshots=store.snapshots, ask=self.ask,
                    check_trust=check_trust or (lambda data: schedule_of_trust(genesis, data)),
                    save_trust=self.trust.append, keep=keep,
                    fault=lambda peer, reason: self.faults.append((peer, reason)), thread=thread,
                )  # fmt: skip
                async with asyncio.timeout(30):
                    return await loader.load(tips or self.tips or dict.fromkeys(PEERS, self.served.tip))

        try:
            return asyncio.run(scenario())
        finally:
            folder.close()
            store.close()

    def open(self) -> Store:
        return open_node_store(self.folder, self.served.genesis)


def header_at(served: Served, height: int) -> Header:
    data = served.store.blocks.header(height)
    assert data is not None
    return decode_header(data)

