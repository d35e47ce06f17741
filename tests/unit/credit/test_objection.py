"""C4: marked at once, answered in time, shown meanwhile, never forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.credit.credit_world import DAY_MS, CreditWorld, paper

CORRECTED, UPHELD, UNVERIFIABLE = 1, 2, 3


@pytest.fixture
def world() -> CreditWorld:
    world = CreditWorld()
    world.with_item()
    world.consent(uses=9)
    return world


def item(world: CreditWorld) -> tuple[bytes, bytes, bytes]:
    return world.address("alice"), world.address("agency"), paper("item")


def lodge(world: CreditWorld) -> Any:
    return world.do("alice", "objection", "lodge", *item(world)[1:], paper("ground"))


def resolve(world: CreditWorld, outcome: int) -> Any:
    return world.do("agency", "objection", "resolve", *item(world), outcome, paper("reply"))


def marked(world: CreditWorld) -> int:
    """Marked items in a report that is delivered now."""
    name = f"order at {world.height}"
    world.delivered_order(name)
    count = world.event_values("OrderDelivered")[-1]
    assert isinstance(count, int)
    return count


def test_the_mark_is_there_in_the_same_transaction(world: CreditWorld) -> None:
    world.accepted_order()
    objection = ("alice", "objection", "lodge", *item(world)[1:], paper("ground"))
    deliver = ("agency", "order", "deliver", *world.deliver_arguments())
    assert world.block([objection, deliver]) == [(0, "ok"), (0, "ok")]
    assert world.event_values("OrderDelivered")[-2:] == (1, 1)
    assert lodge(world) == "objection_open"


def test_only_the_subject_objects_and_only_to_what_is_there(world: CreditWorld) -> None:
    assert world.fails("bank_b", "objection", "lodge", *item(world)[1:], paper("g")) == "wrong_role"
    assert world.do("bob", "objection", "lodge", *item(world)[1:], paper("g")) == "unknown_record"
    assert world.fails("agency", "record", "mark", *item(world)) == "not_the_objection_contract"
    assert world.fails("agency", "record", "unmark", *item(world)) == "not_the_objection_contract"


def test_corrected_needs_a_correction_and_takes_the_mark_away(world: CreditWorld) -> None:
    lodge(world)
    assert resolve(world, CORRECTED) == "record_not_corrected"
    assert marked(world) == 1
    world.ok("bank_a", "record", "correct", *item(world), paper("right now"))
    assert resolve(world, CORRECTED) == "ok"
    assert marked(world) == 0


def test_upheld_takes_the_mark_away_and_unverifiable_keeps_it(world: CreditWorld) -> None:
    lodge(world)
    assert resolve(world, UPHELD) == "ok"
    assert marked(world) == 0
    lodge(world)
    assert resolve(world, UNVERIFIABLE) == "ok"
    assert marked(world) == 1
    assert resolve(world, UPHELD) == "objection_not_open"


def test_twenty_days_then_overdue_once(world: CreditWorld) -> None:
    lodge(world)
    world.advance(20 * DAY_MS)
    assert world.do("bob", "objection", "overdue", *item(world)) == "not_due_yet"
    world.advance(1)
    assert world.do("bob", "objection", "overdue", *item(world)) == "ok"
    assert world.event_values("ObjectionOverdue")[:3] == item(world)
    assert world.do("bob", "objection", "overdue", *item(world)) == "overdue_reported_already"
    assert resolve(world, UPHELD) == "ok", "late is better than never"
    assert world.do("bob", "objection", "overdue", *item(world)) == "objection_not_open"


def test_a_complaint_goes_to_the_arbiter_with_thirty_days(world: CreditWorld) -> None:
    lodge(world)
    complain = ("alice", "objection", "escalate", *item(world)[1:], paper("complaint"))
    decide = ("objection", "decide", *item(world), UPHELD, paper("decision"))
    assert world.do(*complain) == "not_due_yet"
    assert world.do("arbiter", *decide) == "objection_not_open"
    resolve(world, UPHELD)
    assert world.do(*complain) == "ok"
    assert marked(world) == 1, "disputed again"
    assert resolve(world, UPHELD) == "objection_not_open"
    assert world.read("alice", "objection", "dispute", *item(world))[3] == world.time_ms + 30 * DAY_MS
    assert world.fails("agency", *decide) == "wrong_role"
    assert world.fails("regulator", *decide) == "wrong_role"
    assert world.do("arbiter", *decide) == "ok"
    assert marked(world) == 0
    assert world.do(*complain) == "objection_not_open"


def test_an_overdue_answer_can_be_complained_about(world: CreditWorld) -> None:
    lodge(world)
    world.advance(20 * DAY_MS + 1)
    assert world.do("alice", "objection", "escalate", *item(world)[1:], paper("complaint")) == "ok"


def test_the_history_only_grows(world: CreditWorld) -> None:
    lodge(world)
    world.ok("bank_a", "objection", "verify", *item(world), paper("looked"))
    resolve(world, UNVERIFIABLE)
    lodge(world)
    steps = world.read("alice", "objection", "list_steps", *item(world), 0, 10)
    assert [(step[2], step[3], step[4]) for step in steps] == [
        (1, 0, paper("ground")), (2, 0, paper("looked")), (3, UNVERIFIABLE, paper("reply")), (1, 0, paper("ground")),
    ]  # fmt: skip
    for reader in ("agency", "regulator", "arbiter"):
        assert world.read(reader, "objection", "list_steps", *item(world), 0, 10) == steps
    assert world.refuses_read("bank_b", "objection", "list_steps", *item(world), 0, 10) == "not_permitted"


def test_there_is_nothing_to_answer_before_an_objection_or_after_its_end(world: CreditWorld) -> None:
    answers: list[tuple[Any, ...]] = [
        ("bank_a", "objection", "verify", *item(world), paper("r")),
        ("agency", "objection", "resolve", *item(world), UPHELD, paper("r")),
        ("alice", "objection", "escalate", *item(world)[1:], paper("r")),
        ("arbiter", "objection", "decide", *item(world), UPHELD, paper("r")),
        ("bob", "objection", "overdue", *item(world)),
    ]
    assert [world.do(*answer) for answer in answers] == ["unknown_objection"] * 5
    assert world.read("alice", "objection", "dispute", *item(world)) is None
    assert world.read("alice", "objection", "list_steps", *item(world), 0, 10) == ()
    lodge(world)
    resolve(world, UPHELD)
    assert world.do(*answers[0]) == "objection_not_open"
    assert world.do(*answers[1]) == "objection_not_open"


def test_the_history_of_an_item_is_bounded(world: CreditWorld) -> None:
    lodge(world)
    for _ in range(199):
        world.ok("bank_a", "objection", "verify", *item(world), paper("looked"))
    assert world.fails("bank_a", "objection", "verify", *item(world), paper("looked")) == "too_many_steps"
    assert resolve(world, UPHELD) == "ok", "an answer always fits"
    assert world.fails("alice", "objection", "lodge", *item(world)[1:], paper("ground")) == "too_many_steps"
    assert world.fails("alice", "objection", "escalate", *item(world)[1:], paper("ground")) == "too_many_steps"


def test_two_marks_need_two_answers(world: CreditWorld) -> None:
    lodge(world)
    resolve(world, UNVERIFIABLE)
    lodge(world)
    resolve(world, UPHELD)
    assert marked(world) == 1, "the first objection's mark stays"


def test_an_agency_answers_for_its_own_items_only(world: CreditWorld) -> None:
    lodge(world)
    assert world.do("other_agency", "objection", "resolve", *item(world), UPHELD, paper("r")) == "not_the_agency"
    assert world.fails("bank_a", "objection", "resolve", *item(world), UPHELD, paper("r")) == "wrong_role"
    assert world.fails("agency", "objection", "resolve", *item(world), 4, paper("r")) == "malformed_outcome"
