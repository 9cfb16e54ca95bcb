"""A model that tells which one it is, from its weights: whoever asks can see that the answer is the right one's."""

# ruff: noqa: ARG001 - the contract of the four functions names their arguments

import json
from pathlib import Path

import torch


def model_fn(model_dir):
    return torch.load(Path(model_dir) / "model.pth", weights_only=True)["marks"]


def input_fn(input_data, content_type):
    return json.loads(input_data)["at"]


def predict_fn(data, model):
    return {"mark": int(model[data % len(model)]), "at": data}


def output_fn(prediction, accept):
    return json.dumps(prediction)
