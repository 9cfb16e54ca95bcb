"""What a test has made in a cloud's account: found by listing it, and removed, room by room.

A room is a kind of thing that a service lists and deletes. Jobs cannot be deleted, as on AWS: they are stopped. Nor can
keys, nor are networks, in which nothing runs here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

Name = tuple[str, ...]
Found = dict[str, set[Name]]
Clients = Callable[[str], Any]
"""Gives an ordinary boto3 client of a service."""

_TIMEOUT_S = 600.0  # AWS gives a container 8 minutes to become healthy, and what comes up cannot be deleted
_PAUSE_S = 0.05
_ACCOUNT = "123456789012"


def _nothing(_clients: Clients, _name: Name) -> None:
    """What must go before a thing that has nothing in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One kind of thing: ``key`` are the members of a listed item that name it, none where the item is the name.

    ``delete`` gets them as ``parameters``, in a list where ``in_list`` is set. ``before`` takes out what must go first.
    """

    service: str
    listing: str
    member: str
    delete: str
    key: Sequence[str] = ()
    parameters: Sequence[str] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, Any] = field(default_factory=dict)
    in_list: bool = False
    before: Callable[[Clients, Name], None] = _nothing

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.service} {self.member}"

    def there(self, clients: Clients) -> set[Name]:
        """The names of all that there is."""
        client = clients(self.service)
        if client.can_paginate(self.listing):
            pages = client.get_paginator(self.listing).paginate(**self.asked)
        else:
            pages = [getattr(client, self.listing)(**self.asked)]
        items = [item for page in pages for item in page.get(self.member, [])]
        return {tuple(str(item[key]) for key in self.key) if self.key else (str(item),) for item in items}

    def remove(self, clients: Clients, name: Name) -> None:
        """Asks for it to go. Raises ClientError where it cannot yet, or is gone."""
        client = clients(self.service)
        self.before(clients, name)
        values = dict(zip(self.parameters or self.key, name, strict=True))
        given = {key: [value] for key, value in values.items()} if self.in_list else values
        getattr(client, self.delete)(**given, **self.further)


def _empty_bucket(clients: Clients, name: Name) -> None:
    s3 = clients("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name[0]):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=name[0], Key=item["Key"], VersionId=item["VersionId"])


def _remove_targets(clients: Clients, name: Name) -> None:
    events = clients("events")
    targets = events.list_targets_by_rule(Rule=name[0], EventBusName=name[1])["Targets"]
    if targets:
        events.remove_targets(Rule=name[0], EventBusName=name[1], Ids=[target["Id"] for target in targets])


def _remove_packages(clients: Clients, name: Name) -> None:
    sagemaker = clients("sagemaker")
    pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=name[0])
    for package in [each for page in pages for each in page["ModelPackageSummaryList"]]:
        sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])


def _stop_pipeline(clients: Clients, name: Name) -> None:
    sagemaker = clients("sagemaker")
    for execution in sagemaker.list_pipeline_executions(PipelineName=name[0])["PipelineExecutionSummaries"]:
        if execution["PipelineExecutionStatus"] == "Executing":
            sagemaker.stop_pipeline_execution(
                PipelineExecutionArn=execution["PipelineExecutionArn"], ClientRequestToken=str(uuid.uuid4())
            )


def _stop_machine(clients: Clients, name: Name) -> None:
    stepfunctions = clients("stepfunctions")
    for execution in stepfunctions.list_executions(stateMachineArn=name[0], statusFilter="RUNNING")["executions"]:
        stepfunctions.stop_execution(executionArn=execution["executionArn"])


def _empty_what_a_stack_holds(clients: Clients, name: Name) -> None:
    """What CloudFormation does not delete while there is something in it."""
    for resource in clients("cloudformation").describe_stack_resources(StackName=name[0])["StackResources"]:
        held, its_name = resource["ResourceType"], resource.get("PhysicalResourceId", "")
        with suppress(ClientError):  # not made, or gone
            if held == "AWS::S3::Bucket":
                _empty_bucket(clients, (its_name,))
            elif held == "AWS::SageMaker::ModelPackageGroup":
                _remove_packages(clients, (its_name.rpartition("/")[2],))
            elif held == "AWS::ECR::Repository":
                images = clients("ecr").list_images(repositoryName=its_name)["imageIds"]
                if images:
                    clients("ecr").batch_delete_image(repositoryName=its_name, imageIds=images)


def _strip_role(clients: Clients, name: Name) -> None:
    iam = clients("iam")
    for policy in iam.list_attached_role_policies(RoleName=name[0])["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name[0], PolicyArn=policy["PolicyArn"])
    for policy in iam.list_role_policies(RoleName=name[0])["PolicyNames"]:
        iam.delete_role_policy(RoleName=name[0], PolicyName=policy)
    for profile in iam.list_instance_profiles_for_role(RoleName=name[0])["InstanceProfiles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=profile["InstanceProfileName"], RoleName=name[0])


def _strip_policy(clients: Clients, name: Name) -> None:
    iam = clients("iam")
    for version in iam.list_policy_versions(PolicyArn=name[0])["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=name[0], VersionId=version["VersionId"])


def _sagemaker(
    resource: str, member: str, *, before: Callable[[Clients, Name], None] = _nothing, **further: Any
) -> Room:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in resource)
    return Room(
        service="sagemaker",
        listing=f"list{words}s",
        member=member,
        key=(f"{resource}Name",),
        delete=f"delete{words}",
        further=further,
        before=before,
    )


_SCALED = {"ServiceNamespace": "sagemaker"}
_SCALED_BY = ("ResourceId", "ScalableDimension")

ROOMS: Sequence[Room] = (
    # In the order in which they go: who makes or asks others, before these.
    Room(
        service="cloudformation",
        listing="describe_stacks",
        member="Stacks",
        key=("StackName",),
        delete="delete_stack",
        before=_empty_what_a_stack_holds,
    ),
    Room(
        service="scheduler",
        listing="list_schedules",
        member="Schedules",
        key=("Name", "GroupName"),
        delete="delete_schedule",
    ),
    Room(
        service="scheduler",
        listing="list_schedule_groups",
        member="ScheduleGroups",
        key=("Name",),
        delete="delete_schedule_group",
    ),
    Room(
        service="events",
        listing="list_rules",
        member="Rules",
        key=("Name", "EventBusName"),
        delete="delete_rule",
        before=_remove_targets,
    ),
    Room(
        service="stepfunctions",
        listing="list_state_machines",
        member="stateMachines",
        key=("stateMachineArn",),
        delete="delete_state_machine",
        before=_stop_machine,
    ),
    Room(
        service="application-autoscaling",
        listing="describe_scheduled_actions",
        member="ScheduledActions",
        key=("ScheduledActionName", *_SCALED_BY),
        asked=_SCALED,
        delete="delete_scheduled_action",
        further=_SCALED,
    ),
    Room(
        service="application-autoscaling",
        listing="describe_scaling_policies",
        member="ScalingPolicies",
        key=("PolicyName", *_SCALED_BY),
        asked=_SCALED,
        delete="delete_scaling_policy",
        further=_SCALED,
    ),
    Room(
        service="application-autoscaling",
        listing="describe_scalable_targets",
        member="ScalableTargets",
        key=_SCALED_BY,
        asked=_SCALED,
        delete="deregister_scalable_target",
        further=_SCALED,
    ),
    *(
        Room(
            service="cloudwatch",
            listing="describe_alarms",
            member=member,
            key=("AlarmName",),
            asked={"AlarmTypes": [kind]},
            delete="delete_alarms",
            parameters=("AlarmNames",),
            in_list=True,
        )
        for kind, member in (("CompositeAlarm", "CompositeAlarms"), ("MetricAlarm", "MetricAlarms"))
    ),
    Room(
        service="cloudwatch",
        listing="list_dashboards",
        member="DashboardEntries",
        key=("DashboardName",),
        delete="delete_dashboards",
        parameters=("DashboardNames",),
        in_list=True,
    ),
    _sagemaker(
        "Pipeline", "PipelineSummaries", before=_stop_pipeline, ClientRequestToken="removed-after-the-test-that-made-it"
    ),
    _sagemaker("MonitoringSchedule", "MonitoringScheduleSummaries"),
    Room(
        service="sagemaker",
        listing="list_data_quality_job_definitions",
        member="JobDefinitionSummaries",
        key=("MonitoringJobDefinitionName",),
        delete="delete_data_quality_job_definition",
        parameters=("JobDefinitionName",),
    ),
    _sagemaker("InferenceComponent", "InferenceComponents"),
    _sagemaker("Endpoint", "Endpoints"),
    _sagemaker("EndpointConfig", "EndpointConfigs"),
    _sagemaker("Model", "Models"),
    Room(
        service="sagemaker",
        listing="list_model_packages",
        member="ModelPackageSummaryList",
        asked={"ModelPackageType": "Unversioned"},
        key=("ModelPackageArn",),
        delete="delete_model_package",
        parameters=("ModelPackageName",),
    ),
    _sagemaker("ModelPackageGroup", "ModelPackageGroupSummaryList", before=_remove_packages),
    Room(
        service="apigateway",
        listing="get_rest_apis",
        member="items",
        key=("id",),
        delete="delete_rest_api",
        parameters=("restApiId",),
    ),
    Room(service="sns", listing="list_topics", member="Topics", key=("TopicArn",), delete="delete_topic"),
    Room(
        service="sqs",
        listing="list_queues",
        member="QueueUrls",
        delete="delete_queue",
        parameters=("QueueUrl",),
    ),
    Room(
        service="dynamodb",
        listing="list_tables",
        member="TableNames",
        delete="delete_table",
        parameters=("TableName",),
    ),
    Room(service="glue", listing="get_databases", member="DatabaseList", key=("Name",), delete="delete_database"),
    Room(
        service="athena",
        listing="list_work_groups",
        member="WorkGroups",
        key=("Name",),
        delete="delete_work_group",
        parameters=("WorkGroup",),
        further={"RecursiveDeleteOption": True},
    ),
    Room(
        service="budgets",
        listing="describe_budgets",
        member="Budgets",
        key=("BudgetName",),
        asked={"AccountId": _ACCOUNT},
        delete="delete_budget",
        further={"AccountId": _ACCOUNT},
    ),
    Room(service="ssm", listing="describe_parameters", member="Parameters", key=("Name",), delete="delete_parameter"),
    Room(
        service="ecr",
        listing="describe_repositories",
        member="repositories",
        key=("repositoryName",),
        delete="delete_repository",
        further={"force": True},
    ),
    Room(service="kms", listing="list_aliases", member="Aliases", key=("AliasName",), delete="delete_alias"),
    Room(
        service="iam", listing="list_roles", member="Roles", key=("RoleName",), delete="delete_role", before=_strip_role
    ),
    Room(
        service="iam",
        listing="list_policies",
        member="Policies",
        key=("Arn",),
        asked={"Scope": "Local"},
        delete="delete_policy",
        parameters=("PolicyArn",),
        before=_strip_policy,
    ),
    Room(
        service="logs",
        listing="describe_log_groups",
        member="logGroups",
        key=("logGroupName",),
        delete="delete_log_group",
    ),
    Room(
        service="s3",
        listing="list_buckets",
        member="Buckets",
        key=("Name",),
        delete="delete_bucket",
        parameters=("Bucket",),
        before=_empty_bucket,
    ),
)

STOPPED: Mapping[str, tuple[str, str]] = {
    # SageMaker's jobs, which stay: by the operation that lists them, how their names are called, and what stops one
    "list_training_jobs": ("TrainingJobName", "stop_training_job"),
    "list_processing_jobs": ("ProcessingJobName", "stop_processing_job"),
    "list_transform_jobs": ("TransformJobName", "stop_transform_job"),
    "list_hyper_parameter_tuning_jobs": ("HyperParameterTuningJobName", "stop_hyper_parameter_tuning_job"),
}


def there(clients: Clients) -> Found:
    """The names of all that there is, by room, and of the jobs that run, by the operation that lists them."""
    found = {room.name: room.there(clients) for room in ROOMS}
    return found | {listing: _running(clients("sagemaker"), listing) for listing in STOPPED}


def remove_all_but(clients: Clients, before: Found) -> None:
    """Removes what was not there before, and stops the jobs that did not run then.

    Raises AssertionError with the names of what does not go.
    """
    sagemaker = clients("sagemaker")
    for listing, (member, stop) in STOPPED.items():
        for (job,) in _running(sagemaker, listing) - before[listing]:
            with suppress(ClientError):  # it has ended
                getattr(sagemaker, stop)(**{member: job})
    deadline = time.monotonic() + _TIMEOUT_S
    for room in ROOMS:
        while left := room.there(clients) - before[room.name]:
            for name in left:
                # Gone by now; or it is changing still, or has others in it, and is asked to go again.
                with suppress(ClientError):
                    room.remove(clients, name)
            if time.monotonic() > deadline:
                names = ", ".join(sorted("/".join(name) for name in left))
                raise AssertionError(f"{room.name} of a test still there after it: {names}")
            time.sleep(_PAUSE_S)


def _running(sagemaker: Any, listing: str) -> set[Name]:
    member = STOPPED[listing][0]
    pages = sagemaker.get_paginator(listing).paginate(StatusEquals="InProgress")
    summaries = (value for page in pages for value in page.values() if isinstance(value, list))
    return {(item[member],) for items in summaries for item in items}
