"""What to run, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, get_args

from bench.execute.workloads import WORKLOADS
from chain.errors import ConfigError
from executor.engine import EXECUTORS_MAX
from executor.governor import Mode
from executor.planners import PREDICTORS

ALL: Final = "all"
INFERRED: Final = "inferred"
ADVERSARIAL: Final = "adversarial"
_NAMES: Final = tuple(name for name in PREDICTORS if name != "summary")
PREDICTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {INFERRED: ("summary",), ADVERSARIAL: _NAMES, **{name: (name,) for name in _NAMES}}
)  # the names of `executor.planners` to run with; of several the worst counts
MODES: Final = tuple(mode for mode in get_args(Mode) if mode != "serial")  # serial is what is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutePlan:
    """One workload, measured `repeats` times on fresh copies of the same state.

    `warmup` blocks come before the `blocks` that count; `transactions` are those of one block.
    """

    workload: str
    executors: tuple[int, ...] = (1, 2)
    blocks: int = 50
    transactions: int = 1_000
    warmup: int = 10
    repeats: int = 3
    seed: int = 1
    predictions: str = INFERRED
    mode: Mode = "parallel"
    model: bool = True

    def __post_init__(self) -> None:
        choices = {"workload": WORKLOADS, "predictions": PREDICTIONS, "mode": MODES}
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise ConfigError(f"{field} is {getattr(self, field)!r}, must be one of {', '.join(known)}")
        ranges = {
            "blocks": (1, 10_000), "transactions": (1, 20_000), "warmup": (0, 1_000), "repeats": (1, 100),
            "seed": (0, 2**63 - 1),
        }  # fmt: skip
        for field, (low, high) in ranges.items():
            if not low <= getattr(self, field) <= high:
                raise ConfigError(f"{field} is {getattr(self, field)}, must be {low}..{high}")
        if not self.executors:
            raise ConfigError("executors is empty, must be numbers such as 1,2")
        if len(set(self.executors)) != len(self.executors):
            raise ConfigError(f"executors is {','.join(map(str, self.executors))}, must not name a number twice")
        for count in self.executors:
            if not 1 <= count <= EXECUTORS_MAX:
                raise ConfigError(f"executors has {count}, each must be 1..{EXECUTORS_MAX}")


def workloads_named(text: str) -> list[str]:
    """The names in a comma-separated list, where `all` is every one.

    Raises:
        ConfigError: there is no such workload.
    """
    names = [name.strip() for name in text.split(",")]
    if names == [ALL]:
        return list(WORKLOADS)
    for name in names:
        if name not in WORKLOADS:
            raise ConfigError(f"workload is {name!r}, must be one of {', '.join(WORKLOADS)} or {ALL}")
    return names


def executors_named(text: str) -> tuple[int, ...]:
    """The numbers in a comma-separated list.

    Raises:
        ConfigError: something in it is no number.
    """
    try:
        return tuple([int(item) for item in text.split(",")])
    except ValueError:
        raise ConfigError(f"executors is {text!r}, must be numbers such as 1,2") from None
