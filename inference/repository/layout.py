"""Which models and versions a listing holds, by the names alone. No I/O.

    REPO/NAME/…                 a model without versions: it has the version 1
    REPO/NAME.tar.gz            the same as an archive; so is a folder that holds nothing but model.tar.gz
    REPO/NAME/3/…               version 3, or REPO/NAME/3.tar.gz
    REPO/NAME/labels.json       {"stable": 3, "canary": 4}
    REPO/NAME/code/, REPO/code/ code for the versions, or the models, that bring none
    REPO/…                      the repository may be one model itself, which is then called `model`

A stray file beside version folders changes nothing: the model says that it is there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from tidegate.inference.errors import some_of
from tidegate.inference.layout import CODE, MANIFEST
from tidegate.inference.repository.catalogue import can_be_named
from tidegate.inference.repository.file_names import files_fault
from tidegate.inference.repository.listing import Entry, Listing

THE_ONE = "model"
"""The name of a repository that is one model."""
LABELS = "labels.json"
ARCHIVE = ".tar.gz"
UNFINISHED = ".unfinished"
"""In a version's folder, and without a manifest beside it: somebody is writing or removing that version."""

_VERSION = re.compile(r"(?:0|[1-9][0-9]{0,17})", re.ASCII)
_NEARLY_A_VERSION = re.compile(r"[vV+-]?[\d_]+(?:[._-]\d+)*")
_OTHER_ARCHIVES = (".tgz", ".tar", ".zip", ".mar", ".tar.bz2", ".tar.xz", ".tar.zst")
_MODEL_FILES = (".pth", ".pt", ".pt2", ".safetensors", ".onnx", ".pkl", ".joblib", ".h5")
_MODEL_NAMES = (MANIFEST, "saved_model.pb", "MLmodel", f"{CODE}/inference.py")

Files = Mapping[str, Entry]
"""What a folder holds, by the names below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundVersion:
    """A version, as far as names tell."""

    number: int
    files: Files
    archive: Entry | None = None
    """The one file that holds all of it."""
    fault: str = ""
    """Why it can never be served as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model, as far as names tell."""

    name: str
    versions: tuple[FoundVersion, ...] = ()
    versioned: bool = True
    labels: Entry | None = None
    code: Files = field(default_factory=dict)
    """What a version without code of its own is served with."""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All entries of one model, as they stand in the listing: the unit that is looked at again when it changes."""

    name: str
    root: str
    """What all paths begin with."""
    entries: tuple[Entry, ...]
    code: tuple[Entry, ...] = ()
    """The repository's shared code."""
    archive: Entry | None = None
    unreadable: tuple[tuple[str, str], ...] = ()
    """Paths of it that are there and cannot be read, each with the reason."""


def groups(listing: Listing) -> list[Group]:
    """The models of a listing, each with what is its own; a repository that is one model is one group."""
    entries, unreadable = listing.entries, tuple(sorted(listing.unreadable.items()))
    parts: dict[str, tuple[Entry, ...]] = {}
    loose: list[Entry] = []
    for part, those in groupby(entries, key=_first_part):
        if part.startswith("."):
            continue
        if part.endswith("/"):
            parts[part[:-1]] = tuple(those)
        else:
            loose += those
    code = parts.pop(CODE, ())
    if _is_one_model(parts, loose):
        return [Group(name=THE_ONE, root="", entries=entries, unreadable=unreadable)]
    found = {name: Group(name=name, root=f"{name}/", entries=those, code=code) for name, those in parts.items()}
    for entry in loose:
        if entry.path.endswith(ARCHIVE):
            name = entry.path.removesuffix(ARCHIVE)
            beside = found.get(name)
            found[name] = Group(
                name=name, root=f"{name}/", entries=beside.entries if beside else (), code=code, archive=entry
            )
        elif entry.path.endswith(_OTHER_ARCHIVES):
            found[entry.path] = Group(name=entry.path, root=f"{entry.path}/", entries=(), archive=entry)
    for name, pairs in groupby(unreadable, key=lambda pair: pair[0].partition("/")[0].removesuffix(ARCHIVE)):
        known = found.get(name, Group(name=name, root=f"{name}/", entries=(), code=code))
        found[name] = replace(known, unreadable=tuple(pairs))
    return [found[name] for name in sorted(found) if not name.startswith(".")]


def left_over(listing: Listing, found: Sequence[Group]) -> str:
    """A sentence about files at the root that may be meant as a model and are none; empty where there are none.

    They are where code lies beside them, or nothing else does.
    """
    loose = [entry.path for entry in listing.entries if "/" not in entry.path and not entry.path.startswith(".")]
    files = [name for name in loose if not name.endswith((ARCHIVE, *_OTHER_ARCHIVES))]
    with_code = any(entry.path.startswith(f"{CODE}/") for entry in listing.entries)
    if not files or any(group.root == "" for group in found) or not (with_code or not found):
        return ""
    return (
        f"Files at the repository's root that no model is known by: {some_of(files)}. Put a model into a folder of its "
        "name."
    )


def model_of(group: Group) -> FoundModel:
    """The model that a group of entries is."""
    if not can_be_named(group.name):
        return FoundModel(name=group.name, faults=(_name_fault(group.name),))
    if group.archive is not None and not group.archive.path.endswith(ARCHIVE):
        return FoundModel(name=group.name, faults=(f"{group.name} is no {ARCHIVE} archive; pack it as one.",))
    folders, loose = _split(group)
    versions = _versions(group, folders, loose)
    own_code = _below(f"{group.root}{CODE}/", folders.get(CODE, ()))
    shared_code = _below(f"{CODE}/", group.code)
    if not versions:
        return _unversioned(group, folders, loose, shared_code)
    named = {entry.path.removeprefix(group.root): entry for entry in loose}
    labels = named.pop(LABELS, None)
    named.pop(UNFINISHED, None)
    stray = [name for name in named if not _is_version_archive(name)]
    stray += [f"{name}/" for name in folders if not _VERSION.fullmatch(name) and name != CODE]
    if group.archive is not None:
        stray.append(f"../{group.archive.path}")
    return FoundModel(
        name=group.name,
        versions=tuple(versions[number] for number in sorted(versions)),
        labels=labels,
        code=own_code or shared_code,
        faults=tuple(_stray_faults(stray)),
    )


def unreadable_version(group: Group, path: str) -> int | None:
    """The version that a path of the group belongs to; None where it is the model's as a whole."""
    head = path.removeprefix(group.root).partition("/")[0].removesuffix(ARCHIVE)
    return int(head) if path != group.root.rstrip("/") and _VERSION.fullmatch(head) else None


def has_code(files: Files) -> bool:
    """Whether a version brings code of its own."""
    return any(name.startswith(f"{CODE}/") for name in files)


def _first_part(entry: Entry) -> str:
    head, slash, _ = entry.path.partition("/")
    return head + slash


def _below(root: str, entries: Iterable[Entry]) -> dict[str, Entry]:
    """The files of a folder by their names in it; what only says that a folder is there is left out."""
    return {entry.path[len(root) :]: entry for entry in entries if not entry.path.endswith("/")}


def _split(group: Group) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """The model's own folders and its own files; hidden ones are nobody's."""
    folders: dict[str, list[Entry]] = defaultdict(list)
    loose: list[Entry] = []
    for entry in group.entries:
        head, slash, _ = entry.path[len(group.root) :].partition("/")
        if (not head and not slash) or (head.startswith(".") and head != UNFINISHED):
            continue
        if slash:
            folders[head].append(entry)
        else:
            loose.append(entry)
    return folders, loose


def _is_version_archive(name: str) -> bool:
    return name.endswith(ARCHIVE) and _VERSION.fullmatch(name.removesuffix(ARCHIVE)) is not None


def _versions(group: Group, folders: Mapping[str, Sequence[Entry]], loose: Sequence[Entry]) -> dict[int, FoundVersion]:
    found: dict[int, FoundVersion] = {}
    for name, entries in folders.items():
        if _VERSION.fullmatch(name):
            found[int(name)] = _folder_version(int(name), _below(f"{group.root}{name}/", entries))
    for entry in loose:
        name = entry.path.removeprefix(group.root)
        if not _is_version_archive(name):
            continue
        number = int(name.removesuffix(ARCHIVE))
        both = f"There are both a folder {number}/ and an archive {name}; remove one." if number in found else ""
        found[number] = FoundVersion(number=number, files={}, archive=entry, fault=both)
    return found


def _folder_version(number: int, files: Files) -> FoundVersion:
    """A folder that holds nothing but model.tar.gz is that archive: training jobs leave it so, below output/."""
    if len(files) == 1 and (name := next(iter(files))) in ("model.tar.gz", "output/model.tar.gz"):
        return FoundVersion(number=number, files={}, archive=files[name])
    return FoundVersion(number=number, files=files, fault=files_fault(files))


def _unversioned(
    group: Group, folders: Mapping[str, Sequence[Entry]], loose: Sequence[Entry], shared_code: Files
) -> FoundModel:
    if group.archive is not None:
        both = f"There are both a folder {group.root} and {group.archive.path}; remove one." if group.entries else ""
        version = FoundVersion(number=1, files={}, archive=group.archive, fault=both)
        return FoundModel(name=group.name, versions=(version,), versioned=False, code=shared_code)
    entries = [*loose, *(entry for those in folders.values() for entry in those)]
    files = _below(group.root, entries)
    if set(files) <= {LABELS}:  # all versions are retired, or none is there yet
        return FoundModel(name=group.name, labels=files.get(LABELS))
    near = [name for name in folders if _is_nearly_a_version(name)]
    if near and not any(_is_of_a_model(name) for name in files):
        return FoundModel(name=group.name, faults=tuple(_near_miss(f"{name}/") for name in sorted(near)))
    version = _folder_version(1, files)
    return FoundModel(name=group.name, versions=(version,), versioned=False, code=shared_code)


def _is_of_a_model(name: str) -> bool:
    """Whether a file that lies directly in a folder says that the folder is a model."""
    return name in _MODEL_NAMES or ("/" not in name and name.endswith(_MODEL_FILES))


def _is_one_model(parts: Mapping[str, Sequence[Entry]], loose: Sequence[Entry]) -> bool:
    """Whether the repository itself is a model: it has versions or a model's files, and no models in its folders.

    Folders of numbers are versions, unless a folder beside them is a model. Code alone is shared code, whose models
    are still to come.
    """
    names = [entry.path for entry in loose]
    if any(_VERSION.fullmatch(name) for name in parts) or any(map(_is_version_archive, names)):
        if any(name.endswith(ARCHIVE) and not _is_version_archive(name) for name in names):
            return False
        return not any(_is_versioned(below) or _is_named_model(name, below) for name, below in _contents(parts))
    if any(map(_is_of_a_model, names)):
        return not any(_is_versioned(below) or MANIFEST in below for _, below in _contents(parts))
    return False


def _contents(parts: Mapping[str, Sequence[Entry]]) -> Iterable[tuple[str, list[str]]]:
    return ((name, [entry.path[len(name) + 1 :] for entry in entries]) for name, entries in parts.items())


def _is_versioned(below: Sequence[str]) -> bool:
    return any(
        (_VERSION.fullmatch(path.partition("/")[0]) and "/" in path) or _is_version_archive(path) for path in below
    )


def _is_named_model(name: str, below: Sequence[str]) -> bool:
    return not _VERSION.fullmatch(name) and any(map(_is_of_a_model, below))


def _name_fault(name: str) -> str:
    return (
        f"{name!r} cannot be a model's name in a header and a path: use up to 128 letters, digits, dots, dashes and "
        "underscores, of which the first is a letter, a digit or an underscore."
    )


def _is_nearly_a_version(name: str) -> bool:
    return _NEARLY_A_VERSION.fullmatch(name) is not None or name.isnumeric()


def _near_miss(name: str) -> str:
    return f"{name} is no version: a version is a whole number without leading zeros, such as 7/ or 7{ARCHIVE}."


def _stray_faults(stray: Sequence[str]) -> Iterable[str]:
    near = {name for name in stray if _is_nearly_a_version(name.removesuffix(ARCHIVE).rstrip("/"))}
    yield from map(_near_miss, sorted(near))
    others = sorted(set(stray) - near)
    if others:
        yield f"Beside the versions there is what belongs to none: {some_of(others)}."


def kind_fault(files: Files, *, with_code: bool) -> str:
    """Why a version without a manifest is none that this server can run; one with code may hold anything."""
    if with_code:
        return ""
    if "saved_model.pb" in files:
        return (
            "It is a TensorFlow SavedModel: name tensorflow in code/requirements.txt, its own or that of all models, "
            "or export it to ONNX."
        )
    graphs = sorted(name for name in files if "/" not in name and name.endswith(".onnx"))
    if len(graphs) > 1:
        return f"It must hold a single .onnx file and holds {len(graphs)}: {some_of(graphs)}."
    return ""
