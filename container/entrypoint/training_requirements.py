"""A training script's requirements.txt, installed into a layer of the job's own on top of the image's packages.

So the image's packages stay as they are: any user can bring packages, on a read-only disk too, and what a job replaces
it replaces for itself alone, and is told so. The rules are those of a model's requirements; what differs is that pip's
output goes through to the job's log as it comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from container.entrypoint.held_signals import held
from container.entrypoint.training_failure import TrainingFailed
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.packages import pip_failure
from tidegate.inference.layout import REQUIREMENTS
from tidegate.inference.package_layer import PackageLayer, protected_version, requirements_text

KEPT_LINES = 5000
"""How much of the end of pip's output is looked at for the reason of its failure."""


def install(code_dir: Path, environment: MutableMapping[str, str]) -> Path:
    """Install code_dir/requirements.txt, if it is there; returns the interpreter that has it, and the image's packages.

    Where code_dir/wheels is a folder, the packages come from there and from nowhere else, as they do for a model.

    The programs of that layer come first on PATH, `torchrun` among them. Raises `TrainingFailed` with pip's own
    reason, `OSError` where nothing can be written below the directory for temporary files.
    """
    wanted = code_dir / REQUIREMENTS
    if not wanted.is_file():
        return Path(sys.executable)
    layer = PackageLayer(Path(tempfile.mkdtemp(prefix="tidegate-job-")))
    layer.create()
    _fill(layer, wanted, environment)
    for name, brought, here in layer.replaced():
        print(  # noqa: T201
            f"tidegate: warning: {wanted} brings {name} {brought} in the place of {here}, for this job alone",
            file=sys.stderr,
            flush=True,
        )
    environment["PATH"] = f"{layer.interpreter.parent}:{environment.get('PATH', os.defpath)}"
    return layer.interpreter


def _fill(layer: PackageLayer, wanted: Path, environment: MutableMapping[str, str]) -> None:
    try:
        requirements_text(wanted)
    except DeploymentError as error:
        raise TrainingFailed(str(error)) from None
    words, directory = layer.pip_command(wanted)
    said: deque[str] = deque(maxlen=KEPT_LINES)
    with contextlib.ExitStack() as around:
        with held():
            pip = subprocess.Popen(
                words,
                cwd=directory,
                env=layer.pip_variables(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                # So that what pip starts can be ended too, and finds no terminal to ask for a password.
                start_new_session=True,
            )
            around.enter_context(pip)
            around.enter_context(_killed_where_the_job_ends(pip))
        assert pip.stdout is not None  # noqa: S101 - asked for above
        for line in map(pip_failure.redacted, pip.stdout):
            sys.stdout.write(line)
            sys.stdout.flush()
            said.append(line)
    try:
        if pip.returncode != 0:
            raise DeploymentError(pip_failure.sentence("".join(said), protected_version() or "none"))
        layer.finish()
    except DeploymentError as error:
        raise TrainingFailed(f"{wanted} cannot be installed: {error}.") from None


@contextlib.contextmanager
def _killed_where_the_job_ends(pip: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:  # a signal
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pip.pid, signal.SIGKILL)
        raise
