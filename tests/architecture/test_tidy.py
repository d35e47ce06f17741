"""House rules that a linter does not know."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 600
FUNCTION_LINES_MAX = 75
CONTRACT_SOURCES = ("contracts/credit/", "contracts/income/", "contracts/library/")
# Written so that this file does not match itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplemented" + r"Error|mark\.(skip|xf" + r"ail)")
FOREIGN = re.compile(r"(pypi|python" + r"hosted|npm" + r"js)\.(org|com|io)|/wo" + r"rk/|\.\./sha" + r"red")


@cache
def tracked() -> tuple[str, ...]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return tuple(name for name in names if name and (ROOT / name).is_file())


def python_files() -> list[str]:
    return [name for name in tracked() if name.endswith(".py")]


def product_files() -> list[str]:
    return [name for name in python_files() if not name.startswith(("tests/", *CONTRACT_SOURCES))]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_there_is_something_to_check() -> None:
    assert len(product_files()) > 50


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name in python_files() if not ast.get_docstring(ast.parse(read(name)))] == []


def test_no_module_is_longer_than_one_thing() -> None:
    assert [name for name in python_files() if read(name).count("\n") > LINES_MAX] == []


def test_no_function_is_too_long() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name in product_files()
        for node in ast.walk(ast.parse(read(name)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_nothing_is_left_unfinished() -> None:
    assert [name for name in python_files() if UNFINISHED.search(read(name))] == []


@pytest.mark.parametrize("name", [name for name in tracked() if not name.endswith((".csv", ".png", ".gz"))])
def test_no_registry_host_and_no_path_of_one_machine(name: str) -> None:
    assert not FOREIGN.search(read(name))


def test_the_consensus_core_has_no_clock_no_chance_and_no_log() -> None:
    forbidden = {"asyncio", "socket", "time", "random", "logging", "structlog", "threading", "os", "uuid", "secrets"}
    found = [
        f"{name}: {module}"
        for name in product_files()
        if name.startswith("consensus/")
        for module in imported(name)
        if module.split(".")[0] in forbidden
    ]
    assert found == []


def test_the_offline_verifier_imports_nothing_of_the_project() -> None:
    own = {"chain", "consensus", "executor", "contracts", "bench"}
    assert [module for module in imported("chain/offline.py") if module.split(".")[0] in own] == []


def imported(name: str) -> list[str]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(read(name))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
    return modules
