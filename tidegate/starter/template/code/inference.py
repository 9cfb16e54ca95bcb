"""The functions that the server calls. Reading JSON, CSV and npy is the server's, where there is no input_fn here."""

import json

import torch
from network import Moons

LABELS = ["upper", "lower"]


class Refused(Exception):
    """The client's mistake: it is told the sentence, with this status."""

    status_code = 400


def model_fn(model_dir):
    model = Moons()
    model.load_state_dict(torch.load(f"{model_dir}/model.pth", mmap=True))
    return model.eval()


def predict_fn(points, model):
    if points.ndim != 2 or points.shape[1] != 2:
        raise Refused(f"send a list of points of two numbers each, not the shape {list(points.shape)}")
    with torch.inference_mode():
        return model(points).softmax(dim=1)


def output_fn(probabilities, accept):
    best = probabilities.max(dim=1)
    answers = [
        {"label": LABELS[place], "probability": round(probability, 4)}
        for probability, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return json.dumps(answers), "application/json"
