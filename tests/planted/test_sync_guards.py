"""What the mutations of validator sets and of sync found to be tested nowhere else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from chain.codec import decode, encode
from chain.errors import BadInput, ConfigError
from chain.model.block import Certificate, Proposal, decode_header, encode_header, header_hash, proposal_digest
from chain.model.genesis import ChainParameters
from chain.model.transaction import Transaction
from chain.model.validators import VALIDATORS_ALONE, VALIDATORS_MAX, VALIDATORS_MIN, ValidatorSchedule, check_count
from chain.store.layout import pack_parts, unpack_parts
from chain.sync import BlockChecker, ProposalObtainer, Wanted
from chain.sync.proposals import match_bodies
from chain.sync.wire import FetchedBlock, ProposalBodies
from chain.types import DIGEST_BYTES, Digest, Height, Instant
from tests.unit.pool.transactions import CHAIN_ID, make_transaction
from tests.unit.sync.test_blocks import CHAIN, OLD, forge_header
from tests.unit.sync.test_proposals import HEIGHT as PROPOSED
from tests.unit.sync.test_proposals import LEADER, OTHER, fresh, make_proposal, required
from tests.unit.sync.test_proposals import World as Obtaining

# --- how many validators a chain has ---


@pytest.mark.parametrize(
    ("count", "is_good"),
    [
        (-1, False), (0, False), (VALIDATORS_ALONE, True), (2, False), (VALIDATORS_MIN - 1, False),
        (VALIDATORS_MIN, True), (VALIDATORS_MAX, True), (VALIDATORS_MAX + 1, False),
    ],
)  # fmt: skip
def test_a_chain_begins_with_one_validator_or_with_enough_of_them(count: int, is_good: bool) -> None:
    with nullcontext() if is_good else pytest.raises(ConfigError, match="for development"):
        check_count(count, "so many")


# --- what belongs together in a fetched block ---

HEIGHT = 5


def checker() -> BlockChecker:
    return BlockChecker(chain_id=CHAIN_ID, schedule=lambda: ValidatorSchedule(OLD.validators))


def check(block: FetchedBlock, first: int = HEIGHT) -> None:
    checker().check([block], first)


def rebuilt(*, header: int = HEIGHT, proposal: int = HEIGHT, certificate: int = HEIGHT) -> FetchedBlock:
    """A block whose parts name these heights, and hash and sign each other as they should otherwise."""
    block = CHAIN[HEIGHT - 1]
    raw, *bodies = unpack_parts(block.bodies)
    other = msgspec.structs.replace(decode(Proposal, raw), height=proposal)
    head = msgspec.structs.replace(decode_header(block.header), height=header, proposal_digest=proposal_digest(other))
    signed = OLD.certify(msgspec.structs.replace(head, height=certificate))
    return msgspec.structs.replace(
        block,
        bodies=pack_parts((encode(other), *bodies)),
        header=encode_header(head),
        certificate=encode(msgspec.structs.replace(signed, digest=header_hash(head))),
    )


@pytest.mark.parametrize("part", ["header", "proposal", "certificate"])
@pytest.mark.parametrize("height", [HEIGHT - 1, HEIGHT + 1])
def test_header_proposal_and_certificate_are_each_of_the_height_asked_for(part: str, height: int) -> None:
    check(rebuilt())
    with pytest.raises(BadInput) as caught:
        check(rebuilt(**{part: height}))
    assert caught.value.code == "wrong_height"


@pytest.mark.parametrize("digest", [bytes(DIGEST_BYTES), b"\xff" * DIGEST_BYTES])
def test_a_certificate_is_of_the_header_whichever_way_they_differ(digest: bytes) -> None:
    """Nothing of this is left to the signatures."""
    block = CHAIN[HEIGHT - 1]
    certificate = msgspec.structs.replace(decode(Certificate, block.certificate), digest=digest)
    with pytest.raises(BadInput) as caught:
        check(msgspec.structs.replace(block, certificate=encode(certificate)))
    assert caught.value.code == "wrong_block"


def test_a_block_without_any_part_is_a_lie_like_others() -> None:
    """And no error that stops the node."""
    with pytest.raises(BadInput):
        check(msgspec.structs.replace(CHAIN[HEIGHT - 1], bodies=pack_parts(())))


def test_a_wrong_signature_is_told_with_the_blocks_that_were_looked_at() -> None:
    with pytest.raises(BadInput, match=r"a signature of the blocks 1\.\.3 is wrong"):
        checker().check([CHAIN[0], forge_header(CHAIN[1]), CHAIN[2]], 1)


def test_a_header_of_another_chain_is_refused_whoever_signed_it() -> None:
    """Also where nothing else is checked yet, because its set is not known here."""
    header = msgspec.structs.replace(decode_header(CHAIN[HEIGHT - 1].header), validator_set_hash=bytes(DIGEST_BYTES))
    for chain_id, is_good in ((CHAIN_ID, True), (Digest(bytes(DIGEST_BYTES)), False)):
        other = msgspec.structs.replace(header, chain_id=chain_id)
        block = msgspec.structs.replace(
            CHAIN[HEIGHT - 1], header=encode_header(other), certificate=encode(OLD.certify(other))
        )
        if is_good:
            assert checker().check([block], HEIGHT)[0].certified_by is None
        else:
            with pytest.raises(BadInput) as caught:
                checker().check([block], HEIGHT)
            assert caught.value.code == "wrong_chain"


# --- the bodies of a proposal ---


def obtain(wanted: Wanted, setup: Callable[[Obtaining], object] = lambda world: None, **limits: int) -> Obtaining:
    """What becomes of one wish."""

    async def scenario() -> Obtaining:
        world = Obtaining()
        world.parameters = ChainParameters(**limits)
        setup(world)
        await world.want(wanted)
        return world

    return asyncio.run(scenario())


def in_pool(*transactions: Transaction) -> Callable[[Obtaining], object]:
    return lambda world: [world.pool.add(transaction, Instant(0)) for transaction in transactions]


THREE = [make_transaction(at) for at in range(3)]
BYTES = sum(len(transaction.raw) for transaction in THREE)
GAS = sum(transaction.body.gas_limit for transaction in THREE)


@pytest.mark.parametrize(
    ("limit", "most"), [("block_transactions_max", 3), ("block_bytes_max", BYTES), ("block_gas_max", GAS)]
)
def test_a_fresh_proposal_may_be_as_large_as_the_chain_allows(limit: str, most: int) -> None:
    assert len(obtain(fresh(THREE), in_pool(*THREE), **{limit: most}).obtained) == 1
    assert len(obtain(fresh(THREE), in_pool(*THREE), **{limit: most - 1}).refused) == 1


@pytest.mark.parametrize(
    ("expiry", "is_good"),
    [(PROPOSED - 1, False), (PROPOSED, True), (PROPOSED + 10, True), (PROPOSED + 11, False)],
)
def test_a_transaction_may_expire_from_this_height_on_and_within_its_lifetime(expiry: int, is_good: bool) -> None:
    one = make_transaction(7, expiry=expiry)
    world = obtain(fresh([one]), in_pool(one), lifetime_max=10)
    assert (len(world.obtained), [reason.partition(":")[0] for reason in world.refused]) == (
        (1, []) if is_good else (0, ["expired"])
    )


def test_a_transaction_that_this_very_proposal_holds_is_no_reason_against_it() -> None:
    wanted = fresh(THREE)
    world = obtain(wanted, lambda world: world.pool.reserve(wanted.digest, THREE, Instant(0)))
    assert (len(world.obtained), world.refused) == (1, [])


def test_a_fresh_proposal_that_is_durable_here_is_judged_all_the_same() -> None:
    wanted = fresh(THREE)
    assert wanted.proposal is not None
    known = (wanted.proposal, THREE)

    def executed_meanwhile(world: Obtaining) -> None:
        world.durable[wanted.digest] = known
        world.done.add(THREE[0].hash)

    assert obtain(wanted, executed_meanwhile).refused[0].startswith("already_executed")
    assert obtain(wanted, lambda world: world.durable.update({wanted.digest: known})).asked == []


def test_a_required_proposal_whose_contents_are_known_is_never_refused_for_them() -> None:
    """Also with its proposal at hand, or durable, or larger than a fresh one may be."""
    proposal, digest = make_proposal(THREE)
    wanted = Wanted(height=PROPOSED, digest=digest, proposal=proposal, fresh=False, sources=(OTHER,))
    bodies = ProposalBodies(proposal=encode(proposal), transactions=tuple(item.raw for item in THREE))

    def at_a_peer(world: Obtaining) -> None:
        world.done.add(THREE[0].hash)
        world.proposals[OTHER] = bodies

    def durable(world: Obtaining) -> None:
        world.done.add(THREE[0].hash)
        world.durable[digest] = (proposal, THREE)

    for setup in (at_a_peer, durable):
        world = obtain(wanted, setup, block_transactions_max=2)
        assert (len(world.obtained), world.refused) == (1, [])


def test_what_is_executed_is_not_held_for_a_proposal_again() -> None:
    wanted = required(THREE, (OTHER,))
    proposal, _ = make_proposal(THREE)

    def setup(world: Obtaining) -> None:
        world.durable[wanted.digest] = (proposal, THREE)
        world.done.add(THREE[1].hash)

    world = obtain(wanted, setup)
    assert [world.pool.reserved_by(item.hash) for item in THREE] == [wanted.digest, None, wanted.digest]


@pytest.mark.parametrize(
    ("gas", "is_taken"), [(-1, False), (0, False), (1, True), (999, True), (1_000, True), (1_001, False)]
)
def test_a_body_asks_for_some_gas_and_no_more_than_one_may(gas: int, is_taken: bool) -> None:
    """Whatever a body of no gas would be refused for elsewhere."""
    one = THREE[0]
    body = Transaction(
        body=msgspec.structs.replace(one.body, gas_limit=gas), body_bytes=one.body_bytes, signature=one.signature,
        raw=one.raw, sender=one.sender,
    )  # fmt: skip
    world = Obtaining()
    world.parameters = ChainParameters(transaction_gas_max=1_000)
    with nullcontext() if is_taken else pytest.raises(BadInput, match="gas limit out of range"):
        asyncio.run(world.obtainer()._genuine([body]))


@pytest.mark.parametrize("count", [2, 4])
def test_bodies_are_as_many_as_the_proposal_has_hashes(count: int) -> None:
    proposal, _ = make_proposal(THREE)
    raws = [transaction.raw for transaction in [*THREE, make_transaction(9)][:count]]
    with pytest.raises(BadInput) as caught:
        match_bodies(proposal, raws)
    assert caught.value.code == "wrong_bodies"


def test_wishes_end_one_by_one() -> None:
    """Of a proposal, up to a height, of a view: and each only its own."""
    one, two, three = ([make_transaction(at)] for at in (21, 22, 23))

    def at(height: int, wanted: Wanted) -> Wanted:
        return dataclasses.replace(wanted, height=Height(height))

    async def left(end: Callable[[ProposalObtainer], None]) -> set[int]:
        world = Obtaining()
        obtainer = world.obtainer()
        for wanted in (at(7, fresh(one)), at(8, required(two, (OTHER,))), at(9, required(three, (OTHER,)))):
            obtainer.want(wanted)
        await asyncio.sleep(0)
        end(obtainer)
        heights: set[int] = {height for height, _ in obtainer._tasks}
        obtainer.cancel_up_to(Height(9))
        assert len(obtainer) == 0
        await asyncio.sleep(0)
        return heights

    assert asyncio.run(left(lambda it: it.cancel_fresh())) == {8, 9}
    assert asyncio.run(left(lambda it: it.cancel(make_proposal(two)[1]))) == {7, 9}
    assert asyncio.run(left(lambda it: it.cancel_up_to(Height(7)))) == {8, 9}
    assert asyncio.run(left(lambda it: it.cancel_up_to(Height(8)))) == {9}


def test_what_must_be_had_takes_the_place_of_what_may_be_refused_and_stays() -> None:
    async def kinds(*wishes: Wanted) -> tuple[list[bool], int, int]:
        """(of the wishes that are left: fresh or not; tasks that run; tasks that were started)"""
        world = Obtaining()
        errors: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        started: list[asyncio.Task[None]] = []
        spawn = world.spawn

        def count(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            started.append(spawn(work))
            return started[-1]

        world.spawn = count  # type: ignore[method-assign]
        obtainer = world.obtainer()
        for wanted in wishes:
            obtainer.want(wanted)
            await asyncio.sleep(0)
        for _ in range(3):  # what was cancelled comes to its end
            await asyncio.sleep(0)
        found = [wanted.fresh for wanted, _ in obtainer._tasks.values()]
        running = len(asyncio.all_tasks()) - 1
        obtainer.cancel_up_to(PROPOSED)
        for _ in range(3):
            await asyncio.sleep(0)
        assert errors == []
        return found, running, len(started)

    may, must = fresh(THREE, (OTHER,)), required(THREE, (OTHER,))
    assert asyncio.run(kinds(may)) == ([True], 1, 1)
    assert asyncio.run(kinds(may, may)) == ([True], 1, 1)
    assert asyncio.run(kinds(must, must)) == ([False], 1, 1)
    assert asyncio.run(kinds(must, may)) == ([False], 1, 1)
    assert asyncio.run(kinds(may, must)) == ([False], 1, 2)


def test_a_wish_that_has_just_ended_does_not_stand_in_the_way_of_the_next() -> None:
    """Its task is done, and nobody has taken it off the list yet."""

    async def scenario() -> Obtaining:
        world = Obtaining()
        in_pool(*THREE)(world)
        world.done.add(THREE[0].hash)
        spawn = world.spawn

        def at_once_again(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = spawn(work)
            if not world.refused:
                task.add_done_callback(lambda done: obtainer.want(fresh(THREE)))
            return task

        world.spawn = at_once_again  # type: ignore[method-assign]
        obtainer = world.obtainer()
        obtainer.want(fresh(THREE))
        async with asyncio.timeout(5):
            while len(obtainer):
                await asyncio.sleep(0)
        return world

    assert len(asyncio.run(scenario()).refused) == 2


def test_bodies_are_waited_for_and_asked_for_only_if_they_do_not_come() -> None:
    """They arrive by gossip while it waits; nobody is asked."""

    async def scenario() -> Obtaining:
        world = Obtaining()
        in_pool(*THREE[:2])(world)
        obtainer = world.obtainer()
        obtainer.want(fresh(THREE))
        await asyncio.sleep(0)
        world.pool.add(THREE[2], Instant(0))
        async with asyncio.timeout(5):
            await world.settled.wait()
        return world

    world = asyncio.run(scenario())
    assert (len(world.obtained), world.asked) == (1, [])


def test_a_peer_that_has_nothing_is_asked_again_in_growing_steps_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep = asyncio.sleep
    for wanted in (fresh(THREE), required(THREE, (LEADER,))):
        waits: list[float] = []

        async def note(delay: float, waits: list[float] = waits) -> None:
            waits.append(delay)
            await sleep(0)

        async def scenario(wanted: Wanted = wanted, waits: list[float] = waits) -> None:
            world = Obtaining()
            world.peers[LEADER] = []
            obtainer = world.obtainer()
            obtainer.want(wanted)
            async with asyncio.timeout(5):
                while len(waits) < 9:
                    await sleep(0)
            obtainer.cancel_up_to(PROPOSED)

        with monkeypatch.context() as patch:
            patch.setattr("chain.sync.proposals.asyncio.sleep", note)
            asyncio.run(scenario())
        steps = waits[1:8] if wanted.fresh else waits[:7]
        assert steps == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_required_proposal_that_becomes_durable_meanwhile_is_waited_for_no_longer() -> None:
    async def scenario() -> Obtaining:
        world = Obtaining()
        proposal, digest = make_proposal(THREE)
        world.proposals[LEADER] = ProposalBodies(proposal=b"", transactions=())
        obtainer = world.obtainer()
        obtainer.want(required(THREE, (LEADER,)))
        async with asyncio.timeout(5):
            while not world.asked:
                await asyncio.sleep(0)
            world.durable[digest] = (proposal, THREE)
            await world.settled.wait()
        return world

    world = asyncio.run(scenario())
    assert (len(world.obtained), len(world.asked)) == (1, 1)
