"""The role behind the exported credentials, which ``get_execution_role()`` of the SageMaker SDKs finds."""

from __future__ import annotations

import json
from typing import Any

from moto.sts.models import sts_backends

NAME = "AmazonSageMaker-ExecutionRole-local"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
_EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def create_execution_role(iam: Any, *, account: str, region: str, access_key_id: str) -> None:
    """Creates the role; who signs with ``access_key_id`` is a session of it."""
    described = "The role of those who use the exported credentials. Their rights are not enforced here."
    try:
        role: str = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=json.dumps(_TRUST), Description=described)[
            "Role"
        ]["Arn"]
    except iam.exceptions.EntityAlreadyExistsException:  # a cloud that remembers
        return
    iam.put_role_policy(RoleName=NAME, PolicyName="Everything", PolicyDocument=json.dumps(_EVERYTHING))
    # In the backend and not by AssumeRole, which would make up another key.
    session = sts_backends[account]["aws"].assume_role(
        region_name=region, role_session_name="local", role_arn=role, policy="", duration=3600, external_id=""
    )
    session.access_key_id = access_key_id
