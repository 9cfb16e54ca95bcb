"""Data URIs (RFC 2397): a file of a few megabytes as one string, as a canvas in a browser gives its picture.

    data:image/png;base64,iVBORw0KGgo…

What comes from a client is read strictly, so that one file has one spelling: base64 is canonical (RFC 4648, 3.5), and
an image is of the type that the URI says. Every fault is `BadRequest`, in a sentence that does not repeat the data.
"""

from __future__ import annotations

import binascii
import re
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tidegate.inference.errors import BadRequest
from tidegate.inference.images.kinds import MEDIA_TYPES, kind_of, usual_name

_SCHEME = "data:"
_MAX_HEAD_CHARACTERS = 1024
"""Before the comma stand a type and its parameters: a longer head is no data URI."""
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105 - a part of a media type (RFC 6838, 4.2)
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_NOT_IN_A_URI = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")
_LAST_OF_ONE_BYTE, _LAST_OF_TWO_BYTES = frozenset("AQgw"), frozenset("AEIMQUYcgkosw048")
"""What may stand before `==` and before `=`: the bits that hold no data are zero."""


class DataUri(NamedTuple):
    """What a data URI holds. `media_type` is in lower case and without parameters."""

    media_type: str
    data: bytes


def read(uri: str, *, max_bytes: int) -> DataUri:
    """The media type and the bytes of `uri`, of which there may be `max_bytes`.

    A URI without a type is `text/plain`, as the RFC has it. That an image is one of the kinds that are read here is not
    said by this: only that the type is not a false one. Raises `BadRequest`.
    """
    if not isinstance(uri, str):
        raise BadRequest(f"A data URI is a string; this is of the type {type(uri).__name__}.")
    if uri[: len(_SCHEME)].lower() != _SCHEME:
        raise BadRequest("This is not a data URI: it does not begin with 'data:', as data:image/png;base64,… does.")
    comma = uri.find(",", len(_SCHEME), _MAX_HEAD_CHARACTERS)
    if comma < 0:
        raise BadRequest(
            "The data URI has no comma between its type and its data; it should look like data:image/png;base64,…"
        )
    media_type, *parameters = uri[len(_SCHEME) : comma].split(";")
    is_base64 = bool(parameters) and parameters[-1].strip().lower() == "base64"
    media_type = media_type.strip().lower() or "text/plain"
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise BadRequest("The data URI has no media type such as image/png between 'data:' and its data.")
    data = _from_base64(uri, comma + 1, max_bytes) if is_base64 else _from_percents(uri, comma + 1, max_bytes)
    _demand_the_type(media_type, data)
    return DataUri(media_type, data)


def read_image(uri: str, *, max_bytes: int) -> bytes:
    """The file of an image in `uri`, which says truly that it is of a kind that is read. Raises `BadRequest`."""
    found = read(uri, max_bytes=max_bytes)
    if usual_name(found.media_type) not in MEDIA_TYPES:
        kinds = ", ".join(sorted(MEDIA_TYPES))
        raise BadRequest(f"The data URI says that it is {found.media_type}; this model takes an image: {kinds}.")
    return found.data


def write(data: bytes | bytearray | memoryview, media_type: str) -> str:
    """`data` as a data URI in base64. Raises `ValueError` where `media_type` is none."""
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ValueError(f"{media_type!r} is not a media type such as 'image/png'")
    return f"data:{media_type};base64,{binascii.b2a_base64(data, newline=False).decode('ascii')}"


def _from_base64(uri: str, start: int, max_bytes: int) -> bytes:
    characters = len(uri) - start
    # Before anything is copied. Padding stands for two bytes at most.
    _demand_size(characters // 4 * 3 - 2, max_bytes)
    payload = uri[start:]
    padding = characters - len(payload.rstrip("="))
    if characters % 4 == 0 and padding <= 2 and _ends_canonically(payload, padding):
        with suppress(ValueError):
            data = binascii.a2b_base64(payload, strict_mode=True)
            _demand_size(len(data), max_bytes)
            return data
    raise _fault(payload, padding)


def _ends_canonically(payload: str, padding: int) -> bool:
    """Whether the bits behind the last byte are zero, which the decoder does not ask."""
    if not padding:
        return True
    return payload[-padding - 1 : -padding] in (_LAST_OF_TWO_BYTES if padding == 1 else _LAST_OF_ONE_BYTE)


def _fault(payload: str, padding: int) -> BadRequest:
    """What is wrong with base64 that was not taken."""
    if odd := _NOT_BASE64.search(payload, 0, len(payload) - padding):
        return BadRequest(_odd_character(odd.group(), odd.start()))
    if len(payload) % 4 or padding > 2:
        return BadRequest(
            f"The base64 of the data URI has {len(payload)} characters with {padding} '=' at its end; with the right "
            "padding ('=' or '==' at most) it is a multiple of 4 characters, so some are missing or too many."
        )
    return BadRequest(
        "The base64 of the data URI is not canonical: bits behind its last byte are set, as where it was cut off."
    )


def _odd_character(character: str, at: int) -> str:
    if character == "=":
        return f"The base64 of the data URI has padding ('=') at character {at}, before its end."
    if character in "-_":
        return (
            f"The base64 of the data URI has {character!r} at character {at}, which is of the URL-safe alphabet; data "
            "URIs have '+' and '/'."
        )
    if character == "%":
        return f"The base64 of the data URI is percent-encoded at character {at}; send '+', '/' and '=' as they are."
    if character.isspace():
        return f"The base64 of the data URI has white space at character {at}; send it in one piece."
    shown = f"'{character}'" if " " < character <= "~" else f"U+{ord(character):04X}"
    return f"The base64 of the data URI has {shown} at character {at}, which base64 does not have."


def _from_percents(uri: str, start: int, max_bytes: int) -> bytes:
    _demand_size((len(uri) - start) // 3, max_bytes)  # the fewest that it can be: all of it escapes
    if odd := _NOT_IN_A_URI.search(uri, start):
        raise BadRequest(
            f"The data URI is not base64, and its character {odd.start()} is not one that a URI has; send it in base64 "
            "(data:image/png;base64,…)."
        )
    data = unquote_to_bytes(uri[start:])
    _demand_size(len(data), max_bytes)
    return data


def _demand_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BadRequest(f"The data URI holds at least {size} bytes; the limit is {max_bytes}.")


def _demand_the_type(media_type: str, data: bytes) -> None:
    """Raise `BadRequest` where the URI says that it is an image, and its bytes are not of that kind."""
    if not media_type.startswith("image/"):
        return
    found, said = kind_of(data), usual_name(media_type)
    if found == said or (found is None and said not in MEDIA_TYPES):
        return
    what = "it is empty" if not data else f"its bytes are {found}" if found else "its bytes do not begin like one"
    raise BadRequest(f"The data URI says that it is {media_type}, but {what}.")
