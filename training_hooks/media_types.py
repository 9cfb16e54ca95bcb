"""What bytes are, where their content says so: pictures, numpy's files and JSON. CSV and other text say nothing."""

import io
import json
import zipfile

JSON = "application/json"
JSON_LINES = "application/jsonlines"
NPY = "application/x-npy"
NPZ = "application/x-npz"
PNG = "image/png"

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\x93NUMPY", NPY),
)


def media_type_of(data: bytes) -> str | None:
    """Return the media type of a body; None where its content leaves that open."""
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:2] == b"BM" and int.from_bytes(data[2:6], "little") == len(data):
        return "image/bmp"
    if data[:2] == b"PK":
        return NPZ if _is_npz(data) else None
    return _of_text(data)


def _is_npz(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _of_text(data: bytes) -> str | None:
    # A number or a word alone would be JSON as well, and CSV, and plain text.
    if data.lstrip()[:1] not in (b"{", b"["):
        return None
    if _is_json(data):
        return JSON
    lines = data.splitlines()
    if len(lines) > 1 and all(line[:1] in (b"{", b"[") and _is_json(line) for line in lines):
        return JSON_LINES
    return None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True
