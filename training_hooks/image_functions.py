"""What the server does with pictures where the archive's own code lacks the function, for an example of one picture.

Loaded in the process that answers an example, by path, as `default_functions.py` is. The server compares its own answer
with the one that is made here when it starts, and the contract tests do so for each key of the declaration.
"""

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

JSON = "application/json"
_OPTIONS: dict[str, dict[str, Any]] = {
    "image/png": {"format": "PNG"},
    "image/jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "image/webp": {"format": "WEBP", "quality": 95},
}
_DEFAULT_MAX_PIXELS = 1024 * 1024


class NotDone(Exception):
    """What is done here does not reach that far; the text is the end of a sentence."""


def input_fn(body: str | bytes, content_type: str, declared: Mapping[str, Any]) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return what the model is given for one picture, and the height and width that the picture had."""
    file = _file(body, content_type, str(declared.get("key", "image")))
    if "classes" in declared:
        stored = _stored(file, declared)
        return torch.from_numpy(np.ascontiguousarray(_sized(stored, declared, None), np.int64))[None], stored.shape
    pixels = _pixels(file, declared)
    size = pixels.shape[0], pixels.shape[1]
    if declared.get("as") == "labels":
        labels = _labels(pixels, declared["palette"])
        return torch.from_numpy(np.ascontiguousarray(_sized(labels, declared, None)))[None], size
    method = Image.Resampling[str(declared.get("interpolation", "bilinear")).upper()]
    planes = _sized(pixels, declared, method).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    black, white = declared.get("value_range", (0, 1))
    mean, std = (np.array([declared.get(key, each)]).ravel() for key, each in (("mean", 0.0), ("std", 1.0)))
    scale, shift = ((white - black) / std).astype(np.float32), ((black - mean) / std).astype(np.float32)
    numbers = planes * scale[:, np.newaxis, np.newaxis] + shift[:, np.newaxis, np.newaxis]
    ordered = numbers[::-1] if declared.get("colour_order") == "bgr" else numbers
    return torch.from_numpy(np.ascontiguousarray(ordered, np.float32))[None], size


def output_fn(prediction: Any, accept: str, declared: Mapping[str, Any], size: tuple[int, int] | None) -> bytes:
    """Write the one picture of a prediction, as a file or as a data URI in JSON."""
    asked = accept.partition(";")[0].strip().lower()
    media_type = declared.get("media_type", "image/png") if asked == JSON else asked
    if media_type not in _OPTIONS:
        raise NotDone(
            f"there is no output_fn, and none is taken for granted here for {accept}; define it, or give the response"
        )
    picture = _drawn(_array(prediction), declared)
    if size is not None and declared.get("size") == "input" and picture.shape[:2] != size:
        is_labels = declared.get("as") == "labels"
        picture = _labels_at(picture, *size) if is_labels else _pixels_at(picture, *size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, **_OPTIONS[media_type])
    if asked != JSON:
        return buffer.getvalue()
    uri = f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return json.dumps({declared.get("key", "image"): uri}).encode()


def _file(body: str | bytes, content_type: str, key: str) -> bytes:
    if isinstance(body, bytes) and content_type.startswith("image/"):
        return body
    value = json.loads(body) if content_type == JSON else None
    uri = value.get(key) if isinstance(value, dict) else None
    if not isinstance(uri, str) or not uri.startswith("data:image/") or ";base64," not in uri[:100]:
        raise NotDone(f"the example must be a picture, or a JSON object with one as a data URI under {key!r}")
    return base64.b64decode(uri.partition(",")[2], validate=True)


def _pixels(data: bytes, declared: Mapping[str, Any]) -> Any:
    """Return the picture as uint8 (height, width, 3)."""
    with Image.open(io.BytesIO(data), formats=("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")) as stored:
        if stored.mode.startswith(("I", "F")):
            raise NotDone("a picture with more than 8 bits is not read here; give the response")
        max_pixels = declared.get("max_pixels", _DEFAULT_MAX_PIXELS)
        if "size" not in declared and stored.width * stored.height > max_pixels:
            raise NotDone(
                f"the picture of the example is {stored.width} x {stored.height} pixels, and the declaration takes at "
                f"most {max_pixels}"
            )
        picture: Image.Image = stored
        if declared.get("orientation", "obey") == "obey":
            picture = ImageOps.exif_transpose(stored)
        background = declared.get("background", [255, 255, 255])
        if background != "drop" and picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if background == "refuse" and np.asarray(picture.getchannel("A")).min() < 255:
                raise NotDone("the picture of the example is transparent, which the declaration refuses")
            if background != "refuse":
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, (*background, 255)), picture)
        return np.asarray(picture.convert("RGB"))


def _stored(data: bytes, declared: Mapping[str, Any]) -> Any:
    """Return the labels that the file has as numbers: greys, or places in its palette."""
    with Image.open(io.BytesIO(data), formats=("BMP", "GIF", "PNG", "TIFF")) as stored:
        if "size" not in declared and stored.width * stored.height > declared.get("max_pixels", _DEFAULT_MAX_PIXELS):
            raise NotDone("the picture of the example has more pixels than the declaration takes")
        upright = ImageOps.exif_transpose(stored) if declared.get("orientation", "obey") == "obey" else stored
        if upright.mode not in ("1", "L", "P", "I;16"):
            raise NotDone("the picture of the example holds colours, and labels are declared that are numbers")
        labels = np.asarray(upright)
    if labels.max() >= declared["classes"]:
        raise NotDone(f"the picture of the example has the label {labels.max()}, and there are {declared['classes']}")
    return labels


def _labels(pixels: Any, palette: Mapping[str, Any]) -> Any:
    """Return the class of each pixel, by its colour or by the nearest one."""
    colours = np.array(palette["colours"], np.int64)
    distinct, places = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    found = np.array([((colours - colour) ** 2).sum(1).argmin() for colour in distinct.astype(np.int64)])
    if palette.get("unknown", "error") == "error" and (colours[found] != distinct).any():
        raise NotDone("the picture of the example has a colour that is not in the palette")
    return found[places.reshape(pixels.shape[:2])]


def _sized(array: Any, declared: Mapping[str, Any], method: Image.Resampling | None) -> Any:
    """Return pixels, or labels where there is no `method`, at the declared size."""
    size = declared.get("size")
    if size is None:
        return array
    height, width = array.shape[:2]
    policy, wanted = size.get("policy", "exact"), (size["height"], size["width"])
    if policy in ("exact", "limit"):
        if (height, width) != wanted and (policy == "exact" or height > wanted[0] or width > wanted[1]):
            raise NotDone(f"the picture of the example is {width} x {height} pixels, which the declaration refuses")
        return array
    whole = wanted
    if policy == "crop" and (shorter := size.get("shorter_side")):
        whole = height * shorter // min(height, width), width * shorter // min(height, width)
    elif policy == "crop":
        scale = max(wanted[0] / height, wanted[1] / width)
        whole = max(wanted[0], round(height * scale)), max(wanted[1], round(width * scale))
    if whole != (height, width):
        array = _labels_at(array, *whole) if method is None else _pixels_at(array, *whole, method)
    top, left = round((whole[0] - wanted[0]) / 2), round((whole[1] - wanted[1]) / 2)
    return array[top : top + wanted[0], left : left + wanted[1]]


def _pixels_at(pixels: Any, height: int, width: int, method: Image.Resampling) -> Any:
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def _labels_at(labels: Any, height: int, width: int) -> Any:
    """Return for each pixel the label at its middle."""
    rows, columns = (
        (2 * np.arange(wanted) + 1) * there // (2 * wanted)
        for wanted, there in zip((height, width), labels.shape[:2], strict=True)
    )
    return labels[rows[:, np.newaxis], columns]


def _array(prediction: Any) -> Any:
    if isinstance(prediction, torch.Tensor):
        prediction = prediction.detach().cpu()
        prediction = (prediction.float() if prediction.dtype is torch.bfloat16 else prediction).numpy()
    return np.asarray(prediction)


def _drawn(array: Any, declared: Mapping[str, Any]) -> Any:
    """Return the picture as uint8 (height, width, 3), or (height, width) in grey."""
    if declared.get("as") == "labels":
        labels = array[0] if array.ndim in (3, 4) else array
        labels = labels[0] if labels.ndim == 3 and labels.shape[0] == 1 and labels.dtype.kind in "iu" else labels
        return np.array(declared["palette"]["colours"], np.uint8)[labels.argmax(0) if labels.ndim == 3 else labels]
    picture = array[0] if array.ndim == 4 else array
    picture = picture.transpose(1, 2, 0) if picture.ndim == 3 else picture
    if picture.dtype != np.uint8:
        if np.isnan(picture).any():
            raise NotDone("the picture that the model made of the example holds NaN")
        black, white = declared.get("value_range", (0, 1))
        scaled = (picture.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
        picture = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 1:
        return picture[..., 0]
    return np.ascontiguousarray(picture[..., ::-1] if declared.get("colour_order") == "bgr" else picture)
