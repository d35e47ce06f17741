"""A consortium with the credit suite deployed: members, two subjects, a product, points; and shorthands for calls."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from contracts.credit import SUITE
from tests.unit.credit.suite_world import SuiteWorld

ACCOUNTS, REPAYMENT, PUBLIC_BY_LAW, INCOME, TAX, RELIGION, DISEASE = 1, 2, 8, 16, 512, 1024, 16384
LENDING, CARD, COLLECTION = 1, 4, 9
REGULATOR, OPERATOR, AGENCY, PROVIDER, USER, SUBJECT, ARBITER = 1, 2, 4, 8, 16, 32, 64
DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
FIVE_YEARS_MS = 5 * YEAR_MS
PRICE = 20
POINTS = 6_400


def paper(text: str) -> bytes:
    """32 bytes that stand for the fingerprint of something, or for an id."""
    return sha256(text.encode()).digest()


class CreditWorld(SuiteWorld):
    """Accounts: regulator, operator, agency, other_agency, bank_a, bank_b, arbiter; subjects alice, bob."""

    def __init__(self) -> None:
        super().__init__(SUITE)
        for name, roles in (
            ("agency", AGENCY), ("other_agency", AGENCY), ("bank_a", PROVIDER | USER), ("bank_b", PROVIDER | USER),
            ("arbiter", ARBITER),
        ):  # fmt: skip
            self.ok("operator", "registry", "register", self.address(name), roles)
        for name in ("alice", "bob"):
            self.ok("bank_a", "registry", "enrol", self.address(name))
        self.ok("agency", "product", "publish", "report", ACCOUNTS | REPAYMENT, PRICE)
        for name in ("bank_a", "bank_b"):
            self.ok("operator", "settlement", "issue", self.address(name), POINTS)

    def consent(
        self, name: str = "see", *, subject: str = "alice", user: str = "bank_b", agency: str = "agency",
        scope: int = ACCOUNTS | REPAYMENT, purpose: int = LENDING, lasts_ms: int = YEAR_MS, uses: int = 1,
        explicit: bool = False,
    ) -> Any:  # fmt: skip
        """The subject grants; the answer."""
        return self.do(
            subject, "consent", "grant", paper(name), self.address(user), self.address(agency), scope, purpose,
            self.time_ms + lasts_ms, uses, explicit,
        )  # fmt: skip

    def submit(
        self, name: str = "item", *, subject: str = "alice", provider: str = "bank_a", agency: str = "agency",
        category: int = ACCOUNTS, adverse: bool = False, event_end_ms: int = 0, notice: bytes = b"",
        consent: str = "collect",
    ) -> Any:  # fmt: skip
        """The provider submits an item; the answer."""
        return self.do(
            provider, "record", "submit", self.address(subject), self.address(agency), paper(name), category,
            paper("document of " + name), adverse, event_end_ms, notice, paper(consent),
        )  # fmt: skip

    def with_item(self, name: str = "item", **options: Any) -> None:
        """An item that is there, with the consent it needs."""
        scope = options.get("category", ACCOUNTS)
        self.consent(
            "collect " + name, user="bank_a", purpose=COLLECTION, scope=scope, uses=1, explicit=True,
            subject=options.get("subject", "alice"), lasts_ms=4 * YEAR_MS,
        )  # fmt: skip
        assert self.submit(name, consent="collect " + name, **options) == "ok"

    def expire(self, name: str) -> Any:
        return self.do("bob", "record", "expire", self.address("alice"), self.address("agency"), paper(name))

    def create_arguments(
        self, order: str = "order", *, subject: str = "alice", agency: str = "agency", product: str = "report",
        purpose: int = LENDING, consent: str = "see", price_max: int = PRICE, purse: int = 0,
    ) -> tuple[Any, ...]:  # fmt: skip
        return (
            paper(order), self.address(subject), self.address(agency), product, purpose, paper(consent), price_max,
            purse,
        )  # fmt: skip

    def create(self, order: str = "order", *, user: str = "bank_b", **options: Any) -> Any:
        return self.do(user, "order", "create", *self.create_arguments(order, **options))

    def accept(self, order: str = "order", *, user: str = "bank_b", agency: str = "agency") -> Any:
        return self.do(agency, "order", "accept", self.address(user), paper(order))

    def deliver_arguments(
        self, order: str = "order", *, user: str = "bank_b", subject: str = "alice", consent: str = "see",
        delivery: str = "",
    ) -> tuple[Any, ...]:  # fmt: skip
        return (
            self.address(user), paper(order), self.address(subject), paper(consent),
            paper(delivery or "delivery of " + order),
        )  # fmt: skip

    def deliver(self, order: str = "order", *, agency: str = "agency", **options: Any) -> Any:
        return self.do(agency, "order", "deliver", *self.deliver_arguments(order, **options))

    def confirm(self, order: str = "order", *, user: str = "bank_b", purse: int = 0) -> Any:
        return self.do(user, "order", "confirm", paper(order), self.address("agency"), purse)

    def time_out(self, order: str = "order", *, by: str = "bob", user: str = "bank_b") -> Any:
        return self.do(by, "order", "time_out", self.address(user), paper(order), self.address("agency"), 0)

    def reject(self, order: str = "order", *, by: str = "bank_b", user: str = "bank_b") -> Any:
        return self.do(by, "order", "reject", self.address(user), paper(order), 0)

    def accepted_order(self, order: str = "order", *, consent: str = "see") -> None:
        assert self.create(order, consent=consent) == "ok"
        assert self.accept(order) == "ok"

    def delivered_order(self, order: str = "order", *, consent: str = "see") -> None:
        self.accepted_order(order, consent=consent)
        assert self.deliver(order, consent=consent) == "ok"

    def log_codes(self, subject: str = "alice") -> list[str]:
        """The codes of the subject's query log, oldest first."""
        entries = self.read(subject, "query_log", "list_entries", self.address(subject), 0, 100)
        return [entry[-1] for entry in entries]

    def balance(self, name: str) -> int:
        balance = self.read("operator", "settlement", "balance", self.address(name))
        assert isinstance(balance, int)
        return balance
