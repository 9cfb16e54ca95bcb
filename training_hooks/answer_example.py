"""Answer one request with the user's `code/inference.py`, as the server would. Run as a script, in its own process.

    python -P answer_example.py MODEL_DIR REQUEST_FILE CONTENT_TYPE ACCEPT ANSWER_FILE OUTCOME_FILE

It follows the contract that the PyTorch containers set: `code/` and the model directory are importable, the working
directory is the model directory, `input_data` is text for JSON and CSV and bytes otherwise, and the answer is a body
or a pair of body and content type. There are no default functions here: what the archive answers must come from the
archive. Standard library only; torch is imported by the user's code.
"""

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

_TEXT_TYPES = ("application/json", "text/csv")


class HandlerProblem(Exception):
    """The user's code cannot answer; the text is one sentence."""


def answer(model_dir: Path, data: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Run the functions of `model_dir/code/inference.py` on one request; return the body and its content type."""
    module = _load(model_dir / "code" / "inference.py", search=(model_dir / "code", model_dir))
    header = Message()
    header["Content-Type"] = content_type
    body: str | bytes = data
    if header.get_content_type() in _TEXT_TYPES:
        # The functions get text, so the charset is used up and they see the bare type.
        body = data.decode(header.get_content_charset("utf-8"))
        content_type = header.get_content_type()
    if hasattr(module, "pre_model_fn"):
        _call(module, "pre_model_fn", str(model_dir))
    model = _call(module, "model_fn", str(model_dir))
    if hasattr(module, "model_warmup_fn"):
        _call(module, "model_warmup_fn", str(model_dir), model)
    if hasattr(module, "transform_fn"):
        result = _call(module, "transform_fn", model, body, content_type, accept)
    else:
        request = _call(module, "input_fn", body, content_type)
        prediction = _call(module, "predict_fn", request, model)
        result = _call(module, "output_fn", prediction, accept)
    answered, answered_type = result if isinstance(result, tuple) and len(result) == 2 else (result, accept)
    return _as_bytes(answered), str(answered_type)


def _load(path: Path, search: tuple[Path, ...]) -> ModuleType:
    if not path.is_file():
        raise HandlerProblem("code_dir has no inference.py, so nothing can answer the example")
    sys.path[:0] = [str(directory) for directory in search]
    spec = importlib.util.spec_from_file_location("inference", path)
    if spec is None or spec.loader is None:
        raise HandlerProblem("code/inference.py cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules["inference"] = module  # the user's helpers may import it by this name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise HandlerProblem(f"code/inference.py cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _call(module: ModuleType, name: str, *arguments: object) -> Any:
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None:
        raise HandlerProblem(
            f"code/inference.py defines no {name}, which the example needs; "
            "define it, or give the expected response yourself"
        )
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError:
        raise HandlerProblem(
            f"code/inference.py: {name}{signature} cannot take its {len(arguments)} arguments alone (the server's "
            "context does not exist here); give the expected response yourself"
        ) from None
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise HandlerProblem(
            f"code/inference.py: {name} failed on the example: {type(error).__name__}: {error}"
        ) from error


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    try:
        return json.dumps(body, indent=2).encode()  # what the containers do with plain values
    except (TypeError, ValueError):
        raise HandlerProblem(
            f"code/inference.py answered the example with a {type(body).__name__}, which is not text, bytes or JSON"
        ) from None


def main(arguments: list[str]) -> None:
    """Read the request, write the answer and, last, the outcome that says how it went."""
    model_dir, request_file, content_type, accept, answer_file, outcome_file = arguments
    os.chdir(model_dir)
    try:
        body, answered_type = answer(Path(model_dir), Path(request_file).read_bytes(), content_type, accept)
        Path(answer_file).write_bytes(body)
        outcome = {"content_type": answered_type}
    except HandlerProblem as problem:
        outcome = {"error": str(problem)}
    Path(outcome_file).write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
