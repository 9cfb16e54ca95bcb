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
_Policy = Annotated[str, like(r"arn:aws[a-z-]*:iam::(\d{12}|aws):policy/\S+", "not the ARN of a managed policy")]


class Statement(Value):
    """Something more that a handler may do, such as reading a table. It allows; nothing is denied here."""

    actions: Annotated[tuple[_Action, ...], LISTED, some(100, "actions")]
    resources: Annotated[tuple[_Resource, ...], LISTED, some(100, "resources")]
    # By operator and key, as IAM writes them.
    conditions: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Role(Value):
    """The role that endpoint and transform jobs run under."""

    # One that is there already, instead of one that the stage makes.
    arn: (
        Annotated[str, like(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+", "not a role; write arn:aws:iam::ACCOUNT:role/NAME")]
        | None
    ) = None
    statements: Annotated[tuple[Statement, ...], LISTED] = ()
    # IAM attaches ten to a role, unless the account's quota was raised.
    managed_policies: Annotated[tuple[_Policy, ...], LISTED] = ()
    # Of every role that the stage makes, also those of its state machines.
    permissions_boundary: _Policy | None = None
