"""Two processes run with the same validator key: what the others do about it, and what the second one learns."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from chain.model.genesis import Genesis
from chain.model.validators import ValidatorSet
from chain.net import ByeReason, Channel, duplicate_validator
from chain.net.frames import FrameKind
from chain.node.consortium import NetworkInfo, load_network_genesis
from tests.integration.gateways import (
    DEADLINE_S,
    LOOPS,
    RawPeer,
    context_of,
    frame,
    free_port,
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
    return make_network(tmp_path_factory.mktemp("duplicate"))


def validators_of(network: NetworkInfo) -> ValidatorSet:
    genesis: Genesis = load_network_genesis(network)
    return ValidatorSet(genesis.validators)


async def answer_pings(raw: RawPeer) -> None:
    """As a process that runs does."""
    while True:
        kind, payload = await raw.read_frame()
        if kind == FrameKind.PING:
            await raw.write(frame(FrameKind.PONG, payload))


@pytest.mark.parametrize("at", range(4))
def test_two_processes_run_with_the_same_validator_key(loop: str, network: NetworkInfo, at: int) -> None:
    """FISCO #3617. Whatever the rank of its id, the newcomer meets all three others, and all three refuse it."""
    nodes = [make_node(network, place) for place in range(4)]
    first, others = nodes[at], [node for node in nodes if node is not nodes[at]]
    second = make_node(network, at, port=free_port())

    async def scene() -> None:
        async with running(*nodes):
            async with running(second, connect=False):
                await until(lambda: len(second.gateway.duplicate_at) == 3)
                assert set(second.duplicates) == set(second.gateway.duplicate_at.items())
                text = duplicate_validator(second.gateway.duplicate_at, validators_of(network))
                assert text is not None
                assert f"{first.info.host}:" in text
                assert not second.connected
                for node in others:
                    assert node.gateway.counters[first.id].faults["duplicate_validator"] >= 1
                    assert node.gateway.send(first.id, Channel.CONSENSUS, b"to the first")
                await until(lambda: len(first.payloads(Channel.CONSENSUS)) == 3)
            assert not second.frames
            assert not first.lost
            assert not first.gateway.duplicate_at

    run(loop, scene())


def test_a_process_that_comes_back_under_its_key_is_let_in_at_once(loop: str, network: NetworkInfo) -> None:
    """Its old connections are gone: nobody takes it for a second process."""
    nodes = [make_node(network, place) for place in range(4)]
    again = make_node(network, 1)

    async def scene() -> None:
        async with running(*nodes):
            await nodes[1].gateway.stop()
            async with running(again, connect=False):
                await until(lambda: len(again.gateway.connected()) == 3)
            assert not again.duplicates

    run(loop, scene())


def test_a_dead_process_whose_connection_looks_alive_does_not_keep_its_successor_out(
    loop: str, network: NetworkInfo
) -> None:
    """As after a power cut: nobody has closed the old connection, but nobody answers on it either."""
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as dead:
            await dead.write(hello(network, peer.id, instance=b"d" * 16))
            await until(lambda: target.connected == [peer.id])
            async with raw_peer(target, context_of(peer)) as alive:
                await alive.write(hello(network, peer.id, instance=b"a" * 16))
                await until(lambda: target.connected == [peer.id, peer.id])
                assert target.lost == [peer.id]
                await alive.write(frame(Channel.CONTROL, b"back"))
                await until(lambda: target.payloads(Channel.CONTROL) == [b"back"])
            assert target.gateway.counters[peer.id].faults == {"silent": 1}

    run(loop, scene())


def test_a_pong_that_answers_no_question_does_not_pass_for_a_sign_of_life(loop: str, network: NetworkInfo) -> None:
    """What a dead process sent before its end may still arrive; only the answer to a fresh ping counts."""
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as stale:
            await stale.write(hello(network, peer.id, instance=b"s" * 16))
            await until(lambda: target.connected == [peer.id])
            async with raw_peer(target, context_of(peer)) as alive:
                await alive.write(hello(network, peer.id, instance=b"a" * 16))
                while target.connected != [peer.id, peer.id]:
                    await stale.write(frame(FrameKind.PONG) + frame(FrameKind.PONG, bytes(8)))
                    kind, _ = await alive.read_frame()
                    assert kind == FrameKind.HELLO

    run(loop, scene())


def test_the_first_process_that_answers_keeps_its_place_and_its_address_is_named(
    loop: str, network: NetworkInfo
) -> None:
    target, peer = make_node(network, 3), make_node(network, 0)

    async def scene() -> None:
        async with running(target), raw_peer(target, context_of(peer)) as first:
            await first.write(hello(network, peer.id, instance=b"1" * 16))
            await until(lambda: target.connected == [peer.id])
            async with raw_peer(target, context_of(peer)) as second:
                await second.write(hello(network, peer.id, instance=b"2" * 16) + frame(FrameKind.PING))
                assert await second.read_bye() == ByeReason.PROTOCOL  # it may say nothing before it is admitted
            async with raw_peer(target, context_of(peer)) as second:
                await second.write(hello(network, peer.id, instance=b"2" * 16))
                refusal = asyncio.ensure_future(second.read_frame())
                answers = asyncio.ensure_future(answer_pings(first))
                kind, payload = await refusal
                answers.cancel()
                assert (kind, payload[0]) == (FrameKind.BYE, ByeReason.DUPLICATE_VALIDATOR)
                host, port = first.writer.get_extra_info("sockname")[:2]
                assert payload[1:].decode() == f"{host}:{port}"
            assert target.connected == [peer.id]
            assert not target.lost

    run(loop, scene())


def test_up_to_f_liars_cannot_stop_a_node_by_refusing_it(loop: str, network: NetworkInfo) -> None:
    validators = validators_of(network)
    ids = sorted(validators.ids())
    assert duplicate_validator({}, validators) is None
    assert duplicate_validator({ids[0]: "10.0.0.1:7"}, validators) is None
    text = duplicate_validator({ids[0]: "10.0.0.1:7", ids[1]: ""}, validators)
    assert text is not None
    assert "10.0.0.1:7" in text
    assert "2 nodes" in text


def test_a_refusal_is_forgotten_when_the_peer_lets_us_in(loop: str, network: NetworkInfo) -> None:
    first, target = make_node(network, 0), make_node(network, 3)
    second = make_node(network, 0, port=free_port())

    async def scene() -> None:
        async with running(first, target), running(second, connect=False):
            await until(lambda: target.id in second.gateway.duplicate_at)
            await first.gateway.stop()
            await until(lambda: target.id in second.gateway.connected())
            assert second.gateway.duplicate_at == {}

    run(loop, scene())


OTHER_PROCESS = """
    import asyncio, sys
    from pathlib import Path
    from chain.node.consortium import load_network
    from tests.integration.gateways import make_node, running

    async def main():
        node = make_node(load_network(Path(sys.argv[1])), 0)
        async with running(node, connect=False):
            print("up", flush=True)
            while not node.duplicates:
                await asyncio.sleep(0.005)
            print("refused", flush=True)

    asyncio.run(main())
"""


@pytest.mark.slow
def test_a_frozen_process_loses_its_place_to_a_second_one_and_learns_it_when_it_thaws(
    loop: str, network: NetworkInfo
) -> None:
    target, frozen = make_node(network, 3), make_node(network, 0)
    second = make_node(network, 0, port=free_port())

    async def scene(process: subprocess.Popen[str]) -> None:
        async with running(target):
            await until(lambda: frozen.id in target.connected)
            os.kill(process.pid, signal.SIGSTOP)
            async with running(second, connect=False):
                await until(lambda: target.id in second.gateway.connected())
                os.kill(process.pid, signal.SIGCONT)
                faults = target.gateway.counters[frozen.id].faults
                await until(lambda: faults["duplicate_validator"])
                assert target.id in second.gateway.connected()
                assert await second.gateway.request(target.id, 1, b"?", DEADLINE_S) == b"\x01?"

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), str(network.path)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        run(loop, scene(process))
        assert process.stdout.readline() == "refused\n"
    finally:
        process.kill()
        process.communicate()
