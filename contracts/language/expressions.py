"""Expressions: each node class is translated or refused, and its gas added to the current block."""

from __future__ import annotations

import ast
from typing import Final

from contracts.language import gas
from contracts.language.build import (
    FRAME,
    constant_name,
    field_name,
    function,
    helper,
    is_simple,
    literal,
    load,
    store,
    tuple_of,
    variable_name,
)
from contracts.language.calls import Calls
from contracts.language.kinds import Kind
from contracts.language.limits import EXPRESSION_DEPTH_MAX
from contracts.language.literals import NotConstant, check_constant, evaluate
from contracts.language.model import Storage
from contracts.language.scope import Scope
from contracts.language.vocabulary import BUILTINS, CONTEXT, NODE_ADVICE, RESERVED

# Operator -> metered helper
_BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.LShift: "lshift",
    ast.RShift: "rshift",
    ast.BitAnd: "bitand",
    ast.BitOr: "bitor",
    ast.BitXor: "bitxor",
}
_GROWS_NOT: Final = (ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.BitXor)
_COSTS: Final[dict[type[ast.operator], int]] = {
    ast.Mult: gas.MULTIPLY,
    ast.FloorDiv: gas.DIVIDE,
    ast.Mod: gas.DIVIDE,
    ast.Pow: gas.POWER,
}
_COMPARE: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}


class Expressions:
    """Translates expressions of one method."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.calls = Calls(self)

    def expr(self, node: ast.expr) -> ast.expr:
        """The metered form of `node`."""
        scope = self.scope
        scope.depth += 1
        scope.cost += gas.EXPRESSION
        if scope.depth > EXPRESSION_DEPTH_MAX:
            result = scope.refuse(node, "expression_depth", f"expressions nest at most {EXPRESSION_DEPTH_MAX} deep")
        else:
            result = ast.copy_location(self._translate(node), node)
        scope.depth -= 1
        return result

    def _translate(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BoolOp():
                return ast.BoolOp(op=node.op, values=[self.expr(value) for value in node.values])
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                test, body, orelse = self.expr(node.test), self.expr(node.body), self.expr(node.orelse)
                return ast.IfExp(test=test, body=body, orelse=orelse)
            case ast.Call():
                return self.calls.call(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Tuple() | ast.List():
                return self._display(node)
            case ast.Dict():
                return self._dict(node)
            case ast.ListComp():
                return self._list_comprehension(node)
            case ast.DictComp():
                return self._dict_comprehension(node)
            case ast.JoinedStr():
                return self._joined(node)
        code, reason = NODE_ADVICE.get(type(node), ("expression", f"{type(node).__name__} is not part of the language"))
        return self.scope.refuse(node, code, reason)

    # Leaves

    def _constant(self, node: ast.Constant) -> ast.expr:
        try:
            return literal(check_constant(node))
        except NotConstant as problem:
            return self.scope.refuse(problem.node, problem.code, problem.reason)

    def _name(self, node: ast.Name) -> ast.expr:
        name, scope = node.id, self.scope
        if scope.is_local(name):
            return load(name)
        if name in scope.model.constants:
            value = scope.model.constants[name]
            return load(constant_name(name)) if isinstance(value, tuple) else literal(value)
        if "__" in name:
            return scope.refuse(node, "double_underscore", "names with two underscores in a row are refused")
        if name == "self":
            return scope.refuse(node, "self", "self is followed by a declared variable or method")
        if name in BUILTINS or name in RESERVED or name in scope.model.structs or name in scope.model.interfaces:
            return scope.refuse(node, "name", f"{name} can only be called or, for ctx, followed by a field")
        return scope.refuse(node, "name", f"{name} is not a parameter, a local name or a constant")

    def _attribute(self, node: ast.Attribute) -> ast.expr:
        scope, attribute = self.scope, node.attr
        if "__" in attribute:
            return scope.refuse(node, "double_underscore", "attributes with two underscores in a row are refused")
        if isinstance(node.value, ast.Name) and not scope.is_local(node.value.id):
            if node.value.id == "ctx":
                if attribute not in CONTEXT:
                    return scope.refuse(node, "attribute", f"ctx has {', '.join(sorted(CONTEXT))}")
                return ast.Attribute(value=load(FRAME), attr=attribute, ctx=ast.Load())
            if node.value.id == "self":
                return self._self_attribute(node)
        if attribute not in scope.fields:
            return scope.refuse(node, "attribute", f"no struct of this source has a field {attribute}")
        return ast.Attribute(value=self.expr(node.value), attr=field_name(attribute), ctx=ast.Load())

    def _self_attribute(self, node: ast.Attribute) -> ast.expr:
        model = self.scope.model
        if node.attr in model.variables:
            forms = {
                Storage.VALUE: "get(), set(...), exists()",
                Storage.MAP: "[key], get, scan, in, del",
                Storage.LIST: "[index], append, len",
            }[model.variables[node.attr].storage]
            return self.scope.refuse(node, "storage", f"self.{node.attr} is used as {forms}")
        if node.attr in model.methods:
            return self.scope.refuse(node, "self", f"self.{node.attr} can only be called")
        return self.scope.refuse(node, "self", f"self.{node.attr} is not declared in the contract class")

    # Operators

    def _binary(self, node: ast.BinOp) -> ast.expr:
        folded = self._folded(node)
        if folded is not None:
            return folded
        scope = self.scope
        name = _BINARY.get(type(node.op))
        left, right = self.expr(node.left), self.expr(node.right)
        if name is None:
            advice = "use // : there is no floating point" if isinstance(node.op, ast.Div) else "not an operator here"
            return scope.refuse(node, "operator", advice)
        scope.cost += _COSTS.get(type(node.op), gas.OPERATION)
        if self._is_cheap(node.op, scope.kinds.of(node.left), scope.kinds.of(node.right)):
            return ast.BinOp(left=left, op=node.op, right=right)
        return helper(name, left, right)

    def augmented(self, node: ast.AugAssign, current: ast.expr) -> ast.expr:
        """`current op= node.value`, where `current` is translated already; a list is extended in place."""
        scope = self.scope
        scope.cost += gas.EXPRESSION + _COSTS.get(type(node.op), gas.OPERATION)
        name = _BINARY.get(type(node.op))
        value = self.expr(node.value)
        if name is None:
            return scope.refuse(node, "operator", "use //= : there is no floating point")
        if self._is_cheap(node.op, scope.kinds.of(node.target), scope.kinds.of(node.value)):
            return ast.BinOp(left=current, op=node.op, right=value)
        return helper("iadd" if name == "add" else name, current, value)

    def _is_cheap(self, op: ast.operator, left: Kind, right: Kind) -> bool:
        """True where plain Python is bounded: see `contracts.language.kinds`."""
        if isinstance(op, ast.Add | ast.Sub):
            return Kind.WORD in (left, right)
        if isinstance(op, ast.Mult):
            return left == right == Kind.WORD
        return isinstance(op, _GROWS_NOT) and left.is_int and right.is_int

    def _folded(self, node: ast.BinOp | ast.UnaryOp) -> ast.expr | None:
        try:
            return literal(evaluate(node, {}))
        except NotConstant:
            return None

    def _unary(self, node: ast.UnaryOp) -> ast.expr:
        folded = self._folded(node)
        if folded is not None:
            return folded
        return ast.UnaryOp(op=node.op, operand=self.expr(node.operand))

    def _compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) == 1:
            return self._comparison(node, node.left, node.ops[0], node.comparators[0])
        # a < b < c: the middle value is evaluated once
        parts: list[ast.expr] = []
        left: ast.expr = node.left
        translated = self.expr(left)
        for op, right in zip(node.ops, node.comparators, strict=True):
            right_first = self.expr(right)
            right_again: ast.expr = right_first
            if right is not node.comparators[-1] and not is_simple(right):
                if self.scope.in_iterable:
                    return self.scope.refuse(node, "comparison", "name the middle value of the comparison first")
                temporary = self.scope.temporary()
                right_first = ast.NamedExpr(target=store(temporary), value=right_first)
                right_again = load(temporary)
            parts.append(self._pair(node, op, left, translated, right, right_first))
            left, translated = right, right_again
        return ast.BoolOp(op=ast.And(), values=parts)

    def _comparison(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        variable = self.storage_variable(right)
        if variable is not None and isinstance(op, ast.In | ast.NotIn):
            return self._stored_membership(node, left, op, variable)
        return self._pair(node, op, left, self.expr(left), right, self.expr(right))

    def _stored_membership(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, variable: str) -> ast.expr:
        if self.scope.model.variables[variable].storage is not Storage.MAP:
            return self.scope.refuse(node, "storage", "`in` asks a Map")
        self.scope.cost += gas.READ
        found: ast.expr = function(variable_name(variable, "has"), self.expr(left))
        return ast.UnaryOp(op=ast.Not(), operand=found) if isinstance(op, ast.NotIn) else found

    def _pair(
        self, node: ast.Compare, op: ast.cmpop, left: ast.expr, left_new: ast.expr, right: ast.expr, right_new: ast.expr
    ) -> ast.expr:
        scope = self.scope
        scope.cost += gas.OPERATION
        if isinstance(op, ast.In):
            return helper("contains", left_new, right_new)
        if isinstance(op, ast.NotIn):
            return ast.UnaryOp(op=ast.Not(), operand=helper("contains", left_new, right_new))
        if isinstance(op, ast.Is | ast.IsNot):
            constant = right.value if isinstance(right, ast.Constant) else ...
            if constant is None or isinstance(constant, bool):
                return ast.Compare(left=left_new, ops=[op], comparators=[right_new])
            return scope.refuse(node, "identity", "`is` compares with None, True or False only; use ==")
        if scope.kinds.of(left) != Kind.ANY or scope.kinds.of(right) != Kind.ANY:
            return ast.Compare(left=left_new, ops=[op], comparators=[right_new])
        return helper(_COMPARE[type(op)], left_new, right_new)

    # Containers

    def storage_variable(self, node: ast.expr) -> str | None:
        """The name of the storage variable that `node` is (`self.name`), if it is one."""
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in self.scope.model.variables:
                return name
        return None

    def _subscript(self, node: ast.Subscript) -> ast.expr:
        scope = self.scope
        variable = self.storage_variable(node.value)
        if variable is not None:
            return function(self.stored_item(node, variable, "get"), self.key(node.slice))
        if isinstance(node.slice, ast.Slice):
            scope.cost += gas.OPERATION
            value = self.expr(node.value)
            parts = [
                ast.Constant(None) if part is None else self.expr(part)
                for part in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return helper("slice", value, *parts)
        value, index = self.expr(node.value), self.expr(node.slice)
        if _is_small_integer(index):
            return ast.Subscript(value=value, slice=index, ctx=ast.Load())
        scope.cost += gas.OPERATION
        return helper("item", value, index)

    def stored_item(self, node: ast.AST, variable: str, operation: str) -> str:
        """The accessor for `self.variable[...]`, with its gas added."""
        storage = self.scope.model.variables[variable].storage
        if storage is Storage.VALUE or (storage is Storage.LIST and operation == "del"):
            self.scope.refuse(node, "storage", f"a {storage.value} has no such access")
        reads, writes = {"get": (1, 0), "set": (0, 1), "del": (0, 1)}[operation]
        reads += storage is Storage.LIST  # the length
        if writes:
            self.scope.writes(node)
        self.scope.cost += reads * gas.READ + writes * gas.WRITE
        return variable_name(variable, operation)

    def key(self, node: ast.expr) -> ast.expr:
        """A key of a storage variable."""
        if isinstance(node, ast.Slice):
            return self.scope.refuse(node, "slice", "storage has no slices")
        return self.expr(node)

    def _display(self, node: ast.Tuple | ast.List) -> ast.expr:
        self.scope.cost += gas.DISPLAY + gas.DISPLAY_ITEM * len(node.elts)
        items = [self.expr(item) for item in node.elts]
        if isinstance(node, ast.Tuple):
            return ast.Tuple(elts=items, ctx=ast.Load())
        return ast.List(elts=items, ctx=ast.Load())

    def _dict(self, node: ast.Dict) -> ast.expr:
        self.scope.cost += gas.DISPLAY
        pairs: list[ast.expr] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                return self.scope.refuse(node, "star", "name the items one by one, or use update")
            pairs.append(tuple_of(self.expr(key), self.expr(value)))
        return helper("dict_of", tuple_of(*pairs)) if pairs else ast.Dict(keys=[], values=[])

    # Comprehensions: an iteration's gas is charged for all of them before the first

    def _list_comprehension(self, node: ast.ListComp) -> ast.expr:
        self.scope.cost += gas.DISPLAY
        generators, elements = self._comprehension(node, node.generators, [node.elt])
        return ast.ListComp(elt=elements[0], generators=generators)

    def _dict_comprehension(self, node: ast.DictComp) -> ast.expr:
        self.scope.cost += gas.DISPLAY
        generators, elements = self._comprehension(node, node.generators, [node.key, node.value])
        return helper("dict_of", ast.ListComp(elt=tuple_of(*elements), generators=generators))

    def _comprehension(
        self, node: ast.expr, generators: list[ast.comprehension], elements: list[ast.expr]
    ) -> tuple[list[ast.comprehension], list[ast.expr]]:
        scope = self.scope
        around = scope.cost
        scope.enter_comprehension()
        made: list[ast.comprehension] = []
        iterables: list[ast.expr] = []
        costs: list[int] = []
        translated: list[ast.expr] = []
        for position, generator in enumerate(generators):
            if generator.is_async:
                scope.refuse(node, "async", "contracts run one call at a time")
            scope.in_iterable += 1
            iterables.append(self.expr(generator.iter))
            scope.in_iterable -= 1
            if position == 0:
                around = scope.cost  # the first iterable is evaluated in the block around
            else:
                costs.append(scope.cost)
            scope.cost = gas.ITERATION + gas.ITEM_BYTES + gas.DISPLAY
            target = self._comprehension_target(generator.target)
            conditions = [self.expr(condition) for condition in generator.ifs]
            if generator is generators[-1]:
                translated = [self.expr(element) for element in elements]
                costs.append(scope.cost)
            made.append(ast.comprehension(target=target, iter=ast.Constant(None), ifs=conditions, is_async=0))
        for generator, iterable, cost in zip(made, iterables, costs, strict=True):
            generator.iter = helper("each", iterable, ast.Constant(cost))
        scope.leave_comprehension()
        scope.cost = around
        return made, translated

    def _comprehension_target(self, node: ast.expr) -> ast.expr:
        match node:
            case ast.Name(id=name):
                if "__" in name or name in RESERVED or name in self.scope.model.constants:
                    return self.scope.refuse(node, "shadow", f"{name} is built in, a constant, or has two underscores")
                self.scope.bind_in_comprehension(name)
                return store(name)
            case ast.Tuple(elts=items):
                return ast.Tuple(elts=[self._comprehension_target(item) for item in items], ctx=ast.Store())
        return self.scope.refuse(node, "target", "assign to names")

    # Text

    def _joined(self, node: ast.JoinedStr) -> ast.expr:
        parts: list[ast.expr] = []
        for part in node.values:
            match part:
                case ast.Constant():
                    parts.append(self._constant(part))
                case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                    parts.append(self.expr(value))
                case _:
                    return self.scope.refuse(node, "format", "braces hold a value only: no `!`, `:` or `=`")
        self.scope.cost += gas.OPERATION + gas.TEXT_ITEM * len(parts)
        return helper("joined", tuple_of(*parts))


def _is_small_integer(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and -(2**31) < node.value < 2**31
