"""The deployment descriptions, and that the contracts of a suite mean the same by the same name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from chain.errors import BadInput
from contracts import credit, income
from contracts.language import check
from contracts.suite import DEPLOYMENT_GAS_LIMIT, Deployed, Party, Suite, resolve
from tests.unit.credit.suite_world import SuiteWorld

SUITES = [credit.SUITE, income.SUITE]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_contract_passes_the_language_check(suite: Suite) -> None:
    for deployment in suite.deployments:
        assert list(check(deployment.source_text())) == [], deployment.name


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_source_file_is_deployed_once_under_its_name(suite: Suite) -> None:
    names = [deployment.name for deployment in suite.deployments]
    files = sorted(path.stem for path in suite.deployments[0].source.parent.glob("*.py") if path.stem != "__init__")
    assert sorted(names) == [f"{suite.name}.{stem}" for stem in files]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_placeholder_names_what_was_deployed_before(suite: Suite) -> None:
    contracts: dict[str, bytes] = {}
    parties = {role: bytes(20) for role in suite.parties}
    for number, deployment in enumerate(suite.deployments):
        resolve(deployment.arguments, parties, contracts)
        contracts[deployment.name] = bytes([number + 1]) * 20
    for call in suite.wiring:
        assert call.signer in suite.parties
        assert call.contract in contracts
        resolve(call.arguments, parties, contracts)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_the_suite_deploys_within_the_gas_limit(suite: Suite) -> None:
    assert SuiteWorld(suite, gas_limit=DEPLOYMENT_GAS_LIMIT).contracts.keys() == {d.name for d in suite.deployments}


def test_placeholders_are_replaced_and_unknown_ones_named() -> None:
    arguments = (1, b"x", Party("operator"), (Deployed("a.b"), "text"))
    assert resolve(arguments, {"operator": b"O" * 20}, {"a.b": b"C" * 20}) == (1, b"x", b"O" * 20, (b"C" * 20, "text"))
    with pytest.raises(BadInput, match="'operator'"):
        resolve((Party("operator"),), {}, {})
    with pytest.raises(BadInput, match=r"'a\.b'"):
        resolve((Deployed("a.b"),), {}, {})
    with pytest.raises(BadInput, match=r"'credit\.none'"):
        credit.SUITE.deployment("credit.none")
    assert credit.SUITE.deployment("credit.order").source.name == "order.py"


def constants(path: Path) -> dict[str, object]:
    """Module constants with literal values."""
    found: dict[str, object] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


SHARED = {
    "credit": (
        "REGULATOR", "OPERATOR", "AGENCY", "PROVIDER", "USER", "SUBJECT", "ARBITER", "INSTITUTION", "PUBLIC_BY_LAW",
        "FORBIDDEN", "COLLECTION", "CATEGORIES_ALL", "OK", "SIMULATED", "PAGE", "NOT_THE_AGENCY", "RECORD_EXPIRED",
    ),
    "income": ("WITNESS", "VERIFY", "BANDS", "QUOTA", "BANDS_MAX", "OK", "NO_CONSENT", "SIMULATED", "PAGE"),
}  # fmt: skip


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_constants_of_one_name_have_one_value(suite: Suite) -> None:
    seen: dict[str, object] = {}
    for deployment in suite.deployments:
        values = constants(deployment.source)
        for name in SHARED[suite.name]:
            if name in values:
                assert seen.setdefault(name, values[name]) == values[name], f"{name} in {deployment.name}"
    assert set(seen) == set(SHARED[suite.name])


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_interfaces_and_structs_of_one_name_have_one_shape(suite: Suite) -> None:
    """A contract's copy of another's method or struct must be the other's: the callee decides what the bytes mean."""
    methods: dict[tuple[str, str], str] = {}
    structs: dict[str, str] = {}
    trees = [ast.parse(deployment.source_text()) for deployment in suite.deployments]
    for tree in trees:
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and _base(node) == "Contract":
                methods.update({(node.name, m.name): _shape(m) for m in node.body if isinstance(m, ast.FunctionDef)})
    for tree in trees:
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and _base(node) == "Interface":
                for method in node.body:
                    assert isinstance(method, ast.FunctionDef)
                    assert _shape(method) == methods[node.name, method.name], f"{node.name}.{method.name}"
            elif isinstance(node, ast.ClassDef) and _base(node) == "Struct":
                fields = ast.unparse([item for item in node.body if isinstance(item, ast.AnnAssign)])  # type: ignore[arg-type]
                assert structs.setdefault(node.name, fields) == fields, node.name


def _base(node: ast.ClassDef) -> str:
    return ast.unparse(node.bases[0])


def _shape(method: ast.FunctionDef) -> str:
    decorators = [ast.unparse(decorator) for decorator in method.decorator_list]
    returns = ast.unparse(method.returns) if method.returns else "None"
    return f"{decorators} {ast.unparse(method.args)} -> {returns}"
