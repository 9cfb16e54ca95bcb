"""Checkpoints that a Spot interruption cannot spoil, in the directory that SageMaker copies to and from S3.

SageMaker uploads `/opt/ml/checkpoints` while the job runs and restores it before a restarted job begins, so a script
that loads the latest checkpoint at its start resumes by itself.
"""

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .arguments import as_whole_number, shown
from .container_paths import checkpoint_directory
from .durable_files import replacing
from .errors import ArtifactError
from .unfinished_files import remove_abandoned
from .weight_files import write_loadable
from .weights import refuse_unloadable

_FILE_NAME = re.compile(r"checkpoint-(\d{12})\.pth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint read back.

    Attributes:
        step: the number given when it was saved.
        state: what was saved, tensors on the chosen device.
        path: the file.
    """

    step: int
    state: dict[str, Any]
    path: Path


def save_checkpoint(
    state: Mapping[str, Any],
    *,
    step: int,
    directory: str | os.PathLike[str] | None = None,
    keep_last: int = 3,
) -> Path:
    """Write one checkpoint atomically; keep it and the newest others, `keep_last` in all, and remove the rest.

    Several processes may save into one directory; of two that save the same step, the later one is kept.

    Args:
        state: tensors and plain values, nested as you like: state dicts of model, optimizer and scheduler, the epoch.
        step: epoch or step number, at least 0; saving the same step again replaces it.
        directory: /opt/ml/checkpoints inside a SageMaker container if omitted.
        keep_last: how many to keep, at least 1.

    Returns:
        The file.

    Raises:
        ArtifactError: naming a nested value that could not be loaded again without unpickling code.
    """
    step = as_whole_number(step, "step", least=0, most=10**12 - 1)
    keep_last = as_whole_number(keep_last, "keep_last", least=1, most=10**12)
    if not isinstance(state, Mapping):
        raise ArtifactError(f"state is {shown(state)}; give a mapping, such as {{'net': net.state_dict()}}")
    for key, value in state.items():
        refuse_unloadable(key, f"the key {shown(key)} of state")
        refuse_unloadable(value, f"state[{shown(key)}]")
    target_dir = checkpoint_directory(directory)
    remove_abandoned(target_dir, ".checkpoint-*.tmp")  # S3 would bring what a kill left back for ever
    path = target_dir / f"checkpoint-{step:012d}.pth"
    with replacing(path) as temporary:
        write_loadable(dict(state), temporary, what="the checkpoint")
    others = [other for other in _newest_first(target_dir) if other.name != path.name]
    for old in others[keep_last - 1 :]:
        old.unlink(missing_ok=True)
    return path


def latest_checkpoint(
    directory: str | os.PathLike[str] | None = None, *, map_location: str | torch.device = "cpu"
) -> Checkpoint | None:
    """Load the newest readable checkpoint, or return None when there is none to resume from.

    A file that cannot be read (damaged on its way through S3, say) is passed over with a warning.

    Raises:
        ArtifactError: a sound file cannot be brought to `map_location`, such as a GPU that is not there.
    """
    target_dir = checkpoint_directory(directory)
    passed_over: set[Path] = set()
    # Listed anew each time: another process may save meanwhile, and remove what was the newest.
    while left := [path for path in _newest_first(target_dir) if path not in passed_over]:
        path = left[0]
        passed_over.add(path)
        try:
            state = torch.load(path, map_location=map_location, weights_only=True)
        except FileNotFoundError:
            continue
        except Exception as error:  # torch.load has four families of errors for a bad file
            if _is_sound(path):
                reason = str(error).partition("\n")[0][:200]
                raise ArtifactError(
                    f"{path} is sound, but cannot be loaded with map_location={shown(map_location)}: {reason}"
                ) from error
            warnings.warn(f"{path} cannot be read and is passed over: {error}", stacklevel=2)
            continue
        if not isinstance(state, dict):
            warnings.warn(f"{path} holds no checkpoint and is passed over", stacklevel=2)
            continue
        return Checkpoint(step=_step(path), state=state, path=path)
    return None


def _is_sound(path: Path) -> bool:
    """Say whether the file can be read where no device is asked for: then the device is what is wrong."""
    try:
        return isinstance(torch.load(path, map_location="cpu", weights_only=True, mmap=True), dict)
    except Exception:
        return False


def _step(path: Path) -> int:
    match = _FILE_NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _newest_first(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted((path for path in directory.iterdir() if _step(path) >= 0), key=_step, reverse=True)
