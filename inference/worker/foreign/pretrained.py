"""A directory of `save_pretrained`, opened as a pipeline of the archive's own transformers."""

from __future__ import annotations

import difflib
import importlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line, text_of

TASK = "HF_TASK"
TRUST = "HF_TRUST_REMOTE_CODE"
PIPELINE = "transformers.pipeline"

_CONFIG = "config.json"


def is_there(root: Path) -> bool:
    """Whether `save_pretrained` of transformers wrote a model into `root`."""
    try:
        said = json.loads((root / _CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and ("model_type" in said or "architectures" in said)


def open_pipeline(root: Path, task: str, place: torch.device | None, *, trust_code: bool) -> Any:
    """The pipeline for `task` with the model in `root`, on `place`. Raises `DeploymentError`.

    Without a `place` it is spread over all GPUs that this process sees, by the archive's own accelerate.

    Nothing is downloaded, and weights in a pickle (`pytorch_model.bin`) are read by transformers as data.
    """
    # transformers asks these when it is imported. What is not in the archive is an error at once, and no wait for a
    # network that an endpoint may not have.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        pipelines: Any = importlib.import_module("transformers.pipelines")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "transformers":
            raise
        raise DeploymentError(
            f"{TASK}={task} asks for a pipeline of transformers, which is not here: name it in code/requirements.txt, "
            "with its version, or add code/inference.py with a model_fn."
        ) from None
    try:
        where = {"device_map": "auto"} if place is None else {"device": place}
        return pipelines.pipeline(task=task, model=str(root), trust_remote_code=trust_code, **where)
    except Exception as error:
        if (fault := _unknown(task, pipelines)) is not None:
            raise DeploymentError(f"{TASK}={task}: {fault}.") from None
        if not trust_code and "trust_remote_code" in text_of(error):
            raise DeploymentError(
                f"The model in {root} brings code of its own, which transformers runs only where {TRUST}=on says that "
                "it may."
            ) from error
        raise DeploymentError(
            f"{TASK}={task}: transformers cannot make a pipeline of {root}: {type(error).__name__}: {one_line(error)}."
        ) from error


def _unknown(task: str, pipelines: Any) -> str | None:
    """Why there is no such task, with those that were meant; None for one that there is."""
    known = [str(each) for each in pipelines.PIPELINE_REGISTRY.get_supported_tasks()]
    version = importlib.import_module("transformers").__version__
    gone = getattr(pipelines, "REMOVED_TASKS", {}).get(task)
    if gone is not None:
        return (
            f"transformers {version} has this task no more; name an older one in code/requirements.txt ({gone[:200]})"
        )
    if task in known or task.startswith("translation_"):
        return None
    near = difflib.get_close_matches(task, known, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}" if near else f"there are {', '.join(known)}"
    return f"transformers {version} has no such task; {meant}"
