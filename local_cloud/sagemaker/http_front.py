"""One thread that answers the short and ordinary requests of all connections, and gives away all others.

A request that asks one container one thing is most of the traffic, and nothing in it has to wait but for bytes: so no
thread waits. The caller's connection and those to the containers stay in one selector; whatever arrives is read, and
what can be sent is sent. With many requests at once this is several times as fast as a thread for each.

What is not as usual (a large body, chunks, another protocol, a caller that does not read, any request that ``begin``
does not want) takes its connection to a thread, with all that was read of it. Nothing here may wait.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tidegate.local_cloud.sagemaker.caller import Caller
from tidegate.local_cloud.sagemaker.container_answers import Answer, AnswerTooLarge, NoAnswer, NotTaken, TimedOut
from tidegate.local_cloud.sagemaker.container_client import ContainerClient, has_said, was_closed, was_reset
from tidegate.local_cloud.sagemaker.http_heads import UNUSUAL, Head, is_kept, read_head
from tidegate.local_cloud.sagemaker.http_messages import FAILURE, Request, Response, plain_bytes

logger = logging.getLogger(__name__)

_PIECE_BYTES = 262_144
_BODY_BYTES = 262_144  # a larger one is read by a thread
_PAUSE_S = 0.05  # where the process has no descriptor left for a connection
_NO_BODY = frozenset({"204", "304"})


class Begun(Protocol):
    """A request that has begun. One of its two ends must be called, and both return errors as answers."""

    @property
    def client(self) -> ContainerClient | None:
        """Whom to ask; None where :meth:`answer` must be called, in a thread."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the container is to be asked, with :attr:`body`."""

    @property
    def body(self) -> bytes: ...

    @property
    def timeout_s(self) -> float: ...

    @property
    def max_bytes(self) -> int:
        """How large the container's answer may be."""

    def elsewhere(self) -> ContainerClient | None:
        """Whom to ask instead, because :attr:`client` has not taken the request; None where nobody is left."""

    def answer(self, caller: Caller) -> Response: ...

    def finish(self, outcome: Answer | NoAnswer) -> Response: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A connection that a thread goes on with: sends what is ``unsent`` and ``answer``, then reads on."""

    connection: socket.socket
    received: bytes
    unsent: bytes = b""
    answer: Callable[[Caller], Response] | None = None


@dataclass(slots=True, eq=False)
class _Caller:
    connection: socket.socket
    received: bytearray = field(default_factory=bytearray)
    head: Head | None = None
    question: _Question | None = None
    is_read: bool = True


@dataclass(slots=True, eq=False)
class _Container:
    """A connection to a container: idle, or with a question."""

    connection: socket.socket
    client: ContainerClient
    question: _Question | None = None
    is_kept: bool = False
    """From an earlier question: the container may close it at any moment."""
    refused: OSError | None = None
    unsent: bytes = b""
    waits_to_send: bool = False
    received: bytearray = field(default_factory=bytearray)
    head: Head | None = None


@dataclass(slots=True, eq=False)
class _Question:
    begun: Begun
    caller: _Caller
    container: _Container
    deadline: float
    max_bytes: int


class Front:
    """:meth:`run` is the thread's work, until :meth:`stop`; ``take`` is given the connections that leave it."""

    def __init__(
        self,
        listener: socket.socket,
        begin: Callable[[Request], Begun | Response | None],
        take: Callable[[Taken], None],
        *,
        longest_body: int,
    ) -> None:
        """A longer body, in bytes, is for ``take``."""
        self._longest_body = min(longest_body, _BODY_BYTES)
        self._listener = listener
        self._begin = begin
        self._give = take
        self._selector = selectors.DefaultSelector()
        self._idle: dict[ContainerClient, list[_Container]] = {}
        self._questions: dict[_Question, None] = {}  # in their order, which is that of their deadlines
        self._stopping = False
        self._wake, self._woken = socket.socketpair()

    def run(self) -> None:
        for connection, act in ((self._listener, self._accept), (self._woken, lambda: None)):
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, act)
        while not self._stopping:
            ready = self._selector.select(self._left_s())
            # The containers first: a connection that one of them has closed is not to get a caller's question.
            ready.sort(key=lambda event: not isinstance(event[0].data, _Container))
            for key, events in ready:
                try:
                    match key.data:
                        case _Container():
                            self._hear_container(key.data, events)
                        case _Caller():
                            self._hear(key.data)
                        case act:
                            act()
                except Exception:
                    logger.exception("a connection broke")
                    self._drop(key.data)
            self._end_late_ones()

    def stop(self) -> None:
        """Ends :meth:`run` soon; from any thread."""
        self._stopping = True
        self._wake.send(b".")

    def close(self) -> None:
        """After the end of :meth:`run`: hangs up on everybody."""
        for question in list(self._questions):
            self._forget(question)
            question.begun.finish(NoAnswer("the local cloud has ended"))
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.data, _Caller | _Container):
                key.data.connection.close()
        self._selector.close()
        for connection in (self._listener, self._wake, self._woken):
            connection.close()

    # --- callers

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            logger.warning("a connection cannot be accepted: %s", error)
            time.sleep(_PAUSE_S)
            return
        connection.setblocking(False)
        with suppress(OSError):  # it has gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, _Caller(connection))

    def _hear(self, caller: _Caller) -> None:
        if not caller.is_read:  # it has just gone to a thread, or been closed
            return
        try:
            piece = caller.connection.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._leave(caller)
            return
        caller.received += piece
        if caller.question is None:
            self._read(caller)
        else:
            # The next request: whether this one is still wanted, nothing tells any more.
            self._selector.unregister(caller.connection)
            caller.is_read = False

    def _leave(self, caller: _Caller) -> None:
        """The caller has hung up: the container need not go on computing."""
        question, caller.question = caller.question, None
        self._hang_up(caller)
        if question is not None:
            self._forget(question)
            question.container.question = None
            self._close(question.container)
            question.begun.finish(NoAnswer("the caller has hung up"))

    def _read(self, caller: _Caller) -> None:
        """Begins the next request, if it is there."""
        while caller.question is None and caller.received:
            if caller.head is None:
                head = read_head(caller.received)
                if head is None:
                    break
                if head is UNUSUAL or head.length > self._longest_body or not _is_usual(head):
                    self._take(caller)
                    return
                caller.head = head
            if len(caller.received) < caller.head.end:
                break
            head, caller.head = caller.head, None
            method, target, _ = head.words
            body = bytes(caller.received[head.body_at : head.end])
            request = Request(
                method=method, path=target, headers=head.headers, body=body, caller=Caller(caller.connection)
            )
            try:
                begun = self._begin(request)
            except Exception:
                logger.exception("a request could not be begun")
                begun = FAILURE
            if begun is None:
                self._take(caller)
                return
            del caller.received[: head.end]
            if isinstance(begun, Response):
                self._answer(caller, begun)
            elif begun.client is None:
                self._take(caller, answer=begun.answer)
            else:
                self._ask(caller, begun, begun.client)

    def _answer(self, caller: _Caller, response: Response) -> None:
        message = plain_bytes(response)
        try:
            sent = caller.connection.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(caller)
            return
        if sent < len(message):
            self._take(caller, unsent=message[sent:])

    def _take(
        self, caller: _Caller, *, unsent: bytes = b"", answer: Callable[[Caller], Response] | None = None
    ) -> None:
        """Gives the connection to a thread."""
        if caller.is_read:
            self._selector.unregister(caller.connection)
            caller.is_read = False
        received = bytes(caller.received)
        caller.received.clear()
        caller.connection.setblocking(True)
        self._give(Taken(connection=caller.connection, received=received, unsent=unsent, answer=answer))

    def _hang_up(self, caller: _Caller) -> None:
        if caller.is_read:
            self._selector.unregister(caller.connection)
            caller.is_read = False
        caller.received.clear()
        caller.connection.close()

    # --- containers

    def _ask(self, caller: _Caller, begun: Begun, client: ContainerClient) -> None:
        try:
            container = self._connection_to(client)
        except OSError as error:  # the process has no descriptor left
            self._answer(caller, begun.finish(NoAnswer(f"{type(error).__name__}: {error}")))
            return
        deadline = time.monotonic() + begun.timeout_s
        question = _Question(begun, caller, container, deadline, begun.max_bytes)
        caller.question = question
        self._questions[question] = None
        self._put(question, container)

    def _put(self, question: _Question, container: _Container) -> None:
        """Puts a question to a container."""
        begun = question.begun
        head = [f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{container.client.port}\r\n"]
        head += [f"{name}: {value}\r\n" for name, value in begun.headers.items()]
        head.append(f"Content-Length: {len(begun.body)}\r\n\r\n")
        question.container, container.question = container, question
        container.unsent = "".join(head).encode() + begun.body
        if not container.waits_to_send:
            self._send(container)

    def _ask_again(self, question: _Question, refused: _Container) -> bool:
        """Whether a question that a container has not taken can be put to another one, or anew."""
        client = refused.client if refused.is_kept else question.begun.elsewhere()
        if client is None:
            return False
        try:
            container = self._connection_to(client, anew=refused.is_kept)
        except OSError:
            return False
        self._put(question, container)
        return True

    def _connection_to(self, client: ContainerClient, *, anew: bool = False) -> _Container:
        """One that is kept and idle, or else, and with ``anew``, one that is being made."""
        while not anew and (idle := self._idle.get(client)):
            container = idle.pop()
            if not was_closed(container.connection):
                return container
            self._close(container)
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        container = _Container(connection, client)
        # The next use of the connection fails where this does.
        code = connection.connect_ex(("127.0.0.1", client.port))
        container.refused = None if code in (0, errno.EINPROGRESS) else OSError(code, os.strerror(code))
        container.waits_to_send = True
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, container)
        return container

    def _send(self, container: _Container) -> None:
        try:
            sent = container.connection.send(container.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if has_said(container.connection):  # it has answered before it had read everything
                container.waits_to_send = False
                self._selector.modify(container.connection, selectors.EVENT_READ, container)
                return
            cause = container.refused or error
            self._fail(container, NotTaken(f"{type(cause).__name__}: {cause}"))
            return
        container.unsent = container.unsent[sent:]
        if bool(container.unsent) != container.waits_to_send:
            container.waits_to_send = bool(container.unsent)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if container.unsent else 0)
            self._selector.modify(container.connection, wanted, container)

    def _hear_container(self, container: _Container, events: int) -> None:
        if events & selectors.EVENT_WRITE and container.waits_to_send and container.question is not None:
            self._send(container)
        question = container.question
        if not events & selectors.EVENT_READ or container.connection.fileno() < 0:
            return
        try:
            piece = container.connection.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            kind = NoAnswer if container.received else NotTaken
            self._fail(container, kind(f"{type(error).__name__}: {error}"))
            return
        if not piece or question is None:
            is_unread = not container.received and (container.unsent or was_reset(container.connection))
            self._fail(container, (NotTaken if is_unread else NoAnswer)("the container closed the connection"))
            return
        container.received += piece
        if container.head is None:
            head = read_head(container.received)
            if head is None:
                return
            if head is UNUSUAL or head.words[0] != "HTTP/1.1" or not _has_body(head.words[1]):
                self._finish_in_thread(container, question)
                return
            container.head = head
            if head.length > question.max_bytes:
                self._fail(container, AnswerTooLarge(f"the answer is larger than {question.max_bytes} bytes"))
                return
        if len(container.received) >= container.head.end:
            self._end(container, container.head, question)

    def _end(self, container: _Container, head: Head, question: _Question) -> None:
        """The answer is whole."""
        body = bytes(container.received[head.body_at : head.end])
        answer = Answer(status=int(head.words[1]), headers=head.headers, body=body)
        good = is_kept(head.headers) and len(container.received) == head.end and not container.unsent
        self._forget(question)
        container.question = container.head = None
        container.received.clear()
        if good:
            container.is_kept = True
            self._idle.setdefault(container.client, []).append(container)
        else:
            self._close(container)
        self._reply(question, partial(question.begun.finish, answer))

    def _fail(self, container: _Container, failure: NoAnswer) -> None:
        question, container.question = container.question, None
        self._close(container)
        if question is None or (isinstance(failure, NotTaken) and self._ask_again(question, container)):
            return
        self._forget(question)
        self._reply(question, partial(question.begun.finish, failure))

    def _reply(self, question: _Question, answer: Callable[[], Response]) -> None:
        caller = question.caller
        caller.question = None
        try:
            response = answer()
        except Exception:
            logger.exception("a request could not be answered")
            response = FAILURE
        if not caller.is_read:
            caller.is_read = True
            self._selector.register(caller.connection, selectors.EVENT_READ, caller)
        self._answer(caller, response)
        self._read(caller)  # nothing, where the connection has gone

    def _finish_in_thread(self, container: _Container, question: _Question) -> None:
        """The answer is not as usual."""
        self._forget(question)
        self._selector.unregister(container.connection)
        container.question = question.caller.question = None
        received, begun = bytes(container.received), question.begun

        def answer(caller: Caller) -> Response:
            try:
                outcome: Answer | NoAnswer = ContainerClient.rest_of_answer(
                    container.connection,
                    received,
                    deadline=question.deadline,
                    max_bytes=question.max_bytes,
                    caller=caller,
                )
            except NoAnswer as error:
                outcome = error
            return begun.finish(outcome)

        self._take(question.caller, answer=answer)

    def _close(self, container: _Container) -> None:
        if container.connection.fileno() < 0:
            return
        self._selector.unregister(container.connection)
        container.connection.close()
        idle = self._idle.get(container.client)
        if idle is not None:
            with suppress(ValueError):
                idle.remove(container)
            if not idle:
                del self._idle[container.client]

    # --- time, and the unforeseen

    def _left_s(self) -> float | None:
        first = next(iter(self._questions), None)
        return None if first is None else max(0.0, first.deadline - time.monotonic())

    def _end_late_ones(self) -> None:
        while (first := next(iter(self._questions), None)) is not None and first.deadline <= time.monotonic():
            self._fail(first.container, TimedOut("the time for the answer ran out"))

    def _forget(self, question: _Question) -> None:
        self._questions.pop(question, None)

    def _drop(self, broken: object) -> None:
        """What is left of a connection at which something unforeseen happened."""
        with suppress(Exception):
            if isinstance(broken, _Caller):
                self._leave(broken)
            elif isinstance(broken, _Container):
                self._fail(broken, NoAnswer("the local cloud failed"))


def _is_usual(head: Head) -> bool:
    """Whether a request is one that can be answered here, as far as its head tells."""
    _, target, version = head.words
    plain = target.startswith("/") and target.isascii() and "%" not in target and "?" not in target
    return plain and version == "HTTP/1.1" and is_kept(head.headers)


def _has_body(status: str) -> bool:
    return len(status) == 3 and status.isascii() and status.isdigit() and status >= "200" and status not in _NO_BODY
