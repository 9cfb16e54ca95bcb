"""The bearer tokens of the OpenAI-compatible path: read, and refused where they do not count.

``sagemaker-api-key-`` and, in base64, an address of the service that was signed for the action CallWithBearerToken:
``sagemaker.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Credential=…&X-Amz-Date=…&X-Amz-Expires=…&…&Version=1``.
Source: sagemaker-core, ``sagemaker.core.token_generator``; lifetime: developer guide, "Invoke endpoints with
OpenAI-compatible APIs". The signature is not checked: like everywhere in this cloud, any credentials are accepted.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from tidegate.local_cloud.sagemaker.errors import ServiceError

PREFIX = "sagemaker-api-key-"
LONGEST = timedelta(hours=12)
_WAY_OUT = "make one with sagemaker.core.token_generator.generate_token(), or bearer_token() of the client's Endpoint"


def check_bearer_token(authorization: str, *, region: str, at: datetime) -> None:
    """Raises AccessDeniedException, with what is wrong, for a header without a token that counts here and now."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.startswith(PREFIX):
        raise _denied(f"the header Authorization has no bearer token of SageMaker's ({PREFIX}…); {_WAY_OUT}")
    try:
        signed = base64.b64decode(token.removeprefix(PREFIX), validate=True).decode("ascii")
        said = {name: values[0] for name, values in parse_qs(urlsplit(f"//{signed}").query).items()}
        _, _, signed_region, service, _ = said["X-Amz-Credential"].split("/")
        begin = datetime.strptime(said["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lifetime = timedelta(seconds=int(said["X-Amz-Expires"]))
        counts_for = (said["Action"], service)
    except (binascii.Error, ValueError, KeyError, OverflowError) as error:
        raise _denied(f"the bearer token cannot be read ({type(error).__name__}: {error}); {_WAY_OUT}") from error
    if counts_for != ("CallWithBearerToken", "sagemaker"):
        raise _denied(f"the bearer token was made for {counts_for[0]} of {counts_for[1]}; {_WAY_OUT}")
    if signed_region != region:
        raise _denied(f"the bearer token was made for the region {signed_region}; the local cloud runs in {region}")
    if not timedelta() < lifetime <= LONGEST:
        raise _denied(f"the bearer token is for {lifetime.total_seconds():g} s; it may count for 12 hours at most")
    if at > begin + lifetime:
        raise _denied(f"the bearer token expired at {begin + lifetime:%Y-%m-%d %H:%M:%S} UTC; {_WAY_OUT}")


def _denied(reason: str) -> ServiceError:
    return ServiceError("AccessDeniedException", f"The request is not authorized: {reason}.", status=403)
