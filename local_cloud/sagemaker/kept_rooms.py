"""What the rooms of this SageMaker hold, handed over and put back: each names its fields in ``KEPT``.

A room whose resources were running or changing also has ``resume``, which is called when all rooms have theirs back: it
starts what is to run again, settles what cannot go on, and returns what is lost, in sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Protocol, runtime_checkable

CUT_OFF = "The local cloud ended while this was under way."


class Room(Protocol):
    """Holds state in dictionaries, lists and sets of plain values."""

    @property
    def KEPT(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the class
        """Names of attributes, also of attributes of attributes: `_table._jobs`."""


@runtime_checkable
class Resuming(Protocol):
    """A room with something that runs."""

    def resume(self) -> list[str]:
        """Called once, after all rooms have their state back."""


def kept(room: Room) -> dict[str, Any]:
    """The room's state as it is at this moment; what is pickled is pickled at once."""
    return {name: attrgetter(name)(room) for name in room.KEPT}


def put_back(room: Room, state: Mapping[str, Any]) -> None:
    """Fills the room with what :func:`kept` gave in another process."""
    for name, value in state.items():
        held = attrgetter(name)(room)
        if isinstance(held, dict | set):
            held.clear()
            held.update(value)
        elif isinstance(held, list):
            held[:] = value
        else:
            raise TypeError(f"{type(room).__name__}.{name} is neither a dictionary nor a list nor a set")


def resume(rooms: Mapping[str, Room]) -> list[str]:
    """Lets go on what was running; returns what cannot, in sentences."""
    return [said for room in rooms.values() if isinstance(room, Resuming) for said in room.resume()]
