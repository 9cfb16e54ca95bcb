"""How the example's request is encoded and its response is found."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tidegate.training_hooks import ArtifactError, Example, save_model

from .artifacts import manifest_of, mismatches, names_below


@pytest.fixture
def net() -> nn.Module:
    return nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("value", "content_type", "recorded"),
    [
        (np.arange(6).reshape(2, 3), None, ("example/request.npy", "application/x-npy")),
        (torch.ones(2, 2), None, ("example/request.npy", "application/x-npy")),
        ({"instances": [[1, np.float32(2)]]}, None, ("example/request.json", "application/json")),
        (np.array([1.5]), "application/json", ("example/request.json", "application/json")),
        ('{"a": 1}', "application/json", ("example/request.json", "application/json")),
        ("1,2\n3,4\n", "text/csv", ("example/request.csv", "text/csv")),
        (b"[1]\n[2]\n", "application/jsonlines", ("example/request.jsonl", "application/jsonlines")),
        (b"\x89PNG", "image/png", ("example/request.png", "image/png")),
        (bytearray(b"\x00"), "application/x-own", ("example/request.bin", "application/x-own")),
        ("[1]", "application/json; charset=utf-8", ("example/request.json", "application/json; charset=utf-8")),
    ],
)
def test_requests_are_encoded_by_what_they_are(
    tmp_path: Path, net: nn.Module, value: Any, content_type: str | None, recorded: tuple[str, str]
) -> None:
    """Arrays become npy, plain values JSON, and bytes and text stay as they are under the caller's content type."""
    save_model(net, model_dir=tmp_path, example=Example(request=value, content_type=content_type, response={"ok": 1}))
    file, recorded_type = recorded
    example = manifest_of(tmp_path)["example"]
    assert example["request"] == {"file": file, "content_type": recorded_type, "accept": "application/json"}
    assert example["response"] == {"file": "example/response.json", "content_type": "application/json"}
    assert (example["rtol"], example["atol"]) == (1e-3, 1e-5)
    body = (tmp_path / file).read_bytes()
    if file.endswith(".npy"):
        assert np.array_equal(np.load(io.BytesIO(body), allow_pickle=False), np.asarray(value))
    elif isinstance(value, bytes | bytearray | str):
        assert body == (value.encode() if isinstance(value, str) else bytes(value))
    else:
        assert json.loads(body) == ([1.5] if isinstance(value, np.ndarray) else {"instances": [[1, 2.0]]})


def test_the_response_is_what_the_code_answers(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """Without a response, the four functions run on the saved directory and their answer is recorded."""
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[1, 2.5]))
    assert json.loads((tmp_path / "m" / "example" / "response.json").read_bytes()) == {"doubled": [2, 5.0]}
    assert mismatches(tmp_path / "m") == []


def test_the_code_runs_in_a_process_of_its_own(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """The server will not have what the training script imported, so the example must not have it either."""
    (code_dir / "inference.py").write_text(
        "import os, sys\n"
        "def model_fn(model_dir): return model_dir\n"
        "def input_fn(data, content_type): return data\n"
        "def predict_fn(data, model):\n"
        "    import inference\n"
        "    return {'pid': os.getpid(), 'here': os.path.samefile(os.getcwd(), model),\n"
        "            'training': [name for name in sys.modules if name.endswith('.training_hooks')],\n"
        "            'own': inference.__file__.startswith(model)}\n"
        "def output_fn(prediction, accept): return prediction\n"
    )
    before = sys.modules.get("inference")
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[]))
    answer = json.loads((tmp_path / "m" / "example" / "response.json").read_bytes())
    assert answer.pop("pid") != os.getpid()
    assert answer == {"here": True, "training": [], "own": True}
    assert sys.modules.get("inference") is before


def test_the_answers_own_content_type_is_recorded(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """output_fn may return a pair; its second part, not the Accept header, says what the body is."""
    code = (code_dir / "inference.py").read_text().replace(", accept\n", ', "text/csv"\n')
    (code_dir / "inference.py").write_text(code)
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[1]))
    assert manifest_of(tmp_path / "m")["example"]["response"] == {
        "file": "example/response.csv",
        "content_type": "text/csv",
    }


def test_text_is_decoded_by_its_charset(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """Handlers that compare the type exactly, as the old containers taught them, see it without its charset."""
    body = json.dumps([3]).encode("utf-16")
    example = Example(request=body, content_type="Application/JSON; charset=utf-16")
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=example)
    assert json.loads((tmp_path / "m" / "example" / "response.json").read_bytes()) == {"doubled": [6]}


def test_transform_fn_replaces_the_three(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """Archives may define transform_fn instead of input_fn, predict_fn and output_fn."""
    (code_dir / "inference.py").write_text(
        "def pre_model_fn(model_dir): global started; started = True\n"
        "def model_fn(model_dir): return [started]\n"
        "def model_warmup_fn(model_dir, model): model.append('warm')\n"
        "def transform_fn(model, data, content_type, accept): return f'{model} {data} {content_type}', 'text/plain'\n"
    )
    example = Example(request="hello", content_type="text/csv")
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=example)
    assert (tmp_path / "m" / "example" / "response.txt").read_text() == "[True, 'warm'] hello text/csv"


@pytest.mark.parametrize(
    ("functions", "answer"),
    [
        ("def collate_fn(inputs): return {'rows': inputs}\ndef predict_fn(data, model): return data['rows']\n", [[1]]),
        ("def split_fn(prediction, count): return (prediction + [count],)\n", [1, 1]),
        (
            "def collate_fn(inputs): return {'rows': inputs}\n"
            "def predict_fn(data, model): return [[row, 'seen'] for row in data['rows']]\n"
            "def split_fn(prediction, count): yield from prediction\n",
            [[1], "seen"],
        ),
    ],
)
def test_collate_fn_and_split_fn_see_the_example_too(
    tmp_path: Path, net: nn.Module, code_dir: Path, functions: str, answer: Any
) -> None:
    """As in the server, where both run for a request that is alone."""
    (code_dir / "inference.py").write_text(
        "import json\n"
        "def model_fn(model_dir): return None\n"
        "def input_fn(body, content_type): return json.loads(body)\n"
        "def predict_fn(data, model): return data\n" + functions
    )
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[1]))
    assert json.loads((tmp_path / "m" / "example" / "response.json").read_bytes()) == answer


@pytest.mark.parametrize("deferred", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize(
    "functions",
    [
        "def transform_fn(model, body: BinaryIO, content_type, accept): return body.read(), 'text/plain'\n",
        "def input_fn(body: BinaryIO, content_type): return body.read()\n"
        "def predict_fn(data, model): return data\n"
        "def output_fn(prediction, accept): return prediction, 'text/plain'\n",
    ],
)
def test_a_script_that_takes_its_body_as_a_file_is_given_one(
    tmp_path: Path, net: nn.Module, code_dir: Path, functions: str, deferred: str
) -> None:
    script = f"{deferred}from typing import BinaryIO\ndef model_fn(model_dir): return None\n{functions}"
    (code_dir / "inference.py").write_text(script)
    example = Example(request="hello", content_type="text/csv")
    save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=example)
    assert (tmp_path / "m" / "example" / "response.txt").read_text() == "hello"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def model_fn(:", "code/inference.py cannot be imported: SyntaxError"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("def model_fn(d): return d", "the default predict_fn, .*, failed on the example: TypeError: 'str' object is"),
        ("input_fn = None", "there is neither a model_fn nor one TorchScript file .*; define model_fn, or give the"),
        ("def model_fn(d, context): return d", r"model_fn\(d, context\) cannot take its 1 arguments alone"),
        ("def model_fn(d): raise KeyError('layer')", "model_fn failed on the example: KeyError: 'layer'"),
        ("def model_fn(d): raise SystemExit(3)", "model_fn failed on the example: SystemExit: 3"),
        ("import os\ndef model_fn(d): os._exit(9)", r"ended its process \(status 9\) on the example"),
        (
            "def model_fn(d): return d\ndef predict_fn(d, m): return d\ndef split_fn(p, c): return []",
            "split_fn made 0 parts of the one example",
        ),
        (
            "def model_fn(d): return d\ndef transform_fn(m, b, c, a): return {1, 2}",
            "answered the example with a set, which is not text, bytes or JSON",
        ),
    ],
)
def test_code_that_cannot_answer(tmp_path: Path, net: nn.Module, code_dir: Path, code: str, sentence: str) -> None:
    """What would keep the server from starting is one sentence at the end of training; nothing is written."""
    (code_dir / "inference.py").write_text(code)
    with pytest.raises(ArtifactError, match=sentence):
        save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[1]))
    assert names_below(tmp_path / "m") == []


def test_code_that_hangs(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """The functions have a time limit, so a training job does not wait for ever."""
    (code_dir / "inference.py").write_text("import threading\ndef model_fn(d): threading.Event().wait()\n")
    with pytest.raises(ArtifactError, match=r"did not answer the example within 0.5 s"):
        save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[1], timeout_s=0.5))
    assert names_below(tmp_path / "m") == []


@pytest.mark.parametrize(
    ("response", "content_type"),
    [
        (b"[[1]]", "application/x-npy"),
        (b"", "application/x-npy"),
        ("0.5,0.5", "application/json"),
        (b"\x93NUMPY", "application/json; charset=utf-8"),
        ("[1]\n[2", "application/jsonlines"),
    ],
)
def test_an_answer_that_is_not_of_its_type_is_refused(
    tmp_path: Path, net: nn.Module, code_dir: Path, response: bytes | str, content_type: str
) -> None:
    """Given or computed: the server could compare it with nothing, so the archive could never serve."""
    said = f"cannot be read as {content_type.partition(';')[0]}, which is its type: "
    given = Example(request=[1], response=response, accept=content_type)
    with pytest.raises(ArtifactError, match=f"^example.response {said}"):
        save_model(net, model_dir=tmp_path / "m", example=given)
    (code_dir / "inference.py").write_text(
        "def model_fn(d): pass\ndef transform_fn(m, data, content_type, accept):\n"
        f"    return {response!r}, {content_type!r}\n"
    )
    with pytest.raises(ArtifactError, match=f"^the answer of code/inference.py to the example {said}"):
        save_model(net, model_dir=tmp_path / "m", code_dir=code_dir, example=Example(request=[1]))
    assert not (tmp_path / "m/manifest.json").exists()
    typed = Example(request=[1], response=response, response_content_type="text/plain", accept=content_type)
    save_model(net, model_dir=tmp_path / "m", example=typed)


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/csv, application/json;q=0.5"])
def test_a_raw_response_to_an_accept_of_several_types_needs_its_own_type(
    tmp_path: Path, net: nn.Module, accept: str
) -> None:
    with pytest.raises(ArtifactError, match="is not one type; say the one that it is of by"):
        save_model(net, model_dir=tmp_path, example=Example(request=[1], response="1", accept=accept))
    typed = Example(request=[1], response="1", accept=accept, response_content_type="application/json")
    save_model(net, model_dir=tmp_path, example=typed)
    assert manifest_of(tmp_path)["example"]["response"]["content_type"] == "application/json"


STREAMING = """
import json

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    return json.loads(body)
"""


@pytest.mark.parametrize(
    ("functions", "body", "content_type"),
    [
        (
            "def predict_fn(data, model):\n    for number in data:\n        yield {'n': model * number}\n",
            b'{"n": 2}\n{"n": 4}\n',
            "application/jsonlines",
        ),
        (
            "async def predict_fn(data, model):\n    for number in data:\n        yield model * number\n",
            b"2\n4\n",
            "application/jsonlines",
        ),
        (
            "def predict_fn(data, model):\n    yield from data\n"
            "def output_fn(items, accept):\n    return (f'{item};' for item in items), 'text/plain'\n",
            b"1;2;",
            "text/plain",
        ),
    ],
)
def test_the_answer_of_a_script_that_streams_is_all_that_it_yields(
    tmp_path: Path, net: nn.Module, functions: str, body: bytes, content_type: str
) -> None:
    """The server reads the example to its end, too, and compares the whole."""
    code = tmp_path / "streaming"
    code.mkdir()
    (code / "inference.py").write_text(STREAMING + functions)
    model_dir = tmp_path / "model"
    save_model(net, model_dir=model_dir, code_dir=code, example=Example(request=[1, 2]))
    response = manifest_of(model_dir)["example"]["response"]
    assert response["content_type"] == content_type
    assert (model_dir / response["file"]).read_bytes() == body


def test_a_generator_that_fails_on_the_example_is_named(tmp_path: Path, net: nn.Module) -> None:
    code = tmp_path / "streaming"
    code.mkdir()
    (code / "inference.py").write_text(STREAMING + "def predict_fn(data, model):\n    yield data['x']\n")
    with pytest.raises(ArtifactError, match="the generator of predict_fn failed on the example: TypeError"):
        save_model(net, model_dir=tmp_path / "model", code_dir=code, example=Example(request=[1, 2]))


def test_a_picture_that_png_cannot_hold_is_told_how_to_become_one(tmp_path: Path, net: nn.Module) -> None:
    from PIL import Image

    picture = Image.new("CMYK", (2, 2))
    with pytest.raises(ArtifactError, match=r"cannot be written as PNG: .*; give image.convert\('RGB'\)"):
        save_model(net, model_dir=tmp_path / "m", example=picture)
