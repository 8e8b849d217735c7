"""Owns the simulation of kernels that forbid: io_uring by seccomp as containers do, low ports by a missing capability.

What is forbidden stays so, for this process and its children. So it belongs into a child:
`subprocess.run(..., preexec_fn=forbid_io_uring)`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_CAPBSET_DROP, _CAP_NET_BIND_SERVICE = 24, 10
_IO_URING_SETUP = 425  # the same number on every architecture (asm-generic)
_LOAD_NUMBER, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: ld [0] (the call's number), jeq, ret


def forbid_io_uring(code: int = errno.EPERM) -> None:
    """Make `io_uring_setup` fail with `code` from here on. Raises OSError where seccomp itself is not to be had."""
    steps = (
        (_LOAD_NUMBER, 0, 0, 0),
        (_JUMP_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ERRNO | code),
        (_RETURN, 0, 0, _ALLOW),
    )
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    wanted = Program(len(steps), ctypes.addressof(program))
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    _prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(wanted))


def forbid_low_ports() -> None:
    """Take the capability to bind ports below 1024 from what this process executes, root or not."""
    if os.geteuid() == 0:
        _prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(_CAP_NET_BIND_SERVICE))


def _prctl(*arguments: Any) -> None:
    padded = (*arguments, *[ctypes.c_ulong(0)] * (5 - len(arguments)))
    if ctypes.CDLL(None, use_errno=True).prctl(*padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
