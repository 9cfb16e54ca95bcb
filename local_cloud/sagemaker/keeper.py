"""Runs a command and ends all that it started: `python keeper.py COMMAND …`

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
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_DEATH_TIMEOUT_S = 10.0
_PAUSE_S = 0.005
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(command: list[str]) -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Blocked and waited for, so that none is lost between two looks.
    awaited = {*_HANDED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child == 0:
        _become(command, before)
    status = None
    while status is None:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
        status = _reaped(child)
    _end_the_rest()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(command: list[str], mask: set[int | signal.Signals]) -> None:
    """In the child. Does not return."""
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose
    except OSError as error:
        sys.stderr.write(f"local cloud: {command[0]} cannot be run: {error.strerror}\n")
    finally:
        sys.stderr.flush()
        os._exit(127)


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
