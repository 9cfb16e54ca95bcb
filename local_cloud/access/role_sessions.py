"""The roles that services of this cloud take on: sessions, clients that sign as them, and what they may not do."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam.models import Role
from moto.sts.models import AssumedRole, sts_backends
from moto.utilities.utils import get_partition

from tidegate.local_cloud.access.enforcement import Enforcement
from tidegate.local_cloud.access.policy_decisions import Principal, may_assume
from tidegate.local_cloud.access.role_policies import role_of, trust_of
from tidegate.local_cloud.access.session_life import expires, mark_of
from tidegate.local_cloud.sagemaker.roles import NoRole, RoleNotAssumed
from tidegate.local_cloud.sagemaker.state import now

MakeSignedClient = Callable[..., Any]
"""Takes a service and ``aws_access_key_id``, ``aws_secret_access_key`` and ``aws_session_token``."""

SAGEMAKER = "sagemaker.amazonaws.com"
CREDENTIALS_PATH = "/local/credentials"
# As services call their sessions in AWS's own messages.
_SESSION_NAMES = {SAGEMAKER: "SageMaker"}
_DURATION_S = 3600
_RENEWED_S = 1800.0  # before the end
# What runs in a role is told that its credentials end soon, so that it asks again before each call: the cloud's clock
# may be set ahead at any moment. botocore asks 15 minutes before the end, and insists 10 minutes before it.
_TOLD_S = 14 * 60.0


@dataclass(slots=True)
class _Lease:
    """The credentials of all that runs in a role, since that role was made."""

    role_arn: str
    token: str
    session: AssumedRole


class RoleSessions:
    """One session for each role and service; a policy that changes counts at once, as it is read at each call.

    ``address`` says where this cloud answers to who asks for the credentials of what runs.
    """

    def __init__(
        self,
        make_client: MakeSignedClient,
        *,
        enforcement: Enforcement,
        account: str,
        region: str,
        address: Callable[[], str],
    ) -> None:
        self._make_client = make_client
        self._enforcement = enforcement
        self._account = account
        self._region = region
        self._address = address
        self._own: dict[str, Any] = {}
        self._sessions: dict[tuple[str, str], AssumedRole] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._leases: dict[str, _Lease] = {}
        self._lock = threading.RLock()

    def own_client(self, service: str) -> Any:
        with self._lock:
            if service not in self._own:
                self._own[service] = self._make_client(service)
            return self._own[service]

    def client(self, service: str, role_arn: str | None) -> Any:
        """What SageMaker calls ``service`` with in the role."""
        if role_arn is None:
            raise NoRole(f"call {service}")
        return self.client_of(service, role_arn, taken_by=SAGEMAKER)

    def environment(self, role_arn: str | None) -> Mapping[str, str]:
        """As containers of ECS have it, which SDKs know; without a role there are no credentials at hand."""
        if role_arn is None:
            return {}
        role = self._taken_on(role_arn, SAGEMAKER)
        with self._lock:
            held = (each for each in self._leases.values() if each.role_arn == role_arn)
            lease = next((each for each in held if mark_of(each.session).role_id == role.id), None)
            if lease is None:
                lease = _Lease(role_arn, secrets.token_urlsafe(24), self._begin(role_arn, SAGEMAKER))
                self._leases[lease.token] = lease
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self._address()}{CREDENTIALS_PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": lease.token,
        }

    def credentials(self, token: str) -> Mapping[str, str] | None:
        lease = self._leases.get(token)
        if lease is None:
            return None
        with self._lock:
            if (expires(lease.session) - now()).total_seconds() < _RENEWED_S:
                try:
                    self._taken_on(lease.role_arn, SAGEMAKER)
                    lease.session = self._begin(lease.role_arn, SAGEMAKER)
                except RoleNotAssumed:
                    pass  # it keeps what it has, for as long as that is good for something
            session = lease.session
        told = datetime.now(UTC) + timedelta(seconds=_TOLD_S)
        return {
            "RoleArn": lease.role_arn,
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_access_key,
            "Token": session.session_token,
            "Expiration": told.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def demand(self, role_arn: str | None) -> None:
        if role_arn is not None:
            self.session(role_arn, taken_by=SAGEMAKER)

    def denial(self, role_arn: str | None, action: str, resource: str) -> str | None:
        if role_arn is None:
            raise NoRole(f"do {action}")
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
            key = (service, session.access_key_id)
            if key not in self._clients:
                self._clients[key] = self.signed_client(service, session)
            return self._clients[key]

    def begun(self, role_arn: str, *, taken_by: str) -> AssumedRole:
        """The session that :meth:`session` gave last."""
        return self._sessions[role_arn, taken_by]

    def session(self, role_arn: str, *, taken_by: str, source_arn: str | None = None) -> AssumedRole:
        """The session of a role that a service takes on. Raises :class:`RoleNotAssumed`.

        A trust policy may ask in its conditions for ``source_arn``, what the service acts for, and the account.
        """
        role = self._taken_on(role_arn, taken_by, source_arn)
        with self._lock:
            key = (role_arn, taken_by)
            found = self._sessions.get(key)
            if found is None or mark_of(found).role_id != role.id:
                if found is not None:
                    self._clients = {
                        name: each for name, each in self._clients.items() if name[1] != found.access_key_id
                    }
                found = self._begin(role_arn, taken_by)
                mark_of(found).lasting = True
                self._sessions[key] = found
            return found

    def signed_client(self, service: str, session: AssumedRole) -> Any:
        """A client of its own, for whoever changes clients."""
        return self._make_client(
            service,
            aws_access_key_id=session.access_key_id,
            aws_secret_access_key=session.secret_access_key,
            aws_session_token=session.session_token,
        )

    def _taken_on(self, role_arn: str, taken_by: str, source_arn: str | None = None) -> Role:
        """The role, if it is there and lets the service take it on. Raises :class:`RoleNotAssumed`."""
        role = role_of(role_arn)
        if role is None or not may_assume(trust_of(role), Principal(service=taken_by), self._source(source_arn)):
            raise RoleNotAssumed(role_arn)
        return role

    def _begin(self, role_arn: str, taken_by: str) -> AssumedRole:
        # In the backend, because an AssumeRole of the API is a call of a caller and not of a service.
        backend = sts_backends[self._account][get_partition(self._region)]
        session = backend.assume_role(
            region_name=self._region,
            role_session_name=_SESSION_NAMES.get(taken_by, taken_by.partition(".")[0]),
            role_arn=role_arn,
            policy="",
            duration=_DURATION_S,
            external_id="",
        )
        mark_of(session).checked = True
        return session

    def _source(self, arn: str | None) -> Mapping[str, str]:
        # What SageMaker acts for is not said: a policy that names its kind (`arn:aws:sagemaker:…:*`) is fulfilled.
        source = arn or f"arn:aws:sagemaker:{self._region}:{self._account}:*"
        return {"aws:sourceaccount": self._account, "aws:sourcearn": source}
