"""What happens in one run: who is doubled, and for each round who hears whom, who times out and what is held back."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from consensus.messages import Checkpoint, Commit, Message, NewView, Prepare, PrePrepare, Status, ViewChange

KINDS: Final[tuple[type[Message], ...]] = (PrePrepare, Prepare, Commit, Checkpoint, ViewChange, NewView, Status)
KIND_INDEX: Final[dict[type[Message], int]] = {kind: index for index, kind in enumerate(KINDS)}
PRE_PREPARE, PREPARE, COMMIT, CHECKPOINT, VIEW_CHANGE, NEW_VIEW, STATUS = (1 << index for index in range(len(KINDS)))
VOTES: Final = PRE_PREPARE | PREPARE | COMMIT | CHECKPOINT


class Order(enum.Enum):
    """Which of the messages on their way arrives next."""

    FIRST = "first"  # the oldest
    LAST = "last"  # the newest
    ANY = "any"  # drawn from the scenario's seed


class Late(enum.Enum):
    """What becomes, at the start of a round, of the messages that earlier rounds held back."""

    KEPT = "kept"  # they wait on
    WITHIN = "within"  # those arrive whose sender and receiver hear each other now
    ALL = "all"  # all of them arrive, whoever hears whom


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Messages of these kinds from these processes to those do not arrive in this round. All three are bit masks."""

    kinds: int
    sources: int
    targets: int

    def __str__(self) -> str:
        kinds = "+".join(kind.__name__ for index, kind in enumerate(KINDS) if self.kinds >> index & 1)
        return f"{kinds} {_members(self.sources)}->{_members(self.targets)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round lasts until no message is on its way. Processes are numbered; masks have bit i for process i.

    `driven` are timed out once, or until they wait for, or are in, a view that is led by validator `leader`.
    """

    groups: tuple[int, ...]  # the number of its group, for each process
    leader: int | None = None
    driven: int = 0
    proposals: int = 1  # that each leading process may make
    cuts: tuple[Cut, ...] = ()
    late: Late = Late.KEPT
    starved: int = 0  # those that do not get the bodies of fresh proposals in this round
    repeats: bool = True  # everybody's retransmission timer fires first
    crash: tuple[int, int] | None = None  # (process, after how many of its effects); it is back in the next round

    def __str__(self) -> str:
        count = max(self.groups) + 1
        masks = [sum(1 << at for at, own in enumerate(self.groups) if own == group) for group in range(count)]
        text = f"{' | '.join(map(_members, masks))}; up to {self.proposals} proposals"
        if self.driven:
            text += f"; {_members(self.driven)} time out"
            text += "" if self.leader is None else f" until {self.leader} leads"
        if self.cuts:
            text += "; without " + ", ".join(map(str, self.cuts))
        if self.starved:
            text += f"; {_members(self.starved)} get no bodies"
        if self.late is not Late.KEPT:
            text += f"; late messages: {self.late.value}"
        if self.crash is not None:
            text += f"; {self.crash[0]} crashes after {self.crash[1]} effects"
        return text + ("" if self.repeats else "; nothing said again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that a run depends on. Process i is validator i; those from `nodes` on are the second processes of
    the validators `twins`, in this order."""

    number: int
    nodes: int
    twins: tuple[int, ...]
    window: int
    rounds: tuple[Round, ...]
    order: Order = Order.FIRST
    seed: int = 0  # of `Order.ANY`
    eager: bool = True  # contents, execution and blocks are there before the next message; else after the last one
    stores_late: bool = False  # blocks become durable when the round is over
    refused: tuple[int, int] = (0, 0)  # (processes, leaders): those refuse what these propose afresh
    heals: bool = False  # at the end all hear all, and progress is demanded
    drops_twins: bool = False  # ... after the second processes are gone

    @property
    def processes(self) -> int:
        return self.nodes + len(self.twins)

    def validator(self, process: int) -> int:
        """Whose process it is."""
        return process if process < self.nodes else self.twins[process - self.nodes]

    def lines(self) -> list[str]:
        """The scenario for people."""
        traits = [f"window {self.window}", f"{self.order.value} message next"]
        traits += ["eager"] * self.eager + ["stores late"] * self.stores_late + ["heals"] * self.heals
        traits += ["without the second processes"] * self.drops_twins
        if self.refused[0]:
            traits.append(f"{_members(self.refused[0])} refuse proposals of {_members(self.refused[1])}")
        doubled = ", ".join(f"{self.nodes + at} is {twin}" for at, twin in enumerate(self.twins))
        head = f"scenario {self.number}: {self.nodes} validators, {doubled}; {', '.join(traits)}"
        return [head, *(f"round {at}: {each}" for at, each in enumerate(self.rounds))]


def members(mask: int) -> tuple[int, ...]:
    """The processes in a mask, ascending."""
    return tuple(at for at in range(mask.bit_length()) if mask >> at & 1)


def _members(mask: int) -> str:
    return "{" + ",".join(map(str, members(mask))) + "}"
