"""More than the server can do: it does what it can, refuses the rest at once, stays within its limits, and recovers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.asking import Asker, metric, post
from tests.contract.models import OBEDIENT
from tests.contract.running import Reply, Server, running, wait_until

CLIENTS = 120
ROUNDS = 15
BODY_BYTES = 1000

BRIEF = """
import json, time

def model_fn(model_dir):
    return None

def input_fn(input_data, content_type):
    return json.loads(input_data)

def predict_fn(data, model):
    time.sleep(0.002)
    return data
"""
"""Is busy for a moment with each request."""

HOLD = json.dumps({"wait_for": "release"}).encode()


def calls(server: Server) -> list[str]:
    path = server.model_dir / "calls"
    return path.read_text().splitlines() if path.exists() else []


def release(server: Server) -> None:
    (server.model_dir / "release").touch()


async def soon(condition: Callable[[], object], what: str) -> None:
    """Poll until something is so, while the clients of this loop go on."""
    await asyncio.to_thread(wait_until, condition, what)


def test_a_closed_loop_of_many_clients_gets_answers_and_503_and_nothing_else():
    with running({"code/inference.py": BRIEF}, TIDEGATE_QUEUE_SIZE="10") as server:
        replies, pings = asyncio.run(_closed_loop(server))
        assert len(replies) == CLIENTS * ROUNDS
        counted = Counter(reply.status for _, reply in replies)
        assert set(counted) == {200, 503}
        for sent, reply in replies:
            if reply.status == 200:
                assert reply.json() == sent
            else:
                assert reply.error["code"] == "overloaded"
                assert reply.headers["retry-after"] == "1"
        assert {reply.status for reply in pings} == {200}
        assert len(pings) > 4, "they were answered while the load went on"
        # What the server says that it did is what its clients saw.
        for status, count in counted.items():
            assert metric(server, "tidegate_responses_total", status=str(status)) == count
        assert metric(server, "tidegate_shed_total") == counted[503]
        assert metric(server, "tidegate_waiting") == metric(server, "tidegate_in_flight") == 0
        assert server.post(b"1").json() == 1


async def _closed_loop(server: Server) -> tuple[list[tuple[object, Reply]], list[Reply]]:
    """Every client asks again as soon as it is answered; beside them somebody asks how the server is."""
    replies: list[tuple[object, Reply]] = []
    pings: list[Reply] = []

    async def client(name: int) -> None:
        async with Asker(server.port) as asker:
            for turn in range(ROUNDS):
                sent = {"client": name, "turn": turn}
                replies.append((sent, await asker.post(json.dumps(sent).encode())))

    async def watch() -> None:
        while True:
            async with Asker(server.port) as asker:  # a new connection each time, as the platform's prober has
                pings.append(await asker.get("/ping"))
                metrics = await asker.get("/metrics")
                assert metrics.status == 200
                assert b"tidegate_waiting" in metrics.body
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(client(name) for name in range(CLIENTS)))
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    return replies, pings


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    limits = {
        "TIDEGATE_QUEUE_SIZE": "3",
        "TIDEGATE_MAX_BYTES_IN_FLIGHT": str(3 * BODY_BYTES),
        "TIDEGATE_SPOOL_THRESHOLD_BYTES": str(3 * BODY_BYTES),
        "TIDEGATE_MAX_CONNECTIONS": "40",
    }
    with running({"code/inference.py": OBEDIENT}, **limits) as server:
        yield server


@pytest.fixture
def busy(small: Server) -> Iterator[Server]:
    """The worker computes one request until `release`."""
    for name in ("calls", "release"):
        (small.model_dir / name).unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(small.post, HOLD)
        small.wait_until(lambda: calls(small), "the worker is busy")
        try:
            yield small
        finally:
            release(small)
            assert computing.result(timeout=60).status == 200


async def _asked_in(asker: Asker, framing: str) -> Reply:
    """Send the head of a POST and wait until the server asks for its body, or refuses it."""
    asker.send(f"POST /invocations HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n{framing}\r\n\r\n".encode())
    return await asker.reply()


async def _admitted(asker: Asker, framing: str) -> None:
    assert (await _asked_in(asker, framing)).status == 100


def test_the_queue_is_bounded_also_for_those_who_were_admitted_before_it_filled(busy: Server):
    """Between a request's headers and its body any number of others may have come."""

    async def test() -> list[Reply]:
        askers = [Asker(busy.port) for _ in range(20)]
        for asker in askers:
            await asker.open()
            await _admitted(asker, "content-length: 1")
        for asker in askers:
            asker.send(b"1")
        pending = [asyncio.ensure_future(asker.reply()) for asker in askers]
        await soon(lambda: metric(busy, "tidegate_waiting") == 3, "the queue is full")
        await soon(lambda: sum(reply.done() for reply in pending) == 17, "the others are refused at once")
        release(busy)
        replies = await asyncio.gather(*pending)
        for asker in askers:
            await asker.close()
        return replies

    replies = asyncio.run(test())
    assert Counter(reply.status for reply in replies) == {200: 3, 503: 17}
    assert {reply.headers["retry-after"] for reply in replies if reply.status == 503} == {"1"}


def _body() -> bytes:
    body = json.dumps({"text": "x" * (BODY_BYTES - len('{"text": ""}'))}).encode()
    assert len(body) == BODY_BYTES
    return body


def test_the_bodies_in_memory_are_bounded_by_what_their_clients_announce(busy: Server):
    """Ten clients announce a body each while none is there: those whose body would be too much are refused at once."""

    async def test() -> list[Reply]:
        askers = [Asker(busy.port) for _ in range(10)]
        for asker in askers:
            await asker.open()
        replies = [await _asked_in(asker, f"content-length: {BODY_BYTES}") for asker in askers]
        admitted = [asker for asker, reply in zip(askers, replies, strict=True) if reply.status == 100]
        for asker in admitted:
            asker.send(_body())
        release(busy)
        refused = [reply for reply in replies if reply.status != 100]
        replies = [*refused, *await asyncio.gather(*(asker.reply() for asker in admitted))]
        for asker in askers:
            await asker.close()
        return replies

    before = metric(busy, "tidegate_shed_total", reason="too_many_bytes")
    replies = asyncio.run(test())
    # What the worker computes is held too, so there is room for two of them.
    assert Counter(reply.status for reply in replies) == {200: 2, 503: 8}
    assert metric(busy, "tidegate_shed_total", reason="too_many_bytes") - before == 8
    _assert_overloaded(reply for reply in replies if reply.status == 503)
    busy.wait_until(lambda: _all_memory_is_free(busy), "all of it is free")


def test_the_bodies_in_memory_are_bounded_also_for_those_that_announce_no_length(busy: Server):
    """Ten chunked bodies are admitted while none is there; what then comes is more than all may hold together."""
    body = _body()

    async def test() -> list[Reply]:
        askers = [Asker(busy.port) for _ in range(10)]
        for asker in askers:
            await asker.open()
            await _admitted(asker, "transfer-encoding: chunked")
        for asker in askers:
            # All but the last byte, so that nobody is in the queue yet.
            asker.send(b"%x\r\n%b" % (BODY_BYTES, body[:-1]))
        pending = [asyncio.ensure_future(asker.reply()) for asker in askers]
        await soon(lambda: sum(reply.done() for reply in pending) >= 7, "what is too much is refused before its end")
        for asker, reply in zip(askers, pending, strict=True):
            if not reply.done():
                asker.send(body[-1:] + b"\r\n0\r\n\r\n")
        release(busy)
        replies = await asyncio.gather(*pending)
        for asker in askers:
            await asker.close()
        return replies

    replies = asyncio.run(test())
    counted = Counter(reply.status for reply in replies)
    assert set(counted) == {200, 503}
    assert 1 <= counted[200] <= 3
    _assert_overloaded(reply for reply in replies if reply.status == 503)
    busy.wait_until(lambda: _all_memory_is_free(busy), "all of it is free")


def _assert_overloaded(refused: Iterable[Reply]) -> None:
    for reply in refused:
        assert reply.error["code"] == "overloaded"
        assert "the requests at hand hold all the memory that they may" in reply.error["message"]
        assert reply.headers["retry-after"] == "1"


def _all_memory_is_free(server: Server) -> bool:
    """A body as large as all bodies may be together is admitted only when no byte of another one is held."""
    body = json.dumps({"text": "x" * (3 * BODY_BYTES - len('{"text": ""}'))}).encode()
    return server.post(body).status == 200


def test_the_memory_of_clients_who_left_is_free_again(small: Server):
    for name in ("calls", "release"):
        (small.model_dir / name).unlink(missing_ok=True)

    async def test() -> None:
        askers = [Asker(small.port) for _ in range(9)]
        for asker in askers:
            await asker.open()
        askers[0].send(post(HOLD))
        await soon(lambda: len(calls(small)) == 1, "the worker is busy")
        for asker in askers[1:4]:  # whole requests, which wait
            asker.send(post(b'{"left": 1}' + b" " * 500))
        await soon(lambda: metric(small, "tidegate_waiting") == 3, "three wait")
        for asker in askers[4:]:  # a part of a body; the queue is full, so these are refused with it
            asker.send(post(b" " * BODY_BYTES)[:-10])
        for asker in askers:
            await asker.reset()
        await soon(lambda: metric(small, "tidegate_waiting") == 0, "they are taken out of the queue")
        release(small)

    asyncio.run(test())
    small.wait_until(lambda: _all_memory_is_free(small), "all of it is free")
    assert not any("left" in call for call in calls(small)), "nobody computes for who has left"


def test_whoever_has_a_connection_is_served_while_no_more_are_taken(busy: Server):
    async def test() -> None:
        askers = [Asker(busy.port) for _ in range(39)]
        try:
            for asker in askers:
                await asker.open()
                assert (await asker.get("/ping")).status == 200
                asker.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n")
            for _ in range(10):
                async with Asker(busy.port) as one_too_many:
                    assert (await one_too_many.get("/ping")).status == 503
            for asker in askers:
                asker.send(b"\r\n")
                assert (await asker.reply()).status == 200
                assert (await asker.get("/ping")).status == 200
        finally:
            for asker in askers:
                await asker.close()

    asyncio.run(test())
    busy.wait_until(lambda: busy.ping() == 200, "there is room again")


def test_a_request_whose_deadline_passes_in_the_queue_is_503_and_is_never_computed():
    """Six requests that never end, and time for one or two of them: the others are told so and are not begun."""
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_TIMEOUT_S="3", TIDEGATE_MAX_QUEUE_WAIT_S="3") as server:
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda n: server.post(json.dumps({"spin": n})), range(6)))
        computed = [json.loads(call.partition(" ")[2])["spin"] for call in calls(server)]
        counted = Counter(reply.status for reply in replies)
        assert set(counted) == {503, 504}
        assert [replies[n].status for n in computed] == [504] * len(computed)
        assert counted[504] == len(computed)
        assert "waited longer than 3 s" in next(r for r in replies if r.status == 503).error["message"]
        server.wait_until(lambda: server.post(b'{"fine": 1}').status == 200, "it goes on")


def test_ping_and_metrics_answer_while_the_queue_is_full(busy: Server):
    async def test() -> None:
        askers = [Asker(busy.port) for _ in range(6)]
        for asker in askers:
            await asker.open()
            asker.send(post(b"1"))
        pending = [asyncio.ensure_future(asker.reply()) for asker in askers]
        await soon(lambda: sum(reply.done() for reply in pending) == 3, "the queue is full")
        for _ in range(20):
            assert await asyncio.to_thread(busy.ping) == 200
            assert await asyncio.to_thread(metric, busy, "tidegate_waiting") == 3
        release(busy)
        assert Counter(reply.status for reply in await asyncio.gather(*pending)) == {200: 3, 503: 3}
        for asker in askers:
            await asker.close()

    asyncio.run(test())


def test_requests_whose_clients_left_are_counted_by_how_far_they_had_come():
    with running({"code/inference.py": OBEDIENT}) as server:
        computing = server.socket()
        computing.sendall(post(HOLD))
        server.wait_until((server.model_dir / "calls").exists, "it is computed")
        waiting = [server.socket() for _ in range(3)]
        for client in waiting:
            client.sendall(post(b'{"never": "computed"}'))
        server.wait_until(lambda: metric(server, "tidegate_waiting") == 3, "the others wait")
        for client in (*waiting, computing):
            client.close()
        server.wait_until(lambda: metric(server, "tidegate_requests_abandoned_total") == 4, "all are counted")
        assert metric(server, "tidegate_requests_abandoned_total", state="waiting") == 3
        assert metric(server, "tidegate_requests_abandoned_total", state="computing") == 1
        (server.model_dir / "release").touch()
        assert server.post(json.dumps({"fine": 1})).status == 200
        assert "never" not in (server.model_dir / "calls").read_text()
        assert metric(server, "tidegate_responses_total") == 1
