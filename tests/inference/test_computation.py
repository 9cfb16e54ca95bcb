"""One request through its functions: what they are given, what comes back, and whose mistake an error is."""

from __future__ import annotations

import csv
import io
import json
import logging
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from tests.inference.toy_models import JSON, answered, computation, outcomes, refused, request, values
from tests.inference.working import working
from tests.polling import until
from tidegate.inference.errors import BadRequest, OutOfMemory, UnsupportedMediaType
from tidegate.inference.protocol import Answer, Done, End, Error, Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.context import Context


def raising(error: BaseException) -> Any:
    def function(*_: Any) -> Any:
        raise error

    return function


# --- the road with the server's own functions


@pytest.mark.parametrize("name", ["input_fn", "predict_fn", "output_fn"])
def test_each_function_may_be_the_users_or_the_servers(name: str) -> None:
    own: dict[str, Any] = {
        "input_fn": lambda body, _: torch.tensor(json.loads(body)) + 1,
        "predict_fn": lambda data, model: model(data) + 1,
        "output_fn": lambda prediction, _: json.dumps((prediction + 1).tolist()),
    }
    toy = computation(model=torch.nn.Identity(), **{name: own[name]})
    assert json.loads(answered(toy, request([[1.0]])).body) == [[2.0]]


def test_a_model_predicts_without_gradients_and_on_its_own_device() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    seen: list[torch.Tensor] = []

    def output_fn(prediction: torch.Tensor, _: Any) -> bytes:
        seen.append(prediction)
        return b""

    toy = computation(model=model, output_fn=output_fn)
    answered(toy, request([[1.0, 2.0]]))
    assert seen[0].tolist() == [[3.0]]
    assert not seen[0].requires_grad


def test_an_npz_becomes_the_models_dict() -> None:
    file = io.BytesIO()
    np.savez(file, a=np.ones((1, 2)), b=np.zeros((1, 2)))
    toy = computation(model=lambda arrays: arrays["a"] + arrays["b"])
    answer = answered(toy, request(file.getvalue(), content_type="application/x-npz"))
    assert json.loads(answer.body) == [[1.0, 1.0]]


# --- what input_fn is given


@pytest.mark.parametrize(
    ("content_type", "body", "data", "given_type"),
    [
        ("application/json", b"[1]", "[1]", "application/json"),
        ("application/json; charset=utf-8", b"[1]", "[1]", "application/json"),
        ("Text/CSV; charset=latin-1", b"\xe9", "é", "text/csv"),
        ("text/csv", b"", "", "text/csv"),
        ("application/octet-stream", b"\xff", bytearray(b"\xff"), "application/octet-stream"),
        ("image/png", b"", bytearray(), "image/png"),
        ("application/jsonlines", b"1", bytearray(b"1"), "application/jsonlines"),
        ("text/plain; charset=utf-8", b"x", bytearray(b"x"), "text/plain; charset=utf-8"),
        ("", b"x", bytearray(b"x"), None),
    ],
)
def test_json_and_csv_come_as_str_and_everything_else_as_bytearray(
    content_type: str, body: bytes, data: Any, given_type: str | None
) -> None:
    seen: list[Any] = []

    def input_fn(*given: Any) -> None:
        seen.append(given)

    toy = computation(input_fn=input_fn, predict_fn=lambda *_: None, output_fn=lambda *_: b"")
    answered(toy, request(body, content_type=content_type))
    assert seen == [(data, given_type)]
    assert type(seen[0][0]) is type(data)


def test_text_that_is_not_in_its_charset_never_reaches_user_code() -> None:
    toy = computation(input_fn=raising(AssertionError()))
    error = refused(toy, request(b"\xff"))
    assert (error.status, error.message) == (400, "The body is not valid utf-8: byte 0 cannot be decoded.")


# --- what an answer may be

ECHO: dict[str, Any] = {"input_fn": lambda body, _: json.loads(body), "predict_fn": lambda data, _: data}


@pytest.mark.parametrize(
    ("returned", "body", "content_type"),
    [
        (b"bytes", b"bytes", "text/csv"),
        (bytearray(b"bytes"), b"bytes", "text/csv"),
        (memoryview(b"bytes"), b"bytes", "text/csv"),
        ("strümg", "strümg".encode(), "text/csv"),
        ({"a": [1]}, b'{"a": [1]}', "text/csv"),
        ((b"x", "image/png"), b"x", "image/png"),
        (("x", None), b"x", "text/csv"),
        ([b"x", "image/png"], None, None),
        ((1, 2, 3), b"[1, 2, 3]", "text/csv"),
        (None, b"null", "text/csv"),
    ],
)
def test_output_fn_may_return_what_the_aws_container_took(returned: Any, body: Any, content_type: Any) -> None:
    toy = computation(**ECHO, output_fn=lambda *_: returned)
    item = request([1], accept="text/csv")
    if body is None:
        assert refused(toy, item).message == (
            "output_fn returned a list; it must return bytes, str, a tensor or what JSON can hold "
            "(Object of type bytes is not JSON serializable)."
        )
    else:
        answer = answered(toy, item)
        assert (answer.status, answer.body, answer.content_type) == (200, body, content_type)


def test_a_tensor_from_output_fn_is_sent_as_torch_save_writes_it() -> None:
    toy = computation(**ECHO, output_fn=lambda *_: torch.ones(2))
    body = answered(toy, request([1])).body
    assert torch.load(io.BytesIO(body), weights_only=True).tolist() == [1, 1]


def test_output_fn_is_given_the_wanted_type_or_the_deployers_default() -> None:
    seen: list[str] = []

    def output_fn(_: Any, accept: str) -> bytes:
        seen.append(accept)
        return b""

    toy = computation(**ECHO, output_fn=output_fn)
    for accept in ("", "*/*", "text/csv;q=0.5, image/png", "application/json; charset=utf-8"):
        answered(toy, request([1], accept=accept))
    assert seen == [JSON, JSON, "image/png", "application/json; charset=utf-8"]


def test_the_default_output_takes_the_first_wanted_type_that_it_can_write() -> None:
    toy = computation(model=torch.nn.Identity())
    assert answered(toy, request([1.5], accept="text/html, text/csv;q=0.5")).body == b"1.5\n"
    error = refused(toy, request([1.5], accept="text/html"))
    assert (error.status, error.code) == (406, "not_acceptable")


def test_an_answer_over_the_limit_is_an_error_of_the_handler() -> None:
    toy = computation(**ECHO, output_fn=lambda *_: b"12345", limit=4)
    error = refused(toy, request([1]))
    assert (error.status, error.message) == (500, "The answer has 5 bytes; the limit is 4.")


# --- whose mistake


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no 'pixels'"),
        json.JSONDecodeError("no", "", 0),
        EOFError("no"),
        csv.Error("no"),
        UnidentifiedImageError("no"),
    ],
)
def test_a_body_that_input_fn_cannot_read_is_the_clients_mistake(error: Exception) -> None:
    found = refused(computation(input_fn=raising(error)), request([1]))
    assert (found.status, found.code) == (400, "bad_request")
    assert found.message.startswith("The body was refused: no")


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), RuntimeError("x"), SystemExit(3), KeyboardInterrupt()]
)
def test_any_other_error_of_input_fn_is_its_own(error: BaseException) -> None:
    found = refused(computation(input_fn=raising(error)), request([1]))
    assert (found.status, found.code) == (500, "handler_failed")


@pytest.mark.parametrize("function", ["predict_fn", "output_fn", "transform_fn"])
@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), SystemExit("secret")])
def test_an_error_behind_input_fn_is_a_500_that_keeps_its_text_to_the_log(
    function: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    toy = computation(model=torch.nn.Identity(), **{function: raising(error)})
    with caplog.at_level(logging.ERROR, "tidegate.worker"):
        found = refused(toy, request([1], headers=b"x-tidegate-request-id: id-7\r\n"))
    assert found.status == 500
    assert found.message == (
        f"{function} raised {type(error).__name__}; the log has its traceback under this request id."
    )
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[1] is error
    assert vars(record)["request_id"] == "id-7"


class ToolkitError(Exception):
    """As `sagemaker_inference.errors.GenericInferenceToolkitError`."""

    def __init__(self, status_code: Any, message: Any, phrase: str = "") -> None:
        super().__init__(status_code, message, phrase)
        self.status_code, self.message, self.phrase = status_code, message, phrase


@pytest.mark.parametrize("function", ["input_fn", "predict_fn", "output_fn", "transform_fn"])
def test_an_exception_with_a_status_code_is_answered_with_it(function: str) -> None:
    toy = computation(model=torch.nn.Identity(), **{function: raising(ToolkitError(422, "Too many pixels."))})
    found = refused(toy, request([1]))
    assert (found.status, found.code, found.message) == (422, "handler_refused", "Too many pixels.")


@pytest.mark.parametrize("status", [200, 302, 399, 600, 99999, -1, "422", None, True])
def test_a_status_code_that_is_no_error_does_not_count(status: Any) -> None:
    found = refused(computation(model=torch.nn.Identity(), predict_fn=raising(ToolkitError(status, "x"))), request([1]))
    assert (found.status, found.code) == (500, "handler_failed")


def test_a_status_code_without_a_message_says_what_the_exception_says() -> None:
    class Teapot(Exception):
        status_code = 418

    found = refused(computation(input_fn=raising(Teapot("short\nand stout."))), request([1]))
    assert (found.status, found.message) == (418, "short and stout")


def test_our_own_errors_keep_their_status_wherever_they_are_raised() -> None:
    toy = computation(input_fn=raising(UnsupportedMediaType("No.")), predict_fn=raising(BadRequest("No.")))
    assert refused(toy, request([1])).status == 415


def test_an_exception_that_cannot_be_shown_is_answered_all_the_same() -> None:
    class Unprintable(ValueError):
        def __str__(self) -> str:
            raise RuntimeError

    for function in ("input_fn", "predict_fn", "output_fn"):
        toy = computation(model=torch.nn.Identity(), **{function: raising(Unprintable())})
        assert refused(toy, request([1])).status in (400, 500)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("function", ["input_fn", "predict_fn", "output_fn", "transform_fn"])
def test_running_out_of_memory_alone_is_507(function: str, error: Exception) -> None:
    found = refused(computation(model=torch.nn.Identity(), **{function: raising(error)}), request([1]))
    assert (found.status, found.code) == (OutOfMemory.status, "out_of_memory")


def test_an_image_bomb_for_a_users_own_pillow_is_400() -> None:
    found = refused(computation(input_fn=raising(Image.DecompressionBombError("too large"))), request(b"", accept=""))
    assert found.status == 400


# --- transform_fn


def test_transform_fn_is_given_model_body_type_and_accept_and_its_result_is_the_answer() -> None:
    toy = computation(model="m", transform_fn=lambda *given: (json.dumps(given), "text/plain"))
    answer = answered(toy, request([1], accept="text/csv"))
    assert (json.loads(answer.body), answer.content_type) == (["m", "[1]", JSON, "text/csv"], "text/plain")


def test_transform_fn_answers_a_batch_one_by_one() -> None:
    toy = computation(transform_fn=lambda _, body, *__: {"got": json.loads(body)})
    assert values(toy, 1, 2, 3) == [{"got": 1}, {"got": 2}, {"got": 3}]


# --- the context: headers in, status and headers out


def with_context(act: Any) -> tuple[Any, Context]:
    context = Context(model_name="model", manifest={}, system_properties={"gpu_id": None})

    def output_fn(prediction: Any, accept: str) -> Any:
        act(context)
        return b"body"

    return computation(**ECHO, output_fn=output_fn, context=context), context


def test_user_code_reads_headers_in_any_case() -> None:
    seen: list[Any] = []

    def act(context: Context) -> None:
        seen.append(context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes"))
        seen.append(context.request_processor[0].get_request_property("Content-Type"))
        seen.append(context.get_all_request_header(0))
        seen.append(context.get_request_header(0, "absent"))
        seen.append(context.get_request_id())

    toy, _ = with_context(act)
    headers = b"x-amzn-sagemaker-custom-attributes: tenant=7: a\r\nx-tidegate-request-id: id-7\r\n"
    answered(toy, request([1], headers=headers))
    assert seen == [
        "tenant=7: a",
        JSON,
        {
            "x-amzn-sagemaker-custom-attributes": "tenant=7: a",
            "x-tidegate-request-id": "id-7",
            "content-type": JSON,
        },
        None,
        "id-7",
    ]


def test_a_header_with_utf8_in_it_is_one_header() -> None:
    """The second byte of 'Å' is 0x85, which Python takes for a line end: the rest would pose as a header of its own."""
    seen: list[Any] = []
    toy, _ = with_context(lambda context: seen.append(context.get_all_request_header(0)))
    value = "Åx-tidegate-request-id: forged\x0b\x0c\x1c"
    headers = b"x-tidegate-request-id: id-7\r\nx-name: " + value.encode() + b"\r\n"
    answered(toy, request([1], headers=headers))
    assert seen[0]["x-tidegate-request-id"] == "id-7"
    assert seen[0]["x-name"].encode("latin-1").decode() == value


def test_user_code_sets_status_type_and_headers() -> None:
    def act(context: Context) -> None:
        context.set_response_status(201, "Created")
        context.set_response_content_type(0, "text/plain")
        context.set_response_header(0, "X-Model", "a, b")
        context.request_processor[0].add_response_property("x-more", "1")

    toy, _ = with_context(act)
    assert answered(toy, request([1])) == Answer(1, 201, "text/plain", b"X-Model: a, b\r\nx-more: 1\r\n", b"body")


def test_a_header_called_content_type_sets_the_type() -> None:
    toy, _ = with_context(lambda context: context.set_response_header(0, "Content-Type", "text/plain"))
    answer = answered(toy, request([1]))
    assert (answer.content_type, answer.headers) == ("text/plain", b"")


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        ("x-a", "1\r\nset-cookie: b", b"x-a: 1 set-cookie: b\r\n"),
        ("x-a", "1\n\n<html>", b"x-a: 1 <html>\r\n"),
        ("x-a", "a\0b\x85c\x7f", b"x-a: a b c\r\n"),
        ("x-a: b\r\nx-c", "1", b"x-abx-c: 1\r\n"),
        ("x-é", "日", b"x-: ?\r\n"),
        ("x-a", 7, b"x-a: 7\r\n"),
    ],
)
def test_user_code_cannot_end_a_header_early(key: str, value: Any, headers: bytes) -> None:
    toy, _ = with_context(lambda context: context.set_response_header(0, key, value))
    assert answered(toy, request([1])).headers == headers


@pytest.mark.parametrize(
    "key", ["Content-Length", "transfer-encoding", "Connection", "Keep-Alive", "Upgrade", "content-type "]
)
def test_headers_that_frame_the_message_stay_the_servers(key: str) -> None:
    toy, _ = with_context(lambda context: context.set_response_header(0, key, "5"))
    assert answered(toy, request([1])).headers == b""


def test_a_header_without_a_name_is_an_error_of_the_handler() -> None:
    toy, _ = with_context(lambda context: context.set_response_header(0, "\r\n", "x"))
    assert refused(toy, request([1])).message == "The response header name '\\r\\n' is not one."


def test_a_content_type_cannot_end_its_line_either() -> None:
    toy = computation(**ECHO, output_fn=lambda *_: (b"x", "text/plain\r\nx-a: b"))
    assert answered(toy, request([1])).content_type == "text/plain x-a: b"


@pytest.mark.parametrize("status", [0, 100, 199, 600, 99999, -1])
def test_a_status_that_ends_no_request_is_an_error_of_the_handler(status: int) -> None:
    toy, _ = with_context(lambda context: context.set_response_status(status))
    if status == 0:
        assert answered(toy, request([1])).status == 200
    else:
        assert refused(toy, request([1])).message == (
            f"The handler set the status {status}; an answer has one from 200 to 599."
        )


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    toy, _ = with_context(lambda context: context.set_response_status(status))
    assert answered(toy, request([1])).body == b""


def test_what_one_request_sets_does_not_reach_the_next() -> None:
    toy, context = with_context(lambda context: context.set_response_header(0, "x-count", "1"))
    first, second = outcomes(toy, 1, 2)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert first.headers == second.headers == b"x-count: 1\r\n"
    assert len(context.request_processor) == 1


def test_half_a_surrogate_pair_that_a_client_sent_is_answered() -> None:
    def input_fn(body: str, _: Any) -> Any:
        raise ValueError(f"no label {json.loads(body)}")

    (outcome,), _ = ask(computation(input_fn=input_fn), [Request(1, JSON, "", b"", b'"\\ud800"')])
    assert outcome.status == 400


def test_an_empty_batch_has_no_answers() -> None:
    assert ask(computation(), [])[0] == []


# --- what is left of a batch


class Watched:
    """Makes values that functions may return, and knows which of them are still there."""

    def __init__(self) -> None:
        self._made: list[weakref.ref[Value]] = []

    def make(self, content: Any) -> Value:
        value = Value(content)
        self._made.append(weakref.ref(value))
        return value

    def alive(self) -> list[Any]:
        return [value.content for each in self._made if (value := each()) is not None]

    def __len__(self) -> int:
        return len(self._made)


class Value:
    def __init__(self, content: Any) -> None:
        self.content = content


def watched(watch: Watched, **others: Any) -> Computation:
    functions: dict[str, Any] = {
        "input_fn": lambda body, _: watch.make(("data", json.loads(body))),
        "predict_fn": lambda data, _: watch.make(("prediction", data.content[1])),
        "output_fn": lambda prediction, _: json.dumps(prediction.content[1]),
    }
    return computation(**functions | others)


def pieces(prediction: Value, _: str) -> Any:
    yield json.dumps(prediction.content)


async def awaited_pieces(prediction: Value, _: str) -> Any:
    yield json.dumps(prediction.content)


def failing(*_: Any) -> Any:
    raise BadRequest("No.")  # which is not logged: a line of the log has all that was at hand


@pytest.mark.parametrize("input_threads", [0, 2])
@pytest.mark.parametrize(
    ("others", "last"),
    [
        ({}, Answer),
        ({"output_fn": pieces}, End),
        ({"output_fn": awaited_pieces}, End),
        ({"output_fn": failing}, Error),
        ({"output_fn": lambda *_: bytes(2**23)}, End),
    ],
    ids=["answer", "stream", "asynchronous stream", "error", "large answer"],
)
def test_a_worker_that_waits_keeps_nothing_of_the_last_request(
    input_threads: int, others: dict[str, Any], last: type[Any]
) -> None:
    """It may wait for hours, and what it would keep may be most of its memory."""
    watch = Watched()
    toy = watched(watch, limit=2**24, **others)
    with working(toy, input_threads=input_threads) as frontend:
        frontend.ask(1, [1.0])
        events = list(frontend.events(1))
        assert isinstance(events[-1], last)
        until(lambda: len(watch) == 2 and watch.alive() == [])


@pytest.mark.parametrize("input_threads", [0, 2])
@pytest.mark.parametrize("joins", [None, True])
def test_nor_of_a_batch_whether_it_was_joined_or_only_tried(input_threads: int, joins: bool | None) -> None:
    """A proof has requests of its own, with tensors of their own."""
    made: list[weakref.ref[torch.Tensor]] = []

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        made.append(weakref.ref(tensor))
        return tensor

    toy = computation(
        input_fn=lambda body, _: seen(torch.tensor(json.loads(body))),
        predict_fn=lambda data, _: seen(data * 2),
        output_fn=lambda prediction, _: json.dumps(prediction.tolist()),
        joins=joins,
    )
    with working(toy, input_threads=input_threads) as frontend:
        frontend.compute(request([[1.0]], 1), request([[2.0]], 2))
        done = frontend.until(Done)
        assert (done.joined, done.proved) == ((1, 0) if joins else (0, 0)), done
        until(lambda: len(made) > 2 and not any(each() is not None for each in made))


@pytest.mark.parametrize("input_threads", [0, 2])
def test_what_led_to_an_answer_is_gone_before_the_next_request_of_the_frame_is_predicted(input_threads: int) -> None:
    """Up to 32 come together, and the tensors of all of them may be more than there is room for."""
    watch = Watched()
    seen: list[Any] = []

    def predict_fn(data: Value, _: Any) -> Value:
        seen.append(watch.alive())
        return watch.make(("prediction", data.content[1]))

    with working(watched(watch, predict_fn=predict_fn), input_threads=input_threads) as frontend:
        frontend.compute(request(1, 1), request(2, 2), request(3, 3))
        frontend.until(Done)
    assert seen[2] == [("data", 3)]
