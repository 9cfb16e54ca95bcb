"""The open inference protocol on the server's socket, spoken by hand: KServe's and Triton's "v2"."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.contract.running import Reply, Server, running
from tests.contract.test_multi_model import load, place
from tidegate.inference.version import own_version

DOUBLING = """
import torch

def model_fn(model_dir):
    return torch.nn.Identity()

def predict_fn(data, model, context):
    if isinstance(data, list):
        return {"words": data}
    if isinstance(data, dict):
        return {"sum": sum(data.values()), "name": context.model_name}
    if data.numel() == 13:
        raise RuntimeError("bad luck")
    return data * 2
"""

EXAMPLE = {
    "manifest.json": json.dumps(
        {
            "format_version": 1,
            "files": {},
            "example": {
                "request": {"file": "in.json", "content_type": "application/json", "accept": "application/json"},
                "response": {"file": "out.json", "content_type": "application/json"},
            },
        }
    ),
    "in.json": "[[1, 2, 3]]",
    "out.json": "[[2, 4, 6]]",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": DOUBLING, **EXAMPLE}, TIDEGATE_MAX_BATCH_SIZE="8") as server:
        yield server


@pytest.fixture(scope="module")
def several() -> Iterator[Server]:
    with running({}, SAGEMAKER_MULTI_MODEL="true") as server:
        yield server


def tensor(data: Any, datatype: str = "FP32", name: str = "x", **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(np.shape(data)), "data": data, **more}


def infer(server: Server, *inputs: Any, model: str = "model", **more: Any) -> Reply:
    body = json.dumps({"inputs": inputs, **more})
    return server.request("POST", f"/v2/models/{model}/infer", body, {"content-type": "application/json"})


def said(reply: Reply) -> str:
    """The sentence of an error, which is all that there is in its body."""
    content = reply.json()
    assert content.keys() == {"error"}
    assert isinstance(content["error"], str)
    assert reply.headers["x-tidegate-request-id"]
    return content["error"]


def test_the_server_describes_itself(server: Server) -> None:
    found = server.request("GET", "/v2").json()
    extensions = ["binary_tensor_data", "model_repository"]
    assert found == {"name": "tidegate", "version": own_version(), "extensions": extensions}
    assert server.request("GET", "/v2/health/live").json() == {"live": True}
    assert server.request("GET", "/v2/health/ready").json()["ready"] is True
    assert server.request("HEAD", "/v2/health/ready").status == 200


def test_it_lives_before_it_is_ready() -> None:
    waiting = "import time\ndef model_fn(model_dir):\n    time.sleep(600)\n"
    with running({"code/inference.py": waiting}, wait=False) as server:
        server.wait_until(lambda: server.request("GET", "/v2/health/live").status == 200, "it lives")
        ready = server.request("GET", "/v2/health/ready")
        assert (ready.status, ready.headers["retry-after"]) == (503, "1")
        assert "starting" in said(ready) or "not ready" in said(ready)
        assert server.request("GET", "/v2/models/model/ready").status == 503
        assert infer(server, tensor([1])).status == 503


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/latest"])
def test_the_model_describes_itself_by_its_example(server: Server, version: str) -> None:
    found = server.request("GET", f"/v2/models/model{version}").json()
    assert found == {
        "name": "model",
        "versions": ["1"],
        "platform": "pytorch",
        "inputs": [{"name": "input_0", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "output_0", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert server.request("GET", f"/v2/models/model{version}/ready").json() == {"name": "model", "ready": True}


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/latest"])
def test_json_goes_in_and_comes_out(server: Server, version: str) -> None:
    reply = infer(server, tensor([[1, 2.5]]), model=f"model{version}", id="seven")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {
        "model_name": "model",
        "model_version": "1",
        "id": "seven",
        "outputs": [{"name": "output_0", "datatype": "FP32", "shape": [1, 2], "data": [2, 5]}],
    }


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_go_in_and_come_out(server: Server, packed: bool) -> None:
    data = np.arange(6, dtype="<f2")
    entry = {"name": "x", "datatype": "FP16", "shape": [2, 3], "parameters": {"binary_data_size": 12}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    body = head + data.tobytes()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Encoding": "gzip" if packed else "identity"}
    reply = server.request("POST", "/v2/models/model/infer", gzip.compress(body) if packed else body, headers)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    at = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.body[:at])["outputs"]
    assert output == {
        "name": "output_0",
        "datatype": "FP16",
        "shape": [2, 3],
        "parameters": {"binary_data_size": 12},
    }
    assert np.frombuffer(reply.body[at:], "<f2").tolist() == (2 * data).tolist()
    assert int(reply.headers["content-length"]) == at + 12


def test_a_body_that_is_in_a_file_is_read_there(server: Server) -> None:
    data = np.arange(3 * 2**20, dtype="<f4")
    entry = {"name": "x", "datatype": "FP32", "shape": [data.size], "parameters": {"binary_data_size": data.nbytes}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = server.request("POST", "/v2/models/model/infer", head + data.tobytes(), headers)
    at = int(reply.headers["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(reply.body, "<f4", offset=at), 2 * data)


def test_several_inputs_and_chosen_outputs(server: Server) -> None:
    wanted = [{"name": "name", "parameters": {"binary_data": True}}, {"name": "sum"}]
    reply = infer(server, tensor([1, 2], "INT32", "a"), tensor([3, 4], "INT32", "b"), outputs=wanted)
    at = int(reply.headers["inference-header-content-length"])
    name, total = json.loads(reply.body[:at])["outputs"]
    assert (name["datatype"], reply.body[at:]) == ("BYTES", struct.pack("<I", 5) + b"model")
    assert (total["datatype"], total["data"]) == ("INT32", [4, 6])
    assert infer(server, tensor(["a", "ü"], "BYTES")).json()["outputs"][0]["data"] == ["a", "ü"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/ghost", 404),
        ("GET", "/v2/models/ghost/ready", 404),
        ("POST", "/v2/models/ghost/infer", 404),
        ("GET", "/v2/models/model/versions/2", 404),
        ("GET", "/v2/models/model/versions/2/ready", 404),
        ("POST", "/v2/models/model/versions/2/infer", 404),
        ("GET", "/v2/models/model/config", 404),
        ("GET", "/v2/models/model/stats", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models/model/infer", 405),
        ("POST", "/v2/models/model", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/models/model/load", 400),
        ("POST", "/v2/repository/models/model/unload", 400),
    ],
)
def test_what_is_not_there_is_said_in_the_protocols_form(server: Server, method: str, path: str, status: int) -> None:
    reply = server.request(method, path, b"" if method == "POST" else None)
    assert reply.status == status
    assert said(reply)


def test_what_cannot_be_answered_is_said_in_the_protocols_form(server: Server) -> None:
    for inputs in ([tensor([1.5], "INT8")], [{**tensor([1]), "shape": [2]}], [tensor([1], "FLOAT32")], []):
        assert infer(server, *inputs).status == 400
        assert said(infer(server, *inputs))
    failed = infer(server, tensor([0] * 13))
    assert (failed.status, "RuntimeError" in said(failed)) == (500, True)
    assert failed.headers["x-tidegate-request-id"] in server.log()
    assert said(server.request("POST", "/v2/models/model/infer", b"{"))


def test_a_body_over_the_limit_is_413_in_the_protocols_form() -> None:
    with running({"code/inference.py": DOUBLING}, TIDEGATE_MAX_BODY_BYTES="1000") as server:
        reply = infer(server, tensor([1.5] * 1000))
        assert reply.status == 413
        assert said(reply)


def test_the_index_has_the_one_model(server: Server) -> None:
    entry = {"name": "model", "version": "1", "state": "READY", "reason": ""}
    for body in (None, b"", b"{}", b'{"ready": true}'):
        assert server.request("POST", "/v2/repository/index", body).json() == [entry]
    for body in (b"[]", b"{", b'{"ready": 1}', b"[" * 10_000):
        assert server.request("POST", "/v2/repository/index", body).status == 400
    assert server.request("POST", "/v2/repository/index", b" " * 70_000).status == 413


def test_models_of_a_multi_model_server_come_and_go(several: Server) -> None:
    assert several.request("POST", "/v2/repository/index").json() == []
    assert several.request("GET", "/v2/health/ready").status == 200
    for name in ("abc", "d e"):
        place(several, name, {"code/inference.py": DOUBLING})
    assert several.request("POST", "/v2/repository/models/abc/load").status == 200
    assert several.request("POST", "/v2/repository/models/d%20e/load", b'{"parameters": {}}').status == 200
    assert several.request("POST", "/v2/repository/models/abc/load").status == 200, "it is loaded already"
    assert [entry["name"] for entry in several.request("POST", "/v2/repository/index").json()] == ["abc", "d e"]
    both = tensor([1, 2], "INT32", "a"), tensor([3, 4], "INT32", "b")
    outputs = infer(several, *both, model="d%20e").json()["outputs"]
    assert outputs[1]["data"] == ["d e"]
    assert several.request("GET", "/v2/models/abc").json()["inputs"] == [], "no example says what it takes"
    assert several.request("POST", "/v2/repository/models/abc/unload", b'{"parameters": {}}').status == 200
    assert infer(several, *both, model="abc").status == 404
    assert several.request("POST", "/v2/repository/models/abc/unload").status == 404


def test_a_model_is_loaded_from_where_the_request_says(several: Server) -> None:
    place(several, "else", {"code/inference.py": DOUBLING})
    url = str(several.model_dir.parent / "models" / "else")
    body = json.dumps({"parameters": {"url": url}})
    assert several.request("POST", "/v2/repository/models/other/load", body).status == 200
    assert several.request("DELETE", "/models/other").status == 200


def test_what_cannot_be_loaded_says_why(several: Server) -> None:
    place(several, "broken", {"code/inference.py": "def model_fn(model_dir):\n    raise ValueError('torn')\n"})
    failed = several.request("POST", "/v2/repository/models/broken/load")
    assert (failed.status, "torn" in said(failed)) == (500, True)
    for name in ("ghost", "..", ".", "%2e%2e", "..%2fmodel", "%2fetc"):
        assert several.request("POST", f"/v2/repository/models/{name}/load").status == 404
    for parameters in ({"config": "{}"}, {"url": "relative"}, {"file:1/model.pt": "AAAA"}, []):
        body = json.dumps({"parameters": parameters})
        assert several.request("POST", "/v2/repository/models/abc/load", body).status == 400


def test_a_model_that_the_platform_has_loaded_is_there_too(several: Server) -> None:
    url = place(several, "plain", {"code/inference.py": DOUBLING})
    assert load(several, "plain", url).status == 200
    assert infer(several, tensor([[1]]), model="plain").json()["outputs"][0]["data"] == [2]


def test_a_script_with_functions_of_its_own_is_asked_as_ever() -> None:
    script = """
import io, json
import numpy as np

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    assert content_type == "application/x-npy", content_type
    return np.load(io.BytesIO(body))

def predict_fn(data, model):
    return data.sum(axis=1)

def output_fn(prediction, accept):
    return json.dumps({"label": ["cat" if each > 1 else "dog" for each in prediction], "sum": prediction.tolist()})
"""
    with running({"code/inference.py": script}) as server:
        label, total = infer(server, tensor([[1.5, 2], [0, 1]])).json()["outputs"]
        assert (label["datatype"], label["shape"], label["data"]) == ("BYTES", [2], ["cat", "dog"])
        assert (total["datatype"], total["data"]) == ("FP64", [3.5, 1])
