"""What the language refuses, where, and with which advice."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from contracts.language import BadSource, Finding, check, compile_contract
from contracts.language.limits import SOURCE_BYTES_MAX
from contracts.language.vocabulary import BUILTIN_ADVICE, NODE_ADVICE
from contracts.sources import available, load_source
from tests.unit.contracts.snippets import body_codes, codes, contract

_REFUSED_BODIES = [
    ("import os\nreturn 1", "import"),
    ("from os import path\nreturn 1", "import"),
    ("assert True\nreturn 1", "assert"),
    ("raise ValueError('x')", "raise"),
    ("global a\nreturn 1", "global"),
    ("with a:\n    pass\nreturn 1", "with"),
    ("def inner():\n    pass\nreturn 1", "nested_function"),
    ("class Inner:\n    pass\nreturn 1", "nested_class"),
    ("f = lambda: 1\nreturn 1", "lambda"),
    ("return sum(x for x in (1, 2))", "generator"),
    ("yield 1", "generator"),
    ("a = {1, 2}\nreturn 1", "set"),
    ("a = {x for x in (1, 2)}\nreturn 1", "set"),
    ("if (a := 1) > 0:\n    pass\nreturn 1", "walrus"),
    ("a = (1, 2)\nb = [*a]\nreturn 1", "star"),
    ("a, *b = (1, 2)\nreturn 1", "target"),
    ("a = {**{}}\nreturn 1", "star"),
    ("match 1:\n    case _:\n        return 1", "match"),
    ("return 1.5", "float"),
    ("return 1j", "float"),
    ("return 1 / 2", "operator"),
    ("return 1 @ 2", "operator"),
    ("return float(1)", "builtin"),
    ("print('x')\nreturn 1", "builtin"),
    ("return eval('1')", "name"),
    ("return exec('1')", "name"),
    ("return open('x')", "builtin"),
    ("return getattr(1, 'real')", "builtin"),
    ("return hash('x')", "builtin"),
    ("return id(1)", "builtin"),
    ("return type(1)", "builtin"),
    ("return __import__('os')", "name"),
    ("return __builtins__", "double_underscore"),
    ("return (1).__class__", "double_underscore"),
    ("return 'a__b'", "double_underscore"),
    ("return undefined", "name"),
    ("return len", "name"),
    ("return self", "self"),
    ("return self.missing", "self"),
    ("return self.missing()", "self"),
    ("self.x = 1\nreturn 1", "attribute"),
    ("ctx.sender = b''\nreturn 1", "attribute"),
    ("return ctx.missing", "attribute"),
    ("return ctx", "name"),
    ("a = 'x'\nreturn a.format(1)", "method"),
    ("a = 'x'\nreturn a.format_map({})", "method"),
    ("a = 'x'\nreturn a.real", "attribute"),
    ("a = 1\nreturn f'{a:>10}'", "format"),
    ("a = 1\nreturn f'{a!r}'", "format"),
    ("a = 1\nreturn f'{a=}'", "format"),
    ("a = (1, 2)\nreturn a is (1, 2)", "identity"),
    ("try:\n    pass\nexcept:\n    pass\nreturn 1", "try"),
    ("try:\n    pass\nexcept Exception:\n    pass\nreturn 1", "try"),
    ("try:\n    pass\nexcept (CallFailed, ValueError):\n    pass\nreturn 1", "try"),
    ("try:\n    pass\nexcept CallFailed:\n    pass\nfinally:\n    pass\nreturn 1", "finally"),
    ("try:\n    pass\nfinally:\n    pass\nreturn 1", "try"),
    ("try:\n    pass\nexcept* CallFailed:\n    pass\nreturn 1", "try"),
    ("for i in range(3):\n    pass\nelse:\n    pass\nreturn 1", "loop_else"),
    ("while False:\n    pass\nelse:\n    pass\nreturn 1", "loop_else"),
    ("break", "loop"),
    ("continue", "loop"),
    ("if True:\n    break\nreturn 1", "loop"),
    ("for i in range(3):\n    pass\nbreak", "loop"),
    ("try:\n    pass\nexcept CallFailed as a:\n    continue\nreturn 1", "loop"),
    ("return sorted([1], reverse=True, reverse=False)[0]", "arguments"),
    ("1 + 1\nreturn 1", "no_effect"),
    ("len = 3\nreturn len", "shadow"),
    ("ctx = 3\nreturn 1", "shadow"),
    ("self = 3\nreturn 1", "shadow"),
    ("for len in (1, 2):\n    pass\nreturn 1", "shadow"),
    ("return [len for len in (1, 2)][0]", "shadow"),
    ("a__b = 1\nreturn 1", "shadow"),
    ("a = require(True, 'x')\nreturn 1", "call"),
    ("require(True)\nreturn 1", "arguments"),
    ("revert()\nreturn 1", "arguments"),
    ("emit(1)\nreturn 1", "emit"),
    ("return len(1, 2)", "arguments"),
    ("return len(x=1)", "arguments"),
    ("return sorted([1], key=1)[0]", "arguments"),
    ("a = [1]\na[0:1] = [2]\nreturn 1", "slice"),
    ("a = 1\ndel a\nreturn 1", "delete"),
    ("return (lambda: 1)()", "call"),
    ("return [1][0]()", "call"),
    ("a = 1\nreturn a()", "call"),
    ("return ...", "ellipsis"),
    (f"return {2**256}", "integer_range"),
    ("x: lambda = 1\nreturn x", "syntax"),
    ("x: (lambda: 1) = 1\nreturn x", "annotation"),
    ("return await a", "async"),
]


@pytest.mark.parametrize(("body", "code"), _REFUSED_BODIES)
def test_a_body_outside_the_language_is_refused(body: str, code: str) -> None:
    assert code in body_codes(body)


def test_a_finding_says_where_and_why() -> None:
    findings = check(contract("a = 1\nreturn a / 2"))
    assert findings == [Finding(5, 16, "operator", "use // : there is no floating point")]
    assert str(findings[0]) == "5:16: operator: use // : there is no floating point"


def test_all_findings_are_told_at_once() -> None:
    assert body_codes("import os\na = 1.0\nb = {1}\nreturn print") == ["import", "float", "set", "name"]


def test_bad_source_carries_the_findings() -> None:
    source = contract("return 1.0")
    with pytest.raises(BadSource, match=r"4:16: float.*no floating point") as caught:
        compile_contract(source)
    assert list(caught.value.findings) == check(source)
    assert caught.value.receipt_text(all_findings=False) == "float line 4"


_REFUSED_SOURCES = [
    ("", "contract"),
    ("x = 1", "contract"),
    ("class A(Contract):\n    pass\nclass B(Contract):\n    pass", "contract"),
    ("class A(Contract):\n    x = 1", "class_state"),
    ("class A(Contract):\n    x: Value[int] = 1", "class_state"),
    ("class A(Contract):\n    x: int", "storage"),
    ("class A(Contract):\n    x: Map[int]", "storage"),
    ("class A(Contract):\n    x: Map[tuple[int, ...], int]", "storage"),
    ("class A(Contract):\n    x: Value[float]", "type"),
    ("class A(Contract):\n    x: Value[list[int]]", "type"),
    ("class A(Contract):\n    x: Value[int | str]", "type"),
    ("class A(Contract):\n    x: Value[int]\n    x: Value[int]", "duplicate"),
    ("class A(Contract):\n    @external\n    @view\n    def f(self):\n        pass", "decorator"),
    ("class A(Contract):\n    @staticmethod\n    def f(self):\n        pass", "decorator"),
    ("class A(Contract):\n    @external()\n    def f(self):\n        pass", "decorator"),
    ("class A(Contract):\n    @external\n    def f(self, a):\n        pass", "type"),
    ("class A(Contract):\n    @external\n    def f(a: int):\n        pass", "parameters"),
    ("class A(Contract):\n    @external\n    def f(self, *a):\n        pass", "parameters"),
    ("class A(Contract):\n    @external\n    def f(self, **a):\n        pass", "parameters"),
    ("class A(Contract):\n    @external\n    def f(self, a: int = 1):\n        pass", "default"),
    ("class A(Contract):\n    @external\n    def _f(self):\n        pass", "name"),
    ("class A(Contract):\n    @external\n    def f(self):\n        return 1", "type"),
    ("class A(Contract):\n    def __init__(self):\n        pass", "name"),
    ("class A(Contract):\n    def init(self) -> int:\n        return 1", "type"),
    ("class A(Contract):\n    def f(self, a=[]):\n        pass", "constant"),
    ("class A(Contract):\n    class B:\n        pass", "nested_class"),
    ("class A(Contract):\n    async def f(self):\n        pass", "async"),
    ("class A(Contract, metaclass=type):\n    pass", "base"),
    ("class A(object):\n    pass", "base"),
    ("@decorated\nclass A(Contract):\n    pass", "decorator"),
    ("def f():\n    pass\nclass A(Contract):\n    pass", "module_level"),
    ("import os\nclass A(Contract):\n    pass", "import"),
    ("x = [1]\nclass A(Contract):\n    pass", "constant"),
    ("x = 1.5\nclass A(Contract):\n    pass", "float"),
    ("x = y\nclass A(Contract):\n    pass", "constant"),
    ("x = 2 ** 200 * 2 ** 100\nclass A(Contract):\n    pass", "integer_range"),
    ("x = 2 ** 10 ** 8\nclass A(Contract):\n    pass", "constant"),
    ("x = 1\nx = 2\nclass A(Contract):\n    pass", "duplicate"),
    ("len = 1\nclass A(Contract):\n    pass", "shadow"),
    ("x, y = 1, 2\nclass A(Contract):\n    pass", "constant"),
    ("class S(Struct):\n    x: int = 'a'\nclass A(Contract):\n    pass", "default"),
    ("class S(Struct):\n    x: int = 1\n    y: int\nclass A(Contract):\n    pass", "default"),
    ("class S(Struct):\n    def f(self):\n        pass\nclass A(Contract):\n    pass", "field"),
    ("class S(Struct):\n    pass\nclass A(Contract):\n    pass", "struct"),
    ("class S(Struct):\n    s: S\nclass A(Contract):\n    pass", "type"),
    ("class I(Interface):\n    def f(self):\n        return 1\nclass A(Contract):\n    pass", "interface"),
    ("class I(Interface):\n    x: int\nclass A(Contract):\n    pass", "interface"),
    ("if True:\n    pass\nclass A(Contract):\n    pass", "module_level"),
    ("class A(Contract):\n    x: Value[int]\n    @view\n    def f(self):\n        self.x.set(1)", "view_writes"),
    ("class A(Contract):\n    x: Map[int, int]\n    @view\n    def f(self):\n        self.x[1] = 1", "view_writes"),
    ("class A(Contract):\n    x: Map[int, int]\n    @view\n    def f(self):\n        del self.x[1]", "view_writes"),
    ("class E(Event):\n    pass\nclass A(Contract):\n    @view\n    def f(self):\n        emit(E())", "view_writes"),
]


@pytest.mark.parametrize(("source", "code"), _REFUSED_SOURCES)
def test_a_module_outside_the_language_is_refused(source: str, code: str) -> None:
    assert code in codes(source)


_REFUSED_STORAGE = [
    ("return self.total", "storage"),
    ("a = self.balances\nreturn 1", "storage"),
    ("for x in self.balances:\n    pass\nreturn 1", "storage"),
    ("return len(self.balances)", "storage"),
    ("return self.total[1]", "storage"),
    ("self.balances.set(1)\nreturn 1", "storage"),
    ("return self.balances.keys()", "storage"),
    ("return self.balances.scan(1)", "arguments"),
    ("return self.total.get(1, 2)", "arguments"),
    ("self.total = 1\nreturn 1", "attribute"),
    ("del self.log[0]\nreturn 1", "storage"),
    ("return 1 in self.log", "storage"),
    ("self.total += 1\nreturn 1", "attribute"),
    ("return self.log[0:1]", "slice"),
]


@pytest.mark.parametrize(("body", "code"), _REFUSED_STORAGE)
def test_storage_is_used_in_its_own_ways_only(body: str, code: str) -> None:
    members = "total: Value[int]\nbalances: Map[int, int]\nlog: List[int]"
    assert code in body_codes(body, members=members)


def test_every_syntax_node_is_handled_or_refused() -> None:
    """A node class that neither the translator's text nor the advice mentions falls to the general refusal."""
    import contracts.language.calls as calls
    import contracts.language.expressions as expressions
    import contracts.language.statements as statements

    handled = set()
    for module in (calls, expressions, statements):
        text = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        handled |= {node.attr for node in ast.walk(text) if isinstance(node, ast.Attribute)}
    for kind in [*ast.expr.__subclasses__(), *ast.stmt.__subclasses__()]:
        assert kind.__name__ in handled or kind in NODE_ADVICE or kind.__name__ in ("FormattedValue",), kind


@pytest.mark.parametrize("name", sorted(BUILTIN_ADVICE))
def test_names_people_try_get_advice(name: str) -> None:
    assert body_codes(f"return {name}(1)") == ["builtin"]


_PRESCAN = [
    ("x" * (SOURCE_BYTES_MAX + 1), "source_size"),
    ("x = '\ud800'", "encoding"),
    ("x =\t1", "character"),
    ("x = 1\r\n", "character"),
    ("x = '\u202e'", "character"),
    ("x = 1\x00", "character"),
    ("x = \\\n 1", "backslash"),
    ("x = (((((((((((((((((((((((((1)))))))))))))))))))))))))", "bracket_depth"),
    ("x = " + "-" * 1_000 + "1", "expression_depth"),
    ("x = " + "not " * 1_000 + "1", "expression_depth"),
    ("x = " + "1 + " * 1_000 + "1", "expression_depth"),
    ("x = a" + ".b" * 1_000, "expression_depth"),
    ("x = a" + "[0]" * 1_000, "expression_depth"),
    ("x = a" + "()" * 1_000, "expression_depth"),
    ("x = " + "1 if 1 else " * 1_000 + "1", "expression_depth"),
    ("x = " + "lambda: " * 1_000 + "1", "expression_depth"),
    ("x = " + "9" * 1_000, "number"),
    ("x = (" + "1, " * 3_000 + ")", "line_length"),
    ("if 1:\n    pass\n" + "elif 1:\n    pass\n" * 1_000, "elif_run"),
    ("".join("    " * depth + "if 1:\n" for depth in range(90)) + "    " * 90 + "pass", "block_depth"),
    ("x = (", "syntax"),
    ("x = '''", "syntax"),
    ("  x = 1\n y = 2", "syntax"),
    ("x = = 1", "syntax"),
    ("# -*- coding: utf-7 -*-\nx = 1", "contract"),
]


@pytest.mark.parametrize(("source", "code"), _PRESCAN)
def test_a_source_is_bounded_before_it_is_parsed(source: str, code: str) -> None:
    assert codes(source) == [code]


def test_a_table_of_constants_is_no_deep_expression() -> None:
    rows = ", ".join(f"('row {number}', -{number}, (1, 2))" for number in range(150))
    assert codes(f"TABLE = ({rows})\n" + contract("return len(TABLE)")) == []


def test_a_private_chain_of_calls_is_bounded() -> None:
    methods = "".join(f"    def f{n}(self):\n        return self.f{n + 1}()\n" for n in range(60))
    assert codes("class A(Contract):\n" + methods + "    def f60(self):\n        return 1\n") == ["call_chain"]


@pytest.mark.parametrize("name", available())
def test_every_shipped_contract_passes(name: str) -> None:
    assert check(load_source(name)) == []


def test_source_names_are_told() -> None:
    assert "library/token" in available()
    with pytest.raises(KeyError, match="library/token"):
        load_source("library/../sources")
