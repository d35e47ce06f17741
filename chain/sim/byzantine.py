"""Nodes that break the protocol with their own key: twins that contradict each other, and a liar.

Twins are two honest processes of one validator that know nothing of each other: both hear all, each speaks to its own
half, so that equivocation in every message type comes by itself. A liar bends single messages of an honest process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from chain.model.block import proposal_digest
from chain.types import ValidatorId
from consensus import encode_signed
from consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    SignedViewChange,
    Status,
    Verified,
    ViewChange,
)

if TYPE_CHECKING:
    from chain.sim.node import SimNode
    from chain.sim.world import World

HISTORY_MAX: Final = 300
BEND_RATE: Final = 80  # per mille of its messages, each kind of lie


class Byzantine:
    """Decides what the slots of dishonest validators put on the wire."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._halves: dict[int, frozenset[int]] = {}  # slot of a twin -> the slots it speaks to
        self._history: list[Verified[Message]] = []
        self.lies = 0

    def regroup(self) -> None:
        """Draw anew which half each twin speaks to."""
        world = self._world
        others = [node.slot for node in world.nodes if node.honest]
        for first, second in world.twins():
            world.random.shuffle(others)
            middle = world.random.randint(0, len(others))
            self._halves[first.slot] = frozenset(others[:middle])
            self._halves[second.slot] = frozenset(others[middle:])

    def speaks_to(self, source: int, target: int) -> bool:
        half = self._halves.get(source)
        return half is None or target in half

    def heard(self, message: Verified[Message]) -> None:
        """Remember what a dishonest node heard or said: for replays, and for the signatures on it."""
        if len(self._history) < HISTORY_MAX:
            self._history.append(message)
        else:
            self._history[self._world.random.randrange(HISTORY_MAX)] = message

    # --- the liar ---

    def bend(self, node: SimNode, message: Verified[Message]) -> list[bytes]:
        """The frames that a liar sends to one peer instead of its message."""
        random = self._world.random
        data = encode_signed(message)
        if message.sender != node.validator:
            return [data]
        self.heard(message)
        frames = [data]
        lie = random.randrange(1_000) // BEND_RATE
        if lie > 6:
            return frames
        self.lies += 1
        match lie:
            case 0:
                return []
            case 1:
                forged = self._contradict(node, message.message)
                return frames if forged is None else [forged]
            case 2:
                forged = self._contradict(node, message.message)
                return frames if forged is None else [data, forged]
            case 3:
                return [data, encode_signed(random.choice(self._history))]
            case 4:
                return [data, self._garbage(node)]
            case 5:
                return [data, *self._forgeries(random.choice(self._history))]
            case _:
                cut = random.randrange(len(data))
                return [data, data[:cut] + bytes((data[cut] ^ 0x11,)) + data[cut + 1 :]]

    def _forgeries(self, heard: Verified[Message]) -> list[bytes]:
        """Somebody's signature under what it was not given for: another type, view, height, digest or sender."""
        said = heard.message
        forged: list[Message] = []
        if isinstance(said, Prepare | Commit):
            view, height, digest = said.view, said.height, said.digest
            other = Commit if isinstance(said, Prepare) else Prepare
            forged = [
                other(view=view, height=height, digest=digest),
                type(said)(view=view + 1, height=height, digest=digest),
                type(said)(view=view, height=height + 1, digest=digest),
                type(said)(view=view, height=height, digest=digest[::-1]),
                Checkpoint(height=height, digest=digest),
            ]
        elif isinstance(said, PrePrepare):
            forged = [self.other_pre_prepare(said), msgspec.structs.replace(said, view=said.view + len(self._ids))]
        elif isinstance(said, ViewChange):
            forged = [
                msgspec.structs.replace(said, view=said.view + 1),
                msgspec.structs.replace(said, stable=None),
                msgspec.structs.replace(said, prepared=said.prepared[1:]),
            ]
        elif isinstance(said, NewView):
            forged = [msgspec.structs.replace(said, view_changes=self._bent_changes(said))]
        frames = [
            Verified(sender=heard.sender, message=lie, signature=heard.signature) for lie in forged if lie != said
        ]
        frames += [
            Verified(sender=member, message=said, signature=heard.signature)
            for member in self._ids
            if member != heard.sender
        ]
        return [encode_signed(frame) for frame in frames]

    def _bent_changes(self, said: NewView, *, but: int = -1) -> tuple[SignedViewChange, ...]:
        """The view-changes of a new view, one of them (not the one at `but`) robbed of what it proves."""
        at = self._world.random.choice([at for at in range(len(said.view_changes)) if at != but])
        return tuple(
            msgspec.structs.replace(change, message=msgspec.structs.replace(change.message, stable=None, prepared=()))
            if index == at
            else change
            for index, change in enumerate(said.view_changes)
        )

    def forged_new_view(self, node: SimNode, said: NewView, lie: str) -> bytes:
        """Well signed by its leader, and no certificate: `lie` is "robbed", "mixed" or "short"."""
        changes = list(said.view_changes)
        own = next(at for at, change in enumerate(changes) if change.sender == node.validator)
        if lie == "robbed":
            changes = list(self._bent_changes(said, but=own))
        elif lie == "mixed":
            later = msgspec.structs.replace(changes[own].message, view=said.view + 1)
            changes[own] = self._own_change(node, later)
        else:
            del changes[own]
        return self.signed(node, msgspec.structs.replace(said, view_changes=tuple(changes)))

    def _own_change(self, node: SimNode, message: ViewChange) -> SignedViewChange:
        signed = self._world.core.sign(node.validator, message)
        return SignedViewChange(sender=node.validator, message=message, signature=signed.signature)

    def _other_new_view(self, node: SimNode, said: NewView) -> NewView:
        """As valid as the first: its leader signs another view-change of its own for it."""
        changes = [
            self._own_change(node, msgspec.structs.replace(change.message, prepared=()))
            if change.sender == node.validator
            else change
            for change in said.view_changes
        ]
        return msgspec.structs.replace(said, view_changes=tuple(changes))

    @property
    def _ids(self) -> tuple[ValidatorId, ...]:
        return self._world.validators.ids()

    def signed(self, node: SimNode, message: Message) -> bytes:
        return encode_signed(self._world.core.sign(node.validator, message))

    def _contradict(self, node: SimNode, message: Message) -> bytes | None:
        match message:
            case PrePrepare():
                return self.signed(node, self.other_pre_prepare(message))
            case Prepare() | Commit() | Checkpoint():
                return self.signed(node, msgspec.structs.replace(message, digest=self._world.random.randbytes(32)))
            case ViewChange():
                return self.signed(node, msgspec.structs.replace(message, prepared=()))
            case NewView():
                return self.signed(node, self._other_new_view(node, message))
            case _:
                return None

    def other_pre_prepare(self, message: PrePrepare) -> PrePrepare:
        """Another proposal for the same view and height."""
        proposal = msgspec.structs.replace(message.proposal, timestamp_ms=message.proposal.timestamp_ms + 1)
        return PrePrepare(view=message.view, proposal=proposal)

    def _garbage(self, node: SimNode) -> bytes:
        """Well signed, and nonsense: near and far views and heights, digests of nothing."""
        random = self._world.random
        view = random.choice((node.view, node.view + 1, node.view + random.randrange(100), 2**48 - 1, 2**63 - 1))
        height = random.choice((0, 1, node.disk_blocks.height, random.randrange(200), 2**63 - 1))
        digest = random.randbytes(32)
        kind = random.randrange(5)
        message: Message
        if kind == 0:
            message = Prepare(view=view, height=height, digest=digest)
        elif kind == 1:
            message = Commit(view=view, height=height, digest=digest)
        elif kind == 2:
            message = Checkpoint(height=height, digest=digest)
        elif kind == 3:
            message = Status(view=view, changing=random.random() < 0.5, certified=height, ordered=height)
        else:
            message = ViewChange(view=view, stable=None, prepared=())
        return self.signed(node, message)

    def with_votes(self, message: PrePrepare) -> list[Message]:
        """A pre-prepare, and the leader's own votes for it."""
        height, digest = message.proposal.height, proposal_digest(message.proposal)
        return [
            message,
            Prepare(view=message.view, height=height, digest=digest),
            Commit(view=message.view, height=height, digest=digest),
        ]
