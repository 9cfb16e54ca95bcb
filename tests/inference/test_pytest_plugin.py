"""The fixture for other projects, in a project of its own that pytest really runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.polling import until

HANDLERS = """
import json, os

def model_fn(model_dir):
    return int(os.environ.get("FACTOR", "2"))

def input_fn(body, content_type):
    if content_type == "text/plain":
        print("the script saw", body)
        raise ValueError("a number is wanted")
    return json.loads(body)

def chat_fn(request, factor):
    for message in request["messages"]:
        yield message["content"] * factor

def predict_fn(number, factor):
    return number * factor

def output_fn(number, accept):
    return json.dumps(number), accept
"""
WRAPPER = """
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    for word in body.decode().split():
        yield word.encode()
"""
CONFTEST = 'pytest_plugins = ["tidegate.inference.pytest_plugin"]\n'
TESTS = """
from pathlib import Path

import pytest

def test_five_lines(serve_model):
    model = serve_model("model")
    answer = model.invoke([1, 2])
    assert answer.status == 200
    assert answer.json() == [1, 2, 1, 2]
    assert answer.headers["content-type"] == "application/json"

def test_a_file_is_sent_as_what_its_name_says(serve_model, tmp_path):
    (tmp_path / "five.json").write_text("5")
    assert serve_model("model").invoke(tmp_path / "five.json").text == "10"

def test_the_same_is_the_same_server_and_another_is_another(serve_model):
    assert serve_model("model") is serve_model(Path("model").absolute())
    tripled = serve_model("model", environment={"FACTOR": "3"})
    assert tripled.invoke(b"5", content_type="application/json", accept="application/json").json() == 15

def test_a_stream_comes_in_parts(serve_model):
    parts = serve_model("model", wrapper="wrapper.py").stream("one two three")
    assert b"".join(parts) == b"onetwothree"

def test_chat_is_asked_by_its_path(serve_model):
    asked = {"messages": [{"role": "user", "content": "ho"}]}
    answer = serve_model("model").invoke(asked, path="/v1/chat/completions")
    assert answer.json()["choices"][0]["message"]["content"] == "hoho"
    events = serve_model("model").stream({**asked, "stream": True}, path="/v1/chat/completions")
    assert b"hoho" in b"".join(events)

def test_a_refused_stream_raises(serve_model):
    with pytest.raises(AssertionError, match="400: .*a number is wanted"):
        list(serve_model("model").stream("no number"))

def test_a_variable_that_is_no_string_is_named(serve_model):
    with pytest.raises(TypeError, match="'FACTOR': 1}: names and values are strings; write 'FACTOR': '1'"):
        serve_model("model", environment={"FACTOR": 1})

def test_that_fails(serve_model):
    assert serve_model("model").invoke("no number").status == 200

def test_that_fails_and_asks_nobody(serve_model):
    assert False, "on purpose"

def test_of_a_model_that_does_not_load(serve_model):
    serve_model("broken")
"""
FAILED = ["test_that_fails", "test_that_fails_and_asks_nobody", "test_of_a_model_that_does_not_load"]
MARK = uuid.uuid4().hex
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints of the project."""
    project = tmp_path_factory.mktemp("project")
    for name, text in {
        "conftest.py": CONFTEST,
        "test_mine.py": TESTS,
        "wrapper.py": WRAPPER,
        "model/code/inference.py": HANDLERS,
        "broken/code/inference.py": "def model_fn(model_dir):\n    raise OSError('no weights')\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-rA", "test_mine.py"],
        cwd=project,
        env={**ENVIRONMENT, "MARK": MARK, "TIDEGATE_MAX_BATCH_SIZE": "no number"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_handler_is_tested_through_the_real_server(said: str) -> None:
    assert re.findall(r"^FAILED test_mine\.py::(\w+)", said, re.MULTILINE) == FAILED, said
    assert "3 failed, 7 passed" in said, said


def test_a_failure_comes_with_the_log_of_the_server_that_was_asked(said: str) -> None:
    def report_of(name: str) -> str:
        return re.split(r"^_{3,} test_\w+ _{3,}$", said, flags=re.MULTILINE)[FAILED.index(name) + 1]

    assert "tidegate serve at http://127.0.0.1:" in report_of("test_that_fails")
    assert "the script saw" in report_of("test_that_fails")
    assert re.search(r"^\d\d:\d\d:\d\d listening \(.*port \d+", report_of("test_that_fails"), re.MULTILINE)
    assert "tidegate serve at" not in report_of("test_that_fails_and_asks_nobody")


def test_a_model_that_does_not_load_is_named_with_its_reason(said: str) -> None:
    assert re.search(r"ModelDidNotStart: \S+/broken is not served: .*no weights", said), said


def test_no_server_is_left(said: str) -> None:
    assert said
    # A server's workers may end a moment after it.
    until(lambda: not [each for each in psutil.process_iter() if MARK in variables_of(each).values()], "none is left")


def variables_of(process: psutil.Process) -> dict[str, str]:
    with suppress(psutil.Error):
        return dict(process.environ())
    return {}


def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    """Its files are written down, and its command is run."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "testing.md").read_text(encoding="utf-8")
    files = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    for name, text in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(files) == 5
    command = re.search(r"^```bash\npython -m (pytest .*)\n```$", guide, re.MULTILINE)
    assert command is not None
    words = [sys.executable, "-m", *command[1].split(), "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
