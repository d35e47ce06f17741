"""The guide's first contract deploys, and its test of it passes as printed."""

from __future__ import annotations

import re
from pathlib import Path

from contracts.language import check
from contracts.sources import load_source

_GUIDE = Path(__file__).parents[3] / "docs" / "contracts.md"


def test_the_examples_of_the_guide_run() -> None:
    source, session, checking, *_ = re.findall(r"```python\n(.*?)```", _GUIDE.read_text("utf-8"), re.DOTALL)
    assert check(source) == []
    lines = [line for line in session.split("\n") if not line.startswith("print(")]
    exec("\n".join(lines), {"source": source})  # noqa: S102
    assert checking.startswith("for finding in check(source)")


def test_the_guide_s_counter_is_the_one_that_ships() -> None:
    blocks = re.findall(r"```python\n(.*?)```", _GUIDE.read_text("utf-8"), re.DOTALL)
    (shown,) = [block for block in blocks if "class Counter(Contract)" in block]
    assert load_source("library/counter").endswith(f"\n{shown}")
