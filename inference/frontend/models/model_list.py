"""Pages of the list of models, as `GET /models` gives them: TorchServe's `limit` and `next_page_token`.

`nextPageToken`, as the answer calls it, is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

from tidegate.inference.errors import BadRequest

PAGE_SIZE = 100
"""Entries of one page, TorchServe's default and limit."""


def page(names: Sequence[str], query: str, entry: Callable[[str], Mapping[str, object]]) -> dict[str, object]:
    """The page of `names`, in order, that a query string asks for. Raises `BadRequest`."""
    asked = parse_qs(query)
    start = _number(asked, "next_page_token" if "next_page_token" in asked else "nextPageToken", 0)
    limit = min(_number(asked, "limit", PAGE_SIZE), PAGE_SIZE) or PAGE_SIZE
    content: dict[str, object] = {"models": [entry(name) for name in names[start : start + limit]]}
    if start + limit < len(names):
        content["nextPageToken"] = str(start + limit)
    return content


def _number(query: dict[str, list[str]], key: str, default: int) -> int:
    text = query.get(key, [str(default)])[0]
    if not text.isdecimal() or len(text) > 9:
        raise BadRequest(f"{key} must be a whole number, not '{text[:40]}'.")
    return int(text)
