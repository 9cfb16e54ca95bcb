"""What stands in the account already: the role that SageMaker takes on, and names that must be free or the stage's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.subject import Subject
from tidegate.infra.hosting import log_group_names

SAGEMAKER = "sagemaker.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role of IAM by its name, with its trust policy; `trust` is None where there is no such role."""

    name: str
    trust: Mapping[str, Any] | None


def role(subject: Subject, found: Role | Unanswered | None) -> Finding:
    """`found` is None before the endpoint's stack, which makes the role, was deployed."""
    check, asked = "role", "iam:GetRole"
    if isinstance(found, Unanswered):
        return unknown(check, asked, found, subject.aws("iam list-roles"))
    if found is None:
        return ok(check, "cloudformation:DescribeStacks", "The endpoint's stack makes the role when it is deployed.")
    asked = f"iam:GetRole {found.name}"
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": SAGEMAKER}, "Action": "sts:AssumeRole"}],
        }
    )
    if found.trust is None:
        make = f"aws iam create-role --role-name {found.name} --assume-role-policy-document '{policy}'"
        return Finding(
            check=check,
            asked=asked,
            severity=Severity.ERROR,
            sentence=f"There is no role {found.name}, which the endpoint runs in.",
            command=subject.cdk("deploy endpoint") if subject.stage.role.arn is None else make,
        )
    if _trusts_sagemaker(found.trust):
        return ok(check, asked, f"SageMaker may take on the role {found.name}.")
    return Finding(
        check=check,
        asked=asked,
        severity=Severity.ERROR,
        sentence=f"The trust policy of role {found.name} does not let {SAGEMAKER} take it on.",
        command=f"aws iam update-assume-role-policy --role-name {found.name} --policy-document '{policy}'",
    )


def _trusts_sagemaker(policy: Mapping[str, Any]) -> bool:
    for statement in _listed(policy.get("Statement", [])):
        principal = statement.get("Principal", {})
        services = _listed(principal.get("Service", [])) if isinstance(principal, Mapping) else [principal]
        actions = _listed(statement.get("Action", []))
        if (
            statement.get("Effect") == "Allow"
            and {"*", SAGEMAKER} & set(services)
            and {"*", "sts:*", "sts:AssumeRole"} & set(actions)
        ):
            return True
    return False


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


class Taken(Enum):
    """Whether a name is in use."""

    FREE = "free"
    IN_THIS_ACCOUNT = "in this account"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name that a stack of the stage gives. `remove` is the command that ends what bears it, without `aws`."""

    kind: str
    name: str
    unit: str
    remove: str
    # Whether it can be taken under the stack again.
    importable: bool = False


def names_of(subject: Subject) -> list[Name]:
    """The names that must be free before the stack that gives them is there."""
    names, stage = subject.names, subject.stage
    found = [
        Name(kind="bucket", name=bucket, unit="storage", remove=f"s3 rb s3://{bucket}", importable=True)
        for bucket in (subject.bucket, names.bucket(subject, "logs"))
    ]
    found += [
        Name(
            kind="repository",
            name=names.repository,
            unit="registry",
            remove=f"ecr delete-repository --repository-name {names.repository}",
            importable=True,
        ),
        Name(
            kind="endpoint",
            name=names.endpoint,
            unit="endpoint",
            remove=f"sagemaker delete-endpoint --endpoint-name {names.endpoint}",
        ),
    ]
    groups = {name: "endpoint" for name, days in log_group_names.of_stage(stage, names.endpoint).items() if days}
    if isinstance(stage.network, NewVpc):
        groups[names.parameter("network")] = "network"
    if stage.batch is not None:
        groups[f"/aws/vendedlogs/states/{names.batch_jobs}"] = "batch"
        if stage.batch.on_upload or stage.batch.schedule is not None:
            groups[f"/aws/vendedlogs/states/{names.batch_intake}"] = "batch"
    if stage.model_registry is not None and stage.model_registry.promotion:
        groups[f"/aws/vendedlogs/states/{names.promotion}"] = "models"
    return found + [
        Name(kind="log group", name=group, unit=unit, remove=f"logs delete-log-group --log-group-name {group}")
        for group, unit in groups.items()
    ]


def name(subject: Subject, wanted: Name, taken: Taken | Unanswered, *, standing: bool) -> Finding:
    """`standing`: the stack that gives the name is there, so that it is the stage's own."""
    check, asked = "names", f"{wanted.kind} {wanted.name}"
    if isinstance(taken, Unanswered):
        return unknown(check, asked, taken)
    if taken is Taken.ELSEWHERE:
        sentence = f"The {wanted.kind} {wanted.name} belongs to another account, or to somebody whose rights you lack."
        command = f"write another prefix into {subject.stage.name}.toml"
        return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)
    if taken is Taken.FREE:
        return ok(check, asked, f"The name of the {wanted.kind} {wanted.name} is free.")
    if standing:
        return ok(check, asked, f"The {wanted.kind} {wanted.name} is the stage's own.")
    way = subject.cdk(f"import {wanted.unit}") if wanted.importable else subject.aws(wanted.remove)
    return Finding(
        check=check,
        asked=asked,
        severity=Severity.ERROR,
        sentence=f"There is a {wanted.kind} {wanted.name} without the stack {subject.names.stack(wanted.unit)}, whose "
        "deploy would find the name taken.",
        command=way,
    )
