"""Validators that change who they are: weights, a member that leaves, and comes back."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, Final

from chain.codec import decode, unpack_trusted
from chain.crypto import PrivateKey, Scheme
from chain.model.block import Receipt
from chain.model.validators import ValidatorSet
from chain.sim.whole.client import Request
from contracts.system.members import possession_digest

if TYPE_CHECKING:
    from chain.sim.whole.member import Member
    from chain.sim.whole.world import World

PAUSE_MS: Final = (100, 1_500)
WEIGHT_MAX: Final = 3
VALIDATORS_MIN: Final = 4
Proposal = tuple[str, tuple[Any, ...]]


class Council:
    """Asks for one change after the other, and has the others approve it; some of it may fail."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random

    async def run(self) -> None:
        world = self._world
        for _ in range(world.plan.changes):
            await asyncio.sleep(self._random.randint(*PAUSE_MS) / 1_000)
            if not world.chaos:
                return
            await self._change()

    async def _change(self) -> None:
        world = self._world
        validators = world.promises.sets.at(world.height + 1)
        voters = [member for member in world.members if member.key.validator_id in validators]
        proposal = self._draw(validators)
        if proposal is None:
            return
        proposer = self._random.choice(voters)
        number = await self._call(proposer, *proposal)
        if number is not None:
            calls = [self._call(voter, "approve", (number,)) for voter in voters if voter is not proposer]
            await asyncio.gather(*calls)

    async def _call(self, member: Member, method: str, arguments: tuple[Any, ...]) -> int | None:
        """What the system contract answers to a member; None if it refuses."""
        request: Request = self._world.clients.system(_account(member), method, arguments)
        await self._world.clients.bring_through(request)
        block = self._world.promises.blocks.get(request.height)
        raw = None if block is None else block.receipts.get(request.hash)
        receipt = None if raw is None else decode(Receipt, raw)
        self._world.tell("****", f"{member.name} {method}: {receipt.error or 'done' if receipt else 'lost'}")
        if receipt is None or receipt.status:
            return None
        answer = unpack_trusted(receipt.result)
        return answer if isinstance(answer, int) else None

    def _draw(self, validators: ValidatorSet) -> Proposal | None:
        """A change after which those who lie still weigh little enough."""
        world, random = self._world, self._random
        member = random.choice(world.members)
        own, weight = member.key.validator_id, random.randint(1, WEIGHT_MAX)
        weights = {entry.id: entry.weight for entry in validators.members}
        removes = own in weights and len(weights) > VALIDATORS_MIN and random.random() < 0.6
        after = {**weights, own: 0 if removes else weight}
        lying = sum(after.get(other.key.validator_id, 0) for other in world.members if not other.honest)
        if 3 * lying >= sum(after.values()):
            return None
        if own not in weights:
            possession = _account(member).sign(
                possession_digest(chain_id=world.chain_id, public_key=member.key.public_key)
            )
            endpoint = f"127.0.0.1:{30_000 + member.slot}"
            return "propose_add", (member.name, member.key.public_key, weight, endpoint, possession)
        if removes:
            return "propose_remove", (own,)
        return "propose_weight", (own, weight)


def _account(member: Member) -> PrivateKey:
    return PrivateKey.from_secret(Scheme.ED25519, member.key.secret)
