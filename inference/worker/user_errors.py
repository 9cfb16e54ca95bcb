"""What a client is told of an exception that left user code."""

from __future__ import annotations

import csv

from PIL import Image, UnidentifiedImageError

from tidegate.inference.errors import (
    BadRequest,
    HandlerFailed,
    NotAcceptable,
    OutOfMemory,
    RaisedByHandler,
    RequestError,
    UnsupportedMediaType,
    one_line,
)
from tidegate.inference.worker.device_errors import is_out_of_memory
from tidegate.inference.worker.request import Request

_CLIENTS_MISTAKES = (ValueError, EOFError, csv.Error, UnidentifiedImageError, Image.DecompressionBombError)
"""What an input_fn raises when the body is not what it reads; anything else that it raises is its own mistake."""


def public_error(error: BaseException, function: str, request: Request) -> RequestError:
    """The answer to a request whose `function` raised `error`."""
    if isinstance(error, RequestError):
        return error
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status <= 599:
        message = getattr(error, "message", None)
        return RaisedByHandler(message if isinstance(message, str) and message else one_line(error), status)
    if any(kind.__name__ == "UnsupportedFormatError" for kind in type(error).__mro__):
        found = _unsupported(one_line(error), function, request)
        if found is not None:
            return found
    if is_out_of_memory(error):
        return OutOfMemory("This request alone does not fit into the memory that is there.")
    if function == "input_fn" and isinstance(error, _CLIENTS_MISTAKES):
        text = one_line(error)
        if isinstance(error, UnidentifiedImageError) and " object at 0x" in text:  # Pillow names what it read
            text = "it is not an image of a kind that can be read"
        return BadRequest(f"The body was refused: {text}.")
    return HandlerFailed(f"{function} raised {type(error).__name__}; the log has its traceback under this request id.")


def _unsupported(text: str, function: str, request: Request) -> RequestError | None:
    """What the toolkit's UnsupportedFormatError, which has no status, is about: the body's type or the answer's.

    It goes by its name and its text, because an archive may bring the real toolkit.
    """
    if function == "transform_fn":
        of_the_answer = request.accept in text and (request.received.content_type or "None") not in text
        function = "output_fn" if of_the_answer else "input_fn"
    if function == "input_fn":
        return UnsupportedMediaType(f"The Content-Type was refused: {text}.")
    return NotAcceptable(f"The Accept header was refused: {text}.") if function == "output_fn" else None
