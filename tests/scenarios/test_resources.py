"""What a node may run out of: timers, file handles, messages that fit one layer and not the next."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from chain.codec import encode
from chain.errors import BadInput, ConfigError
from chain.model.block import Certificate, VoteSignature, encode_header
from chain.model.genesis import _RANGES, ChainParameters, check_genesis
from chain.model.validators import VALIDATORS_MAX
from chain.net.frames import FRAME_BYTES_MAX, Channel, encode_frame
from chain.store import JournalProposal, open_store
from chain.store.layout import pack_integers, pack_parts
from chain.sync import Wanted
from chain.sync.wire import BlocksAnswer, FetchedBlock, ProposalBodies
from chain.types import DIGEST_BYTES, MESSAGE_BYTES_MAX, Height, ValidatorId
from consensus import encode_signed
from consensus.events import Timer
from consensus.messages import MessageType, PrePrepare
from consensus.verification import WINDOW_MAX
from tests.unit.consensus.members import WINDOW, Chain
from tests.unit.consensus.solo import Solo
from tests.unit.pool.transactions import make_transaction
from tests.unit.store.factory import ChainFactory
from tests.unit.sync.test_proposals import World, make_proposal


def test_one_timer_per_cached_proposal() -> None:
    """FISCO #2854. However many proposals lie here, from the future and of every view, the timers are the same few."""
    solo = Solo()
    for height in range(1, 2 * WINDOW + 3):
        for view in (0, 4, 8):
            solo.hear(
                view % 4, PrePrepare(view=view, proposal=solo.chain.proposal(height, f"{view}", leader=view % 4))
            )
            ahead = solo.now + 1_000_000
            far = solo.chain.proposal(height, f"far {view}", leader=view % 4, timestamp_ms=ahead)
            solo.hear(view % 4, PrePrepare(view=view, proposal=far))
        assert len(solo.replica.armed_timers) <= len(Timer)


def test_one_file_handle_per_cached_proposal(tmp_path: Path) -> None:
    """FISCO #2854. What is kept for a proposal is a row, not a file."""
    factory = ChainFactory()
    store = open_store(tmp_path, factory.genesis_header)
    try:
        store.journal.write(proposals=[JournalProposal(1, hashlib.sha256(b"first").digest(), b"p", [b"t"])])
        handles = len(list(Path("/proc/self/fd").iterdir()))
        digests = [hashlib.sha256(b"%d" % number).digest() for number in range(300)]
        store.journal.write(proposals=[JournalProposal(2, digest, b"p", [b"t"]) for digest in digests])
        assert all(store.journal.proposal(digest) is not None for digest in digests)
        assert len(list(Path("/proc/self/fd").iterdir())) == handles
    finally:
        store.close()


def test_one_task_per_cached_proposal_ends_with_it() -> None:
    """Those that are obtained have a task each; it ends when the proposal is wanted no more."""

    class Silent(World):
        async def ask(self, peer: ValidatorId, kind: object, payload: bytes, timeout_s: float) -> bytes:
            await asyncio.Event().wait()
            return b""

    async def scene() -> None:
        world = Silent()
        obtainer = world.obtainer()
        before = len(asyncio.all_tasks())
        for number in range(64):
            proposal, digest = make_proposal([make_transaction(1_000 + number)])
            obtainer.want(
                Wanted(
                    height=Height(number + 1), digest=digest, proposal=proposal, fresh=True,
                    sources=(ValidatorId(b"\x01" * 20),),
                )
            )  # fmt: skip
        assert len(obtainer) == 64
        obtainer.cancel_up_to(Height(64))
        assert len(obtainer) == 0
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0)

    asyncio.run(scene())


def test_two_layers_with_different_size_limits_drop_large_proposals_silently() -> None:
    """FISCO #5465. The largest block that a genesis may allow goes through every layer; no larger one is allowed."""
    chain = Chain()
    count, size = (_RANGES[name][1] for name in ("block_transactions_max", "block_bytes_max"))
    most = ChainParameters(block_transactions_max=count, block_bytes_max=size)
    genesis = msgspec.structs.replace(ChainFactory().genesis, parameters=most)
    check_genesis(genesis)
    proposal = msgspec.structs.replace(chain.proposal(1), hashes=bytes(count * DIGEST_BYTES))
    frame = encode_frame(Channel.CONSENSUS, encode_signed(chain.sign(0, PrePrepare(view=0, proposal=proposal))))
    assert len(frame) <= FRAME_BYTES_MAX
    each = most.block_bytes_max // count
    answer = ProposalBodies(proposal=encode(proposal), transactions=(bytes(each),) * count)
    assert len(encode(answer)) <= MESSAGE_BYTES_MAX
    certificate = chain.certificate(MessageType.CHECKPOINT, height=1, digest=bytes(32), signers=range(4))
    block = FetchedBlock(
        bodies=pack_parts((answer.proposal, *answer.transactions)), header=encode_header(chain.genesis),
        certificate=encode(certificate) * (VALIDATORS_MAX // 4), skipped=pack_integers(range(count)),
    )  # fmt: skip
    assert len(encode(BlocksAnswer(blocks=(block,)))) <= MESSAGE_BYTES_MAX
    for changes in ({"block_bytes_max": most.block_bytes_max + 1}, {"block_transactions_max": count + 1}):
        with pytest.raises((BadInput, ConfigError)):
            check_genesis(msgspec.structs.replace(genesis, parameters=msgspec.structs.replace(most, **changes)))


def test_the_largest_new_view_fits_a_message() -> None:
    """A hundred validators, the widest window: what a view change must carry is bounded, and a genesis for which it
    would not fit is refused."""
    chain = Chain()
    votes = tuple(VoteSignature(validator=bytes(20), signature=bytes(64)) for _ in range(VALIDATORS_MAX))
    certificate = Certificate(
        kind=MessageType.PREPARE, view=2**48, height=2**62, digest=bytes(32), signatures=votes
    )
    change = chain.view_change(0, 1, stable=certificate, prepared=[certificate] * WINDOW_MAX)
    assert VALIDATORS_MAX * len(encode(change.message)) > MESSAGE_BYTES_MAX  # so it is not allowed
    members = tuple(
        msgspec.structs.replace(chain.keys[0].validator, name=f"v{at}", public_key=at.to_bytes(32, "big"))
        for at in range(VALIDATORS_MAX)
    )
    genesis = msgspec.structs.replace(
        ChainFactory().genesis, parameters=ChainParameters(window=WINDOW_MAX), validators=members
    )
    with pytest.raises((BadInput, ConfigError), match="window"):
        check_genesis(genesis)

