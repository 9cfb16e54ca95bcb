"""Small functions that scripts call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_CONTENT_TYPE = re.compile("[Cc]ontent-?[Tt]ype")


def read_file(path: Any, mode: str = "r") -> Any:
    """The whole content of a file."""
    with open(path, mode) as file:  # noqa: PTH123 - any path that open() takes
        return file.read()


def write_file(path: Any, data: Any, mode: str = "w") -> None:
    """Make `data` the content of a file."""
    with open(path, mode) as file:  # noqa: PTH123
        file.write(data)


def retrieve_content_type_header(request_property: Mapping[str, Any]) -> Any:
    """The value of the first key spelled like Content-Type, or None."""
    return next((value for key, value in request_property.items() if _CONTENT_TYPE.match(key)), None)


def parse_accept(accept: str) -> list[str]:
    """The entries of an Accept header, in its order."""
    return [entry.replace(" ", "") for entry in accept.split(",")]


def remove_crlf(illegal_string: str) -> str:
    """The text on one line, as a header needs it."""
    return illegal_string.replace("\r", " ").replace("\n", " ")
