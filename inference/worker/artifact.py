"""What the archive says about itself: the manifest, checked against the files, and the example that it carries.

An archive without `manifest.json` is served as it is; one that has it is held to it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.inference.errors import BadRequest, DeploymentError, one_line
from tidegate.inference.hashed_file import Identity, by_identity
from tidegate.inference.images import data_uri
from tidegate.inference.images.kinds import MEDIA_TYPES, usual_name
from tidegate.inference.layout import FORMAT_VERSION, MANIFEST
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, NPY, split_media_type
from tidegate.inference.worker.picture_difference import picture_difference

_NOT_AS_SAVED = (
    " It was edited after save_model, or is damaged: run the training again, or remove the file's entry from 'files' "
    f"in {MANIFEST} to serve it unchecked."
)
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 4096  # of Linux


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One request that the archive carries, and the answer that it gave where it was packed."""

    body: bytes
    content_type: str
    accept: str
    expected: bytes
    expected_type: str
    rtol: float
    atol: float


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest, or an empty dict where there is none. Raises `DeploymentError`."""
    path = root / MANIFEST
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_bytes())
    except RecursionError:
        raise DeploymentError(f"{path} is nested too deeply to be a manifest.") from None
    except (ValueError, OSError) as error:
        raise DeploymentError(f"{path} is not readable JSON: {error}.") from None
    if not isinstance(manifest, dict):
        raise DeploymentError(f"{path} must hold a JSON object, not {type(manifest).__name__}.")
    version = manifest.get("format_version")
    # TorchServe archives and other tools have manifests too; only ours carry a format_version.
    if version is None:
        return {}
    if version != FORMAT_VERSION:
        raise DeploymentError(f"{path} has format_version {version!r}; this server reads {FORMAT_VERSION}.")
    return manifest


def disregarded(root: Path) -> str:
    """A sentence about a manifest that is not read because it has no version; empty where there is none."""
    path = root / MANIFEST
    if not path.is_file() or read_manifest(root):
        return ""
    return f' {path} is not read: it has no "format_version": {FORMAT_VERSION}.'


def verify_files(root: Path, manifest: dict[str, Any], hashed: Iterable[Sequence[Any]] = ()) -> int:
    """Compare every listed file with its size and SHA-256; returns how many there were. Raises `DeploymentError`.

    `hashed` are files that were hashed a moment ago: one that is still the same is not read again.
    """
    known = by_identity(hashed)
    listed = _items(manifest.get("files"), "files")
    for name, facts in listed:
        path = below(root, name)
        if not isinstance(facts.get("size_bytes"), int) or not isinstance(facts.get("sha256"), str):
            raise DeploymentError(
                f"{MANIFEST}: the entry of {_short(name)} in 'files' needs size_bytes, a number, and sha256, a text; "
                f"it is {_short(facts)}."
            )
        if not path.is_file():
            raise DeploymentError(f"{path} is missing, although the manifest lists it.")
        with path.open("rb") as file:
            found = os.fstat(file.fileno())  # not of the path, where another file may be in the meantime
            if found.st_size != facts["size_bytes"]:
                said = f"{path} has {found.st_size} bytes; the manifest says {facts['size_bytes']}."
                raise DeploymentError(said + _NOT_AS_SAVED)
            digest = known.get(Identity.of(found)) or hashlib.file_digest(file, "sha256").hexdigest()
        if digest != facts["sha256"]:
            said = f"{path} is not as it was saved: its SHA-256 is {digest}, the manifest says {facts['sha256']}."
            raise DeploymentError(said + _NOT_AS_SAVED)
    return len(listed)


def read_example(root: Path, manifest: dict[str, Any]) -> Example | None:
    """The archive's example, or None where it carries none. Raises `DeploymentError`."""
    if "example" not in manifest:
        return None
    example = manifest["example"]
    try:
        request, response = example["request"], example["response"]
        return Example(
            body=below(root, request["file"]).read_bytes(),
            content_type=str(request["content_type"]),
            accept=str(request["accept"]),
            expected=below(root, response["file"]).read_bytes(),
            expected_type=str(response["content_type"]),
            rtol=float(example.get("rtol", 1e-3)),
            atol=float(example.get("atol", 1e-5)),
        )
    except KeyError as error:
        raise DeploymentError(f"{root / MANIFEST}: 'example' is incomplete: it lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise DeploymentError(f"{root / MANIFEST}: 'example' cannot be read: {one_line(error)}.") from None
    except OSError as error:
        raise DeploymentError(f"{error.filename} of the manifest's example cannot be read: {error.strerror}.") from None


def difference(example: Example, body: bytes, content_type: str) -> str | None:
    """Where `body` differs from the expected answer beyond the tolerance, or None."""
    expected_type, actual_type = split_media_type(example.expected_type)[0], split_media_type(content_type)[0]
    if expected_type != actual_type:
        return f"its type is {actual_type}, expected was {expected_type}"
    try:
        if expected_type == JSON:
            return _compare(json.loads(example.expected), json.loads(body), "$", example)
        if expected_type == JSON_LINES:
            wanted, got = ([json.loads(line) for line in text.splitlines()] for text in (example.expected, body))
            return _compare(wanted, got, "$", example)
        if expected_type == CSV:
            return _compare(_cells(example.expected), _cells(body), "$", example)
        if expected_type == NPY:
            expected, actual = _read_npy(example.expected), _read_npy(body)
            if expected.shape != actual.shape:
                return f"its shape is {actual.shape}, expected was {expected.shape}"
            return _compare(expected.tolist(), actual.tolist(), "array", example)
        if body != example.expected and usual_name(expected_type) in MEDIA_TYPES:
            return picture_difference(example.expected, body, rtol=example.rtol, atol=example.atol)
    except (ValueError, OverflowError, csv.Error) as error:
        return f"it cannot be read: {error}"
    return None if body == example.expected else "its bytes are not the expected ones"


def _cells(data: bytes) -> list[list[float | str]]:
    """The cells of CSV, numbers where they are such: a digit may differ on another machine, and a name may not."""
    return [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(data.decode(), newline=""))]


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _read_npy(data: bytes) -> npt.NDArray[Any]:
    # np.load would also take a zip or, for an empty body, raise EOFError.
    array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return array


def _compare(wanted: Any, got: Any, at: str, example: Example) -> str | None:
    if _is_number(wanted) and _is_number(got):
        close = math.isclose(wanted, got, rel_tol=example.rtol, abs_tol=example.atol)
        same = close or (math.isnan(wanted) and math.isnan(got))
        return None if same else f"at {at} it has {got!r}, expected was {wanted!r}"
    if type(wanted) is not type(got):
        return f"at {at} it has {_short(got)}, expected was {_short(wanted)}"
    if isinstance(wanted, dict):
        if wanted.keys() != got.keys():
            return f"at {at} it has the keys {sorted(got)}, expected were {sorted(wanted)}"
        return next((d for key in wanted if (d := _compare(wanted[key], got[key], f"{at}.{key}", example))), None)
    if isinstance(wanted, list):
        if len(wanted) != len(got):
            return f"at {at} it has {len(got)} entries, expected were {len(wanted)}"
        pairs = enumerate(zip(wanted, got, strict=True))
        return next((d for i, (w, g) in pairs if (d := _compare(w, g, f"{at}[{i}]", example))), None)
    if wanted == got:
        return None
    if isinstance(wanted, str) and (pictures := _pictures(wanted, got)) is not None:
        apart = picture_difference(*pictures, rtol=example.rtol, atol=example.atol)
        return None if apart is None else f"at {at} {apart}"
    return f"at {at} it has {_short(got)}, expected was {_short(wanted)}"


def _pictures(wanted: str, got: str) -> tuple[bytes, bytes] | None:
    """What is in both of them, if they are data URIs of pictures of one type."""
    if not (wanted.startswith("data:image/") and got.startswith("data:image/")):
        return None
    try:
        one, other = (data_uri.read(text, max_bytes=len(text)) for text in (wanted, got))
    except BadRequest:
        return None
    both = one.media_type == other.media_type and usual_name(one.media_type) in MEDIA_TYPES
    return (one.data, other.data) if both else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _items(value: Any, what: str) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(value, dict) or not all(isinstance(facts, dict) for facts in value.values()):
        raise DeploymentError(f"{MANIFEST}: '{what}' must be an object of objects.")
    return list(value.items())


def below(root: Path, name: Any) -> Path:
    """The file that the manifest calls `name`. Raises `DeploymentError` where it lies outside `root`."""
    if not isinstance(name, str) or not name:
        raise DeploymentError(f"{MANIFEST} names {_short(name)}, where the name of a file must stand.")
    path = root / name
    try:
        too_long = len(os.fsencode(path)) >= _MAX_PATH_BYTES or any(
            len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts
        )
    except UnicodeEncodeError:
        raise DeploymentError(f"{MANIFEST} names {ascii(name)[:80]}, which no file can be called.") from None
    if too_long:
        raise DeploymentError(f"{MANIFEST} names {_short(name)}, which is longer than a file's name can be.")
    if "\0" in name or not path.resolve().is_relative_to(root.resolve()):
        raise DeploymentError(f"{MANIFEST} names {_short(name)}, which is outside the model directory.")
    return path
