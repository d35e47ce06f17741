"""What a node knows of the members: from genesis, state and blocks; who it is itself; whom it talks to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chain.codec import pack
from chain.config import NodeConfig, load_node_config
from chain.errors import BadInput
from chain.model.block import WriteSet
from chain.model.genesis import Genesis, genesis_header
from chain.model.merkle import pack_writes
from chain.model.signing import ValidatorKey
from chain.model.trust import encode_trust
from chain.model.validators import ValidatorSet, validator_id
from chain.node.consortium import NetworkInfo, create_network, load_network_genesis, load_validator_key
from chain.node.expansion import prepare_rotation
from chain.node.members import NO_HOST, NodeMembers, Role, load_keys, load_trust, save_trust
from chain.store import Store, open_store
from chain.types import Height
from contracts.system.membership import OBSERVERS_KEY, endpoint_key, members_of_genesis, set_key, set_of

WINDOW = 8


@dataclasses.dataclass
class World:
    """The first node of a network, with a state that tests write to."""

    network: NetworkInfo
    genesis: Genesis
    config: NodeConfig
    store: Store

    def members(self, *keys: ValidatorKey) -> NodeMembers:
        return NodeMembers(config=self.config, genesis=self.genesis, keys=keys or (self.key(0),), store=self.store)

    def key(self, number: int) -> ValidatorKey:
        return load_validator_key(self.network.nodes[number].folder / "validator.key")

    def write(self, *rows: tuple[bytes, object]) -> bytes:
        """The next height of the state; its packed writes."""
        writes: WriteSet = sorted((key, pack(value)) for key, value in rows)  # type: ignore[arg-type]
        height = self.store.state.height() + 1
        self.store.state.apply([(height, bytes([height]) * 32, writes)])
        return pack_writes(writes)

    def set_row(
        self, from_height: int, *changes: tuple[str, bytes, int], without: Sequence[int] = ()
    ) -> tuple[bytes, object]:
        members = [member for at, member in enumerate(members_of_genesis(self.genesis)) if at not in without]
        return set_key(from_height), (0, (*members, *changes))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    network = create_network(tmp_path / "net", name="test")
    genesis = load_network_genesis(network)
    config = load_node_config(network.nodes[0].config_path)
    store = open_store(tmp_path / "data", genesis_header(genesis))
    yield World(network, genesis, config, store)
    store.close()


NEW = ValidatorKey(bytes([7]) * 32)


def test_at_genesis_all_is_as_node_toml_says(world: World) -> None:
    members = world.members()
    assert members.peers() == world.config.peers
    assert (members.role, members.own) == (Role.VALIDATOR, world.network.nodes[0].validator)
    assert members.scheduled is None and members.leavers() == () and members.links == ()
    assert members.validators is members.schedule.at(1)


def test_a_node_nobody_knows_starts_all_the_same(world: World) -> None:
    members = world.members(NEW)
    assert (members.role, members.own) == (Role.STRANGER, NEW.validator_id)
    assert len(members.peers()) == 4


def test_members_come_and_go_with_the_state(world: World) -> None:
    members, joining = world.members(), world.members(NEW)
    writes = world.write(
        world.set_row(3, ("new", NEW.public_key, 1), without=[1]), (endpoint_key(NEW.validator_id), "[::1]:77")
    )
    for known in (members, joining):
        known.schedule.restore([(3, _set(world, NEW, without=1))])
        assert known.stored(Height(1), [writes])
    assert [peer.name for peer in members.peers()] == ["harbour-bank", "delta-bank", "pearl-credit", "new"]
    new = members.peers()[-1]
    assert (new.host, new.port) == ("::1", 77)
    assert (joining.role, members.scheduled is not None) == (Role.JOINING, True)
    assert members.stored(Height(2), [world.write()])  # height 3 is next: the set is in force
    joining.stored(Height(2), [])
    assert [peer.name for peer in members.peers()] == ["delta-bank", "pearl-credit", "new"]
    assert [peer.name for peer in members.leavers()] == ["harbour-bank"]
    assert (joining.role, members.role) == (Role.VALIDATOR, Role.VALIDATOR)
    removed = world.members(world.key(1))
    removed.stored(Height(2), [])
    assert removed.role is Role.REMOVED
    again = world.members()  # a restart: from the state alone
    assert [height for height, _ in again.schedule.epochs] == [0, 3]
    assert again.peers() == members.peers()


def _set(world: World, *new: ValidatorKey, without: int) -> ValidatorSet:
    rows = [row for at, row in enumerate(members_of_genesis(world.genesis)) if at != without]
    return set_of([*rows, *[("new", key.public_key, 1) for key in new]])


def test_observers_are_talked_to(world: World) -> None:
    members = world.members()
    assert members.stored(Height(1), [world.write((OBSERVERS_KEY, (("watcher", NEW.public_key, "watch:5"),)))])
    assert members.peers()[-1].host == "watch" and members.observer_ids == (NEW.validator_id,)
    assert world.members(NEW).role is Role.OBSERVER
    assert not members.stored(Height(2), [world.write((b"k" * 21, 1))])  # nothing about members


def test_an_address_that_nobody_says_is_waited_for(world: World) -> None:
    members = world.members()
    members.schedule.restore([(2, _set(world, NEW, without=3))])
    members.stored(Height(1), [world.write(world.set_row(2, ("new", NEW.public_key, 1), without=[3]))])
    assert members.peers()[-1].host == NO_HOST


def test_after_a_rotation_the_node_is_who_the_new_key_says(world: World) -> None:
    """And its peers find it where node.toml says, by its name."""
    node = world.network.nodes[0]
    new = prepare_rotation(world.network, node.name)
    assert [key.validator_id for key in load_keys(world.config)] == [node.validator, new.validator_id]
    members = world.members()
    assert members.load_next_key() is not None and members.load_next_key() is None
    rows = [(node.name, new.public_key, 1), *members_of_genesis(world.genesis)[1:]]
    other = NodeMembers(
        config=load_node_config(world.network.nodes[1].config_path), genesis=world.genesis, keys=[world.key(1)],
        store=world.store,
    )  # fmt: skip
    writes = world.write((set_key(2), (0, tuple(rows))))
    for known in (members, other):
        known.schedule.restore([(2, set_of(rows))])
        assert known.own != new.validator_id
        known.stored(Height(1), [writes])
    assert members.own == new.validator_id and members.role is Role.VALIDATOR
    assert members.config().path("tls_certificate").name == "tls.next.crt"
    assert members.certificate_expires() is not None
    found = next(peer for peer in other.peers() if peer.validator == new.validator_id)
    assert (found.host, found.port) == (node.host, node.gateway_port)
    assert [peer.validator for peer in other.leavers()] == [node.validator]  # under which it speaks if it is late
    assert other.successors() == {node.validator: new.validator_id}
    assert members.leavers() == () and members.former()[1] == node.validator
    assert validator_id(new.public_key) == new.validator_id


def test_links_are_kept_over_restarts_and_a_gap_is_told(world: World, tmp_path: Path) -> None:
    members = world.members()
    members.schedule.restore([(3, _set(world, NEW, without=1))])
    assert members.with_changes({"a": 1}, 2) == {"a": 1}
    with pytest.raises(BadInput, match="ask another node"):
        members.with_changes({}, 3)
    assert load_trust(tmp_path) == ()
    save_trust(tmp_path, encode_trust(members.links))
    assert load_trust(tmp_path) == ()


def test_whom_only_node_toml_knows_is_introduced_and_whom_the_chain_removed_is_not(world: World) -> None:
    first = world.config.peers[0]
    moved = dataclasses.replace(first, validator=NEW.validator_id)
    world.config = dataclasses.replace(world.config, peers=(moved, *world.config.peers[1:]))
    members = world.members()
    assert [peer.validator for peer in members.introduced] == [NEW.validator_id] and moved not in members.peers()
    writes = world.write(world.set_row(2, ("new", NEW.public_key, 1), without=[2]))
    members.schedule.restore([(2, _set(world, NEW, without=2))])
    members.stored(Height(1), [writes])
    assert not members.introduced  # the new one is a member, the removed one has been heard of
