"""A cloud that remembers, put together: what was kept is read, and from then on what changes is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.utilities.utils import get_partition

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.keep import moto_state, plain, snapshot_file
from tidegate.local_cloud.keep.errors import KeepError
from tidegate.local_cloud.keep.journal import unanswered
from tidegate.local_cloud.keep.kept_directory import KeptDirectory
from tidegate.local_cloud.keep.kept_objects import KeptObjects
from tidegate.local_cloud.keep.memory import Memory
from tidegate.local_cloud.keep.moto_calls import KeptMoto

_CLOCK = "the clock"
_SAGEMAKER = "SageMaker's "


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembrance:
    """``sagemaker`` is what its rooms had, ``lost`` what did not come back, in sentences."""

    memory: Memory
    objects: KeptObjects
    sagemaker: Mapping[str, Any]
    lost: tuple[str, ...]

    def in_front_of(self, application: Any) -> KeptMoto:
        """moto's application, with a memory."""
        return KeptMoto(application, self.memory, self.objects)


def remember(
    directory: KeptDirectory,
    *,
    sagemaker: Callable[[], Mapping[str, Any]],
    reducers: Mapping[type, plain.Reducer],
    settle: Callable[[], list[str]],
    notes: Mapping[str, Any],
) -> Remembrance:
    """Reads what was kept and puts moto's part of it in its place; nothing is written before ``memory`` is started.

    ``settle`` is called when moto has its state, and says what of it cannot go on. Raises :class:`KeepError` where what
    was kept cannot be read; it is then as it was.
    """
    directory.check()
    objects = KeptObjects(directory)
    objects.install()
    picture = snapshot_file.read(directory.snapshot)
    state: Mapping[str, Any] = {}
    lost: list[str] = []
    if picture is None and directory.object_log.exists() and directory.object_log.stat().st_size:
        raise KeepError(f"{directory.snapshot} is missing, and {directory.object_log} is of no use without it")
    if picture is not None:
        if picture.notes["region"] != notes["region"]:
            raise KeepError(
                f"{directory.snapshot} is of a cloud in {picture.notes['region']}, and this one is to be in"
                f" {notes['region']}; a cloud has one region for all its life"
            )
        lost += [f"{name} was not kept: {why}" for name, why in picture.notes["unwritable"].items()]
        try:
            state = plain.read(picture.payload)
        except Exception as error:
            raise KeepError(f"{directory.snapshot} cannot be read: {type(error).__name__}: {error}") from error
        CLOCK.state.ahead = state[_CLOCK]
        moto_state.restore({name: part for name, part in state.items() if name.startswith(moto_state.PREFIX)})
    lost += objects.load()
    lost += settle()
    lost += [f"{change}: it had no answer, and may be done or not" for change in unanswered(directory.journal)]
    memory = Memory(
        directory,
        objects=objects,
        parts=lambda: {
            _CLOCK: CLOCK.state.ahead,
            **moto_state.parts(get_partition(notes["region"])),
            **{f"{_SAGEMAKER}{name}": room for name, room in sagemaker().items()},
        },
        reducers=lambda: {**moto_state.reducers(), **reducers},
        notes=notes,
    )
    rooms = {name.removeprefix(_SAGEMAKER): room for name, room in state.items() if name.startswith(_SAGEMAKER)}
    return Remembrance(memory=memory, objects=objects, sagemaker=rooms, lost=tuple(lost))
