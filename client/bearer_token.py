"""Tokens by which clients of OpenAI's API reach an endpoint.

A token is an address of the service that was signed for the action CallWithBearerToken, so it needs no request to make
one, and its caller needs that action and `sagemaker:InvokeEndpoint`. Sources: developer guide, "Invoke endpoints with
OpenAI-compatible APIs"; the form is that of `sagemaker.core.token_generator`.
"""

from __future__ import annotations

import base64

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

LONGEST_S = 12 * 3600
_HOST = "sagemaker.amazonaws.com"


def bearer_token(session: boto3.Session, *, lifetime_s: int = LONGEST_S) -> str:
    """A token for the session's credentials and region; it counts no longer than temporary credentials do.

    Raises `ValueError` for a session without credentials or region and for a lifetime that is not within 12 hours.
    """
    if not 0 < lifetime_s <= LONGEST_S:
        raise ValueError(f"a token counts for 1 to {LONGEST_S} s, not for {lifetime_s}")
    credentials = session.get_credentials()
    if credentials is None or session.region_name is None:
        raise ValueError("the boto3 session has no credentials or no region; a token needs both")
    request = AWSRequest(
        method="POST", url=f"https://{_HOST}/", headers={"host": _HOST}, params={"Action": "CallWithBearerToken"}
    )
    # Frozen, because a refresh between the signer's reads would mix two sets of credentials.
    frozen = credentials.get_frozen_credentials()
    SigV4QueryAuth(frozen, "sagemaker", session.region_name, expires=lifetime_s).add_auth(request)
    signed = f"{request.url.removeprefix('https://')}&Version=1"
    return f"sagemaker-api-key-{base64.b64encode(signed.encode()).decode()}"
