"""The text of compiled prediction: values computed once, keys turned into node numbers, loops.

The text holds names and numbers of our own making only; whatever comes from a contract is bound to a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol

from contracts.language.limits import KEY_BYTES_MAX
from executor.evaluate import (
    UNKNOWN,
    call_builtin,
    decode_stored,
    encode_part,
    index_of,
    item_of,
    length_of,
    operate,
    part_of,
    stored_key,
)
from executor.summary import merge_modes
from executor.transactions import Call

LINES_MAX: Final = 2_000
INDENT_MAX: Final = 12  # Python nests loops twenty deep

Run = Callable[[Sequence[Any], Call], None]


class Fleeting(Exception):
    """The method is not worth compiling: too large, or it may do anything."""


class Runtime(Protocol):
    """What generated code asks of the prediction of a block."""

    def rounds(self, domain: Any) -> Sequence[Any]:
        """The items of a loop."""
        ...

    def restart(self) -> None:
        """The loops and calls of the next transaction begin."""
        ...

    def check_size(self) -> None:
        """Raises if the transaction has too many accesses to name them."""
        ...

    def follow(
        self, address: Any, method: str, arguments: Sequence[Any], sender: bytes, call: Call, depth: int
    ) -> None:
        """Describe a call whose target is known only now. Raises if it may touch anything."""
        ...


class Value(NamedTuple):
    """A value in generated code: known now (`code` is empty then) or called `code`. `sure`: never UNKNOWN. `parts`: it
    is a tuple of these, not made yet. `early`: the same for all transactions of a block."""

    code: str
    known: Any = None
    sure: bool = False
    parts: tuple[Value, ...] | None = None
    early: bool = False


NOTHING: Final = Value("", UNKNOWN)
SENDER: Final = Value("call.sender", sure=True)
HASH: Final = Value("call.hash", sure=True)
HEIGHT: Final = Value("height", sure=True, early=True)
TIME: Final = Value("time_ms", sure=True, early=True)
_TOOLS: Final[dict[str, Any]] = {
    "UNKNOWN": UNKNOWN, "encode": encode_part, "part_of": part_of, "item_of": item_of, "decode": decode_stored,
    "operate": operate, "call_builtin": call_builtin, "length_of": length_of, "index_of": index_of,
    "stored_key": stored_key, "len": len, "type": type, "list": list,
}  # fmt: skip


def known_value(value: Any) -> Value:
    """A value that is computed already."""
    return Value("", value, sure=value is not UNKNOWN)


def _is_early(value: Value) -> bool:
    if value.parts is not None:
        return all(_is_early(part) for part in value.parts)
    return not value.code or value.early


class Text:
    """The generated function, line by line. What was computed is found again by what it was computed from, as long as
    the loop lasts in which that was."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__builtins__": {}, **_TOOLS}
        self._early: list[str] = []
        self._lines: list[str] = []
        self._indent = 2
        self._made: list[dict[object, Value]] = [{}]  # a dict for each loop that is open
        self._touched: list[dict[str, int]] = [{}]
        self._numbers = 0
        self._restarts = False

    def finish(self, arity: int | None) -> str:
        """The text of `bind`, which gives the function for one block; `arity` None: any arguments will do."""
        self._flush()
        lines = [
            "def bind(runtime, table, get, height, time_ms):",
            "    add_nodes, add_modes, find = table.nodes.extend, table.modes.extend, table.find",
            "    add_key, add_grouped, element = table.add_key, table.add_grouped, table.element",
            "    rounds, follow = runtime.rounds, runtime.follow",
            *self._early,
            "    def run(arguments, call):",
        ]
        if arity is not None:
            lines += [f"        if len(arguments) != {arity}:", "            return"]
        if arity:
            lines.append(f"        {', '.join([f'a{index}' for index in range(arity)])}, = arguments")
        if self._restarts:
            lines.append("        runtime.restart()")
        lines += ["        add_nodes(constants)", "        add_modes(constant_modes)"]
        return "\n".join([*lines, *self._lines, "    return run", ""])

    # --- values ---

    def argument(self, index: int) -> Value:
        """An argument of the method."""
        return Value(f"a{index}", sure=True)

    def part(self, value: Value) -> Value:
        """The bytes of one element of a key, None if it is not known."""
        if not value.code:
            known = part_of(value.known)
            return Value("", known, sure=known is not None)
        if value.parts is not None or value.early:
            code = f"part_of({self._atom(value)})"
        elif value.sure:
            code = f"encode({value.code})"
        else:
            code = f"None if {value.code} is UNKNOWN else encode({value.code})"
        sure = value.sure and value.parts is None and not value.early  # or it raises, and the call is interpreted
        return self._assign(("part", value.code, value.parts), code, sure=sure, early=_is_early(value))

    def index(self, value: Value, length_key: bytes) -> Value:
        """The last bytes of a list item's key, None if they are not known."""
        if not value.code and type(value.known) is int and value.known >= 0:
            known = index_of(value.known, 0)
            return Value("", known, sure=known is not None)
        length = self.stored_length(length_key)
        code = f"index_of({self._atom(value)}, {length.code})"
        return self._assign(("index", value, length), code, early=_is_early(value))

    def item(self, value: Value, index: int) -> Value:
        """One item of a tuple."""
        if value.parts is not None:
            return value.parts[index] if -len(value.parts) <= index < len(value.parts) else NOTHING
        if not value.code:
            return known_value(item_of(value.known, index))
        name = value.code
        code = f"item_of({name}, {index})"
        if index >= 0:  # in the quick way where it is what it should be
            code = f"{name}[{index}] if type({name}) is list and len({name}) > {index} else {code}"
        return self._assign(("item", name, index), code, early=value.early)

    def compute(self, tool: str, name: str, operands: Sequence[Value]) -> Value:
        """`operate` or `call_builtin`."""
        if not any(operand.code for operand in operands):
            known = [operand.known for operand in operands]
            return known_value(operate(name, *known) if tool == "operate" else call_builtin(name, known))
        atoms = [self._atom(operand) for operand in operands]
        inner = ", ".join(atoms) if tool == "operate" else _tuple(atoms)
        early = all(_is_early(operand) for operand in operands)
        return self._assign((tool, name, *operands), f"{tool}({self._bound(name)}, {inner})", early=early)

    def stored(self, prefix: bytes, parts: Sequence[Value], default: Value) -> Value:
        """A value of the state before the block."""
        if any(not part.code and part.known is None for part in parts):
            return NOTHING
        early = all(_is_early(part) for part in parts)
        sure = all(part.sure for part in parts)
        atoms = [self._atom(part) for part in parts]
        made = ("stored", prefix, *parts)
        bound = self._bound(prefix)
        if sure:
            key = " + ".join([bound, *atoms])
            raw = self._assign(made, f"get(k) if len(k := {key}) <= {KEY_BYTES_MAX} else None", early=early)
            test = f"{self._atom(default)} if {raw.code} is None"
        else:
            key = f"stored_key({bound}, {_tuple(atoms)})"
            raw = self._assign(made, f"UNKNOWN if (k := {key}) is None else get(k)", early=early)
            test = f"UNKNOWN if {raw.code} is UNKNOWN else {self._atom(default)} if {raw.code} is None"
        early = early and _is_early(default)
        return self._assign(
            ("decoded", raw, default), f"{test} else decode({raw.code})", sure=sure and default.sure, early=early
        )

    def stored_length(self, key: bytes) -> Value:
        """The length of a stored list."""
        return self._assign(("length", key), f"length_of(get({self._bound(key)}))", sure=True, early=True)

    # --- what is touched ---

    def touch(self, prefix: bytes, variable: int, parts: Sequence[Value], mode: int, *, exact: bool) -> None:
        """An element, or the group that it is in, of the variable with this number."""
        atoms = [self._atom(part) for part in parts]
        bound = self._bound(prefix)
        code = f"element({bound}, V{variable}, {_tuple(atoms)}, exact={exact})"
        if exact and all(part.code or part.known is not None for part in parts):
            key = " + ".join([bound, *atoms])
            if len(parts) == 1:
                quick = f"find(k := {key}) or add_key(k, V{variable})"
            else:
                quick = f"find(k := {key}) or add_grouped(k, {bound} + {atoms[0]}, V{variable})"
            doubts = [f"{part.code} is None" for part in parts if part.code and not part.sure]
            code = f"{code} if {' or '.join(doubts)} else {quick}" if doubts else quick
        elif parts and parts[0].sure:
            code = f"find({bound} + {atoms[0]}) or {code}"
        early = all(_is_early(part) for part in parts)
        node = self._assign(("node", prefix, exact, *parts), code, sure=True, early=early).code
        for touched in reversed(self._touched):
            if node in touched:
                touched[node] = merge_modes(touched[node], mode)
                return
        self._touched[0 if early else -1][node] = mode

    def follow(self, address: Value, method: str, arguments: Sequence[Value], this: bytes, depth: int) -> None:
        """A call whose target is known only when it runs."""
        self._restarts = True
        values = _tuple([self._atom(argument) for argument in arguments])
        names = f"{self._bound(method)}, {values}, {self._bound(this)}"
        self._emit(f"follow({self._atom(address)}, {names}, call, {depth})")

    @contextmanager
    def loop(self, domain: Value) -> Iterator[Value]:
        """What is written inside stands in a loop over the items of `domain`."""
        if self._indent > INDENT_MAX:
            raise Fleeting
        self._restarts = True
        self._numbers += 1
        item = f"i{self._numbers}"
        self._emit(f"for {item} in rounds({self._atom(domain)}):")
        self._indent += 1
        self._made.append({})
        self._touched.append({})
        yield Value(item)
        self._flush()
        self._emit("runtime.check_size()")
        self._made.pop()
        self._touched.pop()
        self._indent -= 1

    # --- text ---

    def _flush(self) -> None:
        """Write down what was touched since the loop began."""
        touched = self._touched[-1]
        if touched:
            self._emit(f"add_nodes({_tuple(list(touched))})")
            self._emit(f"add_modes({self._bound(bytes(touched.values()))})")

    def _assign(self, made_of: object, code: str, *, sure: bool = False, early: bool = False) -> Value:
        """The name of a computed value."""
        for made in self._made[::-1]:
            known = made.get(made_of)
            if known is not None:
                return known
        self._numbers += 1
        value = Value(f"x{self._numbers}", sure=sure, early=early)
        self._made[0 if early else -1][made_of] = value
        if early:
            self._early.append(f"    {value.code} = {code}")
        else:
            self._emit(f"{value.code} = {code}")
        return value

    def _emit(self, line: str) -> None:
        if len(self._lines) + len(self._early) > LINES_MAX:
            raise Fleeting
        self._lines.append("    " * self._indent + line)

    def _atom(self, value: Value) -> str:
        if value.parts is not None:
            return _tuple([self._atom(part) for part in value.parts])
        return value.code or self._bound(value.known)

    def _bound(self, constant: Any) -> str:
        """A name for something that the text must not hold itself."""
        if constant is UNKNOWN:
            return "UNKNOWN"
        made = self._made[0]
        key = ("bound", type(constant), constant)
        if key not in made:
            made[key] = Value(f"K{len(self.names)}")
            self.names[made[key].code] = constant
        return made[key].code


def _tuple(atoms: Sequence[str]) -> str:
    return f"({', '.join(atoms)},)" if atoms else "()"
