"""The load's own plumbing: signed transactions in files, answers of the binary path, hashes found in blocks."""

from __future__ import annotations

import asyncio
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from bench.cluster.http import HttpError, Poster
from bench.cluster.measure import parse_metrics, proportional
from bench.cluster.parts import Part, Share, array_head, hash_rows, write_part
from bench.cluster.records import (
    NO_ANSWER,
    SEEN,
    SENT,
    HashIndex,
    Records,
    answer_codes,
    interleave,
    load_records,
    reason_of,
)
from bench.cluster.sign import SIGNERS, SignJob, account, signed
from bench.errors import BenchError
from bench.workloads import WORKLOADS
from chain.codec import decode, encode
from chain.model.signing import verify_transactions
from chain.rpc.errors import DUPLICATE, POOL_FULL
from tests.unit.bench.cluster_samples import read_request, serving


def job(tmp_path: Path, *, first: int = 0, step: int = 1, count: int = 20) -> SignJob:
    return SignJob(
        path=str(tmp_path / "part"),
        chain_id=bytes(32).hex(),
        contract=bytes(20).hex(),
        workload="send_payment",
        seed=3,
        expiry=900,
        first=first,
        step=step,
        count=count,
    )


def test_each_signing_process_takes_its_own_calls_and_accounts(tmp_path: Path) -> None:
    calls = list(islice(WORKLOADS["send_payment"]().calls(3), 20))
    whole = list(signed(job(tmp_path)))
    assert verify_transactions(whole) == [True] * 20
    assert [item.body.public_key for item in whole] == [account(3, at).public_key for at in range(20)]
    third = list(signed(job(tmp_path, first=2, step=3, count=6)))
    assert [item.body.arguments for item in third] == [item.body.arguments for item in whole[2::3]]
    assert [item.body.public_key for item in third] == [item.body.public_key for item in whole[2::3]]
    assert [item.body.method for item in whole] == [call.method for call in calls]
    assert account(3, SIGNERS).public_key == account(3, 0).public_key


@pytest.mark.parametrize("count", [1, 15, 16, 17])
def test_a_request_is_what_the_node_takes(tmp_path: Path, count: int) -> None:
    transactions = list(signed(job(tmp_path, count=count)))
    split = count // 3
    assert write_part(tmp_path / "a", transactions[:split]) == split
    assert write_part(tmp_path / "b", transactions[split:]) == count - split
    share = Share([tmp_path / "a", tmp_path / "b"])
    assert len(share) == count
    raws = [item.raw for item in transactions]
    assert decode(list[bytes], share.request(0, count)) == raws
    assert decode(list[bytes], share.request(0, 0)) == []
    for first in range(count):
        assert decode(list[bytes], share.request(first, count)) == raws[first:]
        assert decode(list[bytes], share.request(first, first + 1)) == [raws[first]]
    assert share.hashes().tobytes() == b"".join(item.hash for item in transactions)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536, 70_000])
def test_the_head_of_an_array_is_the_shortest(count: int) -> None:
    whole = encode([b""] * count)
    assert array_head(count) == whole[: len(whole) - 2 * count]


def test_a_part_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "a", signed(job(tmp_path)))
    hashes = tmp_path / "a.hashes"
    hashes.write_bytes(hashes.read_bytes()[:-32])
    with pytest.raises(BenchError, match="cut off"):
        Part(tmp_path / "a")
    with pytest.raises(BenchError, match="no signed transactions"):
        Part(tmp_path / "none")


def hashes_of(count: int, seed: int = 1) -> list[bytes]:
    draw = random.Random(seed)
    return [draw.randbytes(32) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 15, 16, 300])
def test_an_answer_that_takes_all_is_read_in_one_go(count: int) -> None:
    hashes = hashes_of(count)
    answer = encode([(one, 0, "") for one in hashes])
    rows = hash_rows(b"".join(hashes))
    assert answer_codes(answer, rows).tolist() == [0] * count
    with pytest.raises(BenchError, match="other transactions"):
        answer_codes(answer, hash_rows(b"".join(hashes_of(count, seed=2))))


def test_an_answer_with_refusals_is_read_one_by_one() -> None:
    hashes = hashes_of(3)
    answer = encode([(hashes[0], POOL_FULL, "full"), (hashes[1], DUPLICATE, "again"), (hashes[2], 0, "")])
    rows = hash_rows(b"".join(hashes))
    assert answer_codes(answer, rows).tolist() == [POOL_FULL, 0, 0]
    with pytest.raises(BenchError, match="answered for 3 transactions, it was sent 2"):
        answer_codes(answer, rows[:2])
    assert reason_of(POOL_FULL) == "pool_full"
    assert reason_of(NO_ANSWER) == "no_answer"
    assert reason_of(-413) == "http_413"


def test_hashes_are_found_by_all_their_bytes() -> None:
    hashes = hashes_of(50)
    twin = hashes[7][:8] + bytes(24)  # alike in what is searched by
    index = HashIndex(hash_rows(b"".join(hashes)))
    asked = [hashes[49], twin, hashes[0], bytes(32), hashes[7], b"\xff" * 32]
    assert index.places(b"".join(asked)).tolist() == [49, -1, 0, -1, 7, -1]
    assert index.places(b"").tolist() == []
    assert HashIndex(hash_rows(b"")).places(hashes[0]).tolist() == [-1]


def test_records_of_several_processes_come_back_in_the_order_of_intended_sending(tmp_path: Path) -> None:
    for process in range(3):
        due = np.arange(process, 10, 3, dtype=np.float64)
        codes = np.full(len(due), process, dtype=np.int32)
        np.savez(tmp_path / SENT.format(process), due=due, answered=due + 0.5, codes=codes)
    np.savez(tmp_path / SEEN, certified=np.arange(10) + 1.0, statuses=np.zeros(10, dtype=np.uint16))
    records = load_records(tmp_path, 3)
    assert records.due.tolist() == list(range(10))
    assert records.codes.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert records.offered == 10
    (tmp_path / SENT.format(1)).write_bytes(b"PK")
    with pytest.raises(BenchError, match="left no whole result"):
        load_records(tmp_path, 3)


def test_interleaving_is_the_inverse_of_taking_shares() -> None:
    for count in range(1, 9):
        whole = np.arange(count)
        assert interleave([whole[at::3] for at in range(3)]).tolist() == whole.tolist()


def test_failures_have_one_reason_each() -> None:
    nan = float("nan")
    records = Records(
        due=np.array([0, 1, 2, 3, 4, nan]),
        answered=np.zeros(6),
        codes=np.array([0, 0, POOL_FULL, NO_ANSWER, NO_ANSWER, NO_ANSWER], dtype=np.int32),
        certified=np.array([1, nan, nan, nan, 5, nan]),
        statuses=np.array([1, 0, 0, 0, 0, 0], dtype=np.uint16),
    )
    assert records.failures() == {"no_answer": 1, "not_certified": 1, "pool_full": 1, "reverted": 1}
    assert records.offered == 5


def test_pages_of_the_databases_are_told_apart() -> None:
    smaps = b"""7f0000000000-7f0000100000 r--s 00000000 fe:00 12 /data/state/data.mdb
Rss:                 900 kB
Pss:                 400 kB
Pss_Dirty:             7 kB
VmFlags: rd sh mr mw
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Pss:                 100 kB
7f0000400000-7f0000500000 r--s 00000000 fe:00 12 /data/gone/data.mdb (deleted)
Pss:                  50 kB
7f0000600000-7f0000700000 r-xp 00000000 fe:00 12 /usr/bin/python3 with space
Pss:                  25 kB
"""
    assert proportional(smaps) == (575 * 1024, 450 * 1024)


def test_a_node_elsewhere_tells_its_own_cpu() -> None:
    text = """# TYPE headrace_pipeline_cpu_seconds counter
headrace_pipeline_cpu_seconds_total{work="verify"} 2.5
# TYPE headrace_pipeline_stage_depth_items gauge
headrace_pipeline_stage_depth_items{stage="execute"} 3
# TYPE headrace_node_cpu_seconds counter
headrace_node_cpu_seconds_total 10
# TYPE headrace_executor_cpu_seconds counter
headrace_executor_cpu_seconds_total 4
# TYPE headrace_store_height gauge
headrace_store_height 77
# TYPE headrace_pool_transactions gauge
headrace_pool_transactions 9
"""
    told = parse_metrics(text, at_s=1.0, cpu_s=None)
    assert (told.cpu_s, told.height, told.pool, told.work_s) == (14, 77, 9, {"verify": 2.5})
    assert told.depths == {"execute": 3, "pool": 9, "pool_waiting": 0}
    assert parse_metrics(text, at_s=1.0, cpu_s=99.0).cpu_s == 99


def test_posting_uses_connections_again_and_outlives_their_end() -> None:
    served: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # then this server closes, as one does with idle connections
            try:
                body = await read_request(reader)
            except asyncio.IncompleteReadError:
                break
            served.append(body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body[::-1]))

    async def run() -> None:
        async with serving(serve) as url:
            poster = Poster(url, "/transactions", timeout_s=10)
            for at in range(5):
                assert await poster.post(b"body-%d" % at) == (200, b"%d-ydob" % at)
            await poster.close()
        with pytest.raises(HttpError):
            await poster.post(b"nobody")

    asyncio.run(run())
    assert served == [b"body-%d" % at for at in range(5)]
