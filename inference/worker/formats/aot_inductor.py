"""Packages of AOTInductor as the archive's model, behind the check that forms have.

Only of an archive that the deployer trusts: the package holds a library that is loaded into the process. The compiled
code checks nothing of its inputs, and gives wrong numbers for another size or layout. So the manifest has to say what
it takes: `weights.signature`, as in the forms of a model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import MANIFEST
from tidegate.inference.own_folder import own_folder
from tidegate.inference.worker import comparing
from tidegate.inference.worker.forms.served_form import Run, ServedForm
from tidegate.inference.worker.forms.signature import Mistake, read

PREFIX = "tidegate-compiled-"
"""What the folders begin with that packages are unpacked into."""
_NAME = "model"
"""What torch calls the model of a package that was given no name."""


def load(path: Path, place: torch.device, described: Any) -> torch.nn.Module:
    """The model of a package, on `place`; `described` is the manifest's `weights.signature`.

    Raises `DeploymentError`.
    """
    if described is None:
        raise DeploymentError(
            f"{path} is a package of AOTInductor, whose code checks nothing of what it is given: say as "
            f"weights.signature in {MANIFEST} which tensors it takes, or export the model as a form, which says it."
        )
    try:
        signature = read(described, "weights.signature")
    except Mistake as error:
        raise DeploymentError(f"{path.parent / MANIFEST}: {error}.") from None
    try:
        run = opened(path, place)
    except Exception as error:
        raise DeploymentError(f"{path} cannot be loaded as a package of AOTInductor: {one_line(error)}.") from error
    return ServedForm(_NAME, signature, run, place, comparing.FULL)


def opened(path: Path, place: torch.device) -> Run:
    """What computes a package. Raises what torch raises.

    torch unpacks it below TMPDIR and removes that where its object ends, which in a worker nothing does. On the CPU all
    is read and mapped by then. A GPU's kernels are read when they are first called: what is left, the next one removes.
    """
    with ExitStack() as stack, _temporary_files_in(stack.enter_context(own_folder(PREFIX))):
        # Not aoti_load_package: for a warning about the processor it runs the C++ compiler some 270 times, where there
        # is one (pytorch#191715), and it unpickles what else is in the file.
        index = place.index or 0 if place.type == "cuda" else -1
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), _NAME, False, 1, index)
        run: Run = loader.boxed_run
        return partial(_computed, run, stack.pop_all()) if place.type == "cuda" else run


def _computed(run: Run, _: ExitStack, tensors: list[torch.Tensor]) -> Sequence[torch.Tensor]:
    return run(tensors)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let torch's own code, which is told by no argument, make its folders in `folder`."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
