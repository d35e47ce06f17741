"""The credit order path: a bank orders a report about a subject, the agency accepts, and delivers.

Everything that an order needs is set up by transactions of the suite, sent by those who would send them: members, a
product, points, and subjects that are enrolled, have consented for each bank and have a record. A delivery runs through
six contracts: `order.deliver` calls consent.use, record.read, settlement.transfer, registry.check and query_log.append.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.workloads.workload import Call, Setup, SetupCall, Start, Workload, account, deploy_suite
from chain.cli.demo.credit_flow import (
    ACCOUNTS,
    AGENCY,
    COLLECTION,
    DAY_MS,
    LENDING,
    PRICE,
    PRODUCT,
    PROVIDER_AND_USER,
    PURSES,
    YEAR_MS,
)
from chain.cli.demo.workload import derived
from contracts import credit

SUBJECTS: Final = 1_000
LAG: Final = 2_000  # orders between two steps of one, so that the first is through when the second is due
POINTS: Final = 10**12
CONSENT_USES: Final = 10_000
GAS_LIMIT: Final = 1_000_000
AGENCY_NAME: Final = "agency"
BANKS: Final = ("bank a", "bank b")


class Order(NamedTuple):
    bank: str
    subject: int
    id: bytes
    purse: int


def credit_order(subjects: int = SUBJECTS, lag: int = LAG) -> Workload:
    """Orders on their way: in the long run a third of the calls create one, a third accept, a third deliver.

    The steps of one order lie `lag` orders apart. A step that comes before the one it needs is through fails, and is
    counted: that is so at a rate where a transaction takes as long as `lag` of them. The first calls of a seed only
    create.
    """

    def calls(seed: int) -> Iterator[Call]:
        fresh = orders(seed, subjects)
        created: deque[Order] = deque()
        accepted: deque[Order] = deque()
        turn = 0
        while True:
            turn = (turn + 1) % 3
            if turn == 2 and len(accepted) > lag:
                yield deliver(accepted.popleft())
            elif turn and len(created) > lag:
                accepted.append(created.popleft())
                yield accept(accepted[-1])
            else:
                created.append(next(fresh))
                yield create(created[-1])

    return Workload(
        "no published benchmark: the credit reporting suite of this program, orders about "
        f"{subjects:,} subjects by two banks to one agency, from creation to delivery",
        lambda start: market(start, subjects),
        calls,
    )


def orders(seed: int, subjects: int) -> Iterator[Order]:
    """New orders about subjects drawn uniformly."""
    draw = random.Random(seed)
    number = 0
    while True:
        bank = BANKS[draw.randrange(2)]
        yield Order(bank, draw.randrange(subjects), derived(b"bench", "order", seed, number), number % PURSES)
        number += 1


def create(order: Order) -> Call:
    arguments = (
        order.id, _subject(order.subject), account(AGENCY_NAME).address, PRODUCT, LENDING,
        _consent_id(order.subject, order.bank, LENDING), PRICE, order.purse,
    )  # fmt: skip
    return Call("create", arguments, GAS_LIMIT, order.bank)


def accept(order: Order) -> Call:
    return Call("accept", (account(order.bank).address, order.id), GAS_LIMIT, AGENCY_NAME)


def deliver(order: Order) -> Call:
    arguments = (
        account(order.bank).address, order.id, _subject(order.subject),
        _consent_id(order.subject, order.bank, LENDING), derived(order.id, "report"),
    )  # fmt: skip
    return Call("deliver", arguments, GAS_LIMIT, AGENCY_NAME)


def market(start: Start, subjects: int) -> Setup:
    """The suite, its members, and subjects with a consent for each bank and one record; the order contract's address.

    The operator of the suite is its regulator too.
    """
    parties = {"regulator": start.operator, "operator": start.operator}
    contracts = {
        name.removeprefix("credit."): address
        for name, address in (yield from deploy_suite(credit.SUITE, parties)).items()
    }
    agency = account(AGENCY_NAME).address
    registry, settlement, record = contracts["registry"], contracts["settlement"], contracts["record"]
    yield [
        SetupCall(registry, "register", (agency, AGENCY)),
        *[SetupCall(registry, "register", (account(bank).address, PROVIDER_AND_USER)) for bank in BANKS],
    ]
    yield [
        SetupCall(contracts["product"], "publish", (PRODUCT, ACCOUNTS, PRICE), AGENCY_NAME),
        *[SetupCall(settlement, "issue", (account(bank).address, POINTS)) for bank in BANKS],
        *[SetupCall(registry, "enrol", (_subject(number),), BANKS[0]) for number in range(subjects)],
    ]
    expires_ms = start.now_ms + YEAR_MS - DAY_MS
    yield [
        SetupCall(
            contracts["consent"], "grant",
            (
                _consent_id(number, bank, purpose), account(bank).address, agency, ACCOUNTS, purpose, expires_ms,
                CONSENT_USES, False,
            ),
            _name(number),
        )
        for number in range(subjects)
        for bank, purpose in (*((bank, LENDING) for bank in BANKS), (BANKS[0], COLLECTION))
    ]  # fmt: skip
    yield [
        SetupCall(
            record, "submit",
            (
                _subject(number), agency, derived(b"bench", "record", number), ACCOUNTS,
                derived(b"bench", "item", number), False, 0, b"", _consent_id(number, BANKS[0], COLLECTION),
            ),
            BANKS[0],
        )
        for number in range(subjects)
    ]  # fmt: skip
    return contracts["order"]


def _name(subject: int) -> str:
    return f"subject {subject}"


def _subject(number: int) -> bytes:
    return account(_name(number)).address


def _consent_id(subject: int, bank: str, purpose: int) -> bytes:
    return derived(b"bench", "consent", subject, bank, purpose)
