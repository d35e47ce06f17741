"""Plans: what to run, read from TOML and from the command line, every key checked, unknown ones refused.

A file's top-level keys hold for each of its [[run]] tables, which may set them differently; without any there is one
run. The tables `parameters`, `node` and `ablation` are joined key by key.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from bench.workloads import WORKLOADS
from chain.config import GatewayConfig, IdentityConfig, NodeConfig, RpcConfig, override
from chain.config.fields import refuse
from chain.config.node import OWN_FIELDS, OWN_TABLES, TABLES
from chain.errors import ConfigError
from chain.model.genesis import ChainParameters

LIFETIME_HEIGHTS: Final = 1_000_000  # transactions are signed long before they are sent
RUNS_MAX: Final = 64
LEADER: Final = "leader"
FAULT_KINDS: Final = {
    "kill": "SIGKILL to the node and its executors, started again after `seconds`",
    "stop": "SIGTERM to the node, started again after `seconds`",
    "freeze": "SIGSTOP to the node and its executors, SIGCONT after `seconds`",
}
ABLATIONS: Final[dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]]] = {
    # switch -> setting -> (genesis parameters, node.toml fields)
    "pipeline": {"on": ({}, {}), "off": ({"window": 1}, {"ablation.pipeline": "off"})},
    "fsync": {"on": ({}, {}), "off": ({}, {"ablation.fsync": False, "ablation.unsafe": True})},
    "signatures": {"threads": ({}, {}), "process": ({}, {"crypto.checker": "process"})},
    "execution": {"parallel": ({}, {"executor.mode": "parallel"}), "serial": ({}, {"executor.mode": "serial"})},
}
_RANGES: Final[dict[str, tuple[float, float, str, bool]]] = {  # low, high, unit, whole numbers only
    "nodes": (1, 32, "nodes", True),
    "executors": (1, 64, "processes", True),
    "rate": (0.1, 1_000_000, "transactions a second", False),
    "seconds": (1, 86_400, "seconds", False),
    "warmup_s": (0, 3_600, "seconds", False),
    "transactions": (0, 100_000_000, "transactions, 0: as `seconds` says", True),
    "repeats": (1, 100, "repeats", True),
    "seed": (0, 2**48, "numbers", True),
    "load_processes": (1, 16, "processes", True),
    "in_flight_max": (0, 10_000_000, "transactions, 0: open loop", True),
    "certified_share_min": (0.5, 1, "of what is offered", False),
    "p99_ms_max": (1, 600_000, "milliseconds", False),
    "soak_seconds": (0, 86_400, "seconds, 0: no soak", False),
    "soak_share": (0.05, 1, "of the knee", False),
    "drain_s": (0, 3_600, "seconds", False),
    "slice_transactions": (0, 10_000_000, "transactions, 0: 100,000 or a tenth", True),
}
_ANY_NODE: Final = NodeConfig(
    folder=Path(),
    node=IdentityConfig(name="any", organisation="Any", role="bank"),
    rpc=RpcConfig(port=20_000),
    gateway=GatewayConfig(port=20_001),
    peers=(),
)
_DELAY_MS_MAX: Final = 10_000
_TABLES: Final = ("parameters", "node", "ablation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Rising offered rates: `rates` as they stand, or from `start` by `factor` to `highest`, and then `refine` halvings
    of the gap between the last rate that was sustained and the first that was not."""

    rates: tuple[float, ...] = ()
    start: float = 500.0
    factor: float = 1.25
    highest: float = 100_000.0
    refine: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`node` is a number from 1 on, or "leader"; `at_s` counts from the start of the measured window."""

    kind: str
    node: int | str
    at_s: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """One run. Rates in transactions a second, times as their names say."""

    name: str = "run"
    question: str = ""  # what the run answers, for the report
    workload: str = "send_payment"
    nodes: int = 4
    executors: int = 1
    rate: float = 1_000.0
    sweep: Sweep | None = None
    seconds: float = 60.0
    transactions: int = 0  # a fixed number, warm-up included, instead of `seconds`
    warmup_s: float = 10.0
    repeats: int = 1
    seed: int = 1
    link_delay_ms: int = 0
    link_delays: Mapping[tuple[int, int], int] = field(default_factory=dict)  # of pairs of nodes; others as above
    load_processes: int = 1
    in_flight_max: int = 0
    certified_share_min: float = 0.97
    p99_ms_max: float = 5_000.0
    soak_seconds: float = 0.0  # after a sweep
    soak_share: float = 0.8
    drain_s: float = 30.0
    slice_transactions: int = 0
    parameters: Mapping[str, int] = field(default_factory=dict)
    node: Mapping[str, Any] = field(default_factory=dict)
    ablation: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigError: a value that cannot be run; the text says what would be right."""
        if self.workload not in WORKLOADS:
            refuse("workload", self.workload, f"one of {', '.join(WORKLOADS)}")
        for name, (low, high, unit, whole) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high, unit, whole=whole)
        if self.nodes in (2, 3):
            refuse("nodes", self.nodes, "1 (no consensus) or at least 4")
        if self.sweep is not None and (self.transactions or self.in_flight_max):
            raise ConfigError("sweep goes with `seconds` in an open loop, not with transactions or in_flight_max")
        if self.transactions and not self.in_flight_max and self.measured_s < 1:
            least = self.rate * (self.warmup_s + 1)
            refuse("transactions", self.transactions, f"at least {least:g}, what is sent in the warm-up and a second")
        if self.soak_seconds and self.sweep is None:
            raise ConfigError("soak_seconds needs a sweep, whose knee it goes by")
        for fault in self.faults:
            if isinstance(fault.node, int) and not 1 <= fault.node <= self.nodes:
                refuse("faults.node", fault.node, f'1..{self.nodes} or "{LEADER}"')
        for pair in self.link_delays:
            if not all(1 <= end <= self.nodes for end in pair) or pair[0] == pair[1]:
                refuse("link_delay_ms", f"{pair[0]}-{pair[1]}", f'two different nodes of 1..{self.nodes}, like "1-2"')
        self.chain_parameters()
        override(_ANY_NODE, self.overrides())

    @property
    def measured_s(self) -> float:
        """Length of the window as intended; a closed loop with `transactions` ends when they are sent."""
        return self.transactions / self.rate - self.warmup_s if self.transactions else self.seconds

    def chain_parameters(self) -> ChainParameters:
        """Of the genesis. Raises ConfigError: unknown, or no whole number."""
        given = dict(self.parameters)
        for switch, setting in self.ablation.items():
            given.update(ABLATIONS[switch][setting][0])
        return ChainParameters(**{"lifetime_max": LIFETIME_HEIGHTS, **given})

    def overrides(self) -> dict[str, Any]:
        """Fields of every node.toml, by TABLE.FIELD."""
        found: dict[str, Any] = {}
        for switch, setting in self.ablation.items():
            found.update(ABLATIONS[switch][setting][1])
        return {**found, **self.node}

    def document(self) -> dict[str, Any]:
        """Every setting, for the result, as JSON has it."""
        plain = dataclasses.asdict(self)
        plain["link_delays"] = {f"{one}-{other}": delay for (one, other), delay in self.link_delays.items()}
        return dict(msgspec.json.decode(msgspec.json.encode(plain)))


_FIELDS: Final = tuple(item.name for item in dataclasses.fields(ClusterPlan) if item.name != "link_delays")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """A plan as read: its name, what it is for, and its runs."""

    name: str
    question: str
    runs: tuple[ClusterPlan, ...]


def load_plan(path: Path, changes: Mapping[str, Any] | None = None, only: Sequence[str] = ()) -> PlanFile:
    """The plan in a TOML file, each of its runs with `changes`; `only` the runs of these names.

    Raises:
        ConfigError: names the file, the key, its value and what would be right.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return parse_plan(document, name=path.stem, changes=changes, only=only)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_plan(
    document: Mapping[str, Any], *, name: str, changes: Mapping[str, Any] | None = None, only: Sequence[str] = ()
) -> PlanFile:
    """The plan in a parsed TOML document. Raises ConfigError."""
    shared = {key: value for key, value in document.items() if key != "run"}
    for key in (*shared, *(changes or {})):
        if key not in _FIELDS:
            _refuse_unknown(key, (*_FIELDS, "run"), elsewhere=_elsewhere())
    tables = document.get("run", [{}])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        refuse("run", tables, "tables ([[run]])")
    if not 1 <= len(tables) <= RUNS_MAX:
        refuse("run", f"{len(tables)} tables", f"1..{RUNS_MAX}")
    if not isinstance(shared.get("name", ""), str):
        refuse("name", shared["name"], "text")
    plan_name = shared.pop("name", name)
    runs = []
    for at, table in enumerate(tables, 1):
        own = {"name": plan_name if len(tables) == 1 else f"{plan_name}-{at}"}
        try:
            runs.append(plan_of(joined(own, shared, table, changes or {})))
        except ConfigError as error:
            raise ConfigError(f"run {table.get('name', at)!r}: {error}" if len(tables) > 1 else str(error)) from None
    names = [run.name for run in runs]
    if len(set(names)) != len(names):
        refuse("run.name", names, "different in each [[run]]")
    for wanted in only:
        if wanted not in names:
            refuse("--run", wanted, f"one of {', '.join(names)}")
    chosen = tuple(run for run in runs if not only or run.name in only)
    return PlanFile(name=plan_name, question=str(shared.get("question", "")), runs=chosen)


def joined(*documents: Mapping[str, Any]) -> dict[str, Any]:
    """Later ones win; tables are joined key by key. A `rate` takes the place of a `sweep`, and the other way round."""
    result: dict[str, Any] = {}
    for document in documents:
        if "rate" in document and "sweep" not in document:
            result.pop("sweep", None)
            result.pop("soak_seconds", None)
        for key, value in document.items():
            if key in _TABLES and isinstance(value, dict):
                before = result.get(key, {})
                result[key] = {**before, **_flat(value)} if isinstance(before, dict) else value
            else:
                result[key] = value
    return result


def plan_of(document: Mapping[str, Any]) -> ClusterPlan:
    """One run from its keys. Raises ConfigError."""
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in _FIELDS:
            _refuse_unknown(key, _FIELDS, elsewhere=_elsewhere())
        if key == "sweep":
            values[key] = _sweep(value)
        elif key == "link_delay_ms":
            values.update(_delays(value))
        elif key == "faults":
            if not isinstance(value, list):
                refuse(key, value, "tables ([[faults]])")
            values[key] = tuple(_fault(at, item) for at, item in enumerate(value, 1))
        elif key == "parameters":
            values[key] = _parameters(value)
        elif key == "node":
            values[key] = _table(key, value)
        elif key == "ablation":
            values[key] = _ablation(value)
        elif key in ("name", "question", "workload"):
            if not isinstance(value, str):
                refuse(key, value, "text")
            values[key] = value
        else:
            values[key] = value
    return ClusterPlan(**values)


# --- keys ---


def _refuse_unknown(
    key: str, known: Sequence[str], *, within: str = "", elsewhere: Mapping[str, str] | None = None
) -> NoReturn:
    """`within` is the table that the key is in, `elsewhere` where keys of other tables would be right.

    Raises:
        ConfigError: names the key, the one that was probably meant, and those that are known.
    """
    close = difflib.get_close_matches(key, known, n=1)
    meant = (elsewhere or {}).get(key) or (f"{within}{close[0]}" if close else "")
    hint = f"did you mean `{meant}`? " if meant else ""
    raise ConfigError(f"unknown key `{within}{key}`; {hint}known: {', '.join(known)}")


def _elsewhere() -> dict[str, str]:
    """Keys of a plan's tables, by their last name."""
    found = {
        item.name: f"node.{table}.{item.name}"
        for table, kind in TABLES.items()
        if table not in OWN_TABLES
        for item in dataclasses.fields(kind)
        if item.name not in OWN_FIELDS
    }
    found |= {name: f"parameters.{name}" for name in ChainParameters.__struct_fields__}
    return found | {name: f"ablation.{name}" for name in ABLATIONS}


# --- values ---


def _check_number(name: str, value: object, low: float, high: float, unit: str, *, whole: bool) -> None:
    fits = type(value) is int or (not whole and type(value) is float and math.isfinite(value))
    if not fits or not low <= value <= high:  # type: ignore[operator]
        refuse(name, value, f"{'a whole number' if whole else 'a number'}, {low:g}..{high:g} {unit}")


def _sweep(value: object) -> Sweep:
    if isinstance(value, list):
        for rate in value:
            _check_number("sweep", rate, *_RANGES["rate"][:3], whole=False)
        if not value or sorted(set(value)) != value:
            refuse("sweep", value, "rising rates, at least one")
        return Sweep(rates=tuple(float(rate) for rate in value))
    if not isinstance(value, dict):
        refuse("sweep", value, "a list of rates, or a table with start, factor, highest, refine")
    ranges: dict[str, tuple[float, float, str, bool]] = {
        "start": _RANGES["rate"], "factor": (1.01, 10, "times the rate before", False), "highest": _RANGES["rate"],
        "refine": (0, 10, "halvings", True),
    }  # fmt: skip
    for key, item in value.items():
        if key not in ranges:
            _refuse_unknown(key, tuple(ranges), within="sweep.")
        low, high, unit, whole = ranges[key]
        _check_number(f"sweep.{key}", item, low, high, unit, whole=whole)
    return Sweep(**value)


def _delays(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        _check_number("link_delay_ms", value, 0, _DELAY_MS_MAX, "milliseconds, or a table of links", whole=True)
        return {"link_delay_ms": value}
    links: dict[tuple[int, int], int] = {}
    others = 0
    for key, delay in value.items():
        _check_number(f"link_delay_ms.{key}", delay, 0, _DELAY_MS_MAX, "milliseconds", whole=True)
        if key == "others":
            others = delay
            continue
        one, _, other = key.partition("-")
        if not (one.isdecimal() and other.isdecimal()):
            refuse(f"link_delay_ms.{key}", delay, 'for two nodes, like "1-2", or for the `others`')
        links[min(int(one), int(other)), max(int(one), int(other))] = delay
    return {"link_delay_ms": others, "link_delays": links}


def _fault(at: int, value: object) -> Fault:
    name = f"faults[{at}]"
    if not isinstance(value, dict):
        refuse(name, value, "a table with kind, node, at_s, seconds")
    known = [item.name for item in dataclasses.fields(Fault)]
    for key in value:
        if key not in known:
            _refuse_unknown(key, known, within=f"{name}.")
    fault = {"node": LEADER, "seconds": 0.0, **value}
    if fault.get("kind") not in FAULT_KINDS:
        refuse(f"{name}.kind", fault.get("kind"), f"one of {', '.join(FAULT_KINDS)}")
    if type(fault["node"]) is not int and fault["node"] != LEADER:
        refuse(f"{name}.node", fault["node"], f'the number of a node, or "{LEADER}"')
    for key in ("at_s", "seconds"):
        _check_number(f"{name}.{key}", fault.get(key), 0, 86_400, "seconds", whole=False)
    return Fault(**fault)


def _parameters(value: object) -> dict[str, int]:
    table = _table("parameters", value)
    known = ChainParameters.__struct_fields__
    for key, item in table.items():
        if key not in known:
            _refuse_unknown(key, known, within="parameters.")
        if type(item) is not int:
            refuse(f"parameters.{key}", item, "a whole number")
    return table


def _ablation(value: object) -> dict[str, str]:
    table = _table("ablation", value)
    for key, item in table.items():
        if key not in ABLATIONS:
            _refuse_unknown(key, tuple(ABLATIONS), within="ablation.")
        if item not in ABLATIONS[key]:
            refuse(f"ablation.{key}", item, f"one of {', '.join(ABLATIONS[key])}")
    return table


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(name, value, "a table")
    return _flat(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys: `consensus.block_interval_ms`, however it was written."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def setting_of(text: str) -> dict[str, Any]:
    """The keys in KEY=VALUE of the command line, VALUE as TOML; plain words may go without quotes.

    Raises:
        ConfigError: no such form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set is {text!r}, must be KEY=VALUE, for example node.consensus.block_interval_ms=100")
    try:
        return tomllib.loads(f"{key}={value}")
    except tomllib.TOMLDecodeError:
        try:
            return tomllib.loads(f"{key}={msgspec.json.encode(value.strip()).decode()}")
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--set is {text!r}, must be KEY=VALUE as in TOML: {error}") from None
