"""What runs in a stage's process: it imports the function and answers calls until the other end is closed."""

from __future__ import annotations

import importlib.util
import os
import pickle
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from types import FrameType, ModuleType
from typing import Any

from tidegate.inference.pipeline.calls import Function
from tidegate.inference.pipeline.errors import BrokenStage, StageError, text_of

MAIN = "__main__"


class Start:
    """Whether this process is just importing what it was started for, a script perhaps that would start it again."""

    under_way = False


def main(descriptor: int) -> None:
    """Answer calls over the socket `descriptor`."""
    connection = Connection(descriptor)
    # Ctrl-C reaches the whole group; the thread that started this process ends it.
    signal.signal(signal.SIGINT, _do_nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    arrived: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(connection, arrived), daemon=True).start()
    try:
        function = _begin(arrived.get())
    except BaseException as error:  # SystemExit of a script, too
        broken = error if isinstance(error, BrokenStage) else BrokenStage(_sentence(error))
        connection.send_bytes(pickle.dumps((None, broken, traceback.format_exc())))
        return
    connection.send_bytes(_answer(lambda: None))
    while True:
        connection.send_bytes(_answer(partial(_call, function, arrived.get())))


def _sentence(error: BaseException) -> str:
    return f"A stage's process cannot import its function: {type(error).__name__}: {text_of(error).rstrip('.')}."


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _read(connection: Connection, arrived: SimpleQueue[bytes]) -> None:
    # In a thread, so that the end of the other process is noticed in the midst of a call.
    try:
        while True:
            arrived.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _begin(data: bytes) -> Function:
    sys.path[:], sys.argv[:], modules, pickled = pickle.loads(data)  # noqa: S301 - the process that started this one wrote it
    Start.under_way = True
    for name, file, started_as in modules:
        _import(name, file, started_as)
    function: Function = pickle.loads(pickled)  # noqa: S301 - the same
    Start.under_way = False
    return function


def _import(name: str, file: str, started_as: str | None) -> None:
    """Have `name` mean the module in `file`, as in the process that asks: a user's script is loaded by path there."""
    if name == MAIN:
        content = (
            runpy.run_module(started_as, run_name="__mp_main__", alter_sys=True)
            if started_as is not None
            else runpy.run_path(file, run_name="__mp_main__")
        )
        module = ModuleType("__mp_main__")
        module.__dict__.update(content)
        sys.modules[MAIN] = sys.modules["__mp_main__"] = module
        return
    found = importlib.util.find_spec(name)
    if found is not None and found.origin is not None and os.path.abspath(found.origin) == file:  # noqa: PTH100
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _call(function: Function, data: bytes) -> Any:
    is_batch, value = pickle.loads(data)  # noqa: S301 - the process that started this one wrote it
    return function.of_batch(value) if is_batch else function.call(value)


def _answer(work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((work(), None, ""))
    except Exception as error:
        return pickle.dumps((None, _sendable(error), traceback.format_exc()))


def _sendable(error: Exception) -> Exception:
    """`error`, if it survives the journey: one with an `__init__` of its own may not."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - written in this line
    except Exception:
        return StageError(f"{type(error).__name__}: {text_of(error)}")
    return error
