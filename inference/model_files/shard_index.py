"""Weights in several files with an index, as Hugging Face writes them.

{"metadata": {"total_size": 15}, "weight_map": {"layer.weight": "model-00001-of-00002.safetensors", …}}
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

SUFFIX = ".index.json"
MAX_BYTES = 16 * 1024 * 1024
"""An index of a hundred thousand tensors has about 8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """Which tensors each file has, in the order of the files."""

    files: dict[str, frozenset[str]]

    @property
    def tensors(self) -> int:
        """How many tensors there are."""
        return sum(map(len, self.files.values()))


def read(path: Path) -> ShardIndex:
    """The index. Raises `ValueError` with what is wrong, to be put behind the file's name."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES} bytes, which no index has")
    try:
        whole = json.loads(path.read_bytes(), object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not readable JSON: {error}") from None
    mapped = whole.get("weight_map") if isinstance(whole, dict) else None
    if not isinstance(mapped, dict) or not mapped:
        raise ValueError('has no "weight_map" that names the file of each tensor')
    files: dict[str, set[str]] = {}
    for name, file in mapped.items():
        _check(name, file)
        files.setdefault(file, set()).add(name)
    return ShardIndex(files={file: frozenset(files[file]) for file in sorted(files)})


def _check(name: str, file: Any) -> None:
    if not isinstance(file, str) or not file or "\0" in file:
        raise ValueError(f"names {file!r} as the file of '{name}', which is no file name")
    # It would have to be read as one, for ever where it names itself.
    if PurePosixPath(file).name.endswith(SUFFIX):
        raise ValueError(f"names {file!r} as the file of '{name}', which is an index and holds no weights")
    parts = PurePosixPath(file.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"names {file!r} as the file of '{name}', which leads out of the model directory")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"has '{twice}' twice")
    return made
