"""The income suite with two issuers, two verifiers and two subjects; and shorthands for calls."""

from __future__ import annotations

from typing import Any

from contracts.commitments import FieldValue, band_anchor, derive_salt, fingerprint
from contracts.income import SUITE
from tests.unit.credit.credit_world import DAY_MS, YEAR_MS, paper
from tests.unit.credit.suite_world import SuiteWorld

SALARY, TAX_ASSESSMENT, PENSION, WITNESS = 1, 2, 4, 1024
LENDING, TENANCY = 1, 3
VERIFY, BANDS, QUOTA = 1, 2, 4
THIS_YEAR = 2026
SEED = b"a seed of the issuer"

DOCUMENT: dict[str, FieldValue] = {
    "name": "Alice Example",
    "document_number": "P1234567",
    "income": 360_000,
    "currency": "CNY",
}
SALT = derive_salt(b"test", "alice")

__all__ = ["DAY_MS", "YEAR_MS", "paper"]


def commit(**changes: Any) -> bytes:
    """The fingerprint of the document, or of one that was changed."""
    return fingerprint("income-statement", {**DOCUMENT, **changes}, SALT)


class IncomeWorld(SuiteWorld):
    """Accounts: regulator, operator; tax_bureau with tax_key, employer with work_key; bank, other_bank; alice, bob."""

    def __init__(self) -> None:
        super().__init__(SUITE)
        for name, key, kinds in (
            ("tax_bureau", "tax_key", SALARY | TAX_ASSESSMENT), ("employer", "work_key", SALARY | WITNESS),
        ):  # fmt: skip
            self.ok("operator", "issuer", "register", self.address(name), self.address(key), kinds)

    def issue_arguments(
        self, name: str = "attestation", *, subject: str = "alice", kind: int = SALARY, year: int = THIS_YEAR,
        document: bytes | None = None, band: int = 3, lasts_ms: int = YEAR_MS,
    ) -> tuple[Any, ...]:  # fmt: skip
        return (
            self.address(subject), paper(name), kind, year, commit() if document is None else document,
            band_anchor(SEED, band), self.time_ms + lasts_ms,
        )  # fmt: skip

    def issue(self, name: str = "attestation", *, key: str = "tax_key", **options: Any) -> Any:
        return self.do(key, "attest", "issue", *self.issue_arguments(name, **options))

    def supersede(
        self, previous: str = "attestation", name: str = "successor", *, key: str = "tax_key", document: bytes = b""
    ) -> Any:
        return self.do(
            key, "attest", "supersede", self.address("alice"), paper(previous), paper(name),
            document or commit(income=1), b"", self.time_ms + YEAR_MS,
        )  # fmt: skip

    def revoke(self, name: str = "attestation", *, key: str = "tax_key") -> Any:
        return self.do(key, "attest", "revoke", self.address("alice"), paper(name))

    def grant(
        self, name: str = "grant", *, subject: str = "alice", verifier: str = "bank", attestation: str = "attestation",
        purpose: int = LENDING, ways: int = VERIFY, lasts_ms: int = 30 * DAY_MS, uses: int = 1,
    ) -> Any:  # fmt: skip
        return self.do(
            subject, "consent", "grant", paper(name), self.address(verifier), paper(attestation), purpose, ways,
            self.time_ms + lasts_ms, uses,
        )  # fmt: skip

    def verify_arguments(
        self, nonce: str = "nonce", *, subject: str = "alice", grant: str = "grant", attestation: str = "attestation",
        purpose: int = LENDING, document: bytes | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        return (
            self.address(subject), paper(grant), paper(attestation), purpose, paper(nonce)[:16],
            commit() if document is None else document,
        )  # fmt: skip

    def verify(self, nonce: str = "nonce", *, verifier: str = "bank", **options: Any) -> Any:
        return self.do(verifier, "verify", "submit", *self.verify_arguments(nonce, **options))

    def show_band(self, band: int, proof: bytes, nonce: str) -> Any:
        return self.do(
            "bank", "verify", "submit_band", self.address("alice"), paper("grant"), paper("attestation"), LENDING,
            paper(nonce)[:16], band, proof,
        )  # fmt: skip

    def reserve(
        self, name: str, parts: int, *, verifier: str = "bank", grant: str = "grant", year: int = THIS_YEAR,
        purpose: int = LENDING, lasts_ms: int = DAY_MS, attestation: str = "attestation",
    ) -> Any:  # fmt: skip
        return self.do(
            verifier, "quota", "reserve", self.address("alice"), paper(grant), paper(attestation), year, purpose,
            paper(name), parts, self.time_ms + lasts_ms,
        )  # fmt: skip

    def quota(self, method: str, name: str, *, verifier: str = "bank") -> Any:
        """commit or cancel."""
        return self.do(verifier, "quota", method, self.address("alice"), THIS_YEAR, LENDING, paper(name))

    def lapse(self, name: str, *, verifier: str = "bank") -> Any:
        key = (self.address(verifier), self.address("alice"), THIS_YEAR, LENDING, paper(name))
        return self.do("bob", "quota", "lapse", *key)

    def total(self) -> Any:
        return self.read("alice", "quota", "total", self.address("alice"), THIS_YEAR, LENDING)

    def used_codes(self, subject: str = "alice") -> list[str]:
        """The codes of the subject's usage log, oldest first."""
        return [use[-1] for use in self.read(subject, "usage", "list_uses", self.address(subject), 0, 100)]

    def uses_left(self, number: int = 0) -> int:
        left = self.read("alice", "consent", "list_grants", self.address("alice"), number, 1)[0][5]
        assert isinstance(left, int)
        return left
