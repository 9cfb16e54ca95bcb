"""`[role]`: what the account wants of the endpoint's role, beside what serving needs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tidegate.infra.configuration.value import LISTED, Value, like, some

_Action = Annotated[
    str, like(r"[a-z0-9-]+:[A-Za-z0-9]+", "not an action; write one like 'dynamodb:GetItem', without '*'")
]
_Resource = Annotated[
    str, like(r"\*|arn:[^\s:]+:[^\s:]+:[^\s:]*:[^\s:]*:\S+", "not an ARN; write one, or '*' where AWS knows none")
]
_Policy = Annotated[str, like(r"arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[!-~]+", "not the ARN of a managed policy")]


class Statement(Value):
    """Something more that a handler may do, such as reading a table. It allows; nothing is denied here."""

    actions: Annotated[tuple[_Action, ...], LISTED, some(100, "actions")]
    """Such as `["dynamodb:GetItem"]`; no wildcards."""
    resources: Annotated[tuple[_Resource, ...], LISTED, some(100, "resources")]
    """ARNs, or `"*"` for actions without resources."""
    conditions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """In IAM's format: `{ StringEquals = { "aws:RequestedRegion" = "eu-central-1" } }`."""


class Role(Value):
    """The role that endpoint and transform jobs run under."""

    arn: (
        Annotated[
            str,
            like(
                r"arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+",
                "not a role; write arn:aws:iam::ACCOUNT:role/NAME",
            ),
        ]
        | None
    ) = None
    """An existing role of the same account, instead of one that the stack creates; excludes the next two keys."""
    statements: Annotated[tuple[Statement, ...], LISTED] = ()
    """Tables `[[role.statements]]`: what a handler may do in addition to serving."""
    managed_policies: Annotated[tuple[_Policy, ...], LISTED] = ()
    """ARNs of policies to attach to the role. IAM allows ten per role, unless the account's quota is raised."""
    permissions_boundary: _Policy | None = None
    """The ARN of a policy that limits every role of the stage, including those of its state machines."""
