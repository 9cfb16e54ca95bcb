"""How long a session of a role lives: until its time is over on the cloud's clock, or its role is not there any more.

"Permissions assigned to temporary security credentials are evaluated each time they are used" (IAM user guide,
"Disabling permissions for temporary security credentials"), so that a policy that changes counts at once; a trust
policy that changes counts for who takes the role on next. A role that is made again under its name is another one, by
its unique id. Which code AWS answers with to a session whose role is gone is not documented; the codes here are those
of credentials that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.sts.models import AssumedRole

from tidegate.local_cloud.access.role_policies import is_of_a_service, role_of
from tidegate.local_cloud.sagemaker.state import now

# Services whose errors are XML call these otherwise than those with JSON. Source: "Common errors" of their references.
_QUERY = frozenset({"autoscaling", "cloudformation", "ec2", "iam", "monitoring", "sns", "sqs", "sts"})


@dataclass(kw_only=True)  # and no slots: it is kept with moto's state, where no Python code may run
class Mark:
    """What moto does not note of a session. ``role_id`` is None where there was no such role; moto asks for none."""

    role_id: str | None
    issued: datetime
    checked: bool  # whether its calls are checked by the role's policies
    policy_arns: Sequence[str] = ()  # managed policies that count as the session's own
    lasting: bool = False  # a service of this cloud holds it, and would take the role on anew before it expires


_PASSED: ContextVar[Sequence[str]] = ContextVar("policy_arns", default=())


@contextmanager
def passing(policy_arns: Sequence[str]) -> Iterator[None]:
    """Around an AssumeRole with these ``PolicyArns``, which moto leaves out."""
    token = _PASSED.set(policy_arns)
    try:
        yield
    finally:
        _PASSED.reset(token)


class SessionRefused(Exception):
    """The credentials of this session are good for nothing any more."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__("expired" if expired else "invalid")
        self.expired = expired

    def code_and_message(self, service: str) -> tuple[str, str]:
        """As the service says it; ``service`` is what the request was signed for.

        Sources: "Error responses" of the S3 API reference, "Common errors" of the others.
        """
        if service == "s3":
            if self.expired:
                return "ExpiredToken", "The provided token has expired."
            return "InvalidToken", "The provided token is malformed or otherwise invalid."
        if self.expired:
            code = "ExpiredToken" if service in _QUERY else "ExpiredTokenException"
            return code, "The security token included in the request is expired"
        code = "InvalidClientTokenId" if service in _QUERY else "UnrecognizedClientException"
        return code, "The security token included in the request is invalid."


def mark_sessions() -> None:
    """Lets every session that moto makes in this process have its :class:`Mark`."""
    made_by_moto = AssumedRole.__init__

    def make(self: AssumedRole, *given: Any, **named: Any) -> None:
        made_by_moto(self, *given, **named)
        role = role_of(self.role_arn)
        checked = role is not None and is_of_a_service(role)
        role_id = role.id if role is not None else None
        mark = Mark(role_id=role_id, issued=now(), checked=checked, policy_arns=_PASSED.get())
        self.mark = mark  # type: ignore[attr-defined]

    AssumedRole.__init__ = make  # type: ignore[method-assign]


def mark_of(session: AssumedRole) -> Mark:
    """A session that was begun where rights were not checked has none: it is that of the role that is there now."""
    found: Mark | None = getattr(session, "mark", None)
    if found is None:
        role = role_of(session.role_arn)
        checked = role is not None and is_of_a_service(role)
        found = Mark(role_id=role.id if role is not None else None, issued=now(), checked=checked)
        session.mark = found  # type: ignore[attr-defined]
    return found


def expires(session: AssumedRole) -> datetime:
    """On the cloud's clock, UTC."""
    moment: datetime = session.expiration
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def demand_alive(session: AssumedRole) -> None:
    """Raises :class:`SessionRefused`. Who is not checked has all the time in the world, but not without his role."""
    mark = mark_of(session)
    if mark.role_id is not None:
        role = role_of(session.role_arn)
        if role is None or role.id != mark.role_id:
            raise SessionRefused(expired=False)
    if mark.checked and not mark.lasting and expires(session) <= now():
        raise SessionRefused(expired=True)
