"""The functions that an archive of another tool has without a script, or beside one that leaves some to the server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tidegate.inference.protocol import ModelSpec
from tidegate.inference.worker.foreign import mlflow_functions, mlmodel
from tidegate.inference.worker.handler import ARGUMENTS, Functions


def fill(functions: Functions, root: Path, spec: ModelSpec) -> Functions:
    """`functions`, with those of the tool that wrote the archive for what the script lacks.

    Raises `DeploymentError` for an archive that its tool could not serve.
    """
    if functions.model_fn is None and functions.model_maker in ARGUMENTS and mlmodel.is_there(root):
        return _beside(functions, mlflow_functions.functions(root, spec))
    return functions


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
