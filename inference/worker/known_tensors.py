"""Which tensors a model takes and gives, as the metadata of the open inference protocol says it.

An ONNX file says it itself, the manifest says it of a form, and may declare what goes in. Of any other model the
archive's example shows it, where the server's own functions read and write it: what a script makes of a body is the
script's own business, and is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from tidegate.inference.declarations.tensors import TensorInput
from tidegate.inference.declarations.tensors import Tensors as DeclaredTensors
from tidegate.inference.protocol import Tensors
from tidegate.inference.worker.declared.sides import Declared
from tidegate.inference.worker.formats.onnx_model import OnnxModel
from tidegate.inference.worker.forms.served_form import ServedForm
from tidegate.inference.worker.forms.signature import Group, Structure, TensorSpec
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.named_outputs import outputs_of
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.tensor_data import BYTES, datatype_of


def known_tensors(
    model: Any, functions: Functions, example: Request | None, declared: Declared | None = None
) -> Tensors:
    """The tensors that are known; no `inputs` or no `outputs` where nothing is. `example` has been answered."""
    reads = functions.input_fn is None and functions.transform_fn is None
    writes = functions.output_fn is None and functions.transform_fn is None
    if isinstance(model, OnnxModel) and functions.predict_fn is None:
        inputs, outputs = model.described()
        return {"inputs": inputs if reads else [], "outputs": outputs if writes else []}
    known: Tensors = {}
    if isinstance(model, ServedForm) and functions.predict_fn is None:
        known = {
            "inputs": _named(model.signature.inputs, model.signature.arguments, "input_0") if reads else [],
            "outputs": _named(model.signature.outputs, (model.signature.result,), "output_0") if writes else [],
        }
    said = declared.input if declared is not None and reads else None
    if isinstance(said, DeclaredTensors):
        known["inputs"] = [_declared(each) for each in said.inputs]
    if example is None or example.data is None:  # an answer that was sent in parts has let go of its tensors
        return known
    if reads and not known.get("inputs"):
        known["inputs"] = _inputs(example.data)
    if writes and not known.get("outputs"):
        with suppress(Exception):  # a prediction may be anything, and what cannot be told is no fault of the model
            outputs_there = outputs_of(example.prediction)
            known["outputs"] = [_tensor(each.name, each.datatype, each.shape) for each in outputs_there]
    return known


def _inputs(data: Any) -> list[dict[str, Any]]:
    named = data if isinstance(data, Mapping) else {"input_0": data}
    tensors = ((name, value) for name, value in named.items() if isinstance(value, torch.Tensor))
    return [_tensor(name, datatype_of(value.dtype), value.shape) for name, value in tensors]


def _named(specs: Sequence[TensorSpec], structures: Sequence[Structure], alone: str) -> list[dict[str, Any]]:
    """The tensors of a form by the names that a client has for them; none where it has no such names."""
    structure = structures[0] if len(structures) == 1 else None
    if isinstance(structure, int):
        return [_specified(alone, specs[structure])]
    if isinstance(structure, Group) and structure.kind == "dict":
        pairs = zip(structure.keys, structure.members, strict=True)
        return [_specified(key, specs[number]) for key, number in pairs if isinstance(number, int)]
    return []


def _specified(name: str, spec: TensorSpec) -> dict[str, Any]:
    shape = [length if isinstance(length, int) else -1 for length in spec.shape]
    return {"name": name, "datatype": datatype_of(spec.dtype), "shape": shape}


def _declared(said: TensorInput) -> dict[str, Any]:
    shape = [length if isinstance(length, int) else -1 for length in said.shape]
    return {"name": said.name, "datatype": datatype_of(getattr(torch, said.dtype)), "shape": shape}


def _tensor(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The first of several dimensions counts the records, and those of an example are not all that there may be."""
    free = len(shape) > 1 or (datatype == BYTES and len(shape) == 1)
    return {"name": name, "datatype": datatype, "shape": [-1, *shape[1:]] if free else list(shape)}
