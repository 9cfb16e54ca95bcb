"""What the frontend and the repository's process say to each other: one JSON object a line, in both directions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tidegate.inference.repository.catalogue import Model, Revision, Version, VersionState

# --- frontend ▶ repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The first message: what to look at, and where to put what is fetched."""

    repository: str
    """An absolute path or `s3://bucket/prefix`."""
    interval_s: float
    """How often it is listed; 0 is once."""
    cache_dir: str
    max_downloads: int
    known: tuple[Model, ...] = ()
    """What an earlier process said that there is: one bad listing of this one does not remove it either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Bring a revision to the disk; `Fetched` or `FetchFailed` follows."""

    id: int
    revision: Revision
    max_bytes: int | None
    """What it may take on disk, with all that is temporary; more is `FetchFailed` with `needed_bytes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelFetch:
    """Nobody wants it any more; `FetchFailed` follows, unless it was done already."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a fetched directory; `Removed` follows when its bytes are free."""

    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """List now, without waiting for the interval to end."""


# --- repository ▶ frontend


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A revision that is on the disk from an earlier life. All of them are told before the first `Listed`."""

    revision: Revision
    directory: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Models that are new or different, and the names of those that are gone. A listing sends any number of these."""

    models: tuple[Model, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A listing was good, and everything that it changed has been said."""

    models: int
    interval_s: float
    """Until the next; longer than asked for where listing costs too much."""
    note: str = ""
    """Why it is longer, and which files are no model where they may be meant as one; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingFailed:
    """A listing failed, or came back empty where models were; nothing is changed by it."""

    reason: str
    retry_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A revision is complete on the disk and verified."""

    id: int
    directory: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailed:
    """A revision is not on the disk, and nothing of it counts there any more but what a later fetch resumes."""

    id: int
    reason: str
    passing: bool
    """Whether another try may succeed (the network, throttling); not where the content is wrong."""
    needed_bytes: int | None = None
    """Where `max_bytes` was too little: what would be enough, as far as is known."""
    disk_full: bool = False
    """Whether the disk itself had no more room: another try succeeds when something else on it has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A directory is gone."""

    directory: str


Request = Open | Fetch | CancelFetch | Remove | Look
Event = Kept | Changed | Listed | ListingFailed | Fetched | FetchFailed | Removed

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Open, Fetch, CancelFetch, Remove, Look,
        Kept, Changed, Listed, ListingFailed, Fetched, FetchFailed, Removed,
    )
}  # fmt: skip


def line_of(message: Request | Event) -> bytes:
    """The message as one line, with its end."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def message_of(line: bytes) -> Request | Event:
    """The message of a line. Raises `ValueError` for what is none."""
    try:
        fields = json.loads(line)
        kind = _KINDS[fields.pop("kind")]
        if "revision" in fields:
            fields["revision"] = Revision(**fields["revision"])
        if kind is Changed:
            fields = {"models": tuple(map(_model, fields["models"])), "removed": tuple(fields["removed"])}
        elif "known" in fields:
            fields["known"] = tuple(map(_model, fields["known"]))
        message: Request | Event = kind(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{line[:200]!r} is no message: {error}") from error
    return message


def _model(fields: dict[str, Any]) -> Model:
    versions = tuple(Version(**{**each, "state": VersionState(each["state"])}) for each in fields["versions"])
    return Model(**{**fields, "versions": versions})
