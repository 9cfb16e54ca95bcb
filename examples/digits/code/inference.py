"""Serve the digit classifier: the four functions of the SageMaker PyTorch containers, and nothing of Tidegate.

Requests hold one digit or many, each an 8 x 8 image with values from 0 (ground) to 16 (full stroke):

    application/json        [[...8 x 8...]] or [[[...]], ...] or {"instances": either of them}
    application/jsonlines   one image per line: [[...8 x 8...]] or {"image": [[...8 x 8...]]}
    application/x-npy       an array of shape (8, 8) or (N, 8, 8)
    image/png, image/jpeg   one picture of one digit, any size

Answers, by the Accept header:

    application/json        {"predictions": [{"label": "7", "probability": 0.99, "probabilities": [...]}, ...]}
    application/jsonlines   one such prediction per line, in the order of the request; no newline after the last one,
                            so that a batch transform with AssembleWith=Line gives one output line per input line
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from digit_net import DigitNet
from PIL import Image

SIDE = 8
FULL_STROKE = 16.0
MAX_PIXELS = 16_000_000  # a picture says its size in a few bytes; decoding it would fill the memory


class NotAcceptable(ValueError):
    """None of the types that were asked for can be written."""

    status_code = 406


def model_fn(model_dir):
    """Load the network with its labels and constants."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = DigitNet()
    directory = Path(model_dir)
    net.load_state_dict(torch.load(directory / "model.pth", map_location=device, weights_only=True))
    labels = json.loads((directory / "labels.json").read_text(encoding="utf-8"))
    constants = json.loads((directory / "preprocessing.json").read_text(encoding="utf-8"))
    return {"net": net.to(device).eval(), "labels": labels, "device": device, **constants}


def input_fn(input_data, content_type):
    """Decode a request into a float32 tensor of shape (N, 8, 8) with values from 0 to 16."""
    media_type = (content_type or "").split(";")[0].strip().lower()
    if media_type == "application/json":
        images = _images_of_json(_parse_json(input_data, "the body"))
    elif media_type == "application/jsonlines":
        images = _images_of_lines(input_data)
    elif media_type == "application/x-npy":
        images = _images_of_npy(input_data)
    elif media_type in ("image/png", "image/jpeg"):
        images = _image_of_picture(input_data)[None]
    else:
        raise ValueError(
            f"content type {content_type!r} is not one of application/json, application/jsonlines, "
            "application/x-npy, image/png, image/jpeg"
        )
    return torch.from_numpy(_checked(images, "the body"))


def predict_fn(data, model):
    """Return one prediction (a dict) per image."""
    normalised = (data.to(model["device"]) - model["mean"]) / model["std"]
    with torch.inference_mode():
        probabilities = model["net"](normalised).softmax(dim=1).cpu()
    best = probabilities.argmax(dim=1).tolist()
    return [
        {"label": model["labels"][index], "probability": row[index], "probabilities": row}
        for index, row in zip(best, probabilities.tolist(), strict=True)
    ]


def output_fn(prediction, accept):
    """Encode the predictions; return the body and its content type."""
    wanted = [part.split(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    for media_type in wanted:
        if media_type in ("application/json", "application/*", "*/*"):
            return json.dumps({"predictions": prediction}), "application/json"
        if media_type == "application/jsonlines":
            return "\n".join(json.dumps(each) for each in prediction), "application/jsonlines"
    raise NotAcceptable(f"the answer can be application/json or application/jsonlines, not {accept!r}")


def _parse_json(text, where):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from None


def _images_of_json(value):
    if isinstance(value, dict):
        if set(value) != {"instances"}:
            raise ValueError('a JSON object must have the one key "instances"')
        value = value["instances"]
    return _as_array(value, "the body")


def _images_of_lines(data):
    """One image per line, because a batch transform pairs the lines of its input and its output."""
    text = data if isinstance(data, str) else bytes(data).decode("utf-8")
    images = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        where = f"line {number}"
        value = _parse_json(line, where)
        if isinstance(value, dict):
            if "image" not in value:
                raise ValueError(f'{where} is an object without the key "image"')
            value = value["image"]
        image = _as_array(value, where)
        if image.shape != (SIDE, SIDE):
            raise ValueError(f"{where} has the shape {image.shape}; every line must hold one 8 x 8 image")
        images.append(_checked(image, where)[0])
    return np.stack(images)


def _images_of_npy(data):
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise ValueError(f"the body is not a plain npy array: {error}") from None


def _image_of_picture(data):
    """Grey, 8 x 8 by averaging, on the 17 levels of the data set (which was made by counting the inked pixels).

    A picture with bright corners is ink on paper, and is inverted; the data set has its strokes bright on black.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS}")
            picture.draft("L", (SIDE * 4, SIDE * 4))  # JPEG only: decodes no more than is needed
            grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture cannot be used: {error}") from None
    values = np.asarray(grey, dtype=np.float32) / 255
    if values[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.5:
        values = 1 - values
    return np.round(values * FULL_STROKE)


def _as_array(value, where):
    try:
        return np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{where} is not a regular nested list of numbers") from None


def _checked(images, where):
    """Return float32 of shape (N, 8, 8), or say what is wrong with it."""
    if images.dtype.kind not in "fiu":
        raise ValueError(f"{where} holds {images.dtype} values; digits are numbers")
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or not len(images):
        raise ValueError(f"{where} has the shape {images.shape}; it must be (8, 8) or (N, 8, 8)")
    images = np.ascontiguousarray(images, dtype=np.float32)
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= FULL_STROKE):
        raise ValueError(f"{where} has values outside 0 to 16")
    return images
