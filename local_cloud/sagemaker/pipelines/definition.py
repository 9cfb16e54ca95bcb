"""A pipeline's definition, read and checked: parameters, steps, and which step needs which.

Sources: the developer guide's pages about pipelines (https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines.html)
and the definitions that the SageMaker SDKs write. Of the sentences, those about values that an operation does not take
and about a step that depends on a fail step are the service's own; the others are not verified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tidegate.local_cloud.sagemaker.capabilities import refuse_unsupported
from tidegate.local_cloud.sagemaker.errors import ServiceError, bounded, validation_exception
from tidegate.local_cloud.sagemaker.pipelines.caching import duration
from tidegate.local_cloud.sagemaker.pipelines.conditions import check_condition
from tidegate.local_cloud.sagemaker.pipelines.kinds import CONDITION, FAIL, KINDS, NOT_HERE
from tidegate.local_cloud.sagemaker.pipelines.parameters import Parameter, read_parameters
from tidegate.local_cloud.sagemaker.pipelines.references import (
    Path,
    leads_into,
    may_be_asked_for,
    paths_in,
    unknown_until_run,
)
from tidegate.local_cloud.sagemaker.pipelines.retries import RetryPolicy, retry_policy
from tidegate.local_cloud.sagemaker.shapes import check, operation_model
from tidegate.local_cloud.sagemaker.state import Json

VERSION = "2020-12-01"
EXECUTION_VARIABLES = (
    "StartDateTime",
    "CurrentDateTime",
    "PipelineName",
    "PipelineArn",
    "PipelineExecutionId",
    "PipelineExecutionArn",
    "TrainingJobName",
    "ProcessingJobName",
)
_REASON_CHARS = 2000
_MEMBERS = {"Version", "Metadata", "Parameters", "PipelineExperimentConfig", "Steps"}
_STEP_MEMBERS = {
    "Name",
    "Type",
    "Arguments",
    "DependsOn",
    "DisplayName",
    "Description",
    "CacheConfig",
    "RetryPolicies",
    "PropertyFiles",
}
_TEXTS = {"DisplayName": 256, "Description": 3072}  # PipelineExecutionStep
_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")  # PipelineExecutionStep, StepName
TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "Completed": ("Succeeded",),
    "Failed": ("Failed",),
    "Stopped": ("Stopped",),
    "Any": ("Succeeded", "Failed", "Stopped"),
}
"""What DependsOn may wait for, and the states of a step that are that (`StepDependency` of the SageMaker SDK)."""
_EXPERIMENT = ("ExperimentName", "TrialName")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``branch`` is the condition step that it stands in, and the outcome that it is for."""

    name: str
    kind: str
    arguments: Json
    depends_on: Mapping[str, str] = field(default_factory=dict)
    """A step's name to the end of it (of :data:`TRIGGERS`) that lets this one begin."""
    branch: tuple[str, bool] | None = None
    display_name: str | None = None
    description: str | None = None
    cached_for: timedelta | None = None
    """How old a run may be that takes the place of this one; None: no caching."""
    retry_policies: tuple[RetryPolicy, ...] = ()
    property_files: Mapping[str, Json] = field(default_factory=dict)

    @property
    def references(self) -> Iterator[Path]:
        """Those of its own; not those of the steps in its branches."""
        return paths_in(self.arguments)

    @property
    def needs(self) -> set[str]:
        """The steps that must have ended before it; as a rule, with success."""
        referenced = {str(path[1]) for path in self.references if path[0] == "Steps"}
        return referenced | set(self.depends_on) | ({self.branch[0]} if self.branch else set())


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    parameters: Mapping[str, Parameter]
    steps: Mapping[str, Step]
    experiment: Json

    def is_awaited(self, name: str, status: str) -> bool:
        """Whether a step waits for just this end of another one, so that it is no end of the execution."""
        return any(status in TRIGGERS[step.depends_on[name]] for step in self.steps.values() if name in step.depends_on)

    def needed_by(self, names: set[str]) -> set[str]:
        """All steps that come before one of these, and are none of them."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            for need in self.steps[waiting.pop()].needs - found:
                found.add(need)
                waiting.append(need)
        return found - names


def read_definition(text: str) -> Definition:
    """Raises the service's ValidationException for a definition that it does not take."""
    try:
        return _read(text)
    except ServiceError as error:
        raise _unparsable(f"Model Validation failed: {error.message}") from error
    except (ValueError, RecursionError) as error:
        raise _unparsable(bounded(str(error), _REASON_CHARS)) from error


def _unparsable(why: str) -> ServiceError:
    return validation_exception(f"Unable to parse pipeline definition. {why}")


def _read(text: str) -> Definition:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("The definition is not a JSON object.")
    document = {name: value for name, value in document.items() if value is not None}
    if unknown := set(document) - _MEMBERS:
        raise ValueError(f"The local cloud does not have {', '.join(sorted(unknown))} of a definition.")
    if document.get("Version") != VERSION:
        raise ValueError(f"Version is {document.get('Version')!r}; it must be '{VERSION}'.")
    steps: dict[str, Step] = {}
    for step in _steps(document.get("Steps"), branch=None):
        if step.name in steps:
            raise ValueError(f"The name {step.name} is used by more than one step.")
        steps[step.name] = step
    experiment = document.get("PipelineExperimentConfig", {})
    if not isinstance(experiment, dict) or set(experiment) - set(_EXPERIMENT):
        raise ValueError(f"PipelineExperimentConfig takes {' and '.join(_EXPERIMENT)}.")
    parameters = read_parameters(document.get("Parameters", []))
    definition = Definition(parameters=parameters, steps=steps, experiment=experiment)
    for path in paths_in(experiment):
        if path[0] not in ("Parameters", "Execution"):
            raise ValueError("PipelineExperimentConfig takes parameters and execution variables only.")
        _check_reference(definition, "PipelineExperimentConfig", path)
    for step in steps.values():
        for name in step.depends_on:
            _check_need(definition, step, name)
        for path in step.references:
            _check_reference(definition, f"step {step.name}", path)
    _check_order(definition)
    return definition


def _steps(given: Any, *, branch: tuple[str, bool] | None) -> Iterator[Step]:
    """The steps of a list, and those in the branches of its condition steps."""
    if not isinstance(given, list) or (not given and branch is None):
        raise ValueError("Steps is a list with at least one step.")
    for document in given:
        step = _step(document, branch)
        yield step
        if step.kind == CONDITION:
            for member, outcome in (("IfSteps", True), ("ElseSteps", False)):
                yield from _steps(document["Arguments"].get(member, []), branch=(step.name, outcome))


def _step(document: Any, branch: tuple[str, bool] | None) -> Step:
    name = document.get("Name") if isinstance(document, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"The name of a step is {name!r}; it has 1 to 64 letters, digits, - and _.")
    document = {member: value for member, value in document.items() if value is not None}
    kind, arguments = document.get("Type"), document.get("Arguments", {})
    if kind in NOT_HERE:
        raise ValueError(f"The local cloud does not have steps of the type {kind} (step {name}).")
    if kind not in (*KINDS, CONDITION, FAIL):
        raise ValueError(f"Step {name} has the type {kind!r}, which there is not.")
    if unknown := set(document) - _STEP_MEMBERS:
        raise ValueError(f"The local cloud does not have {', '.join(sorted(unknown))} of a step (step {name}).")
    if not isinstance(arguments, dict):
        raise ValueError(f"Arguments of step {name} is an object.")
    for member, most_chars in _TEXTS.items():
        text = document.get(member, "")
        if not isinstance(text, str) or len(text) > most_chars:
            raise ValueError(f"{member} of step {name} is a text of at most {most_chars} characters.")
    try:
        _check_arguments(kind, arguments, nested=branch is not None)
        return Step(
            name=name,
            kind=kind,
            arguments=arguments if kind != CONDITION else {"Conditions": arguments["Conditions"]},
            depends_on=_depends_on(document.get("DependsOn", [])),
            branch=branch,
            display_name=document.get("DisplayName"),
            description=document.get("Description"),
            cached_for=_cached_for(kind, document.get("CacheConfig", {})),
            retry_policies=_retry_policies(kind, document.get("RetryPolicies", [])),
            property_files=_property_files(kind, arguments, document.get("PropertyFiles", [])),
        )
    except ValueError as error:
        raise ValueError(f"Step {name}: {error}.") from error


def _depends_on(given: Any) -> dict[str, str]:
    if not isinstance(given, list):
        raise ValueError("DependsOn is a list")
    found: dict[str, str] = {}
    for entry in given:
        pair = {"Step": entry, "Trigger": "Completed"} if isinstance(entry, str) else entry
        if not isinstance(pair, dict) or set(pair) != {"Step", "Trigger"} or not isinstance(pair["Step"], str):
            raise ValueError("DependsOn has names of steps, or Step and Trigger")
        if pair["Trigger"] not in TRIGGERS:
            raise ValueError(f"Trigger is {pair['Trigger']!r}; it must be one of {', '.join(TRIGGERS)}")
        found[pair["Step"]] = pair["Trigger"]
    return found


def _check_arguments(kind: str, arguments: Json, *, nested: bool) -> None:
    list(paths_in(arguments))
    if kind == CONDITION:
        if nested:
            raise ValueError("a condition step does not stand in a branch of another one")
        if unknown := set(arguments) - {"Conditions", "IfSteps", "ElseSteps"}:
            raise ValueError(f"a condition step has no {', '.join(sorted(unknown))}")
        conditions = arguments.get("Conditions")
        if not isinstance(conditions, list) or not conditions:
            raise ValueError("Conditions is a list with at least one condition")
        for condition in conditions:
            check_condition(condition)
        return
    known = unknown_until_run(arguments)
    if kind == FAIL:
        if set(known) != {"ErrorMessage"} or isinstance(known["ErrorMessage"], int | float | dict | list):
            raise ValueError("a fail step takes ErrorMessage, a text")
        return
    operation = KINDS[kind].create
    model = operation_model("sagemaker", operation)
    assert model is not None  # noqa: S101 - botocore has all of KINDS
    assert model.input_shape is not None  # noqa: S101
    # The name is given by the pipeline, and a package's is that of its group.
    named = {} if kind == "RegisterModel" else {KINDS[kind].name: "name"}
    check(model.input_shape, {**named, **known})
    refuse_unsupported(operation, known)


def _cached_for(kind: str, config: Any) -> timedelta | None:
    if not isinstance(config, dict) or set(config) - {"Enabled", "ExpireAfter"}:
        raise ValueError("CacheConfig takes Enabled and ExpireAfter")
    enabled = config.get("Enabled", False)
    if not isinstance(enabled, bool):
        raise ValueError(f"Enabled of CacheConfig is {enabled!r}; it must be true or false")
    if not enabled:
        return None
    if kind not in KINDS or not KINDS[kind].cached_by:
        raise ValueError(f"steps of the type {kind} are not cached")
    if not isinstance(config.get("ExpireAfter"), str):
        raise ValueError("CacheConfig that is enabled needs ExpireAfter")
    return duration(config["ExpireAfter"])


def _retry_policies(kind: str, given: Any) -> tuple[RetryPolicy, ...]:
    if not isinstance(given, list):
        raise ValueError("RetryPolicies is a list")
    if given and (kind not in KINDS or not KINDS[kind].is_retried):
        raise ValueError(f"steps of the type {kind} have no RetryPolicies")
    return tuple(retry_policy(policy) for policy in given)


def _property_files(kind: str, arguments: Json, given: Any) -> dict[str, Json]:
    if not isinstance(given, list):
        raise ValueError("PropertyFiles is a list")
    if given and kind != "Processing":
        raise ValueError(f"steps of the type {kind} have no PropertyFiles")
    outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
    names = {output.get("OutputName") for output in outputs if isinstance(output, dict)}
    files: dict[str, Json] = {}
    for file in given:
        members = ("PropertyFileName", "OutputName", "FilePath")
        if not isinstance(file, dict) or any(not isinstance(file.get(member), str) for member in members):
            raise ValueError(f"a property file has {', '.join(members)}")
        if file["OutputName"] not in names:
            raise ValueError(
                f"property file {file['PropertyFileName']} is in the output {file['OutputName']}, which there is not"
            )
        files[file["PropertyFileName"]] = file
    return files


def _check_need(definition: Definition, step: Step, name: str) -> None:
    if name not in definition.steps:
        raise ValueError(f"Step {step.name} depends on {name}, which there is not.")
    if definition.steps[name].kind == FAIL:
        raise ValueError(f"{step.name} can not depends on {name}.")


def _check_reference(definition: Definition, where: str, path: Path) -> None:
    root, rest = path[0], path[1:]
    shown = ".".join(str(part) for part in path)
    if root == "Parameters" and len(rest) == 1:
        if rest[0] not in definition.parameters:
            raise ValueError(f"{where} refers to the parameter {rest[0]}, which there is not.")
    elif root == "Execution" and len(rest) == 1:
        if rest[0] not in EXECUTION_VARIABLES:
            raise ValueError(f"{where} refers to {shown}; there are {', '.join(EXECUTION_VARIABLES)}.")
    elif root == "PipelineExperimentConfig" and len(rest) == 1:
        if rest[0] not in definition.experiment:
            raise ValueError(f"{where} refers to {shown}, which the definition does not have.")
    elif root == "Steps" and len(rest) > 1:
        other = definition.steps.get(str(rest[0]))
        if other is None:
            raise ValueError(f"{where} refers to the step {rest[0]}, which there is not.")
        if not _has(other, rest[1:]):
            raise ValueError(f"{where} refers to {shown}, which a step of the type {other.kind} does not have.")
        if not _is_asked_for(other, rest[1:]):
            raise ValueError(f"{where} refers to {shown}, which the arguments of step {other.name} do not have.")
    else:
        raise ValueError(f"{where} refers to {shown}, which there is not.")


def _has(step: Step, path: Path) -> bool:
    if step.kind == CONDITION:
        return path == ("Outcome",)
    if step.kind == FAIL:
        return False
    if path[0] == "PropertyFiles":
        return len(path) == 2 and path[1] in step.property_files
    operations = [KINDS[step.kind].describe]
    if step.kind == "Tuning":
        operations.append("ListTrainingJobsForHyperParameterTuningJob")
    models = [operation_model("sagemaker", operation) for operation in operations]
    return any(model is not None and model.output_shape and leads_into(model.output_shape, path) for model in models)


def _is_asked_for(step: Step, path: Path) -> bool:
    model = operation_model("sagemaker", KINDS[step.kind].create) if step.kind in KINDS else None
    return model is None or model.input_shape is None or may_be_asked_for(model.input_shape, step.arguments, path)


def _check_order(definition: Definition) -> None:
    settled: set[str] = set()
    while len(settled) < len(definition.steps):
        ready = {name for name, step in definition.steps.items() if name not in settled and step.needs <= settled}
        if not ready:
            circle = ", ".join(name for name in definition.steps if name not in settled)
            raise ValueError(f"Cycle detected: these steps wait for one another: {circle}.")
        settled |= ready
