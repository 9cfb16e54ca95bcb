"""What this cloud has recorded of a role, and of the policies of what a call is about. Reads moto's state in place.

A call of a role is a call of S3 in the midst of a transform job: asking moto by HTTP would cost several calls for each.
It uses private names of moto 5.2.5, as all of this room does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from moto.iam.exceptions import NotFoundException
from moto.iam.models import Role, iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.sts.models import AssumedRole, sts_backends
from moto.utilities.utils import get_partition

from tidegate.local_cloud.access.policy_conditions import listed
from tidegate.local_cloud.access.policy_decisions import Document, Policies, Principal

_ACTING = frozenset(f"{service}.amazonaws.com" for service in ("sagemaker", "states", "events", "scheduler"))


def session_of(access_key_id: str, *, account: str, region: str) -> AssumedRole | None:
    """The session of a role that a key belongs to; None for every other key."""
    return sts_backends[account][get_partition(region)].get_assumed_role_from_access_key(access_key_id)


def role_of(arn: str) -> Role | None:
    """A role of this cloud."""
    parts = arn.split(":")
    if len(parts) < 6:
        return None
    with suppress(NotFoundException):
        return iam_backends[parts[4]][parts[1]].get_role_by_arn(arn)
    return None


def principal_of(session: AssumedRole) -> Principal:
    return Principal(account=session.role_arn.split(":")[4], role_arn=session.role_arn, session_arn=session.arn)


def policies_of(session: AssumedRole, policy_arns: Sequence[str], resource: list[Document]) -> Policies:
    """The policies that count for a call of a session: of the role, its boundary, the session's own.

    Of these the inline one and the managed ones of ``policy_arns`` count together; one that is not there allows
    nothing.
    """
    role = role_of(session.role_arn)
    if role is None:
        return Policies(identity=(), resource=resource)
    return Policies(
        identity=list(identity_documents(role)),
        boundary=_boundary(role),
        session=_of_session(session, policy_arns),
        resource=resource,
    )


def _of_session(session: AssumedRole, policy_arns: Sequence[str]) -> list[Document] | None:
    if not session.policy and not policy_arns:
        return None
    known = iam_backends[session.account_id][session.partition].managed_policies
    return [
        *([_read(session.policy)] if session.policy else []),
        *(_default_version(known[arn]) for arn in policy_arns if arn in known),
    ]


def identity_documents(role: Role) -> Iterator[Document]:
    for document in list(role.policies.values()):
        yield _read(document)
    for policy in list(role.managed_policies.values()):
        yield _default_version(policy)


def trust_of(role: Role) -> Document:
    return _read(role.assume_role_policy_document)


def is_of_a_service(role: Role) -> bool:
    """Whether one of the services that act in this cloud may take the role on."""
    principals = [item.get("Principal") for item in listed(trust_of(role)["Statement"]) if item["Effect"] == "Allow"]
    named = [name for each in principals if isinstance(each, dict) for name in listed(each.get("Service", []))]
    return not _ACTING.isdisjoint(named)


def _boundary(role: Role) -> list[Document] | None:
    """A boundary that this cloud does not know bounds nothing: bootstrapped accounts name one that is elsewhere."""
    arn = role.permissions_boundary_arn
    if arn is None:
        return None
    known = iam_backends[role.account_id][role.partition].managed_policies
    return [_default_version(known[arn])] if arn in known else None


def _default_version(policy: Any) -> Document:
    return _read(next(version.document for version in policy.versions if version.is_default))


def _read(document: Any) -> Document:
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:  # as a query has it
            document = json.loads(unquote(document))
    read: Document = _without_nulls(document)
    return read


def _without_nulls(value: Any) -> Any:
    """moto leaves a null in a list of a template where CloudFormation has AWS::NoValue for nothing."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value


def resource_documents(action: str, resource: str, *, region: str) -> list[Document]:
    """The policy of a bucket, a topic, a queue or a key that a call is about, and of a role that is to be taken on."""
    if action == "sts:AssumeRole":
        role = role_of(resource)
        return [] if role is None else [trust_of(role)]
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return []
    _, _, service, where, account, name = parts
    found: Any = None
    if service == "s3":
        bucket = bucket_of(name.partition("/")[0])
        found = bucket.policy if bucket is not None else None
    elif service == "sns":
        topic = sns_backends[account][where].topics.get(resource)
        found = topic.policy if topic is not None else None
    elif service == "sqs":
        queue = sqs_backends[account][where].queues.get(name)
        found = queue.policy if queue is not None else None
    elif service == "kms":
        key = kms_backends[account][where or region].keys.get(name.removeprefix("key/"))
        found = key.policy if key is not None else None
    if isinstance(found, bytes):
        found = found.decode()
    return [_read(found)] if found else []


def bucket_of(name: str) -> Any:
    """A bucket, whichever account it is of; None where there is none."""
    partition, account = s3_backends.bucket_accounts.get(name, ("", ""))
    return s3_backends[account][partition].buckets.get(name) if account else None


def key_arn(key_id: str, *, account: str, region: str) -> str | None:
    """The ARN of a key of this cloud by its id, its ARN or its alias; None for one that is not here, and AWS's own."""
    backend = kms_backends[account][region]
    name = key_id.rsplit(":key/", maxsplit=1)[-1]
    alias = key_id[key_id.find("alias/") :] if "alias/" in key_id else ""
    if alias:
        name = backend.get_key_id_from_alias(alias) or ""
    key = backend.keys.get(name)
    arn: str | None = None if key is None or alias.startswith("alias/aws/") else key.arn
    return arn
