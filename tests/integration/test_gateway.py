"""Gateways over real TLS sockets on loopback, under both event loops."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest

from chain.errors import BadInput, ConfigError, PeerFault
from chain.net import Channel, Gateway, GatewayTimes, TlsFiles
from chain.net.requests import ASKED_MAX, SERVED_MAX
from chain.node.consortium import NetworkInfo, load_network_genesis
from chain.types import MESSAGE_BYTES_MAX, ValidatorId
from tests.integration.gateways import DEADLINE_S, FAST, LOOPS, make_network, make_node, run, running, until

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return make_network(tmp_path_factory.mktemp("gateway"))


def test_four_nodes_hold_one_connection_per_pair_and_hear_each_other(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        patient = dataclasses.replace(FAST, reconnect_max=3_600.0)  # nobody knocks, however slow the start is
        nodes = [make_node(network, at, times=patient) for at in range(4)]
        async with running(*nodes):
            for node in nodes:
                assert node.gateway.broadcast(Channel.CONSENSUS, b"from " + node.id) == 3
            await until(lambda: all(len(node.frames) == 3 for node in nodes))
            for node in nodes:
                senders = {peer for peer, _, _ in node.frames}
                assert senders == {other.id for other in nodes} - {node.id}
                assert all(payload == b"from " + peer for peer, _, payload in node.frames)
                assert sorted(node.connected) == sorted(senders)
                assert [counters.connections for counters in node.gateway.counters.values()] == [1, 1, 1]
            dials = [sum(counters.dials > 0 for counters in node.gateway.counters.values()) for node in nodes]
            assert dials == [3, 2, 1, 0]  # the lower id dials

    run(loop, scene())


def test_nothing_is_taken_for_a_peer_that_is_away_or_unknown(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        node, away = make_node(network, 0), make_node(network, 1)
        async with running(node):
            assert not node.gateway.send(away.id, Channel.CONTROL, b"x")
            assert not node.gateway.send(ValidatorId(b"?" * 20), Channel.CONTROL, b"x")
            assert node.gateway.broadcast(Channel.CONTROL, b"x") == 0
            assert node.gateway.counters[away.id].frames_unsent == 2
            for peer in (away.id, ValidatorId(b"?" * 20)):
                with pytest.raises(PeerFault, match="not_connected"):
                    await node.gateway.request(peer, 1, b"", 1.0)

    run(loop, scene())


def test_requests_are_answered_refused_and_matched(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            answers = await asyncio.gather(
                *(one.gateway.request(two.id, 1, b"%d" % at, DEADLINE_S) for at in range(20)),
                *(two.gateway.request(one.id, 1, b"%d" % at, DEADLINE_S) for at in range(20)),
            )
            assert answers == [b"\x01%d" % at for at in range(20)] * 2
            with pytest.raises(PeerFault, match="refused: not_found"):
                await one.gateway.request(two.id, 3, b"", DEADLINE_S)
            assert two.gateway.counters[one.id].requests_refused == 1

    run(loop, scene())


def test_a_bug_in_a_handler_is_reported_here_and_refused_there(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            seen: list[object] = []
            here = asyncio.get_running_loop()
            handler = here.get_exception_handler()
            here.set_exception_handler(lambda _, context: seen.append(context["exception"]))
            with pytest.raises(PeerFault, match="refused: internal"):
                await one.gateway.request(two.id, 4, b"", DEADLINE_S)
            here.set_exception_handler(handler)
            assert [str(error) for error in seen] == ["planted"]
            assert await one.gateway.request(two.id, 1, b"on", DEADLINE_S) == b"\x01on"

    run(loop, scene())


def test_a_request_times_out_and_its_late_answer_is_dropped(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            with pytest.raises(TimeoutError):
                await one.gateway.request(two.id, 2, b"late", 0.05)
            counters = one.gateway.counters[two.id]
            assert counters.requests_timed_out == 1
            two.gate.set()
            await until(lambda: counters.responses_late == 1)
            assert await one.gateway.request(two.id, 1, b"next", DEADLINE_S) == b"\x01next"

    run(loop, scene())


def test_open_requests_are_bounded_on_both_sides(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            asked = [asyncio.ensure_future(one.gateway.request(two.id, 2, b"", DEADLINE_S)) for _ in range(ASKED_MAX)]
            await until(lambda: two.serving == SERVED_MAX)
            await until(lambda: sum(request.done() for request in asked) == ASKED_MAX - SERVED_MAX)  # refused: busy
            refills = [
                asyncio.ensure_future(one.gateway.request(two.id, 2, b"", DEADLINE_S))
                for _ in range(ASKED_MAX - SERVED_MAX)
            ]
            await asyncio.sleep(0)
            with pytest.raises(PeerFault, match="too_many_requests"):
                await one.gateway.request(two.id, 2, b"", DEADLINE_S)
            await until(lambda: all(request.done() for request in refills))
            assert two.serving == SERVED_MAX
            two.gate.set()
            results = await asyncio.gather(*asked, *refills, return_exceptions=True)
            assert results.count(b"\x02") == SERVED_MAX
            assert {str(result) for result in results if result != b"\x02"} == {"refused: busy"}

    run(loop, scene())


def test_a_lost_connection_fails_open_requests_and_stops_their_answers(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            asked = asyncio.ensure_future(one.gateway.request(two.id, 2, b"", DEADLINE_S))
            served = asyncio.ensure_future(two.gateway.request(one.id, 2, b"", DEADLINE_S))
            await until(lambda: one.serving == two.serving == 1)
            await two.gateway.stop()
            for request in (asked, served):
                with pytest.raises(PeerFault, match="connection_lost"):
                    await request
            await until(lambda: one.serving == two.serving == 0)
            assert one.lost == [two.id]
            assert one.gateway.connected() == ()

    run(loop, scene())


def test_small_messages_of_one_tick_share_a_write(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            counters = one.gateway.counters[two.id]
            before = counters.writes
            for at in range(500):
                assert one.gateway.send(two.id, Channel.TRANSACTIONS, b"%d" % at)
            await until(lambda: len(two.frames) == 500)
            assert two.payloads(Channel.TRANSACTIONS) == [b"%d" % at for at in range(500)]
            assert counters.writes - before <= 3  # one, and perhaps a ping

    run(loop, scene())


def test_consensus_overtakes_transactions_that_wait(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            for at in range(200):
                assert one.gateway.send(two.id, Channel.TRANSACTIONS, bytes((at,)) * 65_536)
            assert one.gateway.send(two.id, Channel.CONTROL, b"control")
            assert one.gateway.send(two.id, Channel.CONSENSUS, b"vote")
            await until(lambda: len(two.frames) == 202)
            channels = [channel for _, channel, _ in two.frames]
            assert channels[:2] == [Channel.CONSENSUS, Channel.CONTROL]
            assert [payload[0] for payload in two.payloads(Channel.TRANSACTIONS)] == list(range(200))

    run(loop, scene())


def test_a_full_transaction_queue_refuses_and_leaves_consensus_alone(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            taken = [one.gateway.send(two.id, Channel.TRANSACTIONS, bytes(1 << 20)) for _ in range(20)]
            assert taken == [True] * 15 + [False] * 5  # 16 MiB a peer, less the frames' headers
            assert one.gateway.send(two.id, Channel.CONSENSUS, b"vote")
            assert one.gateway.counters[two.id].frames_dropped == {"transactions": 5}
            await until(lambda: len(two.frames) == 16)
            assert two.frames[0][1] is Channel.CONSENSUS

    run(loop, scene())


def test_the_largest_message_passes_and_a_larger_one_is_refused_with_an_error(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            largest = bytes(range(256)) * (MESSAGE_BYTES_MAX // 256)
            for channel in Channel:
                assert one.gateway.send(two.id, channel, largest)
            assert await two.gateway.request(one.id, 1, largest[:-1], DEADLINE_S) == b"\x01" + largest[:-1]
            await until(lambda: len(two.frames) == 3)
            assert all(payload == largest for _, _, payload in two.frames)
            with pytest.raises(BadInput) as refused:
                one.gateway.send(two.id, Channel.CONSENSUS, largest + b"!")
            assert refused.value.code == "too_large"
            with pytest.raises(BadInput):
                one.gateway.broadcast(Channel.CONSENSUS, largest + b"!")
            with pytest.raises(BadInput):
                await one.gateway.request(two.id, 1, largest + b"!", DEADLINE_S)
            with pytest.raises(PeerFault, match="answer_too_large"):
                await one.gateway.request(two.id, 1, largest, DEADLINE_S)

    run(loop, scene())


def test_a_restarted_peer_is_found_again_whoever_dials(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two, three = (make_node(network, at) for at in range(3))
        async with running(one, two, three):
            await two.gateway.stop()
            await until(lambda: two.id not in one.gateway.connected() + three.gateway.connected())
            assert one.gateway.send(three.id, Channel.CONTROL, b"meanwhile")
            again = make_node(network, 1)
            async with running(one_more := again, connect=False):
                await until(lambda: set(one_more.gateway.connected()) == {one.id, three.id})
                await until(lambda: one.connected.count(two.id) == three.connected.count(two.id) == 2)
                assert one.gateway.send(two.id, Channel.CONTROL, b"down")
                assert three.gateway.send(two.id, Channel.CONTROL, b"up")
                await until(lambda: sorted(again.payloads(Channel.CONTROL)) == [b"down", b"up"])
            assert one.gateway.counters[two.id].byes == {"stopping": 2}

    run(loop, scene())


def test_a_link_delay_postpones_every_frame_and_keeps_the_order(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, two = make_node(network, 0, link_delay_ms=60), make_node(network, 1)
        async with running(one, two):
            start = time.monotonic()
            for at in range(50):
                assert one.gateway.send(two.id, Channel.CONSENSUS, b"%d" % at)
            await until(lambda: len(two.frames) == 50)
            assert time.monotonic() - start >= 0.06
            assert two.payloads(Channel.CONSENSUS) == [b"%d" % at for at in range(50)]
            start = time.monotonic()
            assert await one.gateway.request(two.id, 1, b"", DEADLINE_S) == b"\x01"
            assert time.monotonic() - start >= 0.06
            assert one.gateway.counters[two.id].writes < 20  # frames of one millisecond still share a write

    run(loop, scene())


def test_a_quiet_connection_is_kept_alive(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        times = GatewayTimes(keepalive=0.02, silence_max=0.4, handshake_max=5.0)
        one, two = make_node(network, 0, times=times), make_node(network, 1, times=times)
        async with running(one, two):
            counters = one.gateway.counters[two.id]
            await until(lambda: counters.frames_received > 30)  # pings and pongs, for longer than the silence allowed
            assert counters.losses == 0
            assert not one.faults

    run(loop, scene())


def test_stop_is_idempotent_and_works_before_start(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        never = make_node(network, 0)
        await never.gateway.stop()
        one, two = make_node(network, 0), make_node(network, 1)
        async with running(one, two):
            await one.gateway.stop()
            await one.gateway.stop()
            assert not one.gateway.send(two.id, Channel.CONTROL, b"x")

    run(loop, scene())


def test_a_gateway_refuses_files_that_are_not_its_own(loop: str, network: NetworkInfo, tmp_path: Path) -> None:
    one, two = make_node(network, 0), make_node(network, 1)
    files = TlsFiles(certificate=two.info.folder / "tls.crt", key=two.info.folder / "tls.key",
                     authority=two.info.folder / "ca.crt")  # fmt: skip

    def make(files: TlsFiles, authority_sha256: bytes) -> Gateway:
        endpoint = one.gateway._endpoint
        return Gateway(own=one.id, chain_id=network.chain_id, endpoint=endpoint, peers=(), files=files,
                       handlers=one.handlers(), authority_sha256=authority_sha256)  # fmt: skip

    fingerprint = load_network_genesis(network).ca_certificate_sha256
    with pytest.raises(ConfigError, match="names validator"):
        make(files, fingerprint)
    own = TlsFiles(certificate=one.info.folder / "tls.crt", key=one.info.folder / "tls.key",
                   authority=one.info.folder / "ca.crt")  # fmt: skip
    make(own, fingerprint)
    with pytest.raises(ConfigError, match="as in genesis"):
        make(own, bytes(32))
    other = make_network(tmp_path)
    foreign = TlsFiles(certificate=own.certificate, key=own.key, authority=other.path / "ca" / "ca.crt")
    with pytest.raises(ConfigError, match="not issued by"):
        make(foreign, fingerprint)


def test_a_port_that_is_taken_is_named(loop: str, network: NetworkInfo) -> None:
    async def scene() -> None:
        one, same = make_node(network, 0), make_node(network, 0)
        async with running(one):
            with pytest.raises(ConfigError, match=str(one.info.gateway_port)):
                await same.gateway.start()
            await same.gateway.stop()

    run(loop, scene())
