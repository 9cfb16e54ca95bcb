"""The server in front of SageMaker: what one thread answers for all, and what goes to threads, over real sockets."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.polling import until
from tidegate.local_cloud.sagemaker.caller import Caller
from tidegate.local_cloud.sagemaker.container_answers import Answer, NoAnswer, NotTaken, TimedOut
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.http_heads import UNUSUAL, Head, read_head
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.http_server import BodyLimit, HttpServer

LIMIT_S = 60.0
LARGE = 8 * 1024 * 1024  # more than the buffers of a connection take
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


HANGS_UP = b"hangs up"


class Container:
    """A server that answers each request with the next of ``answers``, and hangs up where there is none.

    With ``hold`` it answers none, and waits for the end of the connection. In the place of the answer :data:`HANGS_UP`
    it hangs up once a request has come, and does not read it.
    """

    def __init__(self, *answers: bytes, hold: threading.Event | None = None) -> None:
        self.answers = list(answers)
        self.hold = hold
        self.requests: list[bytes] = []
        self.connections = 0
        self.lost = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.client = ContainerClient(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else the thread that waits for a connection gets one more
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while (request := self._next(connection)) is not None:
                self.requests.append(request)
                if self.hold is not None:
                    # Nothing more is sent by the caller: what can be read is the end.
                    if not connection.recv(1):
                        self.lost.set()
                    self.hold.wait(LIMIT_S)
                    return
                if not self.answers:
                    return
                answer = self.answers.pop(0)
                for start in range(0, len(answer), 7) if len(answer) < 200 else (0,):
                    connection.sendall(answer[start : start + 7] if len(answer) < 200 else answer)
                if b"Content-Length" not in answer and b"chunked" not in answer:
                    return

    def _next(self, connection: socket.socket) -> bytes | None:
        if select.select([connection], [], [], LIMIT_S)[0] and self.answers[:1] == [HANGS_UP]:
            if connection.recv(1, socket.MSG_PEEK):
                self.answers.pop(0)
            return None
        return read_message(connection)


def read_message(connection: socket.socket) -> bytes | None:
    """A whole message with a Content-Length; None at the end of the connection."""
    received = b""
    while True:
        head = read_head(received)
        if isinstance(head, Head) and len(received) >= head.end:
            return received
        piece = connection.recv(65_536)
        if not piece:
            return None
        received += piece


@dataclass
class Question:
    """A request that asks ``container`` for what it says; keeps what came of it."""

    client: ContainerClient | None
    body: bytes
    timeout_s: float = LIMIT_S
    max_bytes: int = 1024
    headers: dict[str, str] = field(default_factory=lambda: {"Accept": "text/plain"})
    outcomes: list[Answer | NoAnswer] = field(default_factory=list)
    others: list[ContainerClient] = field(default_factory=list)

    def elsewhere(self) -> ContainerClient | None:
        self.client = self.others.pop(0) if self.others else None
        return self.client

    def answer(self, caller: Caller) -> Response:
        del caller
        return Response(status=200, body=b"from a thread")

    def finish(self, outcome: Answer | NoAnswer) -> Response:
        self.outcomes.append(outcome)
        if isinstance(outcome, NoAnswer):
            return Response(status=424, body=type(outcome).__name__.encode())
        return Response(status=outcome.status, headers={"X-Told": outcome.headers.get("x-told", "")}, body=outcome.body)


@dataclass
class Served:
    """A server with ``begin``, whose application says what it was given."""

    port: int
    seen: list[Request]

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S) as connection:
            yield connection

    def ask(self, body: bytes = b"hello", *, headers: str = "") -> bytes:
        """The body of the answer to one request on a connection of its own."""
        with self.connected() as connection:
            connection.sendall(post(body, headers))
            answer = read_message(connection)
        assert answer is not None
        return answer.partition(b"\r\n\r\n")[2]


def post(body: bytes, headers: str = "") -> bytes:
    return f"POST /it HTTP/1.1\r\nHost: here\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def served(begin: Callable[[Request], Question | Response | None]) -> Iterator[Served]:
    seen: list[Request] = []

    def application(request: Request) -> Response:
        seen.append(request)
        return Response(status=200, body=b"application %d" % len(request.body))

    limit = BodyLimit(max_bytes=2 * LARGE, response=Response(status=413))
    server = HttpServer(application, begin=begin, body_limit=limit, name="test")
    server.start()
    try:
        yield Served(server.port, seen)
    finally:
        server.close()


@contextmanager
def asking(container: Container, **settings: float) -> Iterator[tuple[Served, list[Question]]]:
    """A server each of whose requests asks the container; the questions."""
    questions: list[Question] = []

    def begin(request: Request) -> Question:
        questions.append(Question(container.client, request.body, **settings))  # type: ignore[arg-type]
        return questions[-1]

    with closing(container), served(begin) as server:
        yield server, questions


@pytest.mark.parametrize(
    ("received", "found"),
    [
        (b"", None),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n", None),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", ("/", 1)),
        (b"POST / HTTP/1.1\r\ncontent-LENGTH:\t 12 \r\nX: a:b\r\n\r\n", ("/", 12)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nX: a\r\n folded\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nX : a\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nX: a\nY: b\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nno colon\r\n\r\n", UNUSUAL),
        (b"POST / HTTP/1.1\nContent-Length: 1\n\n", UNUSUAL),
        (b"hello\r\n", UNUSUAL),
        (b"x" * 70_000, UNUSUAL),
    ],
)
def test_a_head_is_read_where_it_is_as_usual(received: bytes, found: object) -> None:
    head = read_head(received)
    assert (head.words[1], head.length) == found if isinstance(head, Head) else head is found


def test_the_container_gets_the_headers_and_the_body_and_its_answer_comes_back() -> None:
    container = Container(b"HTTP/1.1 201 Created\r\nX-Told: \xc3\xbc\r\nContent-Length: 2\r\n\r\nok")
    with asking(container) as (server, questions), server.connected() as connection:
        connection.sendall(post(b"hello"))
        answer = read_message(connection)
    assert answer == "HTTP/1.1 201 Created\r\nX-Told: ü\r\nContent-Length: 2\r\n\r\nok".encode("latin-1")
    head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{container.client.port}\r\nAccept: text/plain\r\n"
    assert container.requests == [f"{head}Content-Length: 5\r\n\r\nhello".encode()]
    assert len(questions[0].outcomes) == 1


def test_requests_that_come_in_bits_or_together_are_answered_in_their_order() -> None:
    with served(lambda request: Response(status=200, body=request.body)) as server, server.connected() as connection:
        for place in range(0, len(post(b"slow")), 9):
            connection.sendall(post(b"slow")[place : place + 9])
        connection.sendall(post(b"one") + post(b"two") + post(b"")[:20])
        connection.sendall(post(b"")[20:])
        received = b""
        while not received.endswith(b"Content-Length: 0\r\n\r\n"):
            received += connection.recv(4096)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"slow", b"one", b"two", b""]


def test_what_is_not_wanted_or_not_as_usual_goes_to_a_thread_and_the_connection_goes_on() -> None:
    with served(lambda _: None) as server:
        with server.connected() as connection:
            for _ in range(2):
                connection.sendall(post(b"hello"))
                assert (read_message(connection) or b"").endswith(b"application 5")
        assert server.ask(b"x" * LARGE) == b"application %d" % LARGE
        with server.connected() as connection:
            connection.sendall(post(b"later", "Expect: 100-continue\r\n").removesuffix(b"later"))
            assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"later")
            assert (read_message(connection) or b"").endswith(b"application 5")
        with server.connected() as connection:
            connection.sendall(b"hello\r\n")
            assert b"400" in connection.recv(4096)
        with server.connected() as connection:
            connection.sendall(b"POST /a%20b?c=d HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
            assert (read_message(connection) or b"").endswith(b"application 0")
    assert (server.seen[-1].path, server.seen[-1].query) == ("/a b", "c=d")


def test_a_request_that_has_begun_and_may_take_long_is_answered_by_a_thread() -> None:
    with served(lambda request: Question(None, request.body)) as server:
        assert server.ask() == b"from a thread"
    assert server.seen == []


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", b"until it closes"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (OK.replace(b"\r\n\r\n", b"\r\nSet: a\r\nSet: b\r\n\r\n"), b"ok"),
        (OK.replace(b"1.1", b"1.0"), b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, b"AnswerTooLarge"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000, b"AnswerTooLarge"),
        (b"", b"NoAnswer"),
        (b"HTTP/1.1 200 OK\r\n\r\n"[:9], b"NoAnswer"),
        (b"no HTTP at all\r\n\r\n", b"NoAnswer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", b"NoAnswer"),
    ],
)
def test_whatever_the_container_answers_ends_in_one_answer(answer: bytes, body: bytes) -> None:
    with asking(Container(answer, OK)) as (server, questions), server.connected() as connection:
        connection.sendall(post(b"hello"))
        assert (read_message(connection) or b"").endswith(b"\r\n\r\n" + body)
        assert len(questions[0].outcomes) == 1
        connection.sendall(post(b"again"))
        again = (read_message(connection) or b"").partition(b"\r\n\r\n")[2]
        assert again in (b"ok", b"application 5"), "the connection of the caller goes on, in a thread of its own or not"


def test_a_connection_to_the_container_is_used_again_until_the_container_closes_it() -> None:
    container = Container(OK, OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK)
    with asking(container) as (server, _):
        assert [server.ask() for _ in range(3)] == [b"ok"] * 3
        assert container.connections == 1
        assert server.ask() == b"ok"
        assert container.connections == 2


def test_a_request_that_a_container_has_not_taken_goes_to_another_one_and_one_that_it_has_read_does_not() -> None:
    refuses, hangs_up, reads = Container(), Container(HANGS_UP, HANGS_UP), Container(b"")
    refuses.close()
    good = Container(OK, OK)
    others: list[Container] = [hangs_up, refuses, good]
    questions: list[Question] = []

    def begin(request: Request) -> Question:
        questions.append(Question(refuses.client, request.body, others=[each.client for each in others]))
        return questions[-1]

    with ExitStack() as stack:
        for container in (hangs_up, reads, good):
            stack.enter_context(closing(container))
        server = stack.enter_context(served(begin))
        assert [server.ask(), server.ask()] == [b"ok", b"ok"]
        assert (hangs_up.requests, len(good.requests)) == ([], 2)
        others[:] = [reads, good]
        assert server.ask() == b"NoAnswer", "it may have been executed"
        assert (len(reads.requests), len(good.requests)) == (1, 2)
        others[:] = []
        assert server.ask() == b"NotTaken"
    assert "Connection refused" in str(questions[-1].outcomes[0])
    assert [len(question.outcomes) for question in questions] == [1] * 4


def test_a_kept_connection_that_the_container_closes_under_a_request_is_replaced_by_a_new_one() -> None:
    container = Container(OK, HANGS_UP, OK, OK)
    with asking(container) as (server, questions):
        assert [server.ask(), server.ask()] == [b"ok", b"ok"]
        assert (container.connections, len(container.requests)) == (2, 2)
        # So it is where a thread asks.
        client = ContainerClient(container.client.port)
        for said in ([OK, HANGS_UP, OK], [HANGS_UP]):
            container.answers[:] = said
            for _ in said[1:]:
                assert client.call("POST", "/invocations", headers={}, body=b"hello", timeout_s=LIMIT_S).body == b"ok"
        container.answers[:] = [HANGS_UP, HANGS_UP]
        with pytest.raises(NotTaken):
            client.call("POST", "/invocations", headers={}, body=b"hello", timeout_s=LIMIT_S)
        container.answers[:] = [b""]
        with pytest.raises(NoAnswer) as failure:
            client.call("POST", "/invocations", headers={}, body=b"hello", timeout_s=LIMIT_S)
        assert not isinstance(failure.value, NotTaken), "it may have been executed"
        client.close()
    assert [len(question.outcomes) for question in questions] == [1, 1]


def test_a_container_that_answers_before_it_has_read_everything_is_heard() -> None:
    class Early(Container):
        def _next(self, connection: socket.socket) -> bytes | None:
            if connection.recv(1):
                connection.sendall(OK.replace(b"200 OK", b"413 No"))
            return None

    with asking(Early()) as (server, _), server.connected() as connection:
        connection.sendall(post(b"x" * 200_000))
        assert (read_message(connection) or b"").startswith(b"HTTP/1.1 413 ")


def test_a_container_that_does_not_answer_in_time_is_hung_up_on() -> None:
    never = threading.Event()
    container = Container(hold=never)
    with asking(container, timeout_s=0.2) as (server, questions):
        assert server.ask() == b"TimedOut"
        until(container.lost.is_set, "the container learns of it")
        never.set()
    assert [type(outcome) for outcome in questions[0].outcomes] == [TimedOut]


def test_a_caller_that_leaves_takes_its_question_along() -> None:
    never = threading.Event()
    container = Container(hold=never)
    with asking(container) as (server, questions):
        with server.connected() as connection:
            connection.sendall(post(b"hello"))
            until(lambda: container.requests, "the container is asked")
        until(container.lost.is_set, "the container learns of it")
        until(lambda: questions[0].outcomes, "the question is given up")
        never.set()
    assert [type(outcome) for outcome in questions[0].outcomes] == [NoAnswer]


def test_a_caller_that_does_not_read_holds_up_nobody_and_loses_nothing() -> None:
    with served(lambda request: Response(status=200, body=request.body * (LARGE // 4))) as server, ExitStack() as stack:
        slow = [stack.enter_context(server.connected()) for _ in range(3)]
        for connection in slow:
            connection.sendall(post(b"slow") + post(b""))
        assert server.ask(b"") == b""
        for connection in slow:
            received = bytearray()
            while len(received) < LARGE or not received.endswith(b"application 0"):
                received += connection.recv(1024 * 1024)
            assert received.count(b"slow") == LARGE // 4


def test_many_callers_at_once_get_each_their_own_answer() -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d" % number for number in range(50)]
    with asking(Container(*answers), timeout_s=LIMIT_S) as (server, questions), ExitStack() as stack:
        callers = [stack.enter_context(server.connected()) for _ in answers]
        for number, connection in enumerate(callers):
            connection.sendall(post(b"%03d" % number))
        got = [(read_message(connection) or b"")[-3:] for connection in callers]
        assert sorted(got) == sorted(answer[-3:] for answer in answers)
        assert [len(question.outcomes) for question in questions] == [1] * 50


def test_a_failure_of_ours_is_one_answer_and_not_the_end() -> None:
    def begin(request: Request) -> Response | None:
        if request.body == b"break":
            raise LookupError("a fault of ours")
        return Response(status=200, body=b"good")

    with served(begin) as server:
        with server.connected() as connection:
            connection.sendall(post(b"break") + post(b"hello"))
            received = b""
            while not received.endswith(b"good"):
                received += connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 500 ")


def test_the_end_of_the_server_ends_what_is_under_way() -> None:
    never = threading.Event()
    container = Container(hold=never)
    with asking(container) as (server, questions):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S)
        connection.sendall(post(b"hello"))
        until(lambda: container.requests, "the container is asked")
    with connection:
        assert connection.recv(1) == b""
    never.set()
    assert [type(outcome) for outcome in questions[0].outcomes] == [NoAnswer]
