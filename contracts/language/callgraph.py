"""Which methods call which: recursion is counted at run time, everything else is bounded here."""

from __future__ import annotations

import ast

from contracts.language.findings import Findings
from contracts.language.limits import CALL_CHAIN_MAX
from contracts.language.model import ContractModel


def internal_calls(model: ContractModel) -> dict[str, list[str]]:
    """Method -> the methods it calls by `self.name(...)`, in the order of the source, each once."""
    calls: dict[str, list[str]] = {}
    for name, method in model.methods.items():
        found: dict[str, None] = {}
        for node in ast.walk(method.node):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=callee)) if callee in model.methods:
                    found[callee] = None
        calls[name] = list(found)
    return calls


def recursive_targets(model: ContractModel, findings: Findings) -> dict[str, frozenset[str]]:
    """Method -> those of its callees that can lead back to it; a finding if other calls chain too deep."""
    calls = internal_calls(model)
    component = _components(calls)
    recursive = {
        name: frozenset(callee for callee in callees if component[callee] == component[name])
        for name, callees in calls.items()
    }
    longest: dict[str, int] = {}
    for start in calls:
        _measure(start, calls, recursive, longest)
    for name, length in longest.items():
        if length > CALL_CHAIN_MAX:
            reason = f"a chain of {length} calls starts here, at most {CALL_CHAIN_MAX}"
            findings.add(model.methods[name].node, "call_chain", reason)
            break
    return recursive


def _components(calls: dict[str, list[str]]) -> dict[str, int]:
    """The strongly connected component of each method (Tarjan, 1972), without recursion of our own."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    component: dict[str, int] = {}
    path: list[str] = []
    for start in calls:
        todo: list[tuple[str, int]] = [] if start in order else [(start, 0)]
        while todo:
            name, position = todo.pop()
            if position == 0:
                order[name] = low[name] = len(order)
                path.append(name)
            else:
                low[name] = min(low[name], low[calls[name][position - 1]])
            for next_position, callee in enumerate(calls[name][position:], position + 1):
                if callee not in order:
                    todo += [(name, next_position), (callee, 0)]
                    break
                if callee not in component:
                    low[name] = min(low[name], order[callee])
            else:
                if low[name] == order[name]:
                    members = path[path.index(name) :]
                    del path[path.index(name) :]
                    component.update(dict.fromkeys(members, order[name]))
    return component


def _measure(
    start: str, calls: dict[str, list[str]], recursive: dict[str, frozenset[str]], longest: dict[str, int]
) -> None:
    """Longest chain of non-recursive calls from `start`, without recursion of our own."""
    todo = [start]
    while todo:
        name = todo[-1]
        if name in longest:
            todo.pop()
            continue
        callees = [callee for callee in calls[name] if callee not in recursive[name]]
        missing = [callee for callee in callees if callee not in longest]
        if missing:
            todo.extend(missing)
        else:
            longest[name] = 1 + max((longest[callee] for callee in callees), default=0)
            todo.pop()
