"""Obtaining a proposal's bodies: from the pool, from peers, and when a fresh one must be refused."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from chain.codec import decode, encode
from chain.crypto import verify_batch
from chain.errors import PeerFault
from chain.model.block import Proposal, proposal_digest
from chain.model.genesis import ChainParameters
from chain.model.signing import decode_transaction
from chain.model.transaction import Transaction, join_transaction
from chain.pool import Pool, PoolLimits
from chain.sync import ProposalObtainer, RequestKind, Wanted
from chain.sync.wire import ProposalBodies, TransactionsAnswer, TransactionsRequest
from chain.types import DIGEST_BYTES, Digest, Height, Instant, ValidatorId
from tests.unit.pool.transactions import CHAIN_ID, make_transaction

LEADER = ValidatorId(b"\x01" * 20)
OTHER = ValidatorId(b"\x02" * 20)
HEIGHT = Height(7)


class World:
    """A pool, what is executed, and peers that answer from a dictionary of bodies."""

    def __init__(self) -> None:
        self.pool = Pool(PoolLimits())
        self.parameters = ChainParameters()
        self.done: set[Digest] = set()
        self.peers: dict[ValidatorId, list[bytes]] = {}
        self.proposals: dict[ValidatorId, ProposalBodies] = {}
        self.asked: list[tuple[ValidatorId, RequestKind]] = []
        self.durable: dict[Digest, tuple[Proposal, Sequence[Transaction]]] = {}
        self.obtained: list[tuple[Digest, Sequence[Transaction]]] = []
        self.refused: list[str] = []
        self.settled = asyncio.Event()

    async def ask(self, peer: ValidatorId, kind: RequestKind, payload: bytes, timeout_s: float) -> bytes:
        self.asked.append((peer, kind))
        if kind is RequestKind.PROPOSAL:
            if peer not in self.proposals:
                raise PeerFault("not_connected")
            return encode(self.proposals[peer])
        if peer not in self.peers:
            raise PeerFault("not_connected")
        blob = decode(TransactionsRequest, payload).hashes
        asked = {blob[at : at + DIGEST_BYTES] for at in range(0, len(blob), DIGEST_BYTES)}
        return encode(
            TransactionsAnswer(
                transactions=tuple(raw for raw in self.peers[peer] if decode_transaction(raw).hash in asked)
            )
        )

    async def verify(self, items: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[bool]:
        return verify_batch(items)

    def executed(self, hashes: Sequence[Digest]) -> list[bool]:
        return [transaction_hash in self.done for transaction_hash in hashes]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def on_obtained(self, digest: Digest, proposal: Proposal, transactions: Sequence[Transaction]) -> None:
        self.obtained.append((digest, transactions))
        self.settled.set()

    def on_refused(self, height: Height, digest: Digest, reason: str) -> None:
        self.refused.append(reason)
        self.settled.set()

    def obtainer(self) -> ProposalObtainer:
        return ProposalObtainer(
            chain_id=CHAIN_ID,
            parameters=self.parameters,
            pool=self.pool,
            verifier=self,
            index=self,
            ask=self.ask,
            find=self.durable.get,
            obtained=self.on_obtained,
            refused=self.on_refused,
            now=lambda: Instant(0),
            spawn=self.spawn,
        )

    async def want(self, wanted: Wanted) -> None:
        obtainer = self.obtainer()
        obtainer.want(wanted)
        obtainer.want(wanted)  # asking twice is asking once
        async with asyncio.timeout(5):
            await self.settled.wait()
        await asyncio.sleep(0)
        assert len(obtainer) == 0
        assert len(self.obtained) + len(self.refused) == 1


def make_proposal(transactions: Sequence[Transaction]) -> tuple[Proposal, Digest]:
    proposal = Proposal(
        chain_id=CHAIN_ID,
        height=HEIGHT,
        timestamp_ms=1,
        proposer=LEADER,
        hashes=b"".join(transaction.hash for transaction in transactions),
    )
    return proposal, proposal_digest(proposal)


def fresh(transactions: Sequence[Transaction], sources: tuple[ValidatorId, ...] = (LEADER,)) -> Wanted:
    proposal, digest = make_proposal(transactions)
    return Wanted(height=HEIGHT, digest=digest, proposal=proposal, fresh=True, sources=sources)


def required(transactions: Sequence[Transaction], sources: tuple[ValidatorId, ...]) -> Wanted:
    _, digest = make_proposal(transactions)
    return Wanted(height=HEIGHT, digest=digest, proposal=None, fresh=False, sources=sources)


THREE = [make_transaction(at) for at in range(3)]


def test_bodies_in_the_pool_are_reserved_and_nobody_is_asked() -> None:
    async def scenario() -> World:
        world = World()
        for transaction in THREE:
            world.pool.add(transaction, Instant(0))
        await world.want(fresh(THREE))
        return world

    world = asyncio.run(scenario())
    assert world.asked == []
    assert [transaction.hash for transaction in world.obtained[0][1]] == [transaction.hash for transaction in THREE]
    assert world.pool.waiting_count == 0


def test_missing_bodies_come_from_the_leader_in_the_order_of_the_proposal() -> None:
    async def scenario() -> World:
        world = World()
        world.pool.add(THREE[1], Instant(0))
        world.peers[LEADER] = [THREE[2].raw, THREE[0].raw]
        await world.want(fresh(THREE))
        return world

    world = asyncio.run(scenario())
    assert world.asked == [(LEADER, RequestKind.TRANSACTIONS)]
    assert [transaction.hash for transaction in world.obtained[0][1]] == [transaction.hash for transaction in THREE]


def test_a_forged_body_is_not_taken_from_a_peer() -> None:
    async def scenario() -> World:
        world = World()
        forged = join_transaction(THREE[0].body_bytes, bytes(64))
        world.peers = {LEADER: [forged], OTHER: [THREE[0].raw]}
        await world.want(fresh(THREE[:1], (LEADER, OTHER)))
        return world

    world = asyncio.run(scenario())
    assert world.obtained[0][1][0].raw == THREE[0].raw


def test_a_fresh_proposal_with_an_executed_transaction_is_refused() -> None:
    async def scenario() -> World:
        world = World()
        for transaction in THREE:
            world.pool.add(transaction, Instant(0))
        world.done.add(THREE[1].hash)
        await world.want(fresh(THREE))
        return world

    assert asyncio.run(scenario()).refused == ["already_executed: the proposal holds an executed transaction"]


def test_a_fresh_proposal_with_a_transaction_of_another_live_proposal_is_refused() -> None:
    async def scenario() -> World:
        world = World()
        world.pool.reserve(Digest(b"\x09" * 32), THREE[:1], Instant(0))
        await world.want(fresh(THREE[:1]))
        return world

    assert asyncio.run(scenario()).refused == ["in_two_proposals: a transaction is in another live proposal"]


def test_a_fresh_proposal_with_an_expired_transaction_is_refused() -> None:
    async def scenario() -> World:
        world = World()
        old = make_transaction(50, expiry=HEIGHT - 1)
        world.pool.add(old, Instant(0))
        await world.want(fresh([old]))
        return world

    assert asyncio.run(scenario()).refused[0].startswith("expired: ")


def test_a_required_proposal_is_never_refused_for_its_contents() -> None:
    async def scenario() -> World:
        world = World()
        world.done.add(THREE[0].hash)
        world.pool.reserve(Digest(b"\x09" * 32), [THREE[1]], Instant(0))
        proposal, _ = make_proposal(THREE)
        bodies = ProposalBodies(proposal=encode(proposal), transactions=tuple(item.raw for item in THREE))
        world.proposals = {OTHER: bodies}
        await world.want(required(THREE, (LEADER, OTHER)))
        return world

    world = asyncio.run(scenario())
    assert world.refused == []
    assert len(world.obtained[0][1]) == 3
    assert world.pool.reserved_by(THREE[1].hash) == b"\x09" * 32, "the other proposal keeps what it holds"


def test_the_answer_to_a_digest_must_be_that_proposal_with_its_bodies() -> None:
    async def scenario() -> World:
        world = World()
        other, _ = make_proposal(THREE[:2])
        right, _ = make_proposal(THREE)
        world.proposals = {
            LEADER: ProposalBodies(proposal=encode(other), transactions=tuple(item.raw for item in THREE[:2])),
            OTHER: ProposalBodies(proposal=encode(right), transactions=tuple(item.raw for item in THREE)),
        }
        await world.want(required(THREE, (LEADER, OTHER)))
        return world

    world = asyncio.run(scenario())
    assert len(world.obtained[0][1]) == 3


def test_bodies_swapped_by_the_answering_peer_are_not_taken() -> None:
    async def scenario() -> World:
        world = World()
        right, _ = make_proposal(THREE)
        raws = tuple(item.raw for item in THREE)
        world.proposals = {
            LEADER: ProposalBodies(proposal=encode(right), transactions=(raws[1], raws[0], raws[2])),
            OTHER: ProposalBodies(proposal=encode(right), transactions=raws),
        }
        await world.want(required(THREE, (LEADER, OTHER)))
        return world

    world = asyncio.run(scenario())
    assert [item.raw for item in world.obtained[0][1]] == [item.raw for item in THREE]
    assert [peer for peer, _ in world.asked] == [LEADER, OTHER]


def test_what_is_durable_here_needs_no_peer() -> None:
    async def scenario() -> World:
        world = World()
        proposal, digest = make_proposal(THREE)
        world.durable[digest] = (proposal, THREE)
        await world.want(required(THREE, (LEADER,)))
        return world

    assert asyncio.run(scenario()).asked == []


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"block_transactions_max": 2}, "too_many"),
        ({"block_bytes_max": 300}, "too_large"),
        ({"block_gas_max": 2_999}, "too_much_gas"),
        ({"lifetime_max": 10}, "expired"),
    ],
)
def test_a_fresh_proposal_beyond_the_chains_limits_is_refused(limits: dict[str, int], code: str) -> None:
    """A Byzantine leader could otherwise order a block that nobody can transfer or execute."""

    async def scenario() -> World:
        world = World()
        world.parameters = ChainParameters(**limits)
        for transaction in THREE:
            world.pool.add(transaction, Instant(0))
        await world.want(fresh(THREE))
        return world

    assert asyncio.run(scenario()).refused[0].startswith(f"{code}: ")


def test_a_required_proposals_bodies_with_other_signatures_are_not_taken() -> None:
    """Its hashes are right, so only the signature check tells."""

    async def scenario() -> World:
        world = World()
        right, _ = make_proposal(THREE)
        forged = tuple(join_transaction(item.body_bytes, bytes(64)) for item in THREE)
        world.proposals = {
            LEADER: ProposalBodies(proposal=encode(right), transactions=forged),
            OTHER: ProposalBodies(proposal=encode(right), transactions=tuple(item.raw for item in THREE)),
        }
        await world.want(required(THREE, (LEADER, OTHER)))
        return world

    assert [item.raw for item in asyncio.run(scenario()).obtained[0][1]] == [item.raw for item in THREE]


def test_an_abandoned_wish_reserves_nothing_when_its_bodies_come_late() -> None:
    async def scenario() -> World:
        world = World()
        obtainer = world.obtainer()
        wanted = required(THREE, (LEADER,))
        obtainer.want(wanted)
        await asyncio.sleep(0)
        obtainer.cancel(wanted.digest)
        right, _ = make_proposal(THREE)
        world.proposals = {
            LEADER: ProposalBodies(proposal=encode(right), transactions=tuple(item.raw for item in THREE))
        }
        await asyncio.gather(*[task for task in asyncio.all_tasks() if task is not asyncio.current_task()],
                             return_exceptions=True)  # fmt: skip
        return world

    world = asyncio.run(scenario())
    assert world.obtained == []
    assert len(world.pool) == 0
