"""From source text to a code object: prescan, parse, read declarations, translate methods, compile."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from types import CodeType
from typing import Final

from chain.codec import tagged_digest
from chain.types import Digest
from contracts.language.abi import abi_json
from contracts.language.callgraph import recursive_targets
from contracts.language.declarations import read_module
from contracts.language.findings import BadSource, Finding, Findings
from contracts.language.model import ContractModel
from contracts.language.prescan import prescan
from contracts.language.rules import NEWEST, Rules, rules_of
from contracts.language.statements import translate_method

TAG_CODE: Final = b"headrace/contract-code/1"
CODE_FILE: Final = "<contract>"
_GRAMMAR: Final = (3, 11)


@dataclass(frozen=True, slots=True)
class CompiledContract:
    """A source that passed the lint of a rule set. Immutable and without address: one per code hash serves every
    deployment on a chain, because a chain keeps its rule set.

    `code`, executed in a namespace that holds what `contracts.runtime` provides, defines a function `m__name` for each
    method. `model` is for whoever analyses the source, such as the executor's prediction of accesses.
    """

    source: str
    code_hash: Digest
    model: ContractModel
    abi: str
    code: CodeType
    rules: Rules


def code_hash(source: str) -> Digest:
    return tagged_digest(TAG_CODE, source.encode())


def check(source: str, rule_set: int = NEWEST) -> list[Finding]:
    """Everything the language has against a source, by position; empty if it may be deployed."""
    findings = Findings()
    _compile(source, findings, rules_of(rule_set))
    return findings.sorted()


def compile_contract(source: str, rule_set: int = NEWEST, *, itemised: bool = False) -> CompiledContract:
    """The executable form of a source.

    Itemised code does the same and calls `h__pay(frame, ((line, cost), ...))` to charge a basic block; it is for
    tracing and needs that function linked to it.

    Raises:
        BadSource: with the findings of `check`.
    """
    findings = Findings()
    rules = rules_of(rule_set)
    compiled = _compile(source, findings, rules, itemised=itemised)
    if compiled is None:
        raise BadSource(findings.sorted())
    model, code = compiled
    return CompiledContract(source, code_hash(source), model, abi_json(model), code, rules)


def contract_abi(source: str, rule_set: int = NEWEST) -> str:
    """The interface of a source as JSON (`contracts.language.abi`).

    Raises:
        BadSource: the source may not be deployed.
    """
    return compile_contract(source, rule_set).abi


def _compile(
    source: str, findings: Findings, rules: Rules, *, itemised: bool = False
) -> tuple[ContractModel, CodeType] | None:
    """The model and the code of a source; None if there are findings."""
    translated = _translate(source, findings, rules, itemised=itemised)
    if translated is None or findings:
        return None
    model, module = translated
    try:
        return model, compile(module, CODE_FILE, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        # Whatever the lint lets through and Python does not is the source's fault and never the node's.
        findings.add((getattr(error, "lineno", None) or 1, 1), "syntax", getattr(error, "msg", None) or "not Python")
        return None


def _translate(
    source: str, findings: Findings, rules: Rules, *, itemised: bool
) -> tuple[ContractModel, ast.Module] | None:
    if not prescan(source, findings):
        return None
    try:
        tree = ast.parse(source, CODE_FILE, feature_version=_GRAMMAR)
    except SyntaxError as error:
        findings.add((error.lineno or 1, error.offset or 1), "syntax", error.msg or "not Python")
        return None
    except (ValueError, MemoryError, RecursionError):
        findings.add((1, 1), "syntax", "the source is too deep for Python's parser")
        return None
    model = read_module(tree, findings)
    recursive = recursive_targets(model, findings)
    body: list[ast.stmt] = [
        translate_method(model, method, findings, recursive[name], rules, itemised=itemised)
        for name, method in model.methods.items()
    ]
    return model, ast.Module(body=body, type_ignores=[])
