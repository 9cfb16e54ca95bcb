"""Six user scripts of the kinds found in the wild, each unchanged in a single-model server of its own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compatibility.cases import CSV, JSON, NPY, image, npy
from tests.compatibility.placing import place
from tests.contract.running import Server, running

Ask = Callable[[Server], Any]


def mnist(server: Server) -> None:
    """A model_fn alone: JSON, CSV and npy out of the container's own functions, (n, 1, 28, 28) to (n, 10)."""
    digits = np.linspace(0, 1, 3 * 784, dtype=np.float32).reshape(3, 1, 28, 28)
    by_json = server.post(json.dumps(digits.tolist()), JSON, accept=JSON).json()
    assert np.array(by_json).shape == (3, 10)
    assert np.allclose(np.exp(by_json).sum(axis=1), 1, atol=1e-4)
    by_npy = np.load(io.BytesIO(server.post(npy(digits), NPY, accept=NPY).body))
    assert np.allclose(by_npy, by_json)
    by_csv = np.loadtxt(io.StringIO(server.post(npy(digits), NPY, accept=CSV).body.decode()), delimiter=",")
    assert np.allclose(by_csv, by_json)


def torchscript_image(server: Server) -> None:
    """The default model_fn finds the TorchScript file; the script reads pictures and its labels."""
    top = server.post(image((250, 10, 10), "JPEG"), "application/x-image").json()
    assert [sorted(entry) for entry in top] == [["label", "score"], ["label", "score"]]
    assert {entry["label"] for entry in top} < {"cat", "dog", "bird"}
    assert top[0]["score"] >= top[1]["score"]


def text_classifier(server: Server) -> None:
    """Model and tokenizer as a tuple; errors of the toolkit keep status and sentence."""
    one, two = server.post(b'{"inputs": ["The film was good", "the film was bad"]}').json()
    assert one["label"] in {"LABEL_0", "LABEL_1"}
    assert 0.5 <= two["score"] <= 1
    reply = server.post(b'{"text": "good"}')
    assert (reply.status, reply.error["message"]) == (422, "The key 'inputs' is missing.")
    assert server.post(b"good", "text/plain").status == 415


def transform(server: Server) -> None:
    """transform_fn with the toolkit's codecs, and a body with a type of its own."""
    assert server.post(b"[[1, 1]]").json() == [[0.5, 0.5]]
    assert server.post(b"1,1\n2,2\n", CSV, accept=CSV).body == b"0.5,0.5\n0.5,0.5\n"
    reply = server.post(b"abc", "application/octet-stream", accept=JSON)
    assert (reply.headers["content-type"], reply.body) == ("application/octet-stream", b"cba")


def context_reader(server: Server) -> None:
    """Headers in, headers, status and type out, all by the context."""
    reply = server.post(b"[1, 2]", **{"X-Amzn-SageMaker-Custom-Attributes": "trace=7"})
    assert reply.json() == {
        "rows": [1, 2],
        "attributes": "trace=7",
        "type": "application/json",
        "all": True,
        "device": "cpu",
        "own": True,
        "batch": 1,
    }
    assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "seen=trace=7"
    assert reply.headers["content-type"] == "application/json; rows=2"
    assert server.post(b"[]").status == 204


def multi_file(server: Server) -> None:
    """Helpers that import each other and the script, data by relative path, a folder around it all."""
    assert server.post(b"[1, 2, 3]").json() == ["odd", "even", "odd"]


@pytest.mark.parametrize(
    "ask",
    [mnist, torchscript_image, text_classifier, transform, context_reader, multi_file],
    ids=lambda ask: ask.__name__,
)
def test_an_archive_runs_unchanged(ask: Ask, tmp_path: Path) -> None:
    root = place(ask.__name__, tmp_path / "model")
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    with running(files) as server:
        ask(server)
