"""Signed messages as bytes: canonical, and never longer than `MESSAGE_BYTES_MAX`."""

from __future__ import annotations

from typing import Final

from chain.codec import decode, encode
from chain.errors import BadInput, DecodeError
from chain.types import ADDRESS_BYTES, MESSAGE_BYTES_MAX, SIGNATURE_BYTES, ValidatorId
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    MessageType,
    NewView,
    Prepare,
    PrePrepare,
    Signed,
    Status,
    Verified,
    ViewChange,
)

_CLASSES: Final[dict[int, type[Message]]] = {
    MessageType.PRE_PREPARE: PrePrepare,
    MessageType.PREPARE: Prepare,
    MessageType.COMMIT: Commit,
    MessageType.CHECKPOINT: Checkpoint,
    MessageType.VIEW_CHANGE: ViewChange,
    MessageType.NEW_VIEW: NewView,
    MessageType.STATUS: Status,
}
_TYPES: Final[dict[type[Message], int]] = {kind: int(number) for number, kind in _CLASSES.items()}


def encode_signed(message: Signed[Message] | Verified[Message]) -> bytes:
    """Canonical bytes of (message type, sender, message, signature).

    Raises:
        BadInput: `message_too_large`, over `MESSAGE_BYTES_MAX`.
    """
    kind = _TYPES[type(message.message)]
    data = encode((kind, message.sender, encode(message.message), message.signature))
    if len(data) > MESSAGE_BYTES_MAX:
        raise BadInput("message_too_large", f"{len(data)} bytes where at most {MESSAGE_BYTES_MAX} are allowed")
    return data


def decode_signed(data: bytes) -> Signed[Message]:
    """The message that `data` encodes; shape and fixed lengths are checked, nothing else.

    Raises:
        DecodeError: too long, unknown type, of another shape, or not the canonical encoding.
    """
    number, sender, payload, signature = decode(tuple[int, bytes, bytes, bytes], data)
    kind = _CLASSES.get(number)
    if kind is None:
        raise DecodeError(f"message type {number}, must be {min(_CLASSES)}..{max(_CLASSES)}")
    if len(sender) != ADDRESS_BYTES:
        raise DecodeError(f"sender: {len(sender)} bytes, must be {ADDRESS_BYTES}")
    if len(signature) != SIGNATURE_BYTES:
        raise DecodeError(f"signature: {len(signature)} bytes, must be {SIGNATURE_BYTES}")
    return Signed(sender=ValidatorId(sender), message=decode(kind, payload), signature=signature)
