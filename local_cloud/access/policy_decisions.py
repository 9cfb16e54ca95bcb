"""What policies say about an action on a resource. Pure rules, after "Policy evaluation logic" in IAM's user guide.

An explicit Deny wins, then an Allow, and without either the action is denied. moto's own rules
(``moto.iam.access_control``) look at neither the conditions of identity policies nor the policies of resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tidegate.local_cloud.access.policy_conditions import Context, holds, listed, matches

Decision = Literal["allowed", "explicitDeny", "implicitDeny"]
Document = Mapping[str, Any]
ANY = ""
"""A resource that is not known: an Allow of any resource allows it, and only a Deny of all resources denies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls: a session of a role, or a service (``sagemaker.amazonaws.com``) that takes on a role."""

    account: str = ""
    role_arn: str = ""
    session_arn: str = ""
    service: str = ""

    @property
    def names(self) -> frozenset[str]:
        """What a policy of a resource may call a session of the account."""
        partition = self.role_arn.split(":")[1] if self.role_arn else "aws"
        return frozenset({self.account, f"arn:{partition}:iam::{self.account}:root", self.role_arn, self.session_arn})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """All that counts for one call of a role's session."""

    identity: Sequence[Document]
    boundary: Sequence[Document] | None = None
    session: Sequence[Document] | None = None
    resource: Sequence[Document] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Why a call is not allowed; ``reason`` is how AWS's sentences end."""

    action: str
    resource: str
    reason: str

    def sentence(self, caller: str, *, quoted: bool = False) -> str:
        """The message of AWS's AccessDenied; S3 puts the resource in quotation marks."""
        resource = f'"{self.resource}"' if quoted else self.resource or "*"
        return f"User: {caller} is not authorized to perform: {self.action} on resource: {resource} {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An action on a resource, and the keys of its request."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)


def decide(
    action: str,
    resource: str,
    documents: Iterable[Document],
    context: Context | None = None,
    principal: Principal | None = None,
) -> Decision:
    """The decision of policy ``documents`` together, in the words of SimulatePrincipalPolicy.

    Of policies of a resource, which name principals, only statements about ``principal`` count.
    """
    keys = context or {}
    effects = {
        statement["Effect"]
        for statement in _statements(documents)
        if (principal is None or _is_about(statement, principal))
        and _concerns(statement, "Action", action, keys, ignore_case=True)
        and (
            ("Resource" not in statement and "NotResource" not in statement and principal is not None)
            or _concerns_resource(statement, resource, keys)
        )
        and holds(statement.get("Condition", {}), keys)
    }
    if "Deny" in effects:
        return "explicitDeny"
    return "allowed" if "Allow" in effects else "implicitDeny"


def denial(call: Call, policies: Policies, principal: Principal) -> Denial | None:
    """Why a role's session may not do what it asks for; None where it may.

    Within an account the policies of the role and of the resource count together; one of the resource that names the
    session itself needs no permission of the boundary or the session ("Policy evaluation logic", single account).
    """

    def why(reason: str) -> Denial:
        return Denial(action=call.action, resource=call.resource, reason=reason)

    kinds: tuple[tuple[str, Sequence[Document] | None], ...] = (
        ("an identity-based policy", policies.identity),
        ("a permissions boundary", policies.boundary),
        ("a session policy", policies.session),
    )
    said = {}
    for kind, documents in kinds:
        said[kind] = "allowed" if documents is None else decide(call.action, call.resource, documents, call.context)
        if said[kind] == "explicitDeny":
            return why(f"with an explicit deny in {kind}")
    of_resource = decide(call.action, call.resource, policies.resource, call.context, principal)
    if of_resource == "explicitDeny":
        return why("with an explicit deny in a resource-based policy")
    by_name = Principal(session_arn=principal.session_arn)
    if of_resource == "allowed" and _names_the_session(call, policies.resource, by_name):
        return None
    if said["an identity-based policy"] != "allowed" and of_resource != "allowed":
        return why(f"because no identity-based policy allows the {call.action} action")
    for kind in ("a permissions boundary", "a session policy"):
        if said[kind] != "allowed":
            return why(f"because no {kind.split(' ', 1)[1]} allows the {call.action} action")
    return None


def _names_the_session(call: Call, documents: Sequence[Document], by_name: Principal) -> bool:
    named = [
        {"Statement": [statement]}
        for statement in _statements(documents)
        if isinstance(statement.get("Principal"), Mapping)
        and by_name.session_arn in listed(statement["Principal"].get("AWS", []))
    ]
    return decide(call.action, call.resource, named, call.context) == "allowed"


def may_assume(trust: Document, principal: Principal, context: Context | None = None) -> bool:
    """Whether a role's trust policy lets a service, or another principal, take the role on."""
    return decide("sts:AssumeRole", ANY, [trust], context, principal) == "allowed"


def _statements(documents: Iterable[Document]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        yield from listed(document["Statement"])


def _is_about(statement: Mapping[str, Any], principal: Principal) -> bool:
    negated = "NotPrincipal" in statement
    named = statement.get("NotPrincipal" if negated else "Principal", {})
    if named == "*":
        return not negated
    found = any(
        (kind == "Service" and name == principal.service)
        or (kind == "AWS" and bool(principal.role_arn) and (name == "*" or name in principal.names))
        for kind, names in named.items()
        for name in listed(names)
    )
    return found != negated


def _concerns_resource(statement: Mapping[str, Any], resource: str, context: Context) -> bool:
    if resource != ANY:
        return _concerns(statement, "Resource", resource, context, ignore_case=False)
    if statement["Effect"] == "Allow":
        return "Resource" in statement or "NotResource" in statement
    return "*" in listed(statement.get("Resource", []))


def _concerns(statement: Mapping[str, Any], element: str, value: str, context: Context, *, ignore_case: bool) -> bool:
    """Whether the element (Action, Resource) or its negation (NotAction, NotResource) takes the value in."""
    negation = f"Not{element}"
    patterns = listed(statement[negation] if negation in statement else statement.get(element, []))
    named = any(matches(pattern, value, ignore_case=ignore_case, context=context) for pattern in patterns)
    return named != (negation in statement)
