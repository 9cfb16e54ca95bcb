"""A model's answer to a request: submitted to the model's pool, which calls the reply. No task, no future."""

from __future__ import annotations

from time import monotonic

from tidegate.inference.errors import BadRequest, RequestError
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.models.stateful_sessions import SessionReply, StatefulSessions
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.reply import Reply
from tidegate.inference.frontend.workers.adapters import Lease
from tidegate.inference.protocol import ADAPTER_HEADER, REQUEST_ID_HEADER, Form

_ADAPTER = ADAPTER_HEADER.encode()
_ID_LINE = REQUEST_ID_HEADER.encode() + b": "


def lines_for_worker(request: Request) -> bytes:
    """The header lines of a request as a worker is given them: with the request's id."""
    return b"\r\n".join([*map(b": ".join, request.headers), _ID_LINE + request.id.encode("latin-1"), b""])


class AskModel:
    """One request to the model of `pool`, in a session where the server has them; see `Responder`."""

    __slots__ = ("_form", "_in_session", "_lease", "_pool", "_sessions", "_timed", "metrics", "pending")

    def __init__(
        self, pool: ModelPool, sessions: StatefulSessions | None, *, timed: bool, form: Form = Form.PLAIN
    ) -> None:
        self._form = form
        self.metrics: ModelMetrics = pool.metrics
        self._pool = pool
        self._sessions = sessions
        self._timed = timed
        self._in_session: SessionReply | None = None
        self._lease: Lease | None = None
        self.pending: PendingRequest | None = None

    def begin(self, request: Request, reply: Reply) -> None:
        if _ADAPTER in request.by_name and (name := request.header(_ADAPTER)):
            if request.count(_ADAPTER) > 1:
                raise BadRequest("The X-Amzn-SageMaker-Adapter-Identifier header came more than once.")
            reply = self._lease = self._pool.adapters.take(name, reply)
        if self._sessions is not None:
            try:
                taken = self._sessions.take(request, reply, self._pool.spec.name)
            except RequestError:
                self._let_go()
                raise
            if taken is None:
                return  # a session was begun or closed: no matter for the model
            if isinstance(taken, SessionReply):
                self._in_session = taken
            reply = taken
        by_name = request.by_name
        pending = PendingRequest(
            content_type=by_name[b"content-type"].decode("latin-1") if b"content-type" in by_name else "",
            accept=by_name[b"accept"].decode("latin-1") if b"accept" in by_name else "",
            headers=lines_for_worker(request),
            body=request.body,
            reply=reply,
            form=self._form,
        )
        if self._timed:
            pending.reply = TimedReply(reply, pending)
        self.pending = pending
        try:
            self._pool.submit(pending)
        except RequestError as error:
            reply.fail(error)

    def cancel(self) -> None:
        if self.pending is not None:
            self._pool.cancel(self.pending)
        if self._in_session is not None:
            self._in_session.cancel()
        self._let_go()

    def _let_go(self) -> None:
        if self._lease is not None:
            self._lease.cancel()

    def pause(self) -> None:
        if self.pending is not None:
            self._pool.pause(self.pending)

    def resume(self) -> None:
        if self.pending is not None:
            self._pool.resume(self.pending)


class TimedReply:
    """Adds Server-Timing: how long the request waited, and how long it was with a worker."""

    __slots__ = ("_pending", "_reply", "end", "fail", "write")

    def __init__(self, reply: Reply, pending: PendingRequest) -> None:
        self._reply, self._pending = reply, pending
        self.write, self.end, self.fail = reply.write, reply.end, reply.fail

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        now_s, pending = monotonic(), self._pending
        parts = (("queue", pending.sent_s - pending.queued_s), ("worker", now_s - pending.sent_s))
        timing = ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts)
        self._reply.start(status, content_type, headers + f"server-timing: {timing}\r\n".encode(), length)
