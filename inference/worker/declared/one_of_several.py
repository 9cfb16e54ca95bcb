"""Which of the predictions of a model is meant, where the manifest says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.inference.errors import HandlerFailed


def one_of_several(prediction: Any, member: str | int | None, place: str) -> Any:
    """The member of a prediction; `place` is the key of the manifest that names it. Raises `HandlerFailed`."""
    if isinstance(prediction, Mapping):
        names = list(prediction)
        if member is None and len(names) == 1:
            return prediction[names[0]]
        if member in prediction:
            return prediction[member]
        raise HandlerFailed(
            f"The prediction has {', '.join(map(repr, names[:9]))}; {place} of the manifest must name one."
        )
    if isinstance(prediction, tuple | list):
        at = 0 if member is None and len(prediction) == 1 else member
        if isinstance(at, int) and at < len(prediction):
            return prediction[at]
        raise HandlerFailed(f"The prediction has {len(prediction)} members; {place} of the manifest must number one.")
    return prediction
