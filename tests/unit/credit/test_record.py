"""C2, C3 and C5: what may be recorded, how long it is shown, what remains."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.suite import CALL_GAS_LIMIT
from tests.unit.credit.credit_world import (
    ACCOUNTS,
    COLLECTION,
    DAY_MS,
    DISEASE,
    FIVE_YEARS_MS,
    INCOME,
    LENDING,
    PUBLIC_BY_LAW,
    RELIGION,
    REPAYMENT,
    YEAR_MS,
    CreditWorld,
    paper,
)  # fmt: skip
from tests.unit.credit.suite_world import leaves


@pytest.fixture
def world() -> CreditWorld:
    return CreditWorld()


def shown(world: CreditWorld, subject: str = "alice") -> tuple[int, int]:
    """(items, marked items) of an own report made now."""
    world.advance(YEAR_MS)  # fresh free reports
    world.ok(subject, "self_report", "order", world.address("agency"), paper(f"own {world.time_ms}"))
    *_, items, marked = world.event_values("OwnReport")
    return items, marked


def test_collection_needs_the_subjects_consent(world: CreditWorld) -> None:
    assert world.submit() == "no_consent"
    world.consent("collect", user="bank_a", purpose=LENDING)
    assert world.submit() == "consent_other_purpose"
    world.consent("collect 2", user="bank_a", purpose=COLLECTION, scope=REPAYMENT)
    assert world.submit(consent="collect 2") == "consent_other_scope"
    assert world.submit(consent="collect 2", category=REPAYMENT) == "ok"
    assert world.submit(consent="collect 2", category=REPAYMENT) == "record_exists"
    assert world.submit(provider="bank_b", consent="collect 2", category=REPAYMENT) == "no_consent"


def test_a_refused_submission_leaves_an_event_and_nothing_else(world: CreditWorld) -> None:
    result = world.call(
        "bank_a", "record", "submit", world.address("alice"), world.address("agency"), paper("x"), RELIGION, paper("y"),
        False, 0, b"", paper("collect"),
    )  # fmt: skip
    assert (result.status, result.outcome.writes) == (0, {})
    assert world.event_values("SubmissionRefused")[-1] == "forbidden_category"


@pytest.mark.parametrize("category", [RELIGION, 2048, 4096, 8192, DISEASE])
def test_forbidden_categories_are_refused(world: CreditWorld, category: int) -> None:
    assert world.submit(category=category) == "forbidden_category"


def test_sensitive_categories_need_explicit_consent(world: CreditWorld) -> None:
    assert world.consent("collect", user="bank_a", purpose=COLLECTION, scope=ACCOUNTS) == "ok"
    assert world.submit(category=INCOME) == "consent_other_scope"
    assert world.consent("more", user="bank_a", purpose=COLLECTION, scope=INCOME) == "explicit_consent_missing"
    world.with_item("income", category=INCOME)


def test_an_adverse_item_needs_a_notice_unless_public_by_law(world: CreditWorld) -> None:
    world.consent("collect", user="bank_a", purpose=COLLECTION)
    late: dict[str, Any] = {"category": REPAYMENT, "adverse": True, "event_end_ms": world.time_ms}
    assert world.submit("late payment", **late) == "notice_missing"
    assert world.submit("late payment", **late, notice=paper("notice")) == "ok"
    late["category"] = PUBLIC_BY_LAW
    assert world.submit("judgment", **late, consent="none") == "ok"


def test_an_adverse_item_is_in_no_report_five_years_after_the_event(world: CreditWorld) -> None:
    ended_ms = world.time_ms - YEAR_MS
    world.with_item("bad", category=REPAYMENT, adverse=True, notice=paper("n"), event_end_ms=ended_ms)
    world.with_item("good")
    for years in (2, 3):
        assert shown(world) == (2, 0), f"{years} years after the event"
    world.set_time(ended_ms + FIVE_YEARS_MS - YEAR_MS - 1)
    assert shown(world) == (2, 0), "a millisecond before"
    assert world.expire("bad") == "not_expired_yet"
    world.set_time(ended_ms + FIVE_YEARS_MS)
    assert world.expire("bad") == "ok"
    assert shown(world) == (1, 0)


def test_time_alone_takes_an_item_out_of_reports(world: CreditWorld) -> None:
    ended_ms = world.time_ms
    world.with_item("bad", category=REPAYMENT, adverse=True, notice=paper("n"), event_end_ms=ended_ms)
    world.set_time(ended_ms + FIVE_YEARS_MS - YEAR_MS)
    assert shown(world) == (0, 0), "nobody called expire"


def test_a_correction_never_restarts_the_clock(world: CreditWorld) -> None:
    ended_ms = world.time_ms
    world.with_item("bad", category=REPAYMENT, adverse=True, notice=paper("n"), event_end_ms=ended_ms)
    world.set_time(ended_ms + FIVE_YEARS_MS - DAY_MS)
    key = (world.address("alice"), world.address("agency"), paper("bad"))
    assert world.do("bank_b", "record", "correct", *key, paper("corrected")) == "not_the_holder"
    assert world.do("bank_a", "record", "correct", *key, paper("corrected")) == "ok"
    assert world.do("agency", "record", "correct", *key, paper("again")) == "ok"
    item = world.read("alice", "record", "item", *key)
    assert (item[2], item[4], item[7]) == (paper("again"), ended_ms, 3)
    world.set_time(ended_ms + FIVE_YEARS_MS)
    assert world.do("bank_a", "record", "correct", *key, paper("too late")) == "record_expired"
    assert world.expire("bad") == "ok"


def test_expiry_leaves_a_tombstone_and_tells_the_holder(world: CreditWorld) -> None:
    ended_ms = world.time_ms
    world.with_item("bad", category=REPAYMENT, adverse=True, notice=paper("n"), event_end_ms=ended_ms)
    key = (world.address("alice"), world.address("agency"), paper("bad"))
    world.ok("bank_a", "record", "correct", *key, paper("corrected"))
    world.set_time(ended_ms + FIVE_YEARS_MS)
    assert world.expire("bad") == "ok"
    assert world.event_values("DestroySalt") == (world.address("bank_a"), *key)
    item = world.read("alice", "record", "item", *key)
    assert (item[2], item[5], item[6], item[9]) == (b"", b"", b"", 2), "no fingerprint is left, but the place is"
    assert paper("document of bad") not in leaves(list(world.stored("record").values()))
    assert world.expire("bad") == "record_expired"
    world.consent("collect again", user="bank_a", purpose=COLLECTION)
    again = world.submit("bad", category=REPAYMENT, adverse=True, notice=paper("n"), consent="collect again",
                         event_end_ms=world.time_ms)  # fmt: skip
    assert again == "record_exists", "an id is used once"


def test_what_ended_long_ago_is_not_recorded(world: CreditWorld) -> None:
    world.consent("collect", user="bank_a", purpose=COLLECTION)
    bad: dict[str, Any] = {"category": REPAYMENT, "adverse": True, "notice": paper("n")}
    assert world.submit("old", **bad, event_end_ms=world.time_ms - FIVE_YEARS_MS) == "record_expired"
    assert world.submit("old", **bad, event_end_ms=world.time_ms - FIVE_YEARS_MS + 1) == "ok"


def test_good_items_do_not_expire(world: CreditWorld) -> None:
    world.with_item()
    world.advance(20 * YEAR_MS)
    assert world.expire("item") == "not_expired_yet"
    assert shown(world) == (1, 0)


def test_a_subject_attaches_a_statement(world: CreditWorld) -> None:
    world.with_item()
    agency = world.address("agency")
    assert world.do("alice", "record", "annotate", agency, paper("item"), paper("my side")) == "ok"
    assert world.do("bob", "record", "annotate", agency, paper("item"), paper("my side")) == "unknown_record"
    assert world.fails("bank_a", "record", "annotate", agency, paper("item"), paper("x")) == "wrong_role"
    assert world.read("alice", "record", "item", world.address("alice"), agency, paper("item"))[6] == paper("my side")


def test_items_are_read_by_their_parties_in_signed_reads_only(world: CreditWorld) -> None:
    world.with_item()
    key = (world.address("alice"), world.address("agency"), paper("item"))
    for reader in ("alice", "bank_a", "agency", "regulator"):
        assert world.read(reader, "record", "item", *key)[2] == paper("document of item")
    for reader in ("bank_b", "other_agency", "bob", "operator"):
        assert world.refuses_read(reader, "record", "item", *key) == "not_permitted"
    assert world.refuses_read("alice", "record", "item", *key, signed=False) == "not_permitted"
    assert world.fails("alice", "record", "item", *key) == "not_permitted", "not in a transaction, for all to see"
    assert world.fails("agency", "record", "read", *key[:2], ACCOUNTS) == "not_a_contract_of_the_suite"


def test_a_report_is_bounded(world: CreditWorld) -> None:
    world.consent("collect", user="bank_a", purpose=COLLECTION)
    for number in range(128):
        assert world.submit(f"item {number}") == "ok"
    assert world.submit("one more") == "too_many_records"
    world.consent()
    world.accepted_order()
    delivery = world.call("agency", "order", "deliver", *world.deliver_arguments())
    assert delivery.value == "ok"
    assert world.event_values("OrderDelivered")[-2] == 128
    assert delivery.gas_used < CALL_GAS_LIMIT
