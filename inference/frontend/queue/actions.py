"""What the scheduler wants done. `ModelPool` carries these values out, in their order.

A worker is known by the number that the scheduler gave it when it asked for its start.
"""

from __future__ import annotations

from typing import NamedTuple

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.queue.pending_request import PendingRequest


class Start(NamedTuple):
    """Fork a worker for `slot`; `verify` has it answer the archive's example, `prove` look for what may be joined."""

    worker: int
    slot: int
    gpu_ids: tuple[int, ...]
    verify: bool
    prove: bool


class Send(NamedTuple):
    """Give a worker a batch, or several requests that are predicted `alone` and only travel together."""

    worker: int
    requests: list[PendingRequest]
    alone: bool


class Fail(NamedTuple):
    """End a request with an error."""

    request: PendingRequest
    error: RequestError


class Cancel(NamedTuple):
    """Have a worker close a stream whose reader has left."""

    worker: int
    request_id: int


class Pause(NamedTuple):
    """Have a worker hold a stream whose reader is slow."""

    worker: int
    request_id: int


class Resume(NamedTuple):
    """Have a worker go on with a stream."""

    worker: int
    request_id: int


class HangUp(NamedTuple):
    """Close a worker's socket when what was written is out: the worker leaves when it has finished."""

    worker: int


class CutOff(NamedTuple):
    """Close a worker's socket at once, whatever is still on its way."""

    worker: int


class Kill(NamedTuple):
    """End a process and what it started."""

    pid: int


class Loaded(NamedTuple):
    """The first worker has the model: it takes traffic."""


class LoadFailed(NamedTuple):
    """The model cannot be loaded; `too_large` says that it is a matter of memory.

    `interrupted` says that nothing is known against the model: its worker was lost, or could not be started.
    """

    reason: str
    too_large: bool = False
    interrupted: bool = False


class GiveUp(NamedTuple):
    """The model cannot be kept up."""

    cause: str


class Log(NamedTuple):
    """Write a line to the log."""

    level: int
    message: str
    fields: dict[str, object]


Action = Start | Send | Fail | Cancel | Pause | Resume | HangUp | CutOff | Kill | Loaded | LoadFailed | GiveUp | Log
