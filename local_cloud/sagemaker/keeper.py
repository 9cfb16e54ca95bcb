"""Runs a command and ends all that it started: `python keeper.py COMMAND …`

With `--port PORT` before it, a server that binds port 8080 gets PORT instead (:mod:`.fixed_port`).

A container is over when its first process ends, and nothing of it goes on. Here this process stands for the container:
on Linux it adopts what the command and its children leave (a daemon that forked twice, a process in a session of its
own), and when the command has ended it ends all of that before it ends itself. Signals go on to the command, which has
a process group of its own. The exit code is the command's; for one that a signal ended it is 128 and the signal's
number, as a shell says it and docker too.

Elsewhere nobody adopts, and only what is still in the session is found (:mod:`tidegate.local_cloud.processes`). This
is run as a file and needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_DEATH_TIMEOUT_S = 10.0
_PAUSE_S = 0.005
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(command: list[str]) -> int:
    port = None
    if command[0] == "--port":
        _, port, *command = command
    fixed_port = None if port is None else runpy.run_path(str(Path(__file__).with_name("fixed_port.py")))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Blocked and waited for, so that none is lost between two looks.
    awaited = {*_HANDED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        here.close()
        _become(command, before, fixed_port, there)
    there.close()
    if fixed_port is not None and port is not None:
        _answer_about_ports(fixed_port, here, int(port))
    here.close()
    status = None
    while status is None:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
        status = _reaped(child)
    _end_the_rest()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(
    command: list[str], mask: set[int | signal.Signals], fixed_port: dict[str, Any] | None, keeper: socket.socket
) -> None:
    """In the child. Does not return."""
    try:
        os.setpgid(0, 0)
        if fixed_port is not None:
            # Where the kernel refuses, the server has to bind the port that it is told.
            with suppress(OSError):
                listener = fixed_port["ask_about_bind"]()
                socket.send_fds(keeper, [b"."], [listener])
                os.close(listener)
        keeper.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose
    except OSError as error:
        sys.stderr.write(f"local cloud: {command[0]} cannot be run: {error.strerror}\n")
    finally:
        sys.stderr.flush()
        os._exit(127)


def _answer_about_ports(fixed_port: dict[str, Any], child: socket.socket, port: int) -> None:
    """Has a thread answer what the child asks, from before it becomes the command."""
    _, listeners, _, _ = socket.recv_fds(child, 1, 1)
    for listener in listeners:
        threading.Thread(target=fixed_port["answer"], args=(listener, port), daemon=True).start()


def _reaped(child: int) -> int | None:
    """Collects all that have ended; the status of ``child``, if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG):
            process, status = ended
            if process == 0:
                break
            if process == child:
                found = status
    return found


def _end_the_rest() -> None:
    """SIGKILL to the children until there is none: those of one that dies become children of this process."""
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    while children := _children():
        if time.monotonic() > deadline:
            sys.stderr.write(f"local cloud: processes that do not die: {', '.join(map(str, children))}\n")
            return
        for process in children:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        _reaped(0)
        time.sleep(_PAUSE_S)


def _children() -> list[int]:
    """Those that run. The fourth field is the parent; the second is the name in brackets, which may hold any."""
    own, found = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            if parent == own and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
