"""The income verification path: a bank asks whether the document it was handed is the attested one.

`verify.submit` calls consent.check, attest.answer, consent.use, usage.append and the register of issuers. Every answer
takes a use of the subject's consent and is logged.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from bench.workloads.workload import Call, Setup, SetupCall, Start, Workload, account, deploy_suite
from chain.cli.demo.income_flow import DAY_MS, LENDING, SALARY, VERIFY
from chain.cli.demo.workload import derived
from contracts import income

SUBJECTS: Final = 2_000
FORGED_IN: Final = 10  # one of so many documents is not the attested one: the answer is `mismatch`
GRANT_USES: Final = 1_000
YEAR: Final = 2025
GAS_LIMIT: Final = 1_000_000
ISSUER: Final = "employer"
VERIFIERS: Final = ("bank a", "bank b")


def income_verification(subjects: int = SUBJECTS) -> Workload:
    """Verifications of documents about subjects drawn uniformly, by two banks."""

    def calls(seed: int) -> Iterator[Call]:
        draw = random.Random(seed)
        while True:
            subject, verifier = draw.randrange(subjects), VERIFIERS[draw.randrange(2)]
            shown = bytes(32) if draw.randrange(FORGED_IN) == 0 else _id("document", subject)
            arguments = (
                _subject(subject), _id("grant", subject, verifier), _id("attestation", subject), LENDING,
                draw.randbytes(16), shown,
            )  # fmt: skip
            yield Call("submit", arguments, GAS_LIMIT, verifier)

    return Workload(
        f"no published benchmark: the income verification suite of this program, {subjects:,} subjects and two banks; "
        f"one document of {FORGED_IN} is forged",
        lambda start: _attested(start, subjects),
        calls,
    )


def _attested(start: Start, subjects: int) -> Setup:
    """The suite, an issuer, and subjects with an attestation and a consent for each verifier."""
    parties = {"regulator": start.operator, "operator": start.operator}
    contracts = yield from deploy_suite(income.SUITE, parties)
    issuer = account(ISSUER).address
    yield [SetupCall(contracts["income.issuer"], "register", (issuer, issuer, SALARY))]
    expires_ms = start.now_ms + 365 * DAY_MS
    yield [
        SetupCall(
            contracts["income.attest"], "issue",
            (_subject(at), _id("attestation", at), SALARY, YEAR, _id("document", at), b"", expires_ms),
            ISSUER,
        )
        for at in range(subjects)
    ]  # fmt: skip
    yield [
        SetupCall(
            contracts["income.consent"], "grant",
            (
                _id("grant", at, verifier), account(verifier).address, _id("attestation", at), LENDING, VERIFY,
                expires_ms, GRANT_USES,
            ),
            _name(at),
        )
        for at in range(subjects)
        for verifier in VERIFIERS
    ]  # fmt: skip
    return contracts["income.verify"]


def _id(*labels: str | int) -> bytes:
    return derived(b"bench", *labels)


def _name(subject: int) -> str:
    return f"person {subject}"


def _subject(number: int) -> bytes:
    return account(_name(number)).address
