"""The roles that services of this cloud take on: sessions, clients that sign as them, and what they may not do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from moto.sts.models import AssumedRole, sts_backends
from moto.utilities.utils import get_partition

from tidegate.local_cloud.access.enforcement import Enforcement
from tidegate.local_cloud.access.policy_decisions import Principal, may_assume
from tidegate.local_cloud.access.role_policies import role_of, trust_of
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed

MakeSignedClient = Callable[..., Any]
"""Takes a service and ``aws_access_key_id``, ``aws_secret_access_key`` and ``aws_session_token``."""

SAGEMAKER = "sagemaker.amazonaws.com"
# As services call their sessions in AWS's own messages.
_SESSION_NAMES = {SAGEMAKER: "SageMaker"}
_DURATION_S = 3600


class RoleSessions:
    """One session for each role and service; a policy that changes counts at once, as it is read at each call."""

    def __init__(self, make_client: MakeSignedClient, *, enforcement: Enforcement, account: str, region: str) -> None:
        self._make_client = make_client
        self._enforcement = enforcement
        self._account = account
        self._region = region
        self._own: dict[str, Any] = {}
        self._sessions: dict[tuple[str, str], AssumedRole] = {}
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._lock = threading.RLock()

    def client(self, service: str, role_arn: str | None) -> Any:
        """What SageMaker calls ``service`` with in the role; without one it is the cloud itself that calls."""
        if role_arn is None:
            with self._lock:
                if service not in self._own:
                    self._own[service] = self._make_client(service)
                return self._own[service]
        return self.client_of(service, role_arn, taken_by=SAGEMAKER)

    def environment(self, role_arn: str | None) -> Mapping[str, str]:
        if role_arn is None:
            return {}
        session = self.session(role_arn, taken_by=SAGEMAKER)
        return {
            "AWS_ACCESS_KEY_ID": session.access_key_id,
            "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
            "AWS_SESSION_TOKEN": session.session_token,
        }

    def demand(self, role_arn: str | None) -> None:
        if role_arn is not None:
            self.session(role_arn, taken_by=SAGEMAKER)

    def denial(self, role_arn: str | None, action: str, resource: str) -> str | None:
        if role_arn is None:
            return None
        session = self.session(role_arn, taken_by=SAGEMAKER)
        context = {"iam:passedtoservice": SAGEMAKER} if action == "iam:PassRole" else {}
        denied = self._enforcement.denial_of(session, action, resource, context)
        return None if denied is None else denied.sentence(session.arn)

    def client_of(self, service: str, role_arn: str, *, taken_by: str, source_arn: str | None = None) -> Any:
        """A client of ``service`` for the service ``taken_by``, on behalf of ``source_arn``.

        Raises :class:`RoleNotAssumed`.
        """
        session = self.session(role_arn, taken_by=taken_by, source_arn=source_arn)
        with self._lock:
            key = (service, role_arn, taken_by)
            if key not in self._clients:
                self._clients[key] = self._signed(service, session)
            return self._clients[key]

    def new_client(self, service: str, role_arn: str, *, taken_by: str) -> Any:
        """A client of its own for whoever changes clients, in a session that was begun."""
        return self._signed(service, self._sessions[role_arn, taken_by])

    def session(self, role_arn: str, *, taken_by: str, source_arn: str | None = None) -> AssumedRole:
        """The session of a role that a service takes on. Raises :class:`RoleNotAssumed`.

        A trust policy may ask in its conditions for ``source_arn``, what the service acts for, and the account.
        """
        role = role_of(role_arn)
        if role is None or not may_assume(trust_of(role), Principal(service=taken_by), self._source(source_arn)):
            raise RoleNotAssumed(role_arn)
        with self._lock:
            key = (role_arn, taken_by)
            if key not in self._sessions:
                # In the backend, because an AssumeRole of the API is a call of a caller and not of a service.
                backend = sts_backends[self._account][get_partition(self._region)]
                name = _SESSION_NAMES.get(taken_by, taken_by.partition(".")[0])
                self._sessions[key] = backend.assume_role(
                    region_name=self._region,
                    role_session_name=name,
                    role_arn=role_arn,
                    policy="",
                    duration=_DURATION_S,
                    external_id="",
                )
                self._enforcement.of_services.add(self._sessions[key].access_key_id)
            return self._sessions[key]

    def _signed(self, service: str, session: AssumedRole) -> Any:
        return self._make_client(
            service,
            aws_access_key_id=session.access_key_id,
            aws_secret_access_key=session.secret_access_key,
            aws_session_token=session.session_token,
        )

    def _source(self, arn: str | None) -> Mapping[str, str]:
        # What SageMaker acts for is not said: a policy that names its kind (`arn:aws:sagemaker:…:*`) is fulfilled.
        source = arn or f"arn:aws:sagemaker:{self._region}:{self._account}:*"
        return {"aws:sourceaccount": self._account, "aws:sourcearn": source}
