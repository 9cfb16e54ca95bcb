"""Bodies as example objects: readable where that is exact, as a data URI where it is not, left out where too large.

A reader of the description must get the very bytes that the archive carries. So JSON is shown as JSON only where
writing it anew changes no value, and everything that is no plain text is a data URI (RFC 2397), which an
`externalValue` may be: it "identifies the literal example". Source: https://spec.openapis.org/oas/v3.1.1.html#example-object
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

MAX_EXAMPLE_BYTES = 64 * 1024
"""Of a body in the description, which is read as a whole; larger ones are told by their size."""
MAX_MANIFEST_EXAMPLE_BYTES = 4 << 20
_MOST_EXACT = 2**53
"""Larger whole numbers are none of JavaScript's, and many other readers round them as well."""
_MEDIA_TYPE = re.compile(r"[a-z0-9][\w!#$&^.+-]{0,126}/[\w!#$&^.+-]{1,127}", re.ASCII)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINES = frozenset({"application/jsonlines", "application/jsonl", "application/x-jsonlines", "application/x-ndjson"})


def media_type_of(content_type: object) -> str | None:
    """The type without its parameters, in lower case; None where it is none."""
    text = content_type.partition(";")[0].strip().lower() if isinstance(content_type, str) else ""
    return text if _MEDIA_TYPE.fullmatch(text) else None


def is_json(media_type: str) -> bool:
    """Whether bodies of this type are one JSON value."""
    return media_type == "application/json" or media_type.endswith("+json")


def is_text(media_type: str) -> bool:
    """Whether bodies of this type are text."""
    return media_type.startswith("text/") or media_type in _LINES


def example_object(body: bytes, content_type: str, *, headers: Mapping[str, str], what: str) -> dict[str, Any]:
    """The example object of a body. `what` begins its summary, `headers` go with it as the manifest has them."""
    told = {"summary": f"{what}, {len(body)} bytes", **({"x-tidegate-headers": dict(headers)} if headers else {})}
    if len(body) > MAX_EXAMPLE_BYTES:
        told["description"] = f"It has more than the {MAX_EXAMPLE_BYTES} bytes that a description holds."
        return told
    media_type = media_type_of(content_type) or "application/octet-stream"
    if is_json(media_type):
        try:
            return told | {"value": _exact_json(body)}
        except (ValueError, RecursionError):
            told["description"] = "As a data URI: written anew as JSON, it would be another value."
    elif is_text(media_type) and (text := _plain_text(body, content_type)) is not None:
        return told | {"value": text}
    return told | {"externalValue": f"data:{media_type};base64,{base64.b64encode(body).decode()}"}


def _exact_json(body: bytes) -> Any:
    """Raises `ValueError` for what any reader may take otherwise, and `RecursionError`."""
    value = json.loads(
        body.decode(), parse_int=_whole, parse_float=_finite, parse_constant=_no_number, object_pairs_hook=_object
    )
    json.dumps(value, ensure_ascii=False).encode()  # a lone half of a surrogate pair is no character
    return value


def _whole(digits: str) -> int:
    number = int(digits)
    if abs(number) > _MOST_EXACT:
        raise ValueError
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError
    return number


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _plain_text(body: bytes, content_type: str) -> str | None:
    if re.search(r"charset\s*=\s*\"?(?!utf-?8|us-ascii)", content_type, re.IGNORECASE):
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.search(text) or text.startswith("\ufeff") else text
