"""Statements: each node class is translated or refused; every basic block pays before it runs."""

from __future__ import annotations

import ast

from contracts.language import gas
from contracts.language.build import (
    FRAME,
    charge,
    event_name,
    function,
    helper,
    is_simple,
    load,
    method_name,
    store,
)
from contracts.language.declarations import check_annotation
from contracts.language.expressions import Expressions
from contracts.language.findings import Findings
from contracts.language.model import ContractModel, MethodDecl, Mutability
from contracts.language.rules import Rules
from contracts.language.scope import Scope
from contracts.language.vocabulary import NODE_ADVICE, RESERVED

_SAFE_ITERABLES = frozenset(("range", "enumerate", "zip", "reversed", "sorted", "list"))


def translate_method(
    model: ContractModel,
    method: MethodDecl,
    findings: Findings,
    recursive: frozenset[str],
    rules: Rules,
    *,
    itemised: bool = False,
) -> ast.FunctionDef:
    """The function `m__name(h__x, ...)` that does what the method says, metered."""
    scope = Scope(model, method, findings, recursive, rules)
    for name in sorted(scope.locals):
        if name in RESERVED or name in model.constants or "__" in name or name in model.structs:
            findings.add(method.node, "shadow", f"{name} is built in, declared above, or has two underscores in a row")
        elif name in model.interfaces or name in model.events:
            findings.add(method.node, "shadow", f"{name} is declared above")
    body = Statements(scope, itemised=itemised).block(method.node.body, gas.FUNCTION)
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(arg=name) for name in (FRAME, *method.parameters)],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    made = ast.FunctionDef(name=method_name(method.name), args=arguments, body=body, decorator_list=[])
    return ast.fix_missing_locations(ast.copy_location(made, method.node))


def _is_text(node: ast.stmt) -> bool:
    """A docstring, or a comment written as one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class Statements:
    """Translates the statements of one method."""

    def __init__(self, scope: Scope, *, itemised: bool) -> None:
        self._scope = scope
        self._itemised = itemised
        self._expressions = Expressions(scope)
        self._loops = 0  # around the statement being translated

    def block(self, body: list[ast.stmt], cost: int) -> list[ast.stmt]:
        """A suite, cut into basic blocks, each charged on the line where it begins.

        `cost` belongs to the first of them. The scope's own cost is left alone.
        """
        scope, around = self._scope, self._scope.cost
        result: list[ast.stmt] = []
        start, first = 0, body[0]
        items = [(next((node for node in body if not _is_text(node)), first).lineno, cost)] if cost else []
        for number, node in enumerate(body, 1):
            scope.cost = gas.STATEMENT
            made = [ast.copy_location(item, node) for item in self._statement(node)]
            items.append((node.lineno, scope.cost))
            result.extend(made)
            if isinstance(node, ast.If | ast.For | ast.While | ast.Try) or number == len(body):
                result[start:start] = self._charge(first, items)
                start, first, items = len(result), body[min(number, len(body) - 1)], []
        scope.cost = around
        return result

    def _charge(self, node: ast.stmt, items: list[tuple[int, int]]) -> list[ast.stmt]:
        return [ast.copy_location(item, node) for item in charge(items, itemised=self._itemised)]

    def _statement(self, node: ast.stmt) -> list[ast.stmt]:
        match node:
            case ast.Expr():
                return self._expression(node)
            case ast.Assign():
                return self._assign(node)
            case ast.AnnAssign():
                return self._annotated(node)
            case ast.AugAssign():
                return self._augmented(node)
            case ast.Return():
                return self._return(node)
            case ast.If():
                return self._if(node)
            case ast.For():
                return self._for(node)
            case ast.While():
                return self._while(node)
            case ast.Pass():
                return [node]
            case ast.Break() | ast.Continue():
                if not self._loops:
                    self._scope.refuse(node, "loop", "break and continue stand in a loop")
                return [node]
            case ast.Delete():
                return [made for target in node.targets for made in self._delete(target)]
            case ast.Try():
                return self._try(node)
        code, reason = NODE_ADVICE.get(type(node), ("statement", f"{type(node).__name__} is not part of the language"))
        self._scope.refuse(node, code, reason)
        return [ast.Pass()]

    # Expressions as statements

    def _expression(self, node: ast.Expr) -> list[ast.stmt]:
        value = node.value
        if _is_text(node):
            return [ast.Pass()]
        if not isinstance(value, ast.Call):
            self._expressions.expr(value)  # for its findings, which say more
            self._scope.refuse(node, "no_effect", "the value is not used")
            return [ast.Pass()]
        if isinstance(value.func, ast.Name) and not self._scope.is_local(value.func.id):
            match value.func.id:
                case "require":
                    return self._require(value)
                case "revert":
                    return self._revert(value)
                case "emit":
                    return self._emit(value)
        return [ast.Expr(value=self._expressions.expr(value))]

    def _require(self, node: ast.Call) -> list[ast.stmt]:
        if len(node.args) != 2 or node.keywords:
            self._scope.refuse(node, "arguments", "require(condition, 'reason')")
            return [ast.Pass()]
        condition = self._expressions.expr(node.args[0])
        reason = self._expressions.expr(node.args[1])
        failed = ast.UnaryOp(op=ast.Not(), operand=condition)
        return [ast.If(test=failed, body=[ast.Expr(value=helper("revert", reason))], orelse=[])]

    def _revert(self, node: ast.Call) -> list[ast.stmt]:
        if len(node.args) != 1 or node.keywords:
            self._scope.refuse(node, "arguments", "revert('reason')")
            return [ast.Pass()]
        return [ast.Expr(value=helper("revert", self._expressions.expr(node.args[0])))]

    def _emit(self, node: ast.Call) -> list[ast.stmt]:
        match node:
            case ast.Call(args=[ast.Call(func=ast.Name(id=name)) as made], keywords=[]):
                event = self._scope.model.events.get(name)
                if event is not None and not any(keyword.arg is None for keyword in made.keywords):
                    self._scope.writes(node)
                    self._scope.cost += gas.EVENT
                    keywords = self._expressions.calls.fields(made, event)
                    return [ast.Expr(value=function(event_name(name), keywords=keywords))]
        self._scope.refuse(node, "emit", "emit(SomeEvent(field=value, ...)) of an event declared above")
        return [ast.Pass()]

    # Assignment

    def _assign(self, node: ast.Assign) -> list[ast.stmt]:
        if len(node.targets) > 1:
            targets = [self._name_target(target) for target in node.targets]
            return [ast.Assign(targets=targets, value=self._expressions.expr(node.value))]
        return self._store(node.targets[0], node.value)

    def _annotated(self, node: ast.AnnAssign) -> list[ast.stmt]:
        if node.value is None or not isinstance(node.target, ast.Name):
            self._scope.refuse(node, "annotation", "an annotated local is `name: type = value`")
            return [ast.Pass()]
        check_annotation(node.annotation, self._scope.findings)
        return self._store(node.target, node.value)

    def _store(self, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        match target:
            case ast.Name() | ast.Tuple():
                return [ast.Assign(targets=[self._name_target(target)], value=self._expressions.expr(value))]
            case ast.Subscript():
                return [self._store_item(target, self._expressions.expr(value))]
        self._refuse_target(target)
        return [ast.Pass()]

    def _refuse_target(self, target: ast.expr) -> None:
        if isinstance(target, ast.Attribute):
            reason = "attributes are never assigned: use Value.set, or replace on a struct"
            self._scope.refuse(target, "attribute", reason)
        else:
            self._scope.refuse(target, "target", "assign to a name, a tuple of names, or an item")

    def _name_target(self, target: ast.expr) -> ast.expr:
        match target:
            case ast.Name(id=name):
                return store(name)
            case ast.Tuple(elts=items):
                return ast.Tuple(elts=[self._name_target(item) for item in items], ctx=ast.Store())
        self._refuse_target(target)
        return store("h__refused")

    def _store_item(self, target: ast.Subscript, value: ast.expr) -> ast.stmt:
        """`target[...] = value`; Python evaluates the value first, then the target: so do the accessors' arguments."""
        variable = self._expressions.storage_variable(target.value)
        if variable is not None:
            accessor = self._expressions.stored_item(target, variable, "set")
            return ast.Expr(value=function(accessor, value, self._expressions.key(target.slice)))
        container, index = self._container(target)
        return ast.Expr(value=helper("store", value, container, index))

    def _container(self, target: ast.Subscript) -> tuple[ast.expr, ast.expr]:
        if isinstance(target.slice, ast.Slice):
            return self._scope.refuse(target, "slice", "slices are read, not assigned"), ast.Constant(None)
        self._scope.cost += gas.OPERATION
        return self._expressions.expr(target.value), self._expressions.expr(target.slice)

    def _augmented(self, node: ast.AugAssign) -> list[ast.stmt]:
        target = node.target
        if isinstance(target, ast.Name):
            read = ast.copy_location(load(target.id), target)
            return [ast.Assign(targets=[store(target.id)], value=self._expressions.augmented(node, read))]
        if not isinstance(target, ast.Subscript):
            self._refuse_target(target)
            return [ast.Pass()]
        variable = self._expressions.storage_variable(target.value)
        before: list[ast.stmt] = []
        if variable is not None:
            key = self._once(self._expressions.key(target.slice), before)
            get = function(self._expressions.stored_item(target, variable, "get"), key)
            accessor = self._expressions.stored_item(target, variable, "set")
            write: ast.expr = function(accessor, self._expressions.augmented(node, get), key)
        else:
            container, index = self._container(target)
            container, index = self._once(container, before), self._once(index, before)
            changed = self._expressions.augmented(node, helper("item", container, index))
            write = helper("store", changed, container, index)
        return [*before, ast.Expr(value=write)]

    def _once(self, node: ast.expr, before: list[ast.stmt]) -> ast.expr:
        if is_simple(node):
            return node
        temporary = self._scope.temporary()
        before.append(ast.Assign(targets=[store(temporary)], value=node))
        return load(temporary)

    # Control

    def _return(self, node: ast.Return) -> list[ast.stmt]:
        if node.value is None:
            return [ast.Return(value=None)]
        method = self._scope.method
        public = method.mutability is not Mutability.PRIVATE
        is_none = isinstance(node.value, ast.Constant) and node.value.value is None
        if public and method.returns is None and not is_none:
            self._scope.refuse(node, "type", f"{method.name} returns a value but declares none: add `-> Type`")
        return [ast.Return(value=self._expressions.expr(node.value))]

    def _if(self, node: ast.If) -> list[ast.stmt]:
        test = self._expressions.expr(node.test)
        body = self.block(node.body, 0)
        orelse = self.block(node.orelse, 0) if node.orelse else []
        return [ast.If(test=test, body=body, orelse=orelse)]

    def _for(self, node: ast.For) -> list[ast.stmt]:
        if node.orelse:
            self._scope.refuse(node.orelse[0], "loop_else", "a loop has no else")
        iterable = self._expressions.expr(node.iter)
        match node.iter:
            case ast.Call(func=ast.Name(id=name)) if name in _SAFE_ITERABLES:
                pass
            case _:
                self._scope.cost += gas.OPERATION
                iterable = helper("iter", iterable)
        target = self._name_target(node.target)
        return [ast.For(target=target, iter=iterable, body=self._loop(node.body, gas.ITERATION), orelse=[])]

    def _loop(self, body: list[ast.stmt], cost: int) -> list[ast.stmt]:
        self._loops += 1
        made = self.block(body, cost)
        self._loops -= 1
        return made

    def _while(self, node: ast.While) -> list[ast.stmt]:
        if node.orelse:
            self._scope.refuse(node.orelse[0], "loop_else", "a loop has no else")
        before = self._scope.cost
        test = self._expressions.expr(node.test)
        each = self._scope.cost - before  # each round pays for the test that follows it
        return [ast.While(test=test, body=self._loop(node.body, gas.ITERATION + each), orelse=[])]

    def _delete(self, target: ast.expr) -> list[ast.stmt]:
        if not isinstance(target, ast.Subscript):
            self._scope.refuse(target, "delete", "del removes an item: del self.map[key], del local[key]")
            return [ast.Pass()]
        variable = self._expressions.storage_variable(target.value)
        if variable is not None:
            accessor = self._expressions.stored_item(target, variable, "del")
            return [ast.Expr(value=function(accessor, self._expressions.key(target.slice)))]
        container, index = self._container(target)
        return [ast.Expr(value=helper("remove", container, index))]

    def _try(self, node: ast.Try) -> list[ast.stmt]:
        handler = node.handlers[0] if len(node.handlers) == 1 else None
        caught = handler.type if handler is not None else None
        if handler is None or not isinstance(caught, ast.Name) or caught.id != "CallFailed":
            self._scope.refuse(node, "try", "the only handler is `except CallFailed as name:`")
            return [ast.Pass()]
        if node.finalbody:
            self._scope.refuse(node.finalbody[0], "finally", "a failed call leaves nothing to clean up")
        body = self.block(node.body, 0)
        handled = self.block(handler.body, 0)
        if handler.name is not None:
            # The name holds a plain record, never the exception with its traceback.
            taken = ast.Assign(targets=[store(handler.name)], value=helper("failure", load(handler.name)))
            handled.insert(0, ast.copy_location(taken, handler))
        orelse = self.block(node.orelse, 0) if node.orelse else []
        made = ast.ExceptHandler(type=load("h__CallFailed"), name=handler.name, body=handled)
        return [ast.Try(body=body, handlers=[ast.copy_location(made, handler)], orelse=orelse, finalbody=[])]
