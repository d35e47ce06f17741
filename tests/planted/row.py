"""What came of one mutation, as it is kept between runs."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, kw_only=True):
    """One mutation and what came of it."""

    file: str
    function: str
    line: int
    what: str
    text: str
    key: str
    verdict: str
    killer: str = ""
    tried: int = 0
    seconds: float = 0.0
