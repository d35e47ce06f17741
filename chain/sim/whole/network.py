"""Connections between nodes, and the gateway that a node sees.

Between two nodes there is a connection or none, as with TCP. A message may be late, doubled and overtaken; where it is
lost, the connection goes with it, and comes back later. Where a way is blocked, messages wait: for the end of the
blockade, or until one side has heard nothing for so long that it cuts the connection.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from chain.config import PeerConfig
from chain.errors import BadInput, PeerFault
from chain.net import Channel, GatewayHandlers
from chain.net.counters import PeerCounters
from chain.sim.whole.loop import Process, SimLoop
from chain.types import MESSAGE_BYTES_MAX, ValidatorId

Pair = tuple[int, int]  # slots, the lower first
Way = tuple[int, int]  # slots, from and to
SILENCE_US: Final = 4_000_000  # then a connection over a blocked way is cut (`chain.net.gateway.GatewayTimes`)
REQUESTS_MAX: Final = 64  # of one node to one peer, unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFaults:
    """Times in milliseconds, (least, most); rates per thousand messages."""

    delay_ms: tuple[int, int]
    straggler_rate: int
    straggler_ms: tuple[int, int]
    loss_rate: int
    duplication_rate: int
    reconnect_ms: tuple[int, int]


CALM: Final = NetworkFaults(
    delay_ms=(1, 5), straggler_rate=0, straggler_ms=(0, 0), loss_rate=0, duplication_rate=0, reconnect_ms=(10, 200)
)


class Watcher(Protocol):
    """Who sees, and may change, what nodes send."""

    def on_send(self, gateway: SimGateway, peer: ValidatorId | None, channel: Channel, payload: bytes) -> bool:
        """Before a message leaves (None: to all); False if its process ended at this very point."""
        ...

    def bend(self, gateway: SimGateway, channel: str, payload: bytes) -> Sequence[bytes]:
        """What a message becomes on its way to one peer: of an honest node, itself."""
        ...


class Network:
    """Slots are places in the validator set; each has at most one gateway at a time."""

    def __init__(self, loop: SimLoop, random: Random, faults: NetworkFaults, watcher: Watcher) -> None:
        self.loop = loop
        self.random = random
        self.faults = faults
        self.watcher = watcher
        self.gateways: dict[int, SimGateway] = {}
        self.blocked: set[Way] = set()
        self.sent = self.lost = self.broken = self.requests = 0
        self._epochs: dict[Pair, int] = {}  # of the present connection, or of the last one
        self._open: set[Pair] = set()
        self._dialing: set[Pair] = set()
        self._nobody = contextvars.Context()
        self._held: dict[Way, list[Callable[[], None]]] = {}

    def ms(self, bounds: tuple[int, int]) -> int:
        """A time in microseconds, drawn."""
        return self.random.randint(bounds[0] * 1_000, bounds[1] * 1_000)

    def _delay_us(self) -> int:
        faults = self.faults
        late = faults.straggler_rate and self.random.randrange(1_000) < faults.straggler_rate
        return self.ms(faults.straggler_ms if late else faults.delay_ms)

    def _after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """What is on the wire belongs to no process, and outlives the one that sent it."""
        self.loop.at(self.loop.now_us + delay_us, action, *arguments, context=self._nobody)

    # --- connections ---

    def is_open(self, one: int, other: int) -> bool:
        return _pair(one, other) in self._open

    def join(self, gateway: SimGateway) -> None:
        self.gateways[gateway.slot] = gateway
        for other in sorted(self.gateways):
            if other != gateway.slot:
                self.dial(gateway.slot, other)

    def leave(self, slot: int) -> None:
        """The process has ended: its peers see their connections close."""
        self.gateways.pop(slot, None)
        for pair in sorted(self._open):
            if slot in pair:
                self.cut(*pair)

    def dial(self, one: int, other: int) -> None:
        """Connect the two after a while, if that can be."""
        pair = _pair(one, other)
        if pair not in self._dialing and pair not in self._open:
            self._dialing.add(pair)
            self._after(self.ms(self.faults.reconnect_ms), self._connect, pair)

    def _connect(self, pair: Pair) -> None:
        self._dialing.discard(pair)
        ends = [self.gateways.get(slot) for slot in pair]
        first, second = ends
        if first is None or second is None or not self._free(*pair) or not self._free(*reversed(pair)):
            return  # whoever removes the reason calls `redial`
        if second.own not in first.allowed or first.own not in second.allowed:
            return
        self._open.add(pair)
        self._epochs[pair] = self._epochs.get(pair, 0) + 1
        for end, peer in ((first, second), (second, first)):
            self._run(end, end.handlers.on_connected, peer.own)

    def _free(self, source: int, target: int) -> bool:
        return (source, target) not in self.blocked

    def redial(self) -> None:
        for one in sorted(self.gateways):
            for other in sorted(self.gateways):
                if one < other:
                    self.dial(one, other)

    def cut(self, one: int, other: int) -> None:
        """The connection breaks; all that is on its way is lost."""
        pair = _pair(one, other)
        if pair not in self._open:
            return
        self._open.discard(pair)
        self._epochs[pair] += 1
        self.broken += 1
        for way in (pair, pair[::-1]):
            self._held.pop(way, None)
        for slot, peer in (pair, pair[::-1]):
            end = self.gateways.get(slot)
            if end is not None:
                self._run(end, end.lost, peer)
        self.dial(one, other)

    def block(self, source: int, target: int) -> None:
        if (source, target) not in self.blocked:
            self.blocked.add((source, target))
            epoch = self._epochs.get(_pair(source, target), 0)
            self._after(SILENCE_US, self._silent, (source, target), epoch)

    def _silent(self, way: Way, epoch: int) -> None:
        if way in self.blocked and self._epochs.get(_pair(*way), 0) == epoch:
            self.cut(*way)

    def heal(self) -> None:
        """All ways are free again; what waited goes on."""
        self.blocked.clear()
        held, self._held = self._held, {}
        for way in sorted(held):
            for deliver in held[way]:
                self._after(self._delay_us(), deliver)
        self.redial()

    # --- messages ---

    def carry(self, source: int, target: int, arrive: Callable[[], None]) -> None:
        """`arrive` runs in the target's process when the message gets there over the present connection."""
        pair = _pair(source, target)
        if pair not in self._open:
            return
        self.sent += 1
        faults = self.faults
        copies = 1 + (faults.duplication_rate > 0 and self.random.randrange(1_000) < faults.duplication_rate)
        for _ in range(copies):
            deliver = partial(self._deliver, source, target, self._epochs[pair], arrive)
            self._after(self._delay_us(), deliver)

    def _deliver(self, source: int, target: int, epoch: int, arrive: Callable[[], None]) -> None:
        pair = _pair(source, target)
        if self._epochs[pair] != epoch or pair not in self._open:
            self.lost += 1
            return
        if not self._free(source, target):
            self._held.setdefault((source, target), []).append(
                partial(self._deliver, source, target, epoch, arrive)
            )
            return
        if self.faults.loss_rate and self.random.randrange(1_000) < self.faults.loss_rate:
            self.lost += 1
            self.cut(source, target)
            return
        end = self.gateways.get(target)
        if end is not None:
            self._run(end, arrive)

    def _run(self, end: SimGateway, action: Callable[..., None], *arguments: Any) -> None:
        self.loop.call_soon(action, *arguments, context=end.process.context)


class SimGateway:
    """Takes the place of `chain.net.Gateway` for one process."""

    def __init__(
        self,
        network: Network,
        process: Process,
        *,
        slot: int,
        own: ValidatorId,
        slots: dict[ValidatorId, int],
        handlers: GatewayHandlers,
    ) -> None:
        self.network = network
        self.process = process
        self.slot = slot
        self.own = own
        self.handlers = handlers
        self._slots = {peer: at for peer, at in slots.items() if peer != own}
        self._names = {at: peer for peer, at in slots.items()}
        self.allowed = frozenset(self._slots)
        self._waiting: dict[int, dict[asyncio.Future[bytes], None]] = {}  # by the slot asked, in order
        self.strangers: Counter[str] = Counter()
        self.counters: dict[ValidatorId, PeerCounters] = {peer: PeerCounters() for peer in self._slots}
        self.bytes_queued = 0
        self.duplicate_at: dict[ValidatorId, str] = {}

    # --- what a node calls ---

    async def start(self) -> None:
        self.network.join(self)

    async def stop(self) -> None:
        if self.network.gateways.get(self.slot) is self:
            self.network.leave(self.slot)

    def set_members(self, peers: Sequence[PeerConfig]) -> None:
        """Whom to speak with from now on; the others' connections are closed."""
        before, self.allowed = self.allowed, frozenset(ValidatorId(peer.validator) for peer in peers)
        for peer, slot in self._slots.items():
            if peer not in self.allowed:
                self.network.cut(self.slot, slot)
            elif peer not in before and self.network.gateways.get(self.slot) is self:
                self.network.dial(self.slot, slot)

    def reload_tls(self, files: object = None, *, own: ValidatorId | None = None) -> None:
        """There is no TLS here."""

    @property
    def peers(self) -> tuple[ValidatorId, ...]:
        return tuple(self._slots)

    def connected(self) -> tuple[ValidatorId, ...]:
        if not self.process.alive:
            return ()
        return tuple(peer for peer, slot in self._slots.items() if self.network.is_open(self.slot, slot))

    def send(self, peer: ValidatorId, channel: Channel, payload: bytes) -> bool:
        _check_size(payload)
        if not self.process.alive or not self.network.watcher.on_send(self, peer, channel, payload):
            return False
        return self._send(peer, channel, payload)

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        _check_size(payload)
        taken = 0
        if self.process.alive and self.network.watcher.on_send(self, None, channel, payload):
            for peer in self._slots:
                taken += self.process.alive and self._send(peer, channel, payload)
        return taken

    def _send(self, peer: ValidatorId, channel: Channel, payload: bytes) -> bool:
        slot = self._slots.get(peer)
        if slot is None or not self.network.is_open(self.slot, slot):
            return False
        target = self.network.gateways[slot]
        for data in self.network.watcher.bend(self, channel.name, payload):
            self.network.carry(self.slot, slot, partial(target.receive, self.own, channel, data))
        return True

    async def request(self, peer: ValidatorId, kind: int, payload: bytes, timeout_s: float) -> bytes:
        _check_size(payload)
        slot = self._slots.get(peer)
        if slot is None or not self.process.alive or not self.network.is_open(self.slot, slot):
            raise PeerFault("not_connected")
        waiting = self._waiting.setdefault(slot, {})
        if len(waiting) >= REQUESTS_MAX:
            raise PeerFault("too_many_requests")
        self.network.requests += 1
        answer: asyncio.Future[bytes] = self.network.loop.create_future()
        waiting[answer] = None
        try:
            target = self.network.gateways[slot]
            self.network.carry(self.slot, slot, partial(target.asked, self.slot, answer, kind, payload))
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            waiting.pop(answer, None)

    # --- what the network calls, in this process ---

    def receive(self, peer: ValidatorId, channel: Channel, payload: bytes) -> None:
        self.handlers.on_frame(peer, channel, payload)

    def asked(self, source: int, answer: asyncio.Future[bytes], kind: int, payload: bytes) -> None:
        self.network.loop.spawn(self.process, self._answer(source, answer, kind, payload))

    async def _answer(self, source: int, answer: asyncio.Future[bytes], kind: int, payload: bytes) -> None:
        fault = ""
        data = b""
        try:
            data = await self.handlers.on_request(self._names[source], kind, payload)
            _check_size(data)
        except BadInput as error:
            fault = f"refused: {error.code}"
        if not self.process.alive:
            return
        for bent in self.network.watcher.bend(self, f"ANSWER {kind}", data)[:1]:
            self.network.carry(self.slot, source, partial(_settle, answer, bent, fault))

    def lost(self, slot: int) -> None:
        for answer in list(self._waiting.pop(slot, ())):
            if not answer.done():
                answer.set_exception(PeerFault("connection_lost"))
        self.handlers.on_lost(self._names[slot])


def _settle(answer: asyncio.Future[bytes], data: bytes, fault: str) -> None:
    if answer.done():
        return
    if fault:
        answer.set_exception(PeerFault(fault))
    else:
        answer.set_result(data)


def _pair(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)


def _check_size(payload: bytes) -> None:
    if len(payload) > MESSAGE_BYTES_MAX:
        raise BadInput("too_large", f"a message of {len(payload)} bytes, at most {MESSAGE_BYTES_MAX}")
