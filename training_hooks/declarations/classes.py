"""What a model's maker says about its scores: the manifest's key `classes`, by which the server answers with labels."""

from typing import Any

from ..arguments import as_whole_number, shown
from ..errors import ArtifactError
from ..plain_values import to_plain
from .checks import is_number, member, object_of, one_of

ACTIVATIONS = ("softmax", "sigmoid", "none")
MAX_CLASSES = 1_000_000


def checked_classes(value: object, label_count: int | None) -> dict[str, Any]:
    """Return what stands in the manifest.

    Args:
        value: what of `activation`, `top_k`, `threshold` and `from` is said; docs/handlers.md has each.
        label_count: how many labels there are; None where there are none.

    Raises:
        ArtifactError: one sentence that names the place, and what is wrong there.
    """
    plain = object_of({"activation": one_of(*ACTIVATIONS), "top_k": _top_k, "threshold": _threshold, "from": member})(
        to_plain(value, "classes"), "classes"
    )
    activation = plain.get("activation", "softmax")
    if activation != "none" and not 0 <= plain.get("threshold", 0) <= 1:
        raise ArtifactError(f"threshold is {plain['threshold']}; a score after {activation} is from 0 to 1")
    if label_count is not None and plain.get("top_k", 1) > label_count:
        raise ArtifactError(f"top_k is {plain['top_k']}, and there are {label_count} labels")
    return plain


def _top_k(value: Any, place: str) -> int:
    return as_whole_number(value, place, least=1, most=MAX_CLASSES)


def _threshold(value: Any, place: str) -> float:
    if not is_number(value):
        raise ArtifactError(f"{place} is {shown(value)}; it must be a number")
    return float(value)
