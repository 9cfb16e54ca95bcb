"""What a manifest says of NaN and infinity, and what an ONNX form answers to an id that it does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.inference.forms.toy_forms import SIGNATURE
from tidegate.inference.worker.forms.declaration import DeclaredForm, declared
from tidegate.inference.worker.forms.opening import Opening, open_form
from tidegate.inference.worker.misfit import InputRefused


def read(kind: str, parity: dict[str, Any], signature: dict[str, Any] = SIGNATURE) -> DeclaredForm:
    requires = {"machine": "x86_64", "processor": ["avx2"], "torch": "2.13"} if kind == "aoti" else {}
    form = {"name": "toy", "kind": kind, "file": "forms/toy/f", "requires": requires, "signature": signature}
    (found,) = declared({"forms": [{**form, "parity": {"rtol": 1e-3, "atol": 1e-5, **parity}}]})
    assert isinstance(found, DeclaredForm), found
    return found


@pytest.mark.parametrize(
    ("kind", "parity", "finite"),
    [
        ("onnx", {}, False),
        ("aoti", {}, True),
        ("aoti", {"non_finite": "as eager"}, False),
        ("onnx", {"non_finite": "differs"}, True),
        ("onnx", {"non_finite": 7}, True),
    ],
)
def test_a_form_takes_finite_numbers_alone_unless_it_is_shown_to_answer_others_as_eager_does(
    kind: str, parity: dict[str, Any], finite: bool
) -> None:
    """Of a compiled one that says nothing, made before this was looked at, it is not shown."""
    assert read(kind, parity).finite is finite


def test_an_id_that_an_onnx_form_does_not_have_is_the_clients_error(tmp_path: Path) -> None:
    """As it is of the model itself, whose embedding has no such row."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    ids, answer = (
        helper.make_tensor_value_info(name, kind, ["batch"])
        for name, kind in (("ids", TensorProto.INT64), ("output", TensorProto.FLOAT))
    )
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["output"])], "graph", [ids], [answer], initializer=[table]
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    signature = {
        "inputs": [{"name": "ids", "dtype": "int64", "shape": ["batch"]}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch"]}],
    }
    opening = Opening(form=read("onnx", {}, signature), path=path, place=torch.device("cpu"), make_eager=lambda: None)
    form = open_form(opening)
    assert form(torch.tensor([0, 2])).tolist() == [1, 3]
    with pytest.raises(InputRefused, match=r"out of data bounds|must be within the inclusive range"):
        form(torch.tensor([1, 3]))
