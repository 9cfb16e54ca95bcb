"""Where a SageMaker training container keeps things, and where they are when the script runs elsewhere.

The platform mounts `/opt/ml`; the SM_* variables exist only in images with the training toolkit. An argument wins
over a variable, and the fixed path is used only where `/opt/ml` exists: a script on a laptop must say where to write.
"""

import os
from pathlib import Path

from .errors import ArtifactError

ML_ROOT = Path("/opt/ml")


def model_directory(given: str | os.PathLike[str] | None) -> Path:
    """Return the directory that becomes model.tar.gz: the argument, SM_MODEL_DIR, or /opt/ml/model."""
    chosen = _choose(given, "SM_MODEL_DIR", "model")
    if chosen is None:
        raise ArtifactError("say where to save: pass model_dir or set SM_MODEL_DIR (this is no SageMaker container)")
    if chosen.exists() and not chosen.is_dir():
        raise ArtifactError(f"the model directory {chosen} is a file")
    return chosen


def checkpoint_directory(given: str | os.PathLike[str] | None) -> Path:
    """Return the directory that SageMaker copies to S3 and back: the argument, or /opt/ml/checkpoints."""
    chosen = _choose(given, None, "checkpoints")
    if chosen is None:
        raise ArtifactError("say where the checkpoints are: pass directory (this is no SageMaker container)")
    return chosen


def output_directory(given: str | os.PathLike[str] | None) -> Path | None:
    """Return where the failure file goes: the argument, SM_OUTPUT_DIR, /opt/ml/output, or None on a laptop."""
    return _choose(given, "SM_OUTPUT_DIR", "output")


def _choose(given: str | os.PathLike[str] | None, variable: str | None, folder: str) -> Path | None:
    if given is not None:
        return Path(given).absolute()
    if variable and os.environ.get(variable):
        return Path(os.environ[variable]).absolute()
    return ML_ROOT / folder if ML_ROOT.is_dir() else None
