# Returns, and raises, what its body says.
import json

import torch


def model_fn(model_dir):
    return None


def input_fn(data, content_type):
    kind = json.loads(data)
    if kind == "value error":
        raise ValueError("three numbers are wanted")
    return kind


def predict_fn(kind, model):
    if kind == "predict error":
        raise ValueError("inner secret")
    if kind == "memory":
        raise MemoryError
    return kind


def output_fn(kind, accept, extra=None):
    return {
        "str": "grüße",
        "bytes": b"\x00\xff",
        "bytearray": bytearray(b"abc"),
        "list": [1, 2.5, "a"],
        "dict": {"a": [1]},
        "tensor": torch.tensor([1.5]),
        "tuple": ("a,b", "text/csv"),
        "none": None,
        "object": object(),
        "context": type(extra).__name__,
    }[kind]
