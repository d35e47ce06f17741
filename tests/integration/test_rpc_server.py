"""The API over real sockets: what each method answers, waiting, batches, the binary path, health, metrics."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request

import pytest

from chain.codec import decode, encode, pack
from chain.model.block import Receipt
from chain.model.signed_read import sign_read
from chain.rpc import RpcLimits, RpcServer
from chain.types import Instant
from tests.unit.rpc.fake_node import CHAIN_ID, ECHO, ECHO_NAME, FakeNode
from tests.unit.rpc.harness import ALICE, NOW, Harness, a_transaction, hexed, serving


async def _until(condition: object) -> None:
    """Wait for a condition with a deadline."""
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0)


async def _waiting(api: Harness, count: int) -> None:
    await _until(lambda: api.server.waiting == count)


def test_a_transaction_from_pool_to_receipt() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            sent = await api.result("send_transaction", {"raw": hexed(transaction.raw)})
            assert sent == {
                "hash": hexed(transaction.hash), "state": "pending", "height": None, "position": None,
                "receipt": None, "certified_height": 0,
            }  # fmt: skip
            pending = await api.result("get_transaction", [hexed(transaction.hash)])
            assert (pending["state"], pending["height"]) == ("pending", None)
            await api.node.make_block()
            receipt = await api.result("get_receipt", {"hash": hexed(transaction.hash)})
            assert (receipt["height"], receipt["position"], receipt["status"]) == (1, 0, 0)
            assert receipt["certified_height"] == 1
            assert receipt["decoded"] == ["hello"]
            assert receipt["events"][0]["decoded"] == [{"bytes": hexed(ALICE.address)}, "say"]
            assert decode(Receipt, bytes.fromhex(receipt["raw"][2:])).transaction_hash == transaction.hash
            found = await api.result("get_transaction", {"hash": hexed(transaction.hash)})
            assert found["sender"] == hexed(ALICE.address)
            assert (found["state"], found["height"], found["decoded"]) == ("certified", 1, ["hello"])

    asyncio.run(scenario())


def test_send_waits_until_certified() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            sending = asyncio.create_task(
                api.result("send_transaction", {"raw": hexed(transaction.raw), "wait": "certified"})
            )
            await _waiting(api, 1)
            assert not sending.done()
            await api.node.make_block()
            sent = await sending
            assert sent["state"] == "certified"
            assert sent["receipt"]["status"] == 0
            assert sent["certified_height"] == 1

    asyncio.run(scenario())


def test_a_wait_that_runs_out_still_names_the_transaction() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            error = await api.error(
                "send_transaction", {"raw": hexed(transaction.raw), "wait": "certified", "timeout_ms": 1}
            )
            assert error["code"] == -32007
            assert error["data"]["hash"] == hexed(transaction.hash)
            assert error["data"]["state"] == "pending"
            assert transaction.hash in api.node.pool

    asyncio.run(scenario())


def test_min_height_gives_read_your_writes() -> None:
    async def scenario() -> None:
        async with serving() as api:
            reading = asyncio.create_task(api.result("get_header", {"min_height": 1}))
            await _waiting(api, 1)
            await api.node.make_block()
            header = await reading
            assert header["certified_height"] >= 1

    asyncio.run(scenario())


def test_min_height_not_reached_is_an_error_not_a_stale_answer() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(wait_timeout_ms_max=1)) as api:
            error = await api.error("get_header", {"min_height": 9})
            assert (error["code"], error["data"]["reason"]) == (-32009, "not_ready")
            assert error["data"]["certified_height"] == 0

    asyncio.run(scenario())


def test_blocks_and_outcomes() -> None:
    async def scenario() -> None:
        async with serving() as api:
            good, bad = a_transaction(), a_transaction("fail")
            for transaction in (good, bad):
                await api.result("send_transaction", {"raw": hexed(transaction.raw)})
            await api.node.make_block()
            await api.node.make_block()
            block = await api.result("get_block", {"height": 1, "full": True})
            assert block["header"]["height"] == 1
            assert block["transactions"] == [hexed(good.hash), hexed(bad.hash)]
            assert block["statuses"] == [0, 1]
            assert block["receipts"][1]["error"] == "no_reason"
            assert block["certificate"]["digest"] == block["header"]["hash"]
            assert (await api.result("get_block"))["header"]["height"] == 2
            assert (await api.result("get_block", [0]))["certificate"] is None
            outcomes = await api.result("wait_blocks", {"from_height": 1})
            assert outcomes["next_height"] == 3
            assert outcomes["blocks"][0] == {
                "height": 1, "hashes": hexed(good.hash + bad.hash), "statuses": [0, 1]
            }  # fmt: skip
            limited = await api.result("wait_blocks", {"from_height": 1, "limit": 1})
            assert (len(limited["blocks"]), limited["next_height"]) == (1, 2)

    asyncio.run(scenario())


def test_long_poll_ends_with_the_next_block() -> None:
    async def scenario() -> None:
        async with serving() as api:
            polling = asyncio.create_task(api.result("wait_blocks", {"from_height": 1, "timeout_ms": 10_000}))
            await _waiting(api, 1)
            await api.node.make_block()
            blocks = await polling
            assert [block["height"] for block in blocks["blocks"]] == [1]
            nothing = await api.result("wait_blocks", {"from_height": 2, "timeout_ms": 1})
            assert (nothing["blocks"], nothing["next_height"]) == ([], 2)

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_its_wait() -> None:
    async def scenario() -> None:
        async with serving() as api:
            polling = asyncio.create_task(api.result("wait_blocks", {"from_height": 1, "timeout_ms": 60_000}))
            await _waiting(api, 1)
            polling.cancel()
            await _waiting(api, 0)

    asyncio.run(scenario())


def test_events_come_in_pages_of_whole_blocks() -> None:
    async def scenario() -> None:
        async with serving() as api:
            for at in range(3):
                for _ in range(2):
                    await api.result("send_transaction", {"raw": hexed(a_transaction(f"say{at}").raw)})
                await api.node.make_block()
            first = await api.result("get_events", {"from_height": 1, "contract": ECHO_NAME, "limit": 3})
            assert [(event["height"], event["position"]) for event in first["events"]] == [
                (1, 0), (1, 1), (2, 0), (2, 1)
            ]  # fmt: skip
            assert first["next_height"] == 3
            rest = await api.result("get_events", {"from_height": 3, "name": "Said"})
            assert [event["decoded"][1] for event in rest["events"]] == ["say2", "say2"]
            assert rest["next_height"] is None
            assert (await api.result("get_events", {"from_height": 1, "name": "Other"}))["events"] == []

    asyncio.run(scenario())


def test_views_signed_reads_and_simulations() -> None:
    async def scenario() -> None:
        async with serving() as api:
            arguments = [1, "a", {"bytes": "0x00ff"}, {"int": str(2**200)}]
            read = await api.result("call", {"target": ECHO_NAME, "method": "look", "arguments": arguments})
            assert read["decoded"] == [{"bytes": hexed(bytes(20))}, False, arguments]
            by_hex = {"target": hexed(ECHO), "method": "look", "arguments": hexed(pack((1,)))}
            assert (await api.result("call", by_hex))["decoded"][2] == [1]
            claimed = await api.result("call", {**by_hex, "sender": hexed(ALICE.address)})
            assert claimed["decoded"][:2] == [{"bytes": hexed(ALICE.address)}, False]
            raw = sign_read(
                ALICE, chain_id=CHAIN_ID, target=ECHO, method="look", arguments=(2,), gas_limit=1_000,
                expiry_ms=Instant(NOW + 1_000),
            )  # fmt: skip
            signed = await api.result("call_signed", {"raw": hexed(raw)})
            assert signed["decoded"] == [{"bytes": hexed(ALICE.address)}, True, [2]]
            refused = await api.result("call", {"target": ECHO_NAME, "method": "fail"})
            assert (refused["status"], refused["error"]) == (1, "no_reason")
            dry = await api.result("simulate", {"raw": hexed(a_transaction().raw)})
            assert dry["writes"][1] == {"key": hexed(b"key2"), "value": None}
            gas = await api.result("estimate_gas", {"target": ECHO_NAME, "method": "say", "arguments": []})
            assert (gas["gas_used"], gas["gas_limit"]) == (400, 501)
            assert not api.node.pool

    asyncio.run(scenario())


def test_what_the_node_says_about_itself() -> None:
    async def scenario() -> None:
        async with serving() as api:
            assert (await api.result("status"))["consensus"]["leader_name"] == "node-0"
            assert (await api.result("get_consensus_status"))["certified_height"] == 0
            assert (await api.result("get_pool_status"))["transactions_max"] == 10_000
            assert (await api.result("get_peers"))["peers"][0]["name"] == "node-1"
            assert len((await api.result("get_validators"))["validators"]) == 4
            assert (await api.result("get_stages"))["heights"][0]["spans"][0]["stage"] == "pack"
            genesis = await api.result("get_genesis")
            assert genesis["chain_id"] == hexed(CHAIN_ID)
            assert genesis["genesis"]["parameters"]["window"] == 8
            assert (await api.result("get_abi", [ECHO_NAME]))["abi"]["contract"] == "Echo"
            assert "class Echo" in (await api.result("get_code", [hexed(ECHO)]))["code"]
            assert (await api.result("resolve_name", [ECHO_NAME]))["address"] == hexed(ECHO)
            assert (await api.result("rpc.discover"))["openrpc"].startswith("1.")

    asyncio.run(scenario())


def test_proofs() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            missing = await api.error("get_receipt_proof", [hexed(transaction.hash)])
            assert missing["code"] == -32005
            await api.result("send_transaction", {"raw": hexed(transaction.raw)})
            await api.node.make_block()
            proof = await api.result("get_receipt_proof", [hexed(transaction.hash)])
            assert proof["proof"]["kind"] == "receipt"
            value = await api.result(
                "get_value_proof", {"target": ECHO_NAME, "variable": "items", "key": [{"bytes": "0x01"}, 5]}
            )
            expected = ECHO + b"items\x00" + pack(b"\x01") + pack(5)
            assert value["proof"]["key"] == expected.hex()
            item = await api.result("get_value_proof", {"target": ECHO_NAME, "variable": "log", "index": 2})
            assert item["proof"]["key"] == (ECHO + b"log\x00" + (2).to_bytes(8, "big")).hex()

    asyncio.run(scenario())


def test_a_batch_keeps_order_and_does_not_queue_behind_a_wait() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            await api.result("send_transaction", {"raw": hexed(transaction.raw)})
            batch = [
                {"jsonrpc": "2.0", "id": "a", "method": "get_receipt",
                 "params": {"hash": hexed(transaction.hash), "timeout_ms": 10_000}},
                {"jsonrpc": "2.0", "id": "b", "method": "get_pool_status"},
                {"jsonrpc": "2.0", "method": "get_pool_status"},
                {"jsonrpc": "2.0", "id": None, "method": "nothing"},
                {"jsonrpc": "2.0", "id": "b", "method": "get_header", "params": {"min_height": 1}},
            ]  # fmt: skip
            asking = asyncio.create_task(api.post(json.dumps(batch).encode()))
            await _waiting(api, 2)
            await api.node.make_block()
            status, answers = await asking
            assert status == 200
            assert [answer["id"] for answer in answers] == ["a", "b", None, "b"]
            assert answers[0]["result"]["height"] == 1
            assert answers[1]["result"]["transactions"] == 1
            assert answers[2]["error"]["code"] == -32601

    asyncio.run(scenario())


def test_notifications_get_no_answer_but_act() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            note = {"jsonrpc": "2.0", "method": "send_transaction", "params": [hexed(transaction.raw)]}
            assert await api.post(json.dumps(note).encode()) == (204, None)
            assert await api.post(json.dumps([note, note]).encode()) == (204, None)
            assert transaction.hash in api.node.pool

    asyncio.run(scenario())


def test_many_transactions_in_one_request_and_in_binary() -> None:
    async def scenario() -> None:
        async with serving() as api:
            good = [a_transaction() for _ in range(3)]
            forged = a_transaction()
            broken = forged.raw[:-1] + bytes([forged.raw[-1] ^ 1])
            raws = [good[0].raw, broken, good[1].raw, b"\x00", good[0].raw]
            many = await api.result("send_transactions", [[hexed(raw) for raw in raws]])
            assert [item["code"] for item in many["results"]] == [0, -32001, 0, -32010, -32002]
            assert many["accepted"] == 2
            assert many["results"][4]["hash"] == hexed(good[0].hash)
            async with api.session.post(
                api.server.url + "/transactions", data=encode([good[2].raw, good[1].raw])
            ) as response:
                assert response.content_type == "application/msgpack"
                answer = decode(list[tuple[bytes, int, str]], await response.read())
            assert [(item[0], item[1]) for item in answer] == [(good[2].hash, 0), (good[1].hash, -32002)]

    asyncio.run(scenario())


def test_pages_for_people_and_machines() -> None:
    async def scenario() -> None:
        async with serving() as api:
            async with api.session.get(api.server.url) as page:
                assert "rpc.discover" in await page.text()
            async with api.session.get(api.server.url + "/metrics") as page:
                assert "headrace_blocks_total" in await page.text()
                assert page.headers["Content-Type"].startswith("text/plain")
            for path, status in (("/health", 200), ("/health/live", 200), ("/health/ready", 200), ("/nothing", 404)):
                async with api.session.get(api.server.url + path) as page:
                    assert page.status == status
            api.node.ready = False
            for path, status in (("/health", 503), ("/health/live", 200), ("/health/ready", 503)):
                async with api.session.get(api.server.url + path) as page:
                    assert page.status == status
            async with api.session.delete(api.server.url) as page:
                assert page.status == 405

    asyncio.run(scenario())


def test_a_bug_of_the_node_is_reported_and_hides_its_details() -> None:
    async def scenario() -> None:
        async with serving() as api:
            api.node.broken = True
            error = await api.error("status")
            assert error["code"] == -32603
            assert "secret" not in json.dumps(error)
            assert len(error["data"]["error_id"]) == 16
            assert isinstance(api.bugs[0], RuntimeError)
            assert (await api.result("get_pool_status"))["transactions"] == 0

    asyncio.run(scenario())


def test_other_http_clients_are_understood() -> None:
    """One with `Expect: 100-continue` and one that knows nothing but HTTP."""

    def ask(url: str, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(
            url, data=b'{"jsonrpc":"2.0","id":1,"method":"get_pool_status"}', headers=headers
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    async def scenario() -> None:
        async with serving() as api:
            assert b'"result"' in await asyncio.to_thread(ask, api.server.url, {})
            reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
            body = b'{"jsonrpc":"2.0","id":1,"method":"get_pool_status"}'
            writer.write(
                b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.close()
            with pytest.raises(urllib.error.HTTPError, match="415"):
                await asyncio.to_thread(ask, api.server.url, {"Content-Encoding": "gzip"})

    asyncio.run(scenario())


def test_a_port_in_use_is_an_error_at_start() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = RpcServer(FakeNode(), port=taken.getsockname()[1])
            with pytest.raises(OSError, match="in use"):
                await server.start()
            await server.stop()

    asyncio.run(scenario())
