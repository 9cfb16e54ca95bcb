"""What a training script imports: the model saved for serving, checkpoints, a failure report, a graceful stop.

    from tidegate.training_hooks import Example, save_model

`tidegate pack` makes the archive, `export` gives it faster forms, `publish` brings a model into a
repository. Nothing here imports the server: the two meet in the files on disk.

What needs torch is imported when it is first named: `pack`, `publish` and their commands answer without it, a second
sooner or more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .archive import PackedArchive, pack
from .container_paths import model_directory
from .errors import ArtifactError
from .export import Exported, export
from .failure import reporting_failure
from .publishing.actions import Published, list_models, publish, remove_label, retire, set_label
from .publishing.contents import PublishedModel, PublishedVersion
from .recorded_lineage import Lineage, lineage_of
from .stopping import StopRequest, stopping_gracefully

if TYPE_CHECKING:
    from .artifact import save_model
    from .checkpoints import Checkpoint, latest_checkpoint, save_checkpoint
    from .directory import save_directory
    from .example import Example

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

_NEED_TORCH = {
    "Checkpoint": "checkpoints",
    "Example": "example",
    "latest_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "save_directory": "directory",
    "save_model": "artifact",
}
"""Of what module each of these is."""


def __getattr__(name: str) -> Any:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
