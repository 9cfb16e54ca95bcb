"""A process that calls a stage's function, and the thread's end of it.

It is a fresh interpreter and no fork: a fork of a process that has threads may hang on their locks, cannot use CUDA,
and keeps a worker's sockets open. So it imports the function by its module and name. What travels is pickled by one of
the two processes and read by the other, both ours: bytes of a client among the items stay bytes.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from tidegate.inference.pipeline.calls import Function
from tidegate.inference.pipeline.child_main import MAIN, Start
from tidegate.inference.pipeline.errors import BrokenStage, RemoteTraceback, StageError, StageTimeout

_ROOT = Path(__file__).parents[3]
"""Where the package `tidegate` lies, or a link to what lies here, which is then on the path anyhow."""


class Children:
    """The processes of one run that live. `kill` takes no lock: it may come from the garbage collector."""

    def __init__(self) -> None:
        self._killed = False
        self._process = os.getpid()
        self._living: set[Child] = set()

    def add(self, child: Child) -> None:
        self._living.add(child)
        if self._killed:
            child.kill()

    def discard(self, child: Child) -> None:
        self._living.discard(child)

    def kill(self) -> None:
        """End all, and whatever is started from now on: the threads that wait for them wake up."""
        self._killed = True
        if self._process != os.getpid():
            return  # in a fork of the process whose they are
        for child in list(self._living):
            child.kill()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Have Ctrl-C, which reaches the whole group, wait; a process that is started meanwhile lets it in when it can."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """One process, used by one thread; `kill` may come from any other."""

    def __init__(self, function: Function, pickled: bytes, timeout_s: float | None, siblings: Children) -> None:
        """Start it. Raises `BrokenStage` where it cannot import the function."""
        if Start.under_way:
            raise BrokenStage(
                f"Stage {function.name!r} has processes=True, and its process imports this script: put the call of "
                'the pipeline below `if __name__ == "__main__":`, or it would start processes without end.'
            )
        self._name = function.name
        self._timeout_s = timeout_s
        ours, theirs = socket.socketpair()
        program = (
            f"import sys; sys.path.append({str(_ROOT)!r}); "
            f"from tidegate.inference.pipeline.child_main import main; main({theirs.fileno()})"
        )
        with ours, theirs, _interrupts_held():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
            self._connection = Connection(ours.detach())
        self._siblings = siblings
        siblings.add(self)
        try:
            self._ask((sys.path, sys.argv, _modules(function), pickled), None)
        except BaseException:
            self.close()
            raise

    def one(self, value: Any) -> Any:
        """The function's result for `value`. Raises what it raises, `StageTimeout`, and `StageError` where it dies."""
        return self._ask((False, value), self._timeout_s)

    def of_batch(self, values: list[Any]) -> list[Any]:
        """As `Function.of_batch`, in the process."""
        results: list[Any] = self._ask((True, values), self._timeout_s)
        return results

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        """End it at once: the thread that waits for it wakes up."""
        self._process.kill()

    def close(self) -> None:
        """End it and wait for that. Between two calls it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._siblings.discard(self)

    def _ask(self, message: Any, timeout_s: float | None) -> Any:
        data = pickle.dumps(message)
        try:
            self._connection.send_bytes(data)
            answer = self._connection.recv_bytes() if self._connection.poll(timeout_s) else None
        except (EOFError, OSError) as error:
            self.close()
            raise StageError(f"The process of stage {self._name!r} {_ending(self._process.returncode)}.") from error
        if answer is None:
            self.close()
            raise StageTimeout(
                f"Stage {self._name!r} has a timeout_s of {timeout_s:g}, and the call took longer; its process was "
                "ended."
            )
        result, raised, trace = pickle.loads(answer)  # noqa: S301 - our own process wrote it
        try:
            if raised is not None:
                raise raised from RemoteTraceback(trace)
            return result
        finally:
            del raised  # its traceback holds this frame


class InProcess:
    """A function that is called in a process: the first call starts it, and the first after its death another."""

    def __init__(self, function: Function, pickled: bytes, timeout_s: float | None, children: Children) -> None:
        self._function = function
        self._pickled = pickled
        self._timeout_s = timeout_s
        self._children = children
        self._child: Child | None = None

    def call(self, value: Any) -> Any:
        return self._living().one(value)

    def of_batch(self, values: list[Any]) -> list[Any]:
        return self._living().of_batch(values)

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _living(self) -> Child:
        if self._child is None or not self._child.is_alive:
            self._child = Child(self._function, self._pickled, self._timeout_s, self._children)
        return self._child


def pickled(function: Function) -> bytes:
    """`function` for another process. Raises ValueError in one sentence where that could not import it."""
    try:
        data = pickle.dumps(function)
    except Exception as error:
        raise ValueError(
            f"Stage {function.name!r} has processes=True, and its process cannot be given it ({error}); the function, "
            "collate and split must be defined at the top of a module."
        ) from error
    main = sys.modules[MAIN]
    if MAIN in _names(function) and getattr(main, "__spec__", None) is None and _file(main) is None:
        raise ValueError(
            f"Stage {function.name!r} has processes=True, and its process cannot import what was typed in; define the "
            "function in a file."
        )
    return data


def _names(function: Function) -> set[str]:
    """The modules that the parts of `function` are from."""
    found = set()
    for part in (function.call, function.collate, function.split):
        while part is not None and hasattr(part, "func"):  # functools.partial
            part = part.func  # noqa: PLW2901
        if part is not None:
            owner = getattr(part, "__self__", part)
            found.add(getattr(part, "__module__", None) or type(owner).__module__)
            found.add(type(owner).__module__)
    return found


def _modules(function: Function) -> list[tuple[str, str, str | None]]:
    """Of these modules the name, the file, and for the main script the name that it was started by."""
    found: list[tuple[str, str, str | None]] = []
    for name in sorted(_names(function)):
        module = sys.modules.get(name)
        if module is not None and "." not in name and (file := _file(module)) is not None:
            spec = getattr(module, "__spec__", None)
            found.append((name, file, spec.name if name == MAIN and spec is not None else None))
    return found


def _file(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file else None  # noqa: PTH100 - a text, as the import system has it


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended with status {code}"
