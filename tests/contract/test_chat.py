"""OpenAI's path on a real socket: the words of chat_fn as its clients read them."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.contract.running import Server, running

CHATTING = """
import time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def predict_fn(data, model):
    return data

def chat_fn(request, model, context):
    content = request["messages"][-1]["content"]
    return "Good day" if content == "at once" else words(content, model)

def words(content, model):
    yield "Good"
    while content == "wait" and not (model / "go").exists():
        time.sleep(0.001)
    if content == "fail":
        raise RuntimeError
    yield " day"
    yield {"finish_reason": "length", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
"""
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": CHATTING}) as server:
        yield server


def body(content: str, **more: object) -> str:
    return json.dumps({"model": "mine", "messages": [{"role": "user", "content": content}], **more})


def test_the_words_are_one_json_object(server: Server) -> None:
    reply = server.request("POST", PATH, body("hello"), {"content-type": "application/json"})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    (choice,) = reply.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Good day"}
    assert choice["finish_reason"] == "length"
    assert reply.json()["usage"]["total_tokens"] == 3


@pytest.mark.parametrize("content", ["hello", "at once"])
def test_the_json_object_has_a_length_and_events_have_none(server: Server, content: str) -> None:
    """A function that yields is no different there from one that returns."""
    reply = server.request("POST", PATH, body(content))
    assert reply.json()["choices"][0]["message"]["content"] == "Good day"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert "transfer-encoding" not in reply.headers
    events = server.request("POST", PATH, body(content, stream=True))
    assert events.body.endswith(b"data: [DONE]\n\n")
    assert (events.headers.get("content-length"), events.headers["transfer-encoding"]) == (None, "chunked")


def test_or_events_each_of_which_comes_before_the_next_word_is_made(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", PATH, body("wait", stream=True), {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.getheader("content-type") == "text/event-stream"
        first = json.loads(response.readline().removeprefix(b"data: "))
        assert first["choices"][0]["delta"]["content"] == "Good"
        (server.model_dir / "go").touch()
        assert response.read().endswith(b"data: [DONE]\n\n")


def test_an_error_before_anything_was_sent_is_an_ordinary_one(server: Server) -> None:
    reply = server.request("POST", PATH, body("fail"))
    assert (reply.status, reply.error["code"]) == (500, "handler_failed")


def test_a_request_that_cannot_be_answered_is_400(server: Server) -> None:
    reply = server.request("POST", PATH, "{}")
    assert (reply.status, reply.error["message"]) == (400, "'messages' must be a list of at least one object.")


def test_other_requests_go_to_the_other_functions(server: Server) -> None:
    assert server.post("[1]").json() == [1.0]


def test_a_model_without_the_function_says_what_to_define() -> None:
    with running({"code/inference.py": "def model_fn(model_dir): return len"}) as server:
        reply = server.request("POST", PATH, body("hello"))
        assert reply.status == 404
        assert "chat_fn(request, model)" in reply.error["message"]
        assert server.request("GET", PATH).status == 405
