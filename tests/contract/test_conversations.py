"""WebSockets to `stream_fn`, by clients that share no code with the server and by one that is in use."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import websockets.sync.client

from tests.contract.asking import metric
from tests.contract.models import ECHO
from tests.contract.running import Server, running, write_files
from tests.contract.talking import PATH, Refused, Talker
from tests.polling import AT_ONCE
from tests.raw_websocket import BINARY, CONTINUATION, PING, PONG, TEXT, frame, opening

CONVERSES = (
    AT_ONCE
    + """
import json, os, threading, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def predict_fn(data, model):
    while not (model / "release").exists():
        time.sleep(0.005)
    return data

def stream_fn(incoming, context):
    for message in incoming:
        if message == "fragments":
            yield "keeping them"
            yield from incoming.fragments()
        elif message == "where":
            yield json.dumps([context.path, context.query, context.get_request_header(0, "x-speaker"),
                              context.model.name, context.get_request_id(0)])
        elif message == "fail":
            raise ZeroDivisionError("secret")
        elif message == "refuse":
            error = ValueError("not that")
            error.status_code = 415
            raise error
        elif message == "flood":
            for number in range(100_000):
                write_at_once(context.model / "yielded", str(number))
                yield b"x" * 10_000
        elif message == "do not read":
            while not (context.model / "read").exists():
                time.sleep(0.005)
            yield "reading"
        elif message == "die":
            os.kill(os.getpid(), 9)
        elif message == "hang":
            time.sleep(600)
        elif message == "threads":
            yield str(threading.active_count())
        else:
            yield message
    yield "last words"
"""
)

ASYNCHRONOUS = """
import asyncio, threading

def model_fn(model_dir):
    return "the model"

async def stream_fn(incoming, context):
    async for message in incoming:
        if message == "fail":
            raise ZeroDivisionError("secret")
        if message == "threads":
            message = str(threading.active_count())
        await asyncio.sleep(0)
        yield message
    yield "last words"
"""

BOTH = pytest.mark.parametrize("script", [CONVERSES, ASYNCHRONOUS], ids=["thread", "loop"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_MAX_MESSAGE_BYTES="100000") as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[Server]:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_MAX_STREAMS_PER_WORKER="2") as server:
        yield server


@pytest.fixture(scope="module")
def lasting() -> Iterator[Server]:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_MAX_STREAMS_PER_WORKER="2") as server:
        yield server


@pytest.fixture
def shared(lasting: Server) -> Iterator[Server]:
    """As `own_server`, for those who leave nothing behind but the files that their conversations write and wait for."""
    yield lasting
    lasting.wait_until(lambda: open_ones(lasting) == 0, "nobody talks")
    for name in ("release", "yielded", "read"):
        (lasting.model_dir / name).unlink(missing_ok=True)


MIB = 1024 * 1024
FLOOD_BYTES = 100 * MIB


def open_ones(server: Server) -> float:
    return metric(server, "tidegate_conversations_open")


# --- messages


@BOTH
def test_a_client_that_is_in_use_hears_what_it_says(script: str) -> None:
    with running({"code/inference.py": script}) as server:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}{PATH}") as client:
            for message in ("text", b"bytes", "", "κόσμε", b"\xff" * 300_000):
                client.send(message)
                assert client.recv(timeout=60) == message
            client.ping().wait(60)
            assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert client.close_code == 1000
        server.wait_until(lambda: open_ones(server) == 0, "the conversation is over")


def test_text_and_binary_are_kept_apart_one_yield_is_one_frame(server: Server) -> None:
    with Talker(server) as talker:
        for message in ("a", b"a", "", b""):
            talker.say(message)
        assert [talker.hear() for _ in range(4)] == ["a", b"a", "", b""]


def test_fragments_are_joined_and_a_ping_between_them_is_answered_at_once(server: Server) -> None:
    with Talker(server) as talker:
        talker.say("one ", fin=False)
        talker.ping(b"?")
        assert talker.frame() == (PONG, True, b"?")
        talker.say("message", more=True)
        assert talker.hear() == "one message"


def test_fragments_are_kept_for_a_script_that_asks_for_them(server: Server) -> None:
    with Talker(server) as talker:
        talker.say("fragments")
        assert talker.hear() == "keeping them"
        talker.say("one ", fin=False)
        assert talker.frame() == (TEXT, False, b"one ")
        talker.say("message", more=True)
        assert talker.frame() == (CONTINUATION, True, b"message")


def test_frames_that_come_with_the_opening_are_heard(server: Server) -> None:
    with server.socket() as client:
        client.settimeout(60)
        client.sendall(opening() + frame(TEXT, b"early"))
        received = b""
        while b"early" not in received:
            received += client.recv(65536)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (PATH, [PATH, ""]),
        (f"{PATH}?voice=low&x=%20", [PATH, "voice=low&x=%20"]),
        ("/v2/talk?a", ["/v2/talk", "a"]),
        (f"/models/model{PATH}", [f"/models/model{PATH}", ""]),
    ],
)
def test_the_script_knows_the_path_the_query_and_the_headers_of_its_client(
    server: Server, path: str, found: list[str]
) -> None:
    with Talker(server, path, b"X-Speaker: me", b"X-Amzn-SageMaker-Inference-Id: mine") as talker:
        talker.say("where")
        assert json.loads(talker.hear()) == [*found, "me", "model", "mine"]


# --- before the accept


def test_a_model_without_stream_fn_refuses_before_it_accepts() -> None:
    with running({"code/inference.py": ECHO}) as server:
        with pytest.raises(Refused, match=r"404.*has no stream_fn\(incoming, context\)"):
            Talker(server)
        assert server.post(b"[1]").status == 200


def test_what_is_no_opening_is_refused_by_a_sentence(server: Server) -> None:
    headers = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
    reply = server.request("GET", PATH, headers=headers)
    assert (reply.status, reply.error["code"]) == (400, "bad_request")
    assert "Sec-WebSocket-Key" in reply.error["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_path_without_an_upgrade_says_what_it_is_for(server: Server, method: str) -> None:
    reply = server.request(method, PATH, b"" if method == "POST" else None)
    assert reply.status == 426
    assert reply.headers["upgrade"] == "websocket"
    assert "WebSocket" in reply.error["message"]


@pytest.mark.parametrize("path", ["/ping", "/metrics"])
def test_a_path_of_the_servers_own_ignores_the_offer(server: Server, path: str) -> None:
    with pytest.raises(Refused, match="200"):
        Talker(server, path)


def test_a_client_is_accepted_while_the_only_worker_computes(shared: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(shared.post, b"[1.5]")
        shared.wait_until(lambda: metric(shared, "tidegate_in_flight") == 1, "the worker computes")
        with Talker(shared) as talker:
            talker.say("hello")
            assert talker.hear() == "hello"
            (shared.model_dir / "release").touch()
            assert pending.result(60).json() == [1.5]


def test_one_more_than_the_limit_is_503_until_one_has_left(shared: Server) -> None:
    with Talker(shared) as first, Talker(shared):
        with pytest.raises(Refused, match=r"503.*2 streams and conversations on each worker"):
            Talker(shared)
        assert shared.ping() == 200
        first.close()
        shared.wait_until(lambda: _opens(shared), "there is a place")


def _opens(server: Server) -> bool:
    try:
        with Talker(server):
            return True
    except Refused:
        return False


# --- errors and ends


@BOTH
def test_an_exception_is_a_message_of_its_own_and_1011(script: str) -> None:
    with running({"code/inference.py": script}) as server, Talker(server) as talker:
        talker.say("fail")
        error = json.loads(talker.hear())["ModelStreamError"]
        code, reason = talker.farewell()
        assert (error["ErrorCode"], code) == ("handler_failed", 1011)
        assert error["Message"].startswith(reason[:50])
        assert "secret" not in error["Message"]
        assert "ZeroDivisionError: secret" in server.log()


def test_a_status_that_the_script_raises_is_the_code_that_means_it(server: Server) -> None:
    with Talker(server) as talker:
        talker.say("refuse")
        assert json.loads(talker.hear()) == {
            "ModelStreamError": {"ErrorCode": "handler_refused", "Message": "not that"}
        }
        assert talker.farewell() == (1003, "not that")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"x" * 100_001), 1009),
        (frame(TEXT, b"x" * 60_000, fin=False) + frame(CONTINUATION, b"x" * 60_000), 1009),
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(0x5, b"x"), 1002),
    ],
)
def test_a_client_that_breaks_a_rule_is_told_by_a_close(server: Server, sent: bytes, code: int) -> None:
    with Talker(server) as talker:
        talker.socket.sendall(sent)
        assert talker.farewell()[0] == code
    server.wait_until(lambda: open_ones(server) == 0, "the conversation is over")


def test_a_lost_worker_is_1011_for_its_clients_and_nothing_for_others(own_server: Server) -> None:
    with Talker(own_server) as one, Talker(own_server) as other:
        one.say("die")
        for talker in (one, other):
            assert json.loads(talker.hear())["ModelStreamError"]["ErrorCode"] == "worker_died"
            assert talker.farewell()[0] == 1011
    own_server.wait_until(lambda: _opens(own_server), "the successor takes clients")


def test_a_thread_that_hangs_is_1011_after_the_time_limit() -> None:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_TIMEOUT_S="0.5") as server, Talker(server) as talker:
        talker.say("hang")
        assert json.loads(talker.hear())["ModelStreamError"]["ErrorCode"] == "handler_timed_out"
        assert talker.farewell()[0] == 1011


@BOTH
def test_a_server_that_stops_lets_the_last_words_out_and_says_1001(script: str) -> None:
    with running({"code/inference.py": script}) as server, Talker(server) as talker:
        talker.say("hello")
        assert talker.hear() == "hello"
        server.process.send_signal(signal.SIGTERM)
        assert talker.hear() == "last words"
        assert talker.farewell() == (1001, "The server is stopping.")
        assert server.ended() == 0


def test_a_hanging_conversation_does_not_keep_the_server_from_stopping() -> None:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_DRAIN_TIMEOUT_S="1") as server, Talker(server) as talker:
        talker.say("hang")
        server.process.send_signal(signal.SIGTERM)
        assert talker.farewell()[0] == 1001
        assert server.ended() == 0


def test_a_connection_lives_for_its_time() -> None:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_MAX_CONVERSATION_S="1") as server, Talker(server) as talker:
        assert talker.hear() == "last words"
        code, reason = talker.farewell()
        assert code == 1001
        assert "connect again" in reason


def test_a_silent_client_is_pinged_and_given_up_when_it_does_not_answer() -> None:
    with running({"code/inference.py": CONVERSES}, TIDEGATE_PING_INTERVAL_S="4") as server, Talker(server) as talker:
        assert talker.frame() == (PING, True, b"")
        talker.socket.sendall(frame(PONG))
        assert talker.frame() == (PING, True, b"")
        server.wait_until(lambda: open_ones(server) == 0, "it is given up")
        assert metric(server, "tidegate_conversations_closed_total", code="1006") == 1


# --- backpressure


def test_a_client_that_does_not_read_pauses_the_generator(shared: Server) -> None:
    yielded = shared.model_dir / "yielded"

    def still() -> bool:
        before = yielded.read_text()
        shared.ping()
        return yielded.read_text() == before

    with Talker(shared) as talker:
        talker.say("flood")
        shared.wait_until(lambda: yielded.exists() and all(still() for _ in range(50)), "the generator waits")
        paused_at = int(yielded.read_text())
        assert paused_at < 5000
        frontend = psutil.Process(shared.process.pid).memory_info().rss
        for _ in range(paused_at + 500):
            assert talker.hear() == b"x" * 10_000
        assert psutil.Process(shared.process.pid).memory_info().rss - frontend < 64 * 1024 * 1024
    shared.wait_until(lambda: open_ones(shared) == 0, "the conversation is over")


def test_a_script_that_does_not_read_pauses_its_client(shared: Server) -> None:
    with Talker(shared) as talker:
        talker.say("do not read")
        assert flood(talker) < FLOOD_BYTES
        (shared.model_dir / "read").touch()
        talker.socket.settimeout(60)
        assert talker.hear() == "reading"
        assert talker.hear() == b"x" * 100_000
        talker.vanish()
    shared.wait_until(lambda: open_ones(shared) == 0, "the conversation is over")


def flood(talker: Talker) -> int:
    """Send until the server does not take more for a while; how much it took."""
    talker.socket.settimeout(4)
    for number in range(FLOOD_BYTES // 100_000):
        try:
            talker.say(b"x" * 100_000)
        except TimeoutError:
            return number * 100_000
    return FLOOD_BYTES


def test_a_worker_that_stands_still_pauses_its_clients(shared: Server) -> None:
    (worker,) = shared.workers()
    with Talker(shared) as talker:
        worker.suspend()
        try:
            before = psutil.Process(shared.process.pid).memory_info().rss
            assert flood(talker) < FLOOD_BYTES
            assert psutil.Process(shared.process.pid).memory_info().rss - before < 32 * MIB
        finally:
            worker.resume()
        talker.socket.settimeout(60)
        assert talker.hear() == b"x" * 100_000
        talker.vanish()
    shared.wait_until(lambda: open_ones(shared) == 0, "the conversation is over")


def test_half_a_message_is_refused_where_the_memory_for_bodies_is_taken() -> None:
    limits = {"TIDEGATE_MAX_BYTES_IN_FLIGHT": "100000", "TIDEGATE_SPOOL_THRESHOLD_BYTES": "100000"}
    with running({"code/inference.py": CONVERSES}, **limits) as server, Talker(server) as talker:
        talker.socket.sendall(frame(BINARY, b"x" * 200_000)[:150_000])
        code, reason = talker.farewell()
        assert code == 1013
        assert "memory" in reason


# --- many


@pytest.mark.parametrize("script", [CONVERSES, ASYNCHRONOUS], ids=["thread", "loop"])
def test_two_hundred_clients_that_vanish_leave_nothing(script: str) -> None:
    with running({"code/inference.py": script}, TIDEGATE_MAX_STREAMS_PER_WORKER="200") as server:
        (worker,) = server.workers()
        frontend = psutil.Process(server.process.pid)

        def threads() -> int:
            with Talker(server) as talker:
                talker.say("threads")
                return int(talker.hear())

        before = threads()
        server.wait_until(lambda: open_ones(server) == 0, "the first one is over")
        frontend_fds, worker_fds = frontend.num_fds(), worker.num_fds()

        def vanish(number: int) -> None:
            talker = Talker(server)
            talker.say("hello")
            if number % 3:
                assert talker.hear() == "hello"
            talker.say("half a message", fin=False)
            if number % 2:
                talker.socket.sendall(frame(TEXT, b"cut off")[:-3])
            talker.vanish()

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(vanish, range(200)))
        server.wait_until(lambda: open_ones(server) == 0, "all are over")
        server.wait_until(lambda: threads() <= before, "no thread is left")
        server.wait_until(
            lambda: frontend.num_fds() <= frontend_fds and worker.num_fds() <= worker_fds, "no descriptor is left"
        )
        assert [each.pid for each in server.workers()] == [worker.pid]
        assert metric(server, "tidegate_conversations_closed_total", code="1006") >= 200


def test_each_model_of_many_has_its_own_conversations(tmp_path: Path) -> None:
    write_files(tmp_path, {"talks/code/inference.py": CONVERSES, "silent/code/inference.py": ECHO})
    with running({}, SAGEMAKER_MULTI_MODEL="on") as server:
        for name in ("talks", "silent"):
            body = json.dumps({"model_name": name, "url": str(tmp_path / name)})
            assert server.request("POST", "/models", body, {"content-type": "application/json"}).status == 200
        with Talker(server, f"/models/talks{PATH}") as talker:
            talker.say("where")
            assert json.loads(talker.hear())[0] == f"/models/talks{PATH}"
            for path, status in ((f"/models/silent{PATH}", 404), (f"/models/nobody{PATH}", 404), (PATH, 404)):
                with pytest.raises(Refused, match=str(status)):
                    Talker(server, path)
            with ThreadPoolExecutor(1) as pool:
                pending = pool.submit(server.request, "DELETE", "/models/talks")
                assert talker.hear() == "last words"
                assert talker.farewell()[0] == 1001
                assert pending.result(60).status == 200


def test_plain_requests_are_answered_beside_conversations() -> None:
    with running({"code/inference.py": CONVERSES, "release": ""}) as server:

        def converse(number: int) -> None:
            with Talker(server) as talker:
                for _ in range(20):
                    talker.say(f"{number}")
                    assert talker.hear() == f"{number}"

        with ThreadPoolExecutor(12) as pool:
            talks = [pool.submit(converse, number) for number in range(8)]
            asked = [pool.submit(server.post, b"[1.5]") for _ in range(100)]
            assert {each.result(60).status for each in asked} == {200}
            for talk in talks:
                talk.result(60)


def test_the_frames_and_the_ends_are_counted(own_server: Server) -> None:
    with Talker(own_server) as talker:
        talker.say("a")
        talker.hear()
        assert open_ones(own_server) == 1
        talker.close(1000)
        talker.farewell()
    assert metric(own_server, "tidegate_conversation_frames_total", direction="received") == 1
    assert metric(own_server, "tidegate_conversation_frames_total", direction="sent") == 1
    own_server.wait_until(
        lambda: metric(own_server, "tidegate_conversations_closed_total", code="1000") == 1, "its end is counted"
    )
