"""V3: who attests what with which key, and what remains of it when the key changes."""

from __future__ import annotations

import pytest

from tests.unit.income.income_world import PENSION, SALARY, TAX_ASSESSMENT, IncomeWorld, commit


@pytest.fixture
def world() -> IncomeWorld:
    return IncomeWorld()


def test_only_the_operator_registers_and_an_issuer_or_key_only_once(world: IncomeWorld) -> None:
    new, key = world.address("new"), world.address("new_key")
    assert world.fails("tax_bureau", "issuer", "register", new, key, SALARY) == "not_the_operator"
    assert world.fails("operator", "issuer", "register", new, key, 0) == "malformed_kinds"
    assert world.fails("operator", "issuer", "register", new, key, 2048) == "malformed_kinds"
    assert world.do("operator", "issuer", "register", world.address("tax_bureau"), key, SALARY) == "issuer_exists"
    assert world.do("operator", "issuer", "register", new, world.address("tax_key"), SALARY) == "key_exists"
    assert world.do("operator", "issuer", "register", new, key, SALARY) == "ok"


def test_an_issuer_attests_only_registered_kinds(world: IncomeWorld) -> None:
    assert world.issue("a", kind=TAX_ASSESSMENT) == "ok"
    assert world.issue("b", kind=PENSION) == "kind_not_registered"
    assert world.issue("c", kind=TAX_ASSESSMENT, key="work_key") == "kind_not_registered"
    assert world.issue("d", key="alice") == "unknown_key"
    assert world.issue("e", key="tax_bureau") == "unknown_key", "the governing account governs, the key attests"
    assert world.fails("tax_key", "attest", "issue", *world.issue_arguments(kind=3)) == "malformed_kind"


def test_rotation_leaves_earlier_attestations_good(world: IncomeWorld) -> None:
    world.issue()
    world.grant(uses=9)
    assert world.do("tax_bureau", "issuer", "rotate", world.address("tax_key_2")) == "ok"
    assert world.verify("1") == "match"
    assert world.issue("by the old key") == "key_retired"
    assert world.issue("by the new key", key="tax_key_2") == "ok"
    assert world.do("tax_bureau", "issuer", "rotate", world.address("tax_key")) == "key_exists", "never used again"
    assert world.supersede(key="tax_key_2") == "ok", "the issuer is the same"


def test_key_revocation_ends_what_the_key_attested_for_good(world: IncomeWorld) -> None:
    world.issue()
    world.grant(uses=9)
    assert world.verify("1") == "match"
    revoke = ("issuer", "revoke_key", world.address("tax_key"))
    for stranger in ("employer", "regulator", "alice"):
        assert world.fails(stranger, *revoke) == "not_permitted"
    assert world.do("tax_bureau", *revoke) == "ok"
    assert world.do("operator", *revoke) == "key_revoked"
    assert world.verify("2") == "revoked"
    assert world.issue("more") == "key_revoked"
    assert world.do("tax_bureau", "issuer", "rotate", world.address("tax_key_2")) == "ok"
    assert world.verify("3") == "revoked", "a new key does not bring it back"
    assert world.issue("fresh", key="tax_key_2", document=commit()) == "ok"


def test_a_retired_key_can_still_be_revoked(world: IncomeWorld) -> None:
    world.issue()
    world.grant(uses=9)
    world.ok("tax_bureau", "issuer", "rotate", world.address("tax_key_2"))
    world.ok("operator", "issuer", "revoke_key", world.address("tax_key"))
    assert world.verify() == "revoked"


def test_a_suspended_issuer_attests_nothing_and_keeps_what_it_attested(world: IncomeWorld) -> None:
    world.issue()
    world.grant(uses=9)
    suspend = ("issuer", "suspend", world.address("tax_bureau"))
    assert world.fails("operator", *suspend, True) == "not_the_regulator"
    assert world.do("regulator", *suspend, True) == "ok"
    assert world.issue("more") == "issuer_suspended"
    assert world.do("tax_bureau", "issuer", "rotate", world.address("tax_key_2")) == "issuer_suspended"
    assert world.verify() == "match"
    assert world.do("regulator", *suspend, False) == "ok"
    assert world.issue("more") == "ok"
    assert world.do("regulator", "issuer", "suspend", world.address("nobody"), True) == "unknown_issuer"
