"""What `headrace contract access` prints: the keys that a method touches, in words, and what will run in parallel.

The verdict is about many calls of one method in one block. Only a read after a write orders two transactions, so it
looks for a key that one call reads and another writes: never the same one, the same one for equal arguments, or always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from contracts.language.model import ContractModel, Mutability
from executor.access import Inference
from executor.summary import Access, CallSite, Expression, Loop, Mode, Summary, Widening

DEPTH_MAX: Final = 6  # calls followed, as prediction does
LINES_MAX: Final = 2_000  # of one method
ARGUMENTS_SHOWN: Final = 32  # characters of a call's arguments; more are left out
_SIGNS: Final = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "//", "modulo": "%", "or": "|", "and": "&", "xor": "^",
}  # fmt: skip
_MODES: Final = {1: "reads", 2: "writes", 3: "reads, writes", 4: "adds"}
_BYTES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Examined:
    """A contract file that passed the lint, and what was inferred from it."""

    file: str
    model: ContractModel
    inference: Inference

    @property
    def name(self) -> str:
        """Of the contract class."""
        return self.model.name


class Touch(NamedTuple):
    """One access in words. `mode` as in `_MODES`, or "scans"; `parts` are the key's elements, None where unknown;
    `varying` those of them that differ from transaction to transaction."""

    mode: str
    variable: str
    key: str
    line: int
    file: str
    depth: int
    parts: tuple[str | None, ...]
    varying: tuple[str, ...]
    exact: bool

    @property
    def reads(self) -> bool:
        """Whether it sees what others wrote."""
        return self.mode.startswith(("reads", "scans"))

    @property
    def changes(self) -> bool:
        """Whether others see it."""
        return "writes" in self.mode or self.mode == "adds"


class Called(NamedTuple):
    """A call of another contract in words; `followed` is the file it was followed into."""

    text: str
    interface: str
    method: str
    target: str
    line: int
    followed: str | None
    depth: int


class Rounds(NamedTuple):
    """What comes after stands in a loop."""

    text: str
    line: int
    depth: int


@dataclass(slots=True)
class MethodReport:
    """Everything there is to say about one method."""

    name: str
    kind: str
    parameters: tuple[str, ...]
    lines: list[Touch | Called | Rounds] = field(default_factory=list)
    widenings: list[tuple[str, Widening]] = field(default_factory=list)  # with the file
    domains: dict[str, str] = field(default_factory=dict)  # what each loop's item is one of
    unknown: str = ""  # why it may touch anything
    verdict: str = ""

    @property
    def touches(self) -> list[Touch]:
        """The accesses among the lines."""
        return [line for line in self.lines if isinstance(line, Touch)]

    @property
    def calls(self) -> list[Called]:
        """The calls among the lines."""
        return [line for line in self.lines if isinstance(line, Called)]


def reports(examined: Examined, others: Sequence[Examined]) -> Iterator[MethodReport]:
    """Of the methods that can be called from outside, in the order of the source; calls are followed into `others`."""
    for name, method in examined.model.methods.items():
        if method.mutability is not Mutability.PRIVATE:
            report = MethodReport(name, method.mutability.value, method.parameters)
            _Teller(report, others).tell(examined, name)
            report.verdict = _verdict(report)
            yield report


class _Frame(NamedTuple):
    """What the expressions of a summary mean here. `label` is put before variables of other contracts."""

    examined: Examined
    label: str
    arguments: tuple[Expression, ...]
    sender: Expression
    this: Expression
    items: dict[int, Expression]
    depth: int


class _Teller:
    """Puts one method and what it calls into words."""

    def __init__(self, report: MethodReport, others: Sequence[Examined]) -> None:
        self._report = report
        self._others = others
        self._loops = 0

    def tell(self, examined: Examined, method: str) -> None:
        """Fill in the report."""
        names = examined.model.methods[method].parameters
        arguments = tuple([("name", name) for name in names])
        self._summary(examined, method, _Frame(examined, "", arguments, ("name", "sender"), ("this",), {}, 0))

    def _summary(self, examined: Examined, method: str, frame: _Frame) -> None:
        summary = examined.inference.summaries.get(method)
        if summary is None:
            why = examined.inference.refused.get(method, "its code cannot be followed")
            self._report.unknown = f"{examined.file}: {method}: {why}"
            return
        self._report.widenings += [(examined.file, widening) for widening in summary.widenings]
        self._body(summary, frame)

    def _body(self, body: Summary | Loop, frame: _Frame) -> None:
        lines = self._report.lines
        if len(lines) > LINES_MAX:
            self._report.unknown = f"more than {LINES_MAX} accesses"
            return
        for (access, mode), line in sorted(
            zip(body.accesses, body.lines, strict=True), key=lambda row: (row[1], row[0][0][:2])
        ):
            lines.append(self._touch(access, mode, line, frame))
        for site in body.calls:
            self._call(site, frame)
        for loop in body.loops:
            self._loops += 1
            item = "item" if self._loops == 1 else f"item{self._loops}"
            domain = readable(_bind(loop.domain, frame))
            self._report.domains[item] = f"each of {domain}"
            lines.append(Rounds(f"for each {item} of {domain}", loop.line, frame.depth))
            frame.items[loop.id] = ("name", item)
            self._body(loop, frame._replace(depth=frame.depth + 1))

    def _touch(self, access: Access, mode: int, line: int, frame: _Frame) -> Touch:
        bound = [_bind(element, frame) for element in access.key]
        parts = tuple([None if element is None else readable(element) for element in bound])
        varying = tuple([part for part, element in zip(parts, bound, strict=True) if part and _varies(element)])
        shown = [part or "?" for part in parts]
        variable = frame.label + access.variable
        if access.kind == "Length":
            key = f"len({variable})"
        elif access.kind == "Value" or (not shown and access.exact):
            key = variable
        else:
            key = f"{variable}[{', '.join(shown if access.exact else [*shown, '...'])}]"
        word = _MODES[mode] if access.exact or mode != Mode.READ else "scans"
        name = f"len({variable})" if access.kind == "Length" else variable
        return Touch(word, name, key, line, frame.examined.file, frame.depth, parts, varying, access.exact)

    def _call(self, site: CallSite, frame: _Frame) -> None:
        address = _bind(site.address, frame)
        arguments = tuple([_bind(argument, frame) for argument in site.arguments])
        target = readable(address)
        callee = None if address is None or frame.depth >= DEPTH_MAX else self._find(site, frame)
        inner = ", ".join([readable(argument) for argument in arguments])
        if len(inner) > ARGUMENTS_SHOWN:
            inner = "..."
        text = f"{target} -> {site.interface}.{site.method}({inner})"
        followed = None if callee is None else callee.file
        lines = self._report.lines
        lines.append(Called(text, site.interface, site.method, target, site.line, followed, frame.depth))
        if callee is not None and len(callee.model.methods[site.method].parameters) == len(arguments):
            label = f"{callee.name}."
            inside = _Frame(callee, label, arguments, frame.this, ("this", callee.name), {}, frame.depth + 1)
            self._summary(callee, site.method, inside)

    def _find(self, site: CallSite, frame: _Frame) -> Examined | None:
        """The contract that an interface stands for: the one of its name, else the only one with all its methods."""
        stubs = frame.examined.model.interfaces[site.interface].stubs
        fitting = [
            other
            for other in self._others
            if all(
                stub in other.model.methods and other.model.methods[stub].mutability.is_public for stub in stubs
            )
        ]
        named = [other for other in fitting if other.name == site.interface]
        choice = named or fitting
        return choice[0] if len(choice) == 1 else None


def _bind(expression: Expression, frame: _Frame) -> Expression:
    """An expression of a summary with the caller's values in the place of arguments."""
    if expression is None:
        return None
    kind = expression[0]
    if kind == "argument":
        return frame.arguments[expression[1]]
    if kind == "context":
        return {"sender": frame.sender, "this": frame.this}.get(expression[1], expression)
    if kind == "loop":
        return frame.items.get(expression[1])
    if kind == "state":
        return ("state", frame.label + expression[1], _bind(expression[2], frame), None)
    if kind == "length":
        return ("length", frame.label + expression[1])
    if kind == "tuple":
        return ("tuple", tuple([_bind(item, frame) for item in expression[1]]))
    if kind == "item":
        inner = _bind(expression[1], frame)
        if inner is not None and inner[0] == "tuple" and 0 <= expression[2] < len(inner[1]):
            return inner[1][expression[2]]  # type: ignore[no-any-return]
        return None if inner is None else ("item", inner, *expression[2:])
    if kind == "operation":
        return ("operation", expression[1], _bind(expression[2], frame), _bind(expression[3], frame))
    if kind == "builtin":
        return ("builtin", expression[1], tuple([_bind(item, frame) for item in expression[2]]))
    if kind == "collect":
        inside = frame._replace(items={**frame.items, expression[1]: ("name", "item")})
        return ("collect", expression[1], _bind(expression[2], frame), _bind(expression[3], inside))
    return expression


def readable(expression: Expression) -> str:
    """A bound expression as the developer would write it; ? for what is unknown."""
    if expression is None:
        return "?"
    kind, rest = expression[0], expression[1:]
    if kind == "name":
        return str(rest[0])
    if kind == "constant":
        return _literal(rest[0])
    if kind == "context":
        return str(rest[0]) if rest[0] in ("sender", "origin") else f"ctx.{rest[0]}"
    if kind == "this":
        return f"address of {rest[0]}" if rest else "this"
    if kind == "tuple":
        return f"({', '.join([readable(item) for item in rest[0]])})"
    if kind == "item":
        return f"{readable(rest[0])}.{rest[2]}" if len(rest) > 2 else f"{readable(rest[0])}[{rest[1]}]"
    if kind == "state":
        return f"{rest[0]}.get()" if rest[1] is None else f"{rest[0]}[{_inside(rest[1])}]"
    if kind == "length":
        return f"len({rest[0]})"
    if kind == "operation":
        return f"{readable(rest[1])} {_SIGNS[rest[0]]} {readable(rest[2])}"
    if kind == "builtin":
        return f"{rest[0]}({', '.join([readable(item) for item in rest[1]])})"
    return f"[{readable(rest[2])} for item in {readable(rest[1])}]" if kind == "collect" else "?"


def _inside(key: Expression) -> str:
    text = readable(key)
    return text[1:-1] if key is not None and key[0] == "tuple" else text


def _literal(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _BYTES_SHOWN:
        return f"0x{value[:_BYTES_SHOWN].hex()}..."
    return repr(value)


def _varies(expression: Any) -> bool:
    """Whether a bound expression may differ between transactions of a block."""
    if not isinstance(expression, tuple) or not expression:
        return False
    if expression[0] == "name":
        return True
    if expression[0] == "context":
        return expression[1] in ("origin", "transaction_hash")
    return any(_varies(part) for part in expression)


# --- the verdict ---


def _verdict(report: MethodReport) -> str:
    if report.kind == Mutability.INIT.value:
        return "runs once, when the contract is deployed"
    if report.unknown:
        return f"one at a time, beside nothing else: it may touch anything ({report.unknown})"
    for file, widening in report.widenings:
        if widening.reason.startswith("target"):
            return f"one at a time, beside nothing else: it may touch anything ({file}:{widening.line})"
    touches = report.touches
    shared: dict[str, Touch] = {}
    parallel: dict[tuple[str, ...], None] = {}
    for changed in touches:
        if not changed.changes:
            continue
        for read in touches:
            if read.reads and read.variable == changed.variable and not _differ(read, changed):
                for touch in (read,) if changed.mode == "adds" else (changed, read):
                    if _known(touch):
                        parallel[_known(touch)] = None
                if not _known(read) or not _known(changed):
                    shared.setdefault(changed.variable, changed)
    if shared:
        places = [f"{_doing(touch)} {touch.key} ({_place(touch)})" for touch in shared.values()]
        return f"one at a time: {'; '.join(places)}"
    added = ", ".join(dict.fromkeys([touch.key for touch in touches if touch.mode == "adds"]))
    commute = f"; adds to {added} commute" if added else ""
    if parallel:
        named = [[report.domains.get(part, part) for part in parts] for parts in parallel]
        keys = [parts[0] if len(parts) == 1 else f"({', '.join(parts)})" for parts in named]
        return f"parallel by: {', '.join(keys)}{commute}"
    if any(touch.changes for touch in touches):
        return f"parallel: no call reads what another writes{commute}"
    if any(call.followed is None for call in report.calls):
        return "parallel, as far as this file tells"
    return "parallel: it only reads"


def _known(touch: Touch) -> tuple[str, ...]:
    """The parts by which two calls differ: up to the first unknown one, as prediction widens."""
    if not touch.exact or None in touch.parts:
        return touch.varying[:1] if touch.parts and touch.parts[0] in touch.varying else ()
    return touch.varying


def _differ(first: Touch, second: Touch) -> bool:
    """Whether constants in the keys keep the two apart."""
    for one, other in zip(first.parts, second.parts, strict=False):
        if one is None or other is None:
            return False
        if one != other and one not in first.varying and other not in second.varying:
            return True
    return False


def _doing(touch: Touch) -> str:
    return "adds to and reads" if touch.mode == "adds" else "reads and writes"


def _place(touch: Touch) -> str:
    return f"line {touch.line}" if touch.depth == 0 else f"{touch.file}:{touch.line}"


# --- output ---


def method_lines(report: MethodReport) -> list[str]:
    """For people."""
    lines = [f"{report.name}({', '.join(report.parameters)})  {report.kind}"]
    rows: list[tuple[str, str]] = []
    for line in report.lines:
        space = "  " * line.depth
        if isinstance(line, Touch):
            rows.append((f"  {space}{line.mode:<15}{line.key}", f"line {line.line}"))
        elif isinstance(line, Called):
            where = f"line {line.line}, " + (f"in {line.followed}" if line.followed else "followed at run time")
            rows.append((f"  {space}{'calls':<15}{line.text}", where))
        else:
            rows.append((f"  {space}{line.text}", f"line {line.line}"))
    width = min(max((len(text) for text, _ in rows), default=0), 88)
    lines += [f"{text:<{width}}  {where}" for text, where in rows]
    lines += [f"  widened        {file}:{item.line}: {item.subject}: {item.reason}" for file, item in report.widenings]
    return [*lines, f"  => {report.verdict}"]


def method_document(report: MethodReport) -> dict[str, Any]:
    """For programs."""
    return {
        "method": report.name,
        "kind": report.kind,
        "parameters": list(report.parameters),
        "accesses": [
            {"mode": touch.mode.replace(", ", "_"), "key": touch.key, "file": touch.file, "line": touch.line}
            for touch in report.touches
        ],
        "calls": [
            {
                "interface": call.interface, "method": call.method, "target": call.target, "line": call.line,
                "followed": call.followed,
            }
            for call in report.calls
        ],
        "loops": [{"over": line.text, "line": line.line} for line in report.lines if isinstance(line, Rounds)],
        "widenings": [
            {"file": file, "line": item.line, "subject": item.subject, "reason": item.reason}
            for file, item in report.widenings
        ],
        "verdict": report.verdict,
    }  # fmt: skip
