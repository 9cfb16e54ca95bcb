"""Turning what training code has at hand (numpy and torch scalars, arrays) into plain JSON values."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .errors import ArtifactError


def to_plain(value: object, where: str) -> Any:
    """Return `value` as dicts with text keys, lists, text, numbers, booleans and None.

    Args:
        value: numpy and torch arrays and scalars are converted, mappings and sequences are walked.
        where: how an error names the place, for example `preprocessing`.
    """
    if isinstance(value, torch.Tensor):
        return to_plain(value.detach().cpu().tolist(), where)
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist(), where)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArtifactError(f"{where} is {value}, which JSON cannot hold")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ArtifactError(f"{where} has the key {key!r}; JSON keys must be text")
        return {key: to_plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ArtifactError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


def to_json(value: object, where: str) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and a final newline; the same value gives the same bytes."""
    text = json.dumps(to_plain(value, where), ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()


def to_floats(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return the metrics as plain floats, which a manifest can hold whatever library computed them."""
    floats: dict[str, float] = {}
    for key, value in to_plain(metrics, "metrics").items():
        if isinstance(value, str) or value is None or isinstance(value, list | dict):
            raise ArtifactError(f"metrics[{key!r}] is not a single number")
        floats[key] = float(value)
    return floats
