"""What a planted bug is."""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """In `file`, `new` instead of `old`, which stands there exactly once, breaks `promise`; `killer` notices.

    A killer is a test, or "sim" and options of `python -m chain.sim`. Where `is_liveness` is set, a killer that does
    not come to an end within its time limit has noticed too: the promise was that something happens.
    """

    name: str  # what is wrong, in a few words
    promise: str  # what should be true instead
    file: str
    old: str
    new: str
    killer: str
    is_liveness: bool = False
