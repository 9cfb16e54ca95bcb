"""A model's, or a training job's, packages: a virtual environment on top of the packages of this interpreter.

What requirements bring lies in the layer alone; what is here already is found below it and not installed again. One
call of pip resolves, checks hashes, builds and installs, so nothing can be installed that was not resolved; its
temporary files and its checkouts lie in the layer too. torch is pinned to the one that is here.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import WHEELS

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PROTECTED = "torch"
"""The package that requirements cannot replace: the image was built around it."""

_OLDEST: Mapping[str, tuple[int, int]] = {"pillow": (9, 3), "pillow-simd": (9, 3)}
"""The oldest with which the server's own imports work. numpy needs none: whichever has a wheel for this Python does."""
_MAJOR_AND_MINOR = re.compile(r"(\d+)(?:\.(\d+))?")

_SITE_NAMES = ("site-packages", "dist-packages")
_PROJECT_FILES = ("pyproject.toml", "setup.py")
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PackageLayer:
    """The layer in the folder `home`, which `create` makes; with `home` it is gone."""

    home: Path

    @property
    def interpreter(self) -> Path:
        """The Python that finds the layer's packages first, and then this interpreter's."""
        return self.home / "bin/python"

    @property
    def site(self) -> Path:
        """Where the layer's packages are."""
        return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(self.home)}))

    def create(self) -> None:
        """Make an empty layer. Raises `OSError` where nothing can be written."""
        import venv  # noqa: PLC0415 - most models bring no packages, and a server starts faster without it

        venv.EnvBuilder(symlinks=True, with_pip=False).create(self.home)
        self._scratch.mkdir()
        # Not PYTHONPATH: it would come before the standard library, and .pth files in it would not be read. What one of
        # these lines appends, pip counts among the system's folders and hides from builds. ASCII: Python reads them in
        # the encoding of the locale.
        below = [place for place in dict.fromkeys(sys.path) if Path(place).name in _SITE_NAMES and Path(place).is_dir()]
        lines = [f"import site, sys; sys.path.append({place!a}); site.addsitedir({place!a})\n" for place in below]
        # Last in the order of names: what the .pth file of an editable package names comes before the packages below.
        (self.site / "~below.pth").write_text("".join(lines), encoding="ascii")

    def pip_command(self, wanted: Path, text: str | None = None) -> tuple[list[str], Path]:
        """The words of the one call of pip that installs `wanted`, and the directory that it runs in.

        `text` is what is installed in the place of what the file says, as if it stood there.

        Where a folder of wheels lies beside `wanted`, packages come from there and from nowhere else. pip builds a
        local project in its own folder, so where there is one the directory is a copy. Raises `OSError`.
        """
        constraint = self.home / "constraint.txt"
        stays = protected_version()
        constraint.write_text(f"{PROTECTED}=={stays}\n" if stays else "", encoding="utf-8")
        wheels = wanted.parent / WHEELS
        listed = wanted
        if text is not None:
            listed = self.home / "requirements.txt"
            listed.write_text(text, encoding="utf-8")
        # -P: pip runs where relative names of the file lead, which is where a user's pip.py would be run in its place.
        words = [str(self.interpreter), "-P", "-m", "pip", "install"]
        words += ["--disable-pip-version-check", "--no-input", "--no-cache-dir"]
        # Whatever pip's own configuration says of where to install.
        words += ["--no-user", "--target=", f"--prefix={self.home}", "--root=/", f"--src={self.home / 'src'}"]
        words += ["--requirement", str(listed), "--constraint", str(constraint)]
        words += ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
        return words, self._working_directory(wanted.parent)

    def pip_variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """`environment` as pip gets it: temporary files in the layer, and output that can be read."""
        readable = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "COLUMNS": "1000"}
        kept = {name: value for name, value in environment.items() if name not in {"FORCE_COLOR", "CLICOLOR_FORCE"}}
        return {**kept, **readable, "TMPDIR": str(self._scratch)}

    def finish(self) -> list[Distribution]:
        """Take away what only pip needed; returns what it installed.

        Raises `DeploymentError` for a second torch, and for a package that is older than the server needs.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        brought = list(_distributions(self.site))
        for found in brought:
            if found.name.lower() == PROTECTED:
                raise DeploymentError(
                    f"it brings {PROTECTED} {found.version} of its own, but {PROTECTED} stays at the installed "
                    f"version, {protected_version()}"
                )
            oldest = _OLDEST.get(found.name.lower(), (0, 0))
            version = _MAJOR_AND_MINOR.match(found.version)
            if version and (int(version[1]), int(version[2] or 0)) < oldest:
                raise DeploymentError(
                    f"it brings {found.name} {found.version}, and the server needs {found.name} "
                    f"{oldest[0]}.{oldest[1]} or later; raise its version, or leave it out to use the one that is here"
                )
        if brought:
            self.adopt_programs()
        return brought

    def adopt_programs(self) -> None:
        """Put this interpreter's Python programs into the layer, run by its own: they find its packages too."""
        programs = Path(sys.executable).parent
        shebang = f"#!{programs}/python".encode()
        for program in programs.iterdir():
            copy = self.interpreter.parent / program.name
            if copy.exists() or not program.is_file():
                continue
            with program.open("rb") as file:
                if not file.readline(512).startswith(shebang):
                    continue
                copy.write_bytes(f"#!{self.interpreter}\n".encode() + file.read())
            copy.chmod(0o755)

    def enter(self) -> None:
        """Let this process, and the interpreters that it starts, find the layer's packages before the ones below."""
        import multiprocessing  # noqa: PLC0415 - only a worker enters a layer

        before = sys.path[:]
        if str(self.site) not in before:
            site.addsitedir(str(self.site))  # reads .pth files, by which editable packages are found
            below = next((at for at, place in enumerate(before) if Path(place).name in _SITE_NAMES), len(before))
            brought = [place for place in sys.path[len(before) :] if place not in before]
            sys.path[:] = [*before[:below], *brought, *before[below:]]
        sys.executable = str(self.interpreter)
        multiprocessing.set_executable(sys.executable)
        os.environ["PATH"] = os.pathsep.join([str(self.interpreter.parent), os.environ.get("PATH", os.defpath)])

    def contradicted(self) -> list[str]:
        """The modules that this process has imported already and the layer brings of its own."""
        entries = (entry for entry in self.site.iterdir() if not entry.name.endswith((".dist-info", ".data", ".pth")))
        return sorted({entry.name.split(".")[0] for entry in entries} & sys.modules.keys())

    def replaced(self) -> Iterator[tuple[str, str, str]]:
        """Name, new and old version of each package that the layer has in another version than there is below."""
        below = [place for place in sys.path if Path(place) != self.site]
        here = {found.name: found.version for found in _distributions(*below)}
        for found in _distributions(self.site):
            if found.version != here.get(found.name, found.version):
                yield found.name, found.version, here[found.name]

    @property
    def _scratch(self) -> Path:
        return self.home / "tmp"

    def _working_directory(self, code: Path) -> Path:
        if not any(next(code.rglob(name), None) for name in _PROJECT_FILES):
            return code
        # The copy stays: an editable package is imported from it. What it does not hold is linked.
        copy = self.home / "model" / code.name
        shutil.copytree(code, copy, symlinks=True, ignore=lambda folder, _: [WHEELS] if folder == str(code) else [])
        for folder in (copy, *(entry for entry in copy.rglob("*") if entry.is_dir() and not entry.is_symlink())):
            folder.chmod(0o700)  # an archive's may be closed to writing
        for entry in (*code.glob(WHEELS), *code.parent.iterdir()):
            link = copy.parent / entry.relative_to(code.parent)
            if not link.exists():
                link.symlink_to(entry.resolve())
        return copy


def requirements_text(wanted: Path) -> str:
    """The file as pip reads it: UTF-8, or what its byte order mark says (PowerShell writes UTF-16).

    Raises `DeploymentError` for what is no text.
    """
    content = wanted.read_bytes()
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not is_utf_16 and _CODING.search(b"\n".join(content.splitlines()[:2])):
        return content.decode("latin-1")  # it names an encoding of its own, which pip obeys
    try:
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if is_utf_16 else "UTF-8"
        raise DeploymentError(f"{wanted} is not {kind} text: byte {error.start} cannot be decoded.") from None


def protected_version() -> str | None:
    """The version of torch that is here, None where there is none."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - brings a mail parser

    try:
        return version(PROTECTED)
    except PackageNotFoundError:
        return None


def _distributions(*places: Path | str) -> Iterator[Distribution]:
    from importlib.metadata import distributions  # noqa: PLC0415 - brings a mail parser

    return iter(distributions(path=[str(place) for place in places]))
