"""What a model directory says about its own requests: the example that it carries, its labels, its colours.

Everything here is read as data, within limits, and only below the model directory. What is missing, or cannot be used,
is said in a sentence: the page works without it.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

MAX_EXAMPLE_BYTES = 4 << 20
_MAX_FILE_BYTES = 16 << 20
_CHAT = re.compile(r"^(?:async\s+)?def\s+chat_fn\b|^chat_fn\s*=|^from\s.*\bchat_fn\b", re.MULTILINE)
_COLOUR = re.compile(r"""^\s+["']?([\w -]+?)["']?\s*:\s*["']#([0-9a-fA-F]{6})["']""", re.MULTILINE)


def first_request(model_dir: Path) -> dict[str, Any]:
    """What the page proposes for a model, as JSON.

    ``example`` is ``{content_type, accept, body}``, the body in base64, or None, and then ``reason`` says why.
    ``labels`` are the names of classes, ``colours`` those of a label map by name, and ``chat`` says whether the script
    has a ``chat_fn``.
    """
    model_dir = _root(model_dir)
    manifest, reason = manifest_of(model_dir)
    example = None
    if not reason:
        example, reason = _example(model_dir, manifest)
    name = manifest.get("name")
    return {
        "name": name if isinstance(name, str) else "",
        "example": example,
        "reason": reason,
        "labels": _labels(model_dir),
        "colours": _colours(model_dir),
        "chat": any(_CHAT.search(_text(path) or "") for path in (model_dir / "code").glob("*.py")),
    }


def _root(model_dir: Path) -> Path:
    """Where the files are: an archive may be packed with its folder around it, and the server looks inside."""
    try:
        entries = [entry for entry in model_dir.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return model_dir
    is_around = len(entries) == 1 and entries[0].is_dir() and entries[0].name != "code"
    return entries[0] if is_around else model_dir


def manifest_of(model_dir: Path) -> tuple[dict[str, Any], str]:
    """The manifest, or an empty one and why, in a sentence."""
    path = model_dir / "manifest.json"
    text = _text(path)
    if text is None and not os.path.lexists(path):
        return {}, "The archive carries no example (it has no manifest.json): write a request of your own."
    if text is None:
        return {}, (
            f"The archive's manifest.json cannot be read, or has more than {_MAX_FILE_BYTES} bytes:"
            " write a request of your own."
        )
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        return {}, "The archive's manifest.json is not JSON: write a request of your own."
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        return {}, "The archive's manifest.json is another tool's, and says no example: write a request of your own."
    return manifest, ""


def _example(model_dir: Path, manifest: dict[str, Any]) -> tuple[dict[str, str] | None, str]:
    if "example" not in manifest:
        return None, (
            "The archive carries no example: write a request of your own, or save one with save_model(example=…)."
        )
    try:
        request = manifest["example"]["request"]
        content_type, accept, name = (request[key] for key in ("content_type", "accept", "file"))
    except (KeyError, TypeError):
        content_type = accept = name = None
    if not (isinstance(content_type, str) and isinstance(accept, str) and isinstance(name, str)):
        return None, "The manifest's example is incomplete: write a request of your own."
    body = file_below(model_dir, name, MAX_EXAMPLE_BYTES)
    if body is None:
        return None, (
            f"The example's file {name[:200]} cannot be read, or has more than {MAX_EXAMPLE_BYTES} bytes:"
            " write a request of your own."
        )
    return {"content_type": content_type, "accept": accept, "body": base64.b64encode(body).decode()}, ""


def _labels(model_dir: Path) -> list[str]:
    try:
        labels = json.loads(_text(model_dir / "labels.json") or "[]")
    except (ValueError, RecursionError):
        return []
    return [str(label) for label in labels] if isinstance(labels, list) else []


def _colours(model_dir: Path) -> dict[str, str]:
    """The palette of ``code/models.yaml``, which ``ModelLoader`` reads: names of areas and their colours."""
    found = _COLOUR.findall(_text(model_dir / "code" / "models.yaml") or "")
    return {name: f"#{colour.lower()}" for name, colour in found}


def _text(path: Path) -> str | None:
    data = file_below(path.parent, path.name, _MAX_FILE_BYTES)
    return None if data is None else data.decode(errors="replace")


def file_below(directory: Path, name: str, max_bytes: int) -> bytes | None:
    """A file below ``directory``; None where it is not there, lies elsewhere or is too large."""
    try:
        path = (directory / name).resolve()
        if not path.is_relative_to(directory.resolve()) or not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError):
        return None
    return data if len(data) <= max_bytes else None
