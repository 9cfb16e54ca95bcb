"""One loaded model as the description has it: what its worker said, and what its files say. Read in a thread.

The files are read as data, within limits and below the model directory only; what cannot be used makes the description
poorer, and never wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidegate.inference.declarations import classes, table, tensors
from tidegate.inference.declarations.classes import Classes
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.models.registry import Model
from tidegate.inference.frontend.openapi import schemas
from tidegate.inference.frontend.openapi.examples import MAX_MANIFEST_EXAMPLE_BYTES, example_object, media_type_of
from tidegate.inference.frontend.openapi.schemas import ANYTHING, Input, Output, Pictures
from tidegate.inference.layout import FORMAT_VERSION, model_root
from tidegate.inference.protocol import Bodies
from tidegate.playground.first_request import file_below, manifest_of

MAX_LABELS_BYTES = 1 << 16
"""With more the description has no list of classes."""
_UNKNOWN: Bodies = {"reads": None, "writes": None, "chats": False}
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{1,1024}")
_LINEAGE = ("training_job", "git", "data", "image")
_PLAYGROUND_ADVICE = ": write a request of your own."
_MAX_TEXT, _MAX_VALUE = 200, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """What is known without its files, at one moment."""

    name: str
    version: int | None
    """Of a repository; None where there are no versions."""
    directory: Path
    bodies: Bodies
    converses: bool
    max_batch_size: int
    max_wait_s: float
    finds_batch_size: bool
    """Whether the size is found on live traffic, and these are the most that it may be."""
    timeout_s: float

    @classmethod
    def of(cls, model: Model) -> LoadedModel:
        """What a model that serves has said of itself."""
        assert model.pool is not None  # noqa: S101 - one that serves has a pool
        pool = model.pool
        return cls(
            name=model.name,
            version=model.revision.version if model.revision.digest else None,
            directory=model.model_dir,
            bodies=pool.bodies or _UNKNOWN,
            converses=pool.converses,
            max_batch_size=pool.limits.max_batch_size,
            max_wait_s=pool.limits.max_wait_s,
            finds_batch_size=pool.limits.batch_latency_s is not None,
            timeout_s=pool.limits.timeout_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedModel:
    """The same with what its files say. `request` and `answer` are `content` objects."""

    loaded: LoadedModel
    title: str = ""
    """What the manifest calls it; empty where it does not."""
    made: str = ""
    """The revision of its code, or when it was saved; empty where nobody says."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    note: str = ""
    """Why there is no example; empty where there is one."""


def described(loaded: LoadedModel, *, default_accept: str) -> DescribedModel:
    """Read what the files of a model say."""
    root = loaded.directory
    with suppress(OSError):
        root = model_root(root)
    manifest, note = manifest_of(root)
    if manifest and manifest.get("format_version") != FORMAT_VERSION:
        manifest, note = {}, "The archive's manifest.json is of another version, and is not read."
    lineage = manifest.get("lineage")
    lineage = lineage if isinstance(lineage, dict) else {}
    example, missing = _example(root, manifest)
    reads, writes = loaded.bodies["reads"], loaded.bodies["writes"]
    taken, given = _declared(root, manifest)
    request: dict[str, Any] = {}
    for media_type in _types(reads, example.get("request")):
        schema = schemas.of_script(media_type) if reads is None else schemas.of_request(media_type, taken)
        request[media_type] = {"schema": schema}
    answer: dict[str, Any] = {}
    for media_type in _types(writes, example.get("response"), *([default_accept] if writes is None else [])):
        schema = schemas.of_script(media_type) if writes is None else schemas.of_answer(media_type, given)
        answer[media_type] = {"schema": schema}
    for content, found in ((request, example.get("request")), (answer, example.get("response"))):
        if found is not None:
            place = _covering(content, found.media_type)
            content[place] = content[place] | {"examples": {"archive": found.shown}}
    return DescribedModel(
        loaded=loaded,
        title=plain(manifest.get("name")),
        made=_made(manifest, lineage),
        lineage={key: lineage[key] for key in _LINEAGE if key in lineage and _can_be_shown(lineage[key])},
        request=request,
        answer=answer,
        note=(note or missing).replace(_PLAYGROUND_ADVICE, "."),
    )


def plain(value: object) -> str:
    """A text of the manifest on one line, without what steers a page or Markdown; empty for anything else."""
    text = value if isinstance(value, str) else ""
    return "".join(each for each in text if each.isprintable() and each not in "`<>")[:_MAX_TEXT].strip()


def _can_be_shown(value: Any) -> bool:
    """Whether a value of the manifest is short, and JSON: Python reads NaN, which is none."""
    try:
        return len(json.dumps(value, allow_nan=False)) <= _MAX_VALUE
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    media_type: str
    shown: dict[str, Any]


def _types(known: Any, example: _Example | None, *others: str) -> list[str]:
    """The keys of a `content`, of which one covers the example."""
    found = list(known) if known is not None else [*others, ANYTHING]
    if example is not None and example.media_type not in found and (known is None or ANYTHING in found):
        found.insert(0, example.media_type)
    return list(dict.fromkeys(found))


def _covering(content: dict[str, Any], media_type: str) -> str:
    """The key under which the example of a type stands; a new one where none covers it."""
    for place in (media_type, f"{media_type.partition('/')[0]}/*"):
        if place in content:
            return place
    content[media_type] = {"schema": schemas.of_script(media_type)}
    return media_type


def _made(manifest: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    git = lineage.get("git")
    revision = plain(git.get("revision")) if isinstance(git, dict) else ""
    return revision[:12] or plain(manifest.get("created_at"))


def _declared(root: Path, manifest: Mapping[str, Any]) -> tuple[Input, Output]:
    """The sides that the manifest declares; the worker has loaded it, so a mistake is none of its own."""
    image = manifest.get("image")
    sides = image if isinstance(image, dict) else {}
    taken: Input = None
    given: Output = None
    with suppress(DeploymentError):
        taken = _pictures(sides.get("input")) or table.declared(manifest) or tensors.declared(manifest)
    with suppress(DeploymentError):
        given = _pictures(sides.get("output")) or _classes(root, manifest)
    return taken, given


def _pictures(side: object) -> Pictures | None:
    key = side.get("key", "image") if isinstance(side, dict) else None
    return Pictures(key=key) if isinstance(key, str) else None


def _classes(root: Path, manifest: Mapping[str, Any]) -> Classes | None:
    declared, name = classes.declared(manifest), manifest.get("labels")
    if declared is None or name is None:
        return declared
    data = file_below(root, name, MAX_LABELS_BYTES) if isinstance(name, str) else None
    try:
        labels = classes.read_labels(data or b"", "labels")
    except DeploymentError:
        labels = schemas.SOME_LABELS
    return replace(declared, labels=labels)


def _example(root: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, _Example], str]:
    """Request and response of the archive's example, those that can be read; and why there is no request."""
    if "example" not in manifest:
        return {}, "The archive carries no example."
    found: dict[str, _Example] = {}
    told = manifest["example"] if isinstance(manifest["example"], dict) else {}
    for side in ("request", "response"):
        facts = told.get(side)
        facts = facts if isinstance(facts, dict) else {}
        content_type, name = facts.get("content_type"), facts.get("file")
        media_type = media_type_of(content_type)
        body = file_below(root, name, MAX_MANIFEST_EXAMPLE_BYTES) if isinstance(name, str) else None
        if media_type is None or body is None:
            continue
        headers = {"Content-Type": content_type, **({"Accept": facts.get("accept")} if side == "request" else {})}
        sent = {
            key: value for key, value in headers.items() if isinstance(value, str) and _HEADER_VALUE.fullmatch(value)
        }
        what = "The example of the archive" if side == "request" else "Its answer"
        shown = example_object(body, str(content_type), headers=sent if side == "request" else {}, what=what)
        found[side] = _Example(media_type=media_type, shown=shown)
    missing = f"The archive's example cannot be read, or has more than {MAX_MANIFEST_EXAMPLE_BYTES} bytes."
    return found, "" if "request" in found else missing
