"""Bodies to arrays and back, for scripts that leave decoding and encoding to the server.

Nothing here unpickles. Sizes that a header announces are compared with the bytes that are there before memory is
taken for them. What cannot be read is the client's mistake: `BadRequest` or `UnsupportedMediaType`.
"""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from inference.errors import BadRequest, HandlerFailed, NotAcceptable, UnsupportedMediaType
from inference.worker.numpy_files import Array, read_npy, read_npz, unreadable

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
NPY, NPZ = "application/x-npy", "application/x-npz"
TEXT_TYPES = frozenset({JSON, CSV})
"""Bodies that user code receives as `str`, as it did in the AWS container; all others are `bytearray`."""

_ALIASES = {"application/jsonl": JSON_LINES, "application/x-jsonlines": JSON_LINES, "application/x-ndjson": JSON_LINES}
_IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may recognise. Not all it can: some of its readers start other programs (EPS runs Ghostscript)."""
_READABLE = (JSON, JSON_LINES, CSV, NPY, NPZ, "image/*")
WRITABLE = (JSON, JSON_LINES, CSV, NPY)


@lru_cache(maxsize=1024)
def split_media_type(text: str) -> tuple[str, str]:
    """`'Text/CSV; charset=latin-1'` → `('text/csv', 'latin-1')`; the charset is utf-8 where none is named."""
    media_type, *parameters = (part.strip() for part in text.split(";"))
    charset = "utf-8"
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            charset = value.strip().strip('"') or charset
    media_type = media_type.lower()
    return _ALIASES.get(media_type, media_type), charset


def decode_text(body: bytes | bytearray | memoryview, charset: str) -> str:
    """The body as text. Raises `BadRequest` where it is not valid in `charset`."""
    try:
        return str(body, charset)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not valid {charset}: byte {error.start} cannot be decoded.") from None
    except LookupError:
        raise BadRequest(f"The charset '{charset}' of the Content-Type is not known.") from None


def decode(body: str | bytes | bytearray, media_type: str, *, max_decoded_bytes: int) -> torch.Tensor | dict[str, Any]:
    """The body as a tensor; the arrays of an npz as a dict of tensors.

    JSON, JSON Lines and CSV become float32 tensors; npy and npz keep their dtype; an image becomes float32
    (1, 3, height, width) in 0…1. Raises `BadRequest` and `UnsupportedMediaType`.
    """
    if media_type == JSON:
        return _numbers(_json(_as_text(body), "The body"))
    if media_type == JSON_LINES:
        lines = [(number, line) for number, line in enumerate(_as_text(body).split("\n"), 1) if line.strip()]
        if not lines:
            raise BadRequest("The JSON Lines body is empty.")
        return _numbers([_json(line, f"Line {number}") for number, line in lines])
    if media_type == CSV:
        return _numbers(_csv(_as_text(body)))
    if media_type == NPY:
        return _tensor(read_npy(_as_bytes(body)))
    if media_type == NPZ:
        return {name: _tensor(value) for name, value in read_npz(_as_bytes(body), max_decoded_bytes).items()}
    if media_type.startswith("image/"):
        return _image(_as_bytes(body), max_decoded_bytes)
    named = f"Content-Type '{media_type}' cannot be read" if media_type else "The Content-Type header is missing"
    raise UnsupportedMediaType(f"{named}; this model reads {', '.join(_READABLE)}.")


def encode(prediction: Any, media_type: str) -> bytes:
    """The prediction as bytes of `media_type`. Raises `NotAcceptable`, or `HandlerFailed` for what no type can hold."""
    if media_type == JSON:
        return _write_json(to_plain(prediction))
    if media_type == JSON_LINES:
        plain = to_plain(prediction)
        rows = plain if isinstance(plain, list) else [plain]
        return b"".join(_write_json(row) + b"\n" for row in rows)
    if media_type == CSV:
        return _write_csv(to_plain(prediction))
    if media_type == NPY:
        return _write_npy(prediction)
    raise NotAcceptable(f"Accept '{media_type}' cannot be answered; this model writes {', '.join(WRITABLE)}.")


def to_plain(value: Any) -> Any:
    """Tensors and arrays, also inside dicts, lists and tuples, as lists and numbers.

    Raises `HandlerFailed` for what has items and is none of these, such as a set or a generator.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        raise _unsendable(value, "a str" if isinstance(value, bytes | bytearray | memoryview) else "a list")
    return value


def to_array(value: Any) -> Array:
    """The value as an array with its own dtype; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value.resolve_conj().resolve_neg()
        value = value.numpy()
    array: Array = np.asarray(value)
    return array


def _as_text(body: str | bytes | bytearray) -> str:
    return body if isinstance(body, str) else decode_text(body, "utf-8")


def _as_bytes(body: str | bytes | bytearray) -> bytes | bytearray:
    return body.encode() if isinstance(body, str) else body


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRequest(f"{what} is not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise BadRequest(f"{what} is not readable JSON: it is nested too deeply.") from None
    except ValueError:  # Python's guard: the time to read an integer grows with the square of its length
        raise BadRequest(f"{what} holds a whole number that is too long to be read.") from None


def _numbers(value: Any) -> torch.Tensor:
    if isinstance(value, dict):
        raise BadRequest(
            "The body is a JSON object; without an input_fn of its own this model reads arrays of numbers."
        )
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        tensor = None
    # torch goes by the first row: it reads [[], [1]] as two empty rows.
    if tensor is None or (tensor.numel() == 0 and _holds_values(value)):
        raise BadRequest("The body is not an array of numbers whose rows all have the same length.")
    return tensor


def _holds_values(value: Any) -> bool:
    left = [value]
    while left:
        item = left.pop()
        if not isinstance(item, list):
            return True
        left += item
    return False


def _csv(text: str) -> list[Any]:
    rows: list[list[float]] = []
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if row:
                rows.append([float(cell) for cell in row])
    except csv.Error as error:
        raise BadRequest(f"Line {reader.line_num} of the CSV body cannot be read: {error}.") from None
    except ValueError:
        bad = next(cell for cell in row if not _is_number(cell))
        raise BadRequest(f"Line {reader.line_num} of the CSV body holds {bad[:40]!r}, which is not a number.") from None
    if not rows:
        raise BadRequest("The CSV body is empty.")
    # As the AWS container had it: one row is one record of shape (columns,), and one column is of shape (rows,).
    if len(rows) == 1:
        return rows[0]
    return [row[0] for row in rows] if all(len(row) == 1 for row in rows) else rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _tensor(array: Array) -> torch.Tensor:
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise BadRequest(f"Arrays of the dtype {array.dtype} cannot be read; send numbers.") from None


def _image(body: bytes | bytearray, max_decoded_bytes: int) -> torch.Tensor:
    try:
        with Image.open(io.BytesIO(body), formats=_IMAGE_FORMATS) as image:
            # Twenty kilobytes of PNG may say that they are 13,000 pixels square: as floats that is two gigabytes.
            announced = image.width * image.height * 3 * np.dtype(np.float32).itemsize
            if announced > max_decoded_bytes:
                raise BadRequest(f"The image unpacks to {announced} bytes; the limit is {max_decoded_bytes}.")
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
            pixels /= 255
    except UnidentifiedImageError:
        raise BadRequest(f"The body is not an image of a kind that is read: {', '.join(_IMAGE_FORMATS)}.") from None
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise unreadable("The image", error) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).contiguous()


def _write_json(plain: Any) -> bytes:
    try:
        return json.dumps(plain, default=_refuse).encode()
    except (TypeError, ValueError) as error:  # a key, or a list that holds itself
        raise HandlerFailed(f"The prediction cannot be written as JSON: {error}.") from error


def _refuse(value: Any) -> Any:
    raise _unsendable(value, "a number, str, list or dict")


def _unsendable(value: Any, instead: str) -> HandlerFailed:
    kind = type(value).__name__
    return HandlerFailed(
        f"The prediction holds a value of the type {kind}, which cannot be sent; make {instead} of it in predict_fn, "
        "or define an output_fn."
    )


def _write_csv(plain: Any) -> bytes:
    rows: Sequence[Any] = plain if isinstance(plain, list) else [plain]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        cells = row if isinstance(row, list) else [row]
        if any(isinstance(cell, list | dict) for cell in cells):
            raise NotAcceptable(
                "The prediction holds objects, or has more than two dimensions, which CSV cannot hold; accept JSON."
            )
        writer.writerow(cells)
    return text.getvalue().encode()


def _write_npy(prediction: Any) -> bytes:
    try:
        array = to_array(prediction)
    except ValueError:  # rows of different lengths
        array = None
    if array is None or array.dtype.hasobject:
        to_plain(prediction)  # raises for what no other type could hold either
        raise NotAcceptable("The prediction is not an array of numbers, which npy could hold; accept JSON.")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
