"""save_directory: a model in files of the user's making (save_pretrained, joblib, TorchScript) as an artifact."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .arguments import as_flag, as_path, refusing_unknown
from .container_paths import chosen_model_directory
from .description import Description, describe
from .errors import ArtifactError
from .example import Example
from .file_tree import list_files
from .handler_file import missing_handler_file
from .manifest import MANIFEST_NAME, read_manifest, section
from .ranks import rank_above_0, wait_for_rank_0
from .staging import staging


@refusing_unknown
def save_directory(
    directory: str | os.PathLike[str],
    *,
    model_dir: str | os.PathLike[str] | None = None,
    name: str = "model",
    labels: Sequence[str] | Mapping[Any, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    code_dir: str | os.PathLike[str] | None = None,
    example: Example | Any = None,
    every_rank: bool = False,
    batching: bool | str | Mapping[str, Any] | None = None,
    image: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | bool | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    size: int | Sequence[int] | Mapping[str, Any] | None = None,
    classes: Mapping[str, Any] | None = None,
    activation: str | None = None,
    top_k: int | None = None,
    threshold: float | None = None,
    columns: Sequence[str | Mapping[str, Any]] | Mapping[str, Any] | None = None,
    table: Mapping[str, Any] | None = None,
    tensors: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Make an artifact of a directory that something else wrote, atomically; the arguments are those of `save_model`.

        model.save_pretrained("bert")
        tokenizer.save_pretrained("bert")
        save_directory("bert", code_dir="code", example=Example(request={"text": "hello"}))

    Args:
        directory: with the files of the model, which are taken as they are, and code/ where there is no `code_dir`. A
            manifest that names the network (`weights`) may be there, too.
        model_dir: where to; SM_MODEL_DIR if omitted, and /opt/ml/model inside a SageMaker container; elsewhere
            `directory` itself becomes the artifact, and its files stay what and where they are.
        name: see `save_model`, as for labels, preprocessing, metrics, code_dir, example, every_rank, batching, and for
            image, mean and all that follow it there.

    Returns:
        The model directory.

    Raises:
        ArtifactError: one sentence naming what is wrong; an artifact that was in the model directory is untouched.
        OSError: the model directory cannot be written, or the disk is full.
    """
    source = as_path(directory, "directory")
    if not source.is_dir():
        raise ArtifactError(f"directory {source} is not a directory")
    target = chosen_model_directory(model_dir) or source
    in_place = target.resolve() == source.resolve()
    if not in_place and target.resolve().is_relative_to(source.resolve()):
        raise ArtifactError(
            f"the model directory {target} lies inside {source}; choose another, or the directory itself"
        )
    if not as_flag(every_rank, "every_rank") and (rank := rank_above_0()) is not None:
        wait_for_rank_0(rank, target)
        return target
    description = describe(
        name=name,
        labels=labels,
        preprocessing=preprocessing,
        metrics=metrics,
        code_dir=code_dir,
        needs_script=True,
        can_answer=True,
        example=example,
        batching=batching,
        lineage=lineage,
        declared={
            "image": image,
            "mean": mean,
            "std": std,
            "size": size,
            "classes": classes,
            "activation": activation,
            "top_k": top_k,
            "threshold": threshold,
            "columns": columns,
            "table": table,
            "tensors": tensors,
        },
    )
    manifest = dict(description.manifest)
    with staging(target, manifest) as stage:
        earlier = read_manifest(source) if (source / MANIFEST_NAME).exists() else {}
        files = _files_of(source, earlier, description)
        if section(earlier, "weights").get("file") in files:
            manifest["weights"] = earlier["weights"]
        for file_name, path in files.items():
            _bring(path, stage.path / file_name, in_place=in_place)
            stage.take(file_name)
        for file_name, path in missing_handler_file(files).items():
            stage.write(file_name, path.read_bytes())
        description.add_files(stage)
        description.add_example(stage, manifest)
    return target


def _files_of(source: Path, earlier: Mapping[str, Any], description: Description) -> dict[str, Path]:
    """Return the files of the model, without those that this save writes and those that an earlier one wrote."""
    example = section(earlier, "example")
    written = {
        MANIFEST_NAME,
        *description.files,
        *(earlier.get(key) for key in ("labels", "preprocessing")),
        *(section(example, side).get("file") for side in ("request", "response")),
        *_forms_of(earlier),
    }
    files = {
        name: path
        for name, path in list_files(source).items()
        if name not in written and not (description.code and name.startswith("code/"))
    }
    if not files:
        raise ArtifactError(f"directory {source} holds no model: there are no files in it")
    return files


def _forms_of(earlier: Mapping[str, Any]) -> list[str]:
    """Return the files of the forms that `export` made: they may hold weights of before."""
    forms = earlier.get("forms")
    folders = (
        [f"forms/{form.get('name')}/" for form in forms if isinstance(form, dict)] if isinstance(forms, list) else []
    )
    return [name for name in section(earlier, "files") if name.startswith(tuple(folders))]


def _bring(path: Path, staged: Path, *, in_place: bool) -> None:
    staged.parent.mkdir(parents=True, exist_ok=True)
    if in_place:
        # The same file under a second name costs no room; its rename into place changes nothing.
        with contextlib.suppress(OSError):
            staged.hardlink_to(path)
            return
    shutil.copyfile(path, staged)
