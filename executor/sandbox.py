"""What an executor process takes away from itself before any contract code runs. The language is the first wall, this
is the second: limits on memory, files and processes, no core dumps, no new privileges, no sockets and no programs."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from typing import Final

DATA_BYTES_MAX: Final = 4 * 1024**3  # writable private memory; contracts are metered far below
FILES_MAX: Final = 128  # a lead has a socket for each of up to 63 others
_ADDRESS_BYTES_MAX: Final = 1024**4  # the state's map counts here, so only runaway mappings are stopped

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2

# Linux x86-64 numbers of system calls that no executor needs: new sockets, processes, threads, programs, tracing.
_REFUSED_X86_64: Final = (
    41,  # socket
    42, 43, 49, 50, 288,  # connect accept bind listen accept4
    56, 57, 58, 435, 59, 322,  # clone fork vfork clone3 execve execveat
    62, 101, 310, 311,  # kill ptrace process_vm_readv process_vm_writev
    165, 166, 155, 272, 308,  # mount umount2 pivot_root unshare setns
    175, 313, 246, 169,  # init_module finit_module kexec_load reboot
    298, 321, 425, 426, 427,  # perf_event_open bpf io_uring_setup io_uring_enter io_uring_register
)  # fmt: skip
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_X32_BIT: Final = 0x40000000
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050001  # the call fails with EPERM


def enter_sandbox(parent: int) -> None:
    """Limit this process; it dies with `parent` (a process id) where the system offers that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the node decides when to stop
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, FILES_MAX)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_NPROC, 0)
        _limit(resource.RLIMIT_DATA, DATA_BYTES_MAX)
        _limit(resource.RLIMIT_AS, _ADDRESS_BYTES_MAX)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _refuse_system_calls()
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def _prctl(option: int, *arguments: int) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return bool(library.prctl(ctypes.c_int(option), *padded) == 0)


def _refuse_system_calls() -> bool:
    """Install the filter; False where the system has none (the other limits stand)."""
    if platform.machine() != "x86_64" or not _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        return False
    count = len(_REFUSED_X86_64)
    program = [
        struct.pack("<HBBI", 0x20, 0, 0, 4),  # load the architecture
        struct.pack("<HBBI", 0x15, 0, count + 3, _AUDIT_ARCH_X86_64),  # another one: refuse
        struct.pack("<HBBI", 0x20, 0, 0, 0),  # load the call's number
        struct.pack("<HBBI", 0x35, count + 1, 0, _X32_BIT),  # its x32 twin: refuse
    ]
    for index, number in enumerate(_REFUSED_X86_64):
        program.append(struct.pack("<HBBI", 0x15, count - index, 0, number))  # equal: refuse
    program.append(struct.pack("<HBBI", 0x06, 0, 0, _ALLOW))
    program.append(struct.pack("<HBBI", 0x06, 0, 0, _REFUSE))
    code = ctypes.create_string_buffer(b"".join(program), 8 * len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    described = Program(len(program), ctypes.addressof(code))
    return _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(described))
