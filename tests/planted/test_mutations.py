"""The mutations are what they say, and the warm process tells a killed one from a survivor."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.planted.mutations import mutations
from tests.planted.tree import ROOT, environment


def changed(source: str) -> dict[str, str]:
    """Each mutation of one function, and what the changed line reads then."""
    sound = ast.unparse(ast.parse(source)).splitlines()
    found = {}
    for mutation in mutations(source, "code.py"):
        lines = ast.unparse(mutation.tree()).splitlines()
        different = [line.strip() for line, was in zip(lines, sound, strict=True) if line != was]
        assert len(different) == 1, mutation
        found[mutation.what] = different[0]
    return found


def test_a_guard_is_dropped_negated_and_shifted() -> None:
    assert changed("def f(height):\n    if height < 3:\n        return\n") == {
        "the guard is dropped": "if height < 3 and False:",
        "negated": "if not height < 3:",
        "`<` becomes `<=`": "if height <= 3:",
    }


def test_a_chain_of_comparisons_loses_each_half() -> None:
    found = changed("def f(low, height, end):\n    return low < height <= end\n")
    assert found["`<` becomes `<=`"] == "return low <= height <= end"
    assert found["`<=` becomes `<`"] == "return low < height < end"
    assert found["only the last half of the chain is compared"] == "return height <= end"
    assert found["only the first half of the chain is compared"] == "return low < height"


def test_operands_quorums_and_ones() -> None:
    found = changed("def f(self, a, b):\n    self.x = self.quorum_weight if a and b else max(a + 1, b)\n")
    assert found["operand 1 of `and` is dropped: `a`"].endswith("if b else max(a + 1, b)")
    assert found["`quorum_weight` becomes `tolerated_weight`"].startswith("self.x = self.tolerated_weight")
    assert found["`max` becomes `min`"].endswith("else min(a + 1, b)")
    assert found["`+ 1` becomes `+ 0`"].endswith("max(a + 0, b)")
    assert found["`+ 1` becomes `+ 2`"].endswith("max(a + 2, b)")


def test_equality_is_shifted_where_numbers_are_compared() -> None:
    assert "`==` becomes `>=`" in changed("def f(view, other):\n    return view == other\n")
    assert "`==` becomes `>=`" not in changed("def f(digest, other):\n    return digest == other\n")


def test_a_required_condition_can_go() -> None:
    found = changed("def f(a):\n    _require(a > 1, 'bad', 'a')\n")
    assert found["the check is dropped"] == "pass"
    assert found["negated"] == "_require(not a > 1, 'bad', 'a')"


def test_a_key_stays_while_the_function_does() -> None:
    first = mutations("def f(a):\n    return a > 1\n", "code.py")
    moved = mutations("x = 1\n\n\ndef f(a):\n    return a > 1\n", "code.py")
    other = mutations("def f(a):\n    return a > 2\n", "code.py")
    assert [found.key for found in first] == [found.key for found in moved]
    assert not {found.key for found in first} & {found.key for found in other}


@pytest.mark.slow
def test_the_warm_process_tells_who_is_killed_by_what(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(
        "def f(a):\n    return a > 1\n\n\n"
        "def g(height):\n    while height != 7:\n        height = height + 1\n    return height\n\n\n"
        "def h(a):\n    return a > 1\n",
        encoding="utf-8",
    )
    (tmp_path / "test_sample.py").write_text(
        "from sample import f, g\n\n\n"
        "def test_large():\n    assert f(5) is not None\n\n\n"
        "def test_edge():\n    assert not f(1)\n\n\n"
        "def test_loop():\n    assert g(3) == 7\n",
        encoding="utf-8",
    )
    (tmp_path / "run.py").write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            import pytest
            from tests.planted.mutations import mutations
            from tests.planted.warm import Change, Warm

            root = Path(__file__).parent
            found = mutations((root / "sample.py").read_text(), "sample.py")

            def work(warm):
                for it in found:
                    outcome = warm.judge(Change(it.key, it.file, it.tree(), (it.line, it.last_line)))
                    killer = outcome.killer.rpartition("::")[2] or "-"
                    print(it.function, it.what, outcome.verdict, killer, file=sys.stderr)

            warm = Warm(root=root, files=["sample.py"], work=work, tell=lambda text: None, cpu_s=5)
            pytest.main(["-q", "-s", "--rootdir", str(root), "-p", "no:cacheprovider", str(root)], plugins=[warm])
            """
        ),
        encoding="utf-8",
    )
    paths = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py")], cwd=tmp_path, env={**environment(tmp_path), **paths},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr.splitlines() == [
        "f negated killed test_edge",
        "f `>` becomes `>=` killed test_edge",
        "g negated killed test_loop",
        "g `!=` becomes `<` survived -",
        "g `!=` becomes `>` killed test_loop",
        "g `+ 1` becomes `+ 0` endless test_loop",
        "g `+ 1` becomes `+ 2` survived -",
        "h negated unreached -",
        "h `>` becomes `>=` unreached -",
    ]
