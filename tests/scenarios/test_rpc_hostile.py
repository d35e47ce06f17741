"""Hostile and broken clients of the API: each is refused with the right error, cheaply, and nobody else notices.

The failures these stop happened elsewhere: length claims that make a decoder wait for ever, two layers with different
size limits, requests before start-up is complete, acknowledged transactions lost, stale values shown.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from chain.codec import encode
from chain.model.signed_read import sign_read
from chain.rpc import RpcLimits
from chain.types import MESSAGE_BYTES_MAX, Instant
from tests.unit.rpc.fake_node import CHAIN_ID, ECHO, ECHO_NAME
from tests.unit.rpc.harness import ALICE, NOW, Harness, a_transaction, hexed, serving


def _request(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def _code(api: Harness, body: bytes) -> int:
    status, answer = await api.post(body)
    assert status == 200
    assert answer["id"] is None or answer["id"] == 1
    return int(answer["error"]["code"])


NOT_JSON = [
    b"", b" ", b"{", b"nonsense", b'{"jsonrpc":"2.0",}', b'{"jsonrpc":"2.0","id":1,"method":"status"} x',
    b'{"jsonrpc":"2.0","id":1,"method":"sta', b"\x00\x01\x02", b"\xff\xfe{\x00}\x00",
    b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"a":tru}}',
    b'{"jsonrpc":"2.0","id":1,"method":"get_header","params":[NaN]}',
    b'{"jsonrpc":"2.0","id":1,"method":"get_header","params":{"height":-Infinity}}', b"[1,2", b"'single'",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000, b'{"a":' * 100_000,
    b'{"jsonrpc":"2.0","id":1,"method":"call","params":{"target":"t","method":"m","arguments":' + b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:24]))
def test_what_is_not_json_is_a_parse_error(body: bytes) -> None:
    async def scenario() -> None:
        async with serving() as api:
            assert await _code(api, body) == -32700

    asyncio.run(scenario())


NOT_REQUESTS = [
    b"{}", b"[]", b"1", b'"status"', b"null", b"true", b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"1.0","id":1,"method":"status"}', b'{"id":1,"method":"status"}',
    b'{"jsonrpc":2.0,"id":1,"method":"status"}', b'{"jsonrpc":"2.0","id":1,"method":5}',
    b'{"jsonrpc":"2.0","id":{},"method":"status"}', b'{"jsonrpc":"2.0","id":[1],"method":"status"}',
    b'{"jsonrpc":"2.0","id":true,"method":"status"}', b'{"jsonrpc":"2.0","id":1e999,"method":"status"}',
    b'{"jsonrpc":"2.0","id":1,"method":null}', b'{"jsonrpc":"2.0","id":1,"method":["status"]}',
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_REQUESTS, ids=repr)
def test_what_is_no_request_is_an_invalid_request(body: bytes) -> None:
    async def scenario() -> None:
        async with serving() as api:
            assert await _code(api, body) == -32600

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "method", ["", "nothing", "STATUS", "rpc.", "__class__", "status\x00", "get_header ", "x" * 100_000]
)
def test_unknown_methods(method: str) -> None:
    async def scenario() -> None:
        async with serving() as api:
            status, answer = await api.post(json.dumps(_request(method, {})).encode())
            assert (status, answer["error"]["code"], answer["id"]) == (200, -32601, 1)
            assert len(answer["error"]["message"]) < 200

    asyncio.run(scenario())


BAD_PARAMS: list[tuple[str, Any]] = [
    ("get_header", {"height": "1"}), ("get_header", {"height": 1.5}), ("get_header", {"height": -1}),
    ("get_header", {"height": 2**63}), ("get_header", {"height": 10**4000}), ("get_header", {"height": True}),
    ("get_header", {"heigth": 1}), ("get_header", [1, 0, 0]), ("get_header", "1"), ("get_header", 7),
    ("get_header", {"min_height": "9"}), ("get_header", {"height": {}}), ("get_receipt", []), ("get_receipt", {}),
    ("get_receipt", ["0x12"]), ("get_receipt", ["ab" * 32]), ("get_receipt", ["0x" + "zz" * 32]),
    ("get_receipt", ["0x" + "a" * 63]), ("get_receipt", ["0x" + "ab " * 32]), ("get_receipt", [None]),
    ("get_receipt", {"hash": "0x" + "ab" * 32, "timeout_ms": -1}),
    ("send_transaction", {"raw": 5}), ("send_transaction", {"raw": "0x1"}), ("send_transaction", {"raw": "hello"}),
    ("send_transaction", {"raw": "0x00", "wait": "soon"}), ("send_transaction", {"raw": ["0x00"]}),
    ("send_transactions", ["0x00"]), ("send_transactions", [["0x00", 5]]), ("send_transactions", [[["0x00"]]]),
    ("call", {"target": "", "method": "m"}), ("call", {"target": "0x12", "method": "m"}),
    ("call", {"target": ECHO_NAME, "method": ""}), ("call", {"target": ECHO_NAME, "method": "m" * 65}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": {"a": 1}}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": [1.5]}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": [2**300]}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": [{"int": "9" * 10_000}]}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": [{"bytes": "0xzz"}]}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": [{"a": 1, "b": 2}]}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": json.loads("[" * 40 + "]" * 40)}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": "0x01"}),
    ("call", {"target": ECHO_NAME, "method": "m", "arguments": "0xc1"}),
    ("call", {"target": ECHO_NAME, "method": "m", "sender": "0x00"}),
    ("get_events", {"from_height": 0, "to_height": 10**18, "limit": 0}),
    ("wait_blocks", {"from_height": 1, "limit": 0}),
    ("get_value_proof", {}), ("get_value_proof", {"state_key": "0x"}),
    ("get_value_proof", {"state_key": "0x" + "00" * 481}), ("simulate", {}), ("simulate", {"target": ECHO_NAME}),
]  # fmt: skip


def test_wrong_parameters_name_what_is_wrong() -> None:
    async def scenario() -> None:
        async with serving() as api:
            for method, params in BAD_PARAMS:
                error = await api.error(method, params)
                assert error["code"] == -32602, (method, params, error)
                assert error["data"]["reason"] == "invalid_params"
                assert len(error["message"]) < 500
            assert not api.bugs

    asyncio.run(scenario())


def test_a_ten_megabyte_body_is_refused_before_it_is_read() -> None:
    """The length is told first: not a byte of the body has to be sent, and none is kept."""

    async def scenario() -> None:
        async with serving() as api:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (10 * 1024 * 1024))
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413")
            assert b"Connection: close" in head
            error = json.loads(await reader.readexactly(_content_length(head)))["error"]
            assert (error["code"], error["data"]["reason"]) == (-32008, "too_large")
            writer.close()
            status, answer = await api.post(b"x" * (MESSAGE_BYTES_MAX + 1), "/transactions")
            assert (status, answer["error"]["code"]) == (413, -32008)

    asyncio.run(scenario())


def test_a_body_of_unknown_length_is_cut_off_at_the_bound() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(body_bytes_max=64 * 1024)) as api:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"4000\r\n" + b"[" * 0x4000 + b"\r\n"
            writer.write(chunk * 5)
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
            writer.close()

    asyncio.run(scenario())


def test_a_batch_of_a_hundred_thousand_is_refused_after_a_bounded_scan() -> None:
    async def scenario() -> None:
        async with serving() as api:
            item = b'{"jsonrpc":"2.0","id":1,"method":"get_pool_status"}'
            body = b"[" + b",".join([item] * 100_000) + b"]"
            assert len(body) < MESSAGE_BYTES_MAX
            assert await _code(api, body) == -32008
            assert api.server.dispatcher.calls["get_pool_status"] == 0
            # Only the first items are looked at: what stands behind them may be anything.
            assert await _code(api, body[: len(body) // 2] + b"\x00 not JSON at all") == -32008
            started = time.process_time()
            for _ in range(20):
                await api.server.dispatcher.answer(body)
            assert (time.process_time() - started) / 20 < 0.005

    asyncio.run(scenario())


def test_a_batch_at_the_bound_is_answered_and_one_more_is_not() -> None:
    async def scenario() -> None:
        async with serving() as api:
            item = b'{"jsonrpc":"2.0","id":1,"method":"get_pool_status"}'
            status, answers = await api.post(b"[" + b",".join([item] * 1_000) + b"]")
            assert (status, len(answers)) == (200, 1_000)
            assert await _code(api, b"[" + b",".join([item] * 1_001) + b"]") == -32008

    asyncio.run(scenario())


def test_a_batch_of_rubbish_answers_each_item() -> None:
    async def scenario() -> None:
        async with serving() as api:
            last = b'{"jsonrpc":"2.0","id":5,"method":"nothing"}, [[]]'
            status, answers = await api.post(b'[1, {}, [], "a", null, ' + last + b"]")
            assert status == 200
            assert [answer["error"]["code"] for answer in answers] == [-32600] * 5 + [-32601, -32600]
            assert answers[5]["id"] == 5

    asyncio.run(scenario())


def test_a_batch_cannot_multiply_a_large_answer() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(answer_bytes_max=100_000)) as api:
            batch = [_request("rpc.discover", {})] * 100
            _, answers = await api.post(json.dumps(batch).encode())
            codes = [answer.get("error", {}).get("code", 0) for answer in answers]
            assert codes[0] == 0
            assert set(codes[4:]) == {-32008}

    asyncio.run(scenario())


def test_one_answer_over_the_bound_is_an_error() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(answer_bytes_max=1_000)) as api:
            error = await api.error("rpc.discover")
            assert error["code"] == -32008

    asyncio.run(scenario())


def test_duplicate_ids_and_members_confuse_nobody() -> None:
    async def scenario() -> None:
        async with serving() as api:
            status, answers = await api.post(json.dumps([_request("get_pool_status", {})] * 2).encode())
            assert (status, [answer["id"] for answer in answers]) == (200, [1, 1])
            _, answer = await api.post(b'{"jsonrpc":"2.0","id":1,"method":"nothing","method":"get_pool_status"}')
            assert "result" in answer
            for request_id in (b"0", b'""', b"-5", b"1.5", b'"' + b"i" * 1_000 + b'"', b"9" * 50):
                body = b'{"jsonrpc":"2.0","id":' + request_id + b',"method":"get_pool_status"}'
                _, answer = await api.post(body)
                assert answer["id"] == json.loads(request_id)

    asyncio.run(scenario())


def test_bad_transactions_are_refused_with_their_reason_and_change_nothing() -> None:
    async def scenario() -> None:
        async with serving() as api:
            good = a_transaction()
            flipped = good.raw[:-1] + bytes([good.raw[-1] ^ 1])
            forged = a_transaction(key=ALICE)
            others_signature = encode((forged.body_bytes, good.signature))
            cases = [
                (flipped, -32001), (others_signature, -32001), (a_transaction(chain_id=bytes(32)).raw, -32006),
                (a_transaction(expiry=0).raw, -32003), (b"", -32010), (b"\x00", -32010), (good.raw + b"\x00", -32010),
                (good.raw[:-1], -32010), (encode([good.body_bytes]), -32010), (b"\xdd\xff\xff\xff\xff", -32010),
                (b"\xc6\xff\xff\xff\xff" + bytes(100), -32010), (encode((b"\x90", bytes(64))), -32010),
                (encode((good.body_bytes, bytes(63))), -32010), (bytes(300 * 1024), -32010),
            ]  # fmt: skip
            for raw, code in cases:
                error = await api.error("send_transaction", {"raw": hexed(raw)})
                assert error["code"] == code, (raw[:40], error)
            assert not api.node.pool
            assert not api.bugs

    asyncio.run(scenario())


def test_a_replayed_transaction_is_a_duplicate_in_the_pool_and_after_execution() -> None:
    async def scenario() -> None:
        async with serving() as api:
            transaction = a_transaction()
            await api.result("send_transaction", {"raw": hexed(transaction.raw)})
            for _ in range(2):
                error = await api.error("send_transaction", {"raw": hexed(transaction.raw)})
                assert (error["code"], error["data"]["hash"]) == (-32002, hexed(transaction.hash))
                await api.node.make_block()
            assert api.node.where[transaction.hash] == (1, 0)

    asyncio.run(scenario())


def test_a_full_pool_refuses_and_loses_nothing_it_acknowledged() -> None:
    async def scenario() -> None:
        async with serving() as api:
            api.node.pool_max = 2
            transactions = [a_transaction() for _ in range(4)]
            many = await api.result("send_transactions", [[hexed(item.raw) for item in transactions]])
            assert [item["code"] for item in many["results"]] == [0, 0, -32004, -32004]
            await api.node.make_block()
            for transaction in transactions[:2]:
                assert (await api.result("get_receipt", [hexed(transaction.hash)]))["status"] == 0

    asyncio.run(scenario())


def test_signed_reads_cannot_be_forged_replayed_late_or_taken_from_elsewhere() -> None:
    async def scenario() -> None:
        async with serving() as api:

            def read(chain: bytes = CHAIN_ID, expiry: int = NOW + 1_000) -> bytes:
                return sign_read(
                    ALICE, chain_id=chain, target=ECHO, method="look", arguments=(), gas_limit=1_000,
                    expiry_ms=Instant(expiry),
                )  # fmt: skip

            good = read()
            transaction = a_transaction("look", arguments=())
            cases = [
                (good[:-1] + bytes([good[-1] ^ 1]), -32001), (read(bytes(32)), -32006), (read(expiry=NOW), -32003),
                (read(expiry=NOW + 10**9), -32011), (transaction.raw, -32010), (b"", -32010), (good + b"\x00", -32010),
            ]  # fmt: skip
            for raw, code in cases:
                error = await api.error("call_signed", {"raw": hexed(raw)})
                assert error["code"] == code, error
            assert (await api.error("send_transaction", {"raw": hexed(good)}))["code"] == -32010
            assert not api.node.queries

    asyncio.run(scenario())


def test_the_binary_path_has_the_same_bounds() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(transactions_max=3)) as api:
            raw = a_transaction().raw
            bodies = [
                b"", b"\xc0", b"\x80", b"\xdd\xff\xff\xff\xff", b"\xa5hello", encode([raw])[:-1],
                encode([raw]) + b"\x00",
                b"\xdc\x00\x01\xc4\x01\x00", encode([[raw]]), encode([5]), b"\x91" * 100_000,
            ]  # fmt: skip
            for body in bodies:
                async with api.session.post(api.server.url + "/transactions", data=body) as response:
                    assert response.status == 400, body[:20]
                    assert "malformed" in await response.text()
            async with api.session.post(api.server.url + "/transactions", data=encode([raw] * 4)) as response:
                assert response.status == 413
            assert (await api.error("send_transactions", [[hexed(raw)] * 4]))["code"] == -32008
            assert not api.node.pool

    asyncio.run(scenario())


def test_clients_that_send_slowly_are_cut_off() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(head_timeout_ms=50, body_timeout_ms=50, linger_ms=50)) as api:
            silent = await asyncio.open_connection("127.0.0.1", api.server.port)
            dripping = await asyncio.open_connection("127.0.0.1", api.server.port)
            dripping[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            stalled = await asyncio.open_connection("127.0.0.1", api.server.port)
            stalled[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            async with asyncio.timeout(10):
                assert await silent[0].read() == b""
                assert await dripping[0].read() == b""
                assert (await stalled[0].read()).startswith(b"HTTP/1.1 408")
            for _, writer in (silent, dripping, stalled):
                writer.close()
            assert (await api.result("get_pool_status"))["transactions"] == 0

    asyncio.run(scenario())


def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(answer_timeout_ms=50)) as api:
            await api.node.submit([a_transaction(arguments=(bytes(200_000),)).raw])
            await api.node.make_block()
            _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
            body = json.dumps([_request("get_block", {"height": 1, "full": True})] * 20).encode()
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await _until_connections(api, 1)
            await _until_connections(api, 0)
            writer.close()

    asyncio.run(scenario())


def test_connections_beyond_the_bound_are_closed_and_the_others_go_on() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(connections_max=3)) as api:
            held = [await asyncio.open_connection("127.0.0.1", api.server.port) for _ in range(2)]
            await _until_connections(api, 2)
            assert "transactions" in await api.result("get_pool_status")
            assert api.server.connections == 3
            reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            assert "transactions" in await api.result("get_pool_status")
            for _, other in held:
                other.close()

    asyncio.run(scenario())


def test_waits_and_queries_are_bounded() -> None:
    async def scenario() -> None:
        async with serving(RpcLimits(waits_max=2, queries_max=0)) as api:
            poll = {"from_height": 1, "timeout_ms": 60_000}
            polls = [asyncio.create_task(api.result("wait_blocks", poll)) for _ in range(2)]
            async with asyncio.timeout(10):
                while api.server.waiting < 2:
                    await asyncio.sleep(0)
            error = await api.error("wait_blocks", poll)
            assert (error["code"], error["data"]["reason"]) == (-32014, "busy")
            assert (await api.error("get_header", {"min_height": 1}))["code"] == -32014
            assert (await api.error("call", {"target": ECHO_NAME, "method": "look"}))["code"] == -32014
            await api.node.make_block()
            assert [answer["next_height"] for answer in await asyncio.gather(*polls)] == [2, 2]
            assert api.server.waiting == 0

    asyncio.run(scenario())


def test_what_is_not_there_is_not_found_never_a_guess() -> None:
    async def scenario() -> None:
        async with serving() as api:
            nothing = "0x" + "ab" * 32
            cases: list[tuple[str, Any]] = [
                ("get_transaction", [nothing]), ("get_receipt", [nothing]), ("get_header", [1]), ("get_block", [2**62]),
                ("get_code", ["0x" + "11" * 20]), ("get_abi", ["no.such"]), ("resolve_name", ["no.such"]),
                ("call", ["no.such", "look"]), ("get_receipt_proof", [nothing]),
                ("get_value_proof", {"state_key": "0x00", "height": 99}),
            ]  # fmt: skip
            for method, params in cases:
                error = await api.error(method, params)
                assert error["code"] == -32005, (method, error)
                assert error["data"]["certified_height"] == 0

    asyncio.run(scenario())


def test_pipelined_and_broken_http_does_not_take_the_server_down() -> None:
    async def scenario() -> None:
        async with serving() as api:
            for rubbish in (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
            ):  # fmt: skip
                reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
                writer.write(rubbish)
                writer.write_eof()
                async with asyncio.timeout(10):
                    answer = await _read_all(reader)
                assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/9.9 4")), answer[:200]
                writer.close()
            body = b'{"jsonrpc":"2.0","id":1,"method":"get_pool_status"}'
            one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
            writer.write(one * 20)
            for _ in range(20):
                head = await reader.readuntil(b"\r\n\r\n")
                assert b'"result"' in await reader.readexactly(_content_length(head))
            writer.close()
            assert not api.bugs

    asyncio.run(scenario())


async def _until_connections(api: Harness, count: int) -> None:
    async with asyncio.timeout(20):
        while api.server.connections != count:
            await asyncio.sleep(0.005)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def _content_length(head: bytes) -> int:
    (line,) = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    return int(line.split(b":")[1])
