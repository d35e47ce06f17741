"""The seam between a workload and the harness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from chain.client import Client
from chain.codec import Value


@dataclass(frozen=True, slots=True)
class Call:
    """One transaction to come: method and arguments on the workload's contract."""

    method: str
    arguments: tuple[Value, ...]
    gas_limit: int


class Workload(Protocol):
    """Made with defaults; `prepare` deploys on a running network, `calls` is pure and seeded."""

    async def prepare(self, client: Client) -> bytes:
        """Deploy and fill; returns the address that `calls` go to."""
        ...

    def calls(self, seed: int) -> Iterator[Call]:
        """Endless."""
        ...
