"""Chains whose validators weigh differently, and blocks as another node would send them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chain.model.block import Header, Proposal, header_hash
from chain.model.validators import ValidatorSet
from consensus.events import BlockFetched
from consensus.messages import MessageType
from tests.unit.consensus.members import Chain, execute


def weighted(*weights: int) -> Chain:
    """A chain of as many validators as there are weights."""
    chain = Chain(len(weights))
    chain.validators = ValidatorSet(
        msgspec.structs.replace(member, weight=weight)
        for member, weight in zip(chain.validators.members, weights, strict=True)
    )
    return chain


def fetched(
    chain: Chain, proposal: Proposal, parent: Header, *, signers: Iterable[int] = (0, 2, 3), gas_used: int = 0
) -> BlockFetched:
    """A certified block; another `gas_used` makes another header."""
    header = msgspec.structs.replace(execute(proposal, parent), gas_used=gas_used)
    certificate = chain.certificate(
        MessageType.CHECKPOINT, height=proposal.height, digest=header_hash(header), signers=signers
    )
    return BlockFetched(proposal=proposal, header=header, certificate=certificate)
