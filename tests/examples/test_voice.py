"""examples/voice with a toy that calls loud windows speech; tests/ecosystem/voice has the real model."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.examples.loading import loaded, other_imports
from tests.examples.voice import (
    CODE_DIR,
    THEIR_EVENTS,
    TWO_SENTENCES,
    WINDOW_S,
    Toy,
    audio,
    make_archive,
    pieces,
)
from tests.training_hooks.artifacts import manifest_of, mismatches


@pytest.fixture(scope="module")
def handler() -> Iterator[ModuleType]:
    with loaded(CODE_DIR) as module:
        yield module


def events(handler: ModuleType, incoming: Any) -> list[tuple[str, float]]:
    """What a connection to the toy answers, each event with the window in which it lies."""
    answers = handler.stream_fn(incoming, SimpleNamespace(model=Toy()))
    return [(each["event"], round(each["at_s"] / WINDOW_S, 1)) for each in map(json.loads, answers)]


@pytest.mark.parametrize("size", [1, 333, 640, 1024, 4096, len(TWO_SENTENCES)])
def test_events_do_not_depend_on_how_the_audio_is_cut(handler: ModuleType, size: int) -> None:
    """Clients send 20 ms, or a whole sentence, or half a sample."""
    assert events(handler, [*pieces(TWO_SENTENCES, size), "end"]) == THEIR_EVENTS


def test_an_event_comes_while_the_client_still_sends(handler: ModuleType) -> None:
    """The start of speech is told with its first window, not at the end of the audio."""
    sent = []

    def incoming() -> Iterator[bytes]:
        for piece in pieces(TWO_SENTENCES, 1024):
            sent.append(piece)
            yield piece

    answers = handler.stream_fn(incoming(), SimpleNamespace(model=Toy()))
    assert json.loads(next(answers)) == {"event": "speech_start", "at_s": 0.32}
    assert len(sent) == 11
    assert json.loads(next(answers))["event"] == "speech_end"
    assert len(sent) < 45
    answers.close()


def test_a_short_pause_and_a_soft_place_belong_to_the_sentence(handler: ModuleType) -> None:
    spoken = audio((0.9, 5), (0, 8), (0.9, 5), (0.4, 40), (0.9, 5), (0, 20))
    assert events(handler, [spoken, "end"]) == [("speech_start", 0), ("speech_end", 63), ("audio_end", 83)]


def test_speech_to_the_end_of_the_audio_ends_there(handler: ModuleType) -> None:
    """Also where the client closes the connection and sends no "end"; the last half window counts."""
    expected = [("speech_start", 1), ("speech_end", 3.5), ("audio_end", 3.5)]
    spoken = audio((0, 1), (0.9, 2)) + bytes(512)
    assert events(handler, [spoken, "end"]) == expected
    assert events(handler, [spoken]) == expected


def test_nothing_said(handler: ModuleType) -> None:
    assert events(handler, ["end"]) == [("audio_end", 0)]


def test_text_is_no_audio(handler: ModuleType) -> None:
    with pytest.raises(handler.BadRequest, match='the only text message is "end"'):
        events(handler, ["hello"])


def test_two_connections_share_the_model_and_nothing_else(handler: ModuleType) -> None:
    """Their pieces arrive in turn, and each gets the events of its own audio."""
    model = SimpleNamespace(model=Toy())
    quiet, loud = (
        handler.stream_fn(iter([*pieces(data, 640), "end"]), model) for data in (bytes(40_960), TWO_SENTENCES)
    )
    answers: dict[int, list[str]] = {0: [], 1: []}
    for _ in range(10):
        for number, stream in enumerate((quiet, loud)):
            if (answer := next(stream, None)) is not None:
                answers[number].append(json.loads(answer)["event"])
    assert answers == {0: ["audio_end"], 1: [event for event, _ in THEIR_EVENTS]}


def test_a_recording_gets_the_same_events(handler: ModuleType) -> None:
    """As lines that are written while they are found, and as one list."""
    recording = handler.input_fn(bytearray(TWO_SENTENCES), "application/octet-stream")
    lines, lines_type = handler.output_fn(handler.predict_fn(recording, Toy()), "application/jsonlines")
    whole, whole_type = handler.output_fn(handler.predict_fn(recording, Toy()), "application/json")
    assert (lines_type, whole_type) == ("application/jsonlines", "application/json")
    assert [json.loads(line) for line in lines] == json.loads(whole)
    assert [each["event"] for each in json.loads(whole)] == [event for event, _ in THEIR_EVENTS]


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (bytearray(3), "application/octet-stream", "3 bytes, which are no whole number of 16-bit samples"),
        (bytearray(4), "audio/mpeg", "content type 'audio/mpeg' is not application/octet-stream"),
    ],
)
def test_bad_requests_are_one_sentence(handler: ModuleType, body: Any, content_type: str, sentence: str) -> None:
    with pytest.raises(handler.BadRequest, match=sentence):
        handler.input_fn(body, content_type)


def test_another_type_is_not_acceptable(handler: ModuleType) -> None:
    with pytest.raises(ValueError, match="not text/csv") as caught:
        handler.output_fn(iter(()), "text/csv")
    assert caught.value.status_code == 406


def test_it_imports_nothing_of_ours() -> None:
    assert other_imports(CODE_DIR, {"torch", "speech"}) == set()


def test_the_archive_holds_the_model_its_licence_and_an_answered_example(tmp_path: Path) -> None:
    make_archive(tmp_path)
    assert mismatches(tmp_path / "model") == []
    manifest = manifest_of(tmp_path / "model")
    assert {"model.pt", "LICENSE.silero-vad", "code/inference.py", "code/speech.py"} <= set(manifest["files"])
    assert (tmp_path / "model" / "LICENSE.silero-vad").read_text() == "MIT License"
    answered = json.loads((tmp_path / "model" / manifest["example"]["response"]["file"]).read_text())
    assert answered == [{"event": "audio_end", "at_s": 0.5}]
