"""The `openai` package, unmodified, against the server itself and a script with a chat_fn."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.contract.running import running
from tests.ecosystem.environments import python_of

CHATTING = """
def model_fn(model_dir):
    return ["Good", " d", "ïy", " ☃"]

async def chat_fn(request, model):
    if request["messages"][-1]["content"] == "refuse":
        error = ValueError("I will not.")
        error.status_code = 400
        raise error
    for word in model:
        yield word
        if request["messages"][-1]["content"] == "break off":
            raise RuntimeError
    yield {"usage": {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}}
"""

ASK = """
import json, sys
import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)

def ask(content, **more):
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}], **more)

whole = ask("hello")
parts = list(ask("hello", stream=True, stream_options={"include_usage": True}))
seen = {
    "whole": [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.total_tokens],
    "parts": [part.choices[0].delta.content for part in parts if part.choices and part.choices[0].delta.content],
    "finish": [part.choices[0].finish_reason for part in parts if part.choices][-1],
    "usage": parts[-1].usage.total_tokens,
}
try:
    ask("refuse")
except openai.BadRequestError as error:
    seen["refused"] = error.message
try:
    for part in ask("break off", stream=True):
        seen["last"] = part.choices[0].delta.content
except Exception as error:
    seen["broken"] = type(error).__name__
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What the package saw."""
    python = python_of("openai")
    with running({"code/inference.py": CHATTING}) as server:
        done = subprocess.run(
            [str(python), "-P", "-c", ASK, f"http://127.0.0.1:{server.port}/v1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_answer_comes_whole_and_word_by_word(seen: dict[str, Any]) -> None:
    assert seen["whole"] == ["Good dïy ☃", "stop", 5]
    assert seen["parts"] == ["Good", " d", "ïy", " ☃"]
    assert (seen["finish"], seen["usage"]) == ("stop", 5)


def test_what_the_script_refuses_is_openais_own_error(seen: dict[str, Any]) -> None:
    assert "I will not" in seen["refused"]


def test_a_stream_that_breaks_off_does_not_look_whole(seen: dict[str, Any]) -> None:
    assert (seen["last"], seen["broken"]) == ("Good", "APIConnectionError")
