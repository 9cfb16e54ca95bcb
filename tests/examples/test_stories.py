"""examples/stories: the training as SageMaker runs it, and the functions called as a server calls them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.examples.loading import loaded, other_imports
from tests.examples.stories import CODE_DIR, STORIES, train
from tests.training_hooks.artifacts import manifest_of, mismatches


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory of one training."""
    return train(tmp_path_factory.mktemp("stories"))


@pytest.fixture(scope="module")
def handler() -> Iterator[ModuleType]:
    with loaded(CODE_DIR) as module:
        yield module


@pytest.fixture(scope="module")
def model(handler: ModuleType, trained: Path) -> Any:
    return handler.model_fn(str(trained))


def test_training_makes_an_archive_of_a_model_that_can_spell(trained: Path, handler: ModuleType, model: Any) -> None:
    """A verified artifact with an example, and stories of which nearly every word is one of the text's."""
    assert mismatches(trained) == []
    manifest = manifest_of(trained)
    assert manifest["metrics"]["validation_bits"] < 0.5
    assert manifest["batching"] is False
    assert {"code/inference.py", "code/story_net.py", "preprocessing.json"} <= set(manifest["files"])
    response = json.loads((trained / manifest["example"]["response"]["file"]).read_text())
    assert len(response["text"]) == 80

    known = words(subprocess.check_output([sys.executable, "-c", MAKE], cwd=STORIES, text=True))
    said = words("".join(text_of(handler, model, {"prompt": "Once upon a time", "seed": seed}) for seed in range(5)))
    assert len(said) > 100
    assert sum(word in set(known) for word in said) / len(said) > 0.9


MAKE = "from story_text import make_stories; print(make_stories(500, seed=7))"


def words(text: str) -> list[str]:
    return re.findall("[A-Za-z]+", text)


def text_of(handler: ModuleType, model: Any, request: dict[str, Any]) -> str:
    return "".join(handler.predict_fn(handler.input_fn(json.dumps(request), "application/json"), model))


def test_it_imports_nothing_of_ours() -> None:
    """The archive also runs where Tidegate is not installed: torch, the standard library and its own helper."""
    assert other_imports(CODE_DIR, {"torch", "story_net"}) == set()


def test_a_character_is_made_when_it_is_asked_for(
    handler: ModuleType, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later character exists before the first was given away: that is what makes it a stream."""
    steps = []
    real = handler._next
    monkeypatch.setattr(handler, "_next", lambda *given: steps.append(given[1]) or real(*given))
    pieces = handler.predict_fn(handler.input_fn("Once upon a time", "text/plain"), model)
    assert steps == []
    assert next(pieces) == " "
    assert steps == ["\nOnce upon a time"]
    second = next(pieces)
    assert len(second) == 1
    assert steps[1:] == [" "]


def test_a_seed_tells_the_same_story_again(handler: ModuleType, model: Any) -> None:
    """Each request has its chance for itself, so two stories in turns are the two that are told alone."""
    requests = [{"prompt": "Once", "seed": 1, "temperature": 1.2}, {"prompt": "Once", "seed": 2, "temperature": 1.2}]
    alone = [text_of(handler, model, each) for each in requests]
    assert alone[0] != alone[1]
    open_stories = [handler.predict_fn(handler.input_fn(json.dumps(r), "application/json"), model) for r in requests]
    told = ["", ""]
    for _ in range(3000):
        for number, story in enumerate(open_stories):
            told[number] += next(story, "")
    assert told == alone


def test_it_stops_where_it_was_told(handler: ModuleType, model: Any) -> None:
    assert len(text_of(handler, model, {"prompt": "Once", "max_characters": 7})) == 7


def test_each_type_holds_the_same_story(handler: ModuleType, model: Any) -> None:
    """Text and lines are generators, JSON is one body."""

    def told() -> Iterator[str]:
        yield from handler.predict_fn(handler.input_fn('{"prompt": "Once", "seed": 3}', "application/json"), model)

    text, text_type = handler.output_fn(told(), "text/plain")
    lines, lines_type = handler.output_fn(told(), "application/jsonlines")
    whole, whole_type = handler.output_fn(told(), "application/json")
    assert (text_type, lines_type, whole_type) == (
        "text/plain; charset=utf-8",
        "application/jsonlines",
        "application/json",
    )
    story = "".join(text)
    assert json.loads(whole) == {"text": story}
    pieces = list(lines)
    assert all(piece.endswith("\n") for piece in pieces)
    assert [json.loads(piece)["text"] for piece in pieces] == list(story)


def test_another_type_is_not_acceptable(handler: ModuleType) -> None:
    with pytest.raises(ValueError, match="not image/png") as caught:
        handler.output_fn(iter(()), "image/png")
    assert caught.value.status_code == 406


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        ("[]", "application/json", "a request is an object such as"),
        ('{"text": "Once"}', "application/json", "a request is an object such as"),
        ('{"prompt": "Once", "top_k": 4}', "application/json", "'top_k' is not one of prompt, max_characters"),
        ('{"prompt": "Once", "max_characters": 0}', "application/json", "whole number from 1 to 2000, not 0"),
        ('{"prompt": "Once", "max_characters": true}', "application/json", "whole number from 1 to 2000, not True"),
        ('{"prompt": "Once", "temperature": "hot"}', "application/json", "a number from 0 to 2, not 'hot'"),
        ('{"prompt": "Once", "temperature": NaN}', "application/json", "a number from 0 to 2, not nan"),
        ('{"prompt": "Once", "seed": -1}', "application/json", "seed must be a whole number"),
        ("x" * 2001, "text/plain", "the prompt has 2001 characters, more than 2000"),
        (bytearray(b"\xff"), "text/plain", "can't decode byte 0xff"),
        ("Once", "text/csv", "'text/csv' is neither application/json nor text/plain"),
        ("{", "application/json", "Expecting property name"),
    ],
)
def test_bad_requests_are_one_sentence(handler: ModuleType, body: Any, content_type: str, sentence: str) -> None:
    """They are found by input_fn, before a stream is begun."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        handler.input_fn(body, content_type)


def test_a_character_that_no_story_has(handler: ModuleType, model: Any) -> None:
    """Only the model knows its alphabet: the first step says so, which is still before the first byte."""
    with pytest.raises(handler.BadRequest, match="the prompt has '€'"):
        next(handler.predict_fn(handler.input_fn("Once €", "text/plain"), model))
    assert handler.BadRequest.status_code == 400


def chat(handler: ModuleType, model: Any, content: Any, **options: Any) -> tuple[str, dict[str, Any]]:
    """The text of an answer, and what the last dict says."""
    request = {"model": "stories", "messages": [{"role": "user", "content": content}], "seed": 1, **options}
    *pieces, end = handler.chat_fn(request, model)
    return "".join(pieces), end


def test_the_chat_tells_of_the_animal_that_was_asked_for(handler: ModuleType, model: Any) -> None:
    """The answer is a story with its end, and counts its characters."""
    text, end = chat(handler, model, "Tell me of an owl, please!")
    assert text.startswith("Once upon a time there was an owl called ")
    assert end == {
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 26, "completion_tokens": len(text), "total_tokens": 26 + len(text)},
    }
    assert chat(handler, model, [{"type": "text", "text": "Tell me of"}, {"type": "text", "text": "an owl"}])[0] == text


def test_the_chat_stops_at_the_length_that_was_asked_for(handler: ModuleType, model: Any) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        for longest in (1, 3, 40, 41, 42, 45):
            text, end = chat(handler, model, "Anything.", **{name: longest})
            assert end["finish_reason"] == "length"
            assert len(text) == end["usage"]["completion_tokens"] == longest
            assert text.startswith("Once upon a time there was a bear called "[:longest])


@pytest.mark.parametrize("messages", [None, [], [{"role": "user"}], [{"role": "user", "content": 7}], ["text"], "text"])
def test_a_chat_without_words(handler: ModuleType, model: Any, messages: Any) -> None:
    with pytest.raises(handler.BadRequest, match="the last of the messages must have text"):
        next(handler.chat_fn({"messages": messages}, model))


def test_the_chat_checks_its_options(handler: ModuleType, model: Any) -> None:
    with pytest.raises(handler.BadRequest, match="temperature must be"):
        chat(handler, model, "A fox?", temperature=3)
    with pytest.raises(handler.BadRequest, match="stop is not read here"):
        chat(handler, model, "A fox?", stop=["."])


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-38, 1e-7, 1e-3])
def test_next_to_no_temperature_tells_the_story_of_none(handler: ModuleType, model: Any, temperature: float) -> None:
    coldest = chat(handler, model, "A fox?", temperature=0)
    assert chat(handler, model, "A fox?", temperature=temperature) == coldest
