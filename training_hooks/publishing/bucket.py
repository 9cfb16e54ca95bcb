"""A repository in a bucket, where files come and go one by one: what is half there bears a mark.

publish   .unfinished   ─▶   files   ─▶   manifest.json (the version exists)   ─▶   no .unfinished
retire    .unfinished   ─▶   no manifest.json (it is gone)   ─▶   no files   ─▶   no .unfinished

A publish that was killed leaves the mark and some files, which no server takes, and the next one takes the next number.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

from tidegate.training_hooks.errors import ArtifactError
from tidegate.training_hooks.manifest import MANIFEST_NAME, HashingReader

from .contents import (
    PublishedModel,
    State,
    check_takes_versions,
    exists_already,
    is_one_model,
    models_of,
    no_version,
    numbers_of,
    state_of,
)
from .names import ARCHIVE_SUFFIX, LABELS_NAME, LAST_VERSION, UNFINISHED, BucketAddress
from .objects import Body, Objects
from .outgoing import Outgoing, check_read
from .reservation import ABANDONED_S, RETIRE, Reservation, is_abandoned, told
from .version_labels import dump_labels, labels_of, may_retire, read_labels, without_label, without_version

_TRIES = 50


class Bucket:
    """The repository below a prefix of a bucket."""

    def __init__(self, address: BucketAddress) -> None:
        self._objects = Objects(address)
        self.address = self._objects.address

    def models(self) -> tuple[PublishedModel, ...]:
        """Everything that is there."""
        stored = self._objects.stored()
        labels_files: dict[str, bytes] = {}
        for key in stored:
            folder, _, name = key.rpartition("/")
            if name == LABELS_NAME and "/" not in folder and (found := self._objects.get(key)):
                labels_files[folder] = found.data
        return models_of(stored, labels_files)

    def publish(self, name: str, version: int | None, model: Outgoing, on_bytes: Callable[[int], object]) -> int:
        """Upload a model; it is there when this returns its number, and not before."""
        self._check_is_repository()
        names = self._objects.names(f"{name}/")
        check_takes_versions(name, f"{self.address}/{name}", names)
        if self._objects.exists(f"{name}{ARCHIVE_SUFFIX}"):
            raise ArtifactError(
                f"{self.address}/{name}{ARCHIVE_SUFFIX} is an unversioned model; publish under another name"
            )
        number, reservation = self._reserve(name, version, numbers_of(names))
        prefix = f"{name}/{number}/"
        try:
            with reservation.renewed():
                self._upload(prefix, model, on_bytes)
            if not self._objects.put_if(prefix + MANIFEST_NAME, model.manifest, etag=None):
                found = self._objects.get(prefix + MANIFEST_NAME)
                if found is None or found.data != model.manifest:
                    raise ArtifactError(f"{self.address}/{prefix} was published by somebody else; publish again")
        except BaseException:
            self._give_up(reservation, prefix, model)
            raise
        reservation.release()
        return number

    def retire(self, name: str, version: int, *, drop_labels: bool) -> None:
        """Take a version away: its manifest first."""
        self._check_is_repository()
        where = f"{self.address}/{name}"
        there = self._state_that_may_go(name, version)
        if drop_labels:
            self._change_labels(name, lambda labels: without_version(labels, version))
        may_retire(self.labels(name), where, version)
        self._remember_number(name, version)
        if there is State.ARCHIVE:
            self._objects.delete([f"{name}/{version}{ARCHIVE_SUFFIX}"])
            return
        prefix = f"{name}/{version}/"
        reservation = self._reserve_to_retire(prefix)
        manifest = self._objects.get(prefix + MANIFEST_NAME)
        self._objects.delete([prefix + MANIFEST_NAME])
        # Who labels looks for the version after it wrote the label: so one of the two sees the other.
        if manifest and labels_of(labels := self.labels(name), version):
            self._objects.put(prefix + MANIFEST_NAME, manifest.data)
            reservation.release()
            may_retire(labels, where, version)
        files = self._objects.stored(prefix).keys() - {UNFINISHED}
        self._objects.delete(prefix + file for file in files)
        reservation.release()

    def _state_that_may_go(self, name: str, version: int) -> State:
        there = self._state(name, version)
        if there is None:
            raise self._no_version(name, version)
        mark = self._objects.get(f"{name}/{version}/{UNFINISHED}")
        if there is State.UNFINISHED and mark and not is_abandoned(mark):
            raise ArtifactError(
                f"version {version} of {self.address}/{name} is under way: {told(mark)}; if that was interrupted, it "
                f"can be retired in {ABANDONED_S / 60:.0f} minutes, and no server takes it until then"
            )
        return there

    def _reserve_to_retire(self, prefix: str) -> Reservation:
        reservation = Reservation(self._objects, prefix, RETIRE)
        for _ in range(_TRIES):
            if reservation.take(self._objects.get(prefix + UNFINISHED)):
                return reservation
        raise ArtifactError(f"others change {self.address}/{prefix} all the time; try again")

    def set_label(self, name: str, version: int, label: str) -> None:
        """Let a label mean a version that is there."""
        self._check_is_repository()
        self._check_is_there(name, version)
        before = self.labels(name).get(label)
        self._change_labels(name, lambda labels: labels | {label: version})
        try:
            self._check_is_there(name, version)  # still: a retire may have been faster
        except ArtifactError:
            self._change_labels(name, lambda labels: _undone(labels, label, version, before))
            raise

    def remove_label(self, name: str, label: str) -> None:
        """Let a label mean nothing any more."""
        without_label(self.labels(name), label, f"{self.address}/{name}")
        # An answer may have been lost on its way: that it is gone at the second try is as it should be.
        self._change_labels(name, lambda now: {other: number for other, number in now.items() if other != label})

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model; none where there is no such model."""
        found = self._objects.get(f"{name}/{LABELS_NAME}")
        return read_labels(found.data if found else None, f"{self.address}/{name}")

    def shares_code(self) -> bool:
        """Whether the repository has a script for models that bring none."""
        return self._objects.exists("code/inference.py")

    def _check_is_repository(self) -> None:
        # Digits sort before letters: a model's own version folders would be among the first names.
        if is_one_model(self._objects.names(limit=100)) or self._objects.exists(MANIFEST_NAME):
            raise ArtifactError(f"{self.address} is a model itself; give the prefix above it as the repository")

    def _reserve(self, name: str, version: int | None, taken: set[int]) -> tuple[int, Reservation]:
        """Find a number that is free, or take the one that is asked for, before anything is uploaded."""
        for _ in range(_TRIES):
            number = version if version is not None else max([0, *taken, self._last_version(name)]) + 1
            prefix = f"{name}/{number}/"
            reservation = Reservation(self._objects, prefix, "publish")
            mark = self._objects.get(prefix + UNFINISHED)
            reason = self._why_taken(name, number, mark)
            if not reason and reservation.take(mark):
                # Another may have published it between our look and our mark.
                left = self._objects.stored(prefix).keys() - {UNFINISHED}
                if not left or (mark and MANIFEST_NAME not in left):
                    self._objects.delete(prefix + file for file in left)
                    return number, reservation
                reservation.release()
            if version is not None:
                raise reason or ArtifactError(f"version {number} of {self.address}/{name} was taken by somebody else")
            taken = taken | {number}
        raise ArtifactError(f"others publish {self.address}/{name} all the time; try again")

    def _why_taken(self, name: str, number: int, mark: Body | None) -> ArtifactError | None:
        where = f"{self.address}/{name}"
        there = self._state(name, number)
        if there is State.UNFINISHED and mark and not is_abandoned(mark):
            return ArtifactError(
                f"version {number} of {where} is under way: {told(mark)}; if that was interrupted, publish the next "
                f"number, or this one in {ABANDONED_S / 60:.0f} minutes"
            )
        return None if there in (None, State.UNFINISHED) else exists_already(where, number)

    def _upload(self, prefix: str, model: Outgoing, on_bytes: Callable[[int], object]) -> None:
        def checked(name: str, reader: HashingReader) -> None:
            check_read(model.files[name], reader, model.entries[name])

        self._objects.upload(prefix, model.files, on_bytes, checked)
        arrived = self._objects.stored(prefix)
        for name, entry in model.entries.items():
            size_bytes = arrived[name].size_bytes if name in arrived else None
            if size_bytes != entry.size_bytes:
                raise ArtifactError(
                    f"{self.address}/{prefix}{name} has {size_bytes} bytes after the upload, and not "
                    f"{entry.size_bytes}; publish again"
                )

    def _give_up(self, reservation: Reservation, prefix: str, model: Outgoing) -> None:
        """Leave nothing; what cannot be removed now is marked, and no version."""
        with contextlib.suppress(ArtifactError):
            found = self._objects.get(prefix + MANIFEST_NAME)
            if reservation.is_held() and (found is None or found.data == model.manifest):
                self._objects.delete([prefix + MANIFEST_NAME])
                self._objects.delete(prefix + name for name in model.files)
                reservation.release()

    def _state(self, name: str, version: int) -> State | None:
        state = state_of(self._objects.stored(f"{name}/{version}/").keys())
        if state is None and self._objects.exists(f"{name}/{version}{ARCHIVE_SUFFIX}"):
            return State.ARCHIVE
        return state

    def _check_is_there(self, name: str, version: int) -> None:
        if self._state(name, version) in (None, State.UNFINISHED):
            raise self._no_version(name, version)

    def _no_version(self, name: str, version: int) -> ArtifactError:
        names = self._objects.names(f"{name}/")
        if not numbers_of(names):
            return ArtifactError(f"{self.address} has no model {name!r} with versions")
        return no_version(f"{self.address}/{name}", version, names)

    def _change_labels(self, name: str, change: Callable[[dict[str, int]], dict[str, int]]) -> None:
        def changed(data: bytes | None) -> bytes | None:
            before = read_labels(data, f"{self.address}/{name}")
            after = change(before)
            return None if after == before else dump_labels(after)

        self._change(f"{name}/{LABELS_NAME}", changed)

    def _last_version(self, name: str) -> int:
        found = self._objects.get(f"{name}/{LAST_VERSION}")
        return _number_of(found.data if found else None)

    def _remember_number(self, name: str, version: int) -> None:
        def changed(data: bytes | None) -> bytes | None:
            return f"{version}\n".encode() if version > _number_of(data) else None

        self._change(f"{name}/{LAST_VERSION}", changed)

    def _change(self, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace a small object by what `change` makes of it, again when others were faster; None leaves it."""
        for _ in range(_TRIES):
            found = self._objects.get(key)
            after = change(found.data if found else None)
            if after is None or self._objects.put_if(key, after, etag=found.etag if found else None):
                return
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 - so that two do not meet again
        raise ArtifactError(f"others change {self.address}/{key} all the time; try again")


def _undone(labels: dict[str, int], label: str, version: int, before: int | None) -> dict[str, int]:
    if labels.get(label) != version:
        return labels  # somebody gave it to another version meanwhile
    rest = {other: number for other, number in labels.items() if other != label}
    return rest if before is None or before == version else rest | {label: before}


def _number_of(data: bytes | None) -> int:
    with contextlib.suppress(ValueError):
        return int(data or b"0")
    return 0
