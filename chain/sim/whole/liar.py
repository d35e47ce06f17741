"""What a validator that means ill makes of its own words: it serves, gossips and says what no honest one would.

It bends what an honest process says on its way out, so that a lie fits the moment. It has no key but its own.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from chain.codec import decode, encode
from chain.errors import DecodeError
from chain.model.block import Certificate
from chain.model.transaction import join_transaction, split_transaction
from chain.pool import TransactionsMessage
from chain.sync import RequestKind
from chain.sync.wire import BlocksAnswer, TransactionsAnswer

BEND_RATE = 250  # per mille of what it sends
HISTORY_MAX = 50


class Liar:
    """`lies` counts them by kind."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._history: dict[str, list[bytes]] = {}
        self.lies: dict[str, int] = {}

    def bend(self, channel: str, payload: bytes) -> list[bytes]:
        """The messages that go out in place of one."""
        random = self._random
        said = self._history.setdefault(channel, [])
        if len(said) < HISTORY_MAX:
            said.append(payload)
        elif random.random() < 0.2:
            said[random.randrange(HISTORY_MAX)] = payload
        if random.randrange(1_000) >= BEND_RATE or not payload:
            return [payload]
        answers = channel.startswith("ANSWER")
        if random.random() < 0.5:
            bent = self._false(channel, payload)
            if bent is not None:
                return [bent]
        match random.randrange(4):
            case 0:
                return self._tell("silent", [] if not answers else [b""])
            case 1:
                return self._tell("old", [random.choice(said)])
            case 2:
                return self._tell("cut", [payload[: random.randrange(len(payload))]])
            case _:
                at = random.randrange(len(payload))
                return self._tell("flipped", [payload[:at] + bytes((payload[at] ^ 0x11,)) + payload[at + 1 :]])

    def _tell(self, kind: str, words: list[bytes]) -> list[bytes]:
        self.lies[kind] = self.lies.get(kind, 0) + 1
        return words

    def _false(self, channel: str, payload: bytes) -> bytes | None:
        """A well-formed lie, or None where there is nothing to lie about."""
        try:
            if channel == f"ANSWER {int(RequestKind.BLOCKS)}":
                return self._false_blocks(decode(BlocksAnswer, payload))
            if channel == f"ANSWER {int(RequestKind.TRANSACTIONS)}":
                return self._false_bodies(decode(TransactionsAnswer, payload))
            if channel == "TRANSACTIONS":
                return self._false_bodies(decode(TransactionsMessage, payload))
        except DecodeError:
            return None
        return None

    def _false_blocks(self, answer: BlocksAnswer) -> bytes | None:
        """One block's certificate is not what it should be."""
        if not answer.blocks:
            return None
        blocks: list[Any] = list(answer.blocks)
        at = self._random.randrange(len(blocks))
        certificate = decode(Certificate, blocks[at].certificate)
        votes = certificate.signatures
        forged = self._random.choice(
            (votes[:1], votes[:1] * len(votes), votes[:1] + votes[: len(votes) - 1], (), votes[: len(votes) // 2])
        )
        certificate = msgspec.structs.replace(certificate, signatures=forged)
        blocks[at] = msgspec.structs.replace(blocks[at], certificate=encode(certificate))
        self._tell("certificate", [])
        return encode(msgspec.structs.replace(answer, blocks=tuple(blocks)))

    def _false_bodies(self, message: Any) -> bytes | None:
        """One transaction has a signature that is none."""
        if not message.transactions:
            return None
        raws = list(message.transactions)
        at = self._random.randrange(len(raws))
        body, signature = split_transaction(raws[at])
        raws[at] = join_transaction(body, signature[:-1] + bytes((signature[-1] ^ 1,)))
        self._tell("signature", [])
        return encode(msgspec.structs.replace(message, transactions=tuple(raws)))
