"""Members that come and go, and certificates that are renewed, while the gateway runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from chain.config import load_node_config
from chain.crypto.certificates import Credentials, issue_node_certificate, read_node_identity
from chain.errors import ConfigError
from chain.net import ByeReason, Channel, GatewayTimes, TlsFiles
from chain.node.consortium import NetworkInfo
from chain.types import ValidatorId
from tests.integration.gateways import (
    DEADLINE_S,
    FAST,
    LOOPS,
    Node,
    context_of,
    free_port,
    hello,
    make_network,
    make_node,
    peer_configs,
    raw_peer,
    run,
    running,
    until,
)

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return make_network(tmp_path_factory.mktemp("members"))


def files_of(node: Node) -> TlsFiles:
    return TlsFiles.of(load_node_config(node.info.config_path))


async def talk(one: Node, two: Node) -> None:
    await until(lambda: two.id in one.gateway.connected() and one.id in two.gateway.connected())
    assert await one.gateway.request(two.id, 1, b"?", DEADLINE_S) == b"\x01?"
    assert await two.gateway.request(one.id, 1, b"!", DEADLINE_S) == b"\x01!"


@pytest.mark.parametrize("newcomer", [0, 3])
def test_a_member_added_at_run_time_is_let_in_and_a_removed_one_is_put_out(
    loop: str, network: NetworkInfo, newcomer: int
) -> None:
    """As the lowest id the newcomer dials, as the highest it is dialled."""

    async def scene() -> None:
        nodes = [make_node(network, at) for at in range(4)]
        new = nodes.pop(newcomer)
        for node in nodes:
            node.gateway.set_members(peer_configs(*nodes))
        async with running(*nodes):
            await new.gateway.start()
            try:
                if newcomer == 0:
                    await until(lambda: all(node.gateway.strangers["not_a_member"] for node in nodes))
                    await until(lambda: all(new.gateway.counters[node.id].byes["not_a_member"] for node in nodes))
                assert not new.connected
                for node in nodes:
                    node.gateway.set_members(peer_configs(*nodes, new))
                    assert node.gateway.peers == tuple(peer.id for peer in [*nodes, new] if peer is not node)
                await until(lambda: len(new.gateway.connected()) == 3)
                await until(lambda: all(new.id in node.gateway.connected() for node in nodes))
                await talk(new, nodes[1])
                for node in nodes:
                    node.gateway.set_members(peer_configs(*nodes))
                    assert new.id not in node.gateway.connected()
                    assert node.lost == [new.id]
                    assert not node.gateway.send(new.id, Channel.CONSENSUS, b"gone")
                await until(lambda: not new.gateway.connected())
                assert all(new.gateway.counters[node.id].byes["not_a_member"] for node in nodes)
                await talk(nodes[0], nodes[2])
                assert all(new.id not in node.gateway.counters for node in nodes)
                assert [sum(one.losses for one in node.gateway.counters.values()) for node in nodes] == [0, 0, 0]
            finally:
                await new.gateway.stop()

    run(loop, scene())


def test_a_connection_that_is_being_made_is_closed_when_its_peer_is_removed(loop: str, network: NetworkInfo) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as raw:
            await until(lambda: [one.peer for one in target.gateway._connections] == [peer.id])
            target.gateway.set_members(())
            assert await raw.read_bye() == ByeReason.NOT_A_MEMBER
            await raw.write(hello(network, peer.id))
            await raw.read_to_end()
            assert not target.connected
            assert not target.lost
            assert not target.gateway.peers

    run(loop, scene())


def test_members_may_be_set_before_the_start_and_oneself_is_no_peer(loop: str, network: NetworkInfo) -> None:
    one, two = make_node(network, 0, peers=()), make_node(network, 1, peers=())

    async def scene() -> None:
        for node in (one, two):
            node.gateway.set_members(peer_configs(one, two))
        assert one.gateway.peers == (two.id,)
        async with running(one, two):
            await talk(one, two)

    run(loop, scene())


def test_a_changed_address_counts_at_the_next_dial_and_the_live_connection_stays(
    loop: str, network: NetworkInfo
) -> None:
    one, two = make_node(network, 0), make_node(network, 1)
    moved = make_node(network, 1, port=(port := free_port()))

    async def scene() -> None:
        async with running(one, two):
            one.gateway.set_members([replace(peer_configs(two)[0], port=port)])
            await talk(one, two)
            assert one.gateway.counters[two.id].connections == 1
            await two.gateway.stop()
            async with running(moved, connect=False):
                await until(lambda: one.id in moved.gateway.connected())
                await talk(one, moved)

    run(loop, scene())


@pytest.mark.slow
def test_a_node_that_is_not_dialled_knocks_and_is_dialled_at_once(loop: str, network: NetworkInfo) -> None:
    """The dialler sleeps long after its failures; the one that has come back does not wait for that."""
    slow = GatewayTimes(reconnect_min=0.01, reconnect_max=3_600.0)
    lower, higher = make_node(network, 0, times=slow), make_node(network, 1)

    async def scene() -> None:
        async with running(lower):
            dials = lower.gateway.counters[higher.id]
            await until(lambda: dials.dials == 9)  # by now it pauses for more than a second, and then twice as long
            async with running(higher, connect=False):
                await until(lambda: higher.connected)
                assert higher.gateway.counters[lower.id].byes["wrong_direction"] == 1
                assert dials.dials == 10

    run(loop, scene())


def renew(network: NetworkInfo, node: Node, folder: Path, *, validator: bytes | None = None) -> TlsFiles:
    """Fresh files from the consortium's authority, in a folder of their own."""
    ca = network.path / "ca"
    authority = Credentials(certificate=(ca / "ca.crt").read_bytes(), key=(ca / "ca.key").read_bytes())
    issued = issue_node_certificate(
        authority, organisation="Renewed", node=node.info.name, validator=ValidatorId(validator or node.id)
    )
    folder.mkdir()
    (folder / "tls.crt").write_bytes(issued.certificate)
    (folder / "tls.key").write_bytes(issued.key)
    shutil.copy(ca / "ca.crt", folder / "ca.crt")
    return TlsFiles(certificate=folder / "tls.crt", key=folder / "tls.key", authority=folder / "ca.crt")


def shown_by(node: Node, to: Node) -> str:
    """The organisation in the certificate that `node` showed on its live connection to `to`."""
    live = to.gateway._peers[node.id].live
    assert live is not None
    assert live._transport is not None
    certificate = live._transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return read_node_identity(certificate).organisation


@pytest.mark.parametrize("renewed", [0, 1])
def test_renewed_certificates_are_used_from_the_next_handshake_on_and_live_connections_stay(
    loop: str, network: NetworkInfo, tmp_path: Path, renewed: int
) -> None:
    one, two = make_node(network, 0), make_node(network, 1)
    changing, other = (one, two) if renewed == 0 else (two, one)

    async def scene() -> None:
        async with running(one, two):
            before = shown_by(changing, other)
            changing.gateway.reload_tls(renew(network, changing, tmp_path / "new"))
            await talk(one, two)
            assert shown_by(changing, other) == before != "Renewed"
            assert one.gateway.counters[two.id].connections == 1
            await until(lambda: one.gateway._peers[two.id].live)
            record = one.gateway._peers[two.id]
            assert record.live is not None
            record.live.abort()
            await until(lambda: one.connected.count(two.id) == two.connected.count(one.id) == 2)
            assert shown_by(changing, other) == "Renewed"
            await talk(one, two)

    run(loop, scene())


def test_files_that_are_not_right_are_refused_and_the_old_ones_stay(
    loop: str, network: NetworkInfo, tmp_path: Path
) -> None:
    one, two = make_node(network, 0), make_node(network, 1)

    async def scene() -> None:
        async with running(one, two):
            with pytest.raises(ConfigError, match="names validator"):
                one.gateway.reload_tls(files_of(two))
            missing = TlsFiles(certificate=tmp_path / "no.crt", key=tmp_path / "no.key", authority=tmp_path / "no.ca")
            with pytest.raises(ConfigError, match="cannot be read"):
                one.gateway.reload_tls(missing)
            one.gateway.reload_tls()
            record = one.gateway._peers[two.id]
            assert record.live is not None
            record.live.abort()
            await until(lambda: one.connected.count(two.id) == two.connected.count(one.id) == 2)
            await talk(one, two)

    run(loop, scene())


def test_a_rotated_key_makes_the_node_another_member_in_the_same_process(
    loop: str, network: NetworkInfo, tmp_path: Path
) -> None:
    one, two = make_node(network, 1), make_node(network, 2)
    new_id = ValidatorId(bytes(20) if loop == "uvloop" else b"\xff" * 20)  # dials, or is dialled

    async def scene() -> None:
        async with running(one, two):
            files = renew(network, one, tmp_path / "rotated", validator=new_id)
            as_new = replace(peer_configs(one)[0], validator=new_id)
            one.gateway.reload_tls(files, own=new_id)
            two.gateway.set_members([*peer_configs(one), as_new])
            await until(lambda: new_id in two.gateway.connected())
            assert one.id not in two.gateway.connected()
            assert await two.gateway.request(new_id, 1, b"?", DEADLINE_S) == b"\x01?"
            await until(lambda: two.id in one.gateway.connected())
            assert await one.gateway.request(two.id, 1, b"?", DEADLINE_S) == b"\x01?"

    run(loop, scene())


def test_the_fast_times_leave_room_for_the_question_whether_the_first_process_lives(loop: str) -> None:
    for times in (FAST, GatewayTimes()):
        assert times.duplicate_max < times.handshake_max
