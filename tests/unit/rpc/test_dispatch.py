"""Dispatch without HTTP: what it costs, and that cancelled batches leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence

import pytest

from chain.rpc.definitions import METHODS, Api
from chain.rpc.dispatch import Dispatcher
from chain.rpc.limits import RpcLimits
from chain.rpc.services import SubmitResult
from chain.types import Instant
from tests.unit.rpc.fake_node import FakeNode
from tests.unit.rpc.harness import NOW, a_transaction, hexed


class _QuickNode(FakeNode):
    async def submit(self, raws: Sequence[bytes]) -> Sequence[SubmitResult]:
        return [SubmitResult(hash=raw[:32]) for raw in raws]


def _dispatcher(node: FakeNode) -> Dispatcher:
    return Dispatcher(METHODS, Api(node, RpcLimits(), lambda: Instant(NOW)))


def test_every_answer_has_exactly_the_members_of_json_rpc() -> None:
    async def scenario() -> None:
        dispatcher = _dispatcher(FakeNode())
        for method in ("status", "nothing"):
            body = json.dumps({"jsonrpc": "2.0", "id": "x", "method": method, "more": [1]}).encode()
            answer = json.loads(await dispatcher.answer(body) or b"")
            assert set(answer) == {"jsonrpc", "id", "result" if method == "status" else "error"}
        assert dispatcher.calls["status"] == 1
        assert dispatcher.errors == {-32601: 1}

    asyncio.run(scenario())


@pytest.mark.parametrize("white", [b" ", b"\n\t\r ", b" " * 100])
def test_white_space_before_a_request_or_batch(white: bytes) -> None:
    async def scenario() -> None:
        dispatcher = _dispatcher(FakeNode())
        one = b'{"jsonrpc":"2.0","id":1,"method":"get_pool_status"}'
        assert b'"result"' in (await dispatcher.answer(white + one + white) or b"")
        assert (await dispatcher.answer(white + b"[" + white + one + white + b"]") or b"").startswith(b"[{")

    asyncio.run(scenario())


def test_a_cancelled_batch_leaves_no_waiting_task() -> None:
    async def scenario() -> None:
        node = FakeNode()
        api = Api(node, RpcLimits(), lambda: Instant(NOW))
        dispatcher = Dispatcher(METHODS, api)
        wait = {"jsonrpc": "2.0", "id": 1, "method": "wait_blocks", "params": [1, 60_000]}
        asking = asyncio.create_task(dispatcher.answer(json.dumps([wait] * 3).encode()))
        async with asyncio.timeout(5):
            while api.waits.busy < 3:
                await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            while api.waits.busy:
                await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


def test_sending_in_bulk_costs_microseconds_an_item() -> None:
    """The budget is 5 us an item; the bound here leaves room for a busy machine."""

    async def scenario() -> float:
        dispatcher = _dispatcher(_QuickNode())
        params = [[hexed(a_transaction().raw)] * 100]
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "send_transactions", "params": params}).encode()
        best = 1.0
        for _ in range(30):
            started = time.process_time()
            await dispatcher.answer(body)
            best = min(best, time.process_time() - started)
        return best / 100

    assert asyncio.run(scenario()) < 10e-6
