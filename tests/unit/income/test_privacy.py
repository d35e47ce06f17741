"""V6, V9, V10: who learns what from reads and events, and what never gets near the chain."""

from __future__ import annotations

import pytest

from tests.unit.credit.suite_world import leaves
from tests.unit.income.income_world import BANDS, DOCUMENT, QUOTA, VERIFY, IncomeWorld, commit, paper


@pytest.fixture
def world() -> IncomeWorld:
    world = IncomeWorld()
    world.issue()
    return world


def test_the_subject_sees_every_grant_and_every_use(world: IncomeWorld) -> None:
    world.grant("first")
    world.grant("second", verifier="other_bank", ways=BANDS)
    world.verify("1", grant="first")
    world.verify("2", grant="second", verifier="other_bank")
    alice = world.address("alice")
    for reader in ("alice", "regulator"):
        grants = world.read(reader, "consent", "list_grants", alice, 0, 10)
        assert [grant[0] for grant in grants] == [world.address("bank"), world.address("other_bank")]
        uses = world.read(reader, "usage", "list_uses", alice, 0, 10)
        assert [(use[2], use[-1]) for use in uses] == [
            (world.address("bank"), "match"), (world.address("other_bank"), "no_consent"),
        ]  # fmt: skip
        assert world.read(reader, "usage", "count", alice) == 2
    assert world.read("alice", "usage", "list_uses", alice, 1, 10) == uses[1:]


def test_issuers_and_others_read_neither_grants_nor_uses_nor_results(world: IncomeWorld) -> None:
    world.grant()
    world.verify()
    alice = world.address("alice")
    for reader in ("tax_bureau", "tax_key", "bank", "other_bank", "bob", "operator"):
        assert world.refuses_read(reader, "consent", "list_grants", alice, 0, 10) == "not_permitted"
        assert world.refuses_read(reader, "usage", "list_uses", alice, 0, 10) == "not_permitted"
        assert world.refuses_read(reader, "usage", "count", alice) == "not_permitted"
    result = ("verify", "result", world.address("bank"), paper("nonce")[:16])
    for reader in ("tax_bureau", "tax_key", "other_bank", "operator"):
        assert world.refuses_read(reader, *result) == "not_permitted"
    for reader in ("bank", "alice", "regulator"):
        assert world.read(reader, *result)[3] == "match"
    assert world.refuses_read("alice", "consent", "list_grants", alice, 0, 10, signed=False) == "not_permitted"
    attestation = ("attest", "attestation", alice, paper("attestation"))
    for reader in ("alice", "tax_bureau", "tax_key"):
        assert world.read(reader, *attestation)[4] == commit()
    for reader in ("bank", "employer", "regulator"):
        assert world.refuses_read(reader, *attestation) == "not_permitted"


def test_no_event_names_the_verifier(world: IncomeWorld) -> None:
    world.grant(ways=VERIFY | QUOTA, uses=9)
    world.verify()
    world.reserve("r", 10)
    world.quota("cancel", "r")
    world.ok("alice", "consent", "revoke", paper("grant"))
    names = {name for name, _ in world.events}
    assert names >= {"Granted", "GrantRevoked", "UsageLogged", "QuotaChanged"}
    assert world.address("bank") not in leaves(world.events)


def test_verifiers_need_no_registration(world: IncomeWorld) -> None:
    world.grant(verifier="an account made for this one time")
    assert world.verify(verifier="an account made for this one time") == "match"


def test_no_amount_name_or_number_reaches_the_chain(world: IncomeWorld) -> None:
    """V10: neither arguments nor state nor events hold a value of the document."""
    world.grant(ways=VERIFY | BANDS | QUOTA, uses=9)
    world.verify()
    world.reserve("r", 5_000)
    world.supersede(document=commit(income=361_000))
    secrets = {DOCUMENT["name"], DOCUMENT["document_number"], DOCUMENT["income"], 361_000, DOCUMENT["currency"]}
    seen = set(leaves([world.arguments, list(world.stored().values()), world.events]))
    assert world.address("alice") in seen, "the walk finds what is there"
    assert not seen & secrets


def test_text_arguments_are_codes_that_contracts_pass_to_each_other(world: IncomeWorld) -> None:
    texts = {
        (contract, method)
        for (contract, method), parameters in world.methods("external").items()
        for _, kind in parameters
        if "str" in kind
    }
    assert texts == {("usage", "append")}
