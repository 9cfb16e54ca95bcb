"""An answer of whichever revision the repository has for a request: at once where it is loaded, else when it is.

Nothing is held while it waits but its body, and the request is told in time: it is granted its pool or refused.
"""

from __future__ import annotations

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.ask_model import AskModel
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import own_failure
from tidegate.inference.frontend.http.response import error_response
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.reply import Failure, Reply
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.repository import Answering, Repository
from tidegate.inference.protocol import Form

CHOICE = b"x-amzn-sagemaker-custom-attributes"


class AskRepository:
    """One request to a model of the repository; see `Responder` and `Waiter`."""

    __slots__ = ("_asked", "_epoch", "_form", "_found", "_reply", "_repository", "_request", "_selector", "_sessions",
                 "_timed")  # fmt: skip

    def __init__(
        self,
        repository: Repository,
        selector: Selector,
        sessions: StatefulSessions | None,
        *,
        timed: bool,
        form: Form = Form.PLAIN,
    ) -> None:
        """Before the body is read. Raises the error of a model that is loaded and takes no more."""
        self._repository = repository
        self._selector = selector
        self._sessions = sessions
        self._timed = timed
        self._form = form
        self._asked: AskModel | None = None
        self._request: Request | None = None
        self._reply: Reply | None = None
        self._epoch = repository.epoch
        self._found = repository.find(selector)
        if self._found is not None:
            self._found.pool.admit()

    @property
    def metrics(self) -> ModelMetrics:
        return self._found.pool.metrics if self._found is not None else self._repository.own_metrics

    @property
    def pending(self) -> PendingRequest | None:
        return self._asked.pending if self._asked is not None else None

    def begin(self, request: Request, reply: Reply) -> None:
        self._request, self._reply = request, reply
        if self._found is not None and self._epoch == self._repository.epoch:
            self.granted(self._found)
            return
        # It left while the body came, or is not loaded.
        self._found = self._repository.find(self._selector)
        if self._found is not None:
            self.granted(self._found)
        else:
            self._repository.want(self, self._selector)

    def granted(self, answering: Answering) -> None:
        """The revision is loaded: ask it."""
        request, reply = self._request, self._reply
        self._request = self._reply = None
        if request is None or reply is None:
            return
        self._found = answering
        self._asked = AskModel(answering.pool, self._sessions, timed=self._timed, form=self._form)
        told = TellingReply(reply, answering.choice, request)
        try:
            self._asked.begin(request, told)
        except RequestError as error:
            told.fail(error)
        except Exception:  # it may be somebody else's turn of the loop in which this was granted
            told.fail(own_failure(request))

    def refused(self, error: RequestError) -> None:
        """It cannot be had, or not in time."""
        reply, self._reply, self._request = self._reply, None, None
        if reply is not None:
            reply.fail(error)

    def cancel(self) -> None:
        self._request = self._reply = None
        if self._asked is not None:
            self._asked.cancel()
        else:
            self._repository.leave(self)

    def pause(self) -> None:
        if self._asked is not None:
            self._asked.pause()

    def resume(self) -> None:
        if self._asked is not None:
            self._asked.resume()


class TellingReply:
    """Says in the answer, and in an error in its place, which model and version gave it."""

    __slots__ = ("_choice", "_reply", "_request", "_started", "end", "write")

    def __init__(self, reply: Reply, choice: str, request: Request) -> None:
        self._reply, self._choice, self._request = reply, choice, request
        self._started = False
        self.write, self.end = reply.write, reply.end

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        self._started = True
        self._reply.start(status, content_type, with_choice(headers, self._choice), length)

    def fail(self, error: Failure) -> None:
        if self._started:
            self._reply.fail(error)
            return
        response = error_response(error, self._request.id, open_inference=self._request.open_inference)
        response._replace(headers=with_choice(response.headers, self._choice)).send(self._reply)


def with_choice(headers: bytes, choice: str) -> bytes:
    """Header lines with the one that names the choice; what the script says in that header itself stays behind it."""
    own = b""
    if CHOICE in headers.lower():
        lines = [line.partition(b":") for line in headers.split(b"\r\n") if line]
        own = b";".join(value.strip() for name, _, value in lines if name.strip().lower() == CHOICE)
        headers = b"".join(b"%b:%b\r\n" % (n, v) for n, _, v in lines if n.strip().lower() != CHOICE)
    said = choice.encode("latin-1", "replace") + (b";" + own if own else b"")
    return b"%b%b: %b\r\n" % (headers, CHOICE, said)
