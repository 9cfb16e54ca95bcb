"""Metrics of the services beside SageMaker that this project's alarms look at: state machines and queues.

Sources: "Monitoring Step Functions metrics using CloudWatch" and "Available CloudWatch metrics for Amazon SQS".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from tidegate.local_cloud.metrics.store import MetricStore, Series

_ENDINGS = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
    "ABORTED": "ExecutionsAborted",
}


@dataclass(slots=True)
class WorkflowMetrics:
    """Emits into ``store`` when it is called, at a full minute. ``told`` is its state: executions, and what it told."""

    store: MetricStore
    account: str
    region: str
    told: set[tuple[str, str]] = field(default_factory=set)

    def emit(self, moment: datetime) -> None:
        """Of the minute that begins at ``moment``."""
        there: set[tuple[str, str]] = set()
        for machine in list(stepfunctions_parser_backends[self.account][self.region].state_machines):
            for execution in list(machine.executions):
                names = ["ExecutionsStarted"]
                names += [_ENDINGS[execution.status]] if execution.status in _ENDINGS else []
                for name in names:
                    arn = execution.exec_arn  # type: ignore[attr-defined]  # of the interpreter's own class
                    key = (arn, name)
                    there.add(key)
                    if key not in self.told:
                        series = Series.of("AWS/States", name, {"StateMachineArn": machine.arn})
                        self.store.add(series, moment, 1.0)
        self.told.intersection_update(there)
        self.told.update(there)
        for queue in list(sqs_backends[self.account][self.region].queues.values()):
            series = Series.of("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": queue.name})
            self.store.add(series, moment, float(queue.approximate_number_of_messages))
