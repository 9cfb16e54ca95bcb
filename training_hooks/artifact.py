"""save_model: from a trained model to a directory that the server takes, in one all-or-nothing step.

How a save goes, and what holds when it is interrupted at each point:

1. check    everything the caller gave is checked and converted      nothing was written
2. stage    all files are written and synced below `.save-…/`, its   the previous artifact is untouched
            own manifest last
3. commit   the files are renamed into place, manifest.json last     who verifies the manifest sees the previous
                                                                     artifact or a mismatch, never a mixture
4. tidy     files of the previous artifact that are no longer        the new artifact is complete
            listed are removed

Several files cannot be renamed in one step, and `/opt/ml/model` is a mount point that cannot be swapped as a whole. So
a kill during step 3 (a few renames) leaves a directory that the server refuses; the complete staging directory is
still there, and the next `save_model` or `pack` on the directory finishes the renames.
"""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .architecture import check_architecture, describe_architecture
from .container_paths import model_directory
from .durable_files import move_into_place, sync_directory, sync_file, write_file
from .errors import ArtifactError
from .example import Body, Example, answer_from_code, encode_example
from .file_tree import STAGING_PREFIX, list_files
from .manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    dump_manifest,
    listed_files,
    measure_file,
    read_manifest,
)
from .plain_values import to_floats, to_json
from .weights import portable_state_dict, write_loadable

WEIGHTS_NAME = "model.pth"
LABELS_NAME = "labels.json"
PREPROCESSING_NAME = "preprocessing.json"

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")  # the pattern of SageMaker's model names


def save_model(
    model: nn.Module | Mapping[str, Any],
    *,
    model_dir: str | os.PathLike[str] | None = None,
    name: str = "model",
    labels: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    code_dir: str | os.PathLike[str] | None = None,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    example: Example | None = None,
    allow_non_finite: bool | Collection[str] = False,
) -> Path:
    """Write a model and all that serving it needs into the model directory, atomically.

    The directory then holds `model.pth` (a state dict of contiguous CPU tensors, loadable with
    `torch.load(..., weights_only=True)`), what of `labels.json`, `preprocessing.json`, `example/` and `code/` was
    given, and `manifest.json` with the size and SHA-256 of each. Call it on one process only (rank 0).

        save_model(
            net,
            labels=["cat", "dog"],
            preprocessing={"mean": 0.5, "std": 0.25},
            metrics={"accuracy": accuracy},
            code_dir="code",
            example=Example(request=images[:1]),
        )

    Args:
        model: the module, or its state dict. Wrappers and their prefixes (`module.`, `_orig_mod.`) are taken off.
        model_dir: where to; the variable SM_MODEL_DIR if omitted, and /opt/ml/model inside a SageMaker container.
        name: of the model: letters, digits and inner hyphens, at most 63.
        labels: class names, in the order of the model's outputs; distinct and not empty.
        preprocessing: constants that the inference code reads back, as a JSON object; numpy values are converted.
        metrics: numbers to keep with the model; numpy and torch scalars become floats.
        code_dir: directory with `inference.py` (and helpers, requirements.txt), copied to `code/`.
        architecture: the network's class, or a function that returns the network, as `module:Class` of `code_dir`; with
            it the server needs no `model_fn`, and `code_dir` no inference.py. It is tried out before anything is kept.
        arguments: what the architecture is called with, as keywords that JSON can hold.
        example: a request the server must answer as recorded before it takes traffic. Without a response of its own,
            the functions in `code_dir` are run on the saved files and their answer is recorded.
        allow_non_finite: True, or the names of weights that may hold NaN or infinity.

    Returns:
        The model directory.

    Raises:
        ArtifactError: one sentence naming what is wrong; the previous artifact in the directory is then untouched.
        OSError: the directory cannot be written, or the disk is full (a save needs room for a second copy).
    """
    target = model_directory(model_dir)
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ArtifactError(f"name is {name!r}; it must be letters, digits and inner hyphens, at most 63")
    described: dict[str, bytes] = {}
    if labels is not None:
        described[LABELS_NAME] = to_json(_checked_labels(labels), "labels")
    if preprocessing is not None:
        if not isinstance(preprocessing, Mapping):
            raise ArtifactError(f"preprocessing is a {type(preprocessing).__name__}; give a mapping of constants")
        described[PREPROCESSING_NAME] = to_json(preprocessing, "preprocessing")
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "frameworks": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "weights": {"file": WEIGHTS_NAME, "format": "state_dict", **describe_architecture(architecture, arguments)},
    }
    if labels is not None:
        manifest["labels"] = LABELS_NAME
    if preprocessing is not None:
        manifest["preprocessing"] = PREPROCESSING_NAME
    if metrics is not None:
        manifest["metrics"] = to_floats(metrics)
    code = _code_files(code_dir, architecture)
    bodies = encode_example(example, has_code="code/inference.py" in code) if example is not None else None
    state = portable_state_dict(model, allow_non_finite=allow_non_finite)

    target.mkdir(parents=True, exist_ok=True)
    with exclusive(target):
        finish_interrupted_save(target)
        stage = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=target))
        try:
            write_loadable(state, stage / WEIGHTS_NAME, what="model.pth")
            sync_file(stage / WEIGHTS_NAME)
            for file_name, data in described.items():
                write_file(stage / file_name, data)
            for file_name, path in code.items():
                write_file(stage / file_name, path.read_bytes())
            if architecture is not None:
                check_architecture(stage, manifest["weights"])
            staged = [WEIGHTS_NAME, *described, *code]
            if example is not None and bodies is not None:
                manifest["example"], files = _stage_example(stage, example, *bodies)
                staged += files
            _check_room(target, staged)
            manifest["files"] = {file: measure_file(stage / file).as_json() for file in sorted(staged)}
            write_file(stage / "manifest.tmp", dump_manifest(manifest))
            sync_directory(stage)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        # From here on the staging directory is complete: an interruption is finished, not undone, by the next call.
        move_into_place(stage / "manifest.tmp", stage / MANIFEST_NAME)
        _commit(stage, target)
    return target


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: one save or pack at a time. The lock is on the directory itself and leaves no file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"another process is saving or packing {directory}; in distributed training call save_model on rank 0"
            ) from None
        except OSError:
            pass  # a file system without locks; the renames stay atomic one by one
        yield
    finally:
        os.close(descriptor)


def finish_interrupted_save(target: Path) -> None:
    """Finish the renames of a save that was killed in the middle of them, and remove what other kills left.

    The caller holds the lock. Afterwards the directory holds one complete artifact, or none if there never was one.
    """
    for stage in sorted(target.glob(STAGING_PREFIX + "*")):
        if (stage / MANIFEST_NAME).is_file():
            _commit(stage, target)
        else:
            shutil.rmtree(stage)


def _commit(stage: Path, target: Path) -> None:
    """Move the staged files to their names, the manifest last; each step may already have been done."""
    new = listed_files(read_manifest(stage), stage / MANIFEST_NAME)
    try:
        old = listed_files(read_manifest(target), target / MANIFEST_NAME)
    except ArtifactError:
        old = {}  # none yet, or not one of ours: nothing to tidy
    for file_name in new:
        if (stage / file_name).exists():
            move_into_place(stage / file_name, target / file_name)
    move_into_place(stage / MANIFEST_NAME, target / MANIFEST_NAME)
    for file_name in old.keys() - new.keys():
        (target / file_name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: something else lives there
            (target / file_name).parent.rmdir()
    shutil.rmtree(stage)


def _checked_labels(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str | bytes) or not isinstance(labels, Sequence):
        raise ArtifactError(f"labels is a {type(labels).__name__}; give a list of class names")
    if not labels:
        raise ArtifactError("labels is empty; give one name per class or leave it out")
    first_index: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label:
            raise ArtifactError(f"labels[{index}] is {label!r}; a class name must be text and not empty")
        if label in first_index:
            raise ArtifactError(f"labels[{index}] repeats {label!r} of labels[{first_index[label]}]")
        first_index[label] = index
    return list(labels)


def _code_files(place: str | os.PathLike[str] | None, architecture: str | None) -> dict[str, Path]:
    if place is None:
        if architecture is not None:
            raise ArtifactError(f"the architecture {architecture!r} needs code_dir, the folder with its module")
        return {}
    code_dir = Path(place)
    if not code_dir.is_dir():
        raise ArtifactError(f"code_dir {code_dir} is not a directory")
    files = {f"code/{file_name}": path for file_name, path in list_files(code_dir).items()}
    if architecture is None and "code/inference.py" not in files:
        raise ArtifactError(f"code_dir {code_dir} has no inference.py")
    return files


def _stage_example(
    stage: Path, example: Example, request: Body, response: Body | None
) -> tuple[dict[str, Any], list[str]]:
    request_name = request.file_name("request")
    write_file(stage / request_name, request.data)
    if response is None:
        response = answer_from_code(stage, request, example)
    response_name = response.file_name("response")
    write_file(stage / response_name, response.data)
    described = {
        "request": {"file": request_name, "content_type": request.content_type, "accept": example.accept},
        "response": {"file": response_name, "content_type": response.content_type},
        "rtol": float(example.rtol),
        "atol": float(example.atol),
    }
    return described, [request_name, response_name]


def _check_room(target: Path, file_names: Collection[str]) -> None:
    """Find before the first rename what would stop a later one."""
    for file_name in [*file_names, MANIFEST_NAME]:
        path = target / file_name
        if path.is_dir():
            raise ArtifactError(f"{path} is a directory; a file of that name has to be written")
        for parent in path.relative_to(target).parents:
            if (target / parent).exists() and not (target / parent).is_dir():
                raise ArtifactError(f"{target / parent} is a file; a directory of that name has to be made")
