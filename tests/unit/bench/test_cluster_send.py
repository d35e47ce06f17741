"""Sending: at intended times, to the next node if one is gone, and in a closed loop never more than are to be open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.cluster.parts import Share, write_part
from bench.cluster.records import COUNTERS, NO_ANSWER
from bench.cluster.send import Sender, SendJob
from bench.cluster.sign import SignJob, signed
from chain.codec import decode, encode
from chain.model.signing import decode_transaction
from tests.unit.bench.cluster_samples import read_request, serving

COUNT = 40


def share_of(tmp_path: Path) -> Share:
    job = SignJob(
        path="", chain_id=bytes(32).hex(), contract=bytes(20).hex(), workload="do_nothing", seed=1, expiry=9, first=0,
        step=1, count=COUNT,
    )  # fmt: skip
    write_part(tmp_path / "part", signed(job))
    return Share([tmp_path / "part"])


@asynccontextmanager
async def node(took: Callable[[list[bytes]], None]) -> AsyncIterator[str]:
    """Something that takes every transaction, as a node's binary path answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                raws = decode(list[bytes], await read_request(reader))
                took(raws)
                answer = encode([(decode_transaction(raw).hash, 0, "") for raw in raws])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    async with serving(serve) as url:
        yield url


def job_of(tmp_path: Path, *urls: str, **changed: object) -> SendJob:
    fields = {
        "folder": str(tmp_path), "parts": (), "urls": urls, "process": 0, "processes": 1, "rate": 1_000.0, **changed
    }  # fmt: skip
    return msgspec.convert(fields, SendJob)


def test_everything_is_sent_in_order_and_never_before_it_is_due(tmp_path: Path) -> None:
    share, took = share_of(tmp_path), list[bytes]()

    async def run() -> Sender:
        async with node(took.extend) as url:
            sender = Sender(job_of(tmp_path, url), share, time.monotonic())
            await sender.run()
            return sender

    sender = asyncio.run(run())
    assert took == decode(list[bytes], share.request(0, COUNT))
    assert sender.codes.tolist() == [0] * COUNT
    assert sender.due == pytest.approx(np.arange(COUNT) / 1_000)
    assert (sender.answered >= sender.due).all()


def test_a_process_of_several_has_every_so_manyth_moment(tmp_path: Path) -> None:
    job = job_of(tmp_path, "http://127.0.0.1:1", process=2, processes=3)
    assert Sender(job, share_of(tmp_path), 0.0).due[:3] == pytest.approx([0.002, 0.005, 0.008])


def test_what_a_node_does_not_answer_goes_to_the_next(tmp_path: Path) -> None:
    took: list[bytes] = []

    async def run(with_node: bool) -> Sender:
        async with node(took.extend) as url:
            urls = ("http://127.0.0.1:1", *([url] if with_node else []))
            sender = Sender(job_of(tmp_path, *urls), share_of(tmp_path), time.monotonic())
            await sender.run()
            return sender

    assert asyncio.run(run(True)).codes.tolist() == [0] * COUNT
    assert len(took) == COUNT
    assert asyncio.run(run(False)).codes.tolist() == [NO_ANSWER] * COUNT


def test_a_closed_loop_sends_as_many_as_have_been_certified(tmp_path: Path) -> None:
    np.zeros(1, dtype=np.int64).tofile(tmp_path / COUNTERS)
    counters = np.memmap(tmp_path / COUNTERS, dtype=np.int64, mode="r+")
    open_at_once: list[int] = []
    total = 0

    def took(raws: list[bytes]) -> None:
        nonlocal total
        total += len(raws)
        open_at_once.append(total - int(counters[0]))
        counters[0] = total - 1  # all but the last are certified at once

    async def run(**changed: object) -> Sender:
        async with node(took) as url:
            job = job_of(tmp_path, url, in_flight_max=8, **changed)
            sender = Sender(job, share_of(tmp_path), time.monotonic())
            await sender.run()
            return sender

    sender = asyncio.run(run())
    assert total == COUNT
    assert max(open_at_once) == 8
    assert (np.diff(sender.due) >= 0).all()
    total, counters[0] = 0, 0
    late = asyncio.run(run(until_s=1e-9))
    assert total == 0
    assert np.isnan(late.due).all()
