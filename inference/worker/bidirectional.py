"""All conversations of a worker: who may begin one, who has taken too long, and what becomes of a worker that hangs.

A thread cannot be ended from outside. Where `stream_fn` is at work for longer than the time limit without yielding or
asking for a message, its client is told so, and the conversation keeps its place until the thread comes back. When
every place is taken by such threads, or the event loop of asynchronous ones stands still, the worker leaves and a new
one takes its place. Waiting for the client, in either direction, is not being at work.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, sleep
from typing import Any

import torch

from tidegate.inference import conversation_frames as frames
from tidegate.inference.conversation_frames import Farewell, Opening
from tidegate.inference.protocol import Kind, Payload, parse_id
from tidegate.inference.request_trace import fields_of_all
from tidegate.inference.worker.allocator import FreedMemory
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.conversation import Conversation, LoopConversation, ThreadConversation
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.stream_context import StreamContext

log = logging.getLogger("tidegate.worker")

_LOOKS = 10
"""How often in a time limit it is looked who exceeds it."""


class Conversations:
    """The conversations of one worker; `take` is called by the thread that reads frames."""

    KINDS = (Kind.OPEN, Kind.MESSAGE, Kind.CLOSE)
    """The frames that are for nobody else."""

    def __init__(
        self,
        stream_fn: Callable[..., Any],
        context: Context,
        *,
        model: Any,
        gpu_id: int | None,
        limit: int,
        timeout_s: float,
        max_frame_bytes: int,
        send: Callable[[bytes], None],
        leave: Callable[[str], None],
        freed: FreedMemory | None = None,
        around: Callable[[Request], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`send` may be called from any thread; `leave` ends the process and says why.

        `freed` is told when a conversation has ended; `around` is entered while `stream_fn` runs for one.
        """
        self.around = around
        self._freed = freed or FreedMemory(kept=False)
        self.send = send
        self._stream_fn = stream_fn
        self._context = context
        self._model = model
        self._gpu_id = gpu_id
        self._limit = limit
        self._timeout_s = timeout_s
        self._max_frame_bytes = max_frame_bytes
        self.leave = leave
        self._lock = threading.Lock()
        self._open: dict[int, Conversation] = {}
        self._hung: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_asked_s: float | None = None
        self._somebody = threading.Event()
        self._watch: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._open)

    def take(self, kind: int, payload: Payload) -> bool:
        """Obey a frame of a conversation, never waiting for user code; whether it was one."""
        if not frames.is_of_conversation(kind, payload):
            return False
        if kind == Kind.OPEN:
            self._begin(frames.parse_opening(payload))
        elif kind == Kind.MESSAGE:
            message = frames.parse_message(payload)
            if (conversation := self._open.get(message.id)) is not None:
                conversation.put(message)
        elif kind == Kind.CLOSE:
            farewell = frames.parse_farewell(payload)
            if (conversation := self._open.get(farewell.id)) is not None:
                conversation.end(farewell.code)
        elif (conversation := self._open.get(parse_id(payload))) is not None:
            conversation.pause(on=kind == Kind.PAUSE)
        return True

    def ended(self, conversation: Conversation, farewell: Farewell) -> None:
        """A `stream_fn` is done; called where it ran."""
        with self._lock:
            del self._open[conversation.id]
            told = conversation.id in self._hung
            self._hung.discard(conversation.id)
            if not self._open:
                self._somebody.clear()
        self._freed.used = True
        if not told:
            self.send(frames.farewell_frame(farewell))

    def _begin(self, opening: Opening) -> None:
        with self._lock:
            if len(self._open) >= self._limit:
                full = Farewell(opening.id, 1013, f"This worker has {self._limit} conversations already.", "overloaded")
                self.send(frames.farewell_frame(full))
                return
            context = StreamContext(self._context, model=self._model, opening=opening)
            conversation = self._make(context)
            self._open[opening.id] = conversation
            self._somebody.set()
        if self._watch is None:
            self._watch = threading.Thread(target=self._watch_all, name="stream_fn-watch", daemon=True)
            self._watch.start()
        conversation.start()

    def _make(self, context: StreamContext) -> ThreadConversation | LoopConversation:
        if is_asynchronous(self._stream_fn):
            return LoopConversation(self, context, self._max_frame_bytes, self._stream_fn, self._event_loop())
        return ThreadConversation(self, context, self._max_frame_bytes, self._in_thread)

    def _in_thread(self, *arguments: Any) -> Any:
        self._take_device()
        return self._stream_fn(*arguments)

    def _take_device(self) -> None:
        if self._gpu_id is not None:  # each thread has a current device of its own
            torch.cuda.set_device(self._gpu_id)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._run_loop, args=(self._loop,), name="stream_fn", daemon=True).start()
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._take_device()
        loop.run_forever()

    # --- who takes too long

    def _watch_all(self) -> None:
        while True:
            self._somebody.wait()
            self._look(monotonic())
            sleep(self._timeout_s / _LOOKS)

    def _look(self, now_s: float) -> None:
        with self._lock:
            known = list(self._open.values())
        for conversation in known:
            if conversation.id not in self._hung and conversation.stopwatch.seconds(now_s) > self._timeout_s:
                self._hang_up(conversation)
        if self._loop is not None:
            if self._loop_asked_s is None:
                self._loop_asked_s = now_s
                self._loop.call_soon_threadsafe(self._loop_answers)
            elif now_s - self._loop_asked_s > self._timeout_s:
                self.leave(f"the event loop of stream_fn has stood still for {self._timeout_s:g} s")
        if len(self._hung) >= self._limit:
            self.leave(f"all {self._limit} conversations hang in stream_fn")

    def _loop_answers(self) -> None:
        self._loop_asked_s = None

    def _hang_up(self, conversation: Conversation) -> None:
        with self._lock:
            if conversation.id not in self._open:
                return
            self._hung.add(conversation.id)
        request_id, lines = conversation.context.get_request_id(0), conversation.context.request.received.headers
        log.error("stream_fn took longer than the time limit", extra=fields_of_all([(request_id, lines)]))
        reason = f"stream_fn took longer than {self._timeout_s:g} s over one step."
        self.send(frames.farewell_frame(Farewell(conversation.id, 1011, reason, "handler_timed_out")))
        conversation.give_up()


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Whether a function is written with `async def`, also one that an object's `__call__` is."""
    found = (function, getattr(function, "__call__", None))  # noqa: B004 - its kind is asked, not whether it is there
    return any(inspect.isasyncgenfunction(each) or inspect.iscoroutinefunction(each) for each in found)
