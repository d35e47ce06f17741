"""One honest replica as an automaton: its states are numbers, its steps a table which the real core fills on demand.

A state is what the replica has said, what it has taken of what the others said, and its deep state. The table is filled
a cell at a time: a copy of the replica takes the step, and the state that it comes to is looked up or added.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from chain.errors import InvariantError
from chain.sim.checkers import Violation
from chain.sim.explore.bounds import HONEST, WINDOW, Bounds
from chain.sim.explore.canonical import substance
from chain.sim.explore.member import RESTART, TIMEOUT, Life, Mail, Standing, is_void
from chain.sim.twins.cluster import Chain
from consensus.events import Timer
from consensus.messages import Commit, ViewChange

Array: TypeAlias = npt.NDArray[Any]

UNKNOWN: Final = -2  # a cell that is not filled
NOTHING: Final = -1  # a step that may as well be taken later, or not at all
CLOCK: Final = HONEST  # the column of the view timer; before it, those of a loss of the next message of each replica
REBOOT: Final = HONEST + 1  # the column of a restart
FIRST: Final = HONEST + 2  # the column of message number 0
SAID_MAX: Final = 24
LIVES_MAX: Final = 6_000  # replicas kept as they are, of a few kilobytes each; the others are played again

# The columns with an entry for each state, and what an entry is before the state is known, if not 0.
GROWING: Final = (
    "next", "said", "said_count", "taken", "lost", "restarts", "can_time_out", "is_mute", "has_entered", "view_change",
    "ordered", "standing", "menu_first", "menu_count",
)  # fmt: skip
EMPTY: Final = {"next": UNKNOWN, "said": -1, "view_change": -1, "menu_count": -1}


class Broken(Exception):
    """A promise broke at one step of one replica."""

    def __init__(self, violation: Violation, at: int, node: int, column: int) -> None:
        super().__init__(str(violation))
        self.at, self.node, self.column = at, node, column


class Automaton:
    """The states of one replica, by number, as columns of arrays; more of them come as steps are asked for."""

    def __init__(
        self, at: int, *, bounds: Bounds, chain: Chain, mail: Mail, honest: tuple[int, ...], plain: bool
    ) -> None:
        self._at, self._bounds, self._chain, self._mail, self._honest = at, bounds, chain, mail, honest
        self._plain = plain
        self._source = {chain.signers[validator].validator_id: index for index, validator in enumerate(honest)}
        self._ids: dict[object, int] = {}
        self._parents: list[tuple[int, int]] = []  # (state, column) from which each state was reached first
        self._lives: OrderedDict[int, Life] = OrderedDict()
        self._standings: list[Standing] = []
        self._standing_ids: dict[Standing, int] = {}
        self.count = 0
        self.next: Array = np.full((256, 64), UNKNOWN, np.int32)
        self.said: Array = np.full((256, SAID_MAX), -1, np.int16)
        self.said_count: Array = np.zeros(256, np.int8)
        self.taken: Array = np.zeros((256, HONEST), np.int8)
        self.lost: Array = np.zeros(256, np.int8)
        self.restarts: Array = np.zeros(256, np.int8)
        self.can_time_out: Array = np.zeros(256, bool)
        self.is_mute: Array = np.zeros(256, bool)  # it will never say anything again
        self.has_entered: Array = np.zeros(256, bool)  # the last view
        self.view_change: Array = np.full(256, -1, np.int16)  # the number of the one it has said
        self.ordered: Array = np.zeros((256, bounds.heights), np.int16)  # numbers of proposals, 0: none
        self.standing: Array = np.zeros(256, np.int16)
        self.void: Array = np.full((64, 64), -1, np.int8)  # (standing, message): 1 if it means nothing any more
        self.menu_first: Array = np.zeros(256, np.int32)
        self.menu_count: Array = np.full(256, -1, np.int16)
        self.menu_next: Array = np.zeros(256, np.int32)
        self.menu_column: Array = np.zeros(256, np.int16)
        self._menu_end = 0

    # --- states ---

    def begin(self) -> int:
        return self._intern(self._new_life(), (0,) * HONEST, 0, (-1, -1))

    def _new_life(self) -> Life:
        bounds = self._bounds
        return Life(
            self._chain,
            self._mail,
            validator=self._honest[self._at],
            window=WINDOW,
            heights=bounds.heights,
            checkpoints=bounds.checkpoints,
        )

    def life(self, node: int) -> Life:
        """The replica in this state, not to be changed."""
        life = self._lives.get(node)
        if life is not None:
            self._lives.move_to_end(node)
            return life
        columns = []
        above = node
        while above not in self._lives and self._parents[above][0] >= 0:
            above, column = self._parents[above]
            columns.append(column)
        life = self._lives[above].copy() if above in self._lives else self._new_life()
        for column in reversed(columns):
            _act(life, column)
        self._keep(node, life)
        return life

    def _keep(self, node: int, life: Life) -> None:
        self._lives[node] = life
        if len(self._lives) > LIVES_MAX:
            self._lives.popitem(last=False)

    def _intern(self, life: Life, taken: tuple[int, ...], lost: int, parent: tuple[int, int]) -> int:
        can_time_out = (
            self._bounds.timeouts and life.replica.view == 0 and Timer.VIEW in life.replica.armed_timers
        )
        said = tuple(life.said)
        key = (life.fingerprint(plain=self._plain), said, taken, lost, can_time_out, life.ordered, life.restarts)
        known = self._ids.get(key)
        if known is not None:
            return known
        node = self._ids[key] = self.count
        self.count += 1
        self._parents.append(parent)
        self._keep(node, life)
        self._grow()
        if len(said) >= SAID_MAX:
            raise InvariantError(f"{len(said)} messages of one replica, and the arrays have room for {SAID_MAX}")
        self.said[node, : len(said)] = said
        self.said_count[node] = len(said)
        self.taken[node], self.lost[node], self.can_time_out[node] = taken, lost, can_time_out
        messages = [self._mail.message(number) for number in said]
        asked = [number for number, message in zip(said, messages, strict=True) if isinstance(message, ViewChange)]
        self.view_change[node] = asked[0] if asked else -1
        view = self._bounds.last_view
        self.has_entered[node] = life.replica.view == view and not life.replica.is_changing
        commits = sum(isinstance(message, Commit) and message.view == view for message in messages)
        done = self.has_entered[node] and commits == self._bounds.heights
        self.restarts[node] = life.restarts
        self.is_mute[node] = done and not self._bounds.checkpoints and life.restarts == self._bounds.restarts
        for height, digest in life.ordered:
            self.ordered[node, height - 1] = self._mail.place(digest)
        standing = life.standing
        self.standing[node] = self._standing_ids.setdefault(standing, len(self._standings))
        if self.standing[node] == len(self._standings):
            self._standings.append(standing)
        return node

    def _grow(self) -> None:
        if self.count <= len(self.next):
            return
        for name in GROWING:
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.full_like(array, EMPTY.get(name, 0))]))

    def shown(self) -> set[tuple[object, ...]]:
        """What the others could see of this replica's states: (substance of what it said, proposals ordered)."""
        events, digests = self._mail.events, {number: digest for digest, number in self._mail.places.items()}
        return {
            (
                tuple(substance(events[number].message.message) for number in self.said[node] if number >= 0),
                tuple(digests.get(number) for number in self.ordered[node].tolist()),
            )
            for node in range(self.count)
        }

    # --- steps ---

    def after(self, nodes: Array, columns: Array) -> Array:
        """The states after these steps; NOTHING for one that is not taken. Raises Broken."""
        if not nodes.size:
            return np.zeros(0, np.int32)
        while int(columns.max()) >= self.next.shape[1]:
            self.next = _wider(self.next, UNKNOWN)
        after = self.next[nodes, columns]
        missing = np.flatnonzero(after == UNKNOWN)
        if missing.size:
            width = self.next.shape[1]
            for cell in np.unique(nodes[missing].astype(np.int64) * width + columns[missing]).tolist():
                self._fill(*divmod(cell, width))
            after = self.next[nodes, columns]
        return after

    def _fill(self, node: int, column: int) -> None:
        self.next[node, column] = NOTHING  # and so it stays if a promise breaks here
        try:
            found = self._follow(node, column)
        except Violation as violation:
            raise Broken(violation, self._at, node, column) from violation
        self.next[node, column] = found

    def _follow(self, node: int, column: int) -> int:
        taken, lost = self.taken[node].tolist(), int(self.lost[node])
        message = None if column < FIRST else self._mail.events[column - FIRST].message
        source = None if message is None else self._source.get(message.sender)
        if message is not None and source is None and is_void(message.message, self._standings[self.standing[node]]):
            return NOTHING  # the liar need not say it
        before = self.life(node)
        if column < CLOCK:
            taken[column] += 1
            return self._intern(before, tuple(taken), lost + 1, (node, column))
        life = before.copy()
        _act(life, column)
        moved = (len(life.said), life.ordered, life.place) != (len(before.said), before.ordered, before.place)
        if column == REBOOT:
            taken = [0] * HONEST
        if source is not None:
            taken[source] += 1
        elif message is not None and not moved:
            return NOTHING
        return self._intern(life, tuple(taken), lost, (node, column))

    def is_void(self, nodes: Array, messages: Array) -> Array:
        """Which of these messages mean nothing any more to the replica in these states."""
        while int(messages.max(initial=0)) >= self.void.shape[1]:
            self.void = _wider(self.void, -1)
        while len(self._standings) > len(self.void):
            self.void = _longer(self.void, -1)
        standings = self.standing[nodes]
        void = self.void[standings, messages]
        missing = np.flatnonzero(void < 0)
        if missing.size:
            for standing, number in {*zip(standings[missing].tolist(), messages[missing].tolist(), strict=True)}:
                self.void[standing, number] = is_void(self._mail.message(number), self._standings[standing])
            void = self.void[standings, messages]
        return np.equal(void, 1)

    def fill_menus(self, nodes: Array, menu: tuple[int, ...]) -> None:
        """Find which messages of the menu do anything in these states. Raises Broken."""
        for node in np.unique(nodes[self.menu_count[nodes] < 0]).tolist():
            columns = np.array(menu, np.int64) + FIRST
            after = self.after(np.full(len(menu), node), columns)
            found = np.flatnonzero((after != NOTHING) & (after != node))
            while self._menu_end + found.size > len(self.menu_next):
                self.menu_next, self.menu_column = _longer(self.menu_next, 0), _longer(self.menu_column, 0)
            place = slice(self._menu_end, self._menu_end + found.size)
            self.menu_next[place], self.menu_column[place] = after[found], columns[found]
            self.menu_first[node], self.menu_count[node] = self._menu_end, found.size
            self._menu_end += found.size


def _act(life: Life, column: int) -> None:
    if column >= CLOCK:  # a loss goes unnoticed
        life.act({CLOCK: TIMEOUT, REBOOT: RESTART}.get(column, column - FIRST))


def _longer(array: Array, empty: object) -> Array:
    return np.concatenate([array, np.full_like(array, empty)])


def _wider(array: Array, empty: object) -> Array:
    return np.concatenate([array, np.full_like(array, empty)], axis=1)


__all__ = ["CLOCK", "FIRST", "NOTHING", "REBOOT", "UNKNOWN", "Array", "Automaton", "Broken"]
