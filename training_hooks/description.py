"""What goes with a model into its artifact, whatever the model is: labels, constants, metrics, code, an example."""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .arguments import as_path, kind_of, shown
from .batching import checked_batching
from .declarations.together import declare
from .errors import ArtifactError
from .example import EncodedExample, answer_from_code, encode_example
from .file_tree import list_files
from .handler_file import missing_handler_file
from .labels import checked_labels
from .lineage import checked_lineage
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
        example: the example, if one was given.
    """

    manifest: dict[str, Any]
    files: dict[str, bytes]
    code: dict[str, Path]
    example: EncodedExample | None

    def add_files(self, stage: Stage) -> None:
        """Write labels, constants and code."""
        for name, data in self.files.items():
            stage.write(name, data)
        for name, path in self.code.items():
            stage.write(name, path.read_bytes())

    def add_example(self, stage: Stage, manifest: dict[str, Any]) -> None:
        """Write the example, with the answer of the code where it has none of its own. All other files are there."""
        example = self.example
        if example is None:
            return
        request_name = example.request.file_name("request")
        stage.write(request_name, example.request.data)
        response = example.response or answer_from_code(stage.path, example, manifest)
        response_name = response.file_name("response")
        stage.write(response_name, response.data)
        manifest["example"] = {
            "request": {"file": request_name, "content_type": example.request.content_type, "accept": example.accept},
            "response": {"file": response_name, "content_type": response.content_type},
            "rtol": example.rtol,
            "atol": example.atol,
        }


def describe(
    *,
    name: object,
    labels: object,
    preprocessing: object,
    metrics: object,
    code_dir: object,
    needs_script: bool,
    can_answer: bool,
    example: object,
    batching: object = None,
    lineage: object = None,
    declared: Mapping[str, Any],
) -> Description:
    """Check and convert what `save_model` was given beside the model.

    Args:
        name, labels, preprocessing, metrics, code_dir, example, batching, lineage: arguments of `save_model`, as given.
        declared: its arguments about inputs and answers, by name.
        needs_script: a `code_dir` without `inference.py` is a mistake.
        can_answer: the example needs no response even where `code_dir` has no `inference.py`.

    Raises:
        ArtifactError: one sentence naming the argument and what is wrong with it.
    """
    if not isinstance(name, str) or len(name) > 63 or not _NAME.fullmatch(name):
        raise ArtifactError(f"name is {shown(name)}; it must be letters, digits and inner hyphens, at most 63")
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "frameworks": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    files: dict[str, bytes] = {}
    names = None if labels is None else checked_labels(labels)
    if names is not None:
        files[LABELS_NAME] = to_json(names, "labels")
        manifest["labels"] = LABELS_NAME
    if preprocessing is not None:
        if not isinstance(preprocessing, Mapping):
            raise ArtifactError(f"preprocessing is {kind_of(preprocessing)}; give a mapping of constants")
        files[PREPROCESSING_NAME] = to_json(preprocessing, "preprocessing")
        manifest["preprocessing"] = PREPROCESSING_NAME
    if metrics is not None:
        manifest["metrics"] = to_floats(metrics)
    if batching is not None:
        manifest["batching"] = checked_batching(batching)
    if origin := checked_lineage(lineage):
        manifest["lineage"] = origin
    manifest |= declare(label_count=None if names is None else len(names), **declared)
    code = _code_files(code_dir, needs_script=needs_script)
    encoded = None
    if example is not None:
        encoded = encode_example(example, can_answer=can_answer or "code/inference.py" in code)
    return Description(manifest=manifest, files=files, code=code, example=encoded)


def _code_files(place: object, *, needs_script: bool) -> dict[str, Path]:
    if place is None:
        return {}
    code_dir = as_path(place, "code_dir")
    if code_dir.is_file():
        raise ArtifactError(f"code_dir {code_dir} is a file; give the directory that holds it")
    if not code_dir.is_dir():
        raise ArtifactError(f"code_dir {code_dir} is not a directory")
    files = {f"code/{file_name}": path for file_name, path in list_files(code_dir).items()}
    if needs_script and "code/inference.py" not in files:
        raise ArtifactError(f"code_dir {code_dir} has no inference.py")
    return files | missing_handler_file(files)
