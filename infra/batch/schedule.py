"""The clock that starts jobs."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from tidegate.infra.batch.intake import SCHEDULED_EVENT
from tidegate.infra.workflows.event_trigger import ATTEMPTS, MAX_AGE_S, Undelivered
from tidegate.infra.workflows.state_machine import StateMachine, starter


class ScheduleTrigger(Construct):
    """Starts a state machine by the clock of a time zone."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        expression: str,
        timezone: str,
        machine: StateMachine,
        undelivered: Undelivered,
    ) -> None:
        super().__init__(scope, id_)
        # Of its own, because the scheduler's metrics are counted by group.
        group = scheduler.CfnScheduleGroup(self, "Group", name=name)
        arn = cdk.Stack.of(self).format_arn(service="scheduler", resource="schedule-group", resource_name=name)
        role = starter(
            self,
            "Role",
            service="scheduler.amazonaws.com",
            source_arn=arn,
            machine_arn=machine.arn,
            queue_arn=undelivered.queue.queue_arn,
        )
        schedule = scheduler.CfnSchedule(
            self,
            "Schedule",
            name=name,
            group_name=name,
            description="Transforms what lies below the schedule's prefix",
            schedule_expression=expression,
            schedule_expression_timezone=timezone,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            state="ENABLED",
            target=scheduler.CfnSchedule.TargetProperty(
                arn=machine.arn,
                role_arn=role.role_arn,
                input=json.dumps(SCHEDULED_EVENT),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=undelivered.queue.queue_arn),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=MAX_AGE_S, maximum_retry_attempts=ATTEMPTS
                ),
            ),
        )
        schedule.add_resource_dependency(group)
        schedule.add_resource_dependency(machine.resource)
