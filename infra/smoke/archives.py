"""The models of the run: they need no weights, and each is known by what it answers."""

from __future__ import annotations

import io
import tarfile

# By name, how `model_fn` and `predict_fn` go on.
_BODIES = {
    "one": ('return "one"', "return model"),
    "two": ('return "two"', "return model"),
    # Loads, is healthy, and answers every request with 500.
    "failing": ('return "failing"', 'raise RuntimeError("this model fails on purpose")'),
    # Never becomes healthy.
    "broken": ('raise RuntimeError("this model does not load on purpose")', "return model"),
}
NAMES = tuple(_BODIES)
_HANDLERS = """import json


def model_fn(model_dir):
    {load}


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(data, model):
    {predict}


def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def archive(name: str) -> bytes:
    """The model.tar.gz of that name."""
    load, predict = _BODIES[name]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        handlers = _HANDLERS.format(load=load, predict=predict).encode()
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(handlers)
        tar.addfile(member, io.BytesIO(handlers))
    return content.getvalue()
