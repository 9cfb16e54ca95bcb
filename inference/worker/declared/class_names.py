"""Scores to the names of classes, as the manifest declares it.

scores (records, classes) ▶ softmax or sigmoid ▶ the best first ▶ at most top_k ▶ none below the threshold

JSON        [{"label": "cat", "score": 0.98}, …]   a list of such lists for several records
JSON Lines  such a list in each line
CSV         cat,0.98,dog,0.02                      a line for each record
npy, npz    all scores, in the order of the labels
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.inference.declarations.classes import Activation, Classes
from tidegate.inference.errors import HandlerFailed
from tidegate.inference.worker.accept import demand_writable
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, NPY, NPZ, split_media_type
from tidegate.inference.worker.declared.one_of_several import one_of_several
from tidegate.inference.worker.encoding import encode, to_array

WRITABLE = (JSON, JSON_LINES, CSV, NPY, NPZ)

Scores = npt.NDArray[np.floating[Any]]


def write(prediction: Any, accept: str, declared: Classes, *, records: int, one_alone: bool) -> bytes:
    """The answer for a prediction. Raises `NotAcceptable`, and `HandlerFailed` for what are no scores."""
    demand_writable(accept, WRITABLE)
    scores = scores_of(prediction, declared, records=records)
    media_type = split_media_type(accept)[0]
    if media_type == NPY:
        return encode(scores, NPY)
    if media_type == NPZ:
        return encode({"scores": scores}, NPZ)
    found = [_best(row, declared) for row in scores]
    if media_type == CSV:
        return _csv(found)
    named = [[{"label": label, "score": score} for label, score in each] for each in found]
    if media_type == JSON_LINES:
        return b"".join(json.dumps(each).encode() + b"\n" for each in named)
    return json.dumps(named[0] if len(named) == 1 and one_alone else named).encode()


def scores_of(prediction: Any, declared: Classes, *, records: int) -> Scores:
    """The scores of a prediction after the activation, (records, classes). Raises `HandlerFailed`."""
    array = to_array(one_of_several(prediction, declared.member, "classes.from"))
    if array.dtype.kind not in "fiu":
        raise HandlerFailed(f"The model's scores hold {array.dtype}; they must be numbers.")
    scores = _by_record(array, records)
    classes = scores.shape[1]
    if declared.labels and classes != len(declared.labels):
        raise HandlerFailed(f"The model gives {classes} scores, and there are {len(declared.labels)} labels.")
    if declared.top_k is not None and declared.top_k > classes:
        raise HandlerFailed(f"The model gives {classes} scores, fewer than classes.top_k of the manifest asks for.")
    if classes == 1 and declared.activation == "softmax":
        raise HandlerFailed('The softmax of one score is always 1; classes.activation must be "sigmoid" or "none".')
    kept = np.float64 if scores.dtype == np.float64 else np.float32
    active: Scores = _active(scores.astype(np.float64), declared.activation).astype(kept)
    if not np.isfinite(active).all():
        record = int((~np.isfinite(active)).any(axis=1).argmax())
        number = int((~np.isfinite(scores[record])).argmax())
        raise HandlerFailed(
            f"The model's scores hold {scores[record, number]}, for the class {number} of the record {record}."
        )
    return active


def doubt(prediction: Any, declared: Classes) -> str | None:
    """What a network says that has gone through a softmax before the declared one: its scores add up to 1 already."""
    if declared.activation != "softmax":
        return None
    try:
        scores = to_array(one_of_several(prediction, declared.member, "classes.from")).astype(np.float64)
    except (HandlerFailed, ValueError, TypeError):
        return None
    shares = scores.ndim == 2 and scores.size > 0 and bool((scores >= 0).all())
    if not shares or not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return None
    return (
        "the model's scores add up to 1 before the declared softmax, as if its network ended in one: another softmax "
        'makes them nearly equal; say "activation": "none" then'
    )


def _by_record(array: npt.NDArray[Any], records: int) -> npt.NDArray[Any]:
    if array.ndim == 1 and records <= 1:
        array = array[np.newaxis]
    elif array.ndim == 1 and len(array) == records:
        array = array[:, np.newaxis]
    if array.ndim != 2 or not array.shape[1]:
        raise HandlerFailed(f"The model's scores have the shape {array.shape}; they must be (records, classes).")
    if records and len(array) != records:
        raise HandlerFailed(f"The model gives the scores of {len(array)} records for {records}.")
    return array


def _active(scores: npt.NDArray[np.float64], activation: Activation) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # of infinity comes NaN, which is refused
        if activation == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            found: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
            return found
        return 1 / (1 + np.exp(-scores)) if activation == "sigmoid" else scores


def _best(row: Scores, declared: Classes) -> list[tuple[str | int, float]]:
    """Pairs of label and score, the best first; of two as good the one that comes first."""
    order = np.argsort(-row, kind="stable")[: declared.top_k]
    found = [(int(number), float(row[number])) for number in order]
    if declared.threshold is not None:
        found = [(number, score) for number, score in found if score >= declared.threshold]
    return [(declared.labels[number] if declared.labels else number, score) for number, score in found]


def _csv(found: list[list[tuple[str | int, float]]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for each in found:
        # Without a class above the threshold an empty cell: an empty line would be no line to whoever counts them.
        writer.writerow([cell for pair in each for cell in pair] or [""])
    return text.getvalue().encode()
