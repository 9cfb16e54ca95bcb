"""The four functions for the line. `Content-Type: text/plain` asks for a slow answer, and says where it began."""

import json
import time
from pathlib import Path

import torch
from torch import nn


def model_fn(model_dir):
    """The layer that train.py saved."""
    net = nn.Linear(1, 1, bias=False)
    net.load_state_dict(torch.load(Path(model_dir) / "model.pth", weights_only=True))
    return net.eval()


def input_fn(body, content_type):
    """Numbers as one column."""
    if content_type == "text/plain":
        Path("/tmp/slow-request-began").touch()
        time.sleep(1.5)
        body = body.decode() if isinstance(body, (bytes, bytearray)) else body
    return torch.tensor(json.loads(body), dtype=torch.float32).reshape(-1, 1)


def predict_fn(numbers, net):
    """Each number times the slope."""
    return net(numbers)


def output_fn(prediction, accept):
    """A JSON list."""
    return json.dumps([round(value, 3) for value in prediction.flatten().tolist()])
