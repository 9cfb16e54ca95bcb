"""The open inference protocol (KServe's and Triton's "v2"): a request to named tensors, named outputs to an answer.

A request is a JSON object; with the header Inference-Header-Content-Length, it is so long, and the bytes of the inputs
that announce a binary_data_size follow it, in their order. An answer is the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from tidegate.inference.errors import BadRequest, PayloadTooLarge
from tidegate.inference.worker import encoding, tensor_data
from tidegate.inference.worker.content import JSON, NPY, NPZ, OCTETS, bad_json, decode_text
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.tensor_data import BYTES, Head, Output, Value

JSON_LENGTH = "Inference-Header-Content-Length"
_MAX_LENGTH_DIGITS = 18
_NOT_HERE = frozenset({"shared_memory_region", "classification"})
"""Parameters of Triton's other extensions, which change what a tensor is: passing over them would be a wrong answer."""

Body = bytes | bytearray | memoryview


class Input(NamedTuple):
    """One tensor of a request."""

    head: Head
    value: Value
    content_type: str
    """Of what type its elements are, where the client says so."""


class Asked(NamedTuple):
    """What a request asks: its inputs by name, and which outputs it wants, each binary or not; all where it is None."""

    id: str | None
    inputs: dict[str, Input]
    outputs: dict[str, bool] | None
    binary: bool
    """Whether outputs are binary of which nothing else is said."""

    def values(self) -> dict[str, Value]:
        """What the inputs hold, by name."""
        return {name: each.value for name, each in self.inputs.items()}

    def holding(self, values: Mapping[str, Value]) -> Asked:
        """The same, where the inputs hold these."""
        return self._replace(inputs={name: self.inputs[name]._replace(value=values[name]) for name in values})


# --- what comes in


def read_request(body: Body, json_length: str | None, max_decoded_bytes: int) -> Asked:
    """The request of a body; `json_length` is what the header says. Raises `BadRequest` and `PayloadTooLarge`."""
    view = memoryview(body)
    at = _json_length(json_length, len(view))
    content = _object(view[:at])
    parameters = _parameters(content, "The request")
    outputs = content.get("outputs")
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadRequest("'id' must be a string.")
    inputs: dict[str, Input] = {}
    entries = list(_named(content.get("inputs"), "input"))
    if not entries:
        raise BadRequest("'inputs' must be a list of at least one object.")
    decoded_bytes = 0
    for name, entry in entries:
        head = tensor_data.head_of(name, entry.get("datatype"), entry.get("shape"))
        own = _parameters(entry, f"The input '{name[:80]}'")
        size = own.get("binary_data_size")
        content_type = own.get("content_type", parameters.get("content_type"))
        if size is None or head.datatype == BYTES:
            decoded_bytes += head.elements * head.item_bytes
            if decoded_bytes > max_decoded_bytes:
                raise PayloadTooLarge(f"The inputs take {decoded_bytes} bytes; the limit is {max_decoded_bytes}.")
        if size is None:
            value = tensor_data.from_json(head, entry.get("data"))
        else:
            rest = _rest(view[at:], size, entry, json_length)
            value, at = tensor_data.from_bytes(head, rest), at + len(rest)
        inputs[name] = Input(head, value, content_type if isinstance(content_type, str) else "")
    if at != len(view):
        raise BadRequest(f"{len(view) - at} bytes of the body belong to no input.")
    binary = _switch(parameters, "binary_data_output", default=False)
    return Asked(request_id, inputs, _wanted(outputs, binary=binary), binary)


def _json_length(text: str | None, size: int) -> int:
    if text is None:
        return size
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_LENGTH_DIGITS):
        raise BadRequest(f"{JSON_LENGTH} must be a whole number, not '{text[:40]}'.")
    if int(text) > size:
        raise BadRequest(f"{JSON_LENGTH} says {int(text)}, and the body has {size} bytes.")
    return int(text)


def _object(body: memoryview) -> dict[str, Any]:
    try:
        content = json.loads(decode_text(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_json("The request", error) from None
    if not isinstance(content, dict):
        raise BadRequest("The request must be a JSON object with 'inputs'.")
    return content


def _parameters(entry: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"{what} has 'parameters' that are no object.")
    if unknown := sorted(_NOT_HERE & parameters.keys()):
        raise BadRequest(f"{what} has the parameter '{unknown[0]}', of an extension that this server does not support.")
    return parameters


def _switch(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"The parameter '{name}' must be true or false.")
    return value


def _named(entries: Any, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list by their names, each of which there is once."""
    seen = set()
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadRequest(f"'{kind}s' must be a list of objects.")
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise BadRequest(f"An {kind} has no 'name'.")
        if name in seen:
            raise BadRequest(f"There are two {kind}s of the name '{name[:80]}'.")
        seen.add(name)
        yield name, entry


def _rest(left: memoryview, size: Any, entry: Mapping[str, Any], json_length: str | None) -> memoryview:
    what = f"The input '{entry['name'][:80]}'"
    if json_length is None:
        raise BadRequest(f"{what} is binary, and the request has no header {JSON_LENGTH}.")
    if "data" in entry:
        raise BadRequest(f"{what} has both 'data' and 'binary_data_size'.")
    if type(size) is not int or size < 0:
        raise BadRequest(f"{what} has a 'binary_data_size' that is no whole number from 0 on.")
    if size > len(left):
        raise BadRequest(f"{what} has a 'binary_data_size' of {size}, and {len(left)} bytes are left of the body.")
    return left[:size]


def _wanted(outputs: Any, *, binary: bool) -> dict[str, bool] | None:
    wanted = {
        name: _switch(_parameters(entry, f"The output '{name[:80]}'"), "binary_data", default=binary)
        for name, entry in _named([] if outputs is None else outputs, "output")
    }
    return wanted or None


# --- what the functions are given


def data_of(asked: Asked, *, by_name: bool) -> Any:
    """What `predict_fn` is given: the one input, or a dict of several; a dict in every case where `by_name`."""
    values = asked.values()
    return values if by_name or len(values) > 1 else next(iter(values.values()))


def as_body(asked: Asked, request: Request, *, named: bool) -> Request:
    """The request with the body that a script's own function reads: npy, npz, or what the one element of BYTES holds.

    `named` asks for npz, which has names, also of one tensor. Raises `BadRequest` for other tensors of BYTES.
    """
    body, content_type = _body(asked, named=named)
    received = request.received._replace(body=body, content_type=content_type, headers=b"")
    return replace(request, received=received, told=None)


def _body(asked: Asked, *, named: bool) -> tuple[bytes, str]:
    inputs = list(asked.inputs.values())
    if not any(each.head.datatype == BYTES for each in inputs):
        if len(inputs) == 1 and not named:
            return encoding.encode(inputs[0].value, NPY), NPY
        return encoding.encode({name: each.value for name, each in asked.inputs.items()}, NPZ), NPZ
    if len(inputs) > 1 or inputs[0].head.elements != 1:
        raise BadRequest(
            "The script of this model reads bodies: send tensors of numbers, or one input of BYTES with one element, "
            "which is the body."
        )
    value: Any = inputs[0].value
    while isinstance(value, list):
        (value,) = value
    return value, inputs[0].content_type if "/" in inputs[0].content_type else OCTETS


# --- what goes out


def no_streams() -> BadRequest:
    """What a model says whose answer is a generator."""
    return BadRequest("This model answers by a stream, which the open inference protocol has not: ask /invocations.")


class Written(NamedTuple):
    """An answer: its body, its type and its own header lines."""

    body: bytes
    content_type: str
    headers: bytes


def write_answer(asked: Asked, outputs: list[Output], *, model_name: str, model_version: str) -> Written:
    """The answer that has the outputs that were asked for. Raises `BadRequest` for one that there is not."""
    there = {output.name: output for output in outputs}
    wanted = dict.fromkeys(there, asked.binary) if asked.outputs is None else asked.outputs
    if missing := [name for name in wanted if name not in there]:
        raise BadRequest(f"The model has no output '{missing[0][:80]}'; it has {', '.join(there) or 'none'}.")
    entries, tail = [], []
    for name, binary in wanted.items():
        output = there[name]
        entry: dict[str, Any] = {"name": name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters: dict[str, Any] = {"content_type": output.content_type} if output.content_type else {}
        if binary:
            tail.append(tensor_data.to_bytes(output))
            parameters["binary_data_size"] = len(tail[-1])
        else:
            entry["data"] = tensor_data.to_json(output)
        entries.append({**entry, **({"parameters": parameters} if parameters else {})})
    content: dict[str, Any] = {"model_name": model_name, "model_version": model_version, "outputs": entries}
    if asked.id is not None:
        content["id"] = asked.id
    head = json.dumps(content).encode()
    if not tail:
        return Written(head, JSON, b"")
    return Written(b"".join((head, *tail)), OCTETS, f"{JSON_LENGTH}: {len(head)}\r\n".encode())
