"""What strangers, broken peers and frozen peers do to a gateway; each test is named after the failure it stops."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from chain.config import load_node_config
from chain.crypto.certificates import Credentials, issue_node_certificate
from chain.net import ByeReason, Channel, GatewayTimes, TlsFiles
from chain.net.frames import BUFFER_BYTES, FRAME_BYTES_MAX, PROTOCOL_VERSION, FrameKind
from chain.net.gateway import HANDSHAKES_PER_HOST_MAX
from chain.net.requests import SERVED_MAX
from chain.net.tls import client_context
from chain.node.consortium import NetworkInfo
from chain.types import MESSAGE_BYTES_MAX, ValidatorId
from tests.integration.gateways import (
    DEADLINE_S,
    FAST,
    LOOPS,
    Node,
    context_of,
    frame,
    hello,
    make_network,
    make_node,
    raw_peer,
    run,
    running,
    until,
)

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NetworkInfo:
    return make_network(tmp_path_factory.mktemp("hostile"))


def strangers_context(folder: Path, authority: Credentials, trusted: Path, validator: bytes) -> ssl.SSLContext:
    """A dialling context whose certificate names `validator` but comes from `authority`."""
    issued = issue_node_certificate(authority, organisation="Mallory", node="mallory", validator=ValidatorId(validator))
    (folder / "mallory.crt").write_bytes(issued.certificate)
    (folder / "mallory.key").write_bytes(issued.key)
    return client_context(TlsFiles(certificate=folder / "mallory.crt", key=folder / "mallory.key", authority=trusted))


def authority_of(network: NetworkInfo) -> Credentials:
    folder = network.path / "ca"
    return Credentials(certificate=(folder / "ca.crt").read_bytes(), key=(folder / "ca.key").read_bytes())


async def unharmed(target: Node, network: NetworkInfo) -> None:
    """A right peer can still connect to the target and is heard and answered."""
    friend = make_node(network, 1)
    async with running(friend, connect=False):
        await until(lambda: target.id in friend.gateway.connected())
        assert friend.gateway.send(target.id, Channel.CONSENSUS, b"still there?")
        await until(lambda: (friend.id, Channel.CONSENSUS, b"still there?") in target.frames)
        assert await friend.gateway.request(target.id, 1, b"yes", DEADLINE_S) == b"\x01yes"


def test_a_certificate_of_another_authority_is_refused(loop: str, network: NetworkInfo, tmp_path: Path) -> None:
    other = make_network(tmp_path)
    target, claimed = make_node(network, 3), make_node(network, 0)
    context = strangers_context(tmp_path, authority_of(other), network.path / "ca" / "ca.crt", claimed.id)

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context) as raw:
                await raw.write(hello(network, claimed.id))
                assert await raw.read_to_end() == b""
            await until(lambda: target.gateway.strangers["tls_refused"] == 1)
            assert not target.connected
            await unharmed(target, network)

    run(loop, scene())


def test_no_certificate_at_all_is_refused(loop: str, network: NetworkInfo) -> None:
    target = make_node(network, 3)
    context = ssl.create_default_context(cafile=str(network.path / "ca" / "ca.crt"))
    context.check_hostname = False

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context) as raw:
                await raw.write(hello(network, b"?" * 20))
                assert await raw.read_to_end() == b""
            await until(lambda: target.gateway.strangers["tls_refused"] == 1)
            await unharmed(target, network)

    run(loop, scene())


def test_tls_below_1_3_is_refused(loop: str, network: NetworkInfo) -> None:
    target, claimed = make_node(network, 3), make_node(network, 0)
    context = context_of(claimed)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def scene() -> None:
        async with running(target):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with raw_peer(target, context):
                    raise AssertionError("connected")
            await until(lambda: target.gateway.strangers["tls_refused"] == 1)
            await unharmed(target, network)

    run(loop, scene())


def test_a_validator_that_is_no_configured_peer_is_told_so(loop: str, network: NetworkInfo, tmp_path: Path) -> None:
    target = make_node(network, 3)
    context = strangers_context(tmp_path, authority_of(network), network.path / "ca" / "ca.crt", bytes(20))

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context) as raw:
                await raw.write(hello(network, bytes(20)) + frame(Channel.CONSENSUS, b"vote"))
                assert await raw.read_bye() == ByeReason.NOT_A_MEMBER
            await until(lambda: target.gateway.strangers["not_a_member"] == 1)
            assert not target.frames
            await unharmed(target, network)

    run(loop, scene())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chain_id": bytes(32)}, ByeReason.WRONG_CHAIN),
        ({"version": PROTOCOL_VERSION + 1}, ByeReason.WRONG_VERSION),
        ({"node": bytes(20)}, ByeReason.WRONG_IDENTITY),
        ({"node": b"short"}, ByeReason.PROTOCOL),
        ({"version": -(2**63)}, ByeReason.WRONG_VERSION),
    ],
)
def test_a_wrong_hello_is_answered_with_the_reason(
    loop: str, network: NetworkInfo, changes: dict[str, object], reason: ByeReason
) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context_of(peer)) as raw:
                await raw.write(hello(network, peer.id, **changes) + frame(Channel.CONSENSUS, b"vote"))
                assert await raw.read_bye() == reason
            assert not target.connected
            assert not target.frames
            assert target.gateway.counters[peer.id].faults.total() == 1
            await unharmed(target, network)

    run(loop, scene())


def test_a_node_of_another_chain_stays_out_and_both_count_it(loop: str, network: NetworkInfo) -> None:
    one, two = make_node(network, 0, chain_id=b"\x01" * 32), make_node(network, 3)

    async def scene() -> None:
        async with running(one, two, connect=False):
            await until(lambda: two.gateway.counters[one.id].faults["wrong_chain"] >= 1)
            ours = one.gateway.counters[two.id]
            await until(lambda: ours.faults["wrong_chain"] + ours.byes["wrong_chain"] >= 1)
            assert not one.connected
            assert not two.connected

    run(loop, scene())


def test_the_higher_validator_must_not_dial(loop: str, network: NetworkInfo) -> None:
    target, higher = make_node(network, 0), make_node(network, 3)

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context_of(higher)) as raw:
                await raw.write(hello(network, higher.id))
                assert await raw.read_bye() == ByeReason.WRONG_DIRECTION
            assert not target.connected

    run(loop, scene())


@pytest.mark.parametrize("says", [2, 3])
def test_a_dialled_node_that_is_somebody_else_is_refused(loop: str, network: NetworkInfo, says: int) -> None:
    """Behind the port of the third node answers the fourth, with a right certificate, under either name."""
    dialler, dialled = make_node(network, 0), make_node(network, 2)
    other, named = make_node(network, 3), make_node(network, says)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config = load_node_config(other.info.config_path)
    context.load_cert_chain(config.path("tls_certificate"), config.path("tls_key"))

    async def scene() -> None:
        def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(hello(network, named.id))
            writers.append(writer)

        writers: list[asyncio.StreamWriter] = []
        info = dialled.info
        server = await asyncio.start_server(welcome, info.host, info.gateway_port, ssl=context)
        async with running(dialler):
            await until(lambda: "wrong_identity" in dialler.reasons())
            assert not dialler.connected
        for writer in writers:
            writer.transport.abort()
        server.close()
        await server.wait_closed()
        await until(lambda: all(writer.transport.is_closing() for writer in writers))

    run(loop, scene())


@pytest.mark.parametrize("length", [2**32 - 1, FRAME_BYTES_MAX + 1, 0])
def test_a_length_prefix_that_claims_too_much_is_refused_at_once(loop: str, network: NetworkInfo, length: int) -> None:
    """A length prefix claims a huge size; the decoder waits for ever and the buffer grows."""
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context_of(peer)) as raw:
                await raw.write(hello(network, peer.id))
                await until(lambda: target.connected == [peer.id])
                await raw.write(length.to_bytes(4, "big") + bytes((Channel.CONSENSUS,)) + b"x" * 100)
                assert await raw.read_bye() == ByeReason.PROTOCOL
            await until(lambda: target.lost == [peer.id])
            expected = "frame_too_long" if length else "frame_empty"
            assert target.gateway.counters[peer.id].faults == {expected: 1}
            await unharmed(target, network)

    run(loop, scene())


def test_a_claimed_length_costs_no_memory_before_the_bytes_are_there(loop: str, network: NetworkInfo) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as raw:
            await raw.write(hello(network, peer.id))
            await until(lambda: target.connected == [peer.id])
            (connection,) = target.gateway._connections
            claim = (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big") + bytes((Channel.TRANSACTIONS,))
            await raw.write(claim + b"x" * 1_000)
            counters = target.gateway.counters[peer.id]
            await until(lambda: counters.bytes_received > 1_000)
            assert connection._reader.capacity == BUFFER_BYTES
            await raw.write(b"x" * (MESSAGE_BYTES_MAX - 1_000))
            await until(lambda: target.frames)
            assert target.frames == [(peer.id, Channel.TRANSACTIONS, b"x" * MESSAGE_BYTES_MAX)]
            assert connection._reader.capacity == BUFFER_BYTES  # given back

    run(loop, scene())


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 64,
        frame(Channel.CONSENSUS, b"vote"),
        frame(FrameKind.REQUEST, b"x" * 20),
        frame(FrameKind.HELLO, b""),
        frame(FrameKind.HELLO, b"\xc1"),
        frame(FrameKind.HELLO, b"x" * 300),
        frame(200, b""),
    ],
)
def test_garbage_instead_of_a_hello_ends_the_connection(loop: str, network: NetworkInfo, garbage: bytes) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context_of(peer)) as raw:
                await raw.write(garbage)
                assert await raw.read_bye() == ByeReason.PROTOCOL
            assert not target.connected
            assert not target.frames
            await unharmed(target, network)

    run(loop, scene())


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (frame(77, b"x"), "unknown_frame_kind"),
        (frame(FrameKind.REQUEST, b""), "bad_request_header"),
        (frame(FrameKind.RESPONSE, b"12345678"), "bad_request_header"),
        (frame(FrameKind.REFUSAL, b""), "bad_request_header"),
        (frame(FrameKind.HELLO, b""), "unexpected_hello"),
    ],
)
def test_a_malformed_frame_of_a_live_peer_is_counted_and_ends_the_connection(
    loop: str, network: NetworkInfo, data: bytes, fault: str
) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target):
            async with raw_peer(target, context_of(peer)) as raw:
                await raw.write(hello(network, peer.id) + frame(FrameKind.RESPONSE, bytes(9)))
                await until(lambda: target.gateway.counters[peer.id].responses_late == 1)  # nobody asked: no fault
                await raw.write(data)
                assert await raw.read_bye() == ByeReason.PROTOCOL
            assert target.gateway.counters[peer.id].faults == {fault: 1}
            await unharmed(target, network)

    run(loop, scene())


def test_plain_text_and_silence_before_tls_are_cut(loop: str, network: NetworkInfo) -> None:
    target = make_node(network, 3, times=GatewayTimes(handshake_max=0.3))

    async def scene() -> None:
        async with running(target), raw_peer(target, None) as silent, raw_peer(target, None) as talking:
            await talking.write(b"GET / HTTP/1.1\r\n\r\n")
            await talking.read_to_end()
            assert await silent.read_to_end() == b""  # half-open: it never said anything
            await until(lambda: target.gateway._handshakes.total() == 0)
            assert not target.gateway._connections
            assert target.gateway.strangers.total() == 2
            await unharmed(target, network)

    run(loop, scene())


def test_a_peer_that_never_says_hello_is_cut(loop: str, network: NetworkInfo) -> None:
    target, peer = make_node(network, 3, times=GatewayTimes(handshake_max=0.3)), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as raw:
            assert await raw.read_to_end() == b""  # the dialler speaks first
            await until(lambda: target.faults)
            assert target.faults == [(peer.id, "handshake_timeout")]
            assert target.gateway.counters[peer.id].faults == {"handshake_timeout": 1}
            await unharmed(target, network)

    run(loop, scene())


def test_sockets_that_never_shake_hands_are_bounded(loop: str, network: NetworkInfo) -> None:
    target = make_node(network, 3, times=GatewayTimes(handshake_max=1.0))

    async def scene() -> None:
        info = target.info
        async with running(target):
            pairs = [
                await asyncio.open_connection(info.host, info.gateway_port) for _ in range(HANDSHAKES_PER_HOST_MAX + 10)
            ]
            await until(lambda: target.gateway.strangers["too_many_handshakes"] == 10)
            assert target.gateway._handshakes.total() == HANDSHAKES_PER_HOST_MAX
            await until(lambda: target.gateway._handshakes.total() == 0)
            for _, writer in pairs:
                writer.close()
                try:
                    await writer.wait_closed()
                except ConnectionError:
                    continue
            await unharmed(target, network)

    run(loop, scene())


def test_a_flood_of_requests_is_refused_beyond_the_bound(loop: str, network: NetworkInfo) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as raw:
            await raw.write(hello(network, peer.id))
            flood = b"".join(frame(FrameKind.REQUEST, at.to_bytes(8, "big") + b"\x02") for at in range(5_000))
            await raw.write(flood)
            counters = target.gateway.counters[peer.id]
            await until(lambda: counters.requests_refused == 5_000 - SERVED_MAX)
            assert target.serving == SERVED_MAX
            await unharmed(target, network)

    run(loop, scene())


def test_a_second_connection_of_a_peer_replaces_the_first(loop: str, network: NetworkInfo) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as first:
            await first.write(hello(network, peer.id))
            await until(lambda: target.connected == [peer.id])
            async with raw_peer(target, context_of(peer)) as second:
                await second.write(hello(network, peer.id) + frame(Channel.CONTROL, b"second"))
                assert await first.read_bye() == ByeReason.REPLACED
                await until(lambda: target.payloads(Channel.CONTROL) == [b"second"])
                assert target.connected == [peer.id, peer.id]
                assert target.lost == [peer.id]
                assert target.gateway.connected() == (peer.id,)

    run(loop, scene())


def test_a_peer_that_does_not_read_costs_bounded_memory_and_disturbs_nobody(loop: str, network: NetworkInfo) -> None:
    times = GatewayTimes(keepalive=0.1, silence_max=60.0)
    target, stuck, friend = make_node(network, 3, times=times), make_node(network, 0), make_node(network, 1)

    def heard(count: int) -> bool:
        return len(friend.frames) == count

    async def scene() -> None:
        async with running(target, friend), raw_peer(target, context_of(stuck)) as raw:
            await raw.write(hello(network, stuck.id))
            await until(lambda: stuck.id in target.connected)
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for at in range(100):
                target.gateway.broadcast(Channel.CONSENSUS, at.to_bytes(4, "big") + bytes(1 << 20))
                target.gateway.send(stuck.id, Channel.TRANSACTIONS, bytes(1 << 20))
                await until(functools.partial(heard, at + 1))
            dropped = target.gateway.counters[stuck.id].frames_dropped
            assert dropped["consensus"] > 50  # the oldest made way
            assert dropped["transactions"] > 70
            assert target.gateway.bytes_queued <= 6 * MESSAGE_BYTES_MAX
            assert [int.from_bytes(payload[:4], "big") for payload in friend.payloads(Channel.CONSENSUS)] == list(
                range(100)
            )

    run(loop, scene())


def test_a_peer_that_falls_silent_on_a_live_connection_is_lost_within_the_bound(
    loop: str, network: NetworkInfo
) -> None:
    target, silent, friend = make_node(network, 3), make_node(network, 0), make_node(network, 1)

    async def scene() -> None:
        async with running(target, friend), raw_peer(target, context_of(silent)) as raw:
            await raw.write(hello(network, silent.id))
            await until(lambda: silent.id in target.connected)
            start = asyncio.get_running_loop().time()
            await until(lambda: silent.id in target.lost)
            assert 0.4 <= asyncio.get_running_loop().time() - start < 5.0
            assert target.gateway.counters[silent.id].faults == {"silent": 1}
            assert target.lost == [silent.id]
            assert target.gateway.connected() == (friend.id,)

    run(loop, scene())


@pytest.mark.slow
def test_a_node_that_was_frozen_itself_does_not_blame_the_others(loop: str, network: NetworkInfo) -> None:
    target, quiet = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(quiet)) as raw:
            await raw.write(hello(network, quiet.id))
            await until(lambda: quiet.id in target.connected)
            assert (await raw.read_frame())[0] == FrameKind.HELLO
            thaw = time.monotonic() + 3 * FAST.silence_max
            while time.monotonic() < thaw:
                pass  # nothing on this loop can run
            kind, _ = await raw.read_frame()
            assert kind == FrameKind.PING  # asked first, and heard again
            assert not target.lost
            await until(lambda: quiet.id in target.lost)  # it does stay silent
            assert target.gateway.counters[quiet.id].faults == {"silent": 1}

    run(loop, scene())


FROZEN_NODE = """
    import asyncio, sys
    from pathlib import Path
    from chain.node.consortium import load_network
    from tests.integration.gateways import make_node, running

    async def main():
        async with running(make_node(load_network(Path(sys.argv[1])), 0), connect=False):
            print("up", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.mark.slow
def test_a_frozen_process_whose_connection_is_alive_is_lost_and_found_again(loop: str, network: NetworkInfo) -> None:
    """A frozen leader whose TCP connection is alive cannot be replaced."""
    target, friend, frozen = make_node(network, 3), make_node(network, 1), make_node(network, 0)
    root = Path(__file__).parents[2]

    async def scene(process: subprocess.Popen[str]) -> None:
        async with running(target, friend):
            await until(lambda: frozen.id in target.connected and frozen.id in friend.connected)
            os.kill(process.pid, signal.SIGSTOP)
            await until(lambda: frozen.id in target.lost and frozen.id in friend.lost)
            assert set(target.gateway.connected()) == {friend.id}
            assert target.lost == [frozen.id]
            os.kill(process.pid, signal.SIGCONT)
            await until(lambda: frozen.id in target.gateway.connected() and frozen.id in friend.gateway.connected())
            assert friend.id not in target.lost

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FROZEN_NODE), str(network.path)],
        stdout=subprocess.PIPE, text=True, cwd=root,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        run(loop, scene(process))
    finally:
        process.kill()
        process.communicate()
