"""Which model and version a request asks for, as its path or one header says it. No I/O.

The header is `X-Amzn-SageMaker-Custom-Attributes: model=NAME;version=V`; the platform passes it on both ways, as text
of at most 1,024 characters (API reference, InvokeEndpoint, "CustomAttributes"). Everything else in it is the caller's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from tidegate.inference.errors import BadRequest
from tidegate.inference.repository.catalogue import Revision

_PATH = re.compile(
    r"(?:/v2)?/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?"
    r"/(?:invoke|infer|v1/chat/completions|invocations-bidirectional-stream)"
)


_LONGEST = 1024
"""Characters of the header that the platform passes on."""


class Selector(NamedTuple):
    """What is asked for. No name is the repository's only model, no version is `latest`."""

    name: str | None = None
    version: str | None = None
    """A number, `latest` or a label, as it was written."""


@lru_cache(maxsize=1024)
def in_path(path: str) -> Selector | None:
    """The selector of `/models/NAME/invoke` or `/models/NAME/versions/V/invoke`, and so for chats, conversations and
    `/v2/models/NAME/infer`.

    None for every other path.
    """
    found = _PATH.fullmatch(path) if path.startswith(("/models/", "/v2/")) else None
    return Selector(found["name"], found["version"]) if found else None


def in_header(attributes: str) -> Selector:
    """The selector of the custom attributes. Raises `BadRequest` for a choice that is none, or is made twice."""
    # What is longer than the platform's own is read, but not remembered: a thousand of them would be memory.
    return _remembered(attributes) if len(attributes) <= _LONGEST else _read(attributes)


def _read(attributes: str) -> Selector:
    chosen: dict[str, str] = {}
    for part in _decoded(attributes).split(";"):
        key, equals, value = (text.strip() for text in part.partition("="))
        key = key.lower()
        if key not in ("model", "version"):
            continue
        if not (equals and value):
            raise BadRequest(f"X-Amzn-SageMaker-Custom-Attributes names no {key}: write {key}=VALUE.")
        if key in chosen:
            raise BadRequest(f"X-Amzn-SageMaker-Custom-Attributes names the {key} twice.")
        chosen[key] = value
    return Selector(chosen.get("model"), chosen.get("version"))


def _decoded(attributes: str) -> str:
    """A header's bytes come as Latin-1, one character for each byte; what clients write is UTF-8."""
    try:
        return attributes if attributes.isascii() else attributes.encode("latin-1").decode()
    except UnicodeError:
        return attributes


_remembered = lru_cache(maxsize=1024)(_read)


def chosen(path: str, attributes: str) -> Selector:
    """What a request asks for. Raises `BadRequest` where its header cannot be read, or says other than its path."""
    by_header = in_header(attributes) if attributes else Selector()
    by_path = in_path(path)
    if by_path is None:
        return by_header
    for what, said, meant in zip(("model", "version"), by_header, by_path, strict=True):
        if said and meant and said != meant:
            raise BadRequest(f"The path names the {what} '{meant}', X-Amzn-SageMaker-Custom-Attributes '{said}'.")
    return Selector(by_path.name, by_path.version or by_header.version)


def meant(selector: Selector, default: str | None) -> Selector:
    """What a request is answered by that names no model: `default`, a name or NAME/VERSION, where there is one.

    A version that the request names goes before that of the default.
    """
    if selector.name is not None or default is None:
        return selector
    name, _, version = default.partition("/")
    return Selector(name, selector.version or version or None)


def echoed(revision: Revision, attributes: str) -> str:
    """The custom attributes of the answer: what answered, and what the script has to say itself."""
    choice = f"model={revision.name};version={revision.version}"
    return f"{choice};{attributes}" if attributes else choice
