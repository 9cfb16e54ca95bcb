"""What a training script imports: the model saved for serving, checkpoints, a failure report, a graceful stop.

    from tidegate.training_hooks import Example, save_model

`python -m training_hooks pack` makes the archive. Nothing here imports the server: the two meet in the files on disk.
"""

from .archive import PackedArchive, pack
from .artifact import save_model
from .checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from .container_paths import model_directory
from .directory import save_directory
from .errors import ArtifactError
from .example import Example
from .failure import reporting_failure
from .stopping import StopRequest, stopping_gracefully

__all__ = [
    "ArtifactError",
    "Checkpoint",
    "Example",
    "PackedArchive",
    "StopRequest",
    "latest_checkpoint",
    "model_directory",
    "pack",
    "reporting_failure",
    "save_checkpoint",
    "save_directory",
    "save_model",
    "stopping_gracefully",
]
