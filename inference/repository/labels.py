"""A model's labels.json: names for versions, such as `{"stable": 3, "canary": 4}`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

MAX_BYTES = 1 << 20
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}", re.ASCII)
_RESERVED = "latest"


def labels_of(content: bytes) -> dict[str, int]:
    """The labels. Raises `ValueError` with a sentence that follows the file's name."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not readable JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError('must hold an object such as {"stable": 3}')
    for label, number in fields.items():
        if label == _RESERVED:
            raise ValueError("gives the label 'latest', which is always the highest version")
        if not _LABEL.fullmatch(label):
            raise ValueError(
                f"has the label {label!r}; a label begins with a letter and continues with letters, digits, ._-"
            )
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"gives {label!r} the version {number!r}; a version is a whole number")
    return fields


def dangling(labels: Mapping[str, int], numbers: Collection[int]) -> str:
    """A sentence about labels of versions that are not there; empty where there are none."""
    wrong = [f"{label} (version {number})" for label, number in sorted(labels.items()) if number not in numbers]
    return f"Labels of versions that are not there: {', '.join(wrong)}." if wrong else ""
