"""The fork server: it has imported torch, has no threads, has never touched a GPU, and forks a worker on request.

So a worker is up in milliseconds and shares the memory of everything imported here. The frontend starts it and talks to
it over one socket:

    frontend ▶ parent   {"start": token, "packages_dir": …}   fork a worker that serves the socket sent along
    parent ▶ frontend   {"ready": true, "gpus": 0}            once, after the imports
                        {"started": token, "pid": 12}
                        {"exited": 12, "status": 9}           as waitpid gives it

When the frontend goes away, so do the workers, even those that hang in user code: the parent kills them. Each worker
leads a process group, so what its user code started ends with it, however it ends. What that leaves behind (a process
of its own group, or one whose parent ended first) becomes a child of this one, which waits for it: none stays a zombie.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch

import tidegate
from tidegate.inference import log_lines
from tidegate.inference.package_layer import PackageLayer
from tidegate.inference.version import own_version
from tidegate.inference.worker import serving
from tidegate.inference.worker.leaving import leave

log = logging.getLogger("tidegate.worker")

MESSAGE_BYTES = 8192

_PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""
_PACKAGE_ROOT = str(Path(tidegate.__file__).resolve().parents[1])


def main(control_fd: int, log_level: int) -> None:
    """Serve the frontend until it hangs up."""
    log_lines.configure(log_level)
    _adopt_orphans()
    control = socket.socket(fileno=control_fd)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    own_version()  # each worker would look it up
    # Without a collection, which takes a tenth of a second: what little the imports have left behind may stay.
    gc.freeze()
    gc.enable()
    _send(control, {"ready": True, "gpus": _count_gpus()})
    children: set[int] = set()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _report_exits(control, children)
        if control.fileno() in ready:
            try:
                message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
            except ConnectionResetError:  # it hung up with messages of ours unread
                break
            if not message:
                break
            order = json.loads(message)
            layer = PackageLayer(Path(order["packages_dir"])) if order["packages_dir"] else None
            # Not the server's own package, which user code does not see.
            contradicted = [name for name in layer.contradicted() if name != "tidegate"] if layer else []
            if contradicted:
                log.warning(
                    "a fresh interpreter is started for a model that brings what is preloaded",
                    extra={"packages": contradicted},
                )
            pid = os.fork()
            if pid == 0:
                _become_worker(fds[0], (control.fileno(), wake_read, wake_write), layer if contradicted else None)
            os.close(fds[0])
            _lead_group(pid)  # as the worker does itself: either may come first
            children.add(pid)
            _send(control, {"started": order["start"], "pid": pid})
    for pid in children:
        _kill_group(pid)


def _become_worker(channel_fd: int, inherited: tuple[int, ...], contradicting: PackageLayer | None) -> None:
    status = 1
    try:
        _lead_group(0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in inherited:
            os.close(fd)
        # Set by the frontend to keep this parent free of threads; not the user's choice.
        if os.environ.pop("TIDEGATE_PRELOAD_BLAS", None):
            os.environ.pop("OPENBLAS_NUM_THREADS", None)
        if contradicting:
            _become_fresh_worker(channel_fd, contradicting)
        status = serving.run(socket.socket(fileno=channel_fd))
    except BaseException:
        traceback.print_exc()
    finally:
        leave(status)


def _become_fresh_worker(channel_fd: int, layer: PackageLayer) -> None:
    """Replace this fork by an interpreter that finds the model's packages before the server's. Does not return."""
    os.set_inheritable(channel_fd, True)
    program = (
        "import socket, sys; "
        f"sys.path.insert(0, {_PACKAGE_ROOT!r}); "
        "import tidegate; "  # ours; all else is found first where the model's packages are
        "del sys.path[0]; "
        "from tidegate.inference.worker import leaving, serving; "
        f"leaving.leave(serving.run(socket.socket(fileno={channel_fd})))"
    )
    python = str(layer.interpreter)
    os.execv(python, [python, "-P", "-c", program])  # noqa: S606 - no shell is wanted


def _report_exits(control: socket.socket, children: set[int]) -> None:
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        pid = ended.si_pid
        if pid not in children:
            os.waitpid(pid, 0)
            continue
        # Before the worker is reaped: until then no other process can have its number.
        _kill_group(pid)
        children.discard(pid)
        _, status = os.waitpid(pid, 0)
        _send(control, {"exited": pid, "status": status})


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _lead_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already, or an interpreter of its own already
        os.setpgid(pid, pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended
        os.killpg(pid, signal.SIGKILL)


def _send(control: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.send(json.dumps(message).encode())


def _count_gpus() -> int:
    """How many GPUs a worker would see, asked in a child: a process that forks must not have touched CUDA."""
    if torch.version.cuda is None and torch.version.hip is None:
        return 0
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(torch.cuda.device_count()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        count = answer.read()
    os.waitpid(pid, 0)
    return int(count or 0)
