"""Lets several servers that all bind port 8080 run on one machine: each gets a port of its own instead.

A container of SageMaker's listens on 8080, mostly in words of its image (`gunicorn -b 0.0.0.0:8080`). In a container
that port is its own; processes share the machine's. On Linux the kernel can ask another process about a system call
(seccomp_unotify(2)): :func:`ask_about_bind`, in the process that becomes the server, has it ask about each `bind`, and
:func:`answer` does those to port 8080 itself, on a loopback address and the port that the server was given. All other
calls go on as they are, and so does the server's way to the network, which a network namespace would cut.

Sockets that *connect* to port 8080 are not touched: a server that calls itself there does not reach itself. This is run
from a file and needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PORT = 8080  # "your-algorithms-inference-code": the container listens on it
_LOOPBACK = "127.0.0.1"

# Of <linux/seccomp.h>, <linux/filter.h>, <linux/audit.h> and <sys/prctl.h>; system calls by machine.
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
_ALLOW, _USER_NOTIF = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
_CONTINUE = 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # the same everywhere
_MACHINES = {
    # what the kernel calls it; seccomp(2); bind(2)
    "x86_64": (0xC000003E, 317, 49),
    "aarch64": (0xC00000B7, 277, 200),
}
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """A `bind` that waits for its answer: which thread's, and its three arguments."""

    number: int
    thread: int
    descriptor: int
    address: int
    length: int

    @classmethod
    def of(cls, received: bytes) -> Self:
        number, thread, _, _, _, _, descriptor, address, length, *_ = _NOTICE.unpack(received)
        return cls(number=number, thread=thread, descriptor=descriptor, address=address, length=length)


def is_possible() -> bool:
    """Whether the system is one of which this knows the numbers; the kernel may refuse all the same."""
    return sys.platform == "linux" and platform.machine() in _MACHINES


def ask_about_bind() -> int:
    """From now on this process and its children ask before each `bind`; returns where. Raises OSError."""
    architecture, seccomp, bind = _MACHINES[platform.machine()]
    steps = [
        (_LOAD, 0, 0, 4),
        (_JUMP_IF_EQUAL, 0, 3, architecture),
        (_LOAD, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, bind),
        (_RETURN, 0, 0, _USER_NOTIF),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> int:
        wish = (_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER, ctypes.byref(program))
        listener: int = libc.syscall(seccomp, *wish)
        return listener

    listener = install()
    if listener < 0 and ctypes.get_errno() == errno.EACCES:
        # Without privileges a process must give up getting any, by sudo for one.
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        listener = install()
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return listener


def answer(listener: int, port: int) -> None:
    """Answers until no process is left that asks. ``port`` is what takes the place of 8080."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    while all(happened & select.POLLIN for _, happened in waiting.poll()):
        received = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, received)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # who asked is gone
                continue
            return
        notice = _Notice.of(bytes(received))
        error_number = _bound(listener, notice, port)
        said = (notice.number, 0, 0, _CONTINUE) if error_number is None else (notice.number, 0, -error_number, 0)
        with suppress(OSError):  # who asked is gone
            fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(*said)))


def _bound(listener: int, notice: _Notice, port: int) -> int | None:
    """The error number of a call that was done here, 0 for none; None for a call that is the kernel's to do."""
    try:
        with Path(f"/proc/{notice.thread}/mem").open("rb", buffering=0) as memory:
            # The thread may have ended since, and another have its number.
            fcntl.ioctl(listener, _IS_VALID, bytearray(struct.pack("=Q", notice.number)))
            memory.seek(notice.address)
            wanted = memory.read(min(notice.length, 128))
        if not _is_to_the_fixed_port(wanted):
            return None
        family = struct.unpack_from("=H", wanted)[0]
        theirs = socket.socket(fileno=_copied(_process_of(notice.thread), notice.descriptor))
    except (OSError, ValueError):
        return None
    with theirs:
        try:
            # The port is kept for the server by a socket that does not listen.
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET:
                theirs.bind((_LOOPBACK, port))
            elif theirs.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                theirs.bind(("::1", port))
            else:
                theirs.bind((f"::ffff:{_LOOPBACK}", port))
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _is_to_the_fixed_port(address: bytes) -> bool:
    if len(address) < 8 or struct.unpack_from("=H", address)[0] not in (socket.AF_INET, socket.AF_INET6):
        return False
    port: int = struct.unpack_from("!H", address, 2)[0]
    return port == PORT


def _process_of(thread: int) -> int:
    status = Path(f"/proc/{thread}/status").read_text(encoding="utf-8", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Tgid:"))


def _copied(process: int, descriptor: int) -> int:
    """A descriptor of this process for what ``descriptor`` is in another. Raises OSError."""
    handle = _called(_PIDFD_OPEN, process, 0)
    try:
        return _called(_PIDFD_GETFD, handle, descriptor, 0)
    finally:
        os.close(handle)


def _called(number: int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
