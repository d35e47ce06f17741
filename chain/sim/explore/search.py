"""Every state that three honest replicas and a liar can reach within bounds, each visited once.

A state is a triple of replica states: what a replica has said, what it has taken of what the others said, and its deep
state are one node of `chain.sim.explore.member`, so what is on the way between them follows from the triple and is not
kept. From each state each possible step is taken: one replica takes in the next message of one other replica, or loses
it; hears something of the liar's menu; or times out.

What makes it small, and why nothing is lost by it:

- Contents, execution and the pool answer at once, within the step that asks. They concern one replica only; that they
  may also answer late is for the Twins generator.
- What one honest replica says to another arrives in the order in which it was said, as over one TCP connection, or is
  lost: `losses` bounds how many messages each replica may miss. What is never taken in counts as delayed, not as lost.
- A broadcast is a message to each; who has not taken it in yet is in the triple. A message taken in twice changes
  nothing and is not tried. Statuses and retransmissions are not tried: they only repeat.
- A replica's step depends on nothing but the replica, so its outcome is looked up, not played again, wherever the
  others stand. Steps of different replicas commute, and so do most messages to one: all orders meet in the same
  states, which are recognised by their digests.
- A message that means nothing any more (of a view its receiver has left, of a block it has) is taken in at once and
  alone: it does the same whenever it comes, which is nothing.
- What the liar says is heard when it makes a replica speak, order something or change its view, not before. A vote that
  only waits to be counted may as well come directly after the message with which it would have counted: it is the same
  votes then, and the same words in the same order. Its lone vote is never more than F, so it moves nothing else.
- All promises about one replica's words are checked when a node is made. Agreement is about two: it is checked for each
  triple in which something new was ordered. What is ordered stays ordered, so no order of steps can hide it.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from chain.sim.checkers import Violation
from chain.sim.explore.liar import Liar, Manner
from chain.sim.explore.member import TIMEOUT, Life, Mail, Node, is_stale
from chain.sim.twins.cluster import chain_of
from chain.sim.twins.story import text_of
from consensus.events import Timer
from consensus.messages import ViewChange

NODES: Final = 4
STATES_MAX: Final = 3_000_000  # some 600 MB
ID_BITS: Final = 21  # of a node's number within its replica
LOST: Final = 10  # added to a channel's number where its next message is lost
LIAR: Final = 20  # the channel of the menu
CLOCK: Final = 21  # the channel of the view timer
NOTHING: Final = -1
SKIP: Final = -2  # the action of a loss: the replica does not notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is tried; two views in any case: each replica may leave view 0 once."""

    manner: Manner
    heights: int = 2  # proposed at most, all of them in flight at once
    timeouts: bool = True  # else nobody leaves view 0 by himself
    checkpoints: bool = False  # whether checkpoint votes travel
    losses: int = 0  # messages that each replica may miss
    flight_max: int = 99  # messages on their way between the honest; states with more are not gone on from


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was reached. `exhausted`: nothing is left to try within the bounds."""

    bounds: Bounds
    states: int
    transitions: int
    replica_states: int
    cut: int  # states with too much on its way
    depth: int  # steps from the start
    ordered: int  # different heights that some state has ordered
    exhausted: bool
    problem: str
    story: tuple[str, ...]
    seconds: float


class Search:
    """Breadth first, so that a violation comes with a shortest story; or depth first."""

    def __init__(self, bounds: Bounds, *, deep: bool = False, states_max: int | None = None) -> None:
        self._bounds, self._deep, self._states_max = bounds, deep, states_max or STATES_MAX
        self._window = 2
        self._chain = chain_of(NODES, self._window)
        self._mail = Mail(self._chain, window=self._window)
        first = Life(
            self._chain, self._mail, validator=0, window=self._window, heights=bounds.heights, checkpoints=False
        ).proposal(0, 1)
        self._liar = Liar(
            self._chain, self._mail, manner=bounds.manner, heights=bounds.heights, honest_first=first
        )
        self._honest = tuple(at for at in range(NODES) if at != self._liar.validator)
        self._nodes: tuple[list[Node], ...] = ([], [], [])
        self._ids: tuple[dict[object, int], ...] = ({}, {}, {})
        self.transitions = 0

    # --- replicas ---

    def _life(self, at: int, node: Node | None) -> Life:
        bounds = self._bounds
        life = Life(
            self._chain,
            self._mail,
            validator=self._honest[at],
            window=self._window,
            heights=bounds.heights,
            checkpoints=bounds.checkpoints,
        )
        for action in [] if node is None else node.path():
            if action != SKIP:
                life.act(action)
        return life

    def _intern(self, at: int, node: Node, life: Life) -> int:
        node.said = tuple(life.said)
        node.ordered = life.ordered
        node.standing = life.standing
        node.fingerprint = life.fingerprint()
        armed = Timer.VIEW in life.replica.armed_timers
        node.can_time_out = self._bounds.timeouts and armed and life.replica.view == 0
        key = (node.fingerprint, node.said, node.taken, node.lost, node.can_time_out)
        known = self._ids[at].get(key)
        if known is None:
            known = self._ids[at][key] = len(self._nodes[at])
            self._nodes[at].append(node)
            node.view_changes = frozenset(
                number for number in node.said if isinstance(self._mail.message(number), ViewChange)
            )
        return known

    def _follow(self, at: int, node: Node, channel: int, number: int) -> int:
        """The node after a step; NOTHING if the step may as well be taken later."""
        known = node.next.get((channel, number))
        if known is not None:
            return known
        child = Node(parent=node, action=number, lost=node.lost)
        taken = list(node.taken)
        if channel < LIAR:
            taken[channel % LOST] += 1
        if channel in range(LOST, LIAR):
            child.action, child.lost = SKIP, node.lost + 1
        child.taken = tuple(taken)
        known = self._intern(at, child, self._life(at, child))
        after = self._nodes[at][known]
        moved = (after.said, after.ordered, after.standing) != (node.said, node.ordered, node.standing)
        if after is node or (channel == LIAR and not moved):
            known = NOTHING
        node.next[channel, number] = known
        return known

    # --- states ---

    def run(self, *, minutes: float = 1.0) -> Result:
        start = time.monotonic()
        until = start + 60 * minutes
        ids = [self._intern(at, Node(parent=None, action=SKIP), self._life(at, None)) for at in range(3)]
        first = self._pack(*ids)
        came: dict[int, int] = {first: -1}
        frontier: deque[tuple[int, int]] = deque([(first, 0)])
        problem, cut, deepest, stopped, last = "", 0, 0, False, first
        while frontier and not problem:
            if len(came) >= self._states_max or (self.transitions % 64 == 0 and time.monotonic() > until):
                stopped = True
                break
            state, depth = frontier.pop() if self._deep else frontier.popleft()
            deepest = max(deepest, depth)
            last = state
            try:
                if self._in_flight(state) > self._bounds.flight_max:
                    cut += 1
                    continue
                for successor in self._successors(state):
                    self.transitions += 1
                    if successor not in came:
                        came[successor] = state
                        last = successor
                        self._check(state, successor)
                        frontier.append((successor, depth + 1))
            except Violation as violation:
                problem = str(violation)
        return Result(
            bounds=self._bounds,
            states=len(came),
            transitions=self.transitions,
            replica_states=sum(map(len, self._nodes)),
            cut=cut,
            depth=deepest,
            ordered=len({entry for nodes in self._nodes for node in nodes for entry in node.ordered}),
            exhausted=not stopped and not problem,
            problem=problem,
            story=self._story(came, last) if problem else (),
            seconds=round(time.monotonic() - start, 1),
        )

    def _pack(self, first: int, second: int, third: int) -> int:
        return (first << ID_BITS | second) << ID_BITS | third

    def _unpack(self, state: int) -> tuple[int, int, int]:
        mask = (1 << ID_BITS) - 1
        return state >> 2 * ID_BITS, state >> ID_BITS & mask, state & mask

    def _triple(self, state: int) -> tuple[Node, ...]:
        return tuple(nodes[number] for nodes, number in zip(self._nodes, self._unpack(state), strict=True))

    def _in_flight(self, state: int) -> int:
        triple = self._triple(state)
        return sum(
            len(source.said) - target.taken[self._honest[at]]
            for at, source in enumerate(triple)
            for target in triple
            if target is not source
        )

    def _successors(self, state: int) -> list[int]:
        triple = self._triple(state)
        ids = self._unpack(state)
        said = frozenset().union(*(node.view_changes for node in triple))
        menu = self._liar.available(said)
        stale = self._stale_step(triple)
        if stale is not None:
            at, channel, number = stale
            changed = list(ids)
            changed[at] = self._follow(at, triple[at], channel, number)
            return [self._pack(*changed)]
        found = []
        for at, node in enumerate(triple):
            for channel, number in self._steps(at, node, triple, menu):
                after = self._follow(at, node, channel, number)
                if after != NOTHING:
                    changed = list(ids)
                    changed[at] = after
                    found.append(self._pack(*changed))
        return found

    def _stale_step(self, triple: tuple[Node, ...]) -> tuple[int, int, int] | None:
        """(replica, channel, message) of a message next in line that means nothing any more, if there is one."""
        for at, node in enumerate(triple):
            for other, source in enumerate(triple):
                channel = self._honest[other]
                position = node.taken[channel]
                if other == at or position >= len(source.said):
                    continue
                number = source.said[position]
                stale = node.stale.get(number)
                if stale is None:
                    stale = node.stale[number] = is_stale(self._mail.message(number), node.standing)
                if stale:
                    return at, channel, number
        return None

    def _steps(
        self, at: int, node: Node, triple: tuple[Node, ...], menu: tuple[int, ...]
    ) -> list[tuple[int, int]]:
        """What may happen to one replica now: (channel, message)."""
        steps: list[tuple[int, int]] = []
        for other, source in enumerate(triple):
            channel = self._honest[other]
            position = node.taken[channel]
            if other != at and position < len(source.said):
                steps.append((channel, source.said[position]))
                if node.lost < self._bounds.losses:
                    steps.append((LOST + channel, source.said[position]))
        steps += [(LIAR, number) for number in menu]
        if node.can_time_out:
            steps.append((CLOCK, TIMEOUT))
        return steps

    def _check(self, before: int, after: int) -> None:
        """Agreement, where a replica has ordered something in this step."""
        old, new = self._triple(before), self._triple(after)
        if all(one.ordered == other.ordered for one, other in zip(old, new, strict=True)):
            return
        ordered: dict[int, bytes] = {}
        for node in new:
            for height, digest in node.ordered:
                if ordered.setdefault(height, digest) != digest:
                    raise Violation("agreement", f"two proposals ordered at h{height}")

    def _story(self, came: dict[int, int], state: int) -> tuple[str, ...]:
        """How `state` was reached, a step a line."""
        states = [state]
        while came[states[-1]] >= 0:
            states.append(came[states[-1]])
        lines = []
        for before, after in zip(states[:0:-1], states[-2::-1], strict=True):
            for at, (old, new) in enumerate(zip(self._triple(before), self._triple(after), strict=True)):
                for (channel, number), _ in (item for item in old.next.items() if old is not new):
                    if self._nodes[at][old.next[channel, number]] is new:
                        lines.append(f"n{self._honest[at]} {self._step_text(channel, number)}")
                        break
        return tuple(lines)

    def _step_text(self, channel: int, number: int) -> str:
        if channel == CLOCK:
            return "times out"
        text = text_of(self._mail.events[number])
        verb = "misses" if LOST <= channel < LIAR else "hears"
        return f"{verb} {text}"


__all__ = ["Bounds", "Manner", "Result", "Search"]
