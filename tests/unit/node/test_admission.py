"""Who is let in beside the members, for how long, and what happens to a node whose certificate is not there."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import cast

import pytest

from chain.config import NodeConfig, PeerConfig
from chain.errors import ConfigError
from chain.model.signing import ValidatorKey
from chain.net import Gateway, GatewayHandlers, TlsFiles
from chain.node.admission import Admission
from chain.node.expansion import prepare_rotation
from chain.node.members import NodeMembers
from chain.node.node import Node
from chain.types import Height, ValidatorId
from contracts.system.membership import members_of_genesis, set_key, set_of
from tests.unit.node import test_members
from tests.unit.node.test_members import NEW, World

world = test_members.world


class FakeGateway:
    """Whom it was told to talk to; whom it has reached is the test's to say."""

    def __init__(self, own: ValidatorId) -> None:
        self.own = own
        self.reached: tuple[ValidatorId, ...] = ()
        self.allowed: tuple[bytes, ...] = ()

    def connected(self) -> tuple[ValidatorId, ...]:
        return self.reached

    def set_members(self, peers: Sequence[PeerConfig]) -> None:
        self.allowed = tuple(peer.validator for peer in peers)

    def reload_tls(self, files: TlsFiles, *, own: ValidatorId) -> None:
        self.own = own


def admit(members: NodeMembers) -> tuple[Admission, FakeGateway]:
    admission = Admission(members, lambda config, own: cast(Gateway, FakeGateway(own)))
    return admission, cast(FakeGateway, admission.gateway)


def rotate(world: World, members: NodeMembers, *, slot: int, key: ValidatorKey) -> None:
    """Slot's key is another one from height 2 on, which is next."""
    rows = list(members_of_genesis(world.genesis))
    rows[slot] = (rows[slot][0], key.public_key, rows[slot][2])
    writes = world.write((set_key(2), (0, tuple(rows))))
    members.schedule.restore([(2, set_of(rows))])
    assert members.stored(Height(1), [writes])


async def turn() -> None:
    await asyncio.sleep(0)


def test_a_rotated_node_that_is_late_is_kept_until_its_new_id_is_connected(world: World) -> None:
    async def scene() -> None:
        members, late = world.members(), world.members(world.key(1), NEW)
        admission, gateway = admit(members)
        rotate(world, members, slot=1, key=NEW)
        admission.follow()
        assert late.own == world.key(1).validator_id and {late.own, NEW.validator_id} <= set(gateway.allowed)
        admission._part_with_removed()  # the five seconds of those who were removed
        assert late.own in gateway.allowed
        again, regained = admit(world.members())  # a restart meanwhile
        assert late.own in regained.allowed
        gateway.reached = (NEW.validator_id,)
        admission.connected(NEW.validator_id)
        await turn()
        assert late.own not in gateway.allowed and NEW.validator_id in gateway.allowed
        admission.stop()
        again.stop()

    asyncio.run(scene())


def test_a_removed_node_is_served_for_a_while_only(world: World) -> None:
    async def scene() -> None:
        members = world.members()
        admission, gateway = admit(members)
        rows = [row for at, row in enumerate(members_of_genesis(world.genesis)) if at != 1]
        members.schedule.restore([(2, set_of([*rows, ("new", NEW.public_key, 1)]))])
        assert members.stored(Height(1), [])
        admission.follow()
        assert world.key(1).validator_id in gateway.allowed
        admission._part_with_removed()
        assert world.key(1).validator_id not in gateway.allowed
        admission.stop()

    asyncio.run(scene())


def test_whom_node_toml_names_is_let_in_while_the_node_is_behind(world: World) -> None:
    async def scene() -> None:
        today = [ValidatorKey(bytes([50 + at]) * 32).validator_id for at in range(3)]
        peers = tuple(
            dataclasses.replace(peer, validator=new) for peer, new in zip(world.config.peers, today, strict=True)
        )
        world.config = dataclasses.replace(world.config, peers=peers)
        members = world.members()
        known = tuple(ValidatorId(peer.validator) for peer in members.peers())
        admission, gateway = admit(members)
        assert set(gateway.allowed) == {*known, *today}
        gateway.reached = known
        admission.connected(known[-1])
        await turn()
        assert set(today) <= set(gateway.allowed)  # at height 0 nothing shows that the known ones are the present ones
        members.stored(Height(1), [world.write()])
        admission.reconsider()
        await turn()
        assert set(gateway.allowed) == set(known)
        gateway.reached = known[:1]
        admission.reconsider()
        await turn()
        assert set(gateway.allowed) == {*known, *today}
        admission.stop()
        gateway.reached = known
        admission.reconsider()
        await turn()
        assert set(gateway.allowed) == {*known, *today}  # nothing is done any more

    asyncio.run(scene())


def open_gateway(config: NodeConfig, own: ValidatorId) -> Gateway:
    return Gateway.from_config(config, own=own, chain_id=bytes(32), handlers=GatewayHandlers())


def test_a_missing_certificate_at_the_boundary_stops_neither_the_node_nor_its_next_start(world: World) -> None:
    async def scene() -> None:
        old = world.key(0)
        new = prepare_rotation(world.network, world.config.node.name)
        certificate = world.config.path("tls_certificate").with_name("tls.next.crt")
        kept = certificate.read_bytes()
        certificate.unlink()
        members = world.members(old, new)
        admission = Admission(members, open_gateway)
        rotate(world, members, slot=0, key=new)
        admission.follow()
        assert members.own == new.validator_id and admission.gateway.own == old.validator_id
        with pytest.raises(ConfigError):
            admission.use_certificate()
        again = Admission(world.members(old, new), open_gateway)
        assert again.gateway.own == old.validator_id
        certificate.write_bytes(kept)
        for mended in (admission, again):
            mended.use_certificate()
            assert mended.gateway.own == new.validator_id
            mended.stop()
        with pytest.raises(ConfigError):  # no certificate for any key of it
            Admission(world.members(NEW), open_gateway)

    asyncio.run(scene())


def test_a_node_that_votes_is_not_opened_anew_at_sighup(world: World) -> None:
    async def scene() -> None:
        node = Node(config=world.config, genesis=world.genesis, key=world.key(0), store=world.store, records=[])
        assert not node.replica.is_following
        node.reload_certificates()
        assert not node.joined.done()
        await node.stop()

    asyncio.run(scene())


def test_a_node_that_nobody_knows_by_one_key_shows_the_other_until_its_blocks_say_which_counts(world: World) -> None:
    async def scene() -> None:
        old = world.key(0)
        new = prepare_rotation(world.network, world.config.node.name)
        members = world.members(old, new)
        admission, gateway = admit(members)
        assert gateway.own == old.validator_id
        admission._show_other()
        assert gateway.own == new.validator_id
        admission._show_other()
        assert gateway.own == old.validator_id
        gateway.reached = (world.key(1).validator_id,)
        admission._show_other()
        assert gateway.own == old.validator_id  # somebody talks to it
        gateway.reached = ()
        admission._show_other()
        gateway.reached = (world.key(1).validator_id,)
        assert gateway.own == new.validator_id and members.own == old.validator_id
        admission.follow()  # a change of others, on the way to its own: it stays in reach
        assert gateway.own == new.validator_id
        rotate(world, members, slot=0, key=new)
        admission.follow()
        assert gateway.own == members.own == new.validator_id
        admission.stop()
        gateway.reached = ()
        admission._show_other()
        assert gateway.own == new.validator_id  # nothing is done any more
        alone = world.members(old)
        lonely, shown = admit(alone)
        lonely._show_other()
        assert shown.own == alone.own == old.validator_id
        lonely.stop()

    asyncio.run(scene())


def test_a_next_key_that_comes_after_the_scheduling_block_is_loaded_on_sighup(world: World) -> None:
    async def scene() -> None:
        node = Node(config=world.config, genesis=world.genesis, key=world.key(0), store=world.store, records=[])
        new = prepare_rotation(world.network, world.config.node.name)
        node.reload_certificates()
        assert [key.validator_id for key in node.members.keys] == [world.key(0).validator_id, new.validator_id]
        assert node.gateway.own == world.key(0).validator_id
        rotate(world, node.members, slot=0, key=new)
        node._follow_members()
        assert node.gateway.own == node.pack.proposer == new.validator_id
        await node.stop()

    asyncio.run(scene())
