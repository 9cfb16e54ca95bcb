"""What a training script imports: the model saved for serving, checkpoints, a failure report, a graceful stop.

    from tidegate.training_hooks import Example, save_model

`tidegate pack` makes the archive, `export` gives it faster forms, `publish` brings a model into a
repository. Nothing here imports the server: the two meet in the files on disk.
"""

from .archive import PackedArchive, pack
from .artifact import save_model
from .checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
from .container_paths import model_directory
from .directory import save_directory
from .errors import ArtifactError
from .example import Example
from .export import Exported, export
from .failure import reporting_failure
from .publishing.actions import Published, list_models, publish, remove_label, retire, set_label
from .publishing.contents import PublishedModel, PublishedVersion
from .recorded_lineage import Lineage, lineage_of
from .stopping import StopRequest, stopping_gracefully

__all__ = [
    "ArtifactError",
    "Checkpoint",
    "Example",
    "Exported",
    "Lineage",
    "PackedArchive",
    "Published",
    "PublishedModel",
    "PublishedVersion",
    "StopRequest",
    "export",
    "latest_checkpoint",
    "lineage_of",
    "list_models",
    "model_directory",
    "pack",
    "publish",
    "remove_label",
    "reporting_failure",
    "retire",
    "save_checkpoint",
    "save_directory",
    "save_model",
    "set_label",
    "stopping_gracefully",
]
