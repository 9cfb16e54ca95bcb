"""Where a SageMaker training container keeps things, and where they are when the script runs elsewhere.

The platform mounts `/opt/ml`; the SM_* variables exist only in images with the training toolkit. An argument wins
over a variable, and the fixed path is used only where `/opt/ml` exists: a script on a laptop must say where to write.
"""

import os
import tempfile
from pathlib import Path

from .arguments import as_path
from .errors import ArtifactError

ML_ROOT = Path("/opt/ml")


def model_directory(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory that becomes model.tar.gz, made and writable: say first thing where the model will go.

        model_dir = model_directory(options.model_dir)  # what is wrong is known now, and not when the training is over
        ...
        save_model(net, model_dir=model_dir)

    Args:
        given: the directory; the variable SM_MODEL_DIR if omitted, and /opt/ml/model inside a SageMaker container.

    Raises:
        ArtifactError: nobody says where, or nothing can be written there.
    """
    chosen = needed_model_directory(given)
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            pass
    except OSError as error:
        raise ArtifactError(f"the model directory {chosen} cannot be written to: {error.strerror}") from None
    return chosen


def needed_model_directory(given: object) -> Path:
    """Return the argument, SM_MODEL_DIR, or /opt/ml/model. Raises `ArtifactError` where there is none of these."""
    chosen = chosen_model_directory(given)
    if chosen is None:
        raise ArtifactError(
            "say where to save: pass model_dir or set SM_MODEL_DIR (this is not a SageMaker container); a script that "
            "begins with model_directory() learns this before the training"
        )
    return chosen


def chosen_model_directory(given: object) -> Path | None:
    """Return the argument, SM_MODEL_DIR, /opt/ml/model, or None on a laptop."""
    chosen = _choose(given, "model_dir", "SM_MODEL_DIR", "model")
    if chosen is not None and chosen.exists() and not chosen.is_dir():
        raise ArtifactError(f"the model directory {chosen} is a file")
    return chosen


def checkpoint_directory(given: str | os.PathLike[str] | None) -> Path:
    """Return the directory that SageMaker copies to S3 and back: the argument, or /opt/ml/checkpoints."""
    chosen = _choose(given, "directory", None, "checkpoints")
    if chosen is None:
        raise ArtifactError("say where the checkpoints are: pass directory (this is not a SageMaker container)")
    if chosen.exists() and not chosen.is_dir():
        raise ArtifactError(f"directory {chosen} is a file; give the directory of the checkpoints")
    return chosen


def output_directory(given: str | os.PathLike[str] | None) -> Path | None:
    """Return where the failure file goes: the argument, SM_OUTPUT_DIR, /opt/ml/output, or None on a laptop."""
    return _choose(given, "output_dir", "SM_OUTPUT_DIR", "output")


def _choose(given: object, parameter: str, variable: str | None, folder: str) -> Path | None:
    if given is not None:
        return as_path(given, parameter)
    if variable and os.environ.get(variable):
        return as_path(os.environ[variable], variable)
    return ML_ROOT / folder if ML_ROOT.is_dir() else None
