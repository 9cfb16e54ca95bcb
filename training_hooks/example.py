"""The example request of an artifact: its body, and the answer that the server must give before it takes traffic."""

import io
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import ArtifactError
from .plain_values import to_plain

JSON = "application/json"
NPY = "application/x-npy"
_SUFFIXES = {
    JSON: "json",
    "application/jsonlines": "jsonl",
    NPY: "npy",
    "application/x-npz": "npz",
    "text/csv": "csv",
    "text/plain": "txt",
    "image/png": "png",
    "image/jpeg": "jpg",
}
_RUNNER = Path(__file__).with_name("answer_example.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example request and, optionally, its expected response.

    Attributes:
        request: what a client would send. bytes and str are sent as they are and need a `content_type`; a numpy
            array or CPU/GPU tensor becomes an npy body; anything else becomes JSON (numpy values in it included).
        content_type: of the request; application/x-npy for arrays and application/json for JSON values if omitted.
        accept: the Accept header that goes with the request.
        response: the expected answer, in the same forms as `request`. When omitted, `save_model` runs the functions
            of `code_dir` on the saved model and records what they answer.
        response_content_type: of a `response` given as bytes or str.
        rtol: relative tolerance of numbers when the server compares its answer.
        atol: absolute tolerance of numbers when the server compares its answer.
        timeout_s: how long `model_fn` and the other functions may take while the response is computed.
    """

    request: Any
    content_type: str | None = None
    accept: str = JSON
    response: Any = None
    response_content_type: str | None = None
    rtol: float = 1e-3
    atol: float = 1e-5
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The bytes of a request or response, and their content type."""

    data: bytes
    content_type: str

    def file_name(self, stem: str) -> str:
        """Return the file's name inside the artifact, with the suffix of its content type."""
        media_type = self.content_type.partition(";")[0].strip().lower()
        return f"example/{stem}.{_SUFFIXES.get(media_type, 'bin')}"


def encode_example(example: Example, *, has_code: bool) -> tuple[Body, Body | None]:
    """Return the bodies of request and response; no response when the code is to compute it.

    Raises:
        ArtifactError: bytes without a content type, an array that needs pickle, a value that JSON cannot hold, an odd
            tolerance, or no response and no code either.
    """
    for name in ("rtol", "atol", "timeout_s"):
        value = getattr(example, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise ArtifactError(f"example.{name} is {value!r}; it must be a finite number that is not negative")
    if example.response is None and not has_code:
        raise ArtifactError(
            "the example has no response: give example.response, or code_dir, whose functions then compute it"
        )
    if not example.accept:
        raise ArtifactError("example.accept is empty; say which content type the answer should have")
    request = _encode_body(example.request, example.content_type, "example.request")
    if example.response is None:
        return request, None
    return request, _encode_body(example.response, example.response_content_type, "example.response")


def answer_from_code(model_dir: Path, request: Body, example: Example) -> Body:
    """Run `model_dir/code/inference.py` on the request in a fresh process and return its answer.

    A fresh process, because that is what the server will be: nothing of the training script is loaded, the working
    directory is the model directory, and the names `inference` and those of the user's helpers are free. The devices
    are those of this machine, so an answer computed on a GPU is compared within the tolerances on a CPU, and back.

    Raises:
        ArtifactError: naming the function that is missing or failed, or the time limit.
    """
    with tempfile.TemporaryDirectory(prefix="save_model-") as scratch:
        request_file, answer_file, outcome_file = (Path(scratch, name) for name in ("request", "answer", "outcome"))
        request_file.write_bytes(request.data)
        arguments = [
            *(str(model_dir), str(request_file), request.content_type, example.accept),
            *(str(answer_file), str(outcome_file)),
        ]
        # -P keeps this package's own directory off the path; -B keeps __pycache__ out of the artifact.
        command = [sys.executable, "-P", "-B", str(_RUNNER), *arguments]
        try:
            status = subprocess.run(command, check=False, timeout=example.timeout_s, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise ArtifactError(
                f"code/inference.py did not answer the example within {example.timeout_s:g} s"
            ) from None
        if not outcome_file.exists():
            raise ArtifactError(f"code/inference.py ended its process (status {status.returncode}) on the example")
        outcome = json.loads(outcome_file.read_bytes())
        if "error" in outcome:
            raise ArtifactError(outcome["error"])
        return Body(data=answer_file.read_bytes(), content_type=outcome["content_type"])


def _encode_body(value: object, content_type: str | None, where: str) -> Body:
    if isinstance(value, str | bytes | bytearray | memoryview):
        if not content_type:
            raise ArtifactError(f"{where} is raw {type(value).__name__}; say its content type")
        return Body(data=value.encode() if isinstance(value, str) else bytes(value), content_type=content_type)
    if isinstance(value, torch.Tensor):
        if value.dtype is torch.bfloat16:
            raise ArtifactError(f"{where} is a bfloat16 tensor, which npy cannot hold; convert it to float32")
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and content_type in (None, NPY):
        buffer = io.BytesIO()
        try:
            np.save(buffer, value, allow_pickle=False)
        except ValueError:
            raise ArtifactError(f"{where} is an array of Python objects, which npy cannot hold") from None
        return Body(data=buffer.getvalue(), content_type=NPY)
    if content_type not in (None, JSON):
        raise ArtifactError(f"{where} of content type {content_type} must be given as bytes or text")
    text = json.dumps(to_plain(value, where), ensure_ascii=False, allow_nan=False)
    return Body(data=text.encode(), content_type=JSON)
