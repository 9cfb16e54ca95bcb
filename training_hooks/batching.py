"""What a model's maker says about requests that share one call: the manifest's key `batching`."""

import math
from collections.abc import Mapping

from .arguments import as_whole_number, shown
from .errors import ArtifactError

AUTO = "auto"
MAX_BATCH_SIZE = 4096
MAX_WAIT_MS = 60_000


def checked_batching(value: object) -> bool | str | dict[str, int | float | str]:
    """Return what stands in the manifest.

    Args:
        value: True (joining requests is right), False (it never is), "auto" (the server finds out), or the limits of a
            batch, `{"max_batch_size": 8, "max_wait_ms": 5}` or one of the two, which say True as well. The size may be
            "auto": the server finds it on live traffic.

    Raises:
        ArtifactError: it is something else.
    """
    if isinstance(value, bool) or (isinstance(value, str) and value == AUTO):
        return value if isinstance(value, bool) else AUTO
    if not isinstance(value, Mapping) or not value:
        raise ArtifactError(
            f'batching is {shown(value)}; give True, False, "auto" or the limits {{"max_batch_size": 8, '
            '"max_wait_ms": 5}'
        )
    limits: dict[str, int | float | str] = {}
    for key, limit in value.items():
        if key == "max_batch_size":
            limits[key] = _size(limit)
        elif key == "max_wait_ms":
            limits[key] = _milliseconds(limit)
        else:
            raise ArtifactError(f"batching has the key {shown(key)}; there are max_batch_size and max_wait_ms")
    return limits


def _size(value: object) -> int | str:
    if isinstance(value, str):
        if value != AUTO:
            wanted = f'a whole number from 1 to {MAX_BATCH_SIZE}, or "auto"'
            raise ArtifactError(f"batching's max_batch_size is {shown(value)}; it must be {wanted}")
        return AUTO
    return as_whole_number(value, "batching's max_batch_size", least=1, most=MAX_BATCH_SIZE)


def _milliseconds(value: object) -> int | float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not known or not 0 <= value <= MAX_WAIT_MS:  # type: ignore[operator]
        raise ArtifactError(f"batching's max_wait_ms is {shown(value)}; it must be a number from 0 to {MAX_WAIT_MS}")
    return value  # type: ignore[return-value]
