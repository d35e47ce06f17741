"""The income verification workload: each census person's income document from issuer to verifier.

One bank pays the wages and attests them, the other is asked for a loan and verifies what it is handed. The document,
with name, number and amount, stays with the person; the chain sees its fingerprint. A fate is drawn per person: a plain
match, or one of the ways in which a verification must be refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from chain.cli.demo.workload import Parties, Phase, PlannedCall, Row, Signer, derived, draw, gather, read_rows
from chain.codec import Value
from contracts.commitments import (
    FieldValue,
    band_anchor,
    band_proof,
    derive_salt,
    fingerprint,
    income_band,
    quota_parts,
)

DAY_MS: Final = 86_400_000
SHORT_LIVED_MS: Final = 45_000

SALARY: Final = 1
LENDING: Final = 1
VERIFY: Final = 1
BANDS: Final = 2
QUOTA: Final = 4
WEEKLY_HOURS: Final = 40

# Public thresholds in US dollars a year; a band proof shows that an income reaches one of them.
THRESHOLDS: Final = (5_000, 10_000, 20_000, 35_000, 50_000, 75_000, 100_000)

FATES: Final[Mapping[str, int]] = {
    "match": 40,
    "wrong_document": 8,  # the amount was raised by a fifth
    "no_consent": 6,
    "no_attestation": 4,  # consent for something that was never attested: the same answer as no consent
    "consent_revoked": 6,
    "one_time": 6,  # a second use of a consent for one
    "replay": 5,  # the same presentation nonce again
    "attestation_revoked": 5,
    "superseded": 5,
    "expired": 5,
    "band": 5,
    "quota": 5,  # two banks lend against one income
}

ORDER: Final = (
    "issuers", "attestations", "grants", "changes", "verifications", "second verifications", "late verifications",
)  # fmt: skip

_Phases = defaultdict[str, list[PlannedCall]]


def load_census_income(limit: int | None = None) -> list[Row]:
    """Rows of the census income extract, at most 1,000; columns and units are described in data/SOURCES.md."""
    return read_rows("census_income.csv", limit)


def annual_income(row: Row) -> int:
    """US dollars a year: the hourly wage at 40 hours a week for the weeks worked, plus capital gains and dividends."""
    wages = int(row["wage_per_hour_cents"]) * WEEKLY_HOURS * int(row["weeks_worked_in_year"]) // 100
    return wages + int(row["capital_gains"]) + int(row["dividends_from_stocks"])


def income_document(row: Row, index: int) -> dict[str, FieldValue]:
    """What the issuer hands to the person. Name and number are made up; the rest is the data's."""
    return {
        "name": f"Person {index:04d}",
        "document_number": f"IV-{int(row['year'])}-{index:06d}",
        "year": int(row["year"]),
        "income_usd": annual_income(row),
        "class_of_worker": row["class_of_worker"],
        "industry": row["major_industry"],
        "tax_filer_status": row["tax_filer_status"],
    }


def income_phases(
    rows: Sequence[Row], parties: Parties, *, seed: bytes, now_ms: int, short_lived_ms: int = SHORT_LIVED_MS
) -> list[Phase]:
    """The whole workload for the rows; subject i of the parties is the person of row i.

    `now_ms` is the chain's time at the start. Some attestations expire `short_lived_ms` later, and the last phase must
    not be sent before that; the first two phases must be through by then.
    """
    phases: _Phases = defaultdict(list)
    for name in ("bank_a", "bank_b"):
        arguments = (parties.organisations[name], parties.organisations[name], SALARY)
        phases["issuers"].append(
            PlannedCall("regulator", "income.issuer", "register", arguments, story=f"{name} may attest")
        )
    for index, row in enumerate(rows):
        life = _Life(phases, parties, seed=seed, now_ms=now_ms, index=index, row=row)
        life.plan(now_ms + short_lived_ms)
    late_ms = now_ms + short_lived_ms
    return gather([(name, phases[name], late_ms if name == "late verifications" else 0) for name in ORDER])


class _Life:
    """Plans the calls of one person."""

    def __init__(self, phases: _Phases, parties: Parties, *, seed: bytes, now_ms: int, index: int, row: Row) -> None:
        self.phases = phases
        self.seed = seed
        self.now_ms = now_ms
        self.index = index
        self.row = row
        self.fate = draw(seed, index, FATES, label="income-fate")
        self.issuer, self.verifier = ("bank_a", "bank_b") if index % 2 else ("bank_b", "bank_a")
        self.subject = parties.subjects[index]
        self.parties = parties
        self.document = income_document(row, index)
        self.year = int(row["year"])
        self.band = income_band(annual_income(row), THRESHOLDS)
        self.band_seed = derive_salt(seed, "income", index, "bands")  # the issuer's secret

    def plan(self, short_ms: int) -> None:
        """Every call of this life, each into its phase."""
        if self.fate != "no_attestation":
            expires_ms = short_ms if self.fate == "expired" else self.now_ms + 365 * DAY_MS
            anchor = band_anchor(self.band_seed, self.band)
            arguments = (
                self.subject, self.id("attestation"), SALARY, self.year, self.commit(self.document), anchor, expires_ms,
            )  # fmt: skip
            self.add("attestations", self.issuer, "income.attest", "issue", arguments, story="attested")
        if self.fate != "no_consent":
            self.grant("grant", self.verifier, uses=1 if self.fate == "one_time" else 3)
        match self.fate:
            case "band":
                self.bands()
            case "quota":
                self.quota()
            case _:
                self.changes()
                self.verifications()

    def changes(self) -> None:
        """What happens between consent and verification."""
        match self.fate:
            case "consent_revoked":
                self.add("changes", self.me, "income.consent", "revoke", (self.id("grant"),), story="second thoughts")
            case "attestation_revoked":
                arguments = (self.subject, self.id("attestation"))
                self.add("changes", self.issuer, "income.attest", "revoke", arguments, story="issued in error")
            case "superseded":
                corrected = {**self.document, "industry": "corrected"}
                self.add(
                    "changes", self.issuer, "income.attest", "supersede",
                    (
                        self.subject, self.id("attestation"), self.id("successor"), self.commit(corrected), b"",
                        self.now_ms + 365 * DAY_MS,
                    ),
                    story="corrected",
                )  # fmt: skip

    def verifications(self) -> None:
        answers = {
            "wrong_document": "mismatch",
            "no_consent": "no_consent",
            "no_attestation": "no_consent",
            "consent_revoked": "consent_revoked",
            "attestation_revoked": "revoked",
            "superseded": "superseded",
            "expired": "expired",
        }
        document = dict(self.document)
        if self.fate == "wrong_document":
            document["income_usd"] = annual_income(self.row) * 6 // 5 + 1
        phase = "late verifications" if self.fate == "expired" else "verifications"
        self.verify(phase, "first", document, answers.get(self.fate, "match"))
        if self.fate == "one_time":
            self.verify("second verifications", "second", document, "consent_used_up")
        if self.fate == "replay":
            self.verify("second verifications", "first", document, "nonce_used")

    def bands(self) -> None:
        """The highest threshold the income reaches is shown; the proof does not show the next one."""
        if self.band > 0:
            proof = band_proof(self.band_seed, self.band, self.band)
            self.show_band("verifications", self.band, proof, "match")
        else:
            proof = self.id("no proof")
        if self.band < len(THRESHOLDS):
            self.show_band("second verifications", self.band + 1, proof, "mismatch")

    def show_band(self, phase: str, band: int, proof: bytes, result: str) -> None:
        arguments = (
            self.subject, self.id("grant"), self.id("attestation"), LENDING, self.id("band", band)[:16], band, proof,
        )  # fmt: skip
        story = f"income reaches threshold {band}"
        self.add(phase, self.verifier, "income.verify", "submit_band", arguments, result=result, logs=True, story=story)

    def quota(self) -> None:
        """The verifier lends against 60 % of the income, the issuing bank tries for half of it."""
        income = annual_income(self.row)
        self.grant("other grant", self.issuer, uses=1)
        self.reserve("verifications", self.verifier, "grant", quota_parts(-(-income * 3 // 5), income), "ok")
        half = quota_parts(-(-income // 2), income)
        self.reserve("second verifications", self.issuer, "other grant", half, "quota_exceeded")
        arguments = (self.subject, self.year, LENDING, self.id("reservation", self.verifier))
        self.add("second verifications", self.verifier, "income.quota", "commit", arguments, story="lent")

    def reserve(self, phase: str, verifier: str, grant: str, parts: int, result: str) -> None:
        arguments = (
            self.subject, self.id(grant), self.id("attestation"), self.year, LENDING, self.id("reservation", verifier),
            parts, self.now_ms + DAY_MS,
        )  # fmt: skip
        self.add(phase, verifier, "income.quota", "reserve", arguments, result=result, logs=True, story="set aside")

    def grant(self, name: str, verifier: str, *, uses: int) -> None:
        arguments = (
            self.id(name), self.parties.organisations[verifier], self.id("attestation"), LENDING,
            VERIFY | BANDS | QUOTA, self.now_ms + 30 * DAY_MS, uses,
        )  # fmt: skip
        self.add("grants", self.me, "income.consent", "grant", arguments, story=f"consent to {verifier}")

    def verify(self, phase: str, nonce: str, document: Mapping[str, FieldValue], result: str) -> None:
        arguments = (
            self.subject, self.id("grant"), self.id("attestation"), LENDING, self.id("nonce", nonce)[:16],
            self.commit(document),
        )  # fmt: skip
        self.add(phase, self.verifier, "income.verify", "submit", arguments, result=result, logs=True, story=self.fate)

    @property
    def me(self) -> Signer:
        return ("subject", self.index)

    def id(self, *labels: str | int) -> bytes:
        """A client-made name of 32 bytes."""
        return derived(self.seed, "income", self.index, *labels)

    def commit(self, document: Mapping[str, FieldValue]) -> bytes:
        """The fingerprint that whoever holds this document and the salt computes."""
        return fingerprint("income-statement", document, derive_salt(self.seed, "income", self.index, "document"))

    def add(
        self, phase: str, signer: Signer, contract: str, method: str, arguments: tuple[Value, ...], *,
        result: str = "ok", logs: bool = False, story: str = "",
    ) -> None:  # fmt: skip
        self.phases[phase].append(
            PlannedCall(signer, contract, method, arguments, result, subject=self.index, logs=logs, story=story)
        )
