"""What files of a model may be called, so that every disk can hold them and nothing leads out. No I/O."""

from __future__ import annotations

from collections.abc import Collection

_LONGEST_NAME_BYTES = 255


def name_fault(name: str) -> str | None:
    """Why a relative name cannot be a file's below a model, in words that follow "it"."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part, or one of dots"
    if "\\" in name or any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "holds a control character or a backslash"
    if any(len(part.encode(errors="surrogatepass")) > _LONGEST_NAME_BYTES for part in parts):
        return f"has a part of more than {_LONGEST_NAME_BYTES} bytes"
    return None


def files_fault(files: Collection[str]) -> str:
    """Why the names of a version's files make it one that cannot be served."""
    for name in files:
        if (fault := name_fault(name)) is not None:
            return f"{name!r} cannot be a file: it {fault}."
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in files:
                return f"{above} is a file and a folder at the same time."
    return ""
