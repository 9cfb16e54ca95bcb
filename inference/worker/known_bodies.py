"""Which bodies a model takes and gives, as far as it is known: the server's own functions say it, and a script may."""

from __future__ import annotations

from tidegate.inference.protocol import Bodies
from tidegate.inference.worker.steps import Steps

ANY = "*/*"


def known_bodies(steps: Steps) -> Bodies:
    """The types that are known. What a script makes of a body is the script's own business, and is not told."""
    functions = steps.functions
    reads = functions.input_fn is None and functions.transform_fn is None
    writes: list[str] | None = None
    if functions.output_fn is None and functions.transform_fn is None:
        # A predict_fn of the script's may yield, and a stream may have another type (`chunks.ItemChunks`).
        writes = [*steps.declared.writable, *([ANY] if functions.predict_fn is not None else [])]
    elif functions.media_types is not None:
        writes = list(functions.media_types)
    return {
        "reads": list(steps.declared.readable) if reads else None,
        "writes": writes,
        "chats": functions.chat_fn is not None,
    }
