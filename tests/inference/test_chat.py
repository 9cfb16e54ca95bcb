"""OpenAI's chat completions: what chat_fn is given, and what becomes of its words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.inference.toy_models import JSON, computation
from tests.inference.working import Frontend, working
from tidegate.inference.protocol import Answer, End, Error, Form, Part, Request, Start, Stream
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation

HELLO = {"role": "user", "content": "Hello"}


def chat_request(number: int = 1, body: bytes | None = None, **content: Any) -> Request:
    data = json.dumps({"messages": [HELLO], **content}).encode() if body is None else body
    return Request(number, JSON, "", b"x-tidegate-request-id: id-7\r\n", data, Form.CHAT)


def outcome(toy: Computation, request: Request) -> Answer | Error:
    (found,), _ = ask(toy, [request])
    return found


def whole(toy: Computation, **content: Any) -> Any:
    answer = outcome(toy, chat_request(**content))
    assert isinstance(answer, Answer), answer
    assert (answer.status, answer.content_type) == (200, JSON)
    return json.loads(answer.body)


def events(toy: Computation, **content: Any) -> list[Any]:
    answer = outcome(toy, chat_request(stream=True, **content))
    assert isinstance(answer, Answer), answer
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    *data, done, rest = answer.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in data]


def words(*said: Any) -> Any:
    def chat_fn(_: dict[str, Any], __: Any) -> Iterator[Any]:
        yield from said

    return chat_fn


async def asynchronous(_: dict[str, Any], __: Any) -> AsyncIterator[Any]:
    yield "Good"
    yield " day"


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
SAYING = pytest.mark.parametrize(
    "chat_fn", [lambda *_: "Good day", words("Good", " day"), asynchronous], ids=["str", "generator", "asynchronous"]
)


@SAYING
def test_the_words_are_one_json_object(chat_fn: Any) -> None:
    toy = computation(chat_fn=chat_fn)
    found = whole(toy, model="mine")
    toy.streams.close()
    assert found.pop("created") > 1_700_000_000
    assert found == {
        "id": "chatcmpl-id-7",
        "object": "chat.completion",
        "model": "mine",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Good day"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }


@SAYING
def test_or_an_event_each_where_the_client_asks_for_a_stream(chat_fn: Any) -> None:
    toy = computation(chat_fn=chat_fn)
    found = events(toy)
    toy.streams.close()
    assert {(event["id"], event["object"], event["model"]) for event in found} == {
        ("chatcmpl-id-7", "chat.completion.chunk", "model")
    }
    choices = [event["choices"][0] for event in found]
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Good day"
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


def test_a_last_dict_says_why_it_ended_and_what_was_used() -> None:
    toy = computation(chat_fn=words("Good", {"finish_reason": "length", "usage": USAGE}))
    found = whole(toy)
    assert (found["choices"][0]["finish_reason"], found["usage"]) == ("length", USAGE)
    *_, last = events(toy)
    assert (last["choices"][0]["finish_reason"], "usage" in last) == ("length", False)
    *others, usage = events(toy, stream_options={"include_usage": True})
    assert (usage["choices"], usage["usage"]) == ([], USAGE)
    assert all(event["usage"] is None for event in others)


@pytest.mark.parametrize("last", [(), ({"finish_reason": "length"},), ({"usage": None},)])
def test_where_there_is_no_usage_each_event_has_a_choice_whoever_asks_for_it(last: tuple[Any, ...]) -> None:
    toy = computation(chat_fn=words("Good", *last))
    for event in events(toy, stream_options={"include_usage": True}):
        assert event["choices"]
        assert event["usage"] is None


def test_no_word_at_all_is_an_empty_message() -> None:
    toy = computation(chat_fn=words())
    assert whole(toy)["choices"][0]["message"]["content"] == ""
    (only,) = events(toy)
    assert only["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_chat_fn_is_given_the_whole_request() -> None:
    given: list[Any] = []

    def chat_fn(request: dict[str, Any], model: Any) -> str:
        given.append((request, model))
        return "x"

    whole(computation(model="the model", chat_fn=chat_fn), temperature=0.5)
    assert given == [({"messages": [HELLO], "temperature": 0.5}, "the model")]


def test_each_word_leaves_before_the_next_is_made() -> None:
    with working(computation(chat_fn=words("a", "b"))) as frontend:
        frontend.compute(chat_request(stream=True))
        parts = [event for event in frontend.events(1) if isinstance(event, Part)]
    assert len(parts) == 3


@SAYING
def test_the_length_of_the_one_json_object_is_told_before_it(chat_fn: Any) -> None:
    """All of it is there when it begins; of events nobody knows how many will come."""
    with working(computation(chat_fn=chat_fn)) as frontend:
        frontend.compute(chat_request(stream=True))
        (begun,) = [event for event in frontend.events(1) if isinstance(event, Start)]
        assert begun.length is None
        frontend.compute(chat_request(2))
        match [event for event in frontend.events(2) if not isinstance(event, Stream)]:
            case [Answer() as answer]:
                assert json.loads(answer.body)
            case [Start() as start, Part() as part, End()]:
                assert start.length == len(part.data)
            case others:
                pytest.fail(str(others))


def test_the_json_of_a_str_takes_no_place_of_a_stream() -> None:
    toy = computation(chat_fn=lambda *_: "Good day", max_streams=0)
    assert whole(toy)["choices"][0]["message"]["content"] == "Good day"
    full = outcome(toy, chat_request(stream=True))
    assert isinstance(full, Error)
    assert full.status == 503


def test_an_error_is_an_ordinary_one_as_long_as_nothing_was_sent() -> None:
    def chat_fn(*_: Any) -> Iterator[str]:
        yield "a"
        raise RuntimeError

    def told(frontend: Frontend) -> list[Any]:
        return [event for event in frontend.events(1) if not isinstance(event, Stream)]

    with working(computation(chat_fn=chat_fn)) as frontend:
        frontend.compute(chat_request())
        (error,) = told(frontend)
        assert (error.status, error.message.split(";")[0]) == (500, "chat_fn raised RuntimeError")
        frontend.compute(chat_request(stream=True))
        start, part, broken = told(frontend)
        assert (type(start), type(part), type(broken)) == (Start, Part, Error)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (words(b"x"), "chat_fn yielded a bytes; it must yield str and, at the end, one dict."),
        (words({}, "x"), "chat_fn yielded something after the dict, which must be the last."),
        (words({"text": "x"}), "chat_fn yielded a dict with 'text'; it may have finish_reason and usage."),
        (words({"usage": object()}), "The usage that chat_fn yielded cannot be written as JSON"),
        (lambda *_: {"text": "x"}, "chat_fn returned a dict; it must return or yield str."),
    ],
)
def test_what_is_no_word_is_an_error_of_the_handler(said: Any, message: str) -> None:
    found = outcome(computation(chat_fn=said), chat_request())
    assert isinstance(found, Error)
    assert (found.status, found.code) == (500, "handler_failed")
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The body is not valid JSON: "),
        (b"[" * 100_000, "The body is not readable JSON: it is nested too deeply."),
        (b"\xff", "The body is not valid utf-8: byte 0 cannot be decoded."),
        (b"[]", "The body must be a JSON object with 'messages'."),
        (b"{}", "'messages' must be a list of at least one object."),
        (b'{"messages": []}', "'messages' must be a list of at least one object."),
        (b'{"messages": ["Hello"]}', "'messages' must be a list of at least one object."),
        (b'{"messages": [{}], "stream": "yes"}', "'stream' must be true or false."),
        (b'{"messages": [{}], "n": 2}', "'n' must be 1: a chat_fn gives one choice."),
    ],
)
def test_a_request_that_no_chat_fn_could_answer_is_400(body: bytes, message: str) -> None:
    found = outcome(computation(chat_fn=words()), chat_request(body=body))
    assert isinstance(found, Error)
    assert found.status == 400
    assert found.message.startswith(message)


def test_a_model_without_the_function_is_404_with_the_way_out() -> None:
    found = outcome(computation(), chat_request())
    assert isinstance(found, Error)
    assert (found.status, found.code) == (404, "not_found")
    assert found.message == (
        "This model has no chat_fn: define chat_fn(request, model) in code/inference.py to answer "
        "/v1/chat/completions, or ask /invocations."
    )


def test_chats_share_no_call_and_other_requests_beside_them_may() -> None:
    toy = computation(
        input_fn=lambda body, _: [json.loads(body)], predict_fn=lambda data, _: data, chat_fn=words("x"), joins=True
    )
    plain = [Request(number, JSON, "", b"", b"[%d]" % number) for number in (1, 2)]
    found, done = ask(toy, [chat_request(0), *plain, chat_request(3)])
    assert [type(each) for each in found] == [Answer] * 4
    assert (done.joined, sorted(done.sizes)) == (1, [1, 1, 2])
