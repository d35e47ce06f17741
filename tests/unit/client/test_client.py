"""The client against real servers: it signs, follows, changes nodes, and never loses or doubles a transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chain.client import (
    CallFailed,
    Client,
    NodesUnreachable,
    RpcFailed,
    TransactionExpired,
    TransactionFailed,
    TransactionPending,
    TransactionRefused,
)
from chain.errors import BadInput
from chain.model.transaction import Transaction
from chain.rpc import RpcServer
from chain.types import Height
from tests.unit.rpc.fake_node import CHAIN_ID, ECHO, ECHO_NAME, FakeNode
from tests.unit.rpc.harness import ALICE, a_transaction

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens


class Proxy:
    """A way to the server that fails as networks do: it loses answers, or takes requests and does nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.drop_answers = 0  # of so many connections: the request arrives, its answer does not
        self.frozen = False
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        if self.frozen:
            await reader.read()
        else:
            await self._forward(reader, writer)
        await _close(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._port)
        if self.drop_answers:
            self.drop_answers -= 1
            backward = asyncio.create_task(_take_one(back_reader))
        else:
            backward = asyncio.create_task(_pump(back_reader, writer))
        forward = asyncio.create_task(_pump(reader, back_writer))
        await asyncio.wait((forward, backward), return_when=asyncio.FIRST_COMPLETED)
        for task in (forward, backward):
            task.cancel()
        await asyncio.gather(forward, backward, return_exceptions=True)
        await _close(back_writer)


async def _take_one(reader: asyncio.StreamReader) -> None:
    await reader.read(1)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def _chain() -> AsyncIterator[tuple[FakeNode, str]]:
    node = FakeNode()
    server = RpcServer(node)
    await server.start()
    try:
        yield node, server.url
    finally:
        await server.stop()


async def _block_when_pooled(node: FakeNode, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(node.pool) < count:
            await asyncio.sleep(0.001)
    await node.make_block()


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(bounded())


def test_send_gives_the_certified_receipt_with_named_events() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            sending = asyncio.create_task(client.send(ECHO_NAME, "say", "hello", 5))
            await _block_when_pooled(node)
            receipt = await sending
            assert (receipt.ok, receipt.height, receipt.value) == (True, 1, ("hello", 5))
            event = receipt.event("Said")
            assert event.fields == {"sender": ALICE.address, "words": "say"}
            assert client.height == 1
            again = await client.receipt(receipt.hash)
            assert again == receipt

    _run(scenario)


def test_a_failed_transaction_raises_with_its_receipt_or_returns_it() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            sending = asyncio.create_task(client.send(ECHO_NAME, "fail"))
            await _block_when_pooled(node)
            with pytest.raises(TransactionFailed, match="no_reason") as caught:
                await sending
            assert caught.value.receipt.status == 1
            sending = asyncio.create_task(client.send(ECHO, "fail", check=False))
            await _block_when_pooled(node)
            assert (await sending).error == "no_reason"

    _run(scenario)


def test_reads() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            assert await client.call(ECHO_NAME, "look", "a") == (bytes(20), False, ("a",))
            assert await client.call(ECHO_NAME, "look", sender=ALICE.address) == (ALICE.address, False, ())
            assert node.queries[-1] == (ALICE.address, "look", False)
            with pytest.raises(CallFailed, match="no_reason"):
                await client.call(ECHO_NAME, "fail")
            dry = await client.simulate(ECHO_NAME, "say")
            assert len(dry["writes"]) == 2
            assert (await client.abi(ECHO_NAME)).contract == "Echo"
            with pytest.raises(RpcFailed, match="no contract is named") as caught:
                await client.call("no.such", "look")
            assert caught.value.reason == "not_found"
            with pytest.raises(BadInput, match="20"):
                await client.call(b"short", "look")

    _run(scenario)


def test_the_connection_breaks_after_the_request_arrived_and_the_same_bytes_are_sent_again() -> None:
    """The node took it, the answer was lost: the client must neither lose it nor make a second transaction."""

    async def scenario() -> None:
        async with _chain() as (node, url):
            proxy = Proxy(int(url.rsplit(":", 1)[1]))
            proxy_url = await proxy.start()
            async with Client([proxy_url, url], key=ALICE) as client:
                transaction = await client.sign(ECHO, "say", "once")
            async with Client([proxy_url, url], key=ALICE) as client:
                proxy.drop_answers = 1
                sending = asyncio.create_task(client.send_signed(transaction))
                await _block_when_pooled(node)
                receipt = await sending
                assert receipt.hash == transaction.hash
                assert list(node.where) == [transaction.hash]
            await proxy.stop()

    _run(scenario)


def test_a_dead_node_is_passed_over_and_a_frozen_one_too() -> None:
    async def scenario() -> None:
        async with _chain() as (_, url):
            async with Client([NOBODY, url]) as client:
                assert (await client.status())["name"] == "node-0"
                assert client.url == url
            proxy = Proxy(1)
            proxy.frozen = True
            frozen_url = await proxy.start()
            async with Client([frozen_url, url]) as client:
                assert (await client.rpc("status", attempt_ms=100))["name"] == "node-0"
                assert proxy.connections == 1
            await proxy.stop()

    _run(scenario)


def test_no_node_at_all_is_told_with_every_address() -> None:
    async def scenario() -> None:
        async with Client([NOBODY, "http://127.0.0.1:7"], timeout_ms=100) as client:
            with pytest.raises(NodesUnreachable) as caught:
                await client.status()
            assert set(caught.value.failures) == {NOBODY, "http://127.0.0.1:7"}
        with pytest.raises(ValueError, match="at least one"):
            Client([])

    _run(scenario)


def test_a_time_out_keeps_hash_and_bytes_and_can_be_taken_up_again() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            with pytest.raises(TransactionPending) as caught:
                await client.send(ECHO, "say", timeout_ms=150)
            pending = caught.value
            assert pending.hash in node.pool
            assert node.pool[pending.hash].raw == pending.raw
            with pytest.raises(RpcFailed) as waiting:
                await client.receipt(pending.hash)
            assert waiting.value.reason == "timeout"
            taking_up = asyncio.create_task(client.receipt(pending.hash, timeout_ms=10_000))
            await node.make_block()
            assert (await taking_up).ok

    _run(scenario)


def test_a_node_that_lost_its_pool_gets_the_transaction_again() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            transaction = await client.sign(ECHO, "say")
            node.pool[transaction.hash] = transaction  # so that the first answer is "duplicate"
            sending = asyncio.create_task(client.send_signed(transaction))
            async with asyncio.timeout(10):
                while not node.waits:
                    await asyncio.sleep(0.001)
            node.pool.clear()  # it restarted
            node.forget_waits()
            await _block_when_pooled(node)
            assert (await sending).ok

    _run(scenario)


def test_resending_what_was_executed_and_has_expired_meanwhile_gives_its_receipt() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            transaction = a_transaction(expiry=1)
            await node.submit([transaction.raw])
            await node.make_block()
            await node.make_block()
            assert (await client.send_signed(transaction)).height == 1
            never = a_transaction("late", expiry=1)
            with pytest.raises(TransactionExpired) as caught:
                await client.send_signed(never)
            assert caught.value.raw == never.raw

    _run(scenario)


def test_refusals_keep_the_reason() -> None:
    async def scenario() -> None:
        async with _chain() as (_, url), Client(url, key=ALICE) as client:
            with pytest.raises(TransactionRefused) as caught:
                await client.send_signed(a_transaction(chain_id=bytes(32)))
            assert (caught.value.code, caught.value.reason) == (-32006, "wrong_chain")
        async with _chain() as (_, url), Client(url) as client:
            with pytest.raises(BadInput, match="no key"):
                await client.send(ECHO, "say")

    _run(scenario)


def test_a_full_pool_is_tried_again_until_there_is_room() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            node.pool_max = 0
            sending = asyncio.create_task(client.send(ECHO, "say"))
            async with asyncio.timeout(10):
                while node.refused < 2:
                    await asyncio.sleep(0.001)
            node.pool_max = 1
            await _block_when_pooled(node)
            assert (await sending).ok

    _run(scenario)


def test_reads_never_go_back_in_time_when_the_node_changes() -> None:
    """The second node is behind: it is asked for the height already seen, and says that it is not there."""

    async def scenario() -> None:
        async with _chain() as (ahead, ahead_url), _chain() as (behind, behind_url):
            for _ in range(3):
                await ahead.make_block()
            async with Client([behind_url, ahead_url], timeout_ms=8_000) as client:
                client.height = Height(3)
                reading = asyncio.create_task(client.call(ECHO_NAME, "look"))
                async with asyncio.timeout(5):
                    while not behind.waits:
                        await asyncio.sleep(0.001)
                assert not behind.queries
                for _ in range(3):
                    await behind.make_block()
                assert await reading == (bytes(20), False, ())
                assert behind.queries

    _run(scenario)


def test_expiry_follows_the_height_and_the_chain_s_limit() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            assert (await client.sign(ECHO, "say")).body.expiry == 900
            for _ in range(4):
                await node.make_block()
            client._height_seen_s -= 10  # as if long ago
            assert (await client.sign(ECHO, "say", lifetime=10)).body.expiry == 14
            assert (await client.sign(ECHO, "say", gas_limit=10**15)).body.gas_limit == 100_000_000
            assert (await client.chain_id()) == CHAIN_ID

    _run(scenario)


def test_many_transactions_in_one_go_and_followed_by_blocks() -> None:
    async def scenario() -> None:
        async with _chain() as (node, url), Client(url, key=ALICE) as client:
            transactions: list[Transaction] = [await client.sign(ECHO, "say", number) for number in range(50)]
            bad = a_transaction(chain_id=bytes(32))
            start = client.height + 1
            results = await client.submit([*transactions, bad.raw, transactions[0]])
            assert [result.code for result in results] == [0] * 50 + [-32006, 0]  # a repetition is no failure
            following = asyncio.create_task(
                client.wait_for_receipts([item.hash for item in transactions], from_height=start, timeout_ms=10_000)
            )
            await node.make_block()
            found = await following
            assert {outcome.status for outcome in found.values()} == {0}
            assert [found[item.hash].position for item in transactions] == list(range(50))
            missing = await client.wait_for_receipts([bad.hash], from_height=start, timeout_ms=50)
            assert missing == {}

    _run(scenario)


def test_a_large_submission_is_written_in_parts() -> None:
    async def scenario() -> None:
        async with _chain() as (_, url), Client(url, key=ALICE) as client:
            transactions = [a_transaction(arguments=(bytes(200_000),)) for _ in range(10)]
            assert [result.code for result in await client.submit(transactions)] == [0] * 10

    _run(scenario)
