"""What changed from one listing to the next. Pure: listings and contents of manifests go in, changes come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tidegate.inference.layout import CODE, MANIFEST
from tidegate.inference.repository import labels, manifest
from tidegate.inference.repository.assessment import Assessed, Source, assess, digest_of, tags_of
from tidegate.inference.repository.catalogue import Model, Revision, Version, VersionState
from tidegate.inference.repository.layout import (
    Files,
    FoundModel,
    FoundVersion,
    Group,
    groups,
    left_over,
    model_of,
    unreadable_version,
)
from tidegate.inference.repository.listing import Entry, Listing
from tidegate.inference.repository.manifest import Manifest, manifest_of
from tidegate.inference.repository.stability import Absences, Stability


class ListingDoubtful(Exception):
    """A listing that nothing may follow from; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a listing changed."""

    models: tuple[Model, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A model as it was seen last, and what was said of it."""

    model: Model
    group: Group | None = None
    settled: bool = False
    """Whether it stays as it is for as long as its group does."""
    sources: Mapping[int, Source] = field(default_factory=dict)


class Watch:
    """Follows a repository from listing to listing.

    A listing takes two steps: `look` says which small files have to be read, `take` what changed. One thread takes
    them; `source` and `spoil` may be called from others meanwhile.
    """

    def __init__(self, interval_s: float, *, whole_objects: bool, known: Iterable[Model] = ()) -> None:
        """`whole_objects`: one object is never half there, as in S3. `known` is what was said in an earlier life."""
        self._interval_s = interval_s
        self._whole_objects = whole_objects
        self._stability, self._absences = Stability(interval_s), Absences(interval_s)
        self._known = {model.name: _Known(model=model) for model in known}
        self._contents: dict[str, tuple[str, Manifest | Mapping[str, int] | str | None]] = {}
        """What small files say, or what is wrong with them, by path; each with the tag that it was read at."""
        self._spoiled: dict[tuple[str, int], str] = {}
        """The tags of what was found not to be what its manifest says."""
        self._listing = Listing(entries=(), now_s=0.0)
        self._present: set[str] = set()
        self.left_over = ""
        """A sentence about files of the listing that may be meant as a model and are none."""
        self._unsettled: list[tuple[Group, FoundModel]] = []
        self._code: tuple[Entry, ...] = ()
        self._first = True

    @property
    def count(self) -> int:
        """How many models there are."""
        return len(self._known)

    def source(self, revision: Revision) -> Source | None:
        """Where a revision's files are; None where the repository does not have it any more, or not whole."""
        known = self._known.get(revision.name)
        if known is None:
            return None
        digests = {version.number: version.digest for version in known.model.versions}
        return known.sources.get(revision.version) if digests.get(revision.version) == revision.digest else None

    def spoil(self, revision: Revision) -> None:
        """What was fetched is not what its manifest says, or is no archive: invalid until it is written again."""
        source = self.source(revision)
        if source is not None:
            self._spoiled[revision.name, revision.version] = tags_of(source)

    def look(self, listing: Listing) -> list[Entry]:
        """The manifests and labels that have to be read first. Raises `ListingDoubtful`."""
        if not listing.entries and self._known:
            raise ListingDoubtful(f"The listing is empty, and there were {len(self._known)} models before.")
        for path, reason in listing.unreadable.items():
            if path.partition("/")[0] == CODE:
                raise ListingDoubtful(f"{path} cannot be read, and it belongs to every model: {reason}.")
        spoiled = {name for name, _ in tuple(self._spoiled)}
        present = [self._with_same_code(group) for group in groups(listing)]
        self._listing, self.left_over = listing, left_over(listing, present)
        self._present = {group.name for group in present}
        self._unsettled = [
            (group, model_of(group)) for group in present if not self._is_settled(group) or group.name in spoiled
        ]
        wanted = (entry for _, found in self._unsettled for entry in _small_files(found))
        return [entry for entry in wanted if self._contents.get(entry.path, ("",))[0] != entry.tag]

    def keep(self, read: Mapping[Entry, bytes]) -> None:
        """What could be read of that which `look` named; it is not named again."""
        for entry, content in read.items():
            self._contents[entry.path] = (entry.tag, _parsed(entry, content))

    def take(self, read: Mapping[Entry, bytes], *, now_s: float) -> Changes:
        """What changed; `read` holds what could be read of that which `look` named."""
        self.keep(read)
        changed: list[Model] = []
        for group, found in self._unsettled:
            before = self._known.get(group.name)
            after = self._known[group.name] = self._model(group, found, before, now_s)
            if before is None or before.model != after.model:
                changed.append(after.model)
        self._first = False
        self._unsettled = []
        return Changes(models=tuple(changed), removed=self._removed(now_s))

    def _with_same_code(self, group: Group) -> Group:
        """One tuple for the code that ten thousand models share: the same is quicker to compare than the equal."""
        if not group.code or group.code is self._code:
            return group
        if group.code != self._code:
            self._code = group.code
        return replace(group, code=self._code)

    def _is_settled(self, group: Group) -> bool:
        self._absences.is_here(group.name)
        known = self._known.get(group.name)
        return known is not None and known.settled and known.group == group

    def _removed(self, now_s: float) -> tuple[str, ...]:
        missing = [name for name in self._known if name not in self._present]
        gone = [name for name in missing if self._absences.is_gone(name, now_s=now_s)]
        for name in gone:
            for version in self._known.pop(name).model.versions:
                self._forget(name, f"{name}/", version.number)
            self._contents.pop(f"{name}/labels.json", None)
        return tuple(sorted(gone))

    def _forget(self, name: str, root: str, number: int) -> None:
        self._stability.forget((name, number))
        self._spoiled.pop((name, number), None)
        for folder in (root, f"{root}{number}/"):
            self._contents.pop(folder + MANIFEST, None)

    def _model(self, group: Group, found: FoundModel, before: _Known | None, now_s: float) -> _Known:
        known = {version.number: version for version in before.model.versions} if before else {}
        last = before.sources if before else {}
        hidden = {
            unreadable_version(group, path) if found.versioned else 1: f"{path} cannot be read: {reason}."
            for path, reason in group.unreadable
        }
        assessed = {
            each.number: self._version(group, found, each, now_s)
            for each in found.versions
            if each.number not in hidden
        }
        versions = {number: each.version for number, each in assessed.items()}
        passing = all(path in self._listing.passing for path, _ in group.unreadable)
        for number, reason in hidden.items():
            if number is not None:  # what cannot be read is not gone, and is what it was
                versions[number] = known.get(number) or _unreadable(number, reason, passing=passing)
        absent = [number for number in known if number not in versions]
        kept = [number for number in absent if None in hidden or not self._is_gone(group, number, now_s)]
        versions |= {number: known[number] for number in kept}
        given, fault = self._labels(found, before)
        reasons = [*found.faults, *hidden.values(), fault, labels.dangling(given, versions)]
        model = Model(
            name=group.name,
            versions=tuple(versions[number] for number in sorted(versions)),
            labels=given,
            labels_unread=found.labels is not None and self._is_readable_later(found.labels),
            folder_unread=None in hidden and passing,
            versioned=found.versioned,
            reason=" ".join(filter(None, reasons)) or ("" if versions else "There is no version of it."),
        )
        waits = any(each.waits for each in assessed.values())
        return _Known(
            model=model,
            group=group,
            settled=not (waits or hidden or kept or self._is_unread(found)),
            # What is still said to be there may still be asked for; its store answers whether it is.
            sources={number: source for number, source in last.items() if number in versions and number not in assessed}
            | {number: each.source for number, each in assessed.items() if each.source is not None},
        )

    def _is_gone(self, group: Group, number: int, now_s: float) -> bool:
        gone = self._absences.is_gone((group.name, number), now_s=now_s)
        if gone:
            self._forget(group.name, group.root, number)
        return gone

    def _is_unread(self, found: FoundModel) -> bool:
        return any(self._is_readable_later(entry) for entry in _small_files(found))

    def _is_readable_later(self, entry: Entry) -> bool:
        return self._contents.get(entry.path, ("",))[0] != entry.tag and entry.size_bytes <= _most_bytes(entry)

    def _labels(self, found: FoundModel, before: _Known | None) -> tuple[Mapping[str, int], str]:
        """The labels and what is wrong with them; those that cannot be read are as they were."""
        if found.labels is None:
            return {}, ""
        last = before.model.labels if before else {}
        if found.labels.size_bytes > labels.MAX_BYTES:
            return last, f"{found.labels.path} is too large for labels."
        tag, content = self._contents.get(found.labels.path, ("", None))
        if tag != found.labels.tag:
            return last, f"{found.labels.path} could not be read yet."
        return (content, "") if isinstance(content, Mapping) else (last, f"{found.labels.path} {content}.")

    def _manifest(self, found: FoundVersion) -> Manifest | str | None:
        """The manifest; what is wrong with it, which is empty where it could not be read; None where there is none."""
        entry = found.files.get(MANIFEST)
        if entry is None:
            return None
        if entry.size_bytes > manifest.MAX_BYTES:
            return "is too large for a manifest"
        tag, content = self._contents.get(entry.path, ("", None))
        if tag != entry.tag:
            return ""
        return content if isinstance(content, Manifest | str) else None

    def _version(self, group: Group, found: FoundModel, each: FoundVersion, now_s: float) -> Assessed:
        self._absences.is_here((group.name, each.number))
        return assess(
            each,
            shared_code=found.code,
            manifest=self._manifest(each),
            managed=any(_may_commit(self._manifest(other)) for other in found.versions),
            spoiled=self._spoiled.get((group.name, each.number)),
            finished=lambda version, loose: (
                (version.archive is not None and self._whole_objects)
                or self._is_finished((group.name, version.number), loose, now_s)
            ),
            code_finished=lambda code: self._is_finished(_root_of(code), code, now_s),
        )

    def _is_finished(self, key: object, files: Files, now_s: float) -> bool:
        if not files:
            return True
        newest_s = max(entry.changed_s for entry in files.values())
        old = self._first and self._listing.now_s - newest_s > self._interval_s
        return self._stability.is_finished(key, digest_of(None, files, {}), now_s=now_s, old=old)


def _most_bytes(entry: Entry) -> int:
    return manifest.MAX_BYTES if entry.path.endswith(MANIFEST) else labels.MAX_BYTES


def _small_files(found: FoundModel) -> Iterable[Entry]:
    """Manifests and labels, which have to be read to know what the listing means."""
    if found.labels is not None and found.labels.size_bytes <= labels.MAX_BYTES:
        yield found.labels
    for version in found.versions:
        entry = version.files.get(MANIFEST)
        if entry is not None and entry.size_bytes <= manifest.MAX_BYTES:
            yield entry


def _parsed(entry: Entry, content: bytes) -> Manifest | Mapping[str, int] | str | None:
    try:
        return manifest_of(content) if entry.path.endswith(MANIFEST) else labels.labels_of(content)
    except ValueError as error:
        return str(error)


def _may_commit(manifest: Manifest | str | None) -> bool:
    """Whether it is a manifest, or one that could not be read yet."""
    return isinstance(manifest, Manifest) or manifest == ""


def _unreadable(number: int, reason: str, *, passing: bool) -> Version:
    state = VersionState.UNREAD if passing else VersionState.INVALID
    return Version(number=number, digest="", size_bytes=0, state=state, reason=reason)


def _root_of(code: Files) -> str:
    """Where shared code lies: one key for all that share it."""
    name, entry = next(iter(code.items()), ("", None))
    return entry.path.removesuffix(name) if entry is not None else ""
