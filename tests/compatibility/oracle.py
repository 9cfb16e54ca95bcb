"""Asks the real AWS toolkit, in this process, what it would answer; started by the differential test.

    stdin    {"root": model directory, "cases": [{"body": base64, "headers": {…}}, …]}, one archive a line
    stdout   [{"status": 200, "type": "…", "body": base64}, …], one line for each

The toolkit is driven as TorchServe drove it: a list of bodies and a context; what it returns becomes bytes by
TorchServe's rules. An archive is asked in a fork of its own, in its directory, with its code on the path.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch


class Request:
    """One request's headers, and the response's."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.response: dict[str, str] = {}
        self.status = 200

    def get_request_property(self, key: str) -> str | None:
        return next((value for name, value in self.headers.items() if name.lower() == key.lower()), None)

    def get_request_properties(self) -> dict[str, str]:
        return self.headers

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:  # noqa: ARG002
        self.status = code


class Context:
    """As much of TorchServe's as the toolkit and the scripts touch."""

    model_name = "model"
    manifest: ClassVar[dict[str, Any]] = {}

    def __init__(self, model_dir: str) -> None:
        self.system_properties = {"model_dir": model_dir, "gpu_id": None, "batch_size": 1}
        self.request_processor: list[Request] = []

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].headers

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.request_processor[idx].response[key] = value

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.request_processor[idx].report_status(code, phrase)


def to_bytes(body: Any) -> bytes | None:
    """A model's output as TorchServe sent it; None where it answered 503."""
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, torch.Tensor):
        file = io.BytesIO()
        torch.save(body, file)
        return file.getvalue()
    try:
        return json.dumps(body, indent=2).encode()
    except (TypeError, OverflowError):
        return None


def answers(root: str, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    code = str(Path(root) / "code")
    os.chdir(root)
    sys.path[:0] = [code, root]
    importlib.invalidate_caches()
    transformer = importlib.import_module("sagemaker_inference.transformer").Transformer(
        default_inference_handler=importlib.import_module(
            "sagemaker_pytorch_serving_container.default_pytorch_inference_handler"
        ).DefaultPytorchInferenceHandler()
    )
    context = Context(root)
    transformer.validate_and_initialize(model_dir=root, context=context)
    found = []
    for case in cases:
        request = Request(case["headers"])
        context.request_processor = [request]
        body = bytearray(base64.b64decode(case["body"]))
        # An empty body reaches the toolkit as none at all.
        (output,) = transformer.transform([{"body": body} if body else {}], context)
        data = to_bytes(output)
        status = request.status if data is not None else 503
        kind = next((value for key, value in request.response.items() if key.lower() == "content-type"), None)
        found.append({"status": status, "type": kind, "body": base64.b64encode(data or b"").decode()})
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path[:] = [each for each in sys.path if Path(each) != Path(__file__).parent]
    answered = os.dup(1)
    os.dup2(2, 1)  # scripts print
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.write(answered, json.dumps(answers(job["root"], job["cases"])).encode() + b"\n")
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            sys.exit(f"the toolkit failed on {job['root']}")


if __name__ == "__main__":
    main()
