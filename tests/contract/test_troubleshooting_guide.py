"""docs/guides/troubleshooting.md quotes what the server really says, and every row names a test that exists."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.claims import NAMED, missing_tests, page, rows, settings_in, unknown_settings
from tests.contract.running import Server, running
from tests.polling import until

PAGE = page("guides/troubleshooting.md")
HEADINGS = [
    "It does not start",
    "It answers with an error",
    "It is slow",
    "It takes too much memory",
    "The log",
    "A deployment or a job",
]

LOADS = "def model_fn(model_dir): return 2\n"
FAILS_TO_LOAD: dict[str, dict[str, str | bytes]] = {
    "nothing": {"notes.txt": "hello"},
    "weights": {},  # written by torch below
    "package": {"code/inference.py": "import nonesuch\n" + LOADS},
    "requirement": {"code/inference.py": LOADS, "code/requirements.txt": "nonesuch==1\n"},
    "pickled": {
        "code/inference.py": "import torch\ndef model_fn(model_dir): return torch.load(model_dir + '/model.pth')\n",
        "model.pth": pickle.dumps({"made by": print}, protocol=2),
    },
    "arguments": {"code/inference.py": LOADS + "def predict_fn(data): return data\n"},
    "name": {"code/inference.py": LOADS + "def ouput_fn(prediction, accept): return prediction\n"},
    "example": {
        "code/inference.py": LOADS + "def predict_fn(data, model): return data\n",
        "manifest.json": """
            {"format_version": 1, "files": {}, "example": {
              "request": {"file": "asked.json", "content_type": "application/json", "accept": "application/json"},
              "response": {"file": "answered.json", "content_type": "application/json"}}}""",
        "asked.json": "[1]",
        "answered.json": "[2]",
    },
}
ANSWERS_WITH_ERRORS = """
import json
import os
import time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(body, content_type):
    if content_type != "application/json":
        raise ValueError("send application/json")
    return json.loads(body)

def predict_fn(data, model):
    if data == "raise":
        raise RuntimeError("not for callers")
    if data == "die":
        os._exit(3)
    if data == "hang":
        (model / "hangs").touch()
        time.sleep(600)
    return data

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def quoted(heading: str) -> list[str]:
    """The sentences in the first column, without what is no sentence of the server."""
    first = [row[0] for row in rows(PAGE, heading)]
    return [match[1] for cell in first if (match := re.fullmatch(r"`(.+)`", cell))]


def is_said(sentence: str, said: list[str]) -> bool:
    pattern = re.compile(".*".join(re.escape(part) for part in sentence.split("…")), re.DOTALL)
    return any(pattern.search(each) for each in said)


@pytest.fixture(scope="module")
def many() -> Iterator[Server]:
    """A server to which models are sent one by one."""
    with running({}, SAGEMAKER_MULTI_MODEL="true", PIP_INDEX_URL="http://127.0.0.1:9", PIP_RETRIES="0") as server:
        yield server


def test_the_sentences_of_a_failed_start_are_those_of_the_page(many: Server, tmp_path: Path) -> None:
    said = []
    for name, files in FAILS_TO_LOAD.items():
        model_dir = tmp_path / name
        for file, content in files.items():
            path = model_dir / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
        if not files:
            model_dir.mkdir()
            torch.save(torch.nn.Linear(2, 1).state_dict(), model_dir / "model.pth")
        answer = many.request("POST", "/models", f'{{"model_name": "{name}", "url": "{model_dir}"}}')
        assert answer.status == 500, answer.body
        said.append(answer.error["message"])
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "serve", str(tmp_path / "name")],
        env={"TIDEGATE_WORKRES": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    said.append(done.stderr)
    sentences = quoted("It does not start")
    assert len(sentences) == len(said)
    assert [sentence for sentence in sentences if not is_said(sentence, said)] == []


def test_the_sentences_of_an_error_are_those_of_the_page() -> None:
    limits = {"TIDEGATE_TIMEOUT_S": "5", "TIDEGATE_MAX_BODY_BYTES": "1000", "TIDEGATE_QUEUE_SIZE": "1"}
    with running({"code/inference.py": ANSWERS_WITH_ERRORS}, TIDEGATE_WORKERS="1", **limits) as server:
        said = []

        def ask(body: bytes, content_type: str = "application/json") -> None:
            answer = server.post(body, content_type)
            said.append(f"{answer.status} {answer.error['message']}")

        for body in (b'"raise"', b'"die"', b'"' + b"a" * 1000 + b'"'):
            ask(body)
        ask(b"text", "text/plain")
        hanging = [threading.Thread(target=ask, args=(b'"hang"',)) for _ in range(4)]
        for thread in hanging[:1]:
            thread.start()
        until((server.model_dir / "hangs").exists, "a request hangs")
        for thread in hanging[1:]:
            thread.start()
        for thread in hanging:
            thread.join()
    sentences = [each for each in quoted("It answers with an error") if re.match(r"\d{3} .* .*", each)]
    assert len(sentences) == 6
    assert [sentence for sentence in sentences if not is_said(sentence, said)] == []


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_row_names_a_test(heading: str) -> None:
    assert [row for row in rows(PAGE, heading) if not NAMED.search(row[-1])] == []


def test_every_heading_of_the_page_is_looked_at() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == HEADINGS


def test_every_named_test_exists() -> None:
    assert missing_tests(PAGE) == []


def test_every_variable_on_the_page_is_a_setting() -> None:
    assert settings_in(PAGE)
    assert unknown_settings(PAGE) == []
