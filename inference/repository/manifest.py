"""A version's manifest: what it holds, file by file. It is written last: where it is, the rest is there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tidegate.inference.repository.file_names import name_fault

FORMAT_VERSION = 1
MAX_BYTES = 64 << 20
"""What training_hooks reads at most, too; more is no manifest."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ListedFile(NamedTuple):
    """What a manifest says of one file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that lists files."""

    sha256: str
    """Of itself."""
    files: Mapping[str, ListedFile]


def manifest_of(content: bytes) -> Manifest | None:
    """The manifest, or None where it is another tool's, or lists no files: that commits to nothing.

    Raises `ValueError` with a sentence that follows the file's name.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not readable JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("must hold a JSON object")
    version = fields.get("format_version")
    if version is None:
        return None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(f"has format_version {version!r}; this server reads {FORMAT_VERSION}")
    files = fields.get("files", {})
    if not isinstance(files, dict):
        raise ValueError("has 'files' that is no object")
    if not files:
        return None
    listed = {name: _listed(name, facts) for name, facts in files.items()}
    return Manifest(sha256=hashlib.sha256(content).hexdigest(), files=listed)


def _listed(name: str, facts: object) -> ListedFile:
    if (fault := name_fault(name)) is not None:
        raise ValueError(f"lists {name!r}, which {fault}")
    size = facts.get("size_bytes") if isinstance(facts, dict) else None
    sha256 = facts.get("sha256") if isinstance(facts, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"gives no size for {name!r}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"gives no SHA-256 for {name!r}")
    return ListedFile(size, sha256)
