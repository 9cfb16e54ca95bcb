"""A training script's requirements.txt, installed into a virtual environment of the job's own on top of the image's.

So the image's packages stay as they are: any user can bring packages, on a read-only disk too, and what a job replaces
it replaces for itself alone, and is told so. torch is pinned to the one that is here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections import deque
from collections.abc import Iterator, MutableMapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from container.entrypoint.training_failure import TrainingFailed
from inference.frontend import pip_failure
from inference.layout import REQUIREMENTS, WHEELS

PROTECTED = "torch"
"""The package that a script's requirements cannot replace: the image was built around it."""

KEPT_LINES = 200


def install(code_dir: Path, environment: MutableMapping[str, str]) -> Path:
    """Install code_dir/requirements.txt, if it is there; returns the interpreter that has it, and the image's packages.

    Where code_dir/wheels is a folder, the packages come from there and from nowhere else, as they do for a model.

    The programs of that environment come first on PATH, `torchrun` among them. Raises `TrainingFailed` with pip's own
    reason, `OSError` where nothing can be written below the directory for temporary files.
    """
    wanted = code_dir / REQUIREMENTS
    if not wanted.is_file():
        return Path(sys.executable)
    home = Path(tempfile.mkdtemp(prefix="tidegate-job-"))
    venv.EnvBuilder(symlinks=True, with_pip=False).create(home)
    interpreter = home / "bin/python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    ours = sysconfig.get_path("purelib")
    # Not PYTHONPATH: it would come before the standard library, and .pth files in it would not be read.
    (site / "image.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    wheels = code_dir / WHEELS
    offline = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
    _pip(interpreter, wanted, offline, environment)
    for name, brought, here in _replaced(site, ours):
        print(  # noqa: T201
            f"tidegate: warning: {wanted} brings {name} {brought} in the place of {here}, for this job alone",
            file=sys.stderr,
            flush=True,
        )
    _adopt_programs(Path(sys.executable).parent, interpreter)
    environment["PATH"] = f"{interpreter.parent}:{environment.get('PATH', os.defpath)}"
    return interpreter


def _pip(interpreter: Path, wanted: Path, offline: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Run pip; its output goes through. It finds what the image has, and leaves that where it is."""
    stays = _version(PROTECTED)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="tidegate-constraint-") as constraint:
        constraint.write(f"{PROTECTED}=={stays}\n" if stays else "")
        constraint.flush()
        words = [str(interpreter), "-P", "-m", "pip", "install", "--no-input", "--no-cache-dir"]
        words += ["--requirement", str(wanted), "--constraint", constraint.name, *offline]
        said: deque[str] = deque(maxlen=KEPT_LINES)
        with subprocess.Popen(
            words,
            cwd=wanted.parent,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as pip:
            assert pip.stdout is not None  # noqa: S101 - asked for above
            try:
                for line in pip.stdout:
                    sys.stdout.write(line)
                    sys.stdout.flush()
                    said.append(line)
            except BaseException:  # a signal that ends the job
                pip.kill()
                raise
    if pip.returncode != 0:
        raise TrainingFailed(f"{wanted} cannot be installed: {pip_failure.sentence(''.join(said), stays or '')}.")


def _replaced(site: Path, ours: str) -> Iterator[tuple[str, str, str]]:
    """Name, new and old version of everything in `site` that the image has in another version."""
    here = {found.name: found.version for found in distributions(path=[ours])}
    for found in distributions(path=[str(site)]):
        if found.version != here.get(found.name, found.version):
            yield found.name, found.version, here[found.name]


def _adopt_programs(programs: Path, interpreter: Path) -> None:
    """Put the image's Python programs beside `interpreter`, to be run by it: they must find the job's packages too."""
    for program in programs.iterdir():
        copy = interpreter.parent / program.name
        if copy.exists() or not program.is_file():
            continue
        first, _, rest = program.read_bytes().partition(b"\n")
        if first.startswith(f"#!{programs}/python".encode()):
            copy.write_bytes(f"#!{interpreter}\n".encode() + rest)
            copy.chmod(0o755)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
