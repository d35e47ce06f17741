"""C10: two free own reports a calendar year, counted in Beijing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.unit.credit.credit_world import CreditWorld, paper

BEIJING = timezone(timedelta(hours=8))


def milliseconds(*date: int) -> int:
    return int(datetime(*date, tzinfo=BEIJING).timestamp()) * 1_000  # type: ignore[misc,arg-type]


def own(world: CreditWorld, agency: str = "agency", subject: str = "alice") -> str:
    answer = world.do(subject, "self_report", "order", world.address(agency), paper(f"own {world.height}"))
    assert isinstance(answer, str)
    return answer


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def test_two_are_free_and_every_request_is_logged(world: CreditWorld) -> None:
    assert [own(world) for _ in range(3)] == ["ok", "ok", "free_reports_used_up"]
    assert own(world, "other_agency") == "ok", "each agency owes two"
    assert own(world, subject="bob") == "ok"
    assert own(world, "bank_a") == "wrong_role"
    assert world.log_codes() == ["ok", "ok", "free_reports_used_up", "ok", "wrong_role"]


def test_only_a_subject_asks(world: CreditWorld) -> None:
    assert world.fails("bank_a", "self_report", "order", world.address("agency"), paper("x")) == "wrong_role"


def test_the_year_turns_at_midnight_in_beijing(world: CreditWorld) -> None:
    world.set_time(milliseconds(2026, 12, 31, 23, 59, 59))
    assert [own(world) for _ in range(3)] == ["ok", "ok", "free_reports_used_up"]
    world.set_time(milliseconds(2027, 1, 1, 0, 0, 0))
    assert own(world) == "ok"
    alice, agency = world.address("alice"), world.address("agency")
    assert world.read("alice", "self_report", "taken_in", alice, agency, 2026) == 2
    assert world.read("regulator", "self_report", "taken_in", alice, agency, 2027) == 1
    assert world.refuses_read("bank_a", "self_report", "taken_in", alice, agency, 2027) == "not_permitted"


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ((2027, 12, 31, 23, 59, 59), 2027), ((2028, 2, 28), 2028), ((2028, 2, 29), 2028), ((2028, 3, 1), 2028),
        ((2028, 12, 31), 2028), ((2029, 1, 1), 2029), ((2099, 12, 31), 2099), ((2100, 2, 28), 2100),
        ((2100, 3, 1), 2100), ((2100, 12, 31, 23, 59, 59), 2100), ((2101, 1, 1), 2101), ((2400, 2, 29), 2400),
    ],
)  # fmt: skip
def test_the_calendar_agrees_with_pythons(world: CreditWorld, date: tuple[int, ...], year: int) -> None:
    world.set_time(milliseconds(*date))
    assert own(world) == "ok"
    agency = world.address("agency")
    assert world.read("alice", "self_report", "taken_in", world.address("alice"), agency, year) == 1
