"""The states of all three replicas together, many at a time.

A state is three numbers, one of each replica's automaton, packed into one integer. What is on the way between them
follows from them: what one has said and another has not taken.
"""

from __future__ import annotations

from itertools import permutations
from typing import Final

import numpy as np

from chain.sim.explore.automaton import CLOCK, FIRST, NOTHING, REBOOT, Array, Automaton
from chain.sim.explore.bounds import HONEST, Bounds
from chain.sim.explore.liar import Liar, Manner

ID_BITS: Final = 21  # of a replica's state
RESTARTED: Final = 1_000  # more than all messages
ALL: Final = HONEST  # instead of the one replica that is stepped


class Space:
    """Steps from sets of states to sets of states. Raises Broken where a promise breaks at a step."""

    def __init__(self, automata: tuple[Automaton, ...], *, bounds: Bounds, liar: Liar, reduced: bool) -> None:
        self._automata, self._bounds, self._liar, self._reduced = automata, bounds, liar, reduced
        self._makes_new_views = bounds.manner is Manner.LEADS_NEXT and bounds.timeouts
        self._new_views: Array = np.full((64, 64), -1, np.int32)  # (view-change, view-change) -> new-view

    def pack(self, ids: list[Array]) -> Array:
        first, second, third = (part.astype(np.int64) for part in ids)
        return (first << ID_BITS | second) << ID_BITS | third

    def unpack(self, states: Array) -> list[Array]:
        mask = (1 << ID_BITS) - 1
        return [states >> 2 * ID_BITS, states >> ID_BITS & mask, states & mask]

    def progress(self, states: Array) -> Array:
        """How many messages have been taken in since so and so many restarts: no step makes it less, and of the steps
        one after the other only finitely many leave it."""
        ids = self.unpack(states)
        pairs = zip(self._automata, ids, strict=True)
        counts: list[Array] = [
            automaton.taken[part].sum(axis=1) + RESTARTED * automaton.restarts[part].astype(np.int64)
            for automaton, part in pairs
        ]
        return counts[0] + counts[1] + counts[2]

    def disagreeing(self, states: Array) -> Array:
        """The states in which two replicas have ordered different proposals at one height."""
        ordered = [automaton.ordered[part] for automaton, part in zip(self._automata, self.unpack(states), strict=True)]
        wrong = np.zeros(states.size, bool)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            both = (ordered[one] != 0) & (ordered[other] != 0)
            wrong |= (both & (ordered[one] != ordered[other])).any(axis=1)
        return states[wrong]

    def heads(self, ids: list[Array]) -> dict[tuple[int, int], Array]:
        """For (target, source) the message next in line in each state; -1: none is on its way."""
        found = {}
        for target, source in permutations(range(HONEST), 2):
            position = self._automata[target].taken[ids[target], source]
            found[target, source] = self._automata[source].said[ids[source], position]
        return found

    def settled(self, states: Array) -> Array:
        """Each state after all messages next in line that mean nothing any more are taken in."""
        if not self._reduced:
            return states
        ids = self.unpack(states)
        moving = np.arange(states.size)
        while moving.size:
            part = [node[moving] for node in ids]
            moved = np.zeros(moving.size, bool)
            for target, source in permutations(range(HONEST), 2):
                automaton = self._automata[target]
                position = automaton.taken[part[target], source]
                head = self._automata[source].said[part[source], position]
                at = np.flatnonzero(head >= 0)
                at = at[automaton.is_void(part[target][at], head[at]) | self._listens_only(target, part[target][at])]
                after = automaton.after(part[target][at], FIRST + head[at])
                at, after = at[after != NOTHING], after[after != NOTHING]
                part[target][at] = after
                moved[at] = True
            for node, new in zip(ids, part, strict=True):
                node[moving] = new
            moving = moving[moved]
        return self.pack(ids)

    def _listens_only(self, target: int, nodes: Array) -> Array:
        """Where a replica will say nothing more: it counts what it hears, and the order makes no difference."""
        return self._automata[target].is_mute[nodes] & (self._bounds.losses == 0)

    def steps(self, states: Array) -> tuple[Array, Array, Array, Array]:
        """(state after, index of the state before, replica, column) of all steps that are taken from these states."""
        ids = self.unpack(states)
        heads = self.heads(ids)
        chosen = self._chosen(ids, heads)
        found: list[tuple[Array, Array, Array, Array]] = []
        for target in range(HONEST):
            index = np.flatnonzero((chosen == target) | (chosen == ALL))
            shift = ID_BITS * (HONEST - 1 - target)
            for at, columns, after in self._of_one(target, index, ids, heads):
                at, columns, after = (part[after != NOTHING] for part in (at, columns, after))
                clear = states[at] & ~(((1 << ID_BITS) - 1) << shift)
                found.append((clear | after.astype(np.int64) << shift, at, np.full(at.size, target), columns))
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]

    def _of_one(
        self, target: int, index: Array, ids: list[Array], heads: dict[tuple[int, int], Array]
    ) -> list[tuple[Array, Array, Array]]:
        """(index, column, replica's state after) of what may happen to one replica in the states with these indices."""
        automaton, nodes = self._automata[target], ids[target]
        tried: list[tuple[Array, Array]] = []
        for source in range(HONEST):
            if source != target:
                at = index[heads[target, source][index] >= 0]
                tried.append((at, FIRST + heads[target, source][at]))
                at = at[automaton.lost[nodes[at]] < self._bounds.losses]
                tried.append((at, np.full(at.size, source)))
        at = index[automaton.can_time_out[nodes[index]]]
        tried.append((at, np.full(at.size, CLOCK)))
        at = index[automaton.restarts[nodes[index]] < self._bounds.restarts]
        tried.append((at, np.full(at.size, REBOOT)))
        if self._makes_new_views:
            tried += self._new_view_steps(target, index, ids)
        found = [(at, columns, automaton.after(nodes[at], columns)) for at, columns in tried]
        found.append(self._menu_steps(automaton, index, nodes))
        return found

    def _menu_steps(self, automaton: Automaton, index: Array, nodes: Array) -> tuple[Array, Array, Array]:
        automaton.fill_menus(nodes[index], self._liar.always)
        counts = automaton.menu_count[nodes[index]].astype(np.int64)
        at = np.repeat(index, counts)
        place = np.arange(at.size) - np.repeat(np.cumsum(counts) - counts, counts) + automaton.menu_first[nodes[at]]
        return at, automaton.menu_column[place], automaton.menu_next[place]

    def _new_view_steps(self, target: int, index: Array, ids: list[Array]) -> list[tuple[Array, Array]]:
        index = index[~self._automata[target].has_entered[ids[target][index]]]
        asked = [automaton.view_change[part[index]] for automaton, part in zip(self._automata, ids, strict=True)]
        tried = []
        for one, other in ((0, 1), (0, 2), (1, 2)):
            both = np.flatnonzero((asked[one] >= 0) & (asked[other] >= 0))
            tried.append((index[both], FIRST + self._new_view_of(asked[one][both], asked[other][both])))
        return tried

    def _new_view_of(self, one: Array, other: Array) -> Array:
        while max(one.max(initial=0), other.max(initial=0)) >= len(self._new_views):
            size = len(self._new_views)
            self._new_views = np.pad(self._new_views, (0, size), constant_values=-1)
        found = self._new_views[one, other]
        missing = np.flatnonzero(found < 0)
        if missing.size:
            for pair in {*zip(one[missing].tolist(), other[missing].tolist(), strict=True)}:
                self._new_views[pair] = self._liar.new_view(*pair)
            found = self._new_views[one, other]
        return found

    def _chosen(self, ids: list[Array], heads: dict[tuple[int, int], Array]) -> Array:
        """The replica whose steps are enough to go on from each state, or ALL."""
        chosen = np.full(ids[0].size, ALL, np.int8)
        if not self._reduced:
            return chosen
        mute = [automaton.is_mute[part] for automaton, part in zip(self._automata, ids, strict=True)]
        settled = [
            automaton.has_entered[part] | (automaton.view_change[part] >= 0)
            for automaton, part in zip(self._automata, ids, strict=True)
        ]
        for target in range(HONEST):
            one, other = (source for source in range(HONEST) if source != target)
            heard, overheard = heads[target, one] >= 0, heads[target, other] >= 0
            enough = (heard | mute[one]) & (overheard | mute[other]) & (heard | overheard)
            if self._makes_new_views:
                has_entered = self._automata[target].has_entered[ids[target]]
                enough &= has_entered | (settled[one] & settled[other])
            chosen[enough & (chosen == ALL)] = target
        return chosen


__all__ = ["ALL", "Space"]
