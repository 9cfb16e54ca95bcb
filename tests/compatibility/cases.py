"""Requests to the archives of this folder: what is asked of the AWS toolkit and of this server alike."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request to one archive. `accept` and `content_type` are None where the header is not sent."""

    name: str
    archive: str
    body: bytes
    content_type: str | None = JSON
    accept: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def image(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(file, kind)
    return file.getvalue()


def _mnist(rows: int) -> Any:
    return np.linspace(0, 1, rows * 784, dtype=np.float32).reshape(rows, 1, 28, 28)


def _default(name: str, body: bytes, content_type: str | None = JSON, accept: str | None = None, **more: Any) -> Case:
    return Case(name=name, archive="default", body=body, content_type=content_type, accept=accept, **more)


def _handled(name: str, body: bytes, content_type: str | None = JSON, accept: str | None = None) -> Case:
    name = f"handler class: {name}"
    return Case(name=name, archive="handler_class", body=body, content_type=content_type, accept=accept)


MATRIX = b"[[1, 2.5], [3, 4]]"

CASES = [
    # --- TorchScript without code: every function is the container's own
    _default("json in, json out", MATRIX),
    _default("csv in, json out", b"1,2.5\n3.5,4.25\n", CSV),
    _default("npy in, json out", npy(np.array([[1.5, 2]], dtype=np.float32)), NPY),
    _default("float64 npy stays float64", npy(np.array([[0.1, 0.2]])), NPY),
    _default("integer npy", npy(np.array([[1, 2]])), NPY),
    _default("json in, csv out", MATRIX, JSON, CSV),
    _default("whole numbers in, csv out", b"[[1, 2]]", JSON, CSV),
    _default("float64 npy in, npy out", npy(np.array([[0.1, 0.2]])), NPY, NPY),
    _default("float32 in, npy out", MATRIX, JSON, NPY),
    _default("three dimensions", b"[[[1, 2], [3, 4]]]"),
    _default("not a number", b"[[NaN, 1]]"),
    _default("accept anything", MATRIX, JSON, "*/*"),
    _default("accept json twice", MATRIX, JSON, "application/json, application/json"),
    _default("accept a list with something unknown first", MATRIX, JSON, "text/html, text/csv"),
    _default("accept a list of two known types", MATRIX, JSON, "text/csv, application/json"),
    _default("accept with a weight", MATRIX, JSON, "application/json;q=0.9"),
    _default("accept something unknown or anything", MATRIX, JSON, "text/html, */*"),
    _default("accept something unknown", MATRIX, JSON, "text/html"),
    _default("content type with a charset", MATRIX, "application/json; charset=utf-8"),
    _default("content type in capitals", MATRIX, "Application/JSON"),
    _default("no content type", MATRIX, None),
    _default("unknown content type", MATRIX, "application/pdf"),
    _default("octets", MATRIX, "application/octet-stream"),
    _default("json lines", b"[1, 2]\n[3, 4]\n", "application/jsonlines"),
    _default("image", image((255, 0, 0)), "image/png"),
    _default("npz", npz(a=np.ones((1, 2), dtype=np.float32)), NPZ),
    _default("csv of integers and fractions by column", b"1,2.5\n3,4.5\n", CSV),
    _default("csv of text", b"a,b\n1,2\n", CSV),
    _default("csv with an empty cell", b"1,,3\n4,5,6\n", CSV),
    _default("csv rows of different lengths", b"1,2\n3\n", CSV),
    _default("ragged json", b"[[1], [2, 3]]"),
    _default("json object", b'{"instances": [[1, 2]]}'),
    _default("json of text", b'[["a"]]'),
    _default("broken json", b"[[1, 2"),
    _default("empty body", b""),
    _default("broken npy", b"\x93NUMPY", NPY),
    _default("pickled npy", npy(np.array([{"a": 1}], dtype=object)), NPY),
    _default("text that is not utf-8", b"[\xff]"),
    _default("one csv row", b"1.5,2.5,3.5\n", CSV, CSV),
    _default("one csv row, json out", b"1.5,2.5,3.5\n", CSV),
    _default("one csv column", b"1.5\n2.5\n3.5\n", CSV, CSV),
    _default("blank lines in csv", b"1,2.5\n\n3.5,4\n \n", CSV, CSV),
    _default("csv with a byte order mark", b"\xef\xbb\xbf1.5,2.5\n3.5,4.5\n", CSV, CSV),
    _default("json with a byte order mark", b"\xef\xbb\xbf[[1, 2.5]]"),
    _default("json lines as json", b"[1, 2]\n[3, 4]\n"),
    _default("npy in fortran order", npy(np.asfortranarray(np.arange(8.0).reshape(2, 2, 2))), NPY),
    _default("big-endian npy", npy(np.array([[1.5, 2]], dtype=">f4")), NPY),
    _default("octets that hold npy", npy(np.array([[1.5, 2]], dtype=np.float32)), "application/octet-stream"),
    _default("json in, npz out", MATRIX, JSON, NPZ),
    _default("a packed body", gzip.compress(MATRIX, mtime=0), headers={"Content-Encoding": "gzip"}),
    _default("a body that is packed as nobody can", b"[[1]]", headers={"Content-Encoding": "br"}),
    _default("a body that is not packed", MATRIX, headers={"Content-Encoding": "identity"}),
    # --- MNIST: the script has a model_fn only
    Case(name="mnist json", archive="mnist", body=json.dumps(_mnist(2).tolist()).encode()),
    Case(name="mnist npy", archive="mnist", body=npy(_mnist(2)), content_type=NPY, accept=JSON),
    Case(name="mnist csv out", archive="mnist", body=npy(_mnist(1)), content_type=NPY, accept=CSV),
    Case(name="mnist of the wrong shape", archive="mnist", body=b"[[1, 2]]"),
    Case(name="mnist float64 npy", archive="mnist", body=npy(_mnist(2).astype(np.float64)), content_type=NPY),
    Case(name="mnist integer npy", archive="mnist", body=npy(_mnist(2).astype(np.int64)), content_type=NPY),
    # --- one column and one number of CSV, seen by a model that keeps the shape
    Case(name="csv of one column", archive="shape", body=b"1.5\n2\n3\n", content_type=CSV),
    Case(name="csv of one row", archive="shape", body=b"1.5,2.5,3.5\n", content_type=CSV),
    Case(name="csv of one number", archive="shape", body=b"3", content_type=CSV),
    Case(
        name="bfloat16 prediction",
        archive="shape",
        body=b"[[1]]",
        headers={"X-Amzn-SageMaker-Custom-Attributes": "bfloat16"},
    ),
    Case(
        name="dict of tensors", archive="shape", body=b"[[1]]", headers={"X-Amzn-SageMaker-Custom-Attributes": "dict"}
    ),
    Case(name="json of one number", archive="shape", body=b"7"),
    # --- a TorchScript image model
    Case(name="a png", archive="torchscript_image", body=image((200, 30, 90)), content_type="image/png"),
    Case(name="a jpeg", archive="torchscript_image", body=image((0, 0, 9), "JPEG"), content_type="image/jpeg"),
    Case(name="no picture", archive="torchscript_image", body=b"no picture", content_type="image/png"),
    Case(name="a refused type", archive="torchscript_image", body=b"", content_type="text/plain"),
    # --- text
    Case(name="one sentence", archive="text_classifier", body=b'{"inputs": "The film was good"}'),
    Case(name="two sentences", archive="text_classifier", body=b'{"inputs": ["good", "so bad"]}'),
    Case(name="a status of the script's own", archive="text_classifier", body=b'{"text": "good"}'),
    Case(name="a type of the script's own", archive="text_classifier", body=b"good", content_type="text/plain"),
    Case(name="a mistake in json", archive="text_classifier", body=b'{"inputs": '),
    # --- transform_fn
    Case(name="transform json", archive="transform", body=b"[[1, 2, 3]]"),
    Case(name="transform csv to csv", archive="transform", body=b"1,2\n3,4\n", content_type=CSV, accept=CSV),
    Case(
        name="transform npy to npy", archive="transform", body=npy(np.array([[1.0, 2.0]])), content_type=NPY, accept=NPY
    ),
    Case(
        name="transform bytes to a type of its own",
        archive="transform",
        body=b"abc",
        content_type="application/octet-stream",
    ),
    Case(name="transform with an unknown type", archive="transform", body=b"[1]", content_type="text/x"),
    Case(name="transform to an unknown type", archive="transform", body=b"[[1, 2]]", accept="text/x"),
    # --- context
    Case(
        name="context",
        archive="context_reader",
        body=b"[1, 2]",
        headers={"X-Amzn-SageMaker-Custom-Attributes": "trace=7"},
    ),
    Case(name="context without attributes", archive="context_reader", body=b"[1]"),
    # --- helpers
    Case(name="helpers", archive="multi_file", body=b"[1, 2, 3]"),
    Case(name="helpers csv", archive="multi_file", body=b"4.0,5.0\n", content_type=CSV),
    # --- the functions of a handler class
    _handled("one item", b'{"x": [1, 2, 3]}'),
    _handled("several items", b'[{"x": [1, 2, 3]}, {"x": [3, 2, 1]}]'),
    _handled("no items", b"[]"),
    _handled("several items to csv", b'[{"x": [1, 2, 3]}, {"x": [3, 2, 1]}]', accept=CSV),
    _handled("several items to npy", b'[{"x": [1, 2, 3]}, {"x": [3, 2, 1]}]', accept=NPY),
    _handled("csv rows", b"1,2,3\n4,5,6\n", CSV),
    _handled("npy rows", npy(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)), NPY),
    _handled("json lines", b'{"x": [1, 2, 3]}\n{"x": [3, 2, 1]}\n', "application/jsonlines"),
    _handled("an item that lacks a key", b'[{"x": [1, 2, 3]}, {"y": [3, 2, 1]}]'),
    _handled("an item that is refused", b'{"x": []}'),
    _handled("a body that is no json", b'{"x": '),
    _handled("a type that cannot be read", b"%PDF", "application/pdf"),
    _handled("a type that cannot be written", b'{"x": [1, 2, 3]}', accept="image/png"),
    # --- what output_fn may return
    *(
        Case(name=f"output_fn returns {kind}", archive="returning", body=json.dumps(kind).encode())
        for kind in ("str", "bytes", "bytearray", "list", "dict", "tensor", "tuple", "none", "object")
    ),
    Case(name="input_fn raises a ValueError", archive="returning", body=b'"value error"'),
    Case(name="predict_fn raises a ValueError", archive="returning", body=b'"predict error"'),
    Case(name="memory runs out", archive="returning", body=b'"memory"'),
    Case(name="a keyword default receives the context", archive="returning", body=b'"context"'),
]
