"""What bodies look like where the server's own functions read and write them, as JSON Schema.

Only JSON has a shape to tell. What a script reads and writes is its own business: its schema takes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.inference.declarations.classes import Classes
from tidegate.inference.declarations.table import Column, Table
from tidegate.inference.declarations.tensors import Length, TensorInput, Tensors
from tidegate.inference.frontend.openapi.examples import is_json, is_text

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures in JSON: each is a data URI under this key."""

    key: str


Input = Pictures | Table | Tensors | None
Output = Pictures | Classes | None

MAX_NAMES = 1000
"""Of columns, tensors or classes that a schema names; with more it says how many there are."""
ANYTHING = "*/*"
SOME_LABELS = ("",)
"""Of classes that have names, which are not known here."""
_BINARY: Schema = {"type": "string", "format": "binary"}
_FLAT = {"bool": ["boolean", "number"], "float": ["number"], "int": ["integer"], "uint": ["integer"]}


def of_script(media_type: str) -> Schema:
    """A body that only a function of the script knows."""
    return _other(media_type) if media_type != ANYTHING else {}


def of_request(media_type: str, declared: Input) -> Schema:
    """A body that the server's own `input_fn` reads."""
    if not is_json(media_type):
        return _other(media_type)
    match declared:
        case Table(columns=columns) if len(columns) <= MAX_NAMES:
            return _one_or_several(_record(declared))
        case Tensors(inputs=inputs) if len(inputs) <= MAX_NAMES:
            return _tensors(inputs)
        case Pictures(key=key):
            return _one_or_several(_object({key: _picture()}))
        case None:
            numbers: Schema = {"anyOf": [{"type": ["number", "boolean"]}, {"type": "array", "items": {}}]}
            return {
                "description": "Numbers, nested in rows of the same length; or an object of such.",
                "anyOf": [*numbers["anyOf"], {"type": "object", "minProperties": 1, "additionalProperties": numbers}],
            }
    return {}


def of_answer(media_type: str, declared: Output) -> Schema:
    """A body that the server's own `output_fn` writes."""
    if not is_json(media_type):
        return of_script(media_type)
    match declared:
        case Classes():
            one = _classes(declared)
            return {
                "description": "The classes of a record that came alone, or those of each.",
                "anyOf": [one, {"type": "array", "items": one}],
            }
        case Pictures(key=key):
            return _one_or_several(_object({key: _picture()}))
    return {"description": "What the model predicts: numbers, texts, and lists and objects of them."}


def _other(media_type: str) -> Schema:
    if is_json(media_type):
        return {}
    return {"type": "string"} if is_text(media_type) else dict(_BINARY)


def _one_or_several(one: Schema) -> Schema:
    return {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}


def _object(properties: dict[str, Schema], *, closed: bool = False) -> Schema:
    found: Schema = {"type": "object", "required": list(properties), "properties": properties}
    return found | ({"additionalProperties": False} if closed else {})


def _picture() -> Schema:
    return {"type": "string", "description": "A picture as a data URI: data:image/png;base64,…"}


def _record(declared: Table) -> Schema:
    columns = declared.columns
    named = _object({each.name: _cell(each) for each in columns}, closed=not declared.ignore_others)
    listed = {"type": "array", "prefixItems": [_cell(each) for each in columns], **_length(len(columns))}
    return {"description": "By name, or in this order.", "anyOf": [named, listed]}


def _cell(column: Column) -> Schema:
    types = [*_FLAT[column.dtype.rstrip("0123456789")], *(["null"] if column.missing is not None else [])]
    return {"type": types if len(types) > 1 else types[0]}


def _tensors(inputs: Sequence[TensorInput]) -> Schema:
    named = _object({each.name: _array(each.shape, each.dtype) for each in inputs}, closed=True)
    return named if len(inputs) > 1 else {"anyOf": [named, _array(inputs[0].shape, inputs[0].dtype)]}


def _array(shape: Sequence[Length], dtype: str) -> Schema:
    if not shape:
        types = _FLAT[dtype.rstrip("0123456789")]
        return {"type": types if len(types) > 1 else types[0]}
    length, *rest = shape
    limits = _length(length) if isinstance(length, int) else {"minItems": 1}
    title = {"title": length} if isinstance(length, str) else {}
    return {"type": "array", **title, **limits, "items": _array(rest, dtype)}


def _length(count: int) -> Schema:
    return {"minItems": count, "maxItems": count}


def _classes(declared: Classes) -> Schema:
    label: Schema = {"type": "string"} if declared.labels else {"type": "integer", "minimum": 0}
    if declared.labels != SOME_LABELS and 0 < len(declared.labels) <= MAX_NAMES:
        label["enum"] = list(declared.labels)
    limit = {} if declared.top_k is None else {"maxItems": declared.top_k}
    return {"type": "array", **limit, "items": _object({"label": label, "score": {"type": "number"}})}
