"""Bodies as the Hugging Face toolkit has them: what a request holds, and what of it a client may say.

    {"inputs": …, "parameters": {…}}; without "inputs" all the rest is the input        JSON
    a column `inputs`, or `question` and `context`                                       CSV, with a header
    {"inputs": picture}, {"inputs": sound}                                               images, audio

A pipeline opens files and fetches addresses that its input names. A client's are refused: they would be this machine's
files, and its network.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tidegate.inference.errors import BadRequest, HandlerFailed, NotAcceptable, UnsupportedMediaType, one_line
from tidegate.inference.images import reading
from tidegate.inference.images.kinds import is_image
from tidegate.inference.worker.content import CSV, JSON, NPY, Reading, json_documents, not_read, split_media_type
from tidegate.inference.worker.encoding import encode
from tidegate.inference.worker.numpy_files import read_npy

WRITABLE = (JSON, CSV, NPY)
_COLUMNS = ("inputs", "question", "context")
_RESERVED = {
    "custom_generate": "it would run code",
    "trust_remote_code": "it would run code",
    "num_workers": "it would start processes",
}
"""Parameters that are the deployer's to choose."""
_STORED = {1: "u1", 2: "<i2", 4: "<i4"}
_FULL_SCALE = {1: 128.0, 2: 32768.0, 4: 2147483648.0}
"""Whole numbers of so many bytes in a WAV file, and what is the loudest of them."""


def read(body: Any, content_type: str | None, reading_: Reading) -> dict[str, Any]:
    """What a body holds. Raises `BadRequest` and `UnsupportedMediaType`."""
    media_type, charset = split_media_type(content_type or "")
    if media_type == JSON:
        ((_, value),) = json_documents(body, media_type, charset)
        if not isinstance(value, dict):
            raise BadRequest('The body must be a JSON object, such as {"inputs": …, "parameters": {…}}.')
        return value
    if media_type == CSV:
        return {"inputs": _rows(body)}
    if is_image(media_type):
        return {"inputs": _picture(body, reading_)}
    if media_type.startswith("audio/"):
        return {"inputs": sound_of(bytes(body))}
    if media_type == NPY:
        return {"inputs": read_npy(body)}
    raise UnsupportedMediaType(f"{not_read(media_type)}; a pipeline reads {JSON}, {CSV}, {NPY}, images and audio.")


def demand_own_data(value: Any) -> None:
    """Raise `BadRequest` where a request for a pipeline of pictures or sounds names a file or an address."""
    for text in _texts(value):
        if text.lstrip().lower().startswith(("http://", "https://", "ftp://", "file:", "s3://")) or _is_file(text):
            raise BadRequest(
                f"'{text[:60]}' names a file or an address, and none is opened for a client: send the data itself, as "
                "the body or in base64."
            )


def demand_allowed(parameters: Any) -> dict[str, Any]:
    """The parameters of a request. Raises `BadRequest` for what is no client's to choose."""
    if not isinstance(parameters, dict):
        raise BadRequest("'parameters' must be a JSON object.")
    for name in _names(parameters):
        if name in _RESERVED:
            raise BadRequest(f"The parameter '{name}' is not a client's to choose: {_RESERVED[name]}.")
    return parameters


def sound_of(data: bytes) -> Any:
    """A sound as a pipeline takes it: the samples of a WAV file, or any other file for ffmpeg.

    Raises `BadRequest` and `UnsupportedMediaType`.
    """
    if data[:4] != b"RIFF":
        if shutil.which("ffmpeg") is None:
            raise UnsupportedMediaType("The sound is no WAV file, and others need ffmpeg, which is not here: send WAV.")
        return data
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError) as error:
        raise BadRequest(f"The WAV file cannot be read: {one_line(error)}.") from None
    if width not in _FULL_SCALE or not channels:
        raise BadRequest(f"The WAV file has samples of {width} bytes; 1, 2 and 4 are read.")
    whole = len(frames) // (width * channels) * width * channels
    samples = np.frombuffer(frames[:whole], dtype=np.dtype(_STORED[width])).astype(np.float32)
    samples = (samples - 128.0 if width == 1 else samples) / np.float32(_FULL_SCALE[width])
    return {"raw": samples.reshape(-1, channels).mean(axis=1), "sampling_rate": rate}


def sound_in_base64(text: str) -> Any:
    """A sound that came in JSON. Raises as `sound_of`."""
    _, _, data = text.rpartition("base64,")
    try:
        return sound_of(base64.b64decode(data, validate=True))
    except binascii.Error:
        raise BadRequest("'inputs' must be the sound in base64.") from None


def write(prediction: Any, media_type: str) -> bytes:
    """What a pipeline answered. Raises `NotAcceptable`, and `HandlerFailed` for what JSON cannot hold."""
    if media_type == CSV:
        return _table(prediction)
    if media_type == NPY:
        return encode(np.asarray(json.loads(_json(prediction))), NPY)
    return _json(prediction).encode()


def _json(prediction: Any) -> str:
    try:
        return json.dumps(prediction, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError) as error:
        raise HandlerFailed(f"The pipeline answered what JSON cannot hold: {one_line(error)}.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Image.Image):
        file = io.BytesIO()
        value.save(file, format="PNG")
        return base64.b64encode(file.getvalue()).decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _table(prediction: Any) -> bytes:
    rows = json.loads(_json(prediction))
    rows = rows if isinstance(rows, list) else [rows]
    if not rows or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        raise NotAcceptable(
            "The answer is no table of rows with the same columns, so that it cannot be CSV; take JSON."
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _rows(text: str) -> list[Any]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise BadRequest(f"The CSV body cannot be read: {error}.") from None
    if not rows or not any(str(name).lower() in _COLUMNS for name in rows[0]):
        raise BadRequest(f"The CSV body needs a header with a column of {', '.join(_COLUMNS)}, and a row.")
    return [row["inputs"] for row in rows] if "inputs" in rows[0] else rows


def _picture(body: Any, reading_: Reading) -> Image.Image:
    return Image.fromarray(
        reading.pixels(
            body,
            max_decoded_bytes=reading_.max_decoded_bytes,
            obey_orientation=reading_.image_orientation == "obey",
            onto=reading.WHITE if reading_.image_background == "white" else "drop",
        )
    )


def _texts(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, list):
            left += item


def _names(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield from item
            left += item.values()
        elif isinstance(item, list):
            left += item


def _is_file(text: str) -> bool:
    try:
        return len(text) < 4096 and "\0" not in text and Path(text).is_file()
    except OSError:
        return False
