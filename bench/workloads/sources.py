"""The contracts that benchmarks bring along; their sources are read, never imported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CONTRACTS: Final = Path(__file__).parent / "contracts"


def source(name: str) -> str:
    """The text of a contract."""
    return (CONTRACTS / f"{name}.py").read_text(encoding="utf-8")
