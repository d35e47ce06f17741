"""Module level: docstring, constants, structs, events, interfaces and the one contract class."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

from contracts.language.findings import Findings
from contracts.language.limits import FIELDS_MAX, METHODS_MAX, NAME_CHARS_MAX, PARAMETERS_MAX
from contracts.language.literals import constant
from contracts.language.model import (
    ContractModel,
    Field,
    InterfaceDecl,
    Literal,
    MethodDecl,
    Mutability,
    RecordDecl,
    Storage,
    StubDecl,
    VariableDecl,
)
from contracts.language.types import ADDRESS, BOOL, BYTES, INT, STR, Optional, Sequence, TupleOf, Type, TypeParser
from contracts.language.vocabulary import BASES, NAME, NODE_ADVICE, RESERVED


def read_module(tree: ast.Module, findings: Findings) -> ContractModel:
    """The model of a parsed source; what is wrong at this level is in `findings`."""
    reader = _Reader(findings)
    reader.read(tree)
    return reader.model


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._types = TypeParser(findings)
        self._names: set[str] = set()
        self.model = ContractModel()

    def read(self, tree: ast.Module) -> None:
        body = _without_docstring(tree.body)
        contract: ast.ClassDef | None = None
        for node in body:
            if isinstance(node, ast.ClassDef):
                base = self._base(node)
                if base != "Contract":
                    self._record_or_interface(node, base)
                elif contract is not None:
                    self._findings.add(node, "contract", "one source has one Contract class")
                else:
                    contract = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                self._constant(node)
            else:
                self._refuse(node)
        if contract is None:
            self._findings.add((1, 1), "contract", "the source has no class X(Contract)")
        else:
            self._contract(contract)

    def _refuse(self, node: ast.stmt) -> None:
        code, reason = NODE_ADVICE.get(
            type(node), ("module_level", "at module level: constants, Struct, Event, Interface and one Contract")
        )
        if isinstance(node, ast.FunctionDef):
            code, reason = "module_level", "functions are methods of the contract class"
        self._findings.add(node, code, reason)

    def _declare(self, node: ast.AST, name: str, *, unique: bool = True) -> bool:
        if not NAME.match(name) or "__" in name or len(name) > NAME_CHARS_MAX:
            reason = f"names are up to {NAME_CHARS_MAX} of A-Z a-z 0-9 _, without two underscores"
            self._findings.add(node, "name", reason)
            return False
        if name in RESERVED:
            self._findings.add(node, "shadow", f"{name} is built in")
            return False
        if unique:
            if name in self._names:
                self._findings.add(node, "duplicate", f"{name} is declared twice")
                return False
            self._names.add(name)
        return True

    def _base(self, node: ast.ClassDef) -> str:
        for decorator in node.decorator_list:
            self._findings.add(decorator, "decorator", "classes have no decorators")
        base = node.bases[0] if len(node.bases) == 1 and not node.keywords else None
        if not isinstance(base, ast.Name) or base.id not in BASES:
            self._findings.add(node, "base", "a class has one base: Contract, Struct, Event or Interface")
            return ""
        return base.id

    def _constant(self, node: ast.Assign | ast.AnnAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        target = targets[0]
        if len(targets) != 1 or not isinstance(target, ast.Name) or node.value is None:
            self._findings.add(node, "constant", "a constant is NAME = literal")
            return
        value = constant(node.value, self.model.constants, self._findings)
        if self._declare(target, target.id):
            self.model.constants[target.id] = value

    def _record_or_interface(self, node: ast.ClassDef, base: str) -> None:
        if not self._declare(node, node.name):
            return
        if base == "Interface":
            self.model.interfaces[node.name] = self._interface(node)
            return
        record = self._record(node, base)
        if base == "Struct":
            if not record.fields:
                self._findings.add(node, "struct", "a struct has at least one field")
            self._types.declare_struct(record.name, [field.type for field in record.fields])
            self.model.structs[record.name] = record
        elif base == "Event":
            self.model.events[record.name] = record

    def _record(self, node: ast.ClassDef, base: str) -> RecordDecl:
        fields: dict[str, Field] = {}
        for item in _without_docstring(node.body):
            if isinstance(item, ast.Pass):
                continue
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                self._findings.add(item, "field", "a struct or event has fields `name: Type` only")
                continue
            name, kind = item.target.id, self._types.parse(item.annotation)
            if not self._member(item, name) or kind is None:
                continue
            if name in fields:
                self._findings.add(item, "duplicate", f"{name} is declared twice")
                continue
            fields[name] = self._field(item, name, kind, base)
            defaults = [field.has_default for field in fields.values()]
            if defaults != sorted(defaults):
                self._findings.add(item, "default", "fields with a default come last")
        if len(fields) > FIELDS_MAX:
            self._findings.add(node, "fields", f"at most {FIELDS_MAX} fields")
        return RecordDecl(node.name, tuple(fields.values()), _docstring(node))

    def _field(self, item: ast.AnnAssign, name: str, kind: Type, base: str) -> Field:
        if item.value is None:
            return Field(name, kind)
        default = constant(item.value, self.model.constants, self._findings)
        if base == "Event":
            self._findings.add(item, "default", "event fields have no defaults")
        elif not _fits(default, kind):
            self._findings.add(item, "default", "the default is not of the field's type")
        return Field(name, kind, has_default=True, default=default)

    def _member(self, node: ast.AST, name: str) -> bool:
        if not NAME.match(name) or "__" in name or name.startswith("_") or len(name) > NAME_CHARS_MAX:
            self._findings.add(node, "name", "a field's name is letters, digits and single underscores, no leading one")
            return False
        return True

    def _interface(self, node: ast.ClassDef) -> InterfaceDecl:
        stubs: dict[str, StubDecl] = {}
        for item in _without_docstring(node.body):
            if not isinstance(item, ast.FunctionDef):
                self._findings.add(item, "interface", "an interface has methods with the body `...`")
                continue
            body = _without_docstring(item.body)
            if body and not (len(body) == 1 and _is_stub(body[0])):
                self._findings.add(item, "interface", "an interface method has the body `...`")
            if not self._member(item, item.name) or item.name in stubs:
                self._findings.add(item, "duplicate", f"{item.name} is declared twice or is no name for a method")
                continue
            parameters = []
            for argument in self._arguments(item, typed=True):
                kind = self._types.parse(argument.annotation)
                if kind is not None:
                    parameters.append(Field(argument.arg, kind))
            if item.args.defaults:
                self._findings.add(item, "default", "parameters of an interface method have no defaults")
            is_view = self._decorator(item) is Mutability.VIEW
            stubs[item.name] = StubDecl(item.name, tuple(parameters), self._returns(item), is_view)
        return InterfaceDecl(node.name, stubs, _docstring(node))

    def _returns(self, node: ast.FunctionDef) -> Type | None:
        if node.returns is None or (isinstance(node.returns, ast.Constant) and node.returns.value is None):
            return None
        return self._types.parse(node.returns)

    def _contract(self, node: ast.ClassDef) -> None:
        if self._declare(node, node.name):
            self.model.name = node.name
        self.model.doc = _docstring(node)
        members: set[str] = set()
        for item in _without_docstring(node.body):
            name = ""
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                name = item.target.id
                self._variable(item, name)
            elif isinstance(item, ast.FunctionDef):
                name = item.name
                self._method(item)
            elif not isinstance(item, ast.Pass):
                self._member_refused(item)
            if name and name in members:
                self._findings.add(item, "duplicate", f"{name} is declared twice")
            members.add(name)
        if len(self.model.methods) > METHODS_MAX:
            self._findings.add(node, "methods", f"at most {METHODS_MAX} methods")

    def _member_refused(self, item: ast.stmt) -> None:
        if isinstance(item, ast.Assign):
            reason = "a contract's state is declared `name: Value[T]`; constants stand above the class"
            self._findings.add(item, "class_state", reason)
            return
        code, reason = NODE_ADVICE.get(type(item), ("member", "a contract has storage variables and methods"))
        self._findings.add(item, code, reason)

    def _variable(self, item: ast.AnnAssign, name: str) -> None:
        if not self._member(item, name):
            return
        if item.value is not None:
            self._findings.add(item, "class_state", "storage has no initial value here: set it in init")
        annotation = item.annotation
        if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.value, ast.Name):
            self._findings.add(item, "storage", "storage is Value[T], Map[K, V] or List[T]")
            return
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        expected = {"Value": 1, "Map": 2, "List": 1}.get(annotation.value.id)
        if expected != len(parts):
            self._findings.add(item, "storage", "storage is Value[T], Map[K, V] or List[T]")
            return
        kinds = [self._types.parse(part) for part in parts]
        key_type, value = (kinds[0] if expected == 2 else None), kinds[-1]
        if value is None or (expected == 2 and key_type is None):
            return
        key, is_tuple = self._key(item, key_type)
        self.model.variables[name] = VariableDecl(name, Storage(annotation.value.id), key, is_tuple, value)

    def _key(self, item: ast.AnnAssign, kind: Type | None) -> tuple[tuple[Type, ...], bool]:
        if kind is None:
            return (), False
        parts = kind.items if isinstance(kind, TupleOf) else (kind,)
        if len(parts) > 8 or not all(part in (INT, BOOL, BYTES, STR, ADDRESS) for part in parts):
            self._findings.add(item, "storage", "a map's key is a scalar or a tuple of up to 8 scalars")
        return parts, isinstance(kind, TupleOf)

    def _method(self, item: ast.FunctionDef) -> None:
        if not self._declare(item, item.name, unique=False):
            return
        mutability = self._decorator(item)
        if mutability is None:
            mutability = Mutability.INIT if item.name == "init" else Mutability.PRIVATE
        elif item.name == "init":
            self._findings.add(item, "decorator", "init has no decorator: it runs once, at deployment")
        typed = mutability is not Mutability.PRIVATE
        if typed and item.name.startswith("_"):
            self._findings.add(item, "name", "a public method's name does not start with an underscore")
        names: list[str] = []
        types: list[Type | None] = []
        for argument in self._arguments(item, typed=typed):
            if self._declare(argument, argument.arg, unique=False):
                names.append(argument.arg)
                types.append(self._types.parse(argument.annotation) if typed else self._private_type(argument))
        if len(set(names)) != len(names):
            self._findings.add(item, "duplicate", "two parameters have one name")
        defaults = self._defaults(item, names, typed=typed)
        returns = self._returns(item) if typed else None
        if not typed and item.returns is not None:
            check_annotation(item.returns, self._findings)
        if mutability is Mutability.INIT and returns is not None:
            self._findings.add(item, "type", "init returns nothing")
        self.model.methods[item.name] = MethodDecl(
            item.name, mutability, tuple(names), tuple(types), defaults, returns, _docstring(item), item
        )

    def _private_type(self, argument: ast.arg) -> Type | None:
        """Annotations of private helpers are for the reader: they have the look of types, and nothing checks them."""
        if argument.annotation is not None:
            check_annotation(argument.annotation, self._findings)
        return None

    def _defaults(self, item: ast.FunctionDef, names: list[str], *, typed: bool) -> dict[str, Literal]:
        if not item.args.defaults:
            return {}
        if typed:
            self._findings.add(item, "default", "parameters of public methods have no defaults")
            return {}
        with_default = names[len(names) - len(item.args.defaults) :]
        return {
            name: constant(value, self.model.constants, self._findings)
            for name, value in zip(with_default, item.args.defaults, strict=False)
        }

    def _arguments(self, item: ast.FunctionDef, *, typed: bool) -> list[ast.arg]:
        arguments = item.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs:
            self._findings.add(item, "parameters", "parameters are plain names: no *, ** or /")
        if not arguments.args or arguments.args[0].arg != "self":
            self._findings.add(item, "parameters", "the first parameter is self")
            return []
        rest = arguments.args[1:]
        if len(rest) > PARAMETERS_MAX:
            self._findings.add(item, "parameters", f"at most {PARAMETERS_MAX} parameters")
        for argument in rest:
            if typed and argument.annotation is None:
                self._findings.add(argument, "type", f"parameter {argument.arg} needs a type")
        return rest

    def _decorator(self, item: ast.FunctionDef) -> Mutability | None:
        found: Mutability | None = None
        for decorator in item.decorator_list:
            if isinstance(decorator, ast.Name) and decorator.id in ("external", "view") and found is None:
                found = Mutability(decorator.id)
            else:
                self._findings.add(decorator, "decorator", "a method has one decorator at most: external or view")
        return found


_ANNOTATION_NODES: Final = (ast.Name, ast.Subscript, ast.Tuple, ast.Constant, ast.BinOp, ast.BitOr, ast.Load)


def check_annotation(node: ast.expr, findings: Findings) -> None:
    """An annotation that is dropped in translation still has to look like one."""
    for part in ast.walk(node):
        if not isinstance(part, _ANNOTATION_NODES):
            findings.add(node, "annotation", "an annotation is made of names, brackets and |")
            return


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body


def _docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    """The docstring as written, each line stripped: `inspect.cleandoc` differs between versions of Python."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return "\n".join(line.strip() for line in first.value.value.strip().split("\n"))
    return ""


def _is_stub(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is Ellipsis
    )


_PYTHON_TYPES: Final[Mapping[str, type]] = {"int": int, "bool": bool, "bytes": bytes, "str": str, "Address": bytes}


def _fits(value: Literal, kind: Type) -> bool:
    """Whether a constant is of a type; struct fields have no constant defaults but None."""
    match kind:
        case Optional(inner):
            return value is None or _fits(value, inner)
        case Sequence(item):
            return isinstance(value, tuple) and all(_fits(part, item) for part in value)
        case TupleOf(items):
            return (
                isinstance(value, tuple)
                and len(value) == len(items)
                and all(_fits(part, item) for part, item in zip(value, items, strict=True))
            )
    if kind == ADDRESS:
        return isinstance(value, bytes) and len(value) == 20
    scalar = _PYTHON_TYPES.get(kind.name)
    return scalar is not None and type(value) is scalar

