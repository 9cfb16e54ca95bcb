"""SimulatePrincipalPolicy, which moto lacks: the policies that this cloud keeps of a principal, evaluated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.iam.responses import IamResponse

from tidegate.local_cloud.access.policy_decisions import Decision, Document, decide

MakeClient = Callable[[str], Any]

_PRINCIPAL = re.compile(r"arn:aws:iam::\d{12}:(?P<kind>role|user|group)/(?:.*/)?(?P<name>[^/]+)")
_TAKEN = {"PolicySourceArn", "ActionNames", "ResourceArns", "MaxItems"}  # all results are on one page


class _InvalidInput(ServiceException):
    code = "InvalidInput"


class _NoSuchEntity(ServiceException):
    code = "NoSuchEntity"


def simulate_policies(make_client: MakeClient) -> None:
    """Gives moto's IAM the operation, for this process."""
    iam = make_client("iam")

    def simulate_principal_policy(self: IamResponse) -> ActionResult:
        return ActionResult({"EvaluationResults": _results(iam, self._get_params()), "IsTruncated": False})

    IamResponse.simulate_principal_policy = simulate_principal_policy  # type: ignore[attr-defined]


def _results(iam: Any, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    for member in request:
        if member not in _TAKEN:
            raise _InvalidInput(f"The local cloud does not have {member} of SimulatePrincipalPolicy.")
    principal = _Principal(iam, request["PolicySourceArn"])
    documents = list(principal.documents())
    boundary = principal.boundary()
    return [
        _result(action, resource, decide(action, resource, documents), boundary)
        for action in request["ActionNames"]
        for resource in request.get("ResourceArns", ["*"])
    ]


def _result(action: str, resource: str, decision: Decision, boundary: Document | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision,
        "MatchedStatements": [],
        "MissingContextValues": [],
    }
    if boundary is not None:
        within = decide(action, resource, [boundary])
        result["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": within == "allowed"}
        if within == "explicitDeny" or decision == "allowed":
            result["EvalDecision"] = within
    return result


class _Principal:
    """A role, a user or a group of this cloud, and what is attached to it."""

    def __init__(self, iam: Any, arn: str) -> None:
        self._iam = iam
        found = _PRINCIPAL.fullmatch(arn)
        if found is None:
            raise _InvalidInput(f"PolicySourceArn is {arn}; it must be the ARN of a role, a user or a group.")
        self._kind = kind = found["kind"]
        self._named = {f"{kind.capitalize()}Name": found["name"]}
        try:
            self._described = getattr(iam, f"get_{kind}")(**self._named)[kind.capitalize()]
        except ClientError as error:
            raise _NoSuchEntity(error.response["Error"]["Message"]) from error

    def documents(self) -> Iterator[Document]:
        """The principal's own policies and those of the groups that a user is in."""
        yield from self._own_documents()
        if self._kind == "user":
            for page in self._iam.get_paginator("list_groups_for_user").paginate(**self._named):
                for group in page["Groups"]:
                    yield from _Principal(self._iam, group["Arn"])._own_documents()

    def _own_documents(self) -> Iterator[Document]:
        for page in self._iam.get_paginator(f"list_{self._kind}_policies").paginate(**self._named):
            for name in page["PolicyNames"]:
                yield getattr(self._iam, f"get_{self._kind}_policy")(**self._named, PolicyName=name)["PolicyDocument"]
        for page in self._iam.get_paginator(f"list_attached_{self._kind}_policies").paginate(**self._named):
            for attached in page["AttachedPolicies"]:
                yield self._managed(attached["PolicyArn"])

    def boundary(self) -> Document | None:
        """The permissions boundary, where there is one and this cloud knows it."""
        with suppress(KeyError, ClientError):
            return self._managed(self._described["PermissionsBoundary"]["PermissionsBoundaryArn"])
        return None

    def _managed(self, arn: str) -> Document:
        version = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document: Document = self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return document
