"""Events and messages as a line of text."""

from __future__ import annotations

from consensus.events import Event, MessageReceived
from consensus.messages import Message, Status


def text_of(event: Event) -> str:
    if not isinstance(event, MessageReceived):
        return type(event).__name__
    received = event.message
    return f"{_place(received.message)} {(received.digest or b'').hex()[:8]} of {received.sender.hex()[:6]}"


def _place(message: Message) -> str:
    text = type(message).__name__
    view = getattr(message, "view", None)
    proposal = getattr(message, "proposal", None)
    height = getattr(message, "height", None) if proposal is None else proposal.height
    if view is not None:
        text += f" v{view}"
    if height is not None:
        text += f" h{height}"
    if isinstance(message, Status):
        text += f" certified h{message.certified}, ordered h{message.ordered}"
    return text
