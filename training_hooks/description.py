"""What goes with a model into its artifact, whatever the model is: labels, constants, metrics, code, an example."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .errors import ArtifactError
from .example import Body, Example, answer_from_code, encode_example
from .file_tree import list_files
from .manifest import FORMAT_VERSION
from .plain_values import to_floats, to_json
from .staging import Stage

LABELS_NAME = "labels.json"
PREPROCESSING_NAME = "preprocessing.json"

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")  # the pattern of SageMaker's model names


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything checked and converted, so that what is wrong is known before the first byte is written.

    Attributes:
        manifest: what the manifest says of it.
        files: the files that describe the model, by name.
        code: the files of the code directory, by their names in the artifact.
        example: as it was given, if it was; its request; and its response, unless the code is to compute it.
    """

    manifest: dict[str, Any]
    files: dict[str, bytes]
    code: dict[str, Path]
    example: tuple[Example, Body, Body | None] | None

    def add_files(self, stage: Stage) -> None:
        """Write labels, constants and code."""
        for name, data in self.files.items():
            stage.write(name, data)
        for name, path in self.code.items():
            stage.write(name, path.read_bytes())

    def add_example(self, stage: Stage, manifest: dict[str, Any]) -> None:
        """Write the example, with the answer of the code where it has none of its own. All other files are there."""
        if self.example is None:
            return
        example, request, response = self.example
        request_name = request.file_name("request")
        stage.write(request_name, request.data)
        if response is None:
            response = answer_from_code(stage.path, request, example)
        response_name = response.file_name("response")
        stage.write(response_name, response.data)
        manifest["example"] = {
            "request": {"file": request_name, "content_type": request.content_type, "accept": example.accept},
            "response": {"file": response_name, "content_type": response.content_type},
            "rtol": float(example.rtol),
            "atol": float(example.atol),
        }


def describe(
    *,
    name: str,
    labels: Sequence[str] | None,
    preprocessing: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    code_dir: str | os.PathLike[str] | None,
    architecture: str | None,
    example: Example | None,
) -> Description:
    """Check and convert what `save_model` was given beside the model.

    Raises:
        ArtifactError: one sentence naming the argument and what is wrong with it.
    """
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ArtifactError(f"name is {name!r}; it must be letters, digits and inner hyphens, at most 63")
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "frameworks": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    files: dict[str, bytes] = {}
    if labels is not None:
        files[LABELS_NAME] = to_json(_checked_labels(labels), "labels")
        manifest["labels"] = LABELS_NAME
    if preprocessing is not None:
        if not isinstance(preprocessing, Mapping):
            raise ArtifactError(f"preprocessing is a {type(preprocessing).__name__}; give a mapping of constants")
        files[PREPROCESSING_NAME] = to_json(preprocessing, "preprocessing")
        manifest["preprocessing"] = PREPROCESSING_NAME
    if metrics is not None:
        manifest["metrics"] = to_floats(metrics)
    code = _code_files(code_dir, architecture)
    encoded = None
    if example is not None:
        encoded = (example, *encode_example(example, has_code="code/inference.py" in code))
    return Description(manifest=manifest, files=files, code=code, example=encoded)


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
