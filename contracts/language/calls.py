"""Calls: builtins, structs, other contracts, storage, internal methods, methods of local values."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from contracts.language import gas
from contracts.language.build import (
    field_name,
    function,
    helper,
    interface_name,
    literal,
    load,
    method_name,
    struct_name,
    stub_name,
    tuple_of,
    variable_name,
)
from contracts.language.model import InterfaceDecl, MethodDecl, Mutability, RecordDecl, Storage, StubDecl, VariableDecl
from contracts.language.types import INT
from contracts.language.vocabulary import BUILTIN_ADVICE, BUILTINS, CLASS_METHODS, METHODS, STATEMENT_CALLS

if TYPE_CHECKING:
    from contracts.language.expressions import Expressions

_ADD_BOUNDS = ("minimum", "maximum")
# Storage operation -> (fewest, most arguments, reads, writes)
_VALUE_OPERATIONS = {"get": (0, 1, 1, 0), "set": (1, 1, 0, 1), "exists": (0, 0, 1, 0), "delete": (0, 0, 0, 1)}
_MAP_OPERATIONS = {"get": (1, 2, 1, 0)}
_LIST_OPERATIONS = {"append": (1, 1, 1, 2)}


class Calls:
    """Translates the calls of one method; shares the scope of `Expressions`."""

    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions
        self._scope = expressions.scope

    def call(self, node: ast.Call) -> ast.expr:
        scope = self._scope
        scope.cost += gas.CALL
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                return scope.refuse(node, "star", "name the arguments one by one")
        if any(keyword.arg is None for keyword in node.keywords):
            return scope.refuse(node, "star", "name the arguments one by one")
        if scope.rules.refuses_repeated_arguments:
            self._refuse_repeated(node)
        match node.func:
            case ast.Name(id=name):
                return self._named(node, name)
            case ast.Attribute(attr=attribute) if "__" in attribute:
                return scope.refuse(node, "double_underscore", "names with two underscores in a row are refused")
            case ast.Attribute():
                return self._attribute(node, node.func)
        return scope.refuse(node, "call", "what is called is named in the source")

    def _refuse_repeated(self, node: ast.Call) -> None:
        names = [keyword.arg for keyword in node.keywords]
        for number, name in enumerate(names):
            if name in names[:number]:
                self._scope.refuse(node, "arguments", f"{name} is given twice")

    # Name(...)

    def _named(self, node: ast.Call, name: str) -> ast.expr:
        scope, model = self._scope, self._scope.model
        if scope.is_local(name):
            return scope.refuse(node, "call", f"{name} is a local value, not a function")
        if name in model.structs:
            return self._struct(node, model.structs[name])
        if name in model.interfaces:
            if len(node.args) != 1 or node.keywords:
                return scope.refuse(node, "arguments", f"{name} takes the other contract's address")
            return function(interface_name(name), self._expressions.expr(node.args[0]))
        if name in model.events or name in STATEMENT_CALLS:
            reason = f"{name} stands in a statement of its own: emit(Event(...)), require(...), revert(...)"
            return scope.refuse(node, "call", reason)
        if name == "len" and len(node.args) == 1:
            variable = self._expressions.storage_variable(node.args[0])
            if variable is not None:
                return self._stored_length(node, variable)
        if name in BUILTINS:
            return self._builtin(node, name)
        advice = BUILTIN_ADVICE.get(name)
        if advice is not None:
            return scope.refuse(node, "builtin", f"no {name}: {advice}")
        return scope.refuse(node, "name", f"{name} is not a builtin, a struct or an interface")

    def _stored_length(self, node: ast.Call, variable: str) -> ast.expr:
        if self._scope.model.variables[variable].storage is not Storage.LIST:
            return self._scope.refuse(node, "storage", "only a List knows its length; keep a count beside a Map")
        self._scope.cost += gas.READ
        return function(variable_name(variable, "len"))

    def _builtin(self, node: ast.Call, name: str) -> ast.expr:
        fewest, most, allowed = BUILTINS[name]
        arguments, keywords = self._plain(node, fewest, most, allowed)
        if name == "sha256":
            self._scope.cost += gas.SHA256
        elif name == "keccak256":
            self._scope.cost += gas.KECCAK256
        elif name == "encode":
            self._scope.cost += gas.ENCODE
        if name == "len":
            return ast.Call(func=load("h__len"), args=arguments, keywords=[])
        if name == "encode":
            return helper("encode", tuple_of(*arguments))
        return helper(f"b_{name}", *arguments, keywords=keywords)

    def _plain(
        self, node: ast.Call, fewest: int, most: int, allowed: tuple[str, ...]
    ) -> tuple[list[ast.expr], list[ast.keyword]]:
        """Arguments of something built in, counted and translated."""
        self._refuse_repeated(node)
        if not fewest <= len(node.args) <= most:
            expected = str(fewest) if fewest == most else f"{fewest} to {most}"
            self._scope.refuse(node, "arguments", f"takes {expected} positional arguments")
        keywords: list[ast.keyword] = []
        for keyword in node.keywords:
            if keyword.arg not in allowed:
                self._scope.refuse(node, "arguments", f"has no keyword argument {keyword.arg}")
            else:
                keywords.append(ast.keyword(arg=keyword.arg, value=self._expressions.expr(keyword.value)))
        return [self._expressions.expr(argument) for argument in node.args], keywords

    def _struct(self, node: ast.Call, struct: RecordDecl) -> ast.expr:
        self._scope.cost += gas.DISPLAY + gas.DISPLAY_ITEM * len(struct.fields)
        return function(struct_name(struct.name), keywords=self.fields(node, struct))

    def fields(self, node: ast.Call, record: RecordDecl) -> list[ast.keyword]:
        """The arguments of `Record(...)` as mangled keywords, in the order of the source."""
        names = [field.name for field in record.fields]
        given: dict[str, ast.expr] = {}
        if len(node.args) > len(names):
            self._scope.refuse(node, "arguments", f"{record.name} has {len(names)} fields")
        pairs = [*zip(names, node.args, strict=False), *((str(word.arg), word.value) for word in node.keywords)]
        for name, value in pairs:
            if name not in names or name in given:
                self._scope.refuse(node, "arguments", f"{record.name} has no field {name}, or it is given twice")
                continue
            given[name] = self._expressions.expr(value)
        for field in record.fields:
            if field.name not in given and not field.has_default:
                self._scope.refuse(node, "arguments", f"{record.name} needs {field.name}")
        return [ast.keyword(arg=field_name(name), value=value) for name, value in given.items()]

    # value.name(...)

    def _attribute(self, node: ast.Call, target: ast.Attribute) -> ast.expr:
        scope, model = self._scope, self._scope.model
        variable = self._expressions.storage_variable(target.value)
        if variable is not None:
            return self._stored(node, variable, target.attr)
        match target.value:
            case ast.Name(id="self"):
                if target.attr in model.methods:
                    return self._internal(node, model.methods[target.attr])
                return scope.refuse(node, "self", f"self.{target.attr} is not a method of the contract")
            case ast.Name(id=name) if (name, target.attr) in CLASS_METHODS and not scope.is_local(name):
                fewest, most, allowed = CLASS_METHODS[name, target.attr]
                arguments, keywords = self._plain(node, fewest, most, allowed)
                return helper(f"c_{name}_{target.attr}", *arguments, keywords=keywords)
            case ast.Call(func=ast.Name(id=name), args=[address], keywords=[]) if name in model.interfaces:
                if not scope.is_local(name):
                    return self._interface(node, model.interfaces[name], target.attr, address)
        return self._value_method(node, target)

    def _interface(self, node: ast.Call, interface: InterfaceDecl, method: str, address: ast.expr) -> ast.expr:
        stub = interface.stubs.get(method)
        if stub is None:
            return self._scope.refuse(node, "interface", f"{interface.name} has no method {method}")
        translated = self._expressions.expr(address)
        arguments = self._stub_arguments(node, stub)
        return helper("call", load(stub_name(interface.name, method)), translated, tuple_of(*arguments))

    def _stub_arguments(self, node: ast.Call, stub: StubDecl) -> list[ast.expr]:
        names = [parameter.name for parameter in stub.parameters]
        return self._positional(node, stub.name, names, {})

    def _positional(
        self, node: ast.Call, callee: str, names: list[str], defaults: dict[str, ast.expr]
    ) -> list[ast.expr]:
        """Arguments in the order of the parameters. Keywords that would change the order of evaluation are refused."""
        if len(node.args) > len(names):
            self._scope.refuse(node, "arguments", f"{callee} takes {len(names)} arguments")
        given = [self._expressions.expr(argument) for argument in node.args[: len(names)]]
        words = {str(keyword.arg): keyword.value for keyword in node.keywords}
        expected = [name for name in names[len(given) :] if name in words]
        if list(words) != expected:
            reason = f"{callee} takes ({', '.join(names)}); keywords follow in the order of the parameters"
            self._scope.refuse(node, "arguments", reason)
        for name in names[len(given) :]:
            if name in words:
                given.append(self._expressions.expr(words[name]))
            elif name in defaults:
                given.append(defaults[name])
            else:
                self._scope.refuse(node, "arguments", f"{callee} needs {name}")
        return given

    def _internal(self, node: ast.Call, method: MethodDecl) -> ast.expr:
        if method.mutability is Mutability.INIT:
            return self._scope.refuse(node, "init", "init runs once, at deployment")
        defaults: dict[str, ast.expr] = {name: literal(value) for name, value in method.defaults.items()}
        arguments = self._positional(node, method.name, list(method.parameters), defaults)
        if method.name in self._scope.recursive:
            self._scope.cost += gas.CALL
            return helper("recur", load(method_name(method.name)), tuple_of(*arguments))
        return function(method_name(method.name), *arguments)

    def _stored(self, node: ast.Call, variable: str, operation: str) -> ast.expr:
        scope = self._scope
        declared = scope.model.variables[variable]
        if declared.storage is Storage.MAP and operation == "scan":
            return self._scan(node, variable, len(declared.key) if declared.is_tuple_key else 0)
        if declared.storage is not Storage.LIST and operation == "add":
            return self._add(node, declared)
        operations = {
            Storage.VALUE: _VALUE_OPERATIONS,
            Storage.MAP: _MAP_OPERATIONS,
            Storage.LIST: _LIST_OPERATIONS,
        }[declared.storage]
        if operation not in operations:
            reason = f"a {declared.storage.value} has {', '.join(sorted(operations))}, not {operation}"
            return scope.refuse(node, "storage", reason)
        fewest, most, reads, writes = operations[operation]
        scope.cost += reads * gas.READ + writes * gas.WRITE
        if writes:
            scope.writes(node)
        words = [keyword for keyword in node.keywords if keyword.arg == "default" and operation == "get"]
        positional = [*node.args, *(keyword.value for keyword in words)]
        if len(words) != len(node.keywords) or not fewest <= len(positional) <= most:
            return scope.refuse(node, "arguments", f"{operation} takes {fewest} to {most} arguments")
        arguments = [self._expressions.expr(argument) for argument in positional]
        if operation == "get":
            defaulted = arguments if len(arguments) == most else [*arguments, ast.Constant(None)]
            return function(variable_name(variable, "find"), *defaulted)
        return function(variable_name(variable, operation), *arguments)

    def _add(self, node: ast.Call, variable: VariableDecl) -> ast.expr:
        """`self.value.add(amount, ...)`, `self.map.add(key, amount, ...)`: the fixed price is paid here."""
        scope = self._scope
        if not scope.rules.has_adds:
            reason = "add came with rule set 2, this chain has rule set 1: read the value and write it back"
            return scope.refuse(node, "storage", reason)
        if variable.value != INT:
            return scope.refuse(node, "storage", "add is for Value[int] and Map[..., int]")
        scope.writes(node)
        scope.cost += gas.ADD
        names = ("amount",) if variable.storage is Storage.VALUE else ("key", "amount")
        if len(node.args) != len(names) or any(keyword.arg not in _ADD_BOUNDS for keyword in node.keywords):
            return scope.refuse(node, "arguments", f"add({', '.join(names)}, minimum=..., maximum=...)")
        arguments = [self._expressions.expr(argument) for argument in node.args]
        keywords = [ast.keyword(arg=word.arg, value=self._expressions.expr(word.value)) for word in node.keywords]
        return function(variable_name(variable.name, "add"), *arguments, keywords=keywords)

    def _scan(self, node: ast.Call, variable: str, parts: int) -> ast.expr:
        if node.keywords or len(node.args) >= max(parts, 1):
            reason = f"scan takes 0 to {max(parts - 1, 0)} leading parts of the key"
            return self._scope.refuse(node, "arguments", reason)
        self._scope.cost += gas.SCAN
        return function(variable_name(variable, "scan"), tuple_of(*map(self._expressions.expr, node.args)))

    def _value_method(self, node: ast.Call, target: ast.Attribute) -> ast.expr:
        """A method of a local value: list, dict, str, ..., a struct's `replace`, or an interface reference."""
        scope, name = self._scope, target.attr
        if name == "replace" and node.keywords:
            return self._replace(node, target)
        stubs = [interface.stubs[name] for interface in scope.model.interfaces.values() if name in interface.stubs]
        if stubs:
            return self._reference_method(node, target, stubs)
        if name not in METHODS:
            return scope.refuse(node, "method", f"no value of the language has a method {name}")
        fewest, most, allowed = METHODS[name]
        value = self._expressions.expr(target.value)
        arguments, keywords = self._plain(node, fewest, most, allowed)
        return helper(f"m_{name}", value, *arguments, keywords=keywords)

    def _reference_method(self, node: ast.Call, target: ast.Attribute, stubs: list[StubDecl]) -> ast.expr:
        """`reference.method(...)` where some interface has the method; a list's `append` may be meant as well."""
        value = self._expressions.expr(target.value)
        words = [str(keyword.arg) for keyword in node.keywords]
        arguments = [self._expressions.expr(argument) for argument in node.args]
        arguments += [self._expressions.expr(keyword.value) for keyword in node.keywords]
        names = [[parameter.name for parameter in stub.parameters] for stub in stubs]
        fitting = [name[len(node.args) :] == words for name in names]
        if not (all(fitting) if words else any(fitting) or target.attr in METHODS):
            return self._scope.refuse(
                node, "arguments", f"no interface has {target.attr} with these arguments in this order"
            )
        local = load(f"h__m_{target.attr}") if target.attr in METHODS and not words else ast.Constant(None)
        return helper("reference", value, ast.Constant(target.attr), tuple_of(*arguments), local)

    def _replace(self, node: ast.Call, target: ast.Attribute) -> ast.expr:
        scope = self._scope
        if node.args:
            return scope.refuse(node, "arguments", "a struct's replace takes fields by name")
        self._refuse_repeated(node)
        known = {field.name for struct in scope.model.structs.values() for field in struct.fields}
        value = self._expressions.expr(target.value)
        keywords: list[ast.keyword] = []
        for keyword in node.keywords:
            if keyword.arg not in known:
                return scope.refuse(node, "attribute", f"no struct of this source has a field {keyword.arg}")
            keywords.append(ast.keyword(arg=field_name(str(keyword.arg)), value=self._expressions.expr(keyword.value)))
        scope.cost += gas.REPLACE
        return helper("replace", value, keywords=keywords)

