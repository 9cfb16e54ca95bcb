"""Every call that a session of a role makes of this cloud is checked by the role's policies (``--enforce-iam``).

Whoever signs as no session is not checked: the exported credentials, users, and calls without a signature; neither are
sessions of roles that no service of this cloud may take on. So what is checked is what AWS's services, models, training
scripts and state machines do here with the role that they were given. It replaces private names of moto 5.2.5.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import unescape

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.iam.exceptions import MalformedPolicyDocument
from moto.iam.policy_validation import IAMPolicyDocumentValidator
from moto.s3.exceptions import S3ClientError
from moto.s3.responses import S3Response
from moto.sts.models import AssumedRole
from moto.sts.responses import TokenResponse

from tidegate.local_cloud.access.call_resources import action_of, action_of_s3, resources_of
from tidegate.local_cloud.access.policy_conditions import Context
from tidegate.local_cloud.access.policy_decisions import Call, Denial, Policies, Principal, decide, denial
from tidegate.local_cloud.access.role_policies import (
    bucket_of,
    key_arn,
    policies_of,
    principal_of,
    resource_documents,
    role_of,
    session_of,
)
from tidegate.local_cloud.access.session_life import SessionRefused, demand_alive, mark_of, mark_sessions, passing
from tidegate.local_cloud.sagemaker.bearer_token import PREFIX as BEARER_PREFIX
from tidegate.local_cloud.sagemaker.caller_rights import Refusal
from tidegate.local_cloud.sagemaker.state import now

_CREDENTIAL = re.compile(r"Credential=(?P<key>[^/,\s]+)/\d{8}/[^/]+/(?P<service>[^/]+)/aws4_request")
# Where the key of who signed stands: in signatures of version 4 (4A has no region) and 2, in presigned addresses.
_KEY = re.compile(r"(?:\bCredential=|X-Amz-Credential=|AWSAccessKeyId=|^AWS )(?P<key>[^/:%&,\s]+)")
_KEYS = re.compile(rb"<Key>(?P<key>.*?)</Key>", re.DOTALL)
_QUOTES = {"&quot;": '"', "&apos;": "'", "&#13;": "\r", "&#10;": "\n"}
_READS_OBJECTS = frozenset({"s3:GetObject", "s3:GetObjectVersion"})
_DEFAULT_SESSION_S = 3600
# AWS always answers GetCallerIdentity, whatever policies say (API reference).
_ALWAYS_ALLOWED = frozenset({"sts:GetCallerIdentity"})


class _Denied(ServiceException):
    """A class of our own, because moto reads off the module of an error whose error it is."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)


class _DeniedByS3(S3ClientError):
    def __init__(self, message: str, code: str = "AccessDenied") -> None:
        super().__init__(code, message)


class Enforcement:
    """Checks calls in one account and region; ``free_key`` is the access key that nobody checks."""

    def __init__(self, *, account: str, region: str, free_key: str) -> None:
        self._account = account
        self._region = region
        self._free_key = free_key

    def install(self) -> None:
        """Puts the check before what moto does, for this process."""
        mark_sessions()
        act_of_moto, enforcement = BaseResponse.call_action, self

        def act(self: BaseResponse) -> Any:
            if not isinstance(self, S3Response) and (denied := enforcement._denied_call(self)) is not None:
                code, message = denied
                return self.serialized(ActionResult(_Denied(code, message)))
            if isinstance(self, TokenResponse) and self._get_action() == "AssumeRole":
                asked = _members(self)
                if (too_long := _too_long(asked)) is not None:
                    return self.serialized(ActionResult(_Denied("ValidationError", too_long)))
                try:
                    if asked.get("Policy"):
                        IAMPolicyDocumentValidator(str(asked["Policy"])).validate()
                except MalformedPolicyDocument as malformed:
                    return self.serialized(ActionResult(malformed))
                with passing([str(each.get("arn")) for each in asked.get("PolicyArns") or []]):
                    return act_of_moto(self)
            return act_of_moto(self)

        def act_of_s3(self: S3Response, bucket_name: str | None = None, key_name: str | None = None) -> None:
            enforcement._check_s3(self, bucket_name, key_name)

        BaseResponse.call_action = act  # type: ignore[method-assign]
        setattr(S3Response, "_authenticate_and_authorize_s3_action", act_of_s3)  # noqa: B010 - moto's mixin has it

    def session(self, authorization: str) -> AssumedRole | None:
        """The session that signed a request; None where nothing is to be checked.

        Raises :class:`.SessionRefused` for one that has expired, or whose role is not there any more.
        """
        key = _key_of(authorization)
        if key is None or key == self._free_key:
            return None
        session = session_of(key, account=self._account, region=self._region)
        if session is None:
            return None
        demand_alive(session)
        # A caller's own rights are not checked, and so not those of roles that only callers take on, as the CDK does.
        return session if mark_of(session).checked else None

    def denial_of_caller(self, authorization: str, action: str, resource: str) -> Refusal | None:
        """AWS's refusal of who signed a request and may not do this; None where he may, or is not checked."""
        try:
            session = self.session(authorization)
        except SessionRefused as refused:
            return Refusal(*refused.code_and_message("sagemaker"))
        if session is None:
            return None
        context = {"iam:passedtoservice": "sagemaker.amazonaws.com"} if action == "iam:PassRole" else {}
        denied = self.denial_of(session, action, resource, context)
        return None if denied is None else Refusal("AccessDeniedException", denied.sentence(session.arn))

    def denial_of(
        self, session: AssumedRole, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Denial | None:
        """Why a session may not do this; None where it may. A policy that cannot be read allows nothing."""
        call = Call(action=action, resource=resource, context={**self.context(session), **(context or {})})
        try:
            return self._denial_of(session, call)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # moto checks no policies of resources
            reason = f"because a policy that counts is malformed ({type(error).__name__}: {error})"
            return Denial(action=action, resource=resource, reason=reason)

    def _denial_of(self, session: AssumedRole, call: Call) -> Denial | None:
        action, resource = call.action, call.resource
        documents = resource_documents(action, resource, region=self._region)
        policies = policies_of(session, mark_of(session).policy_arns, documents)
        principal = principal_of(session)
        if action == "sts:AssumeRole" or (action.startswith("kms:") and documents):
            return _denial_of_owner(call, policies, principal)
        return denial(call, policies, principal)

    def context(self, session: AssumedRole) -> Context:
        """The keys that every request has here; the loopback interface counts as TLS."""
        moment: datetime = now()
        role = role_of(session.role_arn)
        tags = role.tags if role is not None else {}
        return {
            "aws:principalaccount": self._account,
            "aws:principalarn": session.role_arn,
            "aws:principaltype": "AssumedRole",
            "aws:userid": session.user_id,
            "aws:requestedregion": self._region,
            "aws:resourceaccount": self._account,
            "aws:securetransport": "true",
            "aws:sourceip": "127.0.0.1",
            "aws:viaawsservice": "false",
            "aws:principalisawsservice": "false",
            "aws:currenttime": moment.isoformat().replace("+00:00", "Z"),
            "aws:epochtime": str(int(moment.timestamp())),
            "aws:tokenissuetime": mark_of(session).issued.isoformat().replace("+00:00", "Z"),
            **{f"aws:principaltag/{key.lower()}": value for key, value in _tags(tags)},
        }

    def _denied_call(self, response: BaseResponse) -> tuple[str, str] | None:
        """Code and message for a call that is not of S3."""
        authorization = response.headers.get("Authorization", "")
        credential = _CREDENTIAL.search(authorization)
        service = credential["service"] if credential is not None else str(response.boto3_service_name)
        try:
            session = self.session(authorization)
        except SessionRefused as refused:
            return refused.code_and_message(service)
        if session is None:
            return None
        action = action_of(service, str(response._get_action()))
        if action in _ALWAYS_ALLOWED:
            return None
        members = _members(response)
        context = {"cloudwatch:namespace": str(members["Namespace"])} if "Namespace" in members else {}
        for resource in resources_of(action, members, account=self._account, region=self._region):
            denied = self.denial_of(session, action, resource, context)
            if denied is not None:
                return _code_of(service), denied.sentence(session.arn)
        return None

    def _check_s3(self, response: S3Response, bucket: str | None, key: str | None) -> None:
        uri = response.uri
        try:
            session = self.session(response.headers.get("Authorization", "") or uri)
        except SessionRefused as refused:
            code, message = refused.code_and_message("s3")
            raise _DeniedByS3(message, code) from refused
        if session is None:
            return
        query = response.querystring
        method = response.method
        action = action_of_s3(str(response._get_action()), method, query if key is None else {})
        context = _context_of_s3(response)
        keys = [key] if key is not None else _deleted_keys(response) if action == "s3:DeleteObject" else [None]
        for each in keys:
            resource = "*" if bucket is None else f"arn:aws:s3:::{bucket}" + (f"/{each}" if each is not None else "")
            self._demand(session, action, resource, context)
        if bucket is None or key is None:
            return
        source = response.headers.get("x-amz-copy-source")
        if source:
            copied = unquote(source.lstrip("/").partition("?")[0])
            self._demand(session, "s3:GetObject", f"arn:aws:s3:::{copied}", context)
        self._check_object(session, action, bucket, key, response)

    def _check_object(self, session: AssumedRole, action: str, bucket: str, key: str, response: S3Response) -> None:
        """What an object asks for beyond its own action: its key of KMS, and, where it is missing, to be listed."""
        held = bucket_of(bucket)
        if held is None:
            return
        found = held.keys.get(key)
        if found is None and action in _READS_OBJECTS:
            # "If the object you request doesn't exist, the error that S3 returns depends on whether you also have the
            # s3:ListBucket permission" (API reference, GetObject).
            self._demand(session, "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": key})
        through_s3 = {"kms:viaservice": f"s3.{self._region}.amazonaws.com", "kms:calleraccount": self._account}
        wanted: str | None = None
        needs: tuple[str, ...] = ()
        if action in _READS_OBJECTS and found is not None and found.encryption == "aws:kms":
            wanted, needs = found.kms_key_id, ("kms:Decrypt",)
        elif action == "s3:PutObject":
            default = (held.encryption or {}).get("Rule", {}).get("ApplyServerSideEncryptionByDefault", {})
            given = response.headers.get("x-amz-server-side-encryption")
            if (given or default.get("SSEAlgorithm")) == "aws:kms":
                wanted = response.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
                wanted = wanted or default.get("KMSMasterKeyID")
            # In parts what was written is read again, to be put together (S3 guide, multipart upload and KMS).
            in_parts = "uploads" in response.querystring or "uploadId" in response.querystring
            needs = ("kms:GenerateDataKey", "kms:Decrypt") if in_parts else ("kms:GenerateDataKey",)
        arn = key_arn(wanted, account=self._account, region=self._region) if wanted else None
        if arn is not None:
            for need in needs:
                self._demand(session, need, arn, through_s3, quoted=False)

    def _demand(
        self, session: AssumedRole, action: str, resource: str, context: Mapping[str, Any], *, quoted: bool = True
    ) -> None:
        denied = self.denial_of(session, action, resource, context)
        if denied is not None:
            raise _DeniedByS3(denied.sentence(session.arn, quoted=quoted))


def _denial_of_owner(call: Call, policies: Policies, principal: Principal) -> Denial | None:
    """A key is its policy's, and a role its trust policy's: that has to allow the call in any case.

    The caller's own policies count where it names the account only ("Key policies in AWS KMS"; "Policy evaluation
    logic" on role trust policies).
    """
    said = decide(call.action, call.resource, policies.resource, call.context, principal)
    if said == "implicitDeny":
        whose = "role trust policy" if call.action == "sts:AssumeRole" else "resource-based policy"
        reason = f"because no {whose} allows the {call.action} action"
        return Denial(action=call.action, resource=call.resource, reason=reason)
    by_name = Principal(role_arn=principal.role_arn, session_arn=principal.session_arn)
    if said == "allowed" and decide(call.action, call.resource, policies.resource, call.context, by_name) != "allowed":
        within = Policies(identity=policies.identity, boundary=policies.boundary, session=policies.session)
        return denial(call, within, principal)
    return denial(call, policies, principal)


def _too_long(asked: Mapping[str, Any]) -> str | None:
    """Why AssumeRole gives no session of this length (API reference, ``DurationSeconds``); None where it does."""
    role = role_of(str(asked.get("RoleArn", "")))
    longest_s = int(role.max_session_duration or _DEFAULT_SESSION_S) if role is not None else None
    if longest_s is None or int(asked.get("DurationSeconds") or 0) <= longest_s:
        return None
    return "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."


def _key_of(authorization: str) -> str | None:
    """The access key of who signed a request: by its header, by its address, or by a bearer token of SageMaker's."""
    _, is_token, token = authorization.partition(BEARER_PREFIX)
    if is_token:
        with suppress(ValueError):
            authorization = base64.b64decode(token).decode("ascii", errors="replace")
    found = _KEY.search(authorization)
    return found["key"] if found is not None else None


def _code_of(service: str) -> str:
    """JSON services say AccessDeniedException, query services AccessDenied, Amazon SNS AuthorizationError."""
    if service == "sns":
        return "AuthorizationError"
    return (
        "AccessDenied"
        if service in {"cloudformation", "iam", "monitoring", "sqs", "sts"}
        else ("AccessDeniedException")
    )


def _members(response: BaseResponse) -> Mapping[str, Any]:
    if response.headers.get("X-Amz-Target"):
        try:
            read = json.loads(response.body or "{}")
        except (ValueError, TypeError):
            return {}
        return read if isinstance(read, dict) else {}
    return response._get_params()


def _context_of_s3(response: S3Response) -> dict[str, str]:
    """The keys of the service authorization reference, Amazon S3, that requests of the SDKs have."""
    found = {
        f"s3:{name}": str(values[0])
        for name, values in response.querystring.items()
        if name in {"prefix", "delimiter", "max-keys"} and values
    }
    for header in ("acl", "server-side-encryption", "server-side-encryption-aws-kms-key-id", "storage-class"):
        if value := response.headers.get(f"x-amz-{header}"):
            found[f"s3:x-amz-{header}"] = value
    return found


def _deleted_keys(response: S3Response) -> list[str | None]:
    body = response.body if isinstance(response.body, bytes) else str(response.body).encode()
    return [unescape(key.decode(errors="replace"), _QUOTES) for key in _KEYS.findall(body)] or [None]


def _tags(tags: Any) -> list[tuple[str, str]]:
    """moto keeps a role's tags as a list of pairs, or by key."""
    found = tags.values() if isinstance(tags, dict) else tags
    return [(str(tag["Key"]), str(tag["Value"])) for tag in found or []]
