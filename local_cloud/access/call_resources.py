"""What a call is about: the action and the resources that a policy has to allow.

Source: the service authorization reference, for the services that the roles of this project and of SageMaker's own
policies name. Of every other call the action alone is asked for, whatever its resource is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidegate.local_cloud.access.policy_decisions import ANY

Members = Mapping[str, Any]

# Where a policy calls a service, or an action, other than its requests do.
_PREFIXES = {"monitoring": "cloudwatch", "email": "ses"}
_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction"}
_ACTIONS_OF_S3 = {
    # moto's name: the policy's
    "HeadBucket": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
}
_SETTINGS_OF_BUCKETS = {
    # moto takes these for calls that list, make or delete the bucket
    "encryption": "EncryptionConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "lifecycle": "LifecycleConfiguration",
}


def action_of(service: str, operation: str) -> str:
    """The action of a policy; ``service`` is what requests are signed for."""
    action = f"{_PREFIXES.get(service, service)}:{operation}"
    return _ACTIONS.get(action, action)


def action_of_s3(name: str, method: str, query: Mapping[str, Any]) -> str:
    """The action of a call of S3, of which moto says ``name``."""
    for setting, action in _SETTINGS_OF_BUCKETS.items():
        if setting in query:
            return f"s3:{'Get' if method == 'GET' else 'Put'}{action}"
    return f"s3:{_ACTIONS_OF_S3.get(name, name)}"


def resources_of(action: str, members: Members, *, account: str, region: str) -> Sequence[str]:
    """All resources that must be allowed; :data:`.ANY` where nobody here knows which."""
    prefix = action.partition(":")[0]

    def arn(kind_and_name: str, service: str = prefix) -> str:
        return f"arn:aws:{service}:{'' if service == 'iam' else region}:{account}:{kind_and_name}"

    if action in _WITHOUT_RESOURCES:
        return ["*"]
    find = _RESOURCES.get(prefix)
    found = find(action, members, arn) if find is not None else []
    return found or [ANY]


_Arn = Callable[[str], str]

_WITHOUT_RESOURCES = frozenset(
    {
        "cloudwatch:PutMetricData",
        "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics",
        "cloudwatch:ListMetrics",
        "ecr:GetAuthorizationToken",
        "logs:DescribeLogGroups",
        "sts:GetCallerIdentity",
        "sts:GetServiceBearerToken",
    }
)


def _named(value: Any, made: Callable[[str], str]) -> list[str]:
    """One resource, by its ARN or by its name."""
    if not value:
        return []
    return [str(value) if str(value).startswith("arn:") else made(str(value))]


def _of_logs(_: str, members: Members, arn: _Arn) -> list[str]:
    group = members.get("logGroupName") or str(members.get("logGroupIdentifier", "")).rpartition(":log-group:")[2]
    return [arn(f"log-group:{group}:log-stream:{members.get('logStreamName', '')}")] if group else []


def _of_alarms(_: str, members: Members, arn: _Arn) -> list[str]:
    names = members.get("AlarmNames") or []
    return [arn(f"alarm:{name}") for name in names] or [arn("alarm:*")]


def _of_topics(_: str, members: Members, arn: _Arn) -> list[str]:
    return _named(members.get("TopicArn") or members.get("TargetArn") or members.get("Name"), arn)


def _of_queues(_: str, members: Members, arn: _Arn) -> list[str]:
    name = members.get("QueueName") or str(members.get("QueueUrl", "")).rpartition("/")[2]
    return [arn(name)] if name else []


def _of_machines(_: str, members: Members, arn: _Arn) -> list[str]:
    given = members.get("stateMachineArn") or members.get("executionArn") or members.get("activityArn")
    return _named(given, lambda name: arn(f"stateMachine:{name}"))


def _of_parameters(_: str, members: Members, arn: _Arn) -> list[str]:
    names = members.get("Names") or [members.get("Name") or members.get("Path")]
    return [found for name in names for found in _named(name, lambda given: arn(f"parameter/{given.lstrip('/')}"))]


def _of_repositories(_: str, members: Members, arn: _Arn) -> list[str]:
    return _named(members.get("repositoryName"), lambda name: arn(f"repository/{name}"))


def _of_stacks(_: str, members: Members, arn: _Arn) -> list[str]:
    # The id behind a stack's name is CloudFormation's; a policy has a `*` there.
    return _named(members.get("StackName"), lambda name: arn(f"stack/{name}/*"))


def _of_tables(_: str, members: Members, arn: _Arn) -> list[str]:
    return _named(members.get("TableName"), lambda name: arn(f"table/{name}"))


def _of_workgroups(_: str, members: Members, arn: _Arn) -> list[str]:
    return _named(members.get("WorkGroup"), lambda name: arn(f"workgroup/{name}"))


def _of_keys(_: str, members: Members, arn: _Arn) -> list[str]:
    given = str(members.get("KeyId") or "")
    return [] if given.startswith("alias/") else _named(given, lambda name: arn(f"key/{name}"))


def _of_catalogue(_: str, members: Members, arn: _Arn) -> list[str]:
    """A right on a table is asked for on everything above it too (Glue guide, resource ARNs)."""
    database = members.get("DatabaseName")
    table = members.get("TableName") or (members.get("Name") if database else None)
    database = database or members.get("Name")
    found = [arn("catalog")]
    found += [arn(f"database/{database}")] if database else []
    return found + ([arn(f"table/{database}/{table}")] if table else [])


def _of_buses(_: str, members: Members, arn: _Arn) -> list[str]:
    names = {entry.get("EventBusName") or "default" for entry in members.get("Entries", []) if isinstance(entry, dict)}
    return [found for name in sorted(names) for found in _named(name, lambda given: arn(f"event-bus/{given}"))]


def _of_secrets(_: str, members: Members, arn: _Arn) -> list[str]:
    # The six characters behind a secret's name are AWS's; a policy has `-??????` or a `*` there.
    return _named(members.get("SecretId"), lambda name: arn(f"secret:{name}-000000"))


def _of_identities(action: str, _: Members, arn: _Arn) -> list[str]:
    """A list is about all that are below a path. Of others the path is not in the request, and so the ARN unknown."""
    kinds = {"ListRoles": "role/", "ListUsers": "user/", "ListGroups": "group/", "ListPolicies": "policy/"}
    kind = kinds.get(action.removeprefix("iam:"))
    return [arn(kind)] if kind is not None else []


def _of_roles(action: str, members: Members, _: _Arn) -> list[str]:
    return _named(members.get("RoleArn"), str) if action == "sts:AssumeRole" else []


_RESOURCES: Mapping[str, Callable[[str, Members, _Arn], list[str]]] = {
    "athena": _of_workgroups,
    "cloudformation": _of_stacks,
    "cloudwatch": _of_alarms,
    "dynamodb": _of_tables,
    "ecr": _of_repositories,
    "events": _of_buses,
    "glue": _of_catalogue,
    "iam": _of_identities,
    "kms": _of_keys,
    "logs": _of_logs,
    "secretsmanager": _of_secrets,
    "sns": _of_topics,
    "sqs": _of_queues,
    "ssm": _of_parameters,
    "states": _of_machines,
    "sts": _of_roles,
}
