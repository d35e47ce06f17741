"""A short, bounded memory of what happened at each height, for people who debug."""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from chain.types import Height, Instant
from consensus.effects import (
    Abandon,
    Broadcast,
    Diverged,
    Effect,
    Execute,
    ObtainProposal,
    RequestProposal,
    Send,
    Speculate,
    Store,
)
from consensus.events import BlockFetched, Event, Executed, MessageReceived, ProposalPacked, ProposalRefused
from consensus.messages import Message, PrePrepare

STORY_LINES_MAX: Final = 512

Line: TypeAlias = tuple[Instant, Height, str]


class Story:
    """The last `STORY_LINES_MAX` events and effects that concern a height."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=STORY_LINES_MAX)

    def tell(self, now: Instant, event: Event, effects: list[Effect]) -> None:
        for height, text in (_of_event(event), *(_of_effect(effect) for effect in effects)):
            if height:
                self._lines.append((now, Height(height), text))

    def of(self, height: Height) -> list[tuple[Instant, str]]:
        """(time, what) of everything remembered about `height`, oldest first."""
        return [(at, text) for at, about, text in self._lines if about == height]


def _of_event(event: Event) -> tuple[int, str]:
    match event:
        case MessageReceived(message=verified):
            return _of_message(verified.message, f"from {verified.sender.hex()[:8]}")
        case ProposalPacked(view=view, proposal=proposal):
            return proposal.height, f"packed in view {view}"
        case ProposalRefused(height=height, reason=reason):
            return height, f"refused: {reason}"
        case Executed(header=header):
            return header.height, "executed"
        case BlockFetched(header=header):
            return header.height, "fetched"
        case _:
            return 0, ""


def _of_effect(effect: Effect) -> tuple[int, str]:
    match effect:
        case Broadcast(message=verified):
            return _of_message(verified.message, "to all")
        case Send(to=to, message=verified):
            return _of_message(verified.message, f"to {to.hex()[:8]}")
        case RequestProposal(view=view, height=height):
            return height, f"request in view {view}"
        case ObtainProposal(height=height, digest=digest, fresh=fresh):
            return height, f"obtain {digest.hex()[:8]}{' fresh' if fresh else ''}"
        case Abandon(height=height, digest=digest):
            return height, f"abandon {digest.hex()[:8]}"
        case Speculate(proposal=proposal):
            return proposal.height, "speculate"
        case Execute(proposal=proposal):
            return proposal.height, "execute"
        case Store(header=header):
            return header.height, "store"
        case Diverged(height=height, reason=reason):
            return height, f"diverged: {reason}"
        case _:
            return 0, ""


def _of_message(message: Message, direction: str) -> tuple[int, str]:
    view = getattr(message, "view", None)
    height: int = message.proposal.height if isinstance(message, PrePrepare) else getattr(message, "height", 0)
    digest = getattr(message, "digest", b"").hex()[:8]
    place = "" if view is None else f" view {view}"
    return height, f"{type(message).__name__}{place} {digest} {direction}"


