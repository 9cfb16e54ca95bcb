"""From a directory to a computation, in processes of their own: loading changes directory, path and modules."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import started
from tidegate.inference.worker.handler import ARGUMENTS

REPOSITORY = Path(__file__).parents[2]

CODE = """
import json
import os

def model_fn(model_dir):
    return {"model_dir": model_dir, "cwd": os.getcwd(), "pid": os.getpid()}

def input_fn(input_data, content_type):
    return json.loads(input_data)

def predict_fn(data, model):
    return {"data": data, **model}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was printed: each step, and what was wrong in the last line of standard error."""

    status: int
    lines: list[str]
    error: str

    @property
    def sentence(self) -> str:
        """The last line of standard error without its prefix."""
        last = self.error.splitlines()[-1]
        assert last.startswith("tidegate: error: "), self.error
        return last.removeprefix("tidegate: error: ")


def check(model_dir: Path, **environment: str) -> Report:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "inference", "check", str(model_dir)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return Report(status=done.returncode, lines=done.stdout.splitlines(), error=done.stderr)


LOADS = """
import json, os, sys
from tidegate.inference.errors import DeploymentError
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.settings import read
from tidegate.inference.worker.loading import load

def load_there(model_dir):
    settings = read(os.environ)
    same = ("program", "max_batch_size", "default_accept", "max_decoded_bytes", "max_response_bytes",
        "max_image_pixels", "log_level")
    spec = ModelSpec(name="model", model_dir=model_dir, threads=1, verify=True,
        trust_pickle=settings.trust_pickled_model, **{name: getattr(settings, name) for name in same})
    load(spec, lambda line: print(line, flush=True))

for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(os.path.join(job["log"], name), os.O_WRONLY | os.O_CREAT), number)
        os.environ.update(job["environment"])
        status = 0
        try:
            load_there(job["model_dir"])
        except DeploymentError as error:
            print(f"tidegate: error: {error}", file=sys.stderr, flush=True)
            status = 1
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def loads() -> Iterator[subprocess.Popen[str]]:
    """A process that has imported torch and forks for each load, as the workers' parent does: torch takes a second."""
    with started(
        [sys.executable, "-P", "-c", LOADS],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def load_forked(loads: subprocess.Popen[str], log: Path, model_dir: Path, **environment: str) -> Report:
    """Load `model_dir` in a fork of `loads`."""
    assert loads.stdin
    assert loads.stdout
    job = {"model_dir": str(model_dir), "log": str(log), "environment": environment}
    loads.stdin.write(json.dumps(job) + "\n")
    loads.stdin.flush()
    status = int(loads.stdout.readline())
    return Report(status=status, lines=(log / "stdout").read_text().splitlines(), error=(log / "stderr").read_text())


def archive(root: Path, files: dict[str, str | bytes]) -> Path:
    model_dir = root / "model"
    model_dir.mkdir(exist_ok=True)
    for name, content in files.items():
        path = model_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
    return model_dir


def torch_script() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), file)
    return file.getvalue()


def state_dict() -> bytes:
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 1).state_dict(), file)
    return file.getvalue()


def with_manifest(files: dict[str, str | bytes], **manifest: Any) -> dict[str, str | bytes]:
    listed = {}
    for name, content in files.items():
        data = content if isinstance(content, bytes) else textwrap.dedent(content).encode()
        listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    return files | {"manifest.json": json.dumps({"format_version": 1, "files": listed} | manifest)}


EXAMPLE = {
    "request": {"file": "example/request.json", "content_type": "application/json", "accept": "application/json"},
    "response": {"file": "example/response.json", "content_type": "application/json"},
}


def test_a_model_with_manifest_and_example_passes_step_by_step(tmp_path: Path) -> None:
    files = with_manifest(
        {
            "model.pth": b"weights",
            "code/inference.py": """
                import json
                from helper import double

                def model_fn(model_dir):
                    return open("model.pth").read()

                def input_fn(input_data, content_type):
                    return json.loads(input_data)

                def predict_fn(data, model, context):
                    assert model == "weights" and context.manifest["name"] == "doubling"
                    return [double(number) for number in data]

                def output_fn(prediction, accept):
                    return json.dumps(prediction)
            """,
            "code/helper.py": """
                import inference

                def double(number):
                    assert inference.model_fn
                    return number * 2
            """,
            "example/request.json": "[1, 2]",
            "example/response.json": "[2, 4.000001]",
        },
        example=EXAMPLE,
        name="doubling",
    )
    model_dir = archive(tmp_path, files)
    report = check(model_dir)
    assert report.status == 0, report.error
    assert report.lines[0].endswith("as `serve` would start it here, without a port and with one worker")
    assert report.lines[1:4] == [
        "5 files match the manifest",
        f"model 'model' is loaded by model_fn of {model_dir}/code/inference.py",
        "the archive's example is answered as expected",
    ]
    assert report.lines[-1] == "this model may take traffic"


def test_torchscript_is_served_without_code(loads: subprocess.Popen[str], tmp_path: Path) -> None:
    report = load_forked(loads, tmp_path, archive(tmp_path, {"model.pth": torch_script()}))
    assert report.status == 0, report.error
    assert "model 'model' is loaded by the default model_fn" in report.lines


@pytest.mark.parametrize(
    ("script", "manifest", "told"),
    [
        ("import json", {}, True),
        ("from functions import predict_fn", {}, False),
        ("import torch\ndef build(): return torch.nn.Linear(2, 1)", {"architecture": "inference:build"}, False),
    ],
)
def test_a_script_of_which_nothing_is_called_is_a_warning(
    loads: subprocess.Popen[str], tmp_path: Path, script: str, manifest: dict[str, str], told: bool
) -> None:
    files = {
        "code/inference.py": script,
        "code/functions.py": "def predict_fn(data, model): return data",
        "model.pth": state_dict() if manifest else torch_script(),
    }
    weights = {"weights": {"file": "model.pth", **manifest}} if manifest else {}
    model_dir = archive(tmp_path, with_manifest(files, **weights))
    report = load_forked(loads, tmp_path, model_dir)
    assert report.status == 0, report.error
    assert (f"{model_dir}/code/inference.py has none of the functions that are called" in report.error) == told


STREAMING = """
import json

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    for number in data:
        yield model * number
"""


@pytest.mark.parametrize("expected", ["2\n4\n", "2\n5\n"])
def test_the_example_of_a_script_that_streams_is_read_to_its_end(
    loads: subprocess.Popen[str], tmp_path: Path, expected: str
) -> None:
    files = {"code/inference.py": STREAMING, "example/request.json": "[1, 2]", "example/response.jsonl": expected}
    response = {"file": "example/response.jsonl", "content_type": "application/jsonlines"}
    model_dir = archive(tmp_path, with_manifest(files, example={**EXAMPLE, "response": response}))
    report = load_forked(loads, tmp_path, model_dir)
    if expected == "2\n4\n":
        assert report.status == 0, report.error
    else:
        assert "was not answered as expected: at $[1] it has 4, expected was 5" in report.sentence


def test_a_manifest_that_is_not_read_is_a_warning_and_named_where_it_would_have_helped(
    loads: subprocess.Popen[str], tmp_path: Path
) -> None:
    ignored = {"manifest.json": '{"weights": {"file": "model.pth", "architecture": "net:build"}}'}
    model_dir = archive(tmp_path, {"model.pth": torch_script(), **ignored})
    report = load_forked(loads, tmp_path, model_dir)
    assert report.status == 0, report.error
    sentence = f'{model_dir}/manifest.json is not read: it has no "format_version": 1.'
    assert f"the archive is served without its manifest. {sentence}" in report.error
    archive(tmp_path, {"model.pth": state_dict()})
    assert load_forked(loads, tmp_path, model_dir).sentence.endswith(f"in manifest.json. {sentence}")


WITHOUT_CODE = (
    "{dir}/model.pth is a state dict, which cannot be served without code: add code/inference.py with a model_fn that "
    "builds the network and loads it, or name the network's class as weights.architecture in manifest.json."
)
BROKEN: list[tuple[str, dict[str, str | bytes], dict[str, str], str]] = [
    ("empty", {}, {}, "The model directory {dir} is empty."),
    (
        "archives",
        {"line1.tar.gz": "1", "line2.tar.gz": "2"},
        {},
        "{dir} holds neither code/inference.py with a model_fn nor a model that can be served without one "
        "(TorchScript, ONNX, an exported program, an AOTInductor package, a SavedModel of TensorFlow, or weights whose "
        "network's class manifest.json names); it holds: line1.tar.gz, line2.tar.gz; to serve a folder of archives, "
        "set TIDEGATE_MODEL_REPOSITORY={dir} and name no MODEL.",
    ),
    (
        "nothing to serve",
        {"readme.txt": "hello"},
        {},
        "{dir} holds neither code/inference.py with a model_fn nor a model that can be served without one "
        "(TorchScript, ONNX, an exported program, an AOTInductor package, a SavedModel of TensorFlow, or weights whose "
        "network's class manifest.json names); it holds: readme.txt.",
    ),
    (
        "a create_model beside another function",
        {"code/inference.py": "def create_model(model_dir): return dict\ndef predict_fn(data, model): return data"},
        {},
        "{dir} holds neither code/inference.py with a model_fn nor a model that can be served without one "
        "(TorchScript, ONNX, an exported program, an AOTInductor package, a SavedModel of TensorFlow, or weights whose "
        "network's class manifest.json names); it holds: code. create_model of {dir}/code/inference.py "
        "is not called: beside predict_fn it is a helper of the script;",
    ),
    (
        "a misspelt function",
        {"code/inference.py": "def model_fn(model_dir): return 1\ndef ouput_fn(prediction, accept): return prediction"},
        {},
        "{dir}/code/inference.py: nothing calls ouput_fn; did you mean output_fn?",
    ),
    (
        "state dict without code",
        {"model.pth": state_dict()},
        {},
        "{dir}/model.pth is a state dict, which cannot be served without code: add "
        "code/inference.py with a model_fn that builds the network and loads it, or name the network's class as "
        "weights.architecture in manifest.json.",
    ),
    (
        "state dict beside a script of which nothing is called",
        {"model.pth": state_dict(), "code/inference.py": "app = 1\ndef main(): ...\n"},
        {},
        f"{WITHOUT_CODE} {{dir}}/code/inference.py is there and defines no function that is called (pre_model_fn,",
    ),
    (
        "state dict beside a script of one class",
        {"model.pth": state_dict(), "code/inference.py": "class Mine:\n    def run(self, x): ...\n"},
        {},
        f"{WITHOUT_CODE} {{dir}}/code/inference.py is there and defines no function that is called "
        f"({', '.join(ARGUMENTS)}), only the class Mine, of which no method is called.",
    ),
    (
        "state dict beside a script without a model_fn",
        {"model.pth": state_dict(), "code/inference.py": "def predict_fn(data, model): return data\n"},
        {},
        f"{WITHOUT_CODE} {{dir}}/code/inference.py is there and defines predict_fn, but no model_fn.",
    ),
    (
        "state dict beside an empty script",
        {"model.pth": state_dict(), "code/inference.py": " \n"},
        {},
        f"{WITHOUT_CODE} {{dir}}/code/inference.py is there and is empty.",
    ),
    (
        "state dict beside a script that is a directory",
        {"model.pth": state_dict(), "code/inference.py/readme": "x"},
        {},
        f"{WITHOUT_CODE} {{dir}}/code/inference.py is a directory, and no script.",
    ),
    (
        "state dict beside a file in the place of the code",
        {"model.pth": state_dict(), "code": "def model_fn(model_dir): return 1\n"},
        {},
        f"{WITHOUT_CODE} {{dir}}/code is a file; it must be the directory that holds inference.py.",
    ),
    (
        "corrupt weights",
        {"model.pth": b"not a zip"},
        {},
        "{dir}/model.pth is not a file that torch.save or torch.jit.save wrote (or it is damaged), which cannot be",
    ),
    (
        "several models",
        {"a.pth": b"", "b.pt": b""},
        {},
        "{dir} holds several models (a.pth, b.pt); name one model.pt or define a model_fn.",
    ),
    (
        "syntax error",
        {"code/inference.py": "def model_fn(:\n"},
        {},
        "{dir}/code/inference.py, line 1: SyntaxError: invalid syntax.",
    ),
    (
        "bad signature",
        {"code/inference.py": "def model_fn():\n    pass\n"},
        {},
        "{dir}/code/inference.py: model_fn() cannot be called; it must take (model_dir) or (model_dir, context).",
    ),
    (
        "model_fn fails",
        {"code/inference.py": "def model_fn(model_dir):\n    return open('absent.pth')\n"},
        {},
        "{dir}/code/inference.py, line 2: model_fn raised FileNotFoundError: [Errno 2] No such file or directory: "
        "'absent.pth'.",
    ),
    *(
        (
            f"{function} fails by an error that cannot be shown",
            {
                "code/inference.py": "class Odd(Exception):\n    def __str__(self): raise KeyError(1)\n"
                f"def model_fn(model_dir): return 1\ndef {function}({arguments}): raise Odd\n"
            },
            {},
            f"{{dir}}/code/inference.py, line 4: {function} raised Odd: its text cannot be shown.",
        )
        for function, arguments in (("model_fn", "d"), ("pre_model_fn", "d"), ("model_warmup_fn", "d, m"))
    ),
    (
        "an import that fails by an error that cannot be shown",
        {"code/inference.py": "class Odd(Exception):\n    def __str__(self): raise KeyError(1)\nraise Odd\n"},
        {},
        "{dir}/code/inference.py, line 3: Odd: its text cannot be shown.",
    ),
    (
        "model_fn exits",
        {"code/inference.py": "def model_fn(model_dir):\n    raise SystemExit('no licence')\n"},
        {},
        "{dir}/code/inference.py, line 2: model_fn raised SystemExit: no licence.",
    ),
    (
        "warm-up fails",
        {
            "code/inference.py": "def model_fn(model_dir):\n    return 1\n"
            "def model_warmup_fn(model_dir, model):\n    model.warm()\n"
        },
        {},
        "{dir}/code/inference.py, line 4: model_warmup_fn raised AttributeError: 'int' object has no attribute 'warm'.",
    ),
    (
        "program not there",
        {"code/inference.py": CODE},
        {"SAGEMAKER_PROGRAM": "serve.py"},
        "SAGEMAKER_PROGRAM asks for 'serve.py', which is neither in {dir}/code nor in {dir}.",
    ),
    (
        "damaged file",
        with_manifest({"code/inference.py": CODE}) | {"code/inference.py": CODE + "#"},
        {},
        "{dir}/code/inference.py has ",
    ),
    (
        "example answered otherwise",
        with_manifest(
            {"code/inference.py": CODE, "example/request.json": "[1]", "example/response.json": '{"data": [1]}'},
            example=EXAMPLE,
        ),
        {},
        "The archive's example was not answered as expected: at $ it has the keys ['cwd', 'data', 'model_dir', 'pid'],",
    ),
    (
        "example answered with an error",
        with_manifest(
            {"code/inference.py": CODE, "example/request.json": "[", "example/response.json": "1"}, example=EXAMPLE
        ),
        {},
        "The archive's example was answered with 400: The body was refused: Expecting value: line 1 column 2 (char 1).",
    ),
    ("bad setting", {"code/inference.py": CODE}, {"TIDEGATE_WORKERS": "many"}, "TIDEGATE_WORKERS='many' is not valid"),
]


@pytest.mark.parametrize(("files", "environment", "sentence"), [row[1:] for row in BROKEN], ids=[r[0] for r in BROKEN])
def test_what_is_wrong_with_a_model_is_said_in_one_last_line(
    loads: subprocess.Popen[str],
    tmp_path: Path,
    files: dict[str, str | bytes],
    environment: dict[str, str],
    sentence: str,
) -> None:
    model_dir = archive(tmp_path, files)
    report = load_forked(loads, tmp_path, model_dir, **environment)
    assert report.status == 1
    assert report.sentence.startswith(sentence.format(dir=model_dir))


def test_a_missing_directory_is_named(loads: subprocess.Popen[str], tmp_path: Path) -> None:
    assert (
        load_forked(loads, tmp_path, tmp_path / "nowhere").sentence
        == f"The model directory {tmp_path}/nowhere does not exist."
    )


IN_WORKER = """
import json, os, sys
from tidegate.inference.protocol import Request, ModelSpec
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.loading import load
spec = ModelSpec(name="m", model_dir=sys.argv[1], program=None, threads=1, verify=True, max_batch_size=4,
    default_accept="application/json", max_decoded_bytes=1000, max_response_bytes=1000, max_image_pixels=100,
    log_level=30)
toy = load(spec, lambda _: None)
import PIL.Image, torch
(outcome,), _ = ask(toy, [Request(1, "application/json", "", b"", b"[1]")])
print(json.dumps({"answer": json.loads(outcome.body), "path": sys.path[:2], "cwd": os.getcwd(), "pid": os.getpid(),
    "inference": sys.modules["inference"].__file__, "threads": torch.get_num_threads(),
    "pixels": PIL.Image.MAX_IMAGE_PIXELS, "properties": toy.context.system_properties}))
"""


def in_worker(model_dir: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", IN_WORKER, str(model_dir)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_user_code_finds_itself_where_torchserve_put_it(tmp_path: Path) -> None:
    """Working directory and path are the model's, the name `inference` is the script's, everything in one process."""
    root = str(archive(tmp_path, {"code/inference.py": CODE}))
    found = in_worker(Path(root))
    assert found["answer"] == {"data": [1], "model_dir": root, "cwd": root, "pid": found["pid"]}
    assert found["path"] == [f"{root}/code", root]
    assert found["cwd"] == root
    assert found["inference"] == f"{root}/code/inference.py"
    assert (found["threads"], found["pixels"]) == (1, 50)
    properties = found["properties"]
    assert properties.pop("server_version")
    assert properties == {
        "model_dir": root,
        "gpu_id": None,
        "batch_size": 4,
        "server_name": "tidegate",
        "limit_max_image_pixels": True,
    }


def test_an_archive_with_a_folder_around_it_is_served_from_inside(tmp_path: Path) -> None:
    model_dir = archive(tmp_path, {"digits/code/inference.py": CODE, "digits/model.pth": b""})
    found = in_worker(model_dir)
    assert found["answer"]["model_dir"] == found["cwd"] == f"{model_dir}/digits"
