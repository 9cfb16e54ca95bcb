"""The functions that an archive of another tool has without a script, or beside one that leaves some to the server."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.foreign import mlflow_functions, mlmodel, pipeline_functions, pretrained
from tidegate.inference.worker.handler import ARGUMENTS, Functions

log = logging.getLogger("tidegate.worker")


def fill(functions: Functions, root: Path, spec: ModelSpec, reading: Reading) -> Functions:
    """`functions`, with those of the tool that wrote the archive for what the script lacks.

    Raises `DeploymentError` for an archive that its tool could not serve.
    """
    if functions.model_maker not in ARGUMENTS:
        return functions
    if functions.model_fn is None and mlmodel.is_there(root):
        return _beside(functions, mlflow_functions.functions(root, spec))
    if spec.hf_task is None:
        return functions
    if not pretrained.is_there(root):
        if functions.model_fn is None:
            log.warning(
                "%s=%s has no effect: the archive has no config.json of transformers", pretrained.TASK, spec.hf_task
            )
        return functions
    return _beside(functions, pipeline_functions.functions(spec, spec.hf_task, reading))


def way_out(root: Path, spec: ModelSpec) -> str:
    """What may serve a model that has no functions, as a sentence; empty where nothing is known."""
    if spec.hf_task is not None or not pretrained.is_there(root):
        return ""
    return (
        f" It is a model of transformers: {pretrained.TASK} (such as {pretrained.TASK}=text-classification) serves it "
        "by a pipeline, without code."
    )


def _beside(own: Functions, others: Functions) -> Functions:
    """The script's own functions, and `others` in the place of those that it lacks."""
    if own.model_fn is None:
        own = replace(own, model_fn=others.model_fn, model_maker=others.model_maker)
    if own.transform_fn is not None:
        return own
    if own.input_fn is None:
        own = replace(own, input_fn=others.input_fn)
    if own.predict_fn is None:
        own = replace(own, predict_fn=others.predict_fn, called=others.called)
    if own.output_fn is None:
        own = replace(own, output_fn=others.output_fn, media_types=others.media_types)
    return own
