"""The example request of an artifact: its body, and the answer that the server must give before it takes traffic."""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .arguments import kind_of, shown
from .errors import ArtifactError
from .media_types import JSON, JSON_LINES, NPY, NPZ, PNG, media_type_of
from .plain_values import checked_text, to_array, to_plain

_SUFFIXES = {
    JSON: "json",
    JSON_LINES: "jsonl",
    NPY: "npy",
    NPZ: "npz",
    "text/csv": "csv",
    "text/plain": "txt",
    PNG: "png",
    "image/jpeg": "jpg",
}
_SAID = ("weights", "image", "table", "tensors", "classes", "labels")
"""What of the manifest the process that answers an example is told."""
_LARGEST = 1e300  # a whole number may be larger than any float
_RUNNER = Path(__file__).with_name("answer_example.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example request and, optionally, its expected response.

    Attributes:
        request: what a client would send. bytes and str are sent as they are, and need a `content_type` where their
            content does not say what they are, as that of pictures, npy, npz and JSON does; a numpy array or CPU/GPU
            tensor becomes an npy body, a Pillow image a PNG; anything else becomes JSON (numpy and torch values in it
            included).
        content_type: of the request; that of the form above if omitted.
        accept: the Accept header that goes with the request; the type of the response if omitted, and JSON where
            there is none.
        response: the expected answer. bytes and str are compared as they are; an array, a tensor or a plain value is
            written as JSON, or as npy where `accept` asks for that. When omitted, `save_model` answers the request
            with the saved model and the functions of `code_dir`, the server's defaults in the place of those that are
            not there, and records the answer.
        response_content_type: of the response; for bytes and str that of `accept`, or what their content says.
        rtol: relative tolerance of numbers when the server compares its answer.
        atol: absolute tolerance of numbers when the server compares its answer.
        timeout_s: how long `model_fn` and the other functions may take while the response is computed.
    """

    request: Any
    content_type: str | None = None
    accept: str | None = None
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
        return f"example/{stem}.{_SUFFIXES.get(_media_type(self.content_type), 'bin')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedExample:
    """An example ready to be written.

    Attributes:
        request: its body.
        accept: the Accept header that goes with it.
        response: its body; None where the code is to compute it.
        rtol, atol: the tolerances of numbers.
        timeout_s: the time limit for computing the response.
    """

    request: Body
    accept: str
    response: Body | None
    rtol: float
    atol: float
    timeout_s: float


def encode_example(given: object, *, can_answer: bool) -> EncodedExample:
    """Return the example with its bodies; a tensor, an array, an image or a plain value counts as a request.

    Args:
        given: an `Example`, or the request alone.
        can_answer: there is code, or a named architecture, that can compute a response.

    Raises:
        ArtifactError: bytes without a content type, an array that needs pickle, a value that JSON cannot hold, an odd
            tolerance, or no response and nothing that could compute it.
    """
    if isinstance(given, tuple) or given is Example:
        raise ArtifactError(
            f"example is {shown(given)}; give the request alone, or Example(request=…, response=…) with its answer"
        )
    if not isinstance(given, Example):
        _encode(given, None, "example")  # raises with the argument's own name
    example = given if isinstance(given, Example) else Example(request=given)
    for name in ("rtol", "atol", "timeout_s"):
        value = getattr(example, name)
        value = value.item() if isinstance(value, np.generic) else value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and 0 <= value < _LARGEST):
            raise ArtifactError(f"example.{name} is {shown(value)}; it must be a finite number that is not negative")
    for name in ("content_type", "accept", "response_content_type"):
        _check_type(getattr(example, name), f"example.{name}")
    if example.response is None and not can_answer:
        raise ArtifactError(
            "the example has no response: give example.response, or code_dir, whose functions then compute it"
        )
    if example.request is None:
        raise ArtifactError("example.request is None; give what a client would send")
    response = None if example.response is None else _encode_response(example)
    if response is not None:
        _demand_readable(response, "example.response")
    return EncodedExample(
        request=_encode(example.request, example.content_type, "example.request"),
        accept=example.accept or (response.content_type if response else JSON),
        response=response,
        rtol=float(example.rtol),
        atol=float(example.atol),
        timeout_s=float(example.timeout_s),
    )


def answer_from_code(model_dir: Path, example: EncodedExample, manifest: Mapping[str, Any]) -> Body:
    """Answer the request with the files of `model_dir`, in a fresh process.

    A fresh process, because that is what the server will be: nothing of the training script is loaded, the working
    directory is the model directory, and the names `inference` and those of the user's helpers are free. The devices
    are those of this machine, so an answer computed on a GPU is compared within the tolerances on a CPU, and back.

    Raises:
        ArtifactError: naming the function that is missing or failed, or the time limit.
    """
    with tempfile.TemporaryDirectory(prefix="save_model-") as scratch:
        names = ("request", "manifest", "answer", "outcome")
        request_file, manifest_file, answer_file, outcome_file = (Path(scratch, name) for name in names)
        request_file.write_bytes(example.request.data)
        said = {key: manifest[key] for key in _SAID if key in manifest}
        manifest_file.write_text(json.dumps(said), encoding="utf-8")
        arguments = [
            *(str(model_dir), str(request_file), example.request.content_type, example.accept),
            *(str(manifest_file), str(answer_file), str(outcome_file)),
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
        body = Body(data=answer_file.read_bytes(), content_type=outcome["content_type"])
        _demand_readable(body, "the answer of code/inference.py to the example")
        return body


def _encode(value: object, content_type: str | None, where: str) -> Body:
    """Encode by what the value is, within the content type that was asked for."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        data = checked_text(value, where).encode() if isinstance(value, str) else bytes(value)
        content_type = content_type or media_type_of(data)
        if not content_type:
            raise ArtifactError(
                f"{where} is {kind_of(value)} whose content does not say what it is; say its content type, as in "
                "Example(request=…, content_type='text/csv')"
            )
        return Body(data=data, content_type=content_type)
    if isinstance(value, os.PathLike):
        raise ArtifactError(f"{where} is a path; give what is in the file, {shown(os.fspath(value))}, as bytes")
    media_type = None if content_type is None else _media_type(content_type)
    if (png := _png(value, where)) is not None:
        if media_type not in (None, PNG):
            raise ArtifactError(f"{where} of content type {content_type} must be given as bytes; an image becomes PNG")
        return Body(data=png, content_type=PNG)
    if isinstance(value, np.ndarray | torch.Tensor) and media_type in (None, NPY):
        return _npy(value, where)
    if media_type not in (None, JSON):
        raise ArtifactError(f"{where} of content type {content_type} must be given as bytes or text")
    text = json.dumps(to_plain(value, where), ensure_ascii=False, allow_nan=False)
    return Body(data=text.encode(), content_type=JSON)


def _encode_response(example: Example) -> Body:
    value = example.response
    content_type = example.response_content_type or example.accept
    if isinstance(value, str | bytes | bytearray | memoryview) or example.response_content_type is not None:
        if content_type and ("," in content_type or "*" in content_type):
            raise ArtifactError(
                f"example.response has the type {shown(content_type)}, which is not one type; say the one that it is "
                "of by response_content_type"
            )
        return _encode(value, content_type, "example.response")
    # What the server writes without being asked for another type is JSON, arrays too.
    wanted = JSON if content_type is None else _media_type(content_type.partition(",")[0])
    return _encode(value, JSON if wanted in ("*/*", "application/*") else wanted, "example.response")


def _demand_readable(body: Body, where: str) -> None:
    """Raise `ArtifactError` for an answer that is not of its type: the server could compare it with nothing."""
    media_type = _media_type(body.content_type)
    try:
        if media_type == JSON:
            json.loads(body.data)
        elif media_type == JSON_LINES:
            for line in body.data.splitlines():
                json.loads(line)
        elif media_type == NPY:
            np.lib.format.read_array(io.BytesIO(body.data), allow_pickle=False)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} cannot be read as {media_type}, which is its type: {error}") from None


def _npy(value: object, where: str) -> Body:
    buffer = io.BytesIO()
    array = to_array(value, where)
    try:
        np.save(buffer, array, allow_pickle=False)
    except (ValueError, TypeError, NotImplementedError):
        raise ArtifactError(f"{where} is an array of Python objects, which npy cannot hold") from None
    return Body(data=buffer.getvalue(), content_type=NPY)


def _png(value: object, where: str) -> bytes | None:
    """Return a Pillow image as PNG, and None for anything else; who has such an image has imported Pillow."""
    pillow = sys.modules.get("PIL.Image")
    if pillow is None or not isinstance(value, pillow.Image):
        return None
    buffer = io.BytesIO()
    try:
        value.save(buffer, "PNG")
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{where} is an image that cannot be written as PNG: {error}; give image.convert('RGB')"
        ) from None
    return buffer.getvalue()


def _check_type(value: object, where: str) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ArtifactError(f"{where} is {shown(value)}; give a content type as text, such as 'application/json'")
    if not value:
        raise ArtifactError(f"{where} is empty; say which content type is meant, or leave it out")
    if "/" not in value or not value.isprintable() or not value.isascii():
        raise ArtifactError(f"{where} is {shown(value)}; a content type looks like 'application/json'")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
