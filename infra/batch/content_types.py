"""How an input object is read, by the ending of its name."""

from __future__ import annotations

from typing import Literal

# Of CreateTransformJob, SplitType.
Split = Literal["None", "Line", "RecordIO", "TFRecord"]

# The media types are those of the server (docs/handlers.md).
BY_ENDING = {
    "csv": "text/csv",
    "jsonl": "application/jsonlines",
    "ndjson": "application/jsonlines",
    # One document. Records one to a line are .jsonl.
    "json": "application/json",
    "npy": "application/x-npy",
    "npz": "application/x-npz",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
# Of these SageMaker makes requests of whole lines; anything else is one request for the whole object.
IN_LINES = ("text/csv", "application/jsonlines", "application/jsonl", "application/x-jsonlines", "application/x-ndjson")
