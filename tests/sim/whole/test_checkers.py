"""What the checkers of whole nodes are for, they notice: each promise is broken once, on a run that kept it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from chain.codec import decode, encode
from chain.model.block import Certificate
from chain.model.transaction import join_transaction, split_transaction
from chain.sim.checkers import Violation
from chain.sim.whole.checkers import Promises
from chain.sim.whole.plan import quiet_plan
from chain.sim.whole.world import World
from chain.store.layout import height_key, pack_parts, unpack_parts
from chain.store.memory import Table, Tables
from chain.types import Height, View
from consensus.effects import VoteRecord
from consensus.messages import Checkpoint, Commit, MessageType, Prepare

DIGEST = bytes(range(32))


@pytest.fixture(scope="module")
def finished() -> Iterator[World]:
    """A run without faults that came to its end."""
    world = World(seed=1, nodes=4, plan=quiet_plan(chaos_ms=300))
    try:
        world.run()
        yield world
    finally:
        world.close()


@pytest.fixture
def fresh(finished: World) -> Promises:
    """Checkers that know nothing yet but who the clients' transactions are from."""
    promises = Promises(
        chain_id=finished.chain_id, genesis=finished.promises.blocks[0].header,
        validators=finished.promises.sets.at(0), window=finished.plan.window, verify=finished.signatures.verify,
    )  # fmt: skip
    promises.expiries = dict(finished.promises.expiries)
    return promises


def replay(world: World, promises: Promises, *, node: str = "n0", blocks: Tables | None = None) -> None:
    """Show the checkers all that stands on the disk of a node, as one commit each."""
    disk = world.members[0].disk
    promises.on_commit(node, "journal", {}, disk.tables("journal"))
    genesis_only = {b"blocks": Table([height_key(0)], {height_key(0): b""})}
    promises.on_commit(node, "blocks", genesis_only, blocks or disk.tables("blocks"))


def bent(world: World, height: int, change: Callable[[list[bytes]], list[bytes]]) -> Tables:
    """The blocks on the disk, one of them changed."""
    table = world.members[0].disk.tables("blocks")[b"blocks"].copy()
    key = height_key(height)
    table.values[key] = pack_parts(change(unpack_parts(table.values[key])))
    return {b"blocks": table}


def test_a_run_that_kept_its_promises_keeps_them_when_looked_at_again(finished: World, fresh: Promises) -> None:
    assert finished.height > 5
    assert len(finished.clients.receipts) > 10
    replay(finished, fresh)
    assert {height: block.digest for height, block in fresh.blocks.items()} == {
        height: block.digest for height, block in finished.promises.blocks.items()
    }


def with_signatures(choose: Callable[[Any], Any]) -> Callable[[list[bytes]], list[bytes]]:
    def change(parts: list[bytes]) -> list[bytes]:
        certificate = decode(Certificate, parts[1])
        forged = msgspec.structs.replace(certificate, signatures=tuple(choose(certificate.signatures)))
        return [parts[0], encode(forged), *parts[2:]]

    return change


@pytest.mark.parametrize(
    "choose",
    [lambda votes: votes[:2], lambda votes: votes[:1] * 4, lambda votes: (), lambda votes: (votes[0], *votes[:2])],
)
def test_certificates_without_a_quorum_of_distinct_signers(
    finished: World, fresh: Promises, choose: Callable[[Any], Any]
) -> None:
    with pytest.raises(Violation, match="distinct good signatures"):
        replay(finished, fresh, blocks=bent(finished, 3, with_signatures(choose)))


def test_a_certificate_of_another_block(finished: World, fresh: Promises) -> None:
    other = unpack_parts(finished.members[0].disk.tables("blocks")[b"blocks"].values[height_key(2)])[1]
    with pytest.raises(Violation, match="about something else"):
        replay(finished, fresh, blocks=bent(finished, 3, lambda parts: [parts[0], other, *parts[2:]]))


def test_other_receipts_than_another_node_has(finished: World, fresh: Promises) -> None:
    replay(finished, fresh)

    def change(parts: list[bytes]) -> list[bytes]:
        receipts = [encode_other(receipt) for receipt in unpack_parts(parts[5])]
        return [*parts[:5], pack_parts(receipts), *parts[6:]]

    with pytest.raises(Violation, match="two sets of receipts at h3"):
        replay(finished, fresh, node="n1", blocks=bent(finished, 3, change))


def encode_other(receipt: bytes) -> bytes:
    return receipt[:-1] + bytes((receipt[-1] ^ 1,))


def test_a_block_that_another_node_has_not(finished: World, fresh: Promises) -> None:
    replay(finished, fresh)
    fresh.blocks[3].digest = type(fresh.blocks[3].digest)(DIGEST)
    with pytest.raises(Violation, match="two blocks at h3"):
        replay(finished, fresh, node="n1")


def test_a_gap_between_blocks(finished: World, fresh: Promises) -> None:
    table = finished.members[0].disk.tables("blocks")[b"blocks"].copy()
    table.pop(height_key(3))
    with pytest.raises(Violation, match="h4 where h3 is next"):
        replay(finished, fresh, blocks={b"blocks": table})


def test_a_block_whose_bodies_are_not_here(finished: World, fresh: Promises) -> None:
    genesis_only = {b"blocks": Table([height_key(0)], {height_key(0): b""})}
    with pytest.raises(Violation, match="without its bodies"):
        fresh.on_commit("n0", "blocks", genesis_only, finished.members[0].disk.tables("blocks"))


def test_a_transaction_executed_twice_or_too_late_or_made_by_nobody(finished: World, fresh: Promises) -> None:
    transaction = next(iter(finished.promises.blocks[3].receipts))
    for expiries, text in (
        ({**fresh.expiries, transaction: 2}, "expires at h2 is executed at h3"),
        ({known: at for known, at in fresh.expiries.items() if known != transaction}, "nobody submitted"),
    ):
        fresh.expiries = expiries
        fresh.blocks = {0: fresh.blocks[0]}
        fresh.executed = {}
        with pytest.raises(Violation, match=text):
            replay(finished, fresh)
    fresh.expiries, fresh.blocks, fresh.executed = finished.promises.expiries, {0: fresh.blocks[0]}, {transaction: 1}
    with pytest.raises(Violation, match="executed_once"):
        replay(finished, fresh)


def test_a_header_that_names_another_set(finished: World, fresh: Promises) -> None:
    fresh.sets.add(2, type(fresh.sets.at(0))(fresh.sets.at(0).members[::-1]))
    with pytest.raises(Violation, match="another validator set"):
        replay(finished, fresh)


def journal(*votes: VoteRecord) -> Tables:
    rows = {height_key(at): height_key(vote.height) + encode(vote) for at, vote in enumerate(votes)}
    return {b"records": Table(sorted(rows), rows)}


def vote(kind: MessageType, *, view: int, digest: bytes) -> VoteRecord:
    return VoteRecord(kind=kind, view=view, height=1, digest=digest)


def test_two_votes_in_two_lives(fresh: Promises) -> None:
    fresh.on_commit("n0", "journal", {}, journal(vote(MessageType.PREPARE, view=0, digest=DIGEST)))
    fresh.on_commit("n0", "journal", {}, journal(vote(MessageType.PREPARE, view=1, digest=bytes(32))))
    with pytest.raises(Violation, match="no_contradiction"):
        fresh.on_commit("n0", "journal", {}, journal(vote(MessageType.PREPARE, view=0, digest=bytes(32))))


def test_words_that_are_not_on_the_disk(finished: World, fresh: Promises) -> None:
    own = finished.members[0].key.validator_id
    said = (
        Prepare(view=View(0), height=Height(1), digest=DIGEST), Commit(view=View(0), height=Height(1), digest=DIGEST),
        Checkpoint(height=Height(1), digest=DIGEST),
    )  # fmt: skip
    for message in said:
        with pytest.raises(Violation, match="durable_before_visible"):
            fresh.on_send("n0", own, message)
    fresh.on_commit("n0", "journal", {}, journal(vote(MessageType.PREPARE, view=0, digest=DIGEST)))
    with pytest.raises(Violation, match="durable_before_visible"):  # the vote is, the bodies are not
        fresh.on_send("n0", own, said[0])
    fresh.on_commit("n0", "journal", {}, journal(vote(MessageType.COMMIT, view=0, digest=DIGEST)))
    fresh.on_send("n0", own, said[1])
    with pytest.raises(Violation, match="members_vote"):
        fresh.on_send("n0", type(own)(bytes(20)), said[1])
    fresh.memory("n0").left[0] = 1
    with pytest.raises(Violation, match="left_views_stay_left"):
        fresh.on_send("n0", own, said[1])


def test_bodies_with_a_signature_that_is_none(finished: World, fresh: Promises) -> None:
    tables = dict(finished.members[0].disk.tables("journal"))
    proposals = tables[b"proposals"] = tables[b"proposals"].copy()
    key = proposals.keys[0]
    proposal, raw, *rest = unpack_parts(proposals.values[key])
    body, signature = split_transaction(raw)
    proposals.values[key] = pack_parts([proposal, join_transaction(body, signature[:-1] + b"\x00"), *rest])
    with pytest.raises(Violation, match="a signature that is none"):
        fresh.on_commit("n0", "journal", {}, tables)


def test_receipts_that_were_not_certified_or_are_gone(finished: World, fresh: Promises) -> None:
    replay(finished, fresh)
    blocks = finished.members[0].disk.tables("blocks")
    transaction, receipt = next(iter(fresh.blocks[3].receipts.items()))
    fresh.on_receipt("n0", transaction, 3, receipt, blocks)
    with pytest.raises(Violation, match="another receipt"):
        fresh.on_receipt("n0", transaction, 3, encode_other(receipt), blocks)
    with pytest.raises(Violation, match="not on its disk"):
        fresh.on_receipt("n0", transaction, 3, receipt, {b"blocks": Table([], {})})
    with pytest.raises(Violation, match="comes back with h2"):
        fresh.on_boot("n0", 2)
    with pytest.raises(Violation, match="is gone"):
        fresh.check_lost({bytes(32): 3})


def test_a_state_that_its_blocks_did_not_write(finished: World, fresh: Promises) -> None:
    replay(finished, fresh)
    member = finished.members[0]
    state = dict(member.disk.tables("state"))
    fresh.check_state("n0", member.height, state)
    state[b"state"] = state[b"state"].copy()
    state[b"state"].put(b"key", b"value")
    with pytest.raises(Violation, match="not what its blocks wrote"):
        fresh.check_state("n0", member.height, state)
