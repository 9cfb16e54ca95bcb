"""Runs an execution: starts the steps that can start, looks after those that run, and decides how it ends.

After a step has failed (or was stopped) that no other one waits for, no other one starts; those that run go on to their
end, and then the execution has failed. All state is in the :class:`.Execution`, so a run can begin with steps that have
ended.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import ModelDataError, split_s3_uri
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.pipelines import retries, steps
from tidegate.local_cloud.sagemaker.pipelines.caching import cache_key, cached
from tidegate.local_cloud.sagemaker.pipelines.conditions import holds
from tidegate.local_cloud.sagemaker.pipelines.definition import TRIGGERS, Definition, Step
from tidegate.local_cloud.sagemaker.pipelines.events import PipelineEvents
from tidegate.local_cloud.sagemaker.pipelines.execution import STEP_FAILURE, Execution, PipelinesState, StepRun
from tidegate.local_cloud.sagemaker.pipelines.kinds import CONDITION, FAIL, KINDS
from tidegate.local_cloud.sagemaker.pipelines.references import Scope, Unresolved, as_text, resolved
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed
from tidegate.local_cloud.sagemaker.state import Json, now

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_MAX_PARALLEL_STEPS = 50
"""ParallelismConfiguration in "Amazon SageMaker Pipelines quotas"; where none is given."""
_DOCUMENT_BYTES = 16 * 1024 * 1024


class _Failed(Exception):
    """The step fails; ``failure`` is the exception type of retry policies."""

    def __init__(self, reason: str, *, failure: str | None = None) -> None:
        super().__init__(reason)
        self.failure = failure


@dataclass(slots=True, kw_only=True)
class ExecutionRun:
    """The work of one thread. ``lock`` guards the state; ``closing`` ends the run and leaves the state as it is."""

    execution: Execution
    definition: Definition
    state: PipelinesState
    lock: threading.Lock
    perform: steps.Perform
    s3: Callable[[], Any]
    """Makes a client of S3 that calls in the execution's role."""
    events: PipelineEvents
    closing: threading.Event
    _asked_to_stop: set[str] = field(default_factory=set)

    def run(self) -> str | None:
        """Returns the execution's status before its end; None where the cloud ends first."""
        while not self.closing.is_set():
            changed = self._look() or self._start()
            if not self.closing.is_set() and (before := self._end_if_nothing_is_left()) is not None:
                return before
            if not changed:
                self.closing.wait(_POLL_S)
        return None

    # what runs

    def _look(self) -> bool:
        """Takes over how the jobs of running steps stand; whether anything changed."""
        with self.lock:
            running = [run for run in self.execution.steps.values() if not run.is_over]
            stopping = self.execution.status == "Stopping"
        changed = False
        for run in running:
            if self.closing.is_set():
                return changed
            if run.retry_at is not None:
                changed |= self._look_at_waiting(run, stopping=stopping)
            elif run.resource is not None:
                changed |= self._look_at_working(run, stopping=stopping)
        return changed

    def _look_at_waiting(self, run: StepRun, *, stopping: bool) -> bool:
        """A step between two attempts."""
        if stopping:
            self._change(run, lambda: run.ends("Stopped"))
            return True
        if run.retry_at is not None and now() >= run.retry_at:
            with self.lock:
                run.retry_at = None
            self._try(self.definition.steps[run.name], run)
            return True
        return False

    def _look_at_working(self, run: StepRun, *, stopping: bool) -> bool:
        if stopping and run.name not in self._asked_to_stop:
            self._asked_to_stop.add(run.name)
            self._change(run, lambda: setattr(run, "status", "Stopping"))
            self._quietly(lambda: steps.stop(run, self.perform), f"stop step {run.name}")
        try:
            progress = steps.progress_of(run, self.perform)
        except ServiceError as error:  # what it has made was deleted
            progress = steps.Progress("Failed", error.message)
        if progress.status == "Executing" or self.closing.is_set():
            return False
        if progress.status == "Failed":
            failure = retries.of_reason(progress.reason, kind=run.kind)
            self._fail(run, _Failed(f"ClientError: {progress.reason}", failure=failure))
        else:
            self._change(run, lambda: run.ends(progress.status))
        return True

    @staticmethod
    def _quietly(act: Callable[[], None], what: str) -> None:
        try:
            act()
        except Exception:
            # The step is looked at again, and ends as what it has made ends.
            logger.exception("a pipeline could not %s", what)

    # what starts

    def _start(self) -> bool:
        """Starts the steps that can start; whether there was one."""
        with self.lock:
            runs = self.execution.steps
            stopped = self.execution.status != "Executing" or self._is_lost()
            limit = (self.execution.parallelism or {}).get("MaxParallelExecutionSteps", _MAX_PARALLEL_STEPS)
            room = limit - sum(not run.is_over for run in runs.values())
            ready = [] if stopped else [step for step in self.definition.steps.values() if self._is_ready(step)]
            begun = [(step, self._begin(step)) for step in ready[: max(room, 0)]]
        for step, run in begun:
            if self.closing.is_set():
                return True
            self.events.tell_step(self.execution, run, previous=None)
            self._try(step, run)
        return bool(begun)

    def _is_ready(self, step: Step) -> bool:
        runs, selected = self.execution.steps, self.execution.selected
        if step.name in runs or (selected is not None and step.name not in selected):
            return False
        for name in step.needs:
            wanted = TRIGGERS[step.depends_on.get(name, "Completed")]
            if name not in runs or runs[name].status not in wanted:
                return False
        return step.branch is None or runs[step.branch[0]].outcome == step.branch[1]

    def _is_lost(self) -> bool:
        """Whether a step has ended in a way that no other one waits for."""
        return any(
            not self.definition.is_awaited(run.name, run.status)
            for run in self.execution.steps.values()
            if run.status in ("Failed", "Stopped")
        )

    def _begin(self, step: Step) -> StepRun:
        run = StepRun(name=step.name, kind=step.kind, display_name=step.display_name, description=step.description)
        self.execution.steps[step.name] = run
        return run

    def _try(self, step: Step, run: StepRun) -> None:
        """One attempt: to its end, or until what it makes is begun."""
        with self.lock:
            run.attempts += 1
        try:
            if step.kind == CONDITION:
                self._decide(step, run)
            elif step.kind == FAIL:
                self._fail_as_told(step, run)
            else:
                self._make(step, run)
        except _Failed as failed:
            if not self.closing.is_set():  # at the end of the cloud nothing is made any more
                self._fail(run, failed)
        except Exception as error:
            logger.exception("step %s of %s broke", step.name, self.execution.arn)
            reason = f"InternalServerError: {type(error).__name__}: {error}"
            self._fail(run, _Failed(reason, failure=retries.SERVICE_FAULT))

    def _decide(self, step: Step, run: StepRun) -> None:
        scope = self._scope({})
        try:
            outcome = all(holds(condition, scope) for condition in step.arguments["Conditions"])
        except Unresolved as error:
            raise _Failed(f"ClientError: {error}") from error

        def decided() -> None:
            run.metadata = {"Condition": {"Outcome": str(outcome)}}
            run.ends("Succeeded")

        self._change(run, decided)

    def _fail_as_told(self, step: Step, run: StepRun) -> None:
        message = as_text(self._resolved(step.arguments["ErrorMessage"], {}))
        with self.lock:
            run.metadata = {"Fail": {"ErrorMessage": message}}
        raise _Failed(message)

    def _make(self, step: Step, run: StepRun) -> None:
        kind = KINDS[step.kind]
        given = self._resolved(step.arguments.get(kind.name), {})
        name = steps.resource_name(kind, given=given, execution_id=self.execution.id, step=step.name)
        arguments = self._resolved(step.arguments, {kind.name: name})
        request = steps.request_of(kind, arguments, name=name, execution=self.execution)
        if kind.cached_by and self._take_from_cache(step, run, cache_key(step.kind, kind.cached_by, request)):
            return
        try:
            made = steps.make(kind, request, given=given, perform=self.perform)
        except ServiceError as error:
            raise _Failed(self._why_refused(step, kind.create, error), failure=retries.of_error(error)) from error

        def is_made() -> None:
            run.resource, run.metadata, run.status = made.resource, made.metadata, "Executing"

        self._change(run, is_made)

    def _why_refused(self, step: Step, operation: str, error: ServiceError) -> str:
        why = f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {error.message}"
        where = f"with PipelineExecutionArn {self.execution.arn} and StepId {step.name}"
        return f"{why}\nRetry not appropriate on execution of step {where}."

    def _take_from_cache(self, step: Step, run: StepRun, key: str) -> bool:
        with self.lock:
            run.cache_key = key
            if step.cached_for is None:
                return False
            executions = self.state.executions_of(self.execution.pipeline_arn)
            try:
                oldest = now() - step.cached_for
            except OverflowError:  # longer than there are years
                oldest = min((execution.created for execution in executions), default=now())
            hit = cached(executions, step=step.name, key=key, oldest=oldest)
        if hit is None:
            return False
        source, earlier = hit

        def is_found() -> None:
            run.resource, run.metadata, run.cached_from = earlier.resource, earlier.metadata, source.arn
            run.ends("Succeeded")

        self._change(run, is_found)
        return True

    # how things end

    def _fail(self, run: StepRun, failed: _Failed) -> None:
        """Ends a step's attempt: it is tried again where a policy says so."""
        policies = self.definition.steps[run.name].retry_policies
        policy = retries.chosen(policies, failed.failure) if failed.failure else None
        with self.lock:
            stopping = self.execution.status == "Stopping"
        again = None
        if policy is not None and not stopping:
            again = policy.next_attempt(retries=run.attempts - 1, began=run.started, failed=now())

        def ends() -> None:
            if again is None:
                run.ends("Failed", str(failed))
            else:
                run.retry_at, run.resource, run.metadata = again, None, {}

        self._change(run, ends)

    def _end_if_nothing_is_left(self) -> str | None:
        """The status before the end, where this is the end."""
        with self.lock:
            execution = self.execution
            before = execution.status
            runs = execution.steps.values()
            if any(not run.is_over for run in runs):
                return None
            if execution.status == "Stopping":
                execution.goes_to("Stopped")
            elif self._is_lost():
                execution.goes_to("Failed", STEP_FAILURE)
            elif any(self._is_ready(step) for step in self.definition.steps.values()):
                return None
            elif all(run.status == "Succeeded" for run in runs):
                execution.goes_to("Succeeded")
            else:
                execution.goes_to("CompletedWithFailures")
        return before

    def _change(self, run: StepRun, change: Callable[[], None]) -> None:
        """Changes a step's run, and tells of it where its status is another one."""
        with self.lock:
            previous = run.status
            change()
            self.execution.modified = now()
            current = run.status
        if current != previous:
            self.events.tell_step(self.execution, run, previous=previous)

    # values

    def _resolved(self, value: Any, names: Json) -> Any:
        try:
            return resolved(value, self._scope(names))
        except Unresolved as error:
            raise _Failed(f"ClientError: {error}") from error

    def _scope(self, names: Json) -> Scope:
        """``names`` has the name of the job that is being made."""
        execution = self.execution
        return Scope(
            parameters=execution.parameters,
            execution={**variables_of(execution), **names},
            experiment=execution.experiment,
            properties=self._properties,
            property_file=self._property_file,
            read_json=self._document,
        )

    def _properties(self, name: str) -> Json:
        try:
            return steps.properties_of(self.execution.steps[name], self.perform)
        except ServiceError as error:
            raise Unresolved(f"the properties of step {name} are not there: {error.message}") from error

    def _property_file(self, step: str, name: str) -> str:
        file = self.definition.steps[step].property_files[name]
        folder = steps.output_uri(self._properties(step), file["OutputName"])
        if folder is None:
            raise Unresolved(f"the output {file['OutputName']} of step {step} goes to no place in S3")
        return f"{folder.rstrip('/')}/{file['FilePath'].lstrip('/')}"

    def _document(self, address: str) -> Any:
        try:
            bucket, key = split_s3_uri(address)
            body = self.s3().get_object(Bucket=bucket, Key=key)["Body"]
            content = body.read(_DOCUMENT_BYTES + 1)
            if len(content) > _DOCUMENT_BYTES:
                raise Unresolved(f"{address} is larger than {_DOCUMENT_BYTES} bytes")
            return json.loads(content)
        except (ModelDataError, RoleNotAssumed, ClientError, BotoCoreError) as error:
            raise Unresolved(f"{address} cannot be read: {error}") from error
        except (ValueError, RecursionError) as error:
            raise Unresolved(f"{address} is not JSON: {error}") from error


def variables_of(execution: Execution) -> Json:
    """What references to ``Execution`` see, but for the names of jobs."""
    return {
        "StartDateTime": as_text(execution.created),
        "CurrentDateTime": as_text(now()),
        "PipelineName": execution.pipeline_name,
        "PipelineArn": execution.pipeline_arn,
        "PipelineExecutionId": execution.id,
        "PipelineExecutionArn": execution.arn,
    }
