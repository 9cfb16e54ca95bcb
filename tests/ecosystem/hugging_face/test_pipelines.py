"""What `save_pretrained` wrote is served without code by HF_TASK, and answered as the pipeline itself answers."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import Server
from tests.ecosystem.environments import python_of
from tests.ecosystem.serving import checked, served

HERE = Path(__file__).parent
TASKS = ("text-classification", "text-generation", "image-classification", "audio-classification")
TEXTS = "text-classification"


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has transformers, and all that is ours."""
    return str(python_of("hugging-face", sees_ours=True))


@pytest.fixture(scope="module")
def models(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model for each task, and what transformers answers for it."""
    folder = tmp_path_factory.mktemp("hugging-face")
    done = subprocess.run(
        [python, str(HERE / "save_pipelines.py"), str(folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def texts(models: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the text classifier, on which requests may share calls."""
    with served(
        models / TEXTS, tmp_path_factory.mktemp("texts"), python, HF_TASK=TEXTS, TIDEGATE_MAX_BATCH_SIZE="4"
    ) as server:
        yield server


def as_expected(answer: Any, expected: Any) -> bool:
    """Whether two answers are alike: a batch is padded, which moves the last digits."""
    if isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(as_expected(answer[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(answer) == len(expected) and all(map(as_expected, answer, expected))
    return bool(answer == (pytest.approx(expected, rel=1e-4) if isinstance(expected, float) else expected))


@pytest.mark.parametrize("task", TASKS[1:])
def test_a_task_is_answered_as_its_pipeline_answers(models: Path, python: str, tmp_path: Path, task: str) -> None:
    name = "TASK" if task == "text-generation" else "HF_TASK"
    with served(models / task, tmp_path / "base", python, **{name: task, "HF_MODEL_ID": "a/b"}) as server:
        ask(server, models, task)
        assert f"is loaded by transformers.pipeline for {task}" in server.log()
        assert "HF_MODEL_ID" in server.log()  # without effect
        if task == "image-classification":
            for named in ("https://example.com/cat.png", "/etc/passwd", "config.json"):
                reply = server.post(json.dumps({"inputs": named}))
                assert (reply.status, "names a file or an address" in reply.error["message"]) == (400, True)
            assert server.post(b"no picture", "image/png").status == 400
        if task == "audio-classification":
            for named in ("http://example.com/a.wav", "/etc/passwd", "config.json", "not base64"):
                assert server.post(json.dumps({"inputs": [named]})).status == 400
        if task == "text-generation":
            reply = server.post(json.dumps({"inputs": "hello", "parameters": {"no_such": 1}}))
            assert (reply.status, "no_such" in reply.error["message"]) == (400, True)


def test_texts_are_answered_as_the_pipeline_answers(texts: Server, models: Path) -> None:
    ask(texts, models, TEXTS)
    reply = texts.post("inputs\nhello\ngood bye\n", "text/csv", accept="text/csv")
    assert reply.body.decode().splitlines()[0] == "label,score"
    assert len(reply.body.decode().splitlines()) == 3


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"inputs": 5}, 400, "does not take this input"),
        ({"inputs": []}, 400, "'inputs' is empty"),
        ({}, 400, "'inputs' is empty"),
        ([1], 400, "must be a JSON object"),
        ({"inputs": "hello", "parameters": 3}, 400, "'parameters' must be"),
        ({"inputs": "hello", "parameters": {"function_to_apply": "magic"}}, 400, "does not take this input"),
        ({"inputs": "hello", "parameters": {"num_workers": 8}}, 400, "not a client's to choose"),
        ({"inputs": "hello", "parameters": {"a": [{"trust_remote_code": True}]}}, 400, "not a client's to choose"),
        ({"inputs": "hello " * 100}, 400, "does not take this input"),
    ],
)
def test_a_clients_mistake_is_400_and_says_which(texts: Server, body: Any, status: int, sentence: str) -> None:
    reply = texts.post(json.dumps(body))
    assert (reply.status, sentence in reply.error["message"]) == (status, True), reply.body


def test_other_bodies_and_answers_are_refused_by_their_types(texts: Server) -> None:
    assert texts.post("hello", "text/plain").status == 415
    assert texts.post(json.dumps({"inputs": "hello"}), accept="image/png").status == 406
    assert texts.post("a,b\n1,2\n", "text/csv").status == 400


def test_a_script_wins_function_by_function(models: Path, python: str, tmp_path: Path) -> None:
    folder = tmp_path / "with-script"
    shutil.copytree(models / TEXTS, folder)
    (folder / "code").mkdir()
    (folder / "code/inference.py").write_text(
        "def predict_fn(data, model):\n    return [each['label'].upper() for each in model(data.pop('inputs', data))]\n"
    )
    with served(folder, tmp_path / "base", python, HF_TASK=TEXTS) as server:
        (answer,) = server.post(json.dumps({"inputs": "hello"})).json()
        assert answer in ("KIND", "UNKIND")


def test_an_unknown_task_names_those_that_were_meant(models: Path, python: str) -> None:
    done = checked(models / TEXTS, python, HF_TASK="text-clasification")
    assert done.returncode == 1
    assert "has no such task; did you mean text-classification" in done.stderr
    gone = checked(models / TEXTS, python, HF_TASK="summarization")
    assert gone.returncode == 1
    assert "has this task no more" in gone.stderr


def test_weights_in_a_pickle_run_nothing(models: Path, python: str, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(models / TEXTS, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Marks(tmp_path / "marker")))
    done = checked(folder, python, HF_TASK=TEXTS)
    assert done.returncode == 1
    assert "transformers cannot make a pipeline" in done.stderr
    assert not (tmp_path / "marker").exists()


def test_code_that_a_model_brings_waits_for_its_switch(models: Path, python: str, tmp_path: Path) -> None:
    folder = tmp_path / "own-code"
    shutil.copytree(models / TEXTS, folder)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.Own"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'marker')!r}).touch()\n")
    done = checked(folder, python, HF_TASK=TEXTS)
    assert done.returncode == 1
    assert "only where HF_TRUST_REMOTE_CODE=on says" in done.stderr
    assert not (tmp_path / "marker").exists()


def ask(server: Server, models: Path, task: str) -> None:
    """Send all the requests that transformers was asked, and compare."""
    for content_type, body, expected in json.loads((models / "answers.json").read_text())[task]:
        reply = server.post(base64.b64decode(body), content_type)
        assert reply.status == 200, reply.body
        assert as_expected(reply.json(), expected), (reply.json(), expected)


class _Marks:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
