"""The credit order path: `order.deliver`, which calls consent.use, record.read, query_log.append, settlement.transfer.

Everything that a delivery needs is set up by transactions of the suite, sent by those who would send them: an agency,
two banks, subjects that are enrolled, have consented and have a record, and an accepted order for every delivery.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.execute.world import START_MS, Made, World
from chain.cli.demo.credit_flow import ACCOUNTS, AGENCY, COLLECTION, LENDING, PRICE, PRODUCT, PROVIDER_AND_USER, YEAR_MS
from chain.cli.demo.workload import derived
from contracts import credit

SUBJECTS_MAX: Final = 5_000
ORDERS_PER_SUBJECT_MIN: Final = 4  # so that blocks far apart meet the same people again
POINTS: Final = 10**12
PURSES: Final = 64
GAS_LIMIT: Final = 1_000_000
REGULATOR: Final = "regulator"
BANKS: Final = ("bank a", "bank b")


class _Order(NamedTuple):
    bank: str
    subject: int
    id: bytes


def credit_order(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    """`count` deliveries in an order drawn at random."""
    market = _Market(world)
    subjects = max(1, min(SUBJECTS_MAX, count // ORDERS_PER_SUBJECT_MIN))
    market.open(subjects)
    orders = [
        _Order(BANKS[draw.randrange(2)], number % subjects, derived(b"bench", "order", number))
        for number in range(count)
    ]
    market.order(orders)
    draw.shuffle(orders)
    for order in orders:
        yield market.delivery(order)


class _Market:
    def __init__(self, world: World) -> None:
        self._world = world
        regulator = world.address(REGULATOR)
        self._contracts = world.deploy_suite(
            credit.SUITE, {"regulator": regulator, "operator": regulator}, admin=REGULATOR
        )
        self._agency = world.address("agency")

    def open(self, subjects: int) -> None:
        """Members, the product, points, and subjects with a consent for each bank and one record."""
        world, send = self._world, self._send
        world.run(
            [
                send(REGULATOR, "registry", "register", self._agency, AGENCY),
                *[send(REGULATOR, "registry", "register", world.address(bank), PROVIDER_AND_USER) for bank in BANKS],
                send("agency", "product", "publish", PRODUCT, ACCOUNTS, PRICE),
                *[send(REGULATOR, "settlement", "issue", world.address(bank), POINTS) for bank in BANKS],
            ]
        )
        world.run(send(BANKS[0], "registry", "enrol", self._subject(number)) for number in range(subjects))
        for bank in BANKS:
            world.run(self._consent(number, bank, LENDING) for number in range(subjects))
        world.run(self._consent(number, BANKS[0], COLLECTION) for number in range(subjects))
        world.run(
            send(
                BANKS[0], "record", "submit", self._subject(number), self._agency, derived(b"bench", "record", number),
                ACCOUNTS, derived(b"bench", "item", number), False, 0, b"", _consent_id(number, BANKS[0], COLLECTION),
            )
            for number in range(subjects)
        )  # fmt: skip

    def order(self, orders: list[_Order]) -> None:
        """Create and accept them."""
        send = self._send
        self._world.run(
            send(
                order.bank, "order", "create", order.id, self._subject(order.subject), self._agency, PRODUCT, LENDING,
                _consent_id(order.subject, order.bank, LENDING), PRICE, number % PURSES,
            )
            for number, order in enumerate(orders)
        )  # fmt: skip
        self._world.run(
            send("agency", "order", "accept", self._world.address(order.bank), order.id) for order in orders
        )

    def delivery(self, order: _Order) -> Made:
        return self._send(
            "agency", "order", "deliver", self._world.address(order.bank), order.id, self._subject(order.subject),
            _consent_id(order.subject, order.bank, LENDING), derived(order.id, "report"),
        )  # fmt: skip

    def _consent(self, subject: int, bank: str, purpose: int) -> Made:
        return self._send(
            _name(subject), "consent", "grant", _consent_id(subject, bank, purpose), self._world.address(bank),
            self._agency, ACCOUNTS, purpose, START_MS + YEAR_MS, 10_000, False,
        )  # fmt: skip

    def _subject(self, number: int) -> bytes:
        return self._world.address(_name(number))

    def _send(self, account: str, contract: str, method: str, *arguments: bytes | str | int) -> Made:
        return self._world.transaction(account, self._contracts[f"credit.{contract}"], method, arguments, GAS_LIMIT)


def _name(subject: int) -> str:
    return f"subject {subject}"


def _consent_id(subject: int, bank: str, purpose: int) -> bytes:
    return derived(b"bench", "consent", subject, bank, purpose)
