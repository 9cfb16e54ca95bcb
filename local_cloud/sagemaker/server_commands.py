"""Which command stands for a model's image, where containers are processes: `up --server`, and how images are named."""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

# A reference of docker's: lower-case path components, then a tag or a digest. `NAME=VALUE command` is not one.
_OF_IMAGE = re.compile(r"(?P<image>[a-z0-9][a-z0-9._/:@-]*)=(?P<command>.*)", re.DOTALL)
_NAMED = 5
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")
_REGISTRY = re.compile(r"^(?:[^/]*[.:][^/]*|localhost)/")
_VERSION = re.compile(r"(?:@[^@/]*|:[^:/]*)$")


class CommandRefused(Exception):
    """A command that cannot be one; the text says why and what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommands:
    """Commands by image, and one for all other images; without it they have the server that comes with this package.

    They run in ``directory``, as the commands of an image run in its WORKDIR.
    """

    every: Sequence[str] = ()
    by_image: Mapping[str, Sequence[str]] = field(default_factory=dict)
    directory: str = ""

    @classmethod
    def of(cls, texts: Iterable[str], directory: Path) -> Self:
        """From texts such as `python serve.py` and `my-image=gunicorn app:app`. Raises :class:`CommandRefused`."""
        every: Sequence[str] = ()
        by_image: dict[str, Sequence[str]] = {}
        for text in texts:
            of_image = _OF_IMAGE.fullmatch(text)
            if of_image is None:
                if every:
                    raise CommandRefused(
                        f"{text!r} is the second command for all images: write IMAGE=COMMAND for one image's"
                    )
                every = _words(text, text)
            elif of_image["image"] in by_image:
                raise CommandRefused(f"the image {of_image['image']} has two commands: leave one out")
            else:
                by_image[of_image["image"]] = _words(of_image["command"], text)
        found = cls(every=every, by_image=by_image, directory=str(directory))
        found.check()
        return found

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """What :meth:`record` gave, also by way of JSON; of an empty one, no commands."""
        return cls(
            every=tuple(record.get("every", ())),
            by_image={image: tuple(command) for image, command in record.get("by_image", {}).items()},
            directory=record.get("directory", ""),
        )

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def check(self) -> None:
        """Raises :class:`CommandRefused` for a program that is not on this machine."""
        for command in (self.every, *self.by_image.values()):
            if command:
                _check_program(command[0], self.directory)

    def misfit(self, image: str) -> str:
        """What to say where other images have a command and this one has none: "" where there is nothing to say."""
        if self.every or not self.by_image or self.command(image):
            return ""
        # A tag is the likeliest mistake.
        (nearest,) = difflib.get_close_matches(image, self.by_image, n=1, cutoff=0.0)
        others = [name for name in self.by_image if name != nearest][:_NAMED]
        also = f" (others: {', '.join(others)})" if others else ""
        return (
            f"no --server is for the image {image}, so Tidegate's own is started;"
            f" the nearest with one is {nearest}{also}"
        )

    def command(self, image: str) -> Sequence[str]:
        """For the image that a model names: as a whole, without its registry, without its tag; empty where none is."""
        without_registry = _REGISTRY.sub("", image)
        for name in (image, without_registry, _VERSION.sub("", image), _VERSION.sub("", without_registry)):
            if name in self.by_image:
                return self.by_image[name]
        return self.every


def _words(command: str, given: str) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandRefused(f"{given!r} cannot be read as a shell would read it: {error}") from error
    if not words:
        raise CommandRefused(f"{given!r} names no command")
    if _VARIABLE.match(words[0]):
        raise CommandRefused(f"{given!r} begins with a variable: write env {given}")
    return tuple(words)


def _check_program(program: str, directory: str) -> None:
    if "/" in program:
        path = Path(directory, program)
        if not path.is_file():
            raise CommandRefused(f"there is no program {path}")
        if shutil.which(str(path)) is None:
            raise CommandRefused(f"{path} is not executable: chmod +x it, or name its interpreter first")
    elif shutil.which(program) is None:
        raise CommandRefused(f"there is no command {program!r} on PATH: install it here, or name it by its whole path")
