"""What a contract's methods may touch, read from the syntax tree: the first half of prediction.

A summary is a hint, never consensus data: it may be wrong in both directions and costs time only. All branches of a
method are taken together. What a key depends on is kept as an expression (`executor.summary`) over arguments, `ctx`,
constants and stored values; loops over what such expressions give are kept as loops. What cannot be followed (entries
found by a scan, results of other contracts, names that branches set differently) is None, "unknown", and widens.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from executor.scopes import Scopes, TooComplex
from executor.shape import (
    MUTATORS,
    Shape,
    bound_names,
    item_annotation,
    leaves,
    parameters_of,
    read_shape,
    sequence_of,
    struct_of,
)
from executor.summary import Access, CallSite, Expression, Loop, Mode, Summary, Widening
from executor.values import NOTHING, Typed, built, joined, unknown

__all__ = ["Access", "CallSite", "Expression", "Inference", "Loop", "Mode", "Summary", "Widening", "infer", "summarise"]

INLINE_DEPTH_MAX: Final = 8
STEPS_MAX: Final = 20_000  # expressions walked of a method, helpers counted each time they are inlined
SOURCE_STEPS_MAX: Final = 100_000  # of all methods
CONTEXT_FIELDS: Final = frozenset({"sender", "origin", "this", "height", "time_ms", "transaction_hash", "chain_id"})
OPERATIONS: Final = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.FloorDiv: "divide", ast.Mod: "modulo",
    ast.BitOr: "or", ast.BitAnd: "and", ast.BitXor: "xor",
}  # fmt: skip
# `executor.evaluate` computes them
SEQUENCES: Final = frozenset(("range", "enumerate", "zip", "reversed", "sorted", "list", "tuple"))
FUNCTIONS: Final = SEQUENCES | {"len", "min", "max", "abs", "sha256", "keccak256", "encode", "Address"}
_CELL: Final = "self."  # names that begin like this stand for what the method wrote to a Value

_Names: TypeAlias = dict[str, Typed]


class Inference(NamedTuple):
    """Summaries by method, None for one that may do anything; `refused` says why it may."""

    summaries: dict[str, Summary | None]
    refused: dict[str, str]


def summarise(source: str) -> dict[str, Summary | None]:
    """Summaries by method; None for one that cannot be followed and may do anything. Never raises."""
    return infer(source).summaries


def infer(source: str) -> Inference:
    """The summaries, with the reasons for methods that cannot be followed. Never raises."""
    result = Inference({}, {})
    try:
        shape = read_shape(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return result
    steps = 0
    for name, method in shape.methods.items():
        walker = _Walker(shape)
        result.summaries[name] = None
        try:
            if steps > SOURCE_STEPS_MAX:
                raise TooComplex(f"more than {SOURCE_STEPS_MAX} expressions in all methods before it")
            result.summaries[name] = walker.summary(method)
        except TooComplex as error:
            result.refused[name] = str(error)
        except (RecursionError, AttributeError, TypeError, ValueError, LookupError):
            result.refused[name] = "its code is not of a kind that is followed"
        steps += walker.steps
    return result


class _Walker:
    """Walks a method and, inlined, the private helpers it calls; collects what they may touch."""

    def __init__(self, shape: Shape) -> None:
        self.steps = 0
        self._shape = shape
        self._scopes = Scopes()
        self._depth = 0
        self._returns: list[Typed] = []

    def summary(self, method: ast.FunctionDef) -> Summary:
        """Of a method with all that it calls in the contract. Raises TooComplex."""
        parameters = parameters_of(method)
        names = {
            parameter.arg: Typed(("argument", index), parameter.annotation)
            for index, parameter in enumerate(parameters)
        }
        self._statements(method.body, names)
        return self._scopes.summary([parameter.arg for parameter in parameters])

    # --- statements ---

    def _statements(self, nodes: Sequence[ast.stmt], names: _Names) -> None:
        for node in nodes:
            self._statement(node, names)

    def _statement(self, node: ast.stmt, names: _Names) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                result = self._expression(value, names)
                for target in targets:
                    self._store(target, names, result)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._store(target, names, self._expression(value, names))
            case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
                load = ast.copy_location(ast.Name(id=name, ctx=ast.Load()), node)
                names[name] = self._operation(operator, load, value, load, names)
            case ast.AugAssign(target=target, value=value):
                self._expression(value, names)
                self._store(target, names, NOTHING, mode=Mode.BOTH)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._store(target, names, NOTHING)
            case ast.Return(value=value):
                self._returns.append(NOTHING if value is None else self._expression(value, names))
            case ast.If(test=test, body=body, orelse=orelse):
                self._expression(test, names)
                self._branches([body, orelse], names, node)
            case ast.For():
                self._for(node, names)
            case ast.While(test=test, body=body, orelse=orelse):
                self._forget([*body, *orelse], names, "{}, which changes from round to round", node)
                self._expression(test, names)
                self._branches([[*body, *orelse], []], names, node)
            case ast.Try():
                for handler in node.handlers:
                    if handler.name:
                        names[handler.name] = unknown("how a call failed", node)
                blocks = [[*node.body, *node.orelse], *[handler.body for handler in node.handlers]]
                self._branches(blocks, names, node)
                self._statements(node.finalbody, names)
            case ast.FunctionDef() | ast.ClassDef() | ast.Pass():
                pass
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self._expression(child, names)

    def _branches(self, blocks: Sequence[Sequence[ast.stmt]], names: _Names, node: ast.stmt) -> None:
        """Walk alternatives; a name is known afterwards if all that fall through agree on it."""
        ends: list[_Names] = []
        for block in blocks:
            end = dict(names)
            self._statements(block, end)
            if not leaves(block):
                ends.append(end)
        if not ends:
            return
        merged: _Names = {}
        for name in ends[0]:
            values = [end.get(name) for end in ends]
            if all(value == values[0] for value in values):
                merged[name] = ends[0][name]
            elif not name.startswith(_CELL):
                merged[name] = unknown(f"{name}, which the branches set differently", node)
        names.clear()
        names.update(merged)

    def _for(self, node: ast.For, names: _Names) -> None:
        domain = self._expression(node.iter, names)
        self._forget([*node.body, *node.orelse], names, "{}, which changes from round to round", node)
        before = len(self._returns)
        entered = self._enter_loop(node.target, node.iter, domain, names)
        self._branches([node.body, []], names, node)
        if entered is not None:
            self._scopes.leave()
            late = "a result that depends on the round of a loop"
            self._returns[before:] = [
                unknown(late, node) if entered in value.loops else value for value in self._returns[before:]
            ]
        self._forget([node.target], names, "{}, the last item of a loop", node)
        self._statements(node.orelse, names)

    def _enter_loop(
        self, target: ast.expr, iterable: ast.expr, domain: Typed, names: _Names
    ) -> int | None:
        """Bind the loop's target; the number of a new loop, or None where it is not known what it goes over."""
        if domain.expression is None:
            item = domain
            if domain.why is None:
                item = unknown("an item of {}", iterable, iterable)
            self._store(target, names, item)
            return None
        loop = self._scopes.enter(domain, iterable.lineno)
        item = Typed(("loop", loop), item_annotation(domain.annotation, 0), loops=frozenset((loop,)))
        self._store(target, names, item)
        return loop

    def _forget(self, nodes: Iterable[ast.AST], names: _Names, text: str, node: ast.stmt) -> None:
        for name in [name for name in names if name.startswith(_CELL)]:
            del names[name]
        for name in bound_names(nodes):
            names[name] = unknown(text.format(name), node)

    def _store(self, target: ast.expr, names: _Names, value: Typed, *, mode: Mode = Mode.WRITE) -> None:
        match target:
            case ast.Name(id=name):
                names[name] = value
            case ast.Tuple(elts=items) | ast.List(elts=items):
                for index, item in enumerate(items):
                    self._store(item, names, self._item(value, index, target))
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), slice=key):
                self._element(variable, self._expression(key, names), mode, target)
            case ast.Subscript(value=ast.Name(id=name), slice=key):
                self._expression(key, names)
                names[name] = unknown("{}, which is changed in place", target, target.value)
            case _:
                self._children(target, names)

    # --- expressions ---

    def _expression(self, node: ast.expr, names: _Names) -> Typed:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise TooComplex(f"more than {STEPS_MAX} expressions, helpers counted at each call")
        match node:
            case ast.Constant(value=value):
                return Typed(("constant", value))
            case ast.Name(id=name):
                return self._name(name, names, node)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                parts = [self._expression(item, names) for item in items]
                return joined(("tuple", tuple([part.expression for part in parts])), parts, node)
            case ast.Attribute(value=ast.Name(id="ctx"), attr=attribute):
                return Typed(("context", attribute)) if attribute in CONTEXT_FIELDS else unknown("{}", node, node)
            case ast.Attribute(value=value, attr=attribute):
                return self._field(self._expression(value, names), attribute, node)
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), slice=key):
                return self._element(variable, self._expression(key, names), Mode.READ, node)
            case ast.Subscript(value=value, slice=ast.Constant(value=int(index))):
                return self._item(self._expression(value, names), index, node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                zero = ast.copy_location(ast.Constant(0), node)
                return self._operation(ast.Sub(), zero, operand, node, names)
            case ast.BinOp(left=left, op=operator, right=right):
                return self._operation(operator, left, right, node, names)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self._expression(test, names)
                first, second = self._expression(body, names), self._expression(orelse, names)
                return first if first == second else unknown("the choice {}", node, node)
            case ast.Compare(left=left, comparators=[ast.Attribute(value=ast.Name(id="self"), attr=variable)]):
                self._element(variable, self._expression(left, names), Mode.READ, node)
                return unknown("{}", node, node)
            case ast.Call():
                return self._call(node, names)
            case ast.ListComp(generators=generators, elt=element):
                return self._comprehension(node, generators, [element], names)
            case ast.DictComp(generators=generators, key=key, value=value):
                return self._comprehension(node, generators, [key, value], names)
            case _:
                self._children(node, names)
                return unknown("{}", node, node)

    def _children(self, node: ast.AST, names: _Names) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child, names)
            elif isinstance(child, ast.comprehension | ast.keyword):
                self._children(child, names)

    def _comprehension(
        self, node: ast.expr, generators: list[ast.comprehension], elements: list[ast.expr], names: _Names
    ) -> Typed:
        inner = dict(names)
        domains: list[Typed] = []
        entered: list[int] = []
        for generator in generators:
            domains.append(self._expression(generator.iter, inner))
            loop = self._enter_loop(generator.target, generator.iter, domains[-1], inner)
            entered += [] if loop is None else [loop]
            for condition in generator.ifs:
                self._expression(condition, inner)
        values = [self._expression(element, inner) for element in elements]
        for _ in entered:
            self._scopes.leave()
        if len(generators) != 1 or len(values) != 1 or generators[0].ifs or not entered:
            return unknown("{}", node, node) if domains[0].why is None else domains[0]
        expression = ("collect", entered[0], domains[0].expression, values[0].expression)
        made = built(expression, [domains[0], values[0]], node, sequence_of(values[0].annotation))
        return Typed(made.expression, made.annotation, made.size, made.loops - {entered[0]}, made.why)

    def _name(self, name: str, names: _Names, node: ast.expr) -> Typed:
        known = names.get(name)
        if known is not None:
            return known
        if name in self._shape.constants:
            return Typed(("constant", self._shape.constants[name]))
        return unknown("{}", node, node)

    def _item(self, value: Typed, index: int, node: ast.expr) -> Typed:
        """One item of a tuple."""
        expression = value.expression
        if expression is None:
            return value
        annotation = item_annotation(value.annotation, index)
        if expression[0] == "tuple" and 0 <= index < len(expression[1]):
            return Typed(expression[1][index], annotation, value.size, value.loops, value.why)
        return built(("item", expression, index), [value], node, annotation)

    def _field(self, value: Typed, attribute: str, node: ast.expr) -> Typed:
        expression, struct = value.expression, struct_of(value.annotation, self._shape)
        if expression is None:
            return value
        if expression[0] == "interface" and attribute == "address":
            return Typed(expression[1], None, value.size, value.loops)
        if struct is not None:
            for index, (name, annotation, _) in enumerate(self._shape.structs[struct]):
                if name == attribute:
                    if expression[0] == "tuple":
                        return Typed(expression[1][index], annotation, value.size, value.loops, value.why)
                    return built(("item", expression, index, name), [value], node, annotation)
        return unknown("{}", node, node)

    def _operation(
        self, operator: ast.operator, left: ast.expr, right: ast.expr, node: ast.expr, names: _Names
    ) -> Typed:
        first, second = self._expression(left, names), self._expression(right, names)
        name = OPERATIONS.get(type(operator))
        if name is None:
            return unknown("{}", node, node)
        return built(("operation", name, first.expression, second.expression), [first, second], node)

    # --- calls ---

    def _call(self, node: ast.Call, names: _Names) -> Typed:
        match node.func:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), attr=method) if (
                variable in self._shape.variables
            ):
                return self._storage_call(variable, method, node, names)
            case ast.Attribute(value=ast.Name(id="self"), attr=method) if method in self._shape.methods:
                return self._inline(self._shape.methods[method], node, names)
            case ast.Attribute(value=value, attr=method):
                return self._method_call(self._expression(value, names), value, method, node, names)
            case ast.Name(id=name) if name in self._shape.interfaces and len(node.args) == 1:
                address = self._expression(node.args[0], names)
                annotation = ast.Name(id=name, ctx=ast.Load())
                return joined(("interface", address.expression), [address], node, annotation)
            case ast.Name(id="len") if len(node.args) == 1 and self._is_list(node.args[0]):
                variable = node.args[0].attr  # type: ignore[attr-defined]
                self._scopes.access(Access(variable, "Length", (), True), Mode.READ, node)
                return Typed(("length", variable))
            case ast.Name(id=name) if name in self._shape.structs:
                return self._construct(name, node, names)
            case ast.Name(id=name) if name in FUNCTIONS and not node.keywords:
                return self._function(name, node, names)
        self._arguments(node, names)
        return unknown("the result of {}", node, node)

    def _arguments(self, node: ast.Call, names: _Names) -> list[Typed]:
        positional = [self._expression(argument, names) for argument in node.args]
        for keyword in node.keywords:
            self._expression(keyword.value, names)
        return positional + [NOTHING] * len(node.keywords)

    def _method_call(
        self, receiver: Typed, value: ast.expr, method: str, node: ast.Call, names: _Names
    ) -> Typed:
        """A method of another contract, or of a local value."""
        expression = receiver.expression
        if expression is not None and expression[0] == "interface":
            interface = receiver.annotation.id if isinstance(receiver.annotation, ast.Name) else ""
            self._scopes.call(interface, method, node, receiver, expression[1], self._arguments(node, names))
            return unknown(f"the result of {interface}.{method}()", node)
        struct = struct_of(receiver.annotation, self._shape)
        if method == "replace" and struct is not None and expression is not None:
            return self._construct(struct, node, names, receiver)
        self._arguments(node, names)
        if isinstance(value, ast.Name) and method in MUTATORS:
            names[value.id] = unknown("{}, which is changed in place", node, value)
        return unknown("the result of {}", node, node)

    def _construct(
        self, struct: str, node: ast.Call, names: _Names, old: Typed | None = None
    ) -> Typed:
        """A struct is the tuple of its fields; `old` is one of which some are replaced."""
        given = {keyword.arg: self._expression(keyword.value, names) for keyword in node.keywords}
        parts: list[Typed] = []
        for index, (name, _, default) in enumerate(self._shape.structs[struct]):
            if name in given:
                parts.append(given[name])
            elif index < len(node.args):
                parts.append(self._expression(node.args[index], names))
            elif old is not None:
                parts.append(self._field(old, name, node))
            else:
                parts.append(NOTHING if default is None else self._expression(default, {}))
        annotation = ast.Name(id=struct, ctx=ast.Load())
        return joined(("tuple", tuple([part.expression for part in parts])), parts, node, annotation)

    def _function(self, name: str, node: ast.Call, names: _Names) -> Typed:
        """A built-in function whose value follows from its arguments."""
        parts = [self._expression(argument, names) for argument in node.args]
        annotations = [item_annotation(part.annotation, 0) for part in parts]
        annotation: ast.expr | None = None
        if name == "zip":
            annotation = sequence_of(sequence_of(*annotations, ends=True))
        elif name == "enumerate":
            annotation = sequence_of(sequence_of(None, *annotations[:1], ends=True))
        elif name in SEQUENCES and name != "range":
            annotation = parts[0].annotation if parts else None
        if name == "Address" and len(parts) == 1:
            return parts[0]
        return built(("builtin", name, tuple([part.expression for part in parts])), parts, node, annotation)

    def _is_list(self, node: ast.expr) -> bool:
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=variable):
                known = self._shape.variables.get(variable)
                return known is not None and known.kind == "List"
        return False

    def _inline(self, method: ast.FunctionDef, node: ast.Call, names: _Names) -> Typed:
        """Walk a helper with its parameters bound; its value is known if all its returns agree."""
        if self._depth >= INLINE_DEPTH_MAX:
            raise TooComplex(f"line {node.lineno}: helpers call each other more than {INLINE_DEPTH_MAX} deep")
        values = [self._expression(argument, names) for argument in node.args]
        by_name = {keyword.arg: self._expression(keyword.value, names) for keyword in node.keywords}
        parameters = parameters_of(method)
        first_default = len(parameters) - len(method.args.defaults)
        inner: _Names = {name: value for name, value in names.items() if name.startswith(_CELL)}
        for index, parameter in enumerate(parameters):
            if index < len(values):
                value = values[index]
            elif parameter.arg in by_name:
                value = by_name[parameter.arg]
            elif index >= first_default:
                value = self._expression(method.args.defaults[index - first_default], {})
            else:
                value = NOTHING
            annotation = value.annotation if parameter.annotation is None else parameter.annotation
            inner[parameter.arg] = Typed(value.expression, annotation, value.size, value.loops, value.why)
        outer, self._returns = self._returns, []
        self._depth += 1
        self._statements(method.body, inner)
        self._depth -= 1
        returns, self._returns = self._returns, outer
        for name in [name for name in {**names, **inner} if name.startswith(_CELL)]:
            names.pop(name, None)
            if name in inner:
                names[name] = inner[name]
        if returns and all(value == returns[0] for value in returns):
            return returns[0]
        return unknown(f"the result of {method.name}()", node)

    def _storage_call(self, variable: str, method: str, node: ast.Call, names: _Names) -> Typed:
        kind = self._shape.variables[variable].kind
        arguments = self._arguments(node, names)
        if kind == "Value":
            return self._value_call(variable, method, node, arguments, names)
        if kind == "Map" and method == "get" and arguments:
            default = arguments[1] if len(arguments) > 1 else NOTHING
            return self._element(variable, arguments[0], Mode.READ, node, default)
        if kind == "Map" and method == "add" and arguments:
            self._element(variable, arguments[0], Mode.ADD, node)
            return NOTHING
        if kind == "Map" and method == "scan":
            key = tuple([item.expression for item in arguments])
            self._scopes.access(Access(variable, "Map", key, False), Mode.READ, node, arguments)
            return unknown("what a scan of " + variable + " finds", node)
        if kind == "List" and method == "append":
            self._scopes.access(Access(variable, "Length", (), True), Mode.BOTH, node)
            self._scopes.access(Access(variable, "List", (("length", variable),), True), Mode.WRITE, node)
            return NOTHING
        self._scopes.access(Access(variable, kind, (), False), Mode.BOTH, node)
        return unknown("the result of {}", node, node)

    def _value_call(
        self, variable: str, method: str, node: ast.Call, arguments: list[Typed], names: _Names
    ) -> Typed:
        cell = _CELL + variable
        modes = {"set": Mode.WRITE, "delete": Mode.WRITE, "add": Mode.ADD}
        self._scopes.access(Access(variable, "Value", (), True), modes.get(method, Mode.READ), node)
        if method == "get":
            known = names.get(cell)
            if known is not None and known.expression is not None:
                return known
            default = arguments[0] if arguments else NOTHING
            expression = ("state", variable, None, default.expression)
            return joined(expression, [default], node, self._shape.variables[variable].annotation)
        names.pop(cell, None)
        if method == "set" and arguments:
            value = arguments[0]
            annotation = self._shape.variables[variable].annotation
            names[cell] = Typed(value.expression, annotation, value.size, value.loops, value.why)
        return unknown("{}", node, node)

    # --- accesses ---

    def _element(
        self, variable: str, key: Typed, mode: Mode, node: ast.expr, default: Typed = NOTHING
    ) -> Typed:
        """An element of a map or list is touched."""
        known = self._shape.variables.get(variable)
        if known is None:
            return NOTHING
        expression = key.expression
        elements: tuple[Expression, ...] = (expression,)
        if known.key_parts and expression is not None and expression[0] == "tuple":
            elements = expression[1]
        elif known.key_parts:  # one value that holds all parts of the key
            parts = range(known.key_parts)
            elements = tuple([None if expression is None else ("item", expression, part) for part in parts])
        self._scopes.access(Access(variable, known.kind, elements, True), mode, node, [key])
        if known.kind != "Map":
            self._scopes.access(Access(variable, "Length", (), True), Mode.READ, node)
            return unknown("{}", node, node)
        if expression is None or None in elements:
            return Typed(None, why=key.why)
        whole = ("tuple", elements) if known.key_parts else expression
        state = ("state", variable, whole, default.expression)
        return joined(state, [key, default], node, known.annotation)
