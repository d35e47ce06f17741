"""Planned calls in phases: what to send, signed by whom, and what must come back.

All calls of a phase are independent: they can be sent at once and in any order, and each has the same outcome. A phase
may depend on all earlier ones, so it is sent when those are certified. The ids in the arguments are made by the clients
beforehand, so the whole workload is known before the first transaction: a function of the rows, the parties, the seed
and the start time.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Final, TypeAlias

from chain.codec import Value, pack
from chain.errors import BadInput

ORGANISATIONS: Final = ("regulator", "bank_a", "bank_b", "agency")  # the regulator is the operator, too

Signer: TypeAlias = "str | tuple[str, int]"  # an organisation, or ("subject", row index)
Row: TypeAlias = "dict[str, str]"


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One transaction and its expected outcome: `status` 0 and `result`, or another status.

    `arguments` are final values: addresses are filled in. `subject` is the row whose life it belongs to (None: set-up),
    `logs` says that it adds one entry to that subject's query or usage log, `story` is for people.
    """

    signer: Signer
    contract: str
    method: str
    arguments: tuple[Value, ...]
    result: Value = "ok"
    status: int = 0
    subject: int | None = None
    logs: bool = False
    story: str = ""

    def problem(self, status: int, result: Value) -> str:
        """Empty if the outcome is the expected one, else a sentence that says what differs."""
        if status != self.status:
            return f"{self.contract}.{self.method} ({self.story}): status {status}, expected {self.status}"
        if status == 0 and result != self.result:
            return f"{self.contract}.{self.method} ({self.story}): answered {result!r}, expected {self.result!r}"
        return ""


@dataclass(frozen=True, slots=True)
class Phase:
    """Independent calls. `not_before_ms`: send only when the chain's clock has reached it (0: at once)."""

    name: str
    calls: tuple[PlannedCall, ...]
    not_before_ms: int = 0


@dataclass(frozen=True, slots=True)
class Parties:
    """Addresses: of the four `ORGANISATIONS` by name, and of one subject account per row."""

    organisations: Mapping[str, bytes]
    subjects: Sequence[bytes]

    def __post_init__(self) -> None:
        missing = [name for name in ORGANISATIONS if name not in self.organisations]
        if missing:
            raise BadInput("unknown_party", f"no address for {', '.join(missing)}")

    def address(self, signer: Signer) -> bytes:
        return self.organisations[signer] if isinstance(signer, str) else self.subjects[signer[1]]

    def roles(self) -> dict[str, bytes]:
        """The parties that the suites' deployment names."""
        return {"regulator": self.organisations["regulator"], "operator": self.organisations["regulator"]}


def subject_secret(seed: bytes, index: int) -> bytes:
    """32 secret bytes of a subject's account key, for demo and benchmark accounts only."""
    return derived(seed, "subject-key", index)


def derived(seed: bytes, *labels: str | int) -> bytes:
    """32 bytes that look random and depend on the seed and the labels only."""
    return hashlib.sha256(b"headrace/demo/1" + pack((seed, labels))).digest()


def draw(seed: bytes, index: int, weights: Mapping[str, int], *, label: str) -> str:
    """One of the names, with a chance in proportion to its weight; the same every time."""
    number = int.from_bytes(derived(seed, label, index)[:8], "big") % sum(weights.values())
    for name, weight in weights.items():
        if number < weight:
            return name
        number -= weight
    raise BadInput("weights", "weights must be positive")


def read_rows(name: str, limit: int | None = None) -> list[Row]:
    """The first `limit` rows of a data file of this package, values as text."""
    text = files("chain.cli.demo").joinpath("data", name).read_text(encoding="utf-8")
    return list(islice(csv.DictReader(io.StringIO(text)), limit))


def gather(phases: Sequence[tuple[str, Iterable[PlannedCall], int]]) -> list[Phase]:
    """Phases from (name, calls, not before), without the empty ones."""
    made = [Phase(name, tuple(calls), not_before_ms) for name, calls, not_before_ms in phases]
    return [phase for phase in made if phase.calls]


def log_entries(phases: Iterable[Phase]) -> dict[int, int]:
    """How many entries each subject's log must have when the phases are through, by row index."""
    logged = [call.subject for phase in phases for call in phase.calls if call.logs]
    return dict(Counter(subject for subject in logged if subject is not None))


def outcomes(phases: Iterable[Phase]) -> dict[str, int]:
    """How often each answer is expected, by "contract.method: answer", ascending."""
    counts = Counter(
        f"{call.contract}.{call.method}: {str(call.result) if call.status == 0 else 'reverted'}"
        for phase in phases
        for call in phase.calls
    )
    return dict(sorted(counts.items()))
