"""The credit reporting workload: each German credit applicant's life with two banks and an agency.

Odd applicants have their account at one bank and ask the other for a loan, even ones the other way round. The bank with
the account reports to the agency under the applicant's consent; the other orders a report, the agency delivers, the
bank confirms. A fate is drawn per applicant: most lives go well, the others meet one refusal each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from chain.cli.demo.workload import Parties, Phase, PlannedCall, Row, Signer, derived, draw, gather, read_rows
from chain.codec import Value
from contracts.commitments import FieldValue, derive_salt, fingerprint

DAY_MS: Final = 86_400_000
YEAR_MS: Final = 365 * DAY_MS

AGENCY: Final = 4
PROVIDER_AND_USER: Final = 8 + 16
ACCOUNTS: Final = 1
REPAYMENT: Final = 2
INCOME: Final = 16
RELIGION: Final = 1024
LENDING: Final = 1
CARD: Final = 4
COLLECTION: Final = 9

PRODUCT: Final = "standard-report"
PRICE: Final = 20
POINTS: Final = 1_000_000  # for each bank
PURSES: Final = 64

FATES: Final[Mapping[str, int]] = {
    "served": 60,
    "no_consent": 6,  # the bank orders without asking the applicant
    "other_purpose": 5,  # consent for a loan, order for a card
    "revoked": 6,  # the applicant changes their mind before delivery
    "used_up": 6,  # two orders on a consent for one
    "delivered_twice": 4,
    "objection": 5,  # the applicant disputes an item, the report carries the mark
    "own_reports": 4,  # three free reports asked for, two given
    "forbidden": 4,  # the provider tries to submit what nobody may collect
}

_Phases = defaultdict[str, list[PlannedCall]]

ORDER: Final = (
    "members", "products and points", "subjects", "consents", "records", "objections", "orders", "acceptances",
    "revocations", "deliveries", "second deliveries", "own reports", "more own reports", "one own report too many",
    "confirmations",
)  # fmt: skip


def load_german_credit(limit: int | None = None) -> list[Row]:
    """Rows of the Statlog German credit data, at most 1,000; columns and codes are described in data/SOURCES.md."""
    return read_rows("german_credit.csv", limit)


def account_document(row: Row, index: int) -> dict[str, FieldValue]:
    """The item that the provider keeps: the applicant's account as the data tells it."""
    return {
        "applicant": index,
        "credit_amount": int(row["credit_amount"]),
        "duration_in_month": int(row["duration_in_month"]),
        "purpose": row["purpose"],
        "credit_history": row["credit_history"],
        "checking_account": row["status_of_existing_checking_account"],
        "savings_account": row["savings_account_and_bonds"],
        "existing_credits": int(row["number_of_existing_credits_at_this_bank"]),
    }


def repayment_document(row: Row, index: int) -> dict[str, FieldValue]:
    """The adverse item of an applicant whose risk the data calls bad."""
    return {"applicant": index, "credit_history": row["credit_history"], "credit_risk": row["credit_risk"]}


def is_adverse(row: Row) -> bool:
    return row["credit_risk"] == "2"


def credit_phases(rows: Sequence[Row], parties: Parties, *, seed: bytes, now_ms: int) -> list[Phase]:
    """The whole workload for the rows; subject i of the parties is the applicant of row i.

    `now_ms` is the chain's time at the start (milliseconds since the epoch): dates are made from it.
    """
    phases: _Phases = defaultdict(list)
    _set_up(phases, parties)
    for index, row in enumerate(rows):
        _Life(phases, parties, seed=seed, now_ms=now_ms, index=index, row=row).plan()
    return gather([(name, phases[name], 0) for name in ORDER])


def _set_up(phases: _Phases, parties: Parties) -> None:
    for name, roles in (("bank_a", PROVIDER_AND_USER), ("bank_b", PROVIDER_AND_USER), ("agency", AGENCY)):
        arguments = (parties.organisations[name], roles)
        phases["members"].append(
            PlannedCall("regulator", "credit.registry", "register", arguments, story=f"{name} joins")
        )
    phases["products and points"].append(
        PlannedCall(
            "agency", "credit.product", "publish", (PRODUCT, ACCOUNTS | REPAYMENT, PRICE), story="a report is for sale"
        )
    )
    for name in ("bank_a", "bank_b"):
        arguments = (parties.organisations[name], POINTS)
        phases["products and points"].append(
            PlannedCall("regulator", "credit.settlement", "issue", arguments, story=f"{name} buys points")
        )


class _Life:
    """Plans the calls of one applicant."""

    def __init__(self, phases: _Phases, parties: Parties, *, seed: bytes, now_ms: int, index: int, row: Row) -> None:
        self.phases = phases
        self.seed = seed
        self.now_ms = now_ms
        self.index = index
        self.row = row
        self.fate = draw(seed, index, FATES, label="credit-fate")
        self.provider, self.user = ("bank_a", "bank_b") if index % 2 else ("bank_b", "bank_a")
        self.subject = parties.subjects[index]
        self.agency = parties.organisations["agency"]
        self.provider_address = parties.organisations[self.provider]
        self.user_address = parties.organisations[self.user]
        self.purse = index // 2 % PURSES  # consecutive applicants order from different banks

    def plan(self) -> None:
        """Every call of this life, each into its phase."""
        self.add("subjects", self.provider, "credit.registry", "enrol", (self.subject,), story="identified by a bank")
        self.consents()
        self.records()
        if self.fate == "objection":
            ground = self.commit("ground", {"text": "the amount is wrong"})
            arguments = (self.agency, self.id("account"), ground)
            self.add("objections", self.me, "credit.objection", "lodge", arguments, story="the amount is disputed")
        self.order()
        if self.fate == "own_reports":
            self.own_report("own reports", "ok")
            self.own_report("more own reports", "ok")
            self.own_report("one own report too many", "free_reports_used_up")

    def consents(self) -> None:
        """To the bank with the account: collect. To the other: see a report once."""
        expires_ms = self.now_ms + YEAR_MS
        collect = ACCOUNTS | REPAYMENT
        self.add(
            "consents", self.me, "credit.consent", "grant",
            (self.id("collect"), self.provider_address, self.agency, collect, COLLECTION, expires_ms, 1_000, False),
            story="consent to collect",
        )  # fmt: skip
        if self.fate != "no_consent":
            self.add(
                "consents", self.me, "credit.consent", "grant",
                (self.id("see"), self.user_address, self.agency, collect, LENDING, expires_ms, 1, False),
                story="consent to see, once",
            )  # fmt: skip

    def records(self) -> None:
        account = self.commit("account", account_document(self.row, self.index))
        self.submit("account", ACCOUNTS, account, adverse=False, notice=b"")
        if is_adverse(self.row):
            repayment = self.commit("repayment", repayment_document(self.row, self.index))
            notice = self.commit("notice", {"applicant": self.index, "notified": True})
            self.submit("repayment", REPAYMENT, repayment, adverse=True, notice=notice)
            if self.index % 10 == 0:
                again = self.commit("unnoticed", repayment_document(self.row, self.index))
                self.submit("unnoticed", REPAYMENT, again, adverse=True, notice=b"", result="notice_missing")
        if self.fate == "forbidden":
            religion = self.commit("religion", {"applicant": self.index, "religion": "none of their business"})
            self.submit("religion", RELIGION, religion, adverse=False, notice=b"", result="forbidden_category")
            income = self.commit("income", {"applicant": self.index, "income": 0})
            self.submit("income", INCOME, income, adverse=False, notice=b"", result="consent_other_scope")

    def submit(
        self, name: str, category: int, commitment: bytes, *, adverse: bool, notice: bytes, result: str = "ok"
    ) -> None:
        event_end_ms = self.now_ms - YEAR_MS if adverse else 0
        self.add(
            "records", self.provider, "credit.record", "submit",
            (
                self.subject, self.agency, self.id(name), category, commitment, adverse, event_end_ms, notice,
                self.id("collect"),
            ),
            result=result, story=f"{name} item",
        )  # fmt: skip

    def order(self) -> None:
        expected = {"no_consent": "no_consent", "other_purpose": "consent_other_purpose"}.get(self.fate, "ok")
        self.create("order", expected)
        if expected != "ok":
            return
        self.add("acceptances", "agency", "credit.order", "accept", (self.user_address, self.id("order")))
        if self.fate == "revoked":
            self.add("revocations", self.me, "credit.consent", "revoke", (self.id("see"),), story="changed their mind")
            self.deliver("deliveries", "order", "consent_revoked")
            self.time_out("order")
            return
        self.deliver("deliveries", "order", "ok")
        if self.fate == "used_up":
            self.create("second order", "ok")
            self.add("acceptances", "agency", "credit.order", "accept", (self.user_address, self.id("second order")))
            self.deliver("second deliveries", "second order", "consent_used_up")
            self.time_out("second order")
        if self.fate == "delivered_twice":
            self.deliver("second deliveries", "order", "delivered_already")
        payment = (self.id("order"), self.agency, self.purse)
        self.add("confirmations", self.user, "credit.order", "confirm", payment, story="paid")

    def create(self, name: str, result: str) -> None:
        purpose = CARD if self.fate == "other_purpose" else LENDING
        arguments = (
            self.id(name), self.subject, self.agency, PRODUCT, purpose, self.id("see"), PRICE, self.purse,
        )  # fmt: skip
        self.add("orders", self.user, "credit.order", "create", arguments, result=result, logs=True, story=self.fate)

    def deliver(self, phase: str, name: str, result: str) -> None:
        report = {"order": self.id(name), "account": self.commit("account", account_document(self.row, self.index))}
        arguments = (
            self.user_address, self.id(name), self.subject, self.id("see"), self.commit("report " + name, report),
        )  # fmt: skip
        self.add(phase, "agency", "credit.order", "deliver", arguments, result=result, logs=True, story=self.fate)

    def own_report(self, phase: str, result: str) -> None:
        arguments = (self.agency, self.id(phase))
        self.add(phase, self.me, "credit.self_report", "order", arguments, result=result, logs=True, story=self.fate)

    def time_out(self, name: str) -> None:
        arguments = (self.user_address, self.id(name), self.agency, self.purse)
        self.add("confirmations", self.user, "credit.order", "time_out", arguments, story="the fee comes back")

    @property
    def me(self) -> Signer:
        return ("subject", self.index)

    def id(self, *labels: str | int) -> bytes:
        """A client-made name of 32 bytes."""
        return derived(self.seed, "credit", self.index, *labels)

    def commit(self, kind: str, fields: Mapping[str, FieldValue]) -> bytes:
        """The salted fingerprint of a document of this life."""
        return fingerprint(kind, fields, derive_salt(self.seed, "credit", self.index, kind))

    def add(
        self, phase: str, signer: Signer, contract: str, method: str, arguments: tuple[Value, ...], *,
        result: str = "ok", logs: bool = False, story: str = "",
    ) -> None:  # fmt: skip
        self.phases[phase].append(
            PlannedCall(signer, contract, method, arguments, result, subject=self.index, logs=logs, story=story)
        )
