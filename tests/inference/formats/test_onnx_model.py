"""ONNX models by the real runtime: inputs are taken as the model declares them, or refused in one sentence."""

from __future__ import annotations

import gzip
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.inference.test_weights import CPU, message
from tidegate.inference.errors import BadRequest, DeploymentError
from tidegate.inference.worker import defaults
from tidegate.inference.worker.formats import onnx_model
from tidegate.inference.worker.formats.onnx_model import OnnxModel

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
Input = tuple[str, int, list[Any] | None]


def write(
    path: Path, *inputs: Input, op: str = "Identity", domain: str = "", weights: onnx.TensorProto | None = None
) -> None:
    """A model of one node over all inputs, which gives `y`."""
    values = [helper.make_tensor_value_info(*each) for each in inputs]
    constants = [weights] if weights is not None else []
    names = [each[0] for each in inputs] + [each.name for each in constants]
    answer = helper.make_tensor_value_info("y", inputs[0][1], inputs[0][2])
    graph = helper.make_graph([helper.make_node(op, names, ["y"], domain=domain)], "graph", values, [answer], constants)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def made(tmp_path: Path, *inputs: Input, op: str = "Identity") -> OnnxModel:
    write(tmp_path / "model.onnx", *inputs, op=op)
    return onnx_model.load(tmp_path / "model.onnx", CPU)


def refusal(model: OnnxModel, data: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, model)
    return str(caught.value)


def test_a_tensor_a_list_or_a_dict_is_taken_and_cast_where_nothing_is_lost(tmp_path: Path) -> None:
    model = made(tmp_path, ("a", INT64, ["n"]), ("b", INT64, ["n"]), op="Add")
    assert model({"a": torch.tensor([1.0]), "b": torch.tensor([2], dtype=torch.uint8)}).tolist() == [3]
    assert model([torch.tensor([4.0]), np.array([True])]).tolist() == [5]
    alone = made(tmp_path, ("x", FLOAT, ["n"]))
    assert alone(torch.tensor([0.1], dtype=torch.float64)).dtype is torch.float32
    assert alone(torch.ones(2, 2)[:, 0]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.tensor([[1.5]]), "the input 'x' is of int64, to which these numbers of float32 cannot be cast as they"),
        (torch.tensor([[float("nan")]]), "the input 'x' is of int64, to which these numbers of float32"),
        (torch.tensor([[2.0**70]]), "the input 'x' is of int64, to which these numbers of float32"),
        (torch.tensor([[2.0**24 + 2]]), "does not tell whole numbers from 16777216 on apart; send them"),
        (torch.tensor([[2.0**24]]), "does not tell whole numbers from 16777216 on apart; send them as int64"),
        (np.array([[2**64 - 1]], np.uint64), "the input 'x' is of int64, to which these numbers of uint64"),
        (np.array([[2**63]], np.uint64), "the input 'x' is of int64, to which these numbers of uint64"),
        (np.array([[2.0**63]]), "the input 'x' is of int64, to which these numbers of float64"),
        (torch.tensor([[1 + 1j]]), "the input 'x' takes numbers, which were not given"),
        ([[["a"]]], "the input 'x' takes numbers, which were not given"),
        ([[[1, 2], [3]]], "the input 'x' takes numbers, which were not given"),
        (torch.tensor([1]), "Invalid rank for input: x Got: 1 Expected: 2"),
        (torch.tensor([[1, 2]]), "Got invalid dimensions for input: x for the following indices index: 1 Got: 2"),
        ({"z": torch.tensor([[1]])}, "the model has the inputs x, not z"),
        ([torch.tensor([[1]])] * 2, "the model has the inputs x, and 2 were given"),
        ({}, "Required inputs (['x']) are missing"),
    ],
)
def test_what_does_not_fit_is_the_clients_mistake_and_names_the_input(tmp_path: Path, data: Any, said: str) -> None:
    assert said in refusal(made(tmp_path, ("x", INT64, ["n", 1])), data)


def test_a_number_that_becomes_infinite_is_refused(tmp_path: Path) -> None:
    model = made(tmp_path, ("x", FLOAT, ["n"]))
    assert "is of float32, to which these numbers of float64" in refusal(
        model, torch.tensor([1e300], dtype=torch.float64)
    )
    infinite = torch.tensor([float("inf"), float("nan")], dtype=torch.float64)
    assert str(model(infinite).tolist()) == "[inf, nan]"


def test_inputs_that_share_a_named_dimension_must_agree_on_its_length(tmp_path: Path) -> None:
    model = made(tmp_path, ("a", FLOAT, ["batch", 2]), ("b", FLOAT, ["batch", 2]), op="Add")
    said = refusal(model, {"a": torch.ones(3, 2), "b": torch.ones(1, 2)})
    assert "the inputs 'a' and 'b' have 3 and 1 as their 'batch', which must be the same" in said
    assert model({"a": torch.ones(3, 2), "b": torch.ones(3, 2)}).tolist() == [[2, 2]] * 3


def test_a_model_of_unknown_rank_or_no_records_is_asked(tmp_path: Path) -> None:
    assert made(tmp_path, ("x", FLOAT, None))(torch.ones(2, 1)).tolist() == [[1], [1]]
    assert made(tmp_path, ("x", FLOAT, ["n", 2]))(torch.ones(0, 2)).shape == (0, 2)


def test_strings_are_taken_and_given_as_lists(tmp_path: Path) -> None:
    model = made(tmp_path, ("x", STRING, ["n"]))
    assert model(["ä".encode(), "b"]) == ["ä", "b"]
    assert model({"x": ["c"]}) == ["c"]
    assert "the input 'x' takes strings, and numbers were given" in refusal(model, torch.ones(1))
    assert "takes strings, which were not given" in refusal(model, [1])
    assert "no UTF-8 text" in refusal(model, [b"\xff"])


def test_its_threads_are_those_of_torch_and_do_not_spin(tmp_path: Path) -> None:
    options = made(tmp_path, ("x", FLOAT, ["n"]))._session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


# --- files


def beside(location: str) -> onnx.TensorProto:
    """Weights that are in another file."""
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", ("x", FLOAT, [2]), op="Add", weights=beside("model.onnx.data"))
    assert message(tmp_path).endswith(
        f'External data path does not exist: "{tmp_path}/model.onnx.data".'.replace(str(tmp_path), "{dir}")
    )
    (tmp_path / "model.onnx.data").write_bytes(np.array([1, 2], np.float32).tobytes())
    assert defaults.model_fn(str(tmp_path))(torch.zeros(2)).tolist() == [1, 2]


@pytest.mark.parametrize("how", ["../secret", "/absolute", "link"])
def test_weights_outside_of_the_model_directory_are_refused(tmp_path: Path, how: str) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(np.array([1, 2], np.float32).tobytes())
    root = tmp_path / "model"
    root.mkdir()
    (root / "link").symlink_to(outside)
    location = str(outside) if how == "/absolute" else how
    write(root / "model.onnx", ("x", FLOAT, [2]), op="Add", weights=beside(location))
    assert "External data path validation failed" in message(root)


@pytest.mark.parametrize(
    ("op", "domain", "said"),
    [
        ("Nope", "", "it needs the operator Nope of opset 18, which this onnxruntime does not have; name a later"),
        ("Twice", "my.own", "it needs the operator Twice of the domain my.own, which nothing here has registered"),
        ("StringJoin", "ai.onnx.contrib", "it needs the operator StringJoin of onnxruntime-extensions; name that"),
    ],
)
def test_an_operator_that_is_missing_is_named_with_the_way_out(tmp_path: Path, op: str, domain: str, said: str) -> None:
    write(tmp_path / "model.onnx", ("x", FLOAT, [2]), op=op, domain=domain)
    assert message(tmp_path).startswith(f"{{dir}}/model.onnx cannot be loaded as ONNX: {said}")


def test_the_library_of_onnxruntime_extensions_is_registered_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("onnxruntime_extensions")
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    module.get_library_path = lambda: str(tmp_path / "no_such_library.so")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", module)
    write(tmp_path / "model.onnx", ("x", FLOAT, [2]))
    with pytest.raises(DeploymentError, match=r"no_such_library\.so"):
        onnx_model.load(tmp_path / "model.onnx", CPU)


@pytest.mark.parametrize("content", [b"", b"graph", b"\x08\x07\x3a\x00"])
def test_a_file_that_onnxruntime_cannot_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert message(tmp_path).startswith("{dir}/model.onnx cannot be loaded as ONNX: ")


def test_a_file_that_is_cut_off_or_something_else_is_said_to_be_that(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(path, ("x", FLOAT, ["n"]))
    whole = path.read_bytes()
    for content, what in (
        (whole[: len(whole) * 2 // 3], "cut off"),
        (whole[:-1], "cut off"),
        (whole[:3], "cut off"),
        (gzip.compress(whole), "a gzip archive"),
        (b"", "empty"),
        (pickle.dumps({"weight": [1.0]}), "a pickle, which could run code while it is read"),
        (b"<!DOCTYPE html><html>404", "an HTML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:aa",
            "a pointer of Git LFS, whose file was not fetched",
        ),
    ):
        path.write_bytes(content)
        assert message(tmp_path) == f"{{dir}}/model.onnx cannot be loaded as ONNX: it is {what}."
