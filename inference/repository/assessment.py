"""Whether one version may be fetched: what its manifest, its names and their rest say together. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate.inference.errors import some_of
from tidegate.inference.layout import MANIFEST
from tidegate.inference.repository.catalogue import Version, VersionState
from tidegate.inference.repository.layout import UNFINISHED, Files, FoundVersion, has_code, kind_fault
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.manifest import Manifest

_DIGEST_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the files of a revision are."""

    files: Files
    archive: Entry | None = None
    code: Files = field(default_factory=dict)
    """What goes into `code/`, unless the version brings it."""
    manifest: Manifest | None = None

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The version's own files, or its archive."""
        return self.files if self.archive is None else {"": self.archive}

    @property
    def size_bytes(self) -> int:
        """What it takes as it lies in the store."""
        return sum(entry.size_bytes for files in (self.entries, self.code) for entry in files.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessed:
    """A version, and where its files are if it may be fetched."""

    version: Version
    source: Source | None = None
    waits: bool = False
    """Whether it can become available though nothing in the repository changes."""


class Refusal(Exception):
    """Why a version is not available; the text is for people."""

    def __init__(self, reason: str, state: VersionState = VersionState.INCOMPLETE, *, waits: bool = False) -> None:
        super().__init__(reason)
        self.state = state
        self.waits = waits


def assess(
    found: FoundVersion,
    *,
    shared_code: Files,
    manifest: Manifest | str | None,
    managed: bool,
    spoiled: str | None,
    finished: Callable[[FoundVersion, Files], bool],
    code_finished: Callable[[Files], bool],
) -> Assessed:
    """The state of a version.

    `manifest` is a sentence where it is no good, empty where it could not be read. `managed`: other versions of the
    model have manifests. `spoiled`: the tags of files that were fetched and found to be damaged. `finished` tells
    whether files that no manifest speaks of may be used, `code_finished` the same of shared code.
    """
    source = _source(found, {} if has_code(found.files) else shared_code, manifest)
    loose = _loose(source)
    digest = digest_of(source.manifest, loose, source.code)
    try:
        if found.fault:
            raise Refusal(found.fault, VersionState.INVALID)
        _check_manifest(found, manifest, managed=managed)
        if source.manifest is None and (fault := kind_fault(source.files, with_code=_is_with_code(source))):
            raise Refusal(fault, VersionState.INVALID)
        if spoiled is not None:
            if tags_of(source) == spoiled:
                raise Refusal("What it holds is damaged: write it again.", VersionState.INVALID)
            # The manifest may be the one that it had, and must still be another revision than the one that failed.
            digest = digest_of(source.manifest, source.entries, source.code)
        if not finished(found, loose):
            reason = "It has no manifest and has not been the same for one interval yet."
            if source.manifest is not None:
                reason = "What its manifest does not list has not been the same for one interval yet."
            raise Refusal(reason, waits=True)
        if not code_finished(source.code):
            raise Refusal("The code that it shares has not been the same for one interval yet.", waits=True)
    except Refusal as refusal:
        version = Version(
            number=found.number,
            digest=digest,
            size_bytes=source.size_bytes,
            state=refusal.state,
            reason=str(refusal),
        )
        return Assessed(version=version, waits=refusal.waits)
    return Assessed(version=Version(number=found.number, digest=digest, size_bytes=source.size_bytes), source=source)


def digest_of(manifest: Manifest | None, loose: Files, code: Files) -> str:
    """Names the content: the manifest speaks for what it lists, sizes and tags for the rest."""
    lines: list[tuple[object, ...]] = [("manifest", manifest.sha256)] if manifest else []
    lines += [("file", name, entry.size_bytes, entry.tag) for name, entry in sorted(loose.items())]
    lines += [("code", name, entry.size_bytes, entry.tag) for name, entry in sorted(code.items())]
    return hashlib.sha256(repr(lines).encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LENGTH]


def tags_of(source: Source) -> str:
    """Changes with every file that is written again, whatever a manifest says of it."""
    return digest_of(None, source.entries, {})


def _source(found: FoundVersion, code: Files, manifest: Manifest | str | None) -> Source:
    if not isinstance(manifest, Manifest):
        return Source(files=found.files, archive=found.archive, code=code)
    shown = {
        name: entry
        for name, entry in found.files.items()
        if name in manifest.files or name == MANIFEST or not _is_hidden(name)
    }
    return Source(files=shown, code=code, manifest=manifest)


def _loose(source: Source) -> Files:
    """The files that no manifest speaks of."""
    if source.manifest is None:
        return source.entries
    listed = source.manifest.files
    return {name: entry for name, entry in source.files.items() if name not in listed and name != MANIFEST}


def _is_with_code(source: Source) -> bool:
    return bool(source.code) or source.archive is not None or has_code(source.files)


def _check_manifest(found: FoundVersion, manifest: Manifest | str | None, *, managed: bool) -> None:
    """Raise `Refusal` where the manifest, or that there is none, says that the version is not there."""
    if isinstance(manifest, str):
        if not manifest:
            raise Refusal("Its manifest could not be read yet.", VersionState.UNREAD, waits=True)
        raise Refusal(f"Its {MANIFEST} {manifest}.", VersionState.INVALID)
    if manifest is not None:
        if lacking := _lacking(manifest, found.files):
            raise Refusal(lacking)
    elif found.archive is None:
        if UNFINISHED in found.files:
            raise Refusal("It is being published or retired: its manifest is not there.")
        if not found.files:
            raise Refusal("It has no files yet.")
        if managed:
            raise Refusal("It has no manifest yet, as the model's other versions have.")


def _lacking(manifest: Manifest, files: Files) -> str:
    """What a manifest names and the listing does not have, or has otherwise; empty if nothing."""
    missing = [name for name in manifest.files if name not in files]
    if missing:
        return f"Its manifest lists files that are not there: {some_of(missing)}."
    for name, facts in manifest.files.items():
        if files[name].size_bytes != facts.size_bytes:
            return f"{name} has {files[name].size_bytes} bytes; its manifest says {facts.size_bytes}."
    return ""


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
