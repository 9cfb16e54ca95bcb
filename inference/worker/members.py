"""The members of an input, which may mean something for the whole call and not only for their own record.

A dict's `"t": [[0.7]]` has a row, as the records have, but predict_fn may read it once for all of them. As long as
every proof had the same value there, nothing is known of other values. So each member is known by a digest, and
requests share a call only where they are equal in all members that no proof has seen to vary.
"""

from __future__ import annotations

import itertools
import marshal
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Path = tuple[Hashable, ...]

MAX_MEMBERS = 100
"""Members that are told apart; clients choose the keys of what they send."""
_MAX_DEPTH = 8
_REST: Path = ("…",)
_unique = itertools.count()


def digests(data: Any, without: Collection[Path] = ()) -> dict[Path, int]:
    """Each member of `data` by a digest of its value, but for those in `without`.

    Nothing for an input of one member only: it is what varies, or the proof would have proved nothing.
    """
    if not _has_members(data):
        return {}
    found: dict[Path, list[Any]] = {}
    for path, leaf in _leaves(data, ()):
        known = path in found or len(found) < MAX_MEMBERS
        found.setdefault(path if known else _REST, []).append(leaf)
    if len(found) < 2:
        return {}
    return {path: _digest(leaves) for path, leaves in found.items() if path not in without}


def varied(requests: Sequence[Mapping[Path, int]]) -> set[Path]:
    """The members that are not the same in all of these requests."""
    paths = set().union(*requests)
    return {path for path in paths if len({request.get(path) for request in requests}) > 1}


def _has_members(data: Any) -> bool:
    if isinstance(data, list):
        return any(isinstance(record, Mapping | tuple) for record in data)
    return isinstance(data, Mapping | tuple)


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The values at the ends of `value`; those of a list's records have one path for all of them, and their place."""
    if len(path) < _MAX_DEPTH:
        if isinstance(value, Mapping):
            for key, member in value.items():
                yield from _leaves(member, (*path, key))
            return
        if isinstance(value, tuple):
            for place, member in enumerate(value):
                yield from _leaves(member, (*path, place))
            return
        if isinstance(value, list) and _has_members(value):
            for place, record in enumerate(value):
                for below, leaf in _leaves(record, (*path, "*")):
                    yield below, (place, leaf)
            return
    yield path, value


def _digest(value: Any) -> int:
    """A number that equal values have in common; what cannot be looked into is equal to nothing."""
    try:
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            return hash((value.dtype, value.shape, flat.view(torch.uint8).numpy().tobytes()))
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return hash((value.dtype.str, value.shape, value.tobytes()))
        if isinstance(value, list | tuple):
            return hash((type(value), tuple(map(_digest, value))))
        return hash((type(value), marshal.dumps(value, 2)))  # the version in which equal values have equal bytes
    except Exception:  # no such bytes
        return hash(("unlike any other", next(_unique)))
