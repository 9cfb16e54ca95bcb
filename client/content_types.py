"""Which content type a file has, by the ending of its name."""

from __future__ import annotations

from pathlib import PurePath

CSV, JSON, TEXT = "text/csv", "application/json", "text/plain"
JSON_LINES = ("application/jsonlines", "application/jsonl", "application/x-jsonlines", "application/x-ndjson")
BY_ENDING = {
    ".csv": CSV,
    ".json": JSON,
    ".jsonl": JSON_LINES[0],
    ".ndjson": JSON_LINES[0],
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".txt": TEXT,
}
_IN_LINES = (CSV, *JSON_LINES, TEXT)
_ALSO_OF_ANSWERS = (*_IN_LINES, JSON, BY_ENDING[".npy"], BY_ENDING[".npz"])


def content_type_of(name: str) -> str:
    """The content type of a file of this name. Raises `ValueError` where the ending says nothing."""
    ending = PurePath(name).suffix.lower()
    if ending not in BY_ENDING:
        known = ", ".join(BY_ENDING)
        raise ValueError(f"the name {name!r} does not say what is inside; give --content-type (known endings: {known})")
    return BY_ENDING[ending]


def is_gzip(name: str) -> bool:
    """Whether a file of this name is compressed, by the ending of the name."""
    return name.lower().endswith(".gz")


def unpacked_name(name: str) -> str:
    """The name of what is inside a file of this name: without the ending `.gz`."""
    return name[: -len(".gz")] if is_gzip(name) else name


def is_in_lines(content_type: str) -> bool:
    """Whether content of this type is made of lines that can be answered one by one."""
    return media_type(content_type) in _IN_LINES


def answers_of(content_type: str) -> str:
    """The Accept header for a job over such content: its own type for data, the model's choice for anything else.

    A model that takes pictures seldom answers with one, and `*/*` means JSON to the containers of AWS, too.
    """
    return content_type if media_type(content_type) in _ALSO_OF_ANSWERS else "*/*"


def media_type(content_type: str) -> str:
    """A content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()
