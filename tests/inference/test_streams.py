"""Generators out of user functions: each chunk leaves when it is yielded, and the worker does other things between."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from queue import Queue
from threading import Event as Flag
from threading import current_thread
from typing import Any

import pytest
import torch

from tests.contract.running import wait_until
from tests.inference.toy_models import JSON, computation, request
from tests.inference.working import working
from tidegate.inference.protocol import Answer, Done, End, Error, Part, Start, Stream
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.collate import signature
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.open_stream import MAX_PART_BYTES

TEXT = "text/plain; charset=utf-8"


def streaming(generator: Callable[..., Any], **options: Any) -> Any:
    """A computation whose predict_fn returns what `generator` makes of the JSON body."""
    return computation(input_fn=lambda body, _: json.loads(body), predict_fn=lambda data, _: generator(data), **options)


def test_each_chunk_leaves_before_the_next_is_computed() -> None:
    go_on: Queue[str] = Queue()

    def chunks(_: Any) -> Iterator[str]:
        while chunk := go_on.get(timeout=60):
            yield chunk

    with working(streaming(chunks)) as frontend:
        frontend.ask(1)
        assert frontend.next() == Stream(1)
        assert isinstance(frontend.next(), Done)
        go_on.put("one")
        assert frontend.next() == Start(1, 200, TEXT, b"")
        assert frontend.next() == Part(1, b"one")
        go_on.put("two")
        assert frontend.next() == Part(1, b"two")
        go_on.put("")
        assert frontend.next() == End(1)


@pytest.mark.parametrize("way", ["predict_fn", "output_fn", "transform_fn"])
def test_a_generator_may_come_from_each_function_with_a_type_of_its_own(way: str) -> None:
    def tokens(*_: Any) -> Any:
        return (token for token in ["a", b"b", bytearray(b"c")]), "text/event-stream"

    functions: dict[str, Any] = {way: tokens}
    if way == "output_fn":
        functions["predict_fn"] = lambda data, _: data
    if way != "transform_fn":
        functions["input_fn"] = lambda body, _: body
    with working(computation(**functions)) as frontend:
        frontend.ask(1)
        events = [event for event in frontend.events(1) if not isinstance(event, Stream)]
    assert events == [Start(1, 200, "text/event-stream", b""), Part(1, b"a"), Part(1, b"b"), Part(1, b"c"), End(1)]


def test_output_fn_is_given_the_generator_once_and_may_be_one_itself() -> None:
    given: list[Any] = []

    def output_fn(prediction: Any, accept: str) -> Iterator[str]:
        given.append((type(prediction).__name__, accept))
        yield "<"
        for item in prediction:
            yield f"{item}"
        yield ">"

    toy = streaming(lambda data: (2 * each for each in data), output_fn=output_fn)
    with working(toy) as frontend:
        frontend.ask(1, [1, 2, 3], accept="text/plain")
        assert frontend.body(1) == b"<246>"
    assert given == [("generator", "text/plain")]


def test_output_fn_may_read_the_generator_and_return_a_whole_body() -> None:
    toy = streaming(lambda data: (2 * each for each in data), output_fn=lambda items, _: json.dumps(list(items)))
    with working(toy) as frontend:
        frontend.ask(1, [1, 2])
        assert frontend.next() == Answer(1, 200, JSON, b"", b"[2, 4]")


def test_status_type_and_headers_are_those_of_the_first_chunk() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    def chunks(data: Any) -> Iterator[str]:
        context.set_response_status(201)
        context.set_response_header(0, "X-Model", context.get_request_header(0, "x-tenant") or "")
        yield "a"
        context.set_response_status(500)
        yield "b"

    with working(streaming(chunks, context=context)) as frontend:
        frontend.ask(1, headers=b"x-tenant: seven\r\n")
        events = list(frontend.events(1))
    assert events[1:] == [Start(1, 201, TEXT, b"X-Model: seven\r\n"), Part(1, b"a"), Part(1, b"b"), End(1)]


def test_each_generator_finds_its_own_request_in_the_context() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    def chunks(data: int) -> Iterator[str]:
        for _ in range(3):
            yield f"{context.get_request_header(0, 'x-number')}{data} "

    toy = streaming(chunks, context=context)
    bodies: dict[int, bytes] = {1: b"", 2: b""}
    with working(toy) as frontend:
        frontend.compute(*(request(n, n, headers=b"x-number: %d\r\n" % n) for n in bodies))
        for _ in bodies:
            while not isinstance(event := frontend.next(), End):
                if isinstance(event, Part):
                    bodies[event.id] += event.data
    assert bodies == {1: b"11 11 11 ", 2: b"22 22 22 "}


# --- whose turn it is


def test_several_generators_are_asked_in_turn_in_one_thread() -> None:
    threads: set[int] = set()

    def chunks(data: int) -> Iterator[str]:
        for _ in range(3):
            threads.add(current_thread().ident or 0)
            yield str(data)

    with working(streaming(chunks)) as frontend:
        frontend.compute(request(1, 1), request(2, 2))
        parts: list[bytes] = []
        ended = 0
        while ended < 2:
            event = frontend.next()
            if isinstance(event, Part):
                parts.append(bytes(event.data))
            ended += isinstance(event, End)
    assert parts == [b"1", b"2"] * 3
    assert len(threads) == 1


def endless(_: Any) -> Iterator[str]:
    while True:
        yield "x"


@pytest.mark.parametrize("input_threads", [0, 1])
def test_a_batch_comes_between_two_chunks(input_threads: int) -> None:
    toy = streaming(lambda data: endless(data) if data == "endless" else data)
    with working(toy, input_threads=input_threads) as frontend:
        frontend.ask(1, "endless")
        frontend.until(Part)
        for number in range(2, 6):
            frontend.ask(number, [number])
            assert frontend.until(Answer) == Answer(number, 200, JSON, b"", b"[%d]" % number)
            assert isinstance(frontend.next(), Done)
            assert frontend.until(Part).id == 1


@pytest.mark.parametrize("input_threads", [0, 1])
def test_a_reader_that_leaves_ends_the_generator_at_once(input_threads: int) -> None:
    closed = Flag()

    def chunks(_: Any) -> Iterator[str]:
        try:
            yield from endless(_)
        finally:
            closed.set()

    toy = streaming(chunks)
    with working(toy, input_threads=input_threads) as frontend:
        frontend.ask(1)
        frontend.until(Part)
        frontend.cancel(1)
        frontend.ask(2, accept="text/plain")
        while (event := frontend.next()) == Part(1, b"x"):
            pass  # was on its way
        assert event == Stream(2)
        assert closed.is_set()
        assert len(toy.streams) == 1


def test_a_paused_generator_is_not_asked_until_it_is_resumed() -> None:
    asked: list[int] = []

    def chunks(_: Any) -> Iterator[str]:
        for number in range(1_000_000):
            asked.append(number)
            yield "x"

    with working(streaming(lambda data: chunks(data) if data == "endless" else data)) as frontend:
        frontend.ask(1, "endless")
        frontend.until(Part)
        frontend.pause(1)
        frontend.ask(2, [2])
        frontend.until(Answer)  # what came before it has been seen
        before = len(asked)
        frontend.ask(3, [3])
        assert frontend.until(Answer).id == 3
        assert len(asked) == before
        frontend.resume(1)
        while frontend.next() != Part(1, b"x"):
            pass
        wait_until(lambda: len(asked) > before, "it is asked again")


def test_a_generator_that_two_requests_are_given_is_the_first_ones_alone() -> None:
    held = Flag()

    def items() -> Iterator[str]:
        for number in range(4):
            held.wait(60)
            yield str(number)

    shared = items()
    with working(streaming(lambda _: shared)) as frontend:
        frontend.compute(request(b"1", 1), request(b"2", 2))
        events = []
        while not any(isinstance(event, End) for event in events):
            events.append(frontend.next())
            held.set()
    (error,) = [event for event in events if isinstance(event, Error)]
    assert (error.id, error.status) == (2, 500)
    assert error.message == "predict_fn gave two requests the same generator."
    assert b"".join(event.data for event in events if isinstance(event, Part)) == b"0123"


def test_a_batch_waits_for_one_item_however_many_streams_are_open_and_each_of_them_goes_on() -> None:
    held = Flag()

    def items(data: Any) -> Iterator[str]:
        while True:
            if data == "stream held":
                held.wait(60)
            yield "x"

    toy = streaming(lambda data: items(data) if isinstance(data, str) else data)
    with working(toy) as frontend:
        for number in (1, 2, 3):
            frontend.ask(number, "stream")
        frontend.ask(4, "stream held")
        while frontend.next() != Stream(4):
            pass
        for number in range(10, 30):
            frontend.ask(number, [number])
        held.set()
        frontend.until(Answer)
        between: list[list[int]] = [[]]
        while len(between) < 20:
            event = frontend.next()
            if isinstance(event, Answer):
                between.append([])
            elif isinstance(event, Part):
                between[-1].append(event.id)
        assert [len(parts) for parts in between[:-1]] == [1] * 19
        assert {id_ for parts in between for id_ in parts} == {1, 2, 3, 4}


def test_a_worker_holds_as_many_streams_as_it_may_and_rejects_one_more() -> None:
    toy = streaming(endless, max_streams=2)
    with working(toy) as frontend:
        for number in (1, 2):
            frontend.ask(number)
            frontend.pause(number)
        frontend.ask(3)
        error = frontend.until(Error)
        assert (error.id, error.status, error.code) == (3, 503, "overloaded")
        assert error.message == ("The worker has 2 open streams, and TIDEGATE_MAX_STREAMS_PER_WORKER allows no more.")
        frontend.cancel(1)
        frontend.ask(4)
        assert frontend.until(Stream) == Stream(4)


# --- how a stream ends


@pytest.mark.parametrize("chunks_before", [0, 1, 3])
@pytest.mark.parametrize("raised", [RuntimeError("secret"), SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
def test_an_error_is_an_ordinary_one_before_the_first_chunk_and_breaks_the_stream_after_it(
    chunks_before: int, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def chunks(_: Any) -> Iterator[str]:
        for _ in range(chunks_before):
            yield "x"
        raise raised

    with working(streaming(chunks)) as frontend:
        frontend.ask(1, headers=b"x-tidegate-request-id: id-7\r\n")
        events = list(frontend.events(1))
        frontend.ask(2)
        assert frontend.next() == Stream(2), "the worker goes on"
    # Python makes a RuntimeError of the StopIteration that a generator raises.
    kind = "RuntimeError" if isinstance(raised, StopIteration) else type(raised).__name__
    start = [Start(1, 200, TEXT, b"")] if chunks_before else []
    assert events == [
        Stream(1),
        *start,
        *[Part(1, b"x")] * chunks_before,
        Error(
            1,
            500,
            "handler_failed",
            f"predict_fn raised {kind}; the log has its traceback under this request id.",
        ),
    ]
    assert [vars(record)["request_id"] for record in caplog.records if "failed" in record.message][:1] == ["id-7"]


def test_a_generator_that_yields_nothing_is_an_empty_answer() -> None:
    with working(streaming(lambda _: iter(()))) as frontend:
        frontend.ask(1, accept="text/plain")
        assert list(frontend.events(1)) == [Stream(1), Start(1, 200, "text/plain", b"", 0), End(1)]


def test_empty_chunks_are_not_sent() -> None:
    with working(streaming(lambda _: iter(["", "a", ""]))) as frontend:
        frontend.ask(1)
        assert [event for event in frontend.events(1) if isinstance(event, Part)] == [Part(1, b"a")]


def test_an_exception_with_a_status_is_that_status_before_the_first_chunk() -> None:
    class TooLong(Exception):
        status_code = 422

    def chunks(_: Any) -> Iterator[str]:
        raise TooLong("The prompt is too long")
        yield ""

    with working(streaming(chunks)) as frontend:
        frontend.ask(1)
        error = frontend.error(1)
    assert (error.status, error.message) == (422, "The prompt is too long")


def test_a_chunk_that_cannot_be_sent_breaks_the_stream_and_closes_the_generator() -> None:
    closed = Flag()

    def chunks(*_: Any) -> Iterator[Any]:
        try:
            yield "x"
            yield {1, 2}
        finally:
            closed.set()

    with working(computation(transform_fn=chunks)) as frontend:
        frontend.ask(1)
        assert frontend.error(1).message.startswith("output_fn returned a set; it must return bytes, str, a tensor")
        assert closed.wait(60)


def test_a_status_without_a_body_is_an_error_for_a_stream() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    def chunks(_: Any) -> Iterator[str]:
        context.set_response_status(204)
        yield "x"

    with working(streaming(chunks, context=context)) as frontend:
        frontend.ask(1)
        error = frontend.error(1)
    assert error.message == "The handler set the status 204, which has no body, and returned a generator."


def test_what_is_raised_while_a_generator_is_closed_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def chunks(_: Any) -> Iterator[str]:
        try:
            yield from endless(_)
        finally:
            raise RuntimeError("no")

    toy = streaming(chunks)
    with working(toy) as frontend, caplog.at_level(logging.WARNING, "tidegate.worker"):
        frontend.ask(1)
        frontend.until(Part)
        frontend.cancel(1)
        wait_until(lambda: len(toy.streams) == 0 and bool(caplog.records), "it is closed")
    assert caplog.records[0].getMessage() == "closing the generator of predict_fn raised RuntimeError: no"


def test_a_generator_that_the_script_keeps_is_closed_all_the_same() -> None:
    kept: list[Any] = []

    def predict(_: Any) -> Any:
        kept.append(endless(_))
        return kept[-1]

    toy = streaming(predict, output_fn=lambda items, _: (item for item in items))
    with working(toy) as frontend:
        frontend.ask(1)
        frontend.until(Part)
        frontend.cancel(1)
        wait_until(lambda: next(kept[0], None) is None, "it is closed")


def test_all_generators_are_closed_when_the_frontend_hangs_up() -> None:
    closed: list[int] = []

    def chunks(data: int) -> Iterator[str]:
        try:
            yield from endless(data)
        finally:
            closed.append(data)

    with working(streaming(chunks)) as frontend:
        frontend.compute(request(1, 1), request(2, 2))
        frontend.until(Part)
    assert sorted(closed) == [1, 2]


# --- how large


def test_a_large_chunk_leaves_in_parts_and_can_be_paused_in_the_middle() -> None:
    size = 5 * MAX_PART_BYTES + 1
    toy = streaming(lambda _: iter([b"x" * size]), limit=size)
    with working(toy) as frontend:
        frontend.ask(1)
        parts = [event.data for event in frontend.events(1) if isinstance(event, Part)]
    assert [len(part) for part in parts] == [MAX_PART_BYTES] * 5 + [1]


def test_the_limit_of_answers_is_one_of_each_chunk_and_not_of_the_stream() -> None:
    with working(streaming(lambda _: iter([b"1234"] * 5 + [b"12345"]), limit=4)) as frontend:
        frontend.ask(1)
        *events, error = frontend.events(1)
    assert len([event for event in events if isinstance(event, Part)]) == 5
    assert isinstance(error, Error)
    assert error.message == "A chunk of the answer has 5 bytes; the limit is 4."


# --- joining


def test_a_stream_is_neither_compared_nor_joined() -> None:
    toy = computation(
        input_fn=lambda body, _: torch.tensor(json.loads(body)), predict_fn=lambda data, _: iter(data.tolist())
    )
    bodies = [[[float(n), 1.0]] for n in range(4)]
    for _ in range(5):
        found, done = ask(toy, [request(body, n) for n, body in enumerate(bodies)])
        assert [json.loads(answer.body) for answer in found if isinstance(answer, Answer)] == [b[0] for b in bodies]
        assert (done.joined, done.proved, done.sizes) == (0, 0, (1,) * 4)
    assert done.hopeless
    assert signature(torch.tensor(bodies[0])) is not None, "without the generator they would have been tried"


def test_a_declared_batch_that_is_a_generator_is_answered_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def predict_fn(data: Any, _: Any) -> Iterator[str]:
        sizes.append(len(data))
        return iter(f"{row}" for row in data.tolist())

    toy = computation(input_fn=lambda body, _: torch.tensor(json.loads(body)), predict_fn=predict_fn, joins=True)
    found, _ = ask(toy, [request([[n]], n) for n in range(3)])
    assert [answer.body for answer in found if isinstance(answer, Answer)] == [b"[0]", b"[1]", b"[2]"]
    assert sizes == [3, 1, 1, 1]
    assert "predict_fn returned a generator" in caplog.text


def test_a_large_answer_is_sent_in_parts_with_its_length_and_other_requests_go_between() -> None:
    body = bytes(range(250)) * 40_000
    functions = {"input_fn": lambda body, _: json.loads(body), "output_fn": lambda data, _: data}
    toy = computation(predict_fn=lambda data, _: body if data == "large" else b"small", limit=len(body), **functions)
    with working(toy) as frontend:
        frontend.ask(1, "large")
        assert frontend.next() == Stream(1)
        assert isinstance(frontend.next(), Done)
        assert frontend.next() == Start(1, 200, JSON, b"", len(body))
        frontend.pause(1)
        frontend.ask(2, "small")
        received = bytearray()
        while isinstance(event := frontend.next(), Part):
            received += event.data
        assert isinstance(event, Answer), "the paused one waits"
        assert len(received) < len(body)
        assert isinstance(frontend.next(), Done)
        frontend.resume(1)
        while isinstance(event := frontend.next(), Part):
            received += event.data
        assert event == End(1)
        assert received == body


def test_a_large_answer_is_sent_whole_where_there_is_no_place_for_one_more_stream() -> None:
    body = b"x" * (5 * 2**20)
    functions = {"input_fn": lambda body, _: json.loads(body), "output_fn": lambda data, _: data}
    toy = computation(
        predict_fn=lambda data, _: body if data == "large" else (chunk for chunk in iter(lambda: "x", "")),
        limit=len(body),
        max_streams=1,
        **functions,
    )
    with working(toy) as frontend:
        frontend.ask(1, "endless")
        assert frontend.next() == Stream(1)
        frontend.ask(2, "large")
        assert frontend.until(Answer).body == body
        frontend.cancel(1)
