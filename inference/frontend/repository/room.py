"""How much may be held, how much is, and what must go so that more fits. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be held at one time; None is no limit. What is coming and what is going counts as what is there."""

    max_loaded_models: int
    max_loaded_bytes: int | None = None
    max_disk_models: int | None = None
    max_disk_bytes: int | None = None
    max_waiters: int = 10_000
    """Requests that wait for a load at one time."""
    workers: int = 1
    """Of one model: the first guess at its memory is what it takes on disk times this."""


class Sized(Protocol):
    """Something that takes room."""

    size_bytes: int


AnySized = TypeVar("AnySized", bound=Sized)


@dataclass(slots=True)
class Room:
    """Counts one kind of what is held, reservations among it, against hard limits."""

    max_models: int | None
    max_bytes: int | None
    models: int = 0
    bytes: int = 0

    def take(self, size_bytes: int) -> None:
        """One more is there, or is coming."""
        self.models += 1
        self.bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """One is gone."""
        self.models -= 1
        self.bytes -= size_bytes

    def short(self, size_bytes: int, models: int = 1) -> Shortage:
        """What must go before so much more fits."""
        return Shortage(
            0 if self.max_models is None else max(0, self.models + models - self.max_models),
            0 if self.max_bytes is None else max(0, self.bytes + size_bytes - self.max_bytes),
        )

    def ever(self, size_bytes: int, staying: Iterable[Sized]) -> str:
        """Why one more would not fit if only `staying` were left; empty: it would."""
        kept = [each.size_bytes for each in staying]
        beside = f" beside {len(kept)} that must stay" if kept else ""
        if self.max_models is not None and len(kept) + 1 > self.max_models:
            return f"no more than {self.max_models} may be held{beside}"
        if self.max_bytes is not None and sum(kept) + size_bytes > self.max_bytes:
            return f"it takes about {size_bytes:,} bytes, and no more than {self.max_bytes:,} may be held{beside}"
        return ""


@dataclass(slots=True)
class Shortage:
    """What is missing yet."""

    models: int
    bytes: int

    def __bool__(self) -> bool:
        return self.models > 0 or self.bytes > 0

    def less(self, size_bytes: int) -> None:
        """One goes."""
        self.models -= 1
        self.bytes -= size_bytes


def fewest(candidates: Iterable[AnySized], shortage: Shortage) -> list[AnySized]:
    """The first of `candidates` that make up a shortage, without those among them that are not needed after all.

    All of them where they are not enough. `shortage` is left as what is missing still.
    """
    chosen: list[AnySized] = []
    for each in candidates:
        if not shortage:
            break
        shortage.less(each.size_bytes)
        chosen.append(each)
    for each in chosen[::-1]:  # the later ones were used more recently: let those stay
        spared = Shortage(shortage.models + 1, shortage.bytes + each.size_bytes)
        if not spared:
            shortage.models, shortage.bytes = spared.models, spared.bytes
            chosen.remove(each)
    return chosen
