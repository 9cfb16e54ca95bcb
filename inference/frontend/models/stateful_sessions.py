"""Stateful sessions, as AWS's hosting standards have them: begun, checked and ended here, used by the script.

    POST /invocations, body {"requestType": "NEW_SESSION"}     200 X-Amzn-SageMaker-New-Session-Id: ID; Expires=…Z
    POST /invocations, X-Amzn-SageMaker-Session-Id: ID         answered by the model; an ID that is not here is 400
    the same with the body {"requestType": "CLOSE"}            200 X-Amzn-SageMaker-Closed-Session-Id: ID

`NEW_SESSION` in the header before any other body begins a session and answers the body in it, as the text of the
InvokeEndpoint API has it. A session is a directory, which every worker of its model sees; it ends at the time that
its first answer named. Nothing of it is removed while a request is at work in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tidegate.inference.errors import BadRequest, DeploymentError, Overloaded
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.response import Response
from tidegate.inference.frontend.queue.reply import Failure, Reply
from tidegate.inference.frontend.temporary import new_folder
from tidegate.inference.protocol import SESSION_HEADER
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.sessions")

_SESSION_ID = SESSION_HEADER.encode()
NEW_SESSION, CLOSE = "NEW_SESSION", "CLOSE"
CONTROL_BYTES = 1024
"""The longest body that is looked at as one that begins or ends a session."""

_PREFIX = "tidegate-sessions-"


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One session of one model."""

    id: str
    model: str
    directory: Path
    expires_s: float
    """In seconds of the wall clock, because the client is told it."""
    requests: int = 0
    """At work in it now."""
    closed: bool = False

    @property
    def announcement(self) -> bytes:
        """The header line by which the platform and the client learn of it."""
        until = datetime.fromtimestamp(self.expires_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"x-amzn-sagemaker-new-session-id: {self.id}; Expires={until}\r\n".encode()


class StatefulSessions:
    """The sessions of this server. Raises `DeploymentError` where their place cannot be written."""

    def __init__(self, settings: Settings, now_s: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now_s = now_s
        self._sessions: dict[str, Session] = {}
        self._place = _new_place(settings.sessions_path)

    @property
    def root(self) -> Path:
        """Where each session has a directory that is called by its id."""
        return Path(self._place.name)

    def take(self, request: Request, reply: Reply, model: str) -> Reply | None:
        """Where the model's answer to `request` goes: to `reply` itself where it belongs to no session.

        None where the body begins or closes a session: that is answered here. Raises `RequestError`.
        """
        wanted = _request_type(request)
        if wanted == NEW_SESSION:
            session = self._begin(model)
            text = f"Session {session.id} created"
            Response(200, "text/plain", text.encode(), session.announcement).send(reply)
            return None
        name = request.header(_SESSION_ID)
        if wanted == CLOSE:
            if not name:
                raise BadRequest("Closing a session requires the X-Amzn-SageMaker-Session-Id header.")
            session = self._find(name, model)
            self._end(session)
            header = f"x-amzn-sagemaker-closed-session-id: {session.id}\r\n".encode()
            Response(200, "text/plain", f"Session {session.id} closed".encode(), header).send(reply)
            return None
        if not name:
            return reply
        is_new = name == NEW_SESSION
        session = self._begin(model) if is_new else self._find(name, model)
        request.set_header(_SESSION_ID, session.id.encode())
        session.requests += 1
        return SessionReply(self, session, reply, is_new=is_new)

    def left(self, session: Session, *, keep: bool) -> None:
        """A request is no longer at work in `session`, which ends now unless it is to be kept."""
        session.requests -= 1
        if not keep:
            self._end(session)
        else:
            self._remove_if_over(session)

    def _begin(self, model: str) -> Session:
        self.sweep()
        if len(self._sessions) >= self._settings.max_sessions:
            raise Overloaded(f"{self._settings.max_sessions} sessions are open, which is the limit.")
        name = str(uuid.uuid4())
        session = Session(
            id=name,
            model=model,
            directory=self.root / name,
            expires_s=self._now_s() + self._settings.session_expiration_s,
        )
        session.directory.mkdir()
        self._sessions[name] = session
        log.info("session begins", extra={"session": name, "model": model, "sessions": len(self._sessions)})
        return session

    def _find(self, name: str, model: str) -> Session:
        session = self._sessions.get(name)
        if session is not None and self._now_s() >= session.expires_s:
            self._end(session)
            session = None
        if session is None or session.model != model:
            raise BadRequest(f"There is no session '{name[:100]}': it has ended, or is of another model or instance.")
        return session

    def _end(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        session.closed = True
        self._remove_if_over(session)

    def _remove_if_over(self, session: Session) -> None:
        if session.closed and not session.requests:
            # In a thread: what a script has put there may be much.
            asyncio.get_running_loop().run_in_executor(
                None, partial(shutil.rmtree, session.directory, ignore_errors=True)
            )
            log.info("session is over", extra={"session": session.id, "model": session.model})

    def sweep(self) -> None:
        """End the sessions whose time is over. Called twice a second."""
        now_s = self._now_s()
        # In the order in which they end, since all are open equally long.
        while self._sessions and now_s >= (oldest := next(iter(self._sessions.values()))).expires_s:
            self._end(oldest)

    def forget(self, model: str) -> None:
        """End the sessions of a model that is unloaded."""
        for session in [each for each in self._sessions.values() if each.model == model]:
            self._end(session)

    def close(self) -> None:
        """Remove all of them with everything that is in them."""
        self._sessions.clear()
        self._place.cleanup()


class SessionReply:
    """The reply of a request in a session: announces a new one, which ends if its first request fails."""

    def __init__(self, sessions: StatefulSessions, session: Session, reply: Reply, *, is_new: bool) -> None:
        self._sessions = sessions
        self._session = session
        self._reply = reply
        self._unannounced = is_new
        self._at_work = True
        self.write = reply.write

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        """Pass on the head, with the announcement where the session is new and the request succeeded."""
        if self._unannounced and status < 400:
            self._unannounced = False
            headers += self._session.announcement
        self._reply.start(status, content_type, headers, length)

    def end(self) -> None:
        """Pass on the end."""
        self.cancel()
        self._reply.end()

    def fail(self, error: Failure) -> None:
        """Pass on the failure."""
        self.cancel()
        self._reply.fail(error)

    def cancel(self) -> None:
        """The request is over, or its client left. A session that no client was told of ends with it."""
        if self._at_work:
            self._at_work = False
            self._sessions.left(self._session, keep=not self._unannounced)


def _request_type(request: Request) -> str | None:
    """`NEW_SESSION` or `CLOSE` where the body asks for that, None for a body for the model. Raises `BadRequest`."""
    if not 0 < request.body.size <= CONTROL_BYTES or b"requestType" not in (body := request.body.whole()):
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "requestType" not in content:
        return None
    wanted = content["requestType"]
    if len(content) > 1 or wanted not in (NEW_SESSION, CLOSE):
        raise BadRequest('A body with a requestType is {"requestType": "NEW_SESSION"} or {"requestType": "CLOSE"}.')
    return str(wanted)


def _new_place(wanted: Path | None) -> tempfile.TemporaryDirectory[str]:
    """The sessions' own folder: in what was asked for, else in memory, else below the temporary directory."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it, which others cannot read
    parent = wanted or (shared if shared.is_dir() and os.access(shared, os.W_OK) else None)
    if parent is None:
        return new_folder("Sessions", _PREFIX)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise DeploymentError(
            f"Sessions cannot be kept in {parent} (SAGEMAKER_SESSIONS_PATH): {error.strerror}."
        ) from None
