"""Bodies to tensors, for scripts that leave decoding to the server.

Nothing here unpickles. What cannot be read is the client's mistake: `BadRequest` or `UnsupportedMediaType`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import torch

from tidegate.inference.errors import BadRequest, UnsupportedMediaType
from tidegate.inference.images.kinds import is_image
from tidegate.inference.worker.images import read_image
from tidegate.inference.worker.numpy_files import Array, is_npy, read_npy, read_npz

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
NPY, NPZ = "application/x-npy", "application/x-npz"
OCTETS = "application/octet-stream"
TEXT_TYPES = frozenset({JSON, CSV})
"""Bodies that user code receives as `str`, as it did in the AWS container; all others are `bytearray`."""

_ALIASES = {"application/jsonl": JSON_LINES, "application/x-jsonlines": JSON_LINES, "application/x-ndjson": JSON_LINES}
READABLE = (JSON, JSON_LINES, CSV, NPY, NPZ, "image/*")
WRITABLE = (JSON, JSON_LINES, CSV, NPY, NPZ)

_BLANK = " \t\r\n\v\f"
"""What a line may hold and still be no record, in CSV and in JSON Lines."""
_LINE_OF_BLANKS = re.compile(r"(?:^|[\r\n])[ \t\v\f]+(?:[\r\n]|$)")
_FIELD_LIMIT = Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the deployer decided about reading bodies; docs/settings.md has the meaning of each."""

    max_decoded_bytes: int
    image_orientation: str = "obey"
    image_background: str = "white"
    legacy_pickle: bool = False


class Decoded(NamedTuple):
    """What a body holds, and how many records it says that it holds: 0 where its type does not say."""

    data: torch.Tensor | dict[str, torch.Tensor]
    records: int = 0


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
    """The body as text, without a leading byte order mark. Raises `BadRequest` where it is not valid in `charset`."""
    try:
        text = str(body, charset)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not valid {charset}: byte {error.start} cannot be decoded.") from None
    except LookupError:
        raise BadRequest(f"The charset '{charset}' of the Content-Type is not known.") from None
    if text.startswith("\ufeff") and codecs.lookup(charset).name not in {"utf-16", "utf-32", "utf-8-sig"}:
        return text[1:]  # the codecs that are named have passed over the one mark already
    return text


def decode(
    body: str | bytes | bytearray | memoryview, content_type: str, reading: Reading, *, as_rows: bool = False
) -> Decoded:
    """The body as a tensor; the arrays of an npz body or of a JSON object as a dict of tensors.

    JSON, JSON Lines and CSV become float32 tensors; npy and npz keep their dtype; an image becomes float32
    (1, 3, height, width) in 0…1. `as_rows` gives the records of CSV and JSON Lines a first dimension of their own in
    every case; otherwise one CSV row is of shape (columns,), and one column of shape (rows,), as the AWS container had
    it. Raises `BadRequest` and `UnsupportedMediaType`.
    """
    media_type, charset = split_media_type(content_type)
    if media_type == JSON:
        return _one_record_at_most(_json_body(as_text(body, charset)))
    if media_type == JSON_LINES:
        return _json_lines(as_text(body, charset), as_rows=as_rows)
    if media_type == CSV:
        return _csv(as_text(body, charset), as_rows=as_rows)
    raw = body.encode() if isinstance(body, str) else body
    if media_type == NPY or (media_type == OCTETS and is_npy(raw)):
        return _one_record_at_most(_tensor(read_npy(raw)))  # of a body that is mapped, no copy is made
    data = bytearray(raw) if isinstance(raw, memoryview) else raw
    if media_type == NPZ:
        arrays = read_npz(data, reading.max_decoded_bytes)
        return Decoded({name: _tensor(value) for name, value in arrays.items()})
    if is_image(media_type):
        pixels = read_image(
            data,
            max_decoded_bytes=reading.max_decoded_bytes,
            obey_orientation=reading.image_orientation == "obey",
            onto_white=reading.image_background == "white",
        )
        return Decoded(pixels, 1)
    raise UnsupportedMediaType(f"{_not_read(media_type)}; this model reads {', '.join(READABLE)}.")


def _not_read(media_type: str) -> str:
    if media_type == OCTETS:
        return f"Content-Type '{OCTETS}' is only read where the body is an npy file, which this one is not"
    return not_read(media_type)


def not_read(media_type: str) -> str:
    """The beginning of the sentence for a body of a type that is not read."""
    return f"Content-Type '{media_type}' cannot be read" if media_type else "The Content-Type header is missing"


def _one_record_at_most(data: torch.Tensor | dict[str, torch.Tensor]) -> Decoded:
    """JSON and npy say by their shape what they hold; only a flat array, or one row, is surely one record."""
    one = isinstance(data, torch.Tensor) and (data.dim() < 2 or data.shape[0] == 1)
    return Decoded(data, int(one))


def as_text(body: str | bytes | bytearray | memoryview, charset: str) -> str:
    return body if isinstance(body, str) else decode_text(body, charset)


# --- JSON and JSON Lines


def _json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if _is_json_lines(text, error):
            raise BadRequest(
                f"The body is not valid JSON: line {error.lineno} begins a second document; send JSON Lines as "
                f"{JSON_LINES}."
            ) from None
        raise bad_json("The body", error) from None
    except (RecursionError, ValueError) as error:
        raise bad_json("The body", error) from None


def _json_body(text: str) -> torch.Tensor | dict[str, torch.Tensor]:
    value = _json_value(text)
    if not isinstance(value, dict):
        return _numbers(value)
    if not value:
        raise BadRequest("The body is an empty JSON object; this model reads arrays of numbers, or an object of them.")
    return {name: _numbers(array, f"'{name[:40]}' of the JSON object") for name, array in value.items()}


def _is_json_lines(text: str, error: json.JSONDecodeError) -> bool:
    """Whether what is left over on the line where reading stopped is a document of its own."""
    begins_a_line = error.lineno > 1 and not text[: error.pos].rpartition("\n")[2].strip(_BLANK)
    if not (error.msg.startswith("Extra data") and begins_a_line):
        return False
    with suppress(ValueError, RecursionError):
        json.loads(text[error.pos :].partition("\n")[0])
        return True
    return False


def json_documents(body: str | bytes | bytearray | memoryview, media_type: str, charset: str) -> list[tuple[str, Any]]:
    """The one value of a JSON body, or that of each line of JSON Lines, by the words for where it stands.

    Raises `BadRequest`.
    """
    text = as_text(body, charset)
    if media_type == JSON_LINES:
        return [(f"Line {number}", value) for number, value in _json_values(text)]
    return [("The body", _json_value(text))]


def _json_values(text: str) -> list[tuple[int, Any]]:
    """The values of JSON Lines by the numbers of their lines."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip(_BLANK)]
    if not lines:
        raise BadRequest("The JSON Lines body is empty.")
    return [(number, _json_line(line, number)) for number, line in lines]


def _json_lines(text: str, *, as_rows: bool) -> Decoded:
    lines = _json_values(text)
    values = [value for _, value in lines]
    data: torch.Tensor | dict[str, torch.Tensor]
    if all(isinstance(value, dict) for value in values):
        names = values[0].keys()
        odd = next((number for (number, _), value in zip(lines, values, strict=True) if value.keys() != names), None)
        if not names:
            raise BadRequest(f"Line {lines[0][0]} of the JSON Lines body is an object without a key.")
        if odd is not None:
            raise BadRequest(f"Line {odd} of the JSON Lines body does not have the same keys as the first.")
        data = {
            name: _rows(
                _numbers([value[name] for value in values], f"'{name[:40]}' of the JSON Lines"), as_rows=as_rows
            )
            for name in names
        }
    else:
        data = _rows(_numbers(values), as_rows=as_rows)
    return Decoded(data, len(values))


def _rows(tensor: torch.Tensor, *, as_rows: bool) -> torch.Tensor:
    return tensor.unsqueeze(1) if as_rows and tensor.dim() == 1 else tensor


def _json_line(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (RecursionError, ValueError) as error:
        raise bad_json(f"Line {number}", error) from None


def bad_json(what: str, error: Exception) -> BadRequest:
    """What the client is told where `json.loads` raised `error` over `what`."""
    if isinstance(error, json.JSONDecodeError):
        return BadRequest(f"{what} is not valid JSON: {error.msg} at character {error.pos}.")
    if isinstance(error, RecursionError):
        return BadRequest(f"{what} is not readable JSON: it is nested too deeply.")
    # Python's guard: the time to read an integer grows with the square of its length.
    return BadRequest(f"{what} holds a whole number that is too long to be read.")


def _numbers(value: Any, what: str = "The body") -> torch.Tensor:
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        tensor = None
    # torch goes by the first row: it reads [[], [1]] as two empty rows.
    if tensor is None or (tensor.numel() == 0 and _holds_values(value)):
        raise BadRequest(f"{what} is not an array of numbers whose rows all have the same length.")
    if tensor.isinf().any() and bool((tensor.isinf() & torch.tensor(value, dtype=torch.float64).isfinite()).any()):
        raise BadRequest(f"{what} holds a number beyond those of float32, as which it is read; send it as npy.")
    return tensor


def _holds_values(value: Any) -> bool:
    left = [value]
    while left:
        item = left.pop()
        if not isinstance(item, list):
            return True
        left += item
    return False


# --- CSV


def csv_rows(text: str) -> Generator[tuple[int, list[str]]]:
    """The records of CSV by the number of the line on which each ends. Raises `BadRequest`."""
    lines: Iterable[str] = io.StringIO(text, newline="")
    if _LINE_OF_BLANKS.search(text):
        # One would be a row of one cell. Lines keep their number, for the sentences below.
        lines = (line if line.strip(_BLANK) else "\n" for line in lines)
    reader = csv.reader(lines)
    try:
        with _cells_of_any_length():
            for row in reader:
                if row:
                    yield reader.line_num, row
    except csv.Error as error:
        raise BadRequest(f"Line {reader.line_num} of the CSV body cannot be read: {error}.") from None


def _csv(text: str, *, as_rows: bool) -> Decoded:
    rows: list[list[float]] = []
    with closing(csv_rows(text)) as found:  # it holds a lock
        for number, row in found:
            try:
                rows.append([float(cell) for cell in row])
            except ValueError:
                bad = next(cell for cell in row if not _is_number(cell))
                raise BadRequest(f"Line {number} of the CSV body holds {bad[:40]!r}, which is not a number.") from None
    if not rows:
        raise BadRequest("The CSV body is empty.")
    tensor = _numbers(rows)
    if as_rows:
        return Decoded(tensor, len(rows))
    return Decoded(tensor[0] if len(rows) == 1 else tensor[:, 0] if tensor.shape[1] == 1 else tensor, len(rows))


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lift the csv module's limit on a cell, which is the whole process's: user code keeps the one that it has set."""
    with _FIELD_LIMIT:
        limit = csv.field_size_limit(sys.maxsize)
        try:
            yield
        finally:
            csv.field_size_limit(limit)


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
