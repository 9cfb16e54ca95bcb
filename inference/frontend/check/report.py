"""All that a check found, as values, and as the object that `--json` prints.

A new fact is a field here (of the archive) or in `inference/load_report.py` (of the loaded model): it is a key of the
object by its own name. A row of the text is in `text.py`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tidegate.inference.errors import plain
from tidegate.inference.frontend.check import file_rules, model_rules, requirement_rules, script_rules
from tidegate.inference.frontend.check.listing import Listing, list_files
from tidegate.inference.layout import MANIFEST, model_root
from tidegate.inference.load_report import Caution, LoadReport
from tidegate.inference.settings import Settings
from tidegate.inference.version import own_version

MOST_CAUTIONS = 100
MOST_MODEL_FILES = 100
MOST_MANIFEST_BYTES = 64 << 20
"""A longer one is the worker's to read."""
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+@")
_SIGNED = re.compile(
    r"((?:X-Amz-(?:Signature|Security-Token|Credential)|[?&]sig|[?&](?:access_)?token)=)[^&\s'\"]+", re.I
)
_KEY_ID = re.compile(r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFileReport:
    """A file, or folder, that could be the model, told by its content."""

    file: str
    kind: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """What lies in the archive. Names are below `root`; None is for what is not there."""

    root: str
    files: int
    bytes: int
    manifest: bool
    name: str | None
    """What the manifest calls the model."""
    script: str | None
    requirements: str | None
    model_files: tuple[ModelFileReport, ...]
    chosen: str | None
    """The one of them that the server's own model_fn reads; None where the script loads the model, or none can be."""
    chosen_because: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the check was made with."""

    tidegate: str
    python: str
    torch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """One check. `error` is None where the model may take traffic."""

    model: str
    error: str | None
    server: Server
    archive: ArchiveReport | None
    load: LoadReport | None
    warnings: tuple[Caution, ...]
    steps: tuple[str, ...]
    took_s: float

    @property
    def ok(self) -> bool:
        """Whether the model may take traffic."""
        return self.error is None

    def to_plain(self) -> dict[str, Any]:
        """The object of `--json`; its keys are those of docs/guides/check.md."""
        load = self.load.to_plain() if self.load is not None else None
        if load is not None:
            del load["cautions"]  # among the warnings
        return cleaned(
            {
                "ok": self.ok,
                "error": self.error,
                "model": self.model,
                "server": asdict(self.server),
                "archive": asdict(self.archive) if self.archive is not None else None,
                "load": load,
                "warnings": [asdict(each) for each in self.warnings],
                "steps": list(self.steps),
                "took_s": self.took_s,
            }
        )


def made_with() -> Server:
    """What this check is made with."""
    return Server(tidegate=own_version(), python=sys.version.split()[0], torch=version("torch"))


def look(model_dir: Path, settings: Settings) -> tuple[ArchiveReport | None, list[Caution]]:
    """What lies in a model directory, and what is wrong with it at first sight; nothing of one that is not there."""
    try:
        root = model_root(model_dir)
    except OSError:
        return None, []  # the worker says why
    listing = list_files(root)
    manifest = _manifest(listing)
    script = script_rules.find_script(listing, settings.program)
    trusts = settings.trust_compiled_model
    models = model_rules.models_of(listing, manifest or {}, script.found, trust_compiled=trusts)
    found = [
        *script_rules.cautions(listing, script),
        *model_rules.cautions(listing, manifest or {}, models),
        *requirement_rules.cautions(listing),
        *file_rules.cautions(listing),
    ]
    sizes = {str(each.name): each.size_bytes for each in listing.files}
    chosen = None if models.loads_itself else models.choice.file
    archive = ArchiveReport(
        root=str(root),
        files=len(listing.files),
        bytes=sum(sizes.values()),
        manifest=manifest is not None,
        name=str(manifest["name"]) if manifest and isinstance(manifest.get("name"), str) else None,
        script=str(script.found) if script.found is not None else settings.program,
        requirements=requirement_rules.WANTED if listing.has(requirement_rules.WANTED) else None,
        model_files=tuple(
            ModelFileReport(file=each.name, kind=str(each.kind), bytes=_size(sizes, each.name))
            for each in models.found[:MOST_MODEL_FILES]
        ),
        chosen=chosen.name if chosen is not None else None,
        chosen_because=models.choice.why if chosen is not None else None,
    )
    return archive, found[:MOST_CAUTIONS]


def _size(sizes: dict[str, int], name: str) -> int:
    """Of a file, or of all in a folder."""
    below = "" if name == "." else f"{name}/"
    return sizes.get(name) or sum(size for each, size in sizes.items() if each.startswith(below))


def _manifest(listing: Listing) -> dict[str, Any] | None:
    path = listing.root / MANIFEST
    try:
        if not listing.has(MANIFEST) or path.stat().st_size > MOST_MANIFEST_BYTES:
            return None
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(manifest, dict) and manifest.get("format_version") is not None
    return manifest if ours else None


def clean(value: Any) -> Any:
    """`value` without credentials, without what would steer a terminal, and with None for what JSON cannot say."""
    if isinstance(value, str):
        return without_secrets(plain(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(key)): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    return value


def cleaned(found: dict[str, Any]) -> dict[str, Any]:
    """An object, so."""
    return {key: clean(each) for key, each in found.items()}


def without_secrets(text: str) -> str:
    """`text` with stars in place of what an address or a key would give away."""
    text = _CREDENTIALS.sub("****@", text)
    text = _SIGNED.sub(r"\1****", text)
    return _KEY_ID.sub("****", text)


def merged(*groups: Iterator[Caution] | list[Caution] | tuple[Caution, ...]) -> tuple[Caution, ...]:
    """All of them, each once, in order."""
    return tuple(dict.fromkeys(caution for group in groups for caution in group))
