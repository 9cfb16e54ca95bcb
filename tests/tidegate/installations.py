"""Virtual environments of their own in which Tidegate is installed, as pip installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.contract.running import free_port

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("client", "inference", "infra", "local_cloud", "training_hooks")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
ENTRY = (
    "container/__init__.py",
    *(str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("container/entrypoint/*.py")),
)
"""What of the image a wheel has too: its `train`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A virtual environment, and the checkout or the wheel that was installed into it."""

    home: Path
    source: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.home / "bin" / program), *arguments]

    def run(self, *words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=cwd,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @staticmethod
    def environment(**more: str) -> dict[str, str]:
        """This machine's variables without those that Python and Tidegate read, a port that nobody has, and `more`."""
        ours = ("PYTHON", "TIDEGATE_", "SAGEMAKER_", "SM_", "TS_", "OTEL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"SAGEMAKER_BIND_TO_PORT": str(free_port())} | more


def copy_of_the_checkout(place: Path, *, links: bool = True) -> Path:
    """`place`, with what is built from; without `links`, their texts in their places, as a .zip is often unpacked."""
    place.mkdir()
    for name in ("tidegate", *FOLDERS):
        shutil.copytree(
            REPOSITORY / name, place / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    (place / "container" / "entrypoint").mkdir(parents=True)
    for name in (*FILES, *ENTRY):
        shutil.copy(REPOSITORY / name, place / name)
    for link in () if links else (place / "tidegate" / name for name in FOLDERS):
        text = str(link.readlink())
        link.unlink()
        link.write_text(text)
    return place


def build(kind: str, source: Path, place: Path) -> Path:
    """The "sdist" or "wheel" that is made of the checkout `source`, in the new folder `place`."""
    place.mkdir()
    program = f"import setuptools.build_meta as build, sys; build.build_{kind}(sys.argv[1])"
    run([sys.executable, "-c", program, str(place)], cwd=source)
    (made,) = place.iterdir()
    return made


def install(root: Path, what: Path, *, editable: bool = False) -> Installation:
    """A new environment in `root`, with `what` installed into it."""
    home = root / "home"
    run([sys.executable, "-m", "venv", "--without-pip", str(home)])
    (site,) = home.glob("lib/python*/site-packages")
    # torch and what else is needed comes from the environment of this test, whose own Tidegate is not found this way.
    below = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
    (site / "of_the_test.pth").write_text("\n".join(below))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    pip += ["--no-cache-dir", "--no-index", "--no-deps", "--no-build-isolation"]
    run([*pip, *(["--editable"] if editable else []), str(what)])
    return Installation(home=home, source=what)


def run(command: list[str], cwd: Path | None = None) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    environment = kept | {"PIP_CONFIG_FILE": os.devnull}  # not this machine's
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
