"""The second wall, tried from inside: a process that has entered the sandbox."""

from __future__ import annotations

import subprocess
import sys

import pytest

_INSIDE = """
import os, resource, signal, socket, subprocess, sys, threading
from executor.sandbox import enter_sandbox

def refused(what, act):
    try:
        act()
    except (OSError, RuntimeError, BlockingIOError):
        print(what)

enter_sandbox(os.getppid())
refused("socket", lambda: socket.socket())
refused("connect", lambda: socket.socketpair()[0].connect("/nowhere"))
refused("fork", os.fork)
refused("exec", lambda: os.execv("/bin/true", ["true"]))
refused("run", lambda: subprocess.run(["/bin/true"], check=True))
refused("thread", lambda: threading.Thread(target=print).start())
refused("kill", lambda: os.kill(os.getppid(), 0))
refused("files", lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(200)])
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
print("done")
"""


def test_what_an_executor_cannot_do() -> None:
    result = subprocess.run([sys.executable, "-c", _INSIDE], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    expected = ["socket", "connect", "fork", "exec", "run", "thread", "kill", "files", "done"]
    if sys.platform != "linux":
        pytest.fail("the filter is Linux's; run the tests there")
    assert result.stdout.split() == expected


def test_memory_is_limited() -> None:
    code = (
        "import os\nfrom executor import sandbox\nsandbox.DATA_BYTES_MAX = 256 * 1024 * 1024\n"
        "sandbox.enter_sandbox(os.getppid())\n"
        "try:\n    bytearray(1024 ** 3)\nexcept MemoryError:\n    print('refused')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.stdout.split() == ["refused"], result.stderr


def test_a_parent_that_is_gone_ends_it() -> None:
    code = "import os\nfrom executor.sandbox import enter_sandbox\nenter_sandbox(os.getppid() + 1)\nprint('alive')\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout) == (0, "")
