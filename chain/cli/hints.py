"""Commands as the person at the terminal would type them next."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def command_hint(command: str, network: Path) -> str:
    """For example `.venv/bin/headrace network stop --network demo`: the program as it was called, relative where that
    is shorter, and the folder unless it is the one commands take anyway."""
    program = Path(sys.argv[0])
    name = "headrace" if program.name != "headrace" else _short(program)
    default = Path(os.environ.get("HEADRACE_NETWORK") or "headrace-network")
    words = [name, *command.split()]
    if network.absolute() != default.absolute():
        words += ["--network", _short(network)]
    return shlex.join(words)


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return min(relative, str(path), key=len)
