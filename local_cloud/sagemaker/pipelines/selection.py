"""Selective execution: only some steps run, and those before them are taken from an earlier execution.

Source: "Selective execution of pipeline steps" in the developer guide
(https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html). The sentence about a missing source is
the service's own (https://github.com/aws/sagemaker-python-sdk/issues/4444); the others are not verified.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.pipelines.definition import Definition
from tidegate.local_cloud.sagemaker.pipelines.execution import Execution, StepRun


def check_selection(definition: Definition, names: Sequence[str]) -> None:
    """Raises a ValidationException for steps that there are not, or with others between them."""
    if unknown := [name for name in names if name not in definition.steps]:
        raise validation_exception(f"SelectedSteps names steps that the pipeline does not have: {', '.join(unknown)}.")
    selected = set(names)
    before = definition.needed_by(selected)
    between = sorted(name for name in before if definition.needed_by({name}) & selected)
    if between:
        raise validation_exception(
            f"These steps lie between selected ones and must be selected as well: {', '.join(between)}."
        )


def reused_steps(
    definition: Definition, names: Sequence[str], source: Execution | None, source_arn: str | None
) -> dict[str, StepRun]:
    """The runs that a selective execution begins with: of every step before the selected ones, from ``source``.

    Raises a ValidationException where one did not succeed there, or where there is no such execution.
    """
    before = definition.needed_by(set(names))
    if not before:
        return {}
    ordered = [name for name in definition.steps if name in before]
    if source is None:
        raise validation_exception(
            f"Invalid SourcePipelineExecutionArn: {source_arn or 'null'}. The selected steps"
            f" [{', '.join(names)}] have dependencies on [{', '.join(ordered)}]"
        )
    runs = source.steps
    if missing := [name for name in ordered if not _has_succeeded(runs, name)]:
        raise validation_exception(
            f"Invalid SourcePipelineExecutionArn: {source.arn}. These steps did not succeed there:"
            f" {', '.join(missing)}."
        )
    return {name: _reused(runs[name], source.arn) for name in ordered}


def _has_succeeded(runs: Mapping[str, StepRun], name: str) -> bool:
    return name in runs and runs[name].status == "Succeeded"


def _reused(run: StepRun, source_arn: str) -> StepRun:
    reused = copy.deepcopy(run)
    reused.reused_from, reused.cached_from = source_arn, None
    return reused
