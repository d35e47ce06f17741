"""A copy of the tree to plant bugs in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = ("chain", "consensus", "executor", "contracts", "bench", "tests", "pyproject.toml")
_LEFT_OUT: Final = shutil.ignore_patterns("results", "web", "e2e")


def copy_tree(target: Path) -> None:
    """The part of the tree that tests need, with what is compiled: kernels take long."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=_LEFT_OUT)
        else:
            shutil.copy(source, target / part)


def environment(tree: Path) -> dict[str, str]:
    """For a process that is to import from the copy and write nothing into it."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
