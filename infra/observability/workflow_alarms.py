"""Which alarms batch jobs, roll-outs and schedules have."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.infra.observability.alarm import FIVE_MINUTES_S, Alarm, MetricAlarm, on_one
from tidegate.infra.observability.metrics import MetricReference
from tidegate.infra.observability.watched import WatchedWorkflows


def of_workflows(workflows: WatchedWorkflows) -> Iterator[Alarm]:
    """Batch jobs and roll-outs that failed, and events and schedules that could not be delivered.

    One is enough: each is work that somebody waits for and that nothing will do again.
    """
    for machine in workflows.state_machines:
        yield MetricAlarm(
            kind=f"{machine.name}-failed",
            meaning=f"An execution of the state machine {machine.name} failed; its history says at which step.",
            inputs={
                name: MetricReference(
                    namespace="AWS/States",
                    name=metric,
                    dimensions={"StateMachineArn": machine.arn},
                    statistic="Sum",
                    period_s=FIVE_MINUTES_S,
                )
                for name, metric in (
                    ("failed", "ExecutionsFailed"),
                    ("late", "ExecutionsTimedOut"),
                    ("aborted", "ExecutionsAborted"),
                )
            },
            expression="SUM(METRICS())",
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
            breaching=1,
            periods=1,
        )
    for queue in workflows.dead_letter_queues:
        yield on_one(
            kind=f"{queue}-filled",
            meaning=f"The queue {queue} holds events that could not be delivered; read, mend, send again.",
            metric=MetricReference(
                namespace="AWS/SQS",
                name="ApproximateNumberOfMessagesVisible",
                dimensions={"QueueName": queue},
                statistic="Maximum",
                period_s=FIVE_MINUTES_S,
            ),
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
        )
    if workflows.schedule_group is not None:
        yield on_one(
            kind="schedule-dropped",
            meaning="EventBridge Scheduler gave up on a scheduled job; look at its role and its target.",
            metric=MetricReference(
                namespace="AWS/Scheduler",
                name="InvocationDroppedCount",
                dimensions={"ScheduleGroup": workflows.schedule_group},
                statistic="Sum",
                period_s=FIVE_MINUTES_S,
            ),
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
        )
