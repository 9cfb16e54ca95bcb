"""The operations of SageMaker Pipelines, and a thread for each execution.

Sources: the operations in the API reference. The sentences about a name that is in use and about what does not exist
are the service's own; the others are not verified.
"""

from __future__ import annotations

import logging
import secrets
import string
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.errors import ServiceError, resource_not_found, validation_exception
from tidegate.local_cloud.sagemaker.kept_rooms import CUT_OFF
from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.pipelines.definition import read_definition
from tidegate.local_cloud.sagemaker.pipelines.events import PipelineEvents
from tidegate.local_cloud.sagemaker.pipelines.execution import (
    STEP_FAILURE,
    Execution,
    Pipeline,
    PipelinesState,
    Version,
)
from tidegate.local_cloud.sagemaker.pipelines.parameters import values_of
from tidegate.local_cloud.sagemaker.pipelines.references import as_text, resolved, scope_of_values
from tidegate.local_cloud.sagemaker.pipelines.runner import ExecutionRun, variables_of
from tidegate.local_cloud.sagemaker.pipelines.selection import check_selection, reused_steps
from tidegate.local_cloud.sagemaker.pipelines.steps import Perform
from tidegate.local_cloud.sagemaker.roles import Roles, demand_role
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, now, part

logger = logging.getLogger(__name__)

_DEFINITION_BYTES = 1_048_576  # CreatePipeline, PipelineDefinition
_KEPT_ANSWERS = 1000
_ID_CHARS = 12


@dataclass(slots=True, kw_only=True)
class Pipelines:
    """All pipelines of this SageMaker; ``perform_as`` takes a role, and gives what answers operations in it."""

    KEPT: ClassVar[tuple[str, ...]] = ("state.pipelines", "state.executions", "state.answers")

    roles: Roles
    identity: Identity
    tags: Tags
    announce: Announce
    perform_as: Callable[[str], Perform]
    state: PipelinesState = field(default_factory=PipelinesState)
    operations: dict[str, Callable[[Json], Json]] = field(init=False)
    """The function that answers each operation."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever acts once for a token."""
    _closing: threading.Event = field(default_factory=threading.Event)
    _workers: dict[str, threading.Thread] = field(default_factory=dict)
    _events: PipelineEvents = field(init=False)

    def __post_init__(self) -> None:
        self._events = PipelineEvents(announce=self.announce, lock=self._lock)
        self.operations = {
            "CreatePipeline": self._once("CreatePipeline", self._create),
            "UpdatePipeline": self._update,
            "DescribePipeline": self._describe,
            "ListPipelines": self._list,
            "DeletePipeline": self._once("DeletePipeline", self._delete),
            "ListPipelineVersions": self._list_versions,
            "UpdatePipelineVersion": self._update_version,
            "StartPipelineExecution": self._once("StartPipelineExecution", self._start),
            "StopPipelineExecution": self._once("StopPipelineExecution", self._stop),
            "RetryPipelineExecution": self._once("RetryPipelineExecution", self._retry),
            "UpdatePipelineExecution": self._update_execution,
            "DescribePipelineExecution": self._describe_execution,
            "DescribePipelineDefinitionForExecution": self._definition_of,
            "ListPipelineExecutions": self._list_executions,
            "ListPipelineExecutionSteps": self._list_steps,
            "ListPipelineParametersForExecution": self._list_parameters,
        }

    def arns(self) -> set[str]:
        """What tags may be given to."""
        with self._lock:
            return set(self.state.pipelines)

    def resume(self) -> list[str]:
        """After a restart: an execution that was under way has failed, and can be retried; one was to stop, or has."""
        lost = []
        for execution in self.state.executions.values():
            if execution.is_over:
                continue
            status, reason = ("Stopped", None) if execution.status == "Stopping" else ("Failed", CUT_OFF)
            for step in execution.steps.values():
                if not step.is_over:
                    step.ends(status, reason)
            execution.goes_to(status, reason)
            lost.append(f"pipeline execution {execution.arn} was under way, and is {status} now; it can be retried")
        return lost

    def close(self) -> None:
        """Starts no more steps; returns when no thread is left. Executions stay as they are."""
        with self._lock:
            self._closing.set()
            workers = list(self._workers.values())
        for worker in workers:
            worker.join()

    def _once(self, operation: str, act: Callable[[Json], Json]) -> Callable[[Json], Json]:
        """A request that comes again with its token is answered as before, and nothing is done."""

        def answer(request: Json) -> Json:
            token, answers = f"{operation} {request['ClientRequestToken']}", self.state.answers
            with self._turn:
                if token not in answers:
                    given = act(request)
                    with self._lock:
                        answers[token] = (request, given)
                        while len(answers) > _KEPT_ANSWERS:
                            del answers[next(iter(answers))]
                known, given = answers[token]
            if known != request:
                raise _conflict("ClientRequestToken was used by another request of this operation.")
            return given

        return answer

    # pipelines

    def _create(self, request: Json) -> Json:
        name = request["PipelineName"]
        arn, moment = self.identity.arn("pipeline", name), now()
        if arn in self.arns():
            raise validation_exception(
                "Pipeline names must be unique within an AWS account and region. Pipeline with name"
                f" ({name}) already exists."
            )
        demand_role(self.roles, request["RoleArn"])
        text = self._text_of(request)
        read_definition(text)
        with self._lock:
            self.state.pipelines[arn] = Pipeline(
                name=name,
                arn=arn,
                created=moment,
                modified=moment,
                role=request["RoleArn"],
                display_name=request.get("PipelineDisplayName") or name,
                description=request.get("PipelineDescription"),
                parallelism=request.get("ParallelismConfiguration"),
                versions=[Version(definition=text, created=moment)],
            )
            self.tags.add(arn, request.get("Tags", []))
        return {"PipelineArn": arn}

    def _text_of(self, request: Json) -> str:
        """The definition that a request has or names."""
        place = request.get("PipelineDefinitionS3Location")
        if (place is None) == ("PipelineDefinition" not in request):
            raise validation_exception("Give either PipelineDefinition or PipelineDefinitionS3Location.")
        if place is None:
            return str(request["PipelineDefinition"])
        version = {"VersionId": place["VersionId"]} if "VersionId" in place else {}
        try:
            body = self.roles.own_client("s3").get_object(Bucket=place["Bucket"], Key=place["ObjectKey"], **version)[
                "Body"
            ]
            content: bytes = body.read(_DEFINITION_BYTES + 1)
        except (ClientError, BotoCoreError) as error:
            raise validation_exception(f"PipelineDefinitionS3Location cannot be read: {error}") from error
        if len(content) > _DEFINITION_BYTES:
            raise validation_exception(f"The pipeline's definition is larger than {_DEFINITION_BYTES} bytes.")
        return content.decode(errors="replace")

    def _update(self, request: Json) -> Json:
        with self._lock:
            self._pipeline(request["PipelineName"])
        if "RoleArn" in request:
            demand_role(self.roles, request["RoleArn"])
        has_definition = bool({"PipelineDefinition", "PipelineDefinitionS3Location"} & set(request))
        text = self._text_of(request) if has_definition else None
        if text is not None:
            read_definition(text)
        with self._lock:
            pipeline = self._pipeline(request["PipelineName"])
            pipeline.modified = now()
            if text is not None:
                pipeline.versions.append(Version(definition=text, created=pipeline.modified))
            pipeline.role = request.get("RoleArn", pipeline.role)
            pipeline.display_name = request.get("PipelineDisplayName", pipeline.display_name)
            pipeline.description = request.get("PipelineDescription", pipeline.description)
            pipeline.parallelism = request.get("ParallelismConfiguration", pipeline.parallelism)
            return {"PipelineArn": pipeline.arn, "PipelineVersionId": len(pipeline.versions)}

    def _describe(self, request: Json) -> Json:
        with self._lock:
            pipeline = self._pipeline(request["PipelineName"])
            return pipeline.described(_version_number(pipeline, request))

    def _list(self, request: Json) -> Json:
        prefix = request.get("PipelineNamePrefix", "")
        with self._lock:
            found = [pipeline for pipeline in self.state.pipelines.values() if pipeline.name.startswith(prefix)]
            chosen = _in_time(found, request)
            by_name = request.get("SortBy") == "Name"
            chosen.sort(key=lambda one: one.name if by_name else one.created, reverse=_is_descending(request))
            return _page("PipelineSummaries", [pipeline.summary() for pipeline in chosen], request)

    def _delete(self, request: Json) -> Json:
        """The pipeline and its executions; none of them may run."""
        with self._lock:
            pipeline = self._pipeline(request["PipelineName"])
            executions = self.state.executions_of(pipeline.arn)
            if running := [execution.arn for execution in executions if not execution.is_over]:
                raise _conflict(
                    f"Pipeline '{pipeline.arn}' has executions that run and must be stopped first:"
                    f" {', '.join(running)}."
                )
            for execution in executions:
                del self.state.executions[execution.arn]
            del self.state.pipelines[pipeline.arn]
            self.tags.forget(pipeline.arn)
        return {"PipelineArn": pipeline.arn}

    def _list_versions(self, request: Json) -> Json:
        with self._lock:
            pipeline = self._pipeline(request["PipelineName"])
            numbered = _in_time(enumerate(pipeline.versions, start=1), request, moment=lambda pair: pair[1].created)
            numbered.sort(key=lambda pair: pair[0], reverse=_is_descending(request))
            summaries = []
            for number, version in numbered:
                optional = {
                    "PipelineVersionDescription": version.description,
                    "PipelineVersionDisplayName": version.display_name,
                    "LastExecutionPipelineExecutionArn": version.last_execution,
                }
                summary = {
                    "PipelineArn": pipeline.arn,
                    "PipelineVersionId": number,
                    "CreationTime": version.created,
                }
                summaries.append(summary | {name: value for name, value in optional.items() if value is not None})
        return _page("PipelineVersionSummaries", summaries, request)

    def _update_version(self, request: Json) -> Json:
        with self._lock:
            pipeline = self._pipeline(request["PipelineArn"])
            number = _version_number(pipeline, request)
            version = pipeline.versions[number - 1]
            version.display_name = request.get("PipelineVersionDisplayName", version.display_name)
            version.description = request.get("PipelineVersionDescription", version.description)
            return {"PipelineArn": pipeline.arn, "PipelineVersionId": number}

    def _pipeline(self, name: str) -> Pipeline:
        """By name or ARN. Call it with the lock."""
        arn = name if name.startswith("arn:") else self.identity.arn("pipeline", name)
        if arn not in self.state.pipelines:
            raise resource_not_found(f"Pipeline '{arn}' does not exist.")
        return self.state.pipelines[arn]

    # executions

    def _start(self, request: Json) -> Json:
        with self._lock:
            pipeline = self._pipeline(request["PipelineName"])
            number = _version_number(pipeline, request)
            text = pipeline.versions[number - 1].definition
        demand_role(self.roles, request.get("RoleArn"))
        definition = read_definition(text)
        parameters = values_of(definition.parameters, request.get("PipelineParameters", []))
        arn, moment = f"{pipeline.arn}/execution/{_new_id()}", now()
        execution = Execution(
            arn=arn,
            pipeline_name=pipeline.name,
            pipeline_arn=pipeline.arn,
            version=number,
            definition=text,
            role=request.get("RoleArn", pipeline.role),
            parameters=parameters,
            created=moment,
            modified=moment,
            display_name=request.get("PipelineExecutionDisplayName", f"execution-{int(moment.timestamp() * 1000)}"),
            description=request.get("PipelineExecutionDescription"),
            parallelism=request.get("ParallelismConfiguration", pipeline.parallelism),
            selective=request.get("SelectiveExecutionConfig"),
        )
        execution.experiment = resolved(definition.experiment, scope_of_values(parameters, variables_of(execution)))
        if execution.selective is not None:
            names = [step["StepName"] for step in execution.selective["SelectedSteps"]]
            check_selection(definition, names)
            source_arn = execution.selective.get("SourcePipelineExecutionArn")
            with self._lock:
                source = self.state.executions.get(source_arn or "")
                if source is not None and source.pipeline_arn != pipeline.arn:
                    source = None
                execution.steps, execution.selected = reused_steps(definition, names, source, source_arn), names
        with self._lock:
            self._pipeline(pipeline.arn)  # it may have been deleted in the meantime
            self._check_open()
            self.state.executions[arn] = execution
            pipeline.last_run, pipeline.versions[number - 1].last_execution = moment, arn
            self._run(execution, previous=None)
        return {"PipelineExecutionArn": arn}

    def _run(self, execution: Execution, *, previous: str | None) -> None:
        """Starts the execution's thread. Call it with the lock."""
        worker = threading.Thread(
            target=self._work, args=(execution, previous), name=f"pipeline execution {execution.id}"
        )
        self._workers[execution.arn] = worker
        worker.start()

    def _work(self, execution: Execution, previous: str | None) -> None:
        self._events.tell_execution(execution, previous=previous)
        try:
            before = ExecutionRun(
                execution=execution,
                definition=read_definition(execution.definition),
                state=self.state,
                lock=self._lock,
                perform=self.perform_as(execution.role),
                s3=lambda: self.roles.client("s3", execution.role),
                events=self._events,
                closing=self._closing,
            ).run()
        except Exception:
            logger.exception("pipeline execution %s broke", execution.arn)
            with self._lock:
                before = execution.status
                execution.goes_to("Failed", STEP_FAILURE)
        if before is not None:
            self._events.tell_execution(execution, previous=before)
            logger.info("pipeline execution %s: %s %s", execution.arn, execution.status, execution.failure or "")
        with self._lock:
            if self._workers.get(execution.arn) is threading.current_thread():  # and not that of a retry
                del self._workers[execution.arn]

    def _stop(self, request: Json) -> Json:
        with self._lock:
            execution = self._execution(request)
            if execution.status != "Executing":
                raise _conflict(
                    f"Pipeline execution '{execution.arn}' is {execution.status}; only one that runs stops."
                )
            execution.goes_to("Stopping")
        self._events.tell_execution(execution, previous="Executing")
        return {"PipelineExecutionArn": execution.arn}

    def _retry(self, request: Json) -> Json:
        """Runs what has not succeeded; what has succeeded stays."""
        with self._lock:
            execution = self._execution(request)
            if execution.status not in ("Failed", "Stopped", "CompletedWithFailures"):
                raise _conflict(
                    f"Pipeline execution '{execution.arn}' is {execution.status}; only one that has failed or was"
                    " stopped is retried."
                )
            self._check_open()
            execution.steps = {name: run for name, run in execution.steps.items() if run.status == "Succeeded"}
            execution.parallelism = request.get("ParallelismConfiguration", execution.parallelism)
            previous = execution.status
            execution.goes_to("Executing")
            self._run(execution, previous=previous)
        return {"PipelineExecutionArn": execution.arn}

    def _update_execution(self, request: Json) -> Json:
        with self._lock:
            execution = self._execution(request)
            execution.description = request.get("PipelineExecutionDescription", execution.description)
            execution.display_name = request.get("PipelineExecutionDisplayName", execution.display_name)
            execution.parallelism = request.get("ParallelismConfiguration", execution.parallelism)
            execution.modified = now()
            return {"PipelineExecutionArn": execution.arn}

    def _describe_execution(self, request: Json) -> Json:
        with self._lock:
            return self._execution(request).described()

    def _definition_of(self, request: Json) -> Json:
        with self._lock:
            execution = self._execution(request)
            return {"PipelineDefinition": execution.definition, "CreationTime": execution.created}

    def _list_executions(self, request: Json) -> Json:
        with self._lock:
            pipeline = self._pipeline(request["PipelineName"])
            chosen = _in_time(self.state.executions_of(pipeline.arn), request)
            by_arn = request.get("SortBy") == "PipelineExecutionArn"
            chosen.sort(key=lambda one: one.arn if by_arn else one.created, reverse=_is_descending(request))
            summaries = [execution.summary() for execution in chosen]
        return _page("PipelineExecutionSummaries", summaries, request)

    def _list_steps(self, request: Json) -> Json:
        """The steps that have begun; the last one first, unless the request says otherwise."""
        with self._lock:
            found = [run.described() for run in self._execution(request).steps.values()]
        if _is_descending(request):
            found.reverse()
        return _page("PipelineExecutionSteps", found, request)

    def _list_parameters(self, request: Json) -> Json:
        with self._lock:
            values = self._execution(request).parameters
            found = [{"Name": name, "Value": as_text(value)} for name, value in values.items()]
        return _page("PipelineParameters", found, request)

    def _execution(self, request: Json) -> Execution:
        """Call it with the lock."""
        arn = request.get("PipelineExecutionArn", "")
        if arn not in self.state.executions:
            raise resource_not_found(f"Pipeline execution '{arn}' does not exist.")
        return self.state.executions[arn]

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ServiceError("ServiceUnavailable", "The local cloud is shutting down.", status=503)


def _conflict(message: str) -> ServiceError:
    return ServiceError("ConflictException", message)


def _new_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(_ID_CHARS))


def _version_number(pipeline: Pipeline, request: Json) -> int:
    number: int = request.get("PipelineVersionId", len(pipeline.versions))
    if number > len(pipeline.versions):
        raise resource_not_found(f"Pipeline '{pipeline.arn}' has no version {number}.")
    return number


def _in_time(
    items: Iterable[Any], request: Json, moment: Callable[[Any], datetime] = lambda one: one.created
) -> list[Any]:
    """Those that were made in the time that the request asks for."""
    after, before = float(request.get("CreatedAfter", "-inf")), float(request.get("CreatedBefore", "inf"))
    return [item for item in items if after < moment(item).timestamp() < before]


def _is_descending(request: Json) -> bool:
    return bool(request.get("SortOrder", "Descending") == "Descending")


def _page(member: str, items: list[Json], request: Json) -> Json:
    shown, token = part(items, request)
    return {member: shown} | ({"NextToken": token} if token else {})
