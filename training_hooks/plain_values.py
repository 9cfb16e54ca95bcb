"""Turning what training code has at hand (numpy and torch scalars, arrays) into plain JSON values."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .arguments import kind_of, shown
from .errors import ArtifactError


def to_plain(value: object, where: str) -> Any:
    """Return `value` as dicts with text keys, lists, text, numbers, booleans and None.

    Args:
        value: numpy and torch arrays and scalars are converted, mappings and sequences are walked.
        where: how an error names the place, for example `preprocessing`.
    """
    try:
        return _plain(value, where)
    except RecursionError:
        raise ArtifactError(f"{where} is nested too deeply, or holds itself, and JSON cannot hold it") from None


def to_array(value: object, where: str) -> Any:
    """Return a tensor or an array as a numpy array.

    Raises:
        ArtifactError: a tensor that has no numbers here (meta), or of a kind that numpy does not know.
    """
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    try:
        return value.detach().cpu().resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError):
        kind = str(value.dtype).removeprefix("torch.")
        raise ArtifactError(
            f"{where} is a {kind} tensor ({value.layout}, {value.device}), which npy cannot hold; convert it to float32"
        ) from None


def _plain(value: object, where: str) -> Any:
    if isinstance(value, torch.Tensor):
        try:
            return _plain(value.detach().cpu().tolist(), where)
        except (TypeError, RuntimeError, NotImplementedError):
            raise ArtifactError(
                f"{where} is a {value.layout} tensor on {value.device}, which JSON cannot hold"
            ) from None
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, str):
        return checked_text(value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value, where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ArtifactError(f"{where} has the key {shown(key)}; JSON keys must be text")
        return {
            checked_text(key, f"a key of {where}"): _plain(item, f"{where}[{key!r}]") for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ArtifactError(f"{where} is {kind_of(value)}, which JSON cannot hold; {_way_out(value)}")


def _way_out(value: object) -> str:
    if isinstance(value, os.PathLike):
        return "give it as text"
    if isinstance(value, bytes | bytearray | memoryview):
        return "give text, such as their base64"
    if isinstance(value, set | frozenset):
        return "give a list, which has an order"
    if hasattr(value, "getbands"):  # a Pillow image
        return "give its data URI, or the image alone"
    if callable(getattr(value, "to_dict", None)):  # of pandas, and of many configurations
        return "give what its to_dict() returns"
    if callable(getattr(value, "read", None)):
        return "give what it holds"
    return "give numbers, text, lists, mappings, arrays or tensors"


def _number(value: float, where: str) -> float:
    if isinstance(value, int):
        if abs(value) >= 10**1000:  # Python itself refuses to write what is longer than 4,300 digits
            raise ArtifactError(f"{where} is a very large number, which JSON cannot hold")
        return int(value)
    if not math.isfinite(value):
        raise ArtifactError(f"{where} is {value}, which JSON cannot hold")
    return float(value)


def checked_text(value: str, where: str) -> str:
    """Return the text, of an enumeration's member too. Raises `ArtifactError` where UTF-8 cannot hold it."""
    try:
        return value.encode().decode()
    except UnicodeEncodeError:
        raise ArtifactError(f"{where} holds half of a surrogate pair, which UTF-8 cannot hold") from None


def to_json(value: object, where: str) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and a final newline; the same value gives the same bytes."""
    text = json.dumps(to_plain(value, where), ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()


def to_floats(metrics: object) -> dict[str, float]:
    """Return the metrics as plain floats, which a manifest can hold whatever library computed them."""
    if not isinstance(metrics, Mapping):
        raise ArtifactError(f"metrics is {kind_of(metrics)}; give a mapping of names to numbers")
    floats: dict[str, float] = {}
    for key, value in to_plain(metrics, "metrics").items():
        if isinstance(value, str) or value is None or isinstance(value, list | dict):
            raise ArtifactError(f"metrics[{key!r}] is not a single number")
        try:
            floats[key] = float(value)
        except OverflowError:
            raise ArtifactError(f"metrics[{key!r}] is a very large number, which no float can hold") from None
    return floats
