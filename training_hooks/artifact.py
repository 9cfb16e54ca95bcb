"""save_model: from a trained model to a directory that the server takes, in one all-or-nothing step."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from .adapter import adapter_of
from .architecture import check_architecture, describe_architecture
from .arguments import as_flag, refusing_unknown
from .container_paths import needed_model_directory
from .description import describe
from .example import Example
from .ranks import rank_above_0, wait_for_rank_0
from .shards import checked_shard_bytes
from .staging import staging
from .weight_files import checked_format, refuse_unwritable, write_weights
from .weights import checked_weights


@refusing_unknown
def save_model(
    model: nn.Module | Mapping[str, Any],
    *,
    model_dir: str | os.PathLike[str] | None = None,
    name: str = "model",
    labels: Sequence[str] | Mapping[Any, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    code_dir: str | os.PathLike[str] | None = None,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    example: Example | Any = None,
    format: str = "state_dict",  # noqa: A002 - what everybody calls it
    max_shard_size: int | str | bool | None = None,
    allow_non_finite: bool | Collection[str] = False,
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
    """Write a model and all that serving it needs into the model directory, atomically.

    The directory then holds the weights (`model.pth`, a state dict of contiguous CPU tensors, loadable with
    `torch.load(..., weights_only=True)`, where nothing else is asked for), what of `labels.json`,
    `preprocessing.json`, `example/` and `code/` was given, and `manifest.json` with the size and SHA-256 of each. In
    distributed training rank 0 writes; another rank that calls it writes nothing and waits until the artifact of rank
    0 is there.

        save_model(
            net,
            labels=["cat", "dog"],
            preprocessing={"mean": 0.5, "std": 0.25},
            metrics={"accuracy": accuracy},
            code_dir="code",
            example=Example(request=images[:1]),
        )

    Args:
        model: the module, or its state dict. Wrappers and their prefixes (`module.`, `_orig_mod.`) are taken off. Of a
            PeftModel the base is saved under its own names, and the adapter beside it in `adapter/`.
        model_dir: where to; the variable SM_MODEL_DIR if omitted, and /opt/ml/model inside a SageMaker container.
        name: of the model: letters, digits and inner hyphens, at most 63.
        labels: class names, in the order of the model's outputs, distinct and not empty; or a mapping between names
            and numbers, such as `class_to_idx` or `id2label`.
        preprocessing: constants that the inference code reads back, as a JSON object; numpy values are converted.
        metrics: numbers to keep with the model; numpy and torch scalars become floats.
        code_dir: directory with `inference.py` (and helpers, requirements.txt), copied to `code/`.
        architecture: the network's class, or a function that returns the network, as `module:Class` of `code_dir`; with
            it the server needs no `model_fn`, and `code_dir` no inference.py. It is tried out before anything is kept.
        arguments: what the architecture is called with, as keywords that JSON can hold.
        example: a request the server must answer as recorded before it takes traffic; a tensor, an array, an image or
            plain values, or an `Example`, which says more. Without a response of its own, the functions in `code_dir`
            are run on the saved files and their answer is recorded.
        format: "state_dict", as torch.save writes it (model.pth), or "safetensors" (model.safetensors).
        max_shard_size: the largest size of a file of weights, "5GB" or a number of bytes, True for 5 GB; larger weights
            are written as several files and an index, in Hugging Face's form. One file if omitted.
        allow_non_finite: True, or the name or names of weights that may hold NaN or infinity.
        every_rank: True where each rank saves a model of its own, into a directory of its own.
        batching: True where requests of several clients may be joined into one `predict_fn` call, as nobody but you
            can say for sure; False where they may not; limits, `{"max_batch_size": 8, "max_wait_ms": 5}`, which say
            True as well, and whose size may be "auto", found on live traffic; "auto" or nothing leaves it to the
            server, which joins what it has proved to be the same.
        image: how the model takes and gives pictures, so that it needs no input_fn and no output_fn for them:
            `{"input": {"size": {"height": 64, "width": 64, "policy": "resize"}}, "output": {"value_range": [-1, 1]}}`;
            docs/handlers.md lists the keys.
        lineage: where the model comes from, beside what is known here (the training job's name, its channels, the
            revision of the script's checkout, the packages that are imported): `{"data": "s3://bucket/train"}`,
            `image`, and what else you like; False records nothing.
        mean, std, size: of `image["input"]`, for those who need no more of it: what is subtracted from a picture of 0
            to 1, and what it is divided by, as a number or three; the side of the square to which it is scaled and
            cropped, as torchvision's `Resize(size)` and `CenterCrop(size)` do, or the height and width.
        activation, top_k, threshold: how scores are answered by their labels, the best first: "softmax" (the default),
            "sigmoid" or "none"; how many at most; the least score. One of them is enough to ask for that.
        classes: the same as a mapping, `{"activation": "softmax", "top_k": 3}`, with `from`, which of several
            predictions holds the scores.
        columns: of the records that the model takes, in its order: a name, or `{"name": "age", "dtype": "float32",
            "missing": 38.5}`, where `missing` is what stands for no value, such as the mean; without it there must be
            one. A mapping by names will do.
        table: the rest about records: `as`, `header`, `others`; docs/handlers.md lists them.
        tensors: the plain tensors that the model takes: `[{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]`.

    Returns:
        The model directory.

    Raises:
        ArtifactError: one sentence naming what is wrong; the previous artifact in the directory is then untouched.
        OSError: the directory cannot be written, or the disk is full (a save needs room for a second copy).
    """
    target = needed_model_directory(model_dir)
    if not as_flag(every_rank, "every_rank") and (rank := rank_above_0()) is not None:
        wait_for_rank_0(rank, target)
        return target
    kind, shard_bytes = checked_format(format), checked_shard_bytes(max_shard_size)
    described = {"format": kind.name, **describe_architecture(architecture, arguments, code_dir)}
    description = describe(
        name=name,
        labels=labels,
        preprocessing=preprocessing,
        metrics=metrics,
        code_dir=code_dir,
        needs_script=architecture is None,
        can_answer=architecture is not None,
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
    adapter = adapter_of(model, allow_non_finite=allow_non_finite)
    if adapter is not None:
        described["adapter"] = adapter.described()
    weights = checked_weights(model if adapter is None else adapter.base, allow_non_finite=allow_non_finite)
    refuse_unwritable(weights, kind)
    manifest = description.manifest | {"weights": described}
    with staging(target, manifest) as stage:
        described["file"] = write_weights(stage, weights, kind, shard_bytes)
        if adapter is not None:
            adapter.write(stage)
        description.add_files(stage)
        if architecture is not None:
            check_architecture(stage.path, described)
        description.add_example(stage, manifest)
    return target
