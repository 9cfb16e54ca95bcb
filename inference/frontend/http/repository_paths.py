"""The paths of a server that has a model repository: which model each asks, and what `/models` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from tidegate.inference.errors import BadRequest, NotFound, UpgradeRequired
from tidegate.inference.frontend.http.ask_named_model import AskNamedModel
from tidegate.inference.frontend.http.ask_repository import CHOICE, AskRepository
from tidegate.inference.frontend.http.peer import Upgrade
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import CHAT, CONVERSE, AtOnce, Responder, Route
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.frontend.http.waiting_socket import Application, WaitingSocket
from tidegate.inference.frontend.models.model_list import page
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.repository.choice import Selector, chosen, meant
from tidegate.inference.frontend.repository.report import VersionReport
from tidegate.inference.frontend.repository.repository import Answering, Repository
from tidegate.inference.protocol import Form

_CHAT = CHAT.split("/")[1:]


class RepositoryPaths:
    """Answers for a repository."""

    def __init__(
        self, repository: Repository, sessions: StatefulSessions | None, *, default: str | None, timed: bool
    ) -> None:
        """`default` is the model, or NAME/VERSION, of requests that name none."""
        self.repository = repository
        self._default = default
        self._sessions = sessions
        self._timed = timed
        self._list = Route(("GET",), lambda _: AtOnce(self._say))
        self._invoke = Route(("POST",), self.ask)
        self._chat = Route(("POST",), self._ask_chat)
        self.fixed = {"/invocations": self._invoke, CHAT: self._chat, "/models": self._list}

    def route(self, path: str) -> Route:
        """What is at a path that is none of the `fixed` ones. Raises `NotFound` and `UpgradeRequired`."""
        match path.split("/")[1:]:
            case ["models", name] if name:
                return self._list
            case ["models", name, "invoke"] if name:
                return self._invoke
            case ["models", name, "versions", version, "invoke"] if name and version:
                return self._invoke
            case ["models", name, *rest] if name and rest == _CHAT:
                return self._chat
            case ["models", name, "versions", version, *rest] if name and version and rest == _CHAT:
                return self._chat
            case [*_, last] if last == CONVERSE:
                raise UpgradeRequired(f"{path[:200]} is a WebSocket: GET it with 'Upgrade: websocket'.")
            case ["adapters", *_]:
                raise NotFound("There are no adapters here: put them into the model's archive, or publish a model.")
        raise NotFound(
            f"There is nothing at {path[:200]}; predictions are at POST /invocations and POST "
            "/models/NAME/versions/VERSION/invoke."
        )

    def talks(self, path: str) -> bool:
        """Whether a WebSocket may be opened at a path: a client of the platform chooses it, save what is another's."""
        match path.split("/")[1:]:
            case ["models", name, last] | ["models", name, "versions", _, last] if name and last == CONVERSE:
                return True
            case ["models" | "adapters" | "ping" | "metrics" | "execution-parameters", *_]:
                return False
        return path not in self.fixed

    def upgrade(
        self,
        application: Application,
        request: Request,
        converse: Callable[[Request, ModelPool, Mapping[str, str]], Upgrade],
    ) -> Upgrade:
        """The WebSocket that a request opens, by `converse`: at once, or when its model is loaded."""
        selector = meant(self.selector(request), self._default)

        def with_revision(answering: Answering) -> Upgrade:
            return converse(request, answering.pool, {CHOICE.decode(): answering.choice})

        answering = self.repository.find(selector)
        if answering is not None:
            return with_revision(answering)
        return WaitingSocket(application, self.repository, selector, with_revision, request.id)

    def selector(self, request: Request) -> Selector:
        """What a request itself says. Raises `BadRequest`."""
        if request.count(CHOICE) > 1:
            # Joined by a comma, as lists are, they would say other than either does.
            raise BadRequest("X-Amzn-SageMaker-Custom-Attributes comes more than once: put all of it into one header.")
        return chosen(request.path, request.header(CHOICE))

    def ask(self, request: Request, form: Form = Form.PLAIN) -> Responder:
        """The answer of the model that a request asks for. Raises `RequestError`."""
        return self._ask(self.selector(request), form)

    def _ask(self, selector: Selector, form: Form) -> Responder:
        selector = meant(selector, self._default)
        return AskRepository(self.repository, selector, self._sessions, timed=self._timed, form=form)

    def _ask_chat(self, request: Request) -> Responder:
        selector = self.selector(request)
        if selector.name is not None:
            return self._ask(selector, Form.CHAT)
        # Neither path nor header names one: the body does, as in all that OpenAI's clients send.
        return AskNamedModel(lambda name: self._ask(Selector(name or None, selector.version), Form.CHAT))

    # --- what is there

    def _say(self, request: Request) -> Response:
        self.repository.demand_listed()
        name = request.path.removeprefix("/models").removeprefix("/")
        if name:
            return json_response(self._entry(name))
        repository = self.repository
        listing = {"url": repository.url, "interval_s": repository.interval_s, "note": repository.note}
        names = repository.librarian.names()
        return json_response({**page(names, request.query, self._entry), "repository": listing})

    def _entry(self, name: str) -> dict[str, Any]:
        report = self.repository.librarian.report(name)
        return {
            "modelName": report.name,
            "modelUrl": f"{self.repository.url}/{report.name}",
            "reason": report.reason,
            "versions": [_version(version, self.repository.described(version.serving)) for version in report.versions],
        }


def _version(report: VersionReport, described: Mapping[str, object]) -> dict[str, Any]:
    last_used = None
    if report.last_used_s is not None:
        at = datetime.now(UTC) - timedelta(seconds=monotonic() - report.last_used_s)
        last_used = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "version": report.version,
        "labels": list(report.labels),
        "state": report.state,
        "reason": report.reason,
        "bytes": report.bytes,
        "last_used": last_used,
        "load_s": round(report.load_s, 3) if report.load_s is not None else None,
        **described,
    }
