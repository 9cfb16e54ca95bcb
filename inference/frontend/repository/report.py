"""A model of the repository as `/models` shows it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.inference.frontend.repository.actions import Place
from tidegate.inference.frontend.repository.cache import Cache
from tidegate.inference.frontend.repository.stock import Stage
from tidegate.inference.frontend.repository.switching import Switch
from tidegate.inference.repository.catalogue import Revision, Version, VersionState

_ENDING = "It is in memory, and counts there, until its last request is done."


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionReport:
    """One version as `/models` shows it."""

    version: int
    labels: tuple[str, ...]
    state: str
    """`loaded`, `available`, `loading`, `failed` or `invalid`."""
    reason: str
    bytes: int | None
    """In memory, with what scripts hold of it and what still finishes its requests; else on disk, as listed."""
    last_used_s: float | None
    """On the clock of `now_s`; None: never."""
    load_s: float | None
    """How long its last load took."""
    serving: Revision | None
    """What answers for it now: another digest than the catalogue's while that one is not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model as `/models` shows it."""

    name: str
    reason: str
    versions: tuple[VersionReport, ...] = ()


def report_of(switch: Switch, cache: Cache) -> ModelReport:
    """What there is to say about a model."""
    model = switch.model
    return ModelReport(
        name=model.name,
        reason=" ".join(filter(None, (model.reason, *_bridged(switch, cache)))),
        versions=tuple(_version(version, switch, cache) for version in model.versions),
    )


def _bridged(switch: Switch, cache: Cache) -> Iterator[str]:
    """Which version answers to a label in the place of one that is not there."""
    for label, number in sorted(switch.model.labels.items()):
        last = switch.last.get(label)
        if number not in switch.lines and last is not None and cache.stock.is_loaded(Place(last)):
            yield f"Version {last.version} answers to {label} until version {number} is there."


def _version(version: Version, switch: Switch, cache: Cache) -> VersionReport:
    line, memory = switch.lines[version.number], cache.stock.memory
    serving = next((each for each in line.revisions() if cache.stock.is_loaded(Place(each))), None)
    own = memory.get(Place(serving)) if serving is not None else None
    # Scripts may hold it besides, each worker for itself.
    found = [each for revision in line.revisions() for each in cache.stock.places_of(revision)]
    found = [each for each in found if each is own or (each.place.worker is not None and each.stage is Stage.HERE)]
    newest = max(found, key=lambda each: each.used_s) if found else None
    held = [each for each in cache.stock.held_of(switch.model.name) if each.place.revision.version == version.number]
    in_memory = [each for each in held if each in found or each.stage is Stage.GOING]
    state, reason = _state(version, line.target, serving, switch, cache)
    if state in ("available", "failed") and any(each.place.revision == line.target for each in found):
        state = "loaded"
    return VersionReport(
        version=version.number,
        labels=tuple(sorted(label for label, number in switch.model.labels.items() if number == version.number)),
        state=state,
        reason=reason,
        bytes=sum(each.size_bytes for each in in_memory) if in_memory else version.size_bytes,
        last_used_s=newest.used_s if newest is not None else None,
        load_s=newest.load_s if newest is not None else None,
        serving=serving,
    )


def _state(
    version: Version, target: Revision | None, serving: Revision | None, switch: Switch, cache: Cache
) -> tuple[str, str]:
    if target is None or version.state is not VersionState.AVAILABLE:
        coming = "loading" if version.state is VersionState.UNREAD else "invalid"
        return ("loaded" if serving is not None else coming), version.reason
    if serving == target:
        return "loaded", version.reason
    held, stored = cache.stock.memory.get(Place(target)), cache.stock.disk.get(target)
    if Place(target) in cache.wishes or any(each is not None and each.stage is Stage.COMING for each in (held, stored)):
        return "loading", version.reason
    failure = switch.failures.get(target)
    if failure is not None:
        return "failed", failure.reason
    return "available", _ENDING if held is not None and held.stage is Stage.GOING else version.reason
