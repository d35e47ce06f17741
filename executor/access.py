"""What a contract's methods may touch, read from the syntax tree: the first half of prediction.

A summary is a hint, never consensus data: it may be wrong in both directions and costs time only. All branches of a
method are taken together. What a key depends on is kept as an expression over arguments, `ctx`, constants and stored
values; what cannot be followed (loops over lists, results of other contracts) is None, "unknown".

Expressions are tuples, so that equal ones are found equal:

    ("constant", value)  ("argument", i)  ("context", name)  ("tuple", items)  ("item", expression, index)
    ("state", variable, key or None, default)  ("length", variable)  ("operation", name, left, right)
    ("interface", address)
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Final, NamedTuple, TypeAlias

Expression: TypeAlias = "tuple[Any, ...] | None"

ACCESSES_MAX: Final = 256  # of a method; more and the method counts as unknown
INLINE_DEPTH_MAX: Final = 8
STEPS_MAX: Final = 20_000  # expressions walked, helpers counted each time they are inlined
EXPRESSION_SIZE_MAX: Final = 64  # `k = (k, k)` doubles; a larger expression counts as unknown
CONTEXT_FIELDS: Final = frozenset({"sender", "origin", "this", "height", "time_ms", "transaction_hash", "chain_id"})
OPERATIONS: Final = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.FloorDiv: "divide", ast.Mod: "modulo",
}  # fmt: skip


class Mode(IntFlag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Access(NamedTuple):
    """`key` holds the expressions of the key's elements; with `exact` False it is a prefix of them (() is the whole
    variable). `kind` is "Value", "Map", "List", or "Length" for the length of a list."""

    variable: str
    kind: str
    key: tuple[Expression, ...]
    exact: bool


class CallSite(NamedTuple):
    """A call of another contract by an interface."""

    address: Expression
    method: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything one method may do. `arity` counts parameters without self."""

    arity: int
    accesses: tuple[tuple[Access, int], ...]  # with a `Mode` each
    calls: tuple[CallSite, ...]


@dataclass(slots=True)
class ContractShape:
    """Names of one contract file that matter to keys."""

    variables: dict[str, tuple[str, ast.expr | None]]  # name -> (kind, annotation of the stored value)
    methods: dict[str, ast.FunctionDef]
    structs: dict[str, list[tuple[str, ast.expr]]]
    interfaces: frozenset[str]
    constants: dict[str, Any]


class _TooComplex(Exception):
    """The method has more accesses than are worth following."""


@dataclass(frozen=True, slots=True)
class _Typed:
    """An expression, its size in parts and, where its value is a struct, the name of it."""

    expression: Expression
    struct: str | None = None
    size: int = 1


_UNKNOWN: Final = _Typed(None)


def _built(expression: Expression, parts: Sequence[_Typed], struct: str | None = None) -> _Typed:
    """An expression made of others."""
    size = 1 + sum([part.size for part in parts])
    return _UNKNOWN if size > EXPRESSION_SIZE_MAX else _Typed(expression, struct, size)


def summarise(source: str) -> dict[str, Summary | None]:
    """Summaries by method; None for one that cannot be followed and may do anything. Never raises."""
    try:
        shape = _shape(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    summaries: dict[str, Summary | None] = {}
    for name, method in shape.methods.items():
        summaries[name] = None
        walker = _Walker(shape)
        parameters = _parameters(method)
        environment = {
            argument.arg: _Typed(("argument", index), _struct_name(argument.annotation, shape))
            for index, argument in enumerate(parameters)
        }
        try:
            walker.statements(method.body, environment)
        except (_TooComplex, RecursionError, AttributeError, TypeError, ValueError, LookupError):
            continue
        accesses = tuple([(access, int(mode)) for access, mode in walker.accesses.items()])
        summaries[name] = Summary(len(parameters), accesses, tuple(walker.calls))
    return summaries


def _shape(tree: ast.Module) -> ContractShape:
    shape = ContractShape(variables={}, methods={}, structs={}, interfaces=frozenset(), constants={})
    interfaces: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            shape.constants[node.targets[0].id] = _literal(node.value, shape)
        elif isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name):
            base = node.bases[0].id
            if base == "Struct":
                shape.structs[node.name] = [
                    (item.target.id, item.annotation)
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                ]
            elif base == "Interface":
                interfaces.add(node.name)
            elif base == "Contract":
                _contract(node, shape)
    shape.interfaces = frozenset(interfaces)
    return shape


def _contract(node: ast.ClassDef, shape: ContractShape) -> None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            shape.methods[item.name] = item
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = item.annotation
            if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
                inner = annotation.slice
                kind = annotation.value.id
                if kind == "Map":
                    inner = inner.elts[1] if isinstance(inner, ast.Tuple) and len(inner.elts) == 2 else inner
                shape.variables[item.target.id] = (kind, inner)


def _literal(node: ast.expr, shape: ContractShape) -> Any:
    """A constant's value; names of earlier constants are not followed, they are rare in keys."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _parameters(method: ast.FunctionDef) -> list[ast.arg]:
    return method.args.args[1:]


def _struct_name(annotation: ast.expr | None, shape: ContractShape) -> str | None:
    if isinstance(annotation, ast.BinOp):  # `T | None`
        return _struct_name(annotation.left, shape) or _struct_name(annotation.right, shape)
    if isinstance(annotation, ast.Name) and annotation.id in shape.structs:
        return annotation.id
    return None


def _assigned(nodes: Iterable[ast.AST]) -> set[str]:
    """Local names that are bound anywhere in these statements."""
    return {
        item.id
        for node in nodes
        for item in ast.walk(node)
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
    }


def _leaves(statements: Sequence[ast.stmt]) -> bool:
    """True if these statements never fall through to what follows."""
    last = statements[-1] if statements else None
    if isinstance(last, ast.Return | ast.Raise | ast.Continue | ast.Break):
        return True
    return (
        isinstance(last, ast.Expr)
        and isinstance(last.value, ast.Call)
        and isinstance(last.value.func, ast.Name)
        and last.value.func.id == "revert"
    )


_Environment: TypeAlias = dict[str, _Typed]


@dataclass(slots=True)
class _Walker:
    """Walks a method and, inlined, the private helpers it calls; collects what they may touch."""

    shape: ContractShape
    accesses: dict[Access, Mode] = field(default_factory=dict)
    calls: list[CallSite] = field(default_factory=list)
    depth: int = 0
    steps: int = 0
    returns: list[_Typed] = field(default_factory=list)

    # --- statements ---

    def statements(self, nodes: Sequence[ast.stmt], names: _Environment) -> None:
        for node in nodes:
            self.statement(node, names)

    def statement(self, node: ast.stmt, names: _Environment) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = self.expression(value, names)
            case ast.Assign(targets=targets, value=value):
                result = self.expression(value, names)
                for target in targets:
                    self.store(target, names, result)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.store(target, names, self.expression(value, names))
            case ast.AugAssign(target=target, value=value):
                self.expression(value, names)
                self.store(target, names, _UNKNOWN, mode=Mode.BOTH)
            case ast.Delete(targets=targets):
                for target in targets:
                    self.store(target, names, _UNKNOWN)
            case ast.Return(value=value):
                self.returns.append(_UNKNOWN if value is None else self.expression(value, names))
            case ast.If(test=test, body=body, orelse=orelse):
                self.expression(test, names)
                self.branches([body, orelse], names)
            case ast.For(target=target, iter=iterable, body=body, orelse=orelse):
                self.expression(iterable, names)
                self.forget([target, *body, *orelse], names)
                self.branches([[*body, *orelse], []], names)
            case ast.While(test=test, body=body, orelse=orelse):
                self.forget([*body, *orelse], names)
                self.expression(test, names)
                self.branches([[*body, *orelse], []], names)
            case ast.Try():
                for handler in node.handlers:
                    if handler.name:
                        names[handler.name] = _UNKNOWN
                blocks = [[*node.body, *node.orelse], *[handler.body for handler in node.handlers]]
                self.branches(blocks, names)
                self.statements(node.finalbody, names)
            case ast.FunctionDef() | ast.ClassDef() | ast.Pass():
                pass
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expression(child, names)

    def branches(self, blocks: list[Sequence[ast.stmt]] | list[list[ast.stmt]], names: _Environment) -> None:
        """Walk alternatives; a name is known afterwards if all that fall through agree on it."""
        ends: list[_Environment] = []
        for block in blocks:
            end = dict(names)
            self.statements(block, end)
            if not _leaves(block):
                ends.append(end)
        merged = ends[0] if ends else names
        for end in ends[1:]:
            merged = {name: value for name, value in merged.items() if end.get(name) == value}
        for name in list(names):
            names[name] = merged.get(name, _UNKNOWN)
        names.update(merged)

    def forget(self, nodes: Iterable[ast.AST], names: _Environment) -> None:
        for name in _assigned(nodes):
            names[name] = _UNKNOWN

    def store(self, target: ast.expr, names: _Environment, value: _Typed, *, mode: Mode = Mode.WRITE) -> None:
        match target:
            case ast.Name(id=name):
                names[name] = value if mode is Mode.WRITE else _UNKNOWN
            case ast.Tuple(elts=items) | ast.List(elts=items):
                for item in items:
                    self.store(item, names, _UNKNOWN)
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), slice=key):
                self.element(variable, self.expression(key, names), mode)
            case _:
                self.children(target, names)

    # --- expressions ---

    def expression(self, node: ast.expr, names: _Environment) -> _Typed:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise _TooComplex
        match node:
            case ast.Constant(value=value):
                return _Typed(("constant", value))
            case ast.Name(id=name):
                return self.name(name, names)
            case ast.Tuple(elts=items):
                parts = [self.expression(item, names) for item in items]
                return _built(("tuple", tuple([part.expression for part in parts])), parts)
            case ast.Attribute(value=ast.Name(id="ctx"), attr=attribute):
                return _Typed(("context", attribute)) if attribute in CONTEXT_FIELDS else _UNKNOWN
            case ast.Attribute(value=value, attr=attribute):
                return self.struct_field(self.expression(value, names), attribute)
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), slice=key):
                return self.element(variable, self.expression(key, names), Mode.READ)
            case ast.Subscript(value=value, slice=ast.Constant(value=int(index))):
                inner = self.expression(value, names)
                return _UNKNOWN if inner.expression is None else _built(("item", inner.expression, index), [inner])
            case ast.BinOp(left=left, op=operator, right=right):
                return self.operation(OPERATIONS.get(type(operator)), left, right, names)
            case ast.Compare(left=left, comparators=[ast.Attribute(value=ast.Name(id="self"), attr=variable)]):
                self.element(variable, self.expression(left, names), Mode.READ)
                return _UNKNOWN
            case ast.Call():
                return self.call(node, names)
            case ast.ListComp(generators=generators):
                inner_names = dict(names)
                for generator in generators:
                    self.expression(generator.iter, inner_names)
                    self.forget([generator.target], inner_names)
                self.children(node, inner_names)
                return _UNKNOWN
            case _:
                self.children(node, names)
                return _UNKNOWN

    def children(self, node: ast.AST, names: _Environment) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child, names)
            elif isinstance(child, ast.comprehension | ast.keyword):
                self.children(child, names)

    def name(self, name: str, names: _Environment) -> _Typed:
        known = names.get(name)
        if known is not None:
            return known
        value = self.shape.constants.get(name)
        return _UNKNOWN if value is None else _Typed(("constant", value))

    def struct_field(self, value: _Typed, attribute: str) -> _Typed:
        if value.struct is None or value.expression is None:
            return _UNKNOWN
        for index, (name, annotation) in enumerate(self.shape.structs[value.struct]):
            if name == attribute:
                field_struct = _struct_name(annotation, self.shape)
                return _built(("item", value.expression, index), [value], field_struct)
        return _UNKNOWN

    def operation(self, name: str | None, left: ast.expr, right: ast.expr, names: _Environment) -> _Typed:
        first, second = self.expression(left, names), self.expression(right, names)
        if name is None or first.expression is None or second.expression is None:
            return _UNKNOWN
        return _built(("operation", name, first.expression, second.expression), [first, second])

    # --- calls ---

    def call(self, node: ast.Call, names: _Environment) -> _Typed:
        match node.func:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=variable), attr=method) if (
                variable in self.shape.variables
            ):
                return self.storage_call(variable, method, node, names)
            case ast.Attribute(value=ast.Name(id="self"), attr=method) if method in self.shape.methods:
                return self.inline(self.shape.methods[method], node, names)
            case ast.Attribute(value=value, attr=method):
                receiver = self.expression(value, names).expression
                arguments = self.arguments(node, names)
                if receiver is not None and receiver[0] == "interface":
                    self.calls.append(CallSite(receiver[1], method, arguments))
                    if len(self.calls) > ACCESSES_MAX:
                        raise _TooComplex
                return _UNKNOWN
            case ast.Name(id=name) if name in self.shape.interfaces and len(node.args) == 1:
                address = self.expression(node.args[0], names)
                return _built(("interface", address.expression), [address])
            case ast.Name(id="len") if len(node.args) == 1 and self.is_list(node.args[0]):
                variable = node.args[0].attr  # type: ignore[attr-defined]
                self.access(Access(variable, "Length", (), True), Mode.READ)
                return _Typed(("length", variable))
        self.arguments(node, names)
        return _UNKNOWN

    def arguments(self, node: ast.Call, names: _Environment) -> tuple[Expression, ...]:
        positional = [self.expression(argument, names).expression for argument in node.args]
        for keyword in node.keywords:
            self.expression(keyword.value, names)
        return tuple(positional) + (None,) * len(node.keywords)

    def is_list(self, node: ast.expr) -> bool:
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=variable):
                return self.shape.variables.get(variable, ("", None))[0] == "List"
        return False

    def inline(self, method: ast.FunctionDef, node: ast.Call, names: _Environment) -> _Typed:
        """Walk a helper with its parameters bound; its value is known if it has a single return."""
        if self.depth >= INLINE_DEPTH_MAX:
            raise _TooComplex
        parameters = _parameters(method)
        values = [self.expression(argument, names) for argument in node.args]
        by_name = {keyword.arg: self.expression(keyword.value, names) for keyword in node.keywords}
        inner: _Environment = {}
        for index, parameter in enumerate(parameters):
            value = values[index] if index < len(values) else by_name.get(parameter.arg, _UNKNOWN)
            inner[parameter.arg] = _Typed(
                value.expression, _struct_name(parameter.annotation, self.shape), value.size
            )
        outer, self.returns = self.returns, []
        self.depth += 1
        self.statements(method.body, inner)
        self.depth -= 1
        returns, self.returns = self.returns, outer
        return returns[0] if len(returns) == 1 else _UNKNOWN

    def storage_call(self, variable: str, method: str, node: ast.Call, names: _Environment) -> _Typed:
        kind, annotation = self.shape.variables[variable]
        arguments = [self.expression(argument, names) for argument in node.args]
        struct = _struct_name(annotation, self.shape)
        if kind == "Value":
            mode = Mode.WRITE if method == "set" else Mode.READ
            self.access(Access(variable, "Value", (), True), mode)
            default = arguments[0] if arguments else _UNKNOWN
            expression = ("state", variable, None, default.expression)
            return _built(expression, [default], struct) if method == "get" else _UNKNOWN
        if kind == "Map" and method == "get" and arguments:
            return self.element(variable, arguments[0], Mode.READ, arguments[1] if len(arguments) > 1 else _UNKNOWN)
        if kind == "Map" and method == "scan":
            self.access(Access(variable, "Map", tuple([item.expression for item in arguments]), False), Mode.READ)
            return _UNKNOWN
        if kind == "List" and method == "append":
            self.access(Access(variable, "Length", (), True), Mode.BOTH)
            return _UNKNOWN
        self.access(Access(variable, kind, (), False), Mode.BOTH)
        return _UNKNOWN

    # --- accesses ---

    def element(self, variable: str, key: _Typed, mode: Mode, default: _Typed = _UNKNOWN) -> _Typed:
        """An element of a map or list is touched."""
        if variable not in self.shape.variables:
            return _UNKNOWN
        kind, annotation = self.shape.variables[variable]
        expression = key.expression
        elements = expression[1] if expression is not None and expression[0] == "tuple" else (expression,)
        self.access(Access(variable, kind, elements, True), mode)
        if kind != "Map":
            self.access(Access(variable, "Length", (), True), Mode.READ)
            return _UNKNOWN
        if expression is None:
            return _UNKNOWN
        state = ("state", variable, expression, default.expression)
        return _built(state, [key, default], _struct_name(annotation, self.shape))

    def access(self, access: Access, mode: Mode) -> None:
        self.accesses[access] = self.accesses.get(access, Mode(0)) | mode
        if len(self.accesses) > ACCESSES_MAX:
            raise _TooComplex
