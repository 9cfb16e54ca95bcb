"""What a manifest says under `classes`: how the scores of a model become the names of classes, the best first.

    "labels": "labels.json",
    "classes": {"activation": "softmax", "top_k": 3, "threshold": 0.1}

docs/handlers.md has each key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from tidegate.inference.declarations.part import Part, is_number, shown
from tidegate.inference.errors import DeploymentError

Activation = Literal["softmax", "sigmoid", "none"]
ACTIVATIONS = ("softmax", "sigmoid", "none")
MAX_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """How scores become an answer."""

    labels: tuple[str, ...] = ()
    """One for each score, in their order; none where classes are told by their numbers."""
    activation: Activation = "softmax"
    top_k: int | None = None
    """How many are answered, at most; None: all."""
    threshold: float | None = None
    """The least score that is answered, after the activation; None: any."""
    member: str | int | None = None
    """Which of several predictions holds the scores; None where there is one."""


def declared(manifest: Mapping[str, Any], labels: tuple[str, ...] = ()) -> Classes | None:
    """What the manifest says, None where it says nothing. Raises `DeploymentError` with the place of a mistake."""
    if "classes" not in manifest:
        return None
    part = Part(manifest["classes"], "classes", {"activation", "top_k", "threshold", "from"})
    activation = cast(Activation, part.choice("activation", ACTIVATIONS, "softmax"))
    top_k = None
    if "top_k" in part.values:
        top_k = part.whole("top_k", most=MAX_CLASSES, default=None)
        if labels and top_k > len(labels):
            raise part.mistake("top_k", f"is {top_k}, and there are {len(labels)} labels")
    threshold: Any = part.values.get("threshold")
    if "threshold" in part.values:
        if not is_number(threshold):
            raise part.mistake("threshold", f"is {shown(threshold)}; it must be a number")
        if activation != "none" and not 0 <= threshold <= 1:
            raise part.mistake("threshold", f"is {shown(threshold)}; a score after {activation} is from 0 to 1")
    return Classes(
        labels=labels,
        activation=activation,
        top_k=top_k,
        threshold=None if threshold is None else float(threshold),
        member=part.member(),
    )


def read_labels(data: bytes, place: str) -> tuple[str, ...]:
    """The labels that a file holds, as a JSON list of different names. Raises `DeploymentError`."""
    try:
        labels = json.loads(data)
    except (ValueError, RecursionError):
        raise DeploymentError(f"{place} is not readable JSON; it must be a list of the names of the classes.") from None
    if not isinstance(labels, list) or not labels or not all(isinstance(each, str) and each for each in labels):
        raise DeploymentError(f"{place} must be a list of the names of the classes, in the order of the scores.")
    if len(set(labels)) < len(labels):
        twice = next(each for number, each in enumerate(labels) if each in labels[:number])
        raise DeploymentError(f"{place} has the label {shown(twice)} twice; each class needs a name of its own.")
    return tuple(labels)
