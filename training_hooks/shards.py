"""Weights in several files: how large each may be, which weight goes where, and the index, in Hugging Face's form.

{"metadata": {"total_size": 123}, "weight_map": {"layer.weight": "model-00001-of-00002.safetensors", ...}}
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .arguments import as_whole_number, shown
from .errors import ArtifactError

USUAL_SHARD_BYTES = 5 * 10**9
_MOST_BYTES = 1 << 60
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(|K|M|G|T|Ki|Mi|Gi)B?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One weight, as it is divided among files.

    Attributes:
        name: of the weight.
        size_bytes: what it needs in a file.
        shared: equal for weights that are one tensor, which stay together and count once; None for any other.
    """

    name: str
    size_bytes: int
    shared: Hashable | None = None


def checked_shard_bytes(given: object) -> int | None:
    """Return the largest size of a file in bytes; None where there is to be one file.

    Args:
        given: bytes, text such as "5GB", True for the usual 5 GB, or False or None for one file.

    Raises:
        ArtifactError: it is something else.
    """
    if given is None or (isinstance(given, bool | np.bool_) and not given):
        return None
    if isinstance(given, bool | np.bool_):
        return USUAL_SHARD_BYTES
    if isinstance(given, str):
        size = _SIZE.fullmatch(given.strip())
        factors = {unit.lower(): factor for unit, factor in _UNITS.items()}
        size_bytes = int(float(size[1]) * factors[size[2].lower()]) if size else 0
        if not 1 <= size_bytes <= _MOST_BYTES:
            raise ArtifactError(f'max_shard_size is {shown(given)}; give a size such as "5GB", or a number of bytes')
        return size_bytes
    try:
        return as_whole_number(given, "max_shard_size", least=1, most=_MOST_BYTES)
    except ArtifactError:
        raise ArtifactError(
            f'max_shard_size is {shown(given)}; give a size such as "5GB", a number of bytes, or True for 5 GB'
        ) from None


def divided(entries: Sequence[Entry], shard_bytes: int) -> list[list[str]]:
    """Return the names for each file, in the order in which they are given; no file is larger than it has to be.

    A weight that is larger than `shard_bytes` has a file for itself.
    """
    together: dict[Hashable, list[Entry]] = {}
    for entry in entries:
        together.setdefault(("alone", entry.name) if entry.shared is None else entry.shared, []).append(entry)
    files: list[list[str]] = [[]]
    room = shard_bytes
    for group in together.values():
        size_bytes = group[0].size_bytes
        if size_bytes > room and files[-1]:
            files.append([])
            room = shard_bytes
        files[-1] += [entry.name for entry in group]
        room -= size_bytes
    return files


def index_of(weight_map: Mapping[str, str], total_bytes: int) -> bytes:
    """Return the bytes of the index."""
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(weight_map)}
    return (json.dumps(index, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
