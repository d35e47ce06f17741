"""docs/failures.md names tests: each of them must be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+|test_\w+|)::(test_\w+)`")


def test_every_test_that_the_page_names_is_there() -> None:
    missing, file, count = [], "", 0
    for match in NAMED.finditer((ROOT / "docs" / "failures.md").read_text()):
        file = match[1] or file
        path = (ROOT / file if file.startswith("tests/") else ROOT / "tests" / "scenarios" / file).with_suffix(".py")
        count += 1
        if not path.exists() or f"def {match[2]}(" not in path.read_text():
            missing.append(f"{file}::{match[2]}")
    assert missing == []
    assert count > 80
