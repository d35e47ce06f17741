"""What a peer can be accused of, and the evidence for it."""

from __future__ import annotations

import enum

from chain.codec import encode
from chain.errors import HeadraceError
from chain.types import Digest, Height
from consensus.effects import Effect, ReportFault
from consensus.messages import Message, Verified
from consensus.wire import encode_signed


class FaultReason(enum.StrEnum):
    """The fixed list of `ReportFault.reason`."""

    EQUIVOCATION = "equivocation"  # two contradicting signed messages
    NOT_LEADER = "not_leader"  # a pre-prepare or new-view from a validator who does not lead that view
    OUT_OF_PLACE = "out_of_place"  # a fresh proposal at a height the new view has already filled
    DUPLICATE_TRANSACTION = "duplicate_transaction"  # one hash twice in a proposal, or in two live ones
    OWN_KEY_ELSEWHERE = "own_key_elsewhere"  # signed with this validator's key, and it has not said so


def report(out: list[Effect], *messages: Verified[Message], reason: FaultReason) -> None:
    """Accuse the sender of the last of `messages`; the evidence is the encodings of all of them."""
    evidence = encode(tuple(encode_signed(message) for message in messages))
    out.append(ReportFault(peer=messages[-1].sender, reason=reason.value, evidence=evidence))


class Divergence(HeadraceError):
    """Agreement does not hold between this node and a quorum: it must vote no more. Never leaves `Replica.step`."""

    def __init__(self, *, height: Height, own: Digest, certified: Digest | None, reason: str) -> None:
        super().__init__(f"{reason} at height {height}")
        self.height = height
        self.own = own
        self.certified = certified
        self.reason = reason
