"""Packages of AOTInductor as the archive's model, behind the check that forms have.

Only of an archive that the deployer trusts: the package holds a library that is loaded into the process. The compiled
code checks nothing of its inputs, and gives wrong numbers for another size or layout. So the manifest has to say what
it takes: `weights.signature`, as in the forms of a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import MANIFEST
from tidegate.inference.worker import comparing
from tidegate.inference.worker.forms.served_form import ServedForm
from tidegate.inference.worker.forms.signature import Mistake, read

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
    index = place.index or 0 if place.type == "cuda" else -1
    try:
        # What aoti_load_package wraps: that runs the compiler for a warning, where there is one.
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), _NAME, False, 1, index)
    except Exception as error:
        raise DeploymentError(f"{path} cannot be loaded as a package of AOTInductor: {one_line(error)}.") from error
    return ServedForm(_NAME, signature, loader.boxed_run, place, comparing.FULL)
