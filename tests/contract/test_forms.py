"""A model that has faster forms: the server serves the first that fits and is right, and says which and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.repositories import serving
from tests.contract.running import Server, running
from tests.inference.forms import toy_forms

SCRIPT = """
import torch
from net import Net

def model_fn(model_dir, context):
    network = context.verified_form()
    if network is None:
        network = Net().eval()
        network.load_state_dict(torch.load(f"{model_dir}/model.pth", weights_only=True))
    return {"network": network, "kind": type(network).__name__}

def predict_fn(data, model):
    return model["network"](torch.as_tensor(data))
"""
BORROWS = """
import json
import torch

def model_fn(model_dir, context):
    return context

def input_fn(data, content_type):
    return torch.tensor(json.loads(data))

def predict_fn(rows, context):
    network = context.get_model("toy")
    return {"kind": type(network).__name__, "answer": network(rows).tolist()}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
ROWS = torch.tensor(toy_forms.ROWS)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """ONNX files of the toy network with the right weights (0), and with others (1)."""
    place = tmp_path_factory.mktemp("onnx")
    for seed in (0, 1):
        toy_forms.write_onnx(place / f"{seed}.onnx", toy_forms.network(seed))
    return {seed: (place / f"{seed}.onnx").read_bytes() for seed in (0, 1)}


def files_of(root: Path, onnx: dict[str, bytes], forms: list[Any], script: str = "") -> dict[str, bytes]:
    """The files of an archive with ONNX files by the names of their forms."""
    for name, data in onnx.items():
        path = root / "forms" / name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    toy_forms.archive(root, forms, script=script)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def form_of(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.request("GET", "/models/model").json()["form"]
    assert server.request("GET", "/models").json()["models"][0]["form"] == found
    return found


def asked(server: Server, rows: torch.Tensor) -> torch.Tensor:
    reply = server.post(json.dumps(rows.tolist()))
    assert reply.status == 200, reply.body
    return torch.tensor(reply.json())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, onnx: dict[int, bytes]) -> Iterator[Server]:
    """One whose first form is for another machine, whose second is wrong, and whose third is right."""
    forms = [
        toy_forms.form("gpu", requires={"device": "cuda"}, file="forms/onnx/model.onnx"),
        toy_forms.form("wrong"),
        toy_forms.form("onnx"),
    ]
    files = files_of(tmp_path_factory.mktemp("model"), {"wrong": onnx[1], "onnx": onnx[0]}, forms)
    with running(files, TIDEGATE_MAX_BATCH_SIZE="4") as server:
        yield server


def test_the_first_form_that_fits_and_is_right_answers_as_the_model_does(server: Server) -> None:
    for rows in (ROWS, torch.rand(1, 4), torch.rand(30, 4)):
        torch.testing.assert_close(asked(server, rows), toy_forms.network()(rows), rtol=1e-3, atol=1e-5)


def test_models_and_the_log_say_which_form_and_why_no_other(server: Server) -> None:
    found = form_of(server)
    assert found["name"] == "onnx"
    assert found["why"].startswith("it fits this machine and answers the archive's example")
    reasons = {each["name"]: each["why"] for each in found["passed_over"]}
    assert reasons["gpu"] == "it is for a GPU, and this worker computes on the CPU"
    assert "example was not answered as expected" in reasons["wrong"]
    for name, why in reasons.items():
        assert f"the form '{name}' of the model is not served: {why}" in server.log()
    assert "of the model's forms 'onnx' is served: it fits" in server.log()


def test_an_input_that_does_not_fit_is_the_clients_mistake(server: Server) -> None:
    reply = server.post(b"[[1, 2, 3]]")
    assert reply.status == 400
    assert "the input 'x' has the shape (1, 3); it must be (batch, 4) of float32" in reply.error["message"]


def test_requests_share_calls_of_a_form_as_they_do_of_a_model(server: Server) -> None:
    """The proof before traffic says so, by what the form may differ from itself."""
    assert "requests like the archive's example may share a call" in server.log()


def test_the_open_inference_protocol_tells_what_the_form_takes(server: Server) -> None:
    found = server.request("GET", "/v2/models/model").json()
    assert found["inputs"] == [{"name": "input_0", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["outputs"] == [{"name": "output_0", "datatype": "FP32", "shape": [-1, 3]}]
    body = {"inputs": [{"name": "any", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    reply = server.request("POST", "/v2/models/model/infer", json.dumps(body))
    assert reply.status == 200, reply.body
    data = torch.tensor(reply.json()["outputs"][0]["data"])
    torch.testing.assert_close(data, toy_forms.network()(ROWS[:1])[0], rtol=1e-3, atol=1e-5)


def test_a_script_asks_for_a_form_and_gets_the_model_where_none_is_right(
    tmp_path: Path, onnx: dict[int, bytes]
) -> None:
    """It is asked the example like any model: what is wrong is taken away, and model_fn is called again."""
    forms = [toy_forms.form("wrong"), toy_forms.form("onnx")]
    files = files_of(tmp_path, {"wrong": onnx[1], "onnx": onnx[0]}, forms, SCRIPT)
    with running(files) as server:
        torch.testing.assert_close(asked(server, ROWS), toy_forms.network()(ROWS), rtol=1e-3, atol=1e-5)
        assert form_of(server)["name"] == "onnx"
    with running(files, TIDEGATE_FORM="eager") as server:
        torch.testing.assert_close(asked(server, ROWS), toy_forms.network()(ROWS), rtol=1e-3, atol=1e-5)
        assert form_of(server) == {"name": "eager", "why": "TIDEGATE_FORM=eager", "passed_over": []}


def test_where_no_form_is_right_the_model_itself_is_served(tmp_path: Path, onnx: dict[int, bytes]) -> None:
    stale = toy_forms.form("stale", file="forms/wrong/model.onnx", made_from={"sha256": "0" * 64})
    files = files_of(tmp_path, {"wrong": onnx[1]}, [stale, toy_forms.form("wrong")])
    with running(files) as server:
        torch.testing.assert_close(asked(server, ROWS), toy_forms.network()(ROWS), rtol=1e-3, atol=1e-5)
        found = form_of(server)
        assert (found["name"], found["why"]) == ("eager", "no form of the archive can be served here")
        assert [each["name"] for each in found["passed_over"]] == ["stale", "wrong"]


def test_a_form_whose_file_was_replaced_stops_the_start(tmp_path: Path, onnx: dict[int, bytes]) -> None:
    """As every file of the archive that is not what the manifest says."""
    files = files_of(tmp_path, {"onnx": onnx[0]}, [toy_forms.form()])
    files["forms/onnx/model.onnx"] = onnx[1]
    with running(files, wait=False) as server:
        assert server.ended() == 1
        assert "forms/onnx/model.onnx" in server.log().splitlines()[-1]


def test_a_form_that_is_demanded_and_cannot_be_served_stops_the_start(tmp_path: Path, onnx: dict[int, bytes]) -> None:
    files = files_of(tmp_path, {"wrong": onnx[1]}, [toy_forms.form("wrong")])
    with running(files, wait=False, TIDEGATE_FORM="wrong") as server:
        assert server.ended() == 1
        last = server.log().splitlines()[-1]
        assert "TIDEGATE_FORM asks for 'wrong', which cannot be served: The archive's example was not answered" in last


def test_a_repository_serves_forms_to_requests_and_to_scripts_that_borrow_the_model(
    tmp_path: Path, onnx: dict[int, bytes]
) -> None:
    """Each checks the example by itself, so a form that is wrong is served to neither."""
    files = files_of(tmp_path / "toy", {"wrong": onnx[1], "onnx": onnx[0]}, [toy_forms.form("wrong"), toy_forms.form()])
    with serving(tmp_path) as here:
        here.folder.put_version("toy", 1, files)
        here.folder.publish("borrows", 1, code=BORROWS)
        here.until_known("toy")
        here.until_known("borrows")
        expected = toy_forms.network()(ROWS)
        reply = here.ask("borrows", body=toy_forms.ROWS)
        assert reply.status == 200, reply.body
        assert reply.json()["kind"] == "ServedForm"
        torch.testing.assert_close(torch.tensor(reply.json()["answer"]), expected, rtol=1e-3, atol=1e-5)
        assert "form" not in here.versions("toy")[1]
        reply = here.ask("toy", body=toy_forms.ROWS)
        torch.testing.assert_close(torch.tensor(reply.json()), expected, rtol=1e-3, atol=1e-5)
        form = here.versions("toy")[1]["form"]
        assert (form["name"], [each["name"] for each in form["passed_over"]]) == ("onnx", ["wrong"])
