"""The archive of examples/stories in the real server: streamed, whole, and as a chat."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.running import Server, running
from tests.examples.stories import train

STORY = {"prompt": "Once upon a time", "seed": 5}

GATE = '''

import time

_functions = predict_fn, chat_fn


def _gated(pieces):
    """After the first piece nothing is made until the gate is open; what has been made is noted."""
    for number, piece in enumerate(pieces):
        with open("made", "a") as made:
            made.write(f"{number}\\n")
        yield piece
        while not Path("gate").exists():
            time.sleep(0.005)


def predict_fn(data, model):
    return _gated(_functions[0](data, model))


def chat_fn(request, model):
    return _gated(_functions[1](request, model))
'''
"""Behind the example's own script: a gate that the test opens."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The archive after a short training: how well it spells is not asked here."""
    trained = train(tmp_path_factory.mktemp("stories"), "--stories", "200", "--epochs", "4")
    return {path.relative_to(trained).as_posix(): path.read_bytes() for path in trained.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def server(files: dict[str, bytes]) -> Iterator[Server]:
    with running(files) as server:
        yield server


@pytest.fixture
def gated(files: dict[str, bytes]) -> Iterator[Server]:
    """The same, with a gate behind the first piece. Without its manifest, which knows the script's hash."""
    script = files["code/inference.py"] + GATE.encode()
    with running({**files, "code/inference.py": script, "manifest.json": b"{}"}) as server:
        yield server


@contextlib.contextmanager
def asked(server: Server, path: str, request: dict[str, Any], **headers: str) -> Iterator[http.client.HTTPResponse]:
    """A response that has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(request), {"content-type": "application/json", **headers})
        yield connection.getresponse()


def story(server: Server, accept: str) -> str:
    return server.post(json.dumps(STORY), accept=accept).body.decode()


def made(server: Server) -> int:
    """How many pieces the model has made."""
    return len((server.model_dir / "made").read_text().splitlines())


@pytest.mark.parametrize(("accept", "first"), [("text/plain", b" "), ("application/jsonlines", b'{"text": " "}\n')])
def test_the_first_character_is_here_before_the_second_is_made(gated: Server, accept: str, first: bytes) -> None:
    """The model waits at the gate for this client, who has the first character already."""
    with asked(gated, "/invocations", STORY, accept=accept) as response:
        assert response.status == 200
        assert response.getheader("transfer-encoding") == "chunked"
        assert response.getheader("content-type").startswith(accept)
        assert response.read(len(first)) == first
        assert made(gated) == 1
        (gated.model_dir / "gate").touch()
        rest = response.read()
    assert len(rest) > 40
    assert made(gated) > 40


def test_the_story_is_the_same_streamed_and_whole(server: Server) -> None:
    """Text, lines and JSON are three forms of one story."""
    text = story(server, "text/plain")
    lines = [json.loads(line)["text"] for line in story(server, "application/jsonlines").splitlines()]
    whole = json.loads(story(server, "application/json"))["text"]
    assert len(text) > 40
    assert text == "".join(lines) == whole


def test_a_mistake_before_the_first_character_is_an_ordinary_answer(server: Server) -> None:
    """The alphabet is looked at in the generator's first step, and yet the status is 400."""
    for request in ({"prompt": "Once €"}, {"prompt": "Once", "temperature": 9}):
        reply = server.post(json.dumps(request), accept="text/plain")
        assert reply.status == 400
        assert "content-length" in reply.headers


def test_two_stories_at_once_do_not_mix(server: Server) -> None:
    """One worker tells both in turns; each is what it is alone."""
    requests = [{**STORY, "seed": seed} for seed in (5, 6)]
    with (
        asked(server, "/invocations", requests[0], accept="text/plain") as one,
        asked(server, "/invocations", requests[1], accept="text/plain") as other,
    ):
        texts = [one.read(), other.read()]
    assert texts == [server.post(json.dumps(each), accept="text/plain").body for each in requests]
    assert texts[0] != texts[1]


CHAT = {
    "model": "stories",
    "messages": [{"role": "user", "content": "Tell me of an owl."}],
    "seed": 5,
    "max_tokens": 60,
}


def events(body: bytes) -> list[str]:
    """The data of each server-sent event."""
    return [event.removeprefix("data: ") for event in body.decode().removesuffix("\n\n").split("\n\n")]


def test_a_chat_in_one_answer(server: Server) -> None:
    """OpenAI's JSON: the story, why it ended, and its characters as tokens."""
    reply = server.request("POST", "/v1/chat/completions", json.dumps(CHAT), {"content-type": "application/json"})
    assert reply.status == 200
    (choice,) = reply.json()["choices"]
    text = choice["message"]["content"]
    assert text.startswith("Once upon a time there was an owl called ")
    assert choice["finish_reason"] == "length"
    assert reply.json()["usage"] == {
        "prompt_tokens": 18,
        "completion_tokens": len(text),
        "total_tokens": 18 + len(text),
    }


def test_a_chat_as_events(server: Server, gated: Server) -> None:
    """The opening is here before the model makes a character; in the end it is the story of the one answer."""
    whole = server.request("POST", "/v1/chat/completions", json.dumps(CHAT), {"content-type": "application/json"})
    expected = whole.json()["choices"][0]["message"]["content"]
    with asked(gated, "/v1/chat/completions", {**CHAT, "stream": True}) as response:
        assert response.getheader("content-type").startswith("text/event-stream")
        first = b""
        while b"owl" not in first:
            first += response.read1()
        assert made(gated) == 1
        (gated.model_dir / "gate").touch()
        *pieces, done = events(first + response.read())
    assert done == "[DONE]"
    deltas = [json.loads(piece)["choices"][0] for piece in pieces if json.loads(piece)["choices"]]
    assert "".join(delta["delta"].get("content") or "" for delta in deltas) == expected
    assert deltas[-1]["finish_reason"] == "length"
