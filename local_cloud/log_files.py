"""The files that servers and jobs write to: whose they are, by name, and how they are read while they grow."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tidegate.local_cloud.inventory import WITH_LOGS, Kind

_NEAREST = 5


class NoSuchLog(Exception):
    """No name, or several, fit what was asked for; the text says which are near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One thing that may write."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.name}/{self.name}"


def find(wanted: str, known: Sequence[Named]) -> Named:
    """The thing that ``wanted`` names: whole, as KIND/NAME, or by a beginning that only one has.

    Raises :class:`NoSuchLog`.
    """
    kind, slash, name = wanted.partition("/")
    if slash and kind not in (each.name for each in WITH_LOGS):
        kinds = ", ".join(each.name for each in WITH_LOGS)
        raise NoSuchLog(f"{wanted}: {kind!r} is no kind of thing that writes; there are {kinds}")
    among = [each for each in known if not slash or each.kind.name == kind]
    text = name if slash else wanted
    found = [each for each in among if each.name == text]
    found = found or [each for each in among if text and each.name.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NoSuchLog(f"{wanted} may be {_or(map(str, _nearest(text, found)))}: write one of these")
    near = _nearest(text, among) or _nearest(text, known)
    if near:
        hint = f"; the nearest: {', '.join(map(str, near))}"
    elif known:
        further = f" and {len(known) - _NEAREST} more" if len(known) > _NEAREST else ""
        hint = f"; there are {', '.join(map(str, (among or known)[:_NEAREST]))}{further}"
    else:
        hint = ", and nothing has written anything yet"
    raise NoSuchLog(f"nothing is called {wanted}{hint}")


def written(logs: Path) -> list[Named]:
    """What has written into the directory ``logs``, also what is gone by now."""
    return [
        Named(kind=kind, name=name)
        for kind in WITH_LOGS
        if kind.folder is not None
        for name in sorted({_owner(entry) for entry in _entries(logs / kind.folder)})
    ]


def files(logs: Path, thing: Named) -> list[Path]:
    """The files of a thing, by name; there may be none yet."""
    if thing.kind.folder is None:
        return []
    folder = logs / thing.kind.folder
    own = folder / thing.name
    if own.is_dir():
        return sorted(own.rglob("*.log"))
    # Of a job with several containers: NAME.CONTAINER.log beside NAME.log.
    return sorted(path for path in _entries(folder) if path.is_file() and _owner(path) == thing.name)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _owner(entry: Path) -> str:
    """No name of SageMaker's has a dot."""
    return entry.name if entry.is_dir() else entry.name.partition(".")[0]


def _nearest(text: str, among: Sequence[Named]) -> list[Named]:
    names = [each.name for each in among]
    close = difflib.get_close_matches(text, names, n=_NEAREST, cutoff=0.0 if len(set(names)) <= _NEAREST else 0.4)
    holding = [name for name in names if text.lower() in name.lower()]
    ordered = list(dict.fromkeys([*close, *holding]))[:_NEAREST]
    return [each for name in ordered for each in among if each.name == name][: 2 * _NEAREST]


def _or(words: Iterator[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


@dataclass(slots=True)
class _Open:
    """A file that is being read, and the line that has not ended yet."""

    handle: BinaryIO
    rest: bytes = b""

    def lines(self) -> list[bytes]:
        self.rest += self.handle.read()
        *whole, self.rest = self.rest.split(b"\n")
        return whole

    def is_at(self, path: Path) -> bool:
        """Whether ``path`` is still this file and holds at least what was read of it."""
        try:
            there = path.stat()
        except FileNotFoundError:
            return True  # moved away, and the next one is not there yet
        here = os.fstat(self.handle.fileno())
        return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev) and there.st_size >= self.handle.tell()


@dataclass(slots=True)
class Reader:
    """Reads whatever ``paths`` gives, as often as :meth:`read` is called: files that come later, or take a name over.

    What was written to a file before another took its name is read to its end; one that was cut off begins anew.
    """

    paths: Callable[[], Sequence[Path]]
    _open: dict[Path, _Open] = field(default_factory=dict)

    def read(self) -> Iterator[tuple[Path, str]]:
        """The lines that have been written since, whole ones, with the file of each."""
        for path in self.paths():
            if path not in self._open:
                with suppress(FileNotFoundError):
                    self._open[path] = _Open(path.open("rb"))
        for path, file in list(self._open.items()):
            yield from ((path, _text(line)) for line in file.lines())
            if not file.is_at(path):
                # It may have grown between the look into it and the look at its name.
                yield from ((path, _text(line)) for line in [*file.lines(), *([file.rest] if file.rest else [])])
                file.handle.close()
                del self._open[path]
                with suppress(FileNotFoundError):
                    self._open[path] = _Open(path.open("rb"))
                    yield from ((path, _text(line)) for line in self._open[path].lines())

    def close(self) -> Iterator[tuple[Path, str]]:
        """The lines that have not ended."""
        for path, file in self._open.items():
            if file.rest:
                yield path, _text(file.rest)
            file.handle.close()
        self._open.clear()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
