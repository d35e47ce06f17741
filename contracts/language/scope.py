"""What a translator knows while it is inside one method."""

from __future__ import annotations

import ast

from contracts.language.findings import Findings
from contracts.language.kinds import Kinds, assigned_names
from contracts.language.model import ContractModel, MethodDecl, Mutability
from contracts.language.rules import Rules


class Scope:
    """Names, kinds and the gas of the block being translated."""

    def __init__(
        self, model: ContractModel, method: MethodDecl, findings: Findings, recursive: frozenset[str], rules: Rules
    ) -> None:
        self.model = model
        self.rules = rules
        self.method = method
        self.kinds = Kinds(model, method)
        self.fields = model.field_names()
        self.recursive = recursive  # methods that may reach this one again
        self.cost = 0
        self.depth = 0
        self.in_iterable = 0
        self.locals = set(method.parameters) | assigned_names(method.node)
        self.findings = findings
        self._inner: list[set[str]] = []  # names bound by the comprehensions around
        self._temporaries = 0

    def refuse(self, node: ast.AST, code: str, reason: str) -> ast.expr:
        """Record a finding; the returned node stands in for the refused one so that translation goes on."""
        self.findings.add(node, code, reason)
        return ast.Constant(None)

    def writes(self, node: ast.AST) -> None:
        """`node` writes storage or emits an event: not in a view. Helpers that a view calls are stopped as they run."""
        if self.method.mutability is Mutability.VIEW:
            self.findings.add(node, "view_writes", "a view neither writes nor emits: mark the method @external")

    def is_local(self, name: str) -> bool:
        return name in self.locals or any(name in names for names in self._inner)

    def enter_comprehension(self) -> None:
        self._inner.append(set())

    def bind_in_comprehension(self, name: str) -> None:
        self._inner[-1].add(name)

    def leave_comprehension(self) -> None:
        self._inner.pop()

    def temporary(self) -> str:
        self._temporaries += 1
        return f"h__t{self._temporaries}"
