"""`[api]`: an API of API Gateway in front of the endpoint, for callers who do not ask SageMaker itself."""

from __future__ import annotations

from typing import Annotated, Literal

from tidegate.infra.configuration.operations import LogDays
from tidegate.infra.configuration.value import LISTED, OFF, Value, like, some, whole

# Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/rest-api-jwt-authorizer-create.html
_Issuer = Annotated[
    str,
    like(
        r"https://[A-Za-z0-9.-]+(:\d{1,5})?(/[!$-.0-;=A-Z_a-z~]*)*",
        "not an issuer; write an https address exactly as the tokens have it in 'iss', without a query, such as "
        "'https://identity.example.com/'",
    ),
]
_Audience = Annotated[str, like(r"\S(.*\S)?", "not an audience; write one as the tokens have it in 'aud'")]
# RFC 6749, 3.3: what a scope may be made of.
_Scope = Annotated[str, like(r"[!#-\[\]-~]+", "not a scope; write one like 'tidegate/invoke', without blanks")]
Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


class Api(Value):
    """A REST API with one method, `POST /invocations`, that calls InvokeEndpoint."""

    authorization: Literal["iam", "jwt"]
    """`iam`: callers sign with AWS credentials. `jwt`: callers send a token of an identity provider."""
    issuer: _Issuer | None = None
    """jwt: the accepted issuer, exactly as in the token's `iss`, such as `https://identity.example.com/`. API Gateway
    must reach its `.well-known/openid-configuration`.
    """
    audience: Annotated[tuple[_Audience, ...], LISTED, some(50, "audiences")] = ()
    """jwt: a token must have one of these values in `aud`."""
    scopes: Annotated[tuple[_Scope, ...], LISTED, some(50, "scopes")] = ()
    """jwt: a token must have one of these values in `scope` or `scp`. Without this key, any token with the right issuer
    and audience is accepted.
    """
    algorithms: Annotated[tuple[Algorithm, ...], LISTED, some(6, "algorithms")] = ("RS256",)
    """jwt: the accepted signature algorithms, from `RS256`, `RS384`, `RS512`, `ES256`, `ES384`, `ES512`."""
    timeout_s: Annotated[int, whole(1, 60)] = 29
    """How long API Gateway waits for the endpoint, 1 to 60; more than 29 needs a higher quota of the account."""
    rate_per_s: Annotated[int, whole(1, 1_000_000)] | None = None
    """The maximum number of requests per second, from all callers together; with `burst`. Without it, the account's
    limit applies.
    """
    burst: Annotated[int, whole(1, 1_000_000)] | None = None
    """How many requests above that rate may arrive at once; with `rate_per_s`."""
    logs_days: Annotated[LogDays | None, OFF] = 90
    """Retention of the access logs, which have one line per request: a value that CloudWatch allows. `false`: no access
    logs.
    """
    account_log_role: Literal["new", "there"] | None = None
    """With logs. `there`: API Gateway already has a role for CloudWatch in this account and Region. `new`: this stack
    creates one and replaces any other.
    """
