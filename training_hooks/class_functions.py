"""How the server answers with declared classes where the archive's own code has no `output_fn`, for an example.

Loaded in the process that answers an example, by path, as `default_functions.py` is. The contract tests hold it to the
server.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

JSON, JSON_LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"


class NotDone(Exception):
    """What is done here does not reach that far; the text is the end of a sentence."""


def output_fn(
    prediction: Any, accept: str, declared: Mapping[str, Any], labels: Sequence[str], *, records: int, alone: bool
) -> bytes:
    """Write labels and scores of a prediction for `records`, 0 where nobody counted; a single one may be `alone`."""
    media_type = accept.partition(";")[0].strip().lower()
    scores = _scores(prediction, declared.get("activation", "softmax"), records)
    count = scores.shape[1]
    if labels and count != len(labels):
        raise NotDone(f"the model gives {count} scores, and there are {len(labels)} labels")
    if declared.get("top_k", 1) > count:
        raise NotDone(f"the model gives {count} scores, fewer than top_k asks for")
    if media_type == NPY:
        buffer = io.BytesIO()
        np.save(buffer, scores)
        return buffer.getvalue()
    found = [_best(row, declared, labels) for row in scores]
    if media_type == CSV:
        text = io.StringIO()
        rows = [[cell for pair in each for cell in pair.values()] or [""] for each in found]
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()
    if media_type == JSON_LINES:
        return b"".join(json.dumps(each).encode() + b"\n" for each in found)
    if media_type != JSON:
        raise NotDone(f"classes are not written here as {accept}; define output_fn, or give the response")
    return json.dumps(found[0] if alone and len(found) == 1 else found).encode()


def _scores(prediction: Any, activation: str, records: int) -> Any:
    """Return the scores after the activation: (records, classes)."""
    scores = torch.as_tensor(np.asarray(prediction) if not isinstance(prediction, torch.Tensor) else prediction)
    scores = scores.detach().cpu()
    kept = torch.float64 if scores.dtype is torch.float64 else torch.float32
    scores = scores.to(torch.float64)
    if scores.dim() == 1 and (records <= 1 or len(scores) == records):
        scores = scores[None] if records <= 1 else scores[:, None]
    if scores.dim() != 2 or records not in (0, len(scores)):
        raise NotDone(f"the model's scores have the shape {tuple(scores.shape)}, and are no (records, classes)")
    if scores.shape[1] == 1 and activation == "softmax":
        raise NotDone("the softmax of one score is always 1; say activation='sigmoid' or 'none'")
    if activation != "none":
        scores = scores.softmax(1) if activation == "softmax" else scores.sigmoid()
    if not scores.isfinite().all():
        raise NotDone("the model's scores for the example hold NaN or infinity")
    return scores.to(kept).numpy()


def _best(row: Any, declared: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    order = sorted(range(len(row)), key=lambda number: -row[number])[: declared.get("top_k")]
    least = declared.get("threshold")
    return [
        {"label": labels[number] if labels else number, "score": float(row[number])}
        for number in order
        if least is None or row[number] >= least
    ]
