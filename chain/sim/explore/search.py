"""Every state that three honest replicas and a liar can reach within bounds, each visited once.

A state is a triple of replica states: what a replica has said, what it has taken of what the others said, and its deep
state are one number of `chain.sim.explore.automaton`, so what is on the way between them follows from the triple and
is not kept. One step: a replica takes in the next message of one other replica, or loses it; hears something of the
liar's menu; times out; or restarts.

What the plans leave out:

- Contents, execution and the pool answer at once, within the step that asks. They concern one replica only; that they
  may also answer late is for the Twins generator.
- What one honest replica says to another arrives in the order in which it was said, as over one TCP connection, or is
  lost: `losses` bounds how many messages each replica may miss. What is never taken in counts as delayed, not as lost.
- A replica that restarts, between two steps, has its journal, and hears again all that the others have said so far and
  will say. What it says again is heard by nobody a second time. A crash in the middle of a step is for Twins.
- A broadcast is a message to each; who has not taken it in yet is in the triple. A message taken in twice changes
  nothing and is not tried. Statuses and retransmissions are not tried: they only repeat.
- What the liar says is heard when it makes a replica speak, order something or change its view, not before. A vote that
  only waits to be counted may as well come directly after the message with which it would have counted: it is the same
  votes then, and the same words in the same order. Its lone vote is never more than F, so it moves nothing else.

What makes the rest small, and why nothing is lost by it (`reduced=False` and `plain=True` do without, and a test
compares all that the replicas can say and order):

- A replica's step depends on nothing but the replica, so the core takes it once; wherever the others stand, its outcome
  is looked up. States that differ in nothing that can still matter are one (`chain.sim.explore.canonical`).
- A message that means nothing any more (`member.is_void`) is taken in at once: it does the same whenever it comes,
  which is nothing, and nothing that happens can make it mean something again, but a restart, and then it comes again.
- A replica that has said its commits for all heights in the last view says nothing more. It takes in at once what is
  next in line: the others notice nothing of it, and votes are counted alike in any order.
- Steps of different replicas commute: none can undo what another may do. So, where nothing the others might still say
  can give one replica another step than it has now, it is enough to let that replica step: a *persistent set*
  (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996, chapter 4). That is so if a
  message of each of the others is next in line for it, or its sender will never say anything again; and, where the liar
  leads view 1, if no other view-change of an honest replica can come, of which it could make another new-view, or this
  replica has entered the view. Each step uses up a message or changes a replica for good, so no execution is endless;
  hence every execution has its like among those that are visited, in which each replica goes through the same states,
  and ends in the same one.
- All promises about one replica's words are checked when the core takes a step. Agreement is about two: it is checked
  in every state visited. What is ordered stays ordered, so it shows at the end of an execution if not before.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from chain.sim.explore.automaton import CLOCK, FIRST, REBOOT, Array, Automaton, Broken
from chain.sim.explore.bounds import NODES, WINDOW, Bounds
from chain.sim.explore.liar import Liar, Manner
from chain.sim.explore.member import Life, Mail
from chain.sim.explore.space import Space
from chain.sim.twins.cluster import chain_of
from chain.sim.twins.story import text_of

T = TypeVar("T")

STATES_MAX: Final = 250_000_000  # of 8 bytes each
CHUNK: Final = 500_000  # states that are gone on from at a time
MERGE: Final = 4_000_000  # states that are kept before doubles among them are dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was reached. `exhausted`: nothing is left to try within the bounds."""

    bounds: Bounds
    states: int
    transitions: int
    replica_states: int
    replica_steps: int  # played by the core
    ordered: int  # different proposals that some state has ordered
    exhausted: bool
    problem: str
    story: tuple[str, ...]
    seconds: float
    cpu_seconds: float
    memory_mb: int  # at most, of the whole process so far


class Search:
    """By restarts and how many messages have been taken in, the fewest first; so nothing is visited twice."""

    def __init__(
        self, bounds: Bounds, *, reduced: bool = True, plain: bool = False, states_max: int | None = None
    ) -> None:
        """`reduced`: False to take every step from every state; `plain`: to tell more states of a replica apart."""
        self._bounds, self._states_max = bounds, states_max or STATES_MAX
        self._chain = chain_of(NODES, WINDOW)
        self.mail = Mail(self._chain, window=WINDOW)
        first = Life(
            self._chain, self.mail, validator=0, window=WINDOW, heights=bounds.heights, checkpoints=False
        ).proposal(0, 1)
        liar = Liar(self._chain, self.mail, manner=bounds.manner, heights=bounds.heights, honest_first=first)
        self._honest = tuple(at for at in range(NODES) if at != liar.validator)
        self.automata = tuple(
            Automaton(at, bounds=bounds, chain=self._chain, mail=self.mail, honest=self._honest, plain=plain)
            for at in range(len(self._honest))
        )
        self.space = Space(self.automata, bounds=bounds, liar=liar, reduced=reduced)
        self._waiting: dict[int, list[Array]] = {}  # states reached and not gone on from, by messages taken in
        self._visited: list[Array] = []  # states gone on from, those of one number of messages each, ascending
        self._broken = ""
        self.states = self.transitions = 0

    def run(self, *, minutes: float = 1.0) -> Result:
        start, cpu = time.monotonic(), time.process_time()
        until = start + 60 * minutes
        story: tuple[str, ...] = ()
        stopped = False
        first = self.space.pack([np.array([automaton.begin()]) for automaton in self.automata])
        self._waiting = {0: [first]}
        while self._waiting and not stopped and not self._broken:
            taken = min(self._waiting)
            fresh = _united(self._waiting.pop(taken))
            self._visited.append(fresh[:0])
            while fresh.size and not stopped:
                self.states += fresh.size
                self._visited[-1] = _united([self._visited[-1], fresh])
                inside: list[Array] = []
                for at in range(0, fresh.size, CHUNK):
                    if self.states >= self._states_max or time.monotonic() > until:
                        stopped = True
                        break
                    chunk = fresh[at : at + CHUNK]
                    story = self._go_on(chunk, taken, inside)
                    if self._broken:
                        break
                fresh = fresh[:0] if self._broken else _without(_united(inside), self._visited[-1])
        return Result(
            bounds=self._bounds,
            states=self.states,
            transitions=self.transitions,
            replica_states=sum(automaton.count for automaton in self.automata),
            replica_steps=sum(int((automaton.next >= 0).sum()) for automaton in self.automata),
            ordered=len({*np.concatenate([automaton.ordered.ravel() for automaton in self.automata]).tolist()} - {0}),
            exhausted=not stopped and not self._broken,
            problem=self._broken,
            story=story,
            seconds=round(time.monotonic() - start, 1),
            cpu_seconds=round(time.process_time() - cpu, 1),
            memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )

    def _go_on(self, chunk: Array, taken: int, inside: list[Array]) -> tuple[str, ...]:
        """Take all steps from these states. The story of a broken promise, if one breaks."""
        reached = chunk
        try:
            reached, *_ = self.space.steps(chunk)
            self.transitions += reached.size
            reached = _once(reached)
            settled = _once(self.space.settled(reached))
        except Broken as broken:
            self._broken = str(broken)
            return self._story_of_step(reached, broken)
        wrong = self.space.disagreeing(settled)
        if wrong.size:
            self._broken = "agreement: two proposals ordered at one height"
            return self._story(int(wrong[0]))
        counts = self.space.progress(settled)
        for count in np.unique(counts).tolist():
            states = settled[counts == count]
            if count == taken:
                inside.append(states)
            else:
                parts = self._waiting.setdefault(count, [])
                parts.append(states)
                if sum(part.size for part in parts[1:]) > max(MERGE, parts[0].size):
                    self._waiting[count] = [_united(parts)]
        return ()

    # --- how it came to a state ---

    def _story_of_step(self, states: Array, broken: Broken) -> tuple[str, ...]:
        """`states` are those from which the step was tried, of those of this replica's state some."""
        ids = self.space.unpack(states)
        for at in np.flatnonzero(ids[broken.at] == broken.node).tolist():
            heads = self.space.heads([part[at : at + 1] for part in ids])
            next_in_line = [FIRST + int(heads[broken.at, source][0]) for target, source in heads if target == broken.at]
            sender = None if broken.column < FIRST else self.mail.events[broken.column - FIRST].message.sender
            is_honest = sender in {self._chain.signers[validator].validator_id for validator in self._honest}
            if broken.column in next_in_line or not is_honest:
                return (*self._story(int(states[at])), self._text(broken.at, broken.column))
        return ()

    def _story(self, state: int) -> tuple[str, ...]:
        """How `state` was reached, a step a line, but for taking in what means nothing any more."""
        lines: list[str] = []
        for visited in reversed(self._visited):
            at: tuple[int, str] | None = (state, "")
            while at is not None:
                at = self._before(at[0], visited)
                if at is not None:
                    state = at[0]
                    lines.append(at[1])
        return tuple(lines[::-1])

    def _before(self, state: int, visited: Array) -> tuple[int, str] | None:
        """(a state of these from which a step leads to `state`, the step), if there is one."""
        for start in range(0, visited.size, CHUNK):
            chunk = visited[start : start + CHUNK]
            reached, index, replicas, columns = _in_spite_of_all(self.space.steps, chunk)
            settled = _in_spite_of_all(self.space.settled, reached)
            found = np.flatnonzero(((reached == state) | (settled == state)) & (chunk[index] != state))
            if found.size:
                at = found[0]
                return int(chunk[index[at]]), self._text(int(replicas[at]), int(columns[at]))
        return None

    def _text(self, at: int, column: int) -> str:
        name = f"n{self._honest[at]}"
        if column < CLOCK:
            return f"{name} misses the next message of n{self._honest[column]}"
        if column == CLOCK:
            return f"{name} times out"
        if column == REBOOT:
            return f"{name} restarts"
        return f"{name} hears {text_of(self.mail.events[column - FIRST])}"


def _in_spite_of_all(steps: Callable[[Array], T], states: Array) -> T:
    """Without those steps at which a promise breaks: once that is known, they are not taken."""
    while True:
        try:
            return steps(states)
        except Broken:
            continue


def _united(parts: list[Array]) -> Array:
    """All states of these, ascending, each once."""
    return _once(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _once(states: Array) -> Array:
    """Ascending, without doubles. Sorting is faster than the hashing of `np.unique`."""
    ordered = np.sort(states)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if ordered.size else ordered


def _without(states: Array, others: Array) -> Array:
    """Those of these that are not among the others, which are ascending."""
    if not others.size:
        return states
    place = np.minimum(np.searchsorted(others, states), others.size - 1)
    return np.delete(states, np.flatnonzero(others[place] == states))


__all__ = ["Bounds", "Manner", "Result", "Search"]
