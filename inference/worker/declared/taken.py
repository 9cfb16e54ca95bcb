"""What a declared input has made of a body, and the records that a JSON body holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tidegate.inference.errors import BadRequest


class PictureSize(NamedTuple):
    """The size that a client's picture had."""

    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What the model is given for one request."""

    data: Any
    """A tensor, or tensors by name."""
    records: int
    """How many records the body holds; 0 where nothing says so."""
    one_alone: bool
    """Whether it is one record by itself, which is answered by itself, and not a list, which is answered by a list."""
    sizes: tuple[PictureSize, ...] = ()
    """Of the client's pictures; none for what is no picture."""


def records_of(documents: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], bool]:
    """The records of a JSON body by where they stand, and whether it is one by itself; a JSON body may be a list."""
    (where, value), *others = documents
    if others or not isinstance(value, list):
        return documents, not others
    if not value:
        raise BadRequest(f"{where} is an empty list; send at least one object.")
    return [(f"Entry {number} of the list", each) for number, each in enumerate(value)], False


def at(where: str, error: BadRequest) -> BadRequest:
    """The same mistake, and where it is."""
    return BadRequest(f"{where}: {error.message}")
