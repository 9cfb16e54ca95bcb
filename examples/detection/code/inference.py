"""Find shapes in pictures: pictures of any size share a call, and each gets as many boxes as it has shapes.

A request is a picture (image/png, image/jpeg, …). The answer is JSON, boxes in pixels, the surest first:

    {"width": 160, "height": 96, "boxes": [{"label": "circle", "score": 0.97, "box": [12.1, 30.4, 44.0, 61.7]}]}
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from boxes import non_maximum_suppression
from detector import Detector
from PIL import Image

MIN_SCORE = 0.5
MAX_IOU = 0.5
MAX_CANDIDATES = 300  # of one picture, before those that are about the same thing are dropped
MAX_PIXELS = 4_000_000


def model_fn(model_dir):
    """Load the network with the names of its classes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    directory = Path(model_dir)
    labels = json.loads((directory / "labels.json").read_text(encoding="utf-8"))
    net = Detector(len(labels))
    net.load_state_dict(torch.load(directory / "model.pth", map_location=device, weights_only=True))
    return {"net": net.to(device).eval(), "labels": labels, "device": device}


def input_fn(input_data, content_type):
    """Decode a picture: float32 of shape (3, height, width), from 0 to 1."""
    if not (content_type or "").startswith("image/"):
        raise ValueError(f"Send a picture, as image/png or image/jpeg, not {content_type}.")
    try:
        with Image.open(io.BytesIO(input_data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS}")
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"The picture cannot be used: {error}") from None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def collate_fn(inputs):
    """Put all pictures into one tensor, padded to the largest, and note their sizes."""
    sizes = torch.tensor([picture.shape[1:] for picture in inputs])
    pictures = torch.zeros(len(inputs), 3, *sizes.amax(dim=0))
    for place, picture in enumerate(inputs):
        pictures[place, :, : picture.shape[1], : picture.shape[2]] = picture
    return {"pictures": pictures, "sizes": sizes}


def predict_fn(data, model):
    """Return what was found in each picture."""
    with torch.inference_mode():
        logits, boxes = model["net"](data["pictures"].to(model["device"]), data["sizes"].to(model["device"]))
    pictures = zip(logits.sigmoid().cpu(), boxes.cpu(), data["sizes"].tolist(), strict=True)
    return [_found(scores, boxes, size, model["labels"]) for scores, boxes, size in pictures]


def split_fn(prediction, count):  # noqa: ARG001 - the form of the contract
    """Give each request what was found in its picture."""
    return prediction


def output_fn(prediction, accept):
    """Write JSON, which is the only form that there is."""
    if accept != "application/json":
        error = ValueError(f"Boxes can be application/json, not {accept}.")
        error.status_code = 406
        raise error
    return json.dumps(prediction), "application/json"


def _found(scores, boxes, size, labels):
    """What the cells of one picture say, one box for each thing."""
    height, width = size
    best, classes = scores.max(dim=1)
    (sure,) = torch.where(best > MIN_SCORE)
    sure = sure[best[sure].argsort(descending=True, stable=True)[:MAX_CANDIDATES]]
    best, classes = best[sure], classes[sure]
    boxes = boxes[sure].clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    kept = non_maximum_suppression(boxes, best, MAX_IOU)
    findings = zip(classes[kept].tolist(), best[kept].tolist(), boxes[kept].tolist(), strict=True)
    return {
        "width": width,
        "height": height,
        "boxes": [{"label": labels[number], "score": score, "box": box} for number, score, box in findings],
    }
