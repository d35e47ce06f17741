"""The explicit-state search: small plans to their end, the reductions against the whole, and planted bugs."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from chain.sim.explore.__main__ import PLANS, conclusion, main
from chain.sim.explore.automaton import FIRST, NOTHING, Automaton
from chain.sim.explore.member import TIMEOUT, Life
from chain.sim.explore.search import Search
from consensus.messages import Commit, ViewChange
from tests.sim.twins.bugs import BUGS, EXPLORED
from tests.sim.twins.planted import explored

RESTARTS = replace(PLANS["silent, 1 height, 1 view"], restarts=1)


@pytest.mark.parametrize(
    ("plan", "states", "all_states", "all_steps"),
    [
        ("silent, 1 height, 1 view", 66, 216, 642),
        ("silent, 1 height, 1 view, checkpoint votes", 223, 351, 1_050),
        ("leads view 1, 1 height, 1 view", 94, 2_735, 12_434),
        ("leads view 0, 1 height, 1 view", 727, 9_649, 41_124),
    ],
)
def test_small_plans_are_exhausted_and_no_promise_breaks(
    plan: str, states: int, all_states: int, all_steps: int
) -> None:
    """The counts on the right were found by another search, which knew nothing of numbers, tables and reductions."""
    reduced, whole = Search(PLANS[plan]), Search(PLANS[plan], reduced=False)
    for search in (reduced, whole):
        result = search.run()
        assert result.problem == ""
        assert result.exhausted
        assert result.ordered > 0
    assert (whole.states, whole.transitions) == (all_states, all_steps)
    assert reduced.states == states


@pytest.mark.parametrize(
    ("plan", "states", "times"),
    [
        ("silent, 1 height, 2 views", 100_000, 20),
        ("silent, 1 height, 1 view, 1 restart of each", 5_000, 2),
        ("leads view 1, 1 height, 1 view", 2_000, 20),
    ],
)
def test_the_reduced_search_shows_all_that_the_whole_one_shows(plan: str, states: int, times: int) -> None:
    """Everything a replica may say, in this order, and order: with and without reductions, states told apart or not."""
    bounds = {**PLANS, "silent, 1 height, 1 view, 1 restart of each": RESTARTS}[plan]
    whole, reduced = Search(bounds, reduced=False, plain=True), Search(bounds)
    every, few = whole.run(), reduced.run()
    assert every.exhausted
    assert few.exhausted
    assert every.states > states
    assert few.states < every.states / times
    for one, other in zip(whole.automata, reduced.automata, strict=True):
        assert one.shown() == other.shown()


@pytest.fixture(scope="module")
def explored_views() -> Search:
    search = Search(PLANS["silent, 1 height, 2 views"])
    search.run()
    return search


def test_what_means_nothing_changes_nothing_and_never_means_anything_again(explored_views: Search) -> None:
    messages = np.arange(len(explored_views.mail.events))
    void_steps = 0
    for automaton in explored_views.automata:
        for node in range(automaton.count):
            void = messages[automaton.is_void(np.full(messages.size, node), messages)]
            after = automaton.next[node]
            for reached in np.unique(after[after >= 0]).tolist():
                assert automaton.is_void(np.full(void.size, reached), void).all()
            for number in void.tolist():
                reached = int(automaton.next[node, FIRST + number])
                if reached >= 0 and reached != node:
                    void_steps += 1
                    assert automaton.life(reached).fingerprint() == automaton.life(node).fingerprint()
                    assert automaton.life(reached).said == automaton.life(node).said
    assert void_steps > 100


def test_a_replica_that_says_nothing_more_may_listen_in_any_order() -> None:
    """Two messages of different senders, one of them honest, bring it to one state whichever comes first."""
    search = Search(PLANS["leads view 0, 1 height, 1 view"], reduced=False)
    search.run()
    pairs = 0
    for automaton in search.automata:
        senders = [event.message.sender for event in search.mail.events]
        for node in np.flatnonzero(automaton.is_mute[: automaton.count]).tolist():
            numbers = np.flatnonzero(automaton.next[node, FIRST:] >= 0).tolist()
            for one, other in combinations(numbers, 2):
                if senders[one] != senders[other]:
                    assert after(automaton, node, one, other) == after(automaton, node, other, one)
                    pairs += 1
    assert pairs > 50


def after(automaton: Automaton, node: int, *numbers: int) -> int:
    """The state after these messages; the liar's last words may have become pointless."""
    for number in numbers:
        reached = int(automaton.next[node, FIRST + number])
        node = node if reached == NOTHING else reached
    return node


def test_what_still_matters_is_told_apart_and_what_does_not_is_not(explored_views: Search) -> None:
    """A commit counts; the leader of the next view needs what view-changes say, another replica who says them."""
    leader, other = (automaton.life(0) for automaton in explored_views.automata[1:])
    first = explored_views.automata[0].life(0).replica.id
    messages = [event.message for event in explored_views.mail.events]
    asked = [at for at, said in enumerate(messages) if said.sender == first and isinstance(said.message, ViewChange)]
    commit = next(at for at, said in enumerate(messages) if said.sender == first and isinstance(said.message, Commit))
    assert len(asked) == 2  # nothing prepared, or height 1

    def digests(life: Life, *numbers: int) -> set[bytes]:
        found = {life.fingerprint()}
        for number in numbers:
            copied = life.copy()
            copied.act(number)
            found.add(copied.fingerprint())
        return found

    assert len(digests(leader, *asked)) == 3
    assert len(digests(other, *asked)) == 2
    other = other.copy()
    other.act(TIMEOUT)
    assert len(digests(other, *asked)) == 1
    assert len(digests(leader, commit)) == 2


def test_a_copy_goes_its_own_way(explored_views: Search) -> None:
    """Whatever step it takes, the replica it was copied from stays as it was."""
    steps = 0
    for automaton in explored_views.automata:
        for node in range(0, automaton.count, 7):
            life = automaton.life(node)
            before = life.fingerprint(plain=True)
            for column in np.flatnonzero(automaton.next[node] >= 0).tolist():
                if column >= FIRST:
                    life.copy().act(column - FIRST)
                    steps += 1
            assert life.fingerprint(plain=True) == before
    assert steps > 50


def test_two_proposals_ordered_at_one_height_are_a_broken_promise() -> None:
    search = Search(PLANS["leads view 0, 1 height, 1 view"])
    search.run()
    with_first, with_second = (
        [np.flatnonzero(automaton.ordered[: automaton.count, 0] == number)[:1] for automaton in search.automata]
        for number in (1, 2)
    )
    agreed = search.space.pack(with_first)
    assert search.space.disagreeing(agreed).size == 0
    for at in range(3):
        split = search.space.pack([*with_first[:at], with_second[at], *with_first[at + 1 :]])
        assert search.space.disagreeing(np.concatenate([agreed, split])).tolist() == split.tolist()


def test_a_search_that_ends_early_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plan", "silent, 2 heights, 2 views", "--states", "200", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["exhausted"] == []
    assert said["states"] >= 200


def test_the_last_line_says_what_broke_and_how_much_was_tried() -> None:
    done = Search(PLANS["silent, 1 height, 1 view"]).run()
    cut = replace(done, exhausted=False)
    assert conclusion({"a": done, "b": cut}, seconds=12) == "no promise broke; 1 of 2 plans exhausted in 0.2 min"
    broken = replace(cut, problem="agreement")
    assert conclusion({"a": done, "b": broken}, seconds=90) == (
        "A PROMISE BROKE in 1 of 2 plans; 1 of 2 plans exhausted in 1.5 min"
    )
    assert conclusion({"a": done}, seconds=0) == "no promise broke; 1 of 1 plan exhausted in 0.0 min"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "promise"), [(0, "prepared_handed_on"), (-2, "prepared_handed_on"), (-1, "divergence")]
)
def test_a_planted_bug_is_found(number: int, promise: str) -> None:
    name, plan = EXPLORED[number]
    states, problem = explored(next(bug for bug in BUGS if bug.name == name), plan)
    assert states is not None
    assert problem.startswith(promise)
