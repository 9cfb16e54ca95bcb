"""A state machine with its log, its role, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from tidegate.infra.rights.acknowledgements import acknowledge_wildcard
from tidegate.infra.workflows.states import Definition

# Step Functions writes through CloudWatch's log delivery and to X-Ray; neither knows resources.
# Sources: https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html and …/concepts-xray-tracing.html
_LOG_DELIVERY = [
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
]
_TRACING = [
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
]


class StateMachine(Construct):
    """A standard state machine: each execution runs exactly once and can be looked at for 90 days.

    Its role may write its log and its traces; everything else is given by `may`.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        definition: Definition,
        values: Mapping[str, str],
        log_retention_days: int,
    ) -> None:
        """`values` are put into the definition where it says `${Name}`; they may be tokens."""
        super().__init__(scope, id_)
        stack = cdk.Stack.of(self)
        self.name = name
        # Built from its name, so that policies can name it before it is there.
        self.arn = stack.format_arn(
            service="states",
            resource="stateMachine",
            resource_name=name,
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        self._policy = iam.PolicyDocument()
        self.role = iam.Role(
            self,
            "Role",
            # Only on behalf of this machine, not of another account's that names our role.
            assumed_by=iam.ServicePrincipal(
                "states.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": stack.account},
                    "ArnLike": {"aws:SourceArn": self.arn},
                },
            ),
            description=f"State machine {name}",
            inline_policies={"work": self._policy},
        )
        self._statement("DeliverLogs", _LOG_DELIVERY, ["*"])
        self._statement("Trace", _TRACING, ["*"])
        acknowledge_wildcard(self.role, "*", "the actions of log delivery and of X-Ray know no resources")
        # Goes with its stack also where data is kept: it has a fixed name, which would stop the next creation.
        log = logs.CfnLogGroup(
            self,
            "Log",
            # Below this name the resource policy that Step Functions needs stays one, however many machines there are.
            log_group_name=f"/aws/vendedlogs/states/{name}",
            retention_in_days=log_retention_days,
        )
        self.resource = stepfunctions.CfnStateMachine(
            self,
            "StateMachine",
            state_machine_name=name,
            state_machine_type="STANDARD",
            role_arn=self.role.role_arn,
            definition_string=cdk.Fn.sub(json.dumps(definition, indent=1), dict(values)),
            logging_configuration=stepfunctions.CfnStateMachine.LoggingConfigurationProperty(
                level="ALL",
                include_execution_data=True,
                destinations=[
                    stepfunctions.CfnStateMachine.LogDestinationProperty(
                        cloud_watch_logs_log_group=stepfunctions.CfnStateMachine.CloudWatchLogsLogGroupProperty(
                            log_group_arn=log.attr_arn
                        )
                    )
                ],
            ),
            tracing_configuration=stepfunctions.CfnStateMachine.TracingConfigurationProperty(enabled=True),
        )

    def may(
        self, sid: str, actions: Sequence[str], resources: Sequence[str], *, any_because: str | None = None
    ) -> None:
        """Allow `actions` on `resources`; those that end in `*` need the reason why no narrower one is known."""
        self._statement(sid, actions, resources)
        if any_because is not None:
            for resource in resources:
                acknowledge_wildcard(self.role, resource, any_because)

    def _statement(self, sid: str, actions: Sequence[str], resources: Sequence[str]) -> None:
        self._policy.add_statements(
            iam.PolicyStatement(sid=sid, effect=iam.Effect.ALLOW, actions=list(actions), resources=list(resources))
        )


def starter(
    scope: Construct, id_: str, *, service: str, source_arn: str, machine_arn: str, queue_arn: str | None = None
) -> iam.Role:
    """The role in which `service`, on behalf of `source_arn` only, starts one state machine.

    `queue_arn`: where it may put what could not be delivered; EventBridge Scheduler uses the role for that too.
    """
    stack = cdk.Stack.of(scope)
    statements = [
        iam.PolicyStatement(
            sid="Start", effect=iam.Effect.ALLOW, actions=["states:StartExecution"], resources=[machine_arn]
        )
    ]
    if queue_arn is not None:
        statements.append(
            iam.PolicyStatement(
                sid="KeepUndelivered", effect=iam.Effect.ALLOW, actions=["sqs:SendMessage"], resources=[queue_arn]
            )
        )
    return iam.Role(
        scope,
        id_,
        assumed_by=iam.ServicePrincipal(
            service,
            conditions={
                "StringEquals": {"aws:SourceAccount": stack.account},
                "ArnLike": {"aws:SourceArn": source_arn},
            },
        ),
        inline_policies={"start": iam.PolicyDocument(statements=statements)},
    )
