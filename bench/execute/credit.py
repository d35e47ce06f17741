"""The credit order path: `order.deliver`, which calls consent.use, record.read, query_log.append, settlement.transfer.

Everything that a delivery needs is set up by transactions of the suite (`bench.workloads.credit`), an accepted order
for every delivery among it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Final

from bench.execute.world import Made, World
from bench.workloads.credit import accept, create, deliver, market, orders

SUBJECTS_MAX: Final = 5_000
ORDERS_PER_SUBJECT_MIN: Final = 4  # so that blocks far apart meet the same people again


def credit_order(world: World, draw: random.Random, count: int) -> Iterator[Made]:
    """`count` deliveries in an order drawn at random."""
    subjects = max(1, min(SUBJECTS_MAX, count // ORDERS_PER_SUBJECT_MIN))
    contract = world.set_up(lambda start: market(start, subjects))
    made = list(islice(orders(draw.randrange(2**32), subjects), count))
    world.run(world.call(create(order), contract) for order in made)
    world.run(world.call(accept(order), contract) for order in made)
    draw.shuffle(made)
    for order in made:
        yield world.call(deliver(order), contract)
