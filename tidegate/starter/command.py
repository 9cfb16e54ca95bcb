"""`tidegate init NAME`: copies the template into a new folder, and writes the project's name where it belongs."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_NAME = re.compile(r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,15}")
"""As the names of stacks and of what is in them may begin: infra/configuration/stage.py."""
_PLACEHOLDER = "PROJECT"
_STORED_AS = {"gitignore": ".gitignore"}
"""What would act in this repository, too, has another name in it."""


class NotWritten(Exception):
    """The folder cannot be made; the text says why, and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Make the folder and say what to do next; a mistake is one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(
        prog="tidegate init",
        description="Make a project: training, script, tests, stages of the infrastructure, and a README that runs.",
        epilog="for example: tidegate init churn; tidegate init models/churn",
    )
    parser.add_argument("folder", type=Path, metavar="NAME", help="a new folder; its last part is the project's name")
    folder: Path = parser.parse_args(arguments).folder
    try:
        written = write(folder)
    except NotWritten as error:
        print(f"tidegate: error: {error}", file=sys.stderr)  # noqa: T201 - the command line's own output
        return 1
    for path in written:
        print(folder / path)  # noqa: T201
    print(f"next: cd {folder}, then follow README.md", file=sys.stderr)  # noqa: T201
    return 0


def write(folder: Path) -> list[str]:
    """Make `folder` of the template: all of it, or nothing. Returns the files, as paths below it.

    Raises `NotWritten` for a name that cannot be a project's, for a folder that holds something, and where it cannot
    be written.
    """
    place = Path(os.path.normpath(Path.cwd() / folder))  # the last part is the name, also of a link and of "."
    if not _NAME.fullmatch(place.name):
        raise NotWritten(
            f"{place.name[:40]!r} cannot be a project's name: use at most 16 lower-case letters, digits and single"
            " hyphens, beginning with a letter"
        )
    if place.is_dir() and any(place.iterdir()):
        raise NotWritten(f"{folder} is there already, and holds something; nothing was written")
    if os.path.lexists(place) and not place.is_dir():
        raise NotWritten(f"{folder} is a file, or a link that leads nowhere; nothing was written")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return _write(place)
    except OSError as error:
        raise NotWritten(f"{folder} cannot be written: {error.strerror or error}; nothing was written") from error


def _write(place: Path) -> list[str]:
    # Beside its place, and moved there in one step: what is cut off in the midst leaves no half of a project.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        written = []
        for path, content in sorted(_template()):
            target = unfinished / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content.replace(_PLACEHOLDER, place.name), encoding="utf-8")
            written.append(path)
        unfinished.chmod(0o777 & ~_umask())
        unfinished.rename(place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return written


def _template() -> Iterator[tuple[str, str]]:
    """The files of the template by their paths."""
    return _below(files("tidegate.starter") / "template", "")


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        if each.name == "__pycache__":
            continue
        inside = path + _STORED_AS.get(each.name, each.name)
        if each.is_dir():
            yield from _below(each, f"{inside}/")
        else:
            yield inside, each.read_text(encoding="utf-8")


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
