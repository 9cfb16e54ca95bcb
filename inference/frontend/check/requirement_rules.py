"""Lines of `code/requirements.txt` that install here and not there, or never will, and files that nothing reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.check.listing import Listing
from tidegate.inference.layout import CODE, REQUIREMENTS, WHEELS
from tidegate.inference.load_report import Caution
from tidegate.inference.package_layer import PROTECTED, protected_version, requirements_text

WANTED = f"{CODE}/{REQUIREMENTS}"
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(.*)")
_CREDENTIALS = re.compile(r"://[^/\s@'\"]+@")
_LOCAL = re.compile(r"(?:@\s*file:|file:|-e\s+/|--editable[ =]/|/|[A-Za-z]:\\)")
_GIT = re.compile(r"(?:^|@\s*|-e\s+|--editable[ =])(?:git\+|git@|hg\+|svn\+|bzr\+)")
_CONDA = ("environment.yml", "environment.yaml", "conda.yaml", "conda.yml", "Pipfile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that means something: continuations are joined, comments and the environment marker are off."""

    number: int
    text: str
    marked: bool
    """Whether an environment marker says that it is not for every machine."""


def cautions(listing: Listing) -> Iterator[Caution]:
    """What is wrong with the requirements."""
    if not listing.has("MLmodel"):
        yield from _misplaced(listing)
    if listing.has(WANTED):
        try:
            text = requirements_text(listing.root / WANTED)
        except (OSError, DeploymentError):
            return  # the installation says so
        for line in lines(text):
            yield from _of_line(line)


def lines(text: str) -> Iterator[Line]:
    """The lines of a requirements file as pip reads them."""
    held, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        first = first if held else number
        held += re.sub(r"(^|\s)#.*$", "", raw)
        if held.endswith("\\"):
            held = held[:-1]
            continue
        words, _, marker = held.partition(";")
        if words.strip():
            yield Line(number=first, text=re.split(r"\s--hash", words)[0].strip(), marked=bool(marker.strip()))
        held = ""


def _misplaced(listing: Listing) -> Iterator[Caution]:
    if listing.has(WANTED):
        return
    near = [
        str(each.name)
        for each in listing.files
        if (each.folders in ((), (CODE,)) and each.name.suffix in (".txt", "") and _like(each.name.name))
        or (each.folders == (CODE, CODE) and each.name.name == REQUIREMENTS)
    ]
    other = [name for name in (f"{place}{kind}" for place in (f"{CODE}/", "") for kind in _CONDA) if listing.has(name)]
    for found in (near or other)[:1]:
        yield Caution(
            code="requirements_in_the_wrong_place",
            message=f"{found} is not installed: {WANTED} is the file that is",
            way_out=f"move it to {WANTED}" if found in near else f"write what the script imports into {WANTED}",
        )


def _like(name: str) -> bool:
    return difflib.SequenceMatcher(None, name.lower(), REQUIREMENTS).ratio() > 0.9


def _of_line(line: Line) -> Iterator[Caution]:
    where = f"{WANTED}, line {line.number}"
    if _CREDENTIALS.search(line.text):
        yield Caution(
            code="credentials_in_requirements",
            message=f"{where}, holds the credentials of an address, which everybody who has the archive can read",
            way_out="take them out, and give the address by PIP_INDEX_URL or CA_REPOSITORY_ARN where it is served",
        )
    if line.marked:
        return
    if _LOCAL.match(line.text) or re.search(r"@\s*file:", line.text):
        yield Caution(
            code="requirement_of_one_machine",
            message=f"{where}, names a path that is not there where the model is served",
            way_out=f"name the package and its version, or bring its wheel in {CODE}/{WHEELS}/",
        )
    elif _GIT.search(line.text):
        yield Caution(
            code="requirement_needs_git",
            message=f"{where}, is fetched by a program that the image does not have",
            way_out=f"build a wheel of it (pip wheel) and bring that in {CODE}/{WHEELS}/",
        )
    elif (named := _NAME.fullmatch(line.text)) is not None and named[1].lower() == PROTECTED:
        yield from _of_torch(where, named[2].strip())


def _of_torch(where: str, bounds: str) -> Iterator[Caution]:
    here = protected_version()
    if here is None or not bounds or _allows(bounds, here):
        return
    yield Caution(
        code="would_replace_torch",
        message=f"{where}, wants {PROTECTED}{bounds}, and {PROTECTED} stays at the installed version, {here}",
        way_out="take the line out, or let it allow the version that is here",
    )


def _allows(bounds: str, version: str) -> bool:
    try:
        from pip._vendor.packaging.specifiers import SpecifierSet  # noqa: PLC0415 - pip is here, packaging need not be

        return bool(SpecifierSet(bounds).contains(version, prereleases=True))
    except (ImportError, ValueError):
        return True  # pip says what it cannot read
