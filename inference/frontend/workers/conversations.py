"""The conversations of one model: which client talks to which worker's `stream_fn`.

    client ─▶ Talk ─▶ the worker's socket ─▶ stream_fn ─▶ `heard` ─▶ client

A worker that is lost takes its conversations with it: each client is told so and connects anew, because nobody else
knows what was said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from tidegate.inference.conversation_frames import (
    FIRST_ID,
    Farewell,
    Message,
    Opening,
    farewell_frame,
    message_frame,
    opening_frame,
    parse_farewell,
    parse_message,
)
from tidegate.inference.errors import NotFound, NotReady, Overloaded
from tidegate.inference.protocol import Kind, Payload, parse_id, pause_frame, resume_frame

_GOING_AWAY, _INTERNAL_ERROR = 1001, 1011


class Client(Protocol):
    """Who talks to the model. After `farewell` it is told nothing any more."""

    @property
    def opening(self) -> Opening:
        """What it asked for; the id is not its matter."""

    def message(self, message: Message) -> None: ...
    def hold(self, *, on: bool) -> None: ...
    def leave(self, reason: str) -> None:
        """It will be told to leave as soon as `stream_fn` has said its last words."""

    def farewell(self, farewell: Farewell) -> None: ...


class Link(Protocol):
    """A worker's socket."""

    def send(self, data: bytes) -> None: ...


class Ledger(Protocol):
    """Who knows what else the workers do; see `queue/scheduler.py`."""

    def open_streams(self, number: int) -> int: ...
    def note_conversations(self, number: int, count: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Worker:
    link: Link
    talks: dict[int, Talk] = field(default_factory=dict)
    blocked: bool = False
    """Whether its socket does not take what it is sent."""


class Talk:
    """A client's way to the worker; see `websocket_connection.Conversation`."""

    __slots__ = ("_held", "_id", "_link", "client", "over")

    def __init__(self, id_: int, link: Link, client: Client) -> None:
        self._id, self._link, self.client = id_, link, client
        self._held = False
        self.over = False
        """Whether the client has left: what the worker still says goes nowhere."""

    def message(self, data: bytes, *, is_text: bool, is_last: bool) -> None:
        """The client sent a frame."""
        self._link.send(message_frame(Message(self._id, data, is_text, is_last)))

    def close(self, code: int) -> None:
        """The client left; or, with 1001, will leave when `stream_fn` has ended."""
        self.over = code != _GOING_AWAY
        self._link.send(farewell_frame(Farewell(self._id, code, "")))

    def pause(self) -> None:
        """The client does not read."""
        self._link.send(pause_frame(self._id))

    def resume(self) -> None:
        """It reads again."""
        self._link.send(resume_frame(self._id))

    def hold(self, *, by_script: bool | None = None, blocked: bool) -> None:
        """Stop reading from the client while `stream_fn` or the worker's socket does not take more."""
        if by_script is not None:
            self._held = by_script
        if not self.over:
            self.client.hold(on=self._held or blocked)


class Conversations:
    """Those of one model, over all its workers."""

    def __init__(self, name: str, limit: int, ledger: Ledger) -> None:
        """`limit` is for the conversations and the open streams of each worker, together."""
        self._name = name
        self._limit = limit
        self._ledger = ledger
        self._workers: dict[int, _Worker] = {}
        self._ids = count(FIRST_ID)
        self._offered: bool | None = None
        """Whether the model has a `stream_fn`; None until a worker has loaded it."""

    def __len__(self) -> int:
        """How many are open."""
        return sum(len(worker.talks) for worker in self._workers.values())

    # --- the workers

    def ready(self, number: int, link: Link, *, offered: bool) -> None:
        """A worker has loaded the model; `offered` says whether its script has a `stream_fn`."""
        self._offered = offered
        if offered:
            self._workers[number] = _Worker(link)

    def lost(self, number: int) -> None:
        """A worker is gone."""
        worker = self._workers.pop(number, None)
        for talk in worker.talks.values() if worker else ():
            reason = "The process that ran stream_fn died; connect again."
            self._say_farewell(talk, Farewell(0, _INTERNAL_ERROR, reason, "worker_died"))

    def leave(self) -> None:
        """The model is about to be stopped: bring the conversations to an end."""
        reason = f"The model '{self._name}' is being unloaded."
        for talk in [talk for worker in self._workers.values() for talk in worker.talks.values()]:
            if not talk.over:
                talk.client.leave(reason)

    def close(self) -> None:
        """The model is stopped."""
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            for talk in worker.talks.values():
                self._say_farewell(talk, Farewell(0, _GOING_AWAY, "The model was stopped."))

    def blocked(self, number: int, *, on: bool) -> None:
        """A worker's socket takes no more, or takes more again."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.blocked = on
            for talk in worker.talks.values():
                talk.hold(blocked=on)

    def heard(self, number: int, kind: int, payload: Payload) -> None:
        """A worker said something to one of its clients."""
        worker = self._workers.get(number)
        if worker is None:
            return
        if kind == Kind.MESSAGE:
            message = parse_message(payload)
            talk = worker.talks.get(message.id)
            if talk is not None and not talk.over:
                talk.client.message(message)
        elif kind == Kind.CLOSE:
            farewell = parse_farewell(payload)
            talk = worker.talks.pop(farewell.id, None)
            self._ledger.note_conversations(number, len(worker.talks))
            if talk is not None:
                self._say_farewell(talk, farewell)
        elif (talk := worker.talks.get(parse_id(payload))) is not None:
            talk.hold(by_script=kind == Kind.PAUSE, blocked=worker.blocked)

    def _say_farewell(self, talk: Talk, farewell: Farewell) -> None:
        if not talk.over:
            talk.over = True
            talk.client.farewell(farewell)

    # --- the clients

    def begin(self, client: Client) -> Talk:
        """Connect a client to the worker with the fewest. Raises `NotFound`, `NotReady` or `Overloaded`."""
        if self._offered is False:
            raise NotFound(
                f"The model '{self._name}' does not take WebSockets: its script has no stream_fn(incoming, context)."
            )
        open_ = {
            number: len(worker.talks) + self._ledger.open_streams(number) for number, worker in self._workers.items()
        }
        number = freest(open_, self._limit)
        if number is None:
            if not self._workers:
                raise NotReady(f"The model '{self._name}' is not ready.")
            raise Overloaded(
                f"The model '{self._name}' has {self._limit} streams and conversations on each worker, the limit."
            )
        worker, id_ = self._workers[number], next(self._ids)
        talk = worker.talks[id_] = Talk(id_, worker.link, client)
        self._ledger.note_conversations(number, len(worker.talks))
        worker.link.send(opening_frame(client.opening._replace(id=id_)))
        return talk


def freest(open_: Mapping[int, int], limit: int) -> int | None:
    """The worker with the fewest open streams, the first of several; None where none is below `limit`."""
    number = min(open_, key=open_.__getitem__, default=None)
    return number if number is not None and open_[number] < limit else None
