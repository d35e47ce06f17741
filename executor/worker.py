"""The main of every executor process: `python -m executor.worker PARENT SOCKET PROGRESS [CONTROL]`.

The first frame says what it is to be: the lead, an executor that runs shares for the lead, or one that answers queries
on the stored state. It ends when its socket closes, so that nothing outlives a node that was killed.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from chain.codec import Record
from chain.errors import HeadraceError, InvariantError
from chain.model.merkle import unpack_writes
from chain.store.state import StateReader
from contracts.runtime import Machine
from executor.governor import Governor
from executor.outcome import QueryInput, QueryOutput, ShareOutcome
from executor.parallel import PATIENCE_S, Job, Lead
from executor.planners import planner_of
from executor.process import READY, SharedProgress
from executor.protocol import (
    BlockDone,
    CatchUp,
    Channel,
    ChannelLost,
    Discard,
    ExecuteBlock,
    ExecutorLost,
    Failed,
    OfferShare,
    Overlay,
    QueryDone,
    Ready,
    Request,
    RunQuery,
    RunShare,
    Setup,
    decode_reply,
    decode_request,
)
from executor.sandbox import enter_sandbox
from executor.share import integers, run_share
from executor.state import BaseState, Writes
from executor.transactions import Call, ChainContext, Progress, decode_call

COLLECT_EVERY: Final = 50_000  # allocations; contracts make few cycles, and a collection costs a block milliseconds
_OFFER_ROOM: Final = 128  # bytes of a transaction beside its raw ones: hash, sender, position, lengths
_share_outcome = msgspec.msgpack.Decoder(ShareOutcome).decode


def main(arguments: list[str]) -> int:
    """Run until the socket closes; 0, or 1 after a broken promise that was told to the node."""
    parent, descriptor, progress, *control = map(int, arguments)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy comes with numba; threads are refused in here, and not needed
    enter_sandbox(parent)
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 100)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        setup = decode_request(channel.receive())
        if not isinstance(setup, Setup):
            raise InvariantError(f"the first frame is a {type(setup).__name__}")
        _serve(setup, channel, SharedProgress(progress), [socket.socket(fileno=number) for number in control])
    except ChannelLost:
        pass
    except HeadraceError as error:
        channel.send(Failed(reason=f"{type(error).__name__}: {error}"))
        return 1
    return 0


def _serve(setup: Setup, channel: Channel, progress: SharedProgress, control: list[socket.socket]) -> None:
    reader = StateReader(Path(setup.state_path))
    machine = Machine(setup.chain.rule_set)
    if setup.role == "lead":
        serve_lead(setup, channel, control[0], BaseState(reader), machine, progress)
    elif setup.role == "share":
        serve_shares(setup, channel, BaseState(reader), machine, progress)
    else:
        serve_queries(setup, channel, BaseState(reader), machine)


def serve_shares(
    setup: Setup, channel: Channel, base: BaseState, machine: Machine, progress: SharedProgress
) -> None:
    """Answer the lead's `RunShare`s."""
    channel.send(Ready(height=base.height))
    progress.enter(base.height, READY)
    offered: Share | None = None
    while True:
        base.release()
        request = decode_request(channel.receive())
        if isinstance(request, OfferShare):
            offered = decode_share(request)
            continue
        if not isinstance(request, RunShare):
            raise InvariantError(f"an executor was sent a {type(request).__name__}")
        channel.send(
            answer_share(
                request, offered=offered, chain=setup.chain, base=base, machine=machine, progress=progress
            )
        )
        offered = None


class Share(NamedTuple):
    """The transactions of a share, decoded."""

    number: int
    positions: Sequence[int]
    calls: Sequence[Call]


def decode_share(share: OfferShare | RunShare) -> Share:
    """Raises InvariantError: a transaction was not checked."""
    hashes, senders = share.hashes, share.senders
    calls = [
        decode_call(raw, hashes[32 * index : 32 * index + 32], senders[20 * index : 20 * index + 20])
        for index, raw in enumerate(share.transactions)
    ]
    return Share(share.number, integers(share.positions), calls)


def answer_share(
    request: RunShare,
    *,
    offered: Share | None = None,
    chain: ChainContext,
    base: BaseState,
    machine: Machine,
    progress: Progress,
) -> ShareOutcome:
    """Bring the base state to the parent block and run the share; `offered` is the last one that was.

    Raises:
        InvariantError: the write sets that came do not reach the parent block, or the share was not offered.
    """
    share = offered if request.offered else decode_share(request)
    if share is None or share.number != request.number:
        raise InvariantError(f"asked to run share {request.number}, which was not offered")
    base.discard(max(request.told, base.snapshot_height) + 1)
    base.refresh()
    for overlay in request.overlays:
        base.append(overlay.height, _writes_of(overlay, base))
    if base.height != request.height - 1:
        raise InvariantError(f"asked for a share of height {request.height} on the state after {base.height}")
    return run_share(
        share.calls,
        share.positions,
        base=base,
        machine=machine,
        context=chain.block(height=request.height, time_ms=request.time_ms),
        progress=progress,
        number=request.number,
    )


def _writes_of(overlay: Overlay, base: BaseState) -> Writes:
    """Raises InvariantError: it builds on a share that was not the last one here."""
    writes = dict(unpack_writes(overlay.writes))
    if not overlay.own:
        return writes
    number, own = base.last_share
    if number != overlay.own:
        raise InvariantError(f"told to keep the writes of share {overlay.own}; the last one was {number}")
    return {**own, **writes}


class SocketLink:
    """The lead's way to an executor process."""

    def __init__(self, connection: socket.socket) -> None:
        self._channel = Channel(connection)

    def send(self, share: Record) -> None:
        self._channel.send(share, timeout_s=PATIENCE_S)

    def offer(self, share: OfferShare) -> bool:
        if sum(map(len, share.transactions)) + _OFFER_ROOM * (1 + len(share.transactions)) > self._channel.room_bytes:
            return False
        self.send(share)
        return True

    def receive(self, *, timeout_s: float) -> ShareOutcome:
        try:
            return _share_outcome(self._channel.receive(timeout_s=timeout_s))
        except msgspec.DecodeError as error:
            raise ChannelLost(f"not a share's outcome: {error}") from None

    def has_started(self) -> bool:
        """True once the executor is ready for shares; asked until it is, without waiting.

        Raises:
            ChannelLost: it ended before.
        """
        if not self._channel.is_readable():
            return False
        if not isinstance(decode_reply(self._channel.receive(timeout_s=PATIENCE_S)), Ready):
            raise ChannelLost("it did not start")
        return True

    def close(self) -> None:
        self._channel.close()


def serve_lead(
    setup: Setup,
    channel: Channel,
    control: socket.socket,
    base: BaseState,
    machine: Machine,
    progress: SharedProgress,
) -> None:
    """Execute the node's blocks."""
    lead = Lead(
        base=base,
        machine=machine,
        chain=setup.chain,
        planner=planner_of(setup.predictor if setup.executors > 1 else "empty"),
        governor=Governor(setup.mode),
        progress=progress,
        executors=setup.executors,
        lost=lambda index, reason: channel.send(ExecutorLost(index=index, reason=reason)),
    )
    control.setblocking(False)
    channel.send(Ready(height=lead.height))
    newcomers = _Newcomers(lead, control)
    job: Job | None = None  # a block that was planned while the one before it ran
    request: Request | None = None
    while True:
        if request is None:
            request = decode_request(channel.receive())
        newcomers.attach()
        match request:
            case CatchUp(overlays=overlays):
                lead.catch_up(overlays)
                request = None
            case Discard(height=height):
                lead.discard(height)
                request = None
            case ExecuteBlock(block=block, attempt=attempt):
                if job is None:
                    job = lead.plan(block, attempt=attempt)
                    lead.dispatch(job)
                lead.run(job)
                request = decode_request(channel.receive()) if channel.is_readable() else None
                following = None
                if isinstance(request, ExecuteBlock):
                    following = lead.plan(request.block, attempt=request.attempt)
                    lead.offer(following)
                lead.finish(job)
                if following is not None:
                    lead.dispatch(following)
                channel.send(BlockDone(output=lead.seal(job)))
                job = following
            case _:
                raise InvariantError(f"the lead was sent a {type(request).__name__}")


class _Newcomers:
    """Executors whose sockets the node has passed; they start while others work."""

    def __init__(self, lead: Lead, control: socket.socket) -> None:
        self._lead = lead
        self._control = control
        self._starting: dict[int, SocketLink] = {}

    def attach(self) -> None:
        """Give the lead those that are ready by now."""
        self._accept()
        for index, link in list(self._starting.items()):
            try:
                if link.has_started():
                    self._lead.attach(index, self._starting.pop(index))
            except ChannelLost as error:
                self._starting.pop(index).close()
                self._lead.report_lost(index, str(error))

    def _accept(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            except BlockingIOError:
                return
            if not data:
                return  # the node closed it; the next frame will say so too
            if descriptors:
                known = self._starting.pop(data[0], None)
                if known is not None:
                    known.close()
                self._starting[data[0]] = SocketLink(socket.socket(fileno=descriptors[0]))


def serve_queries(setup: Setup, channel: Channel, base: BaseState, machine: Machine) -> None:
    """Answer the node's reads on the newest stored state."""
    channel.send(Ready(height=base.refresh()))
    while True:
        base.release()
        request = decode_request(channel.receive())
        if not isinstance(request, RunQuery):
            raise InvariantError(f"the query executor was sent a {type(request).__name__}")
        channel.send(QueryDone(output=_query(setup, request.query, base, machine)))


def _query(setup: Setup, query: QueryInput, base: BaseState, machine: Machine) -> QueryOutput:
    height = base.refresh()
    outcome = machine.query(
        base,
        setup.chain.block(height=height, time_ms=query.time_ms),
        sender=query.sender,
        target=query.target,
        method=query.method,
        arguments=query.arguments,
        gas_limit=query.gas_limit,
        signed=query.signed,
    )
    return QueryOutput(
        height=height,
        status=outcome.status,
        gas_used=outcome.gas_used,
        result=outcome.result,
        error=outcome.error,
        events=outcome.events,
        writes=tuple(sorted(outcome.writes.items())) if query.simulate else (),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
