"""The parent of all workers: it has imported torch, has no threads, has never touched a GPU, and forks on request.

So a worker is up in milliseconds and shares the memory of everything imported here. The frontend starts it by
`start_command` and talks to it over one socket:

    frontend ▶ parent   {"start": token} with a socket       fork a worker that serves this socket
    parent ▶ frontend   {"ready": true, "gpus": 0}            once, after the imports
                        {"started": token, "pid": 12}
                        {"exited": 12, "status": 9}           as waitpid gives it

When the frontend goes away, so do the workers, even those that hang in user code: the parent kills them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import traceback

import torch

from inference.worker import serving

MESSAGE_BYTES = 4096


def main(control_fd: int) -> None:
    """Serve the frontend until it hangs up."""
    control = socket.socket(fileno=control_fd)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    gc.collect()
    gc.freeze()
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
            message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
            if not message:
                break
            pid = os.fork()
            if pid == 0:
                _become_worker(fds[0], (control.fileno(), wake_read, wake_write))
            os.close(fds[0])
            children.add(pid)
            _send(control, {"started": json.loads(message)["start"], "pid": pid})
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _become_worker(channel_fd: int, inherited: tuple[int, ...]) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in inherited:
            os.close(fd)
        # Set by the frontend to keep this parent free of threads; not the user's choice.
        if os.environ.pop("TIDEGATE_PRELOAD_BLAS", None):
            os.environ.pop("OPENBLAS_NUM_THREADS", None)
        status = serving.run(socket.socket(fileno=channel_fd))
    except BaseException:
        traceback.print_exc()
    finally:
        serving.leave(status)


def _report_exits(control: socket.socket, children: set[int]) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        children.discard(pid)
        _send(control, {"exited": pid, "status": status})


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
