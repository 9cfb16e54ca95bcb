"""An environment of its own for every server that is measured.

Torch, numpy and Pillow are the work and therefore the same for everyone: they are installed once, in the environment
`base`, and every other one sees them through a `.pth` file. A server's own pins come first on its path. Nothing of the
project's development environment is visible in any of them. All of it lives in `build/benchmarks/environments/`.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"
REQUIREMENTS = Path(__file__).resolve().parent / "peers"


class CannotInstall(Exception):
    """An environment could not be made; the text is the installer's last lines."""


def python_of(name: str) -> Path:
    """The interpreter of environment `name`, which is made first, or made again if its requirements changed.

    Raises `CannotInstall` with the installer's last lines.
    """
    place = BUILD / "environments" / name
    python = place / "bin" / "python"
    stamp = place / "installed.sha256"
    requirements = _requirements(name)
    wanted = hashlib.sha256(f"{sys.version}\n{requirements}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment of {name} in {place.relative_to(ROOT)}", flush=True)
    venv.create(place, clear=True, with_pip=False)
    if name != "base":
        site = next((place / "lib").glob("python*/site-packages"))
        (site / "base.pth").write_text(f"{_site_packages(python_of('base'))}\n")
    pins = place / "requirements.txt"
    pins.write_text(requirements)
    _install(python, pins)
    stamp.write_text(wanted)
    return python


def versions_in(name: str) -> dict[str, str]:
    """Every distribution that the environment sees, by name, for the record beside the results."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    command = [str(python_of(name)), "-I", "-c", code]
    return dict(sorted(json.loads(subprocess.check_output(command, text=True)).items()))


def _requirements(name: str) -> str:
    """The pins of `name`: a file beside its application; ours: those of the extra `serve`, as the project pins them."""
    if name != "tidegate":
        return (REQUIREMENTS / name / "requirements.txt").read_text()
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = {_project(line) for line in tomllib.load(file)["project"]["optional-dependencies"]["serve"]}
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if _project(line) in wanted]
    return "\n".join(pins) + "\n"


def _project(requirement: str) -> str:
    """The normalised name of the distribution that a requirement is about."""
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def _site_packages(python: Path) -> Path:
    return next((python.parent.parent / "lib").glob("python*/site-packages")).resolve()


def _install(python: Path, requirements: Path) -> None:
    # The installer of the interpreter that runs this: the environments need no pip of their own.
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        raise CannotInstall("; ".join((done.stdout + done.stderr).strip().splitlines()[-3:]))
