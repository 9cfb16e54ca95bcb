"""`[api]`: an endpoint that answers at once, and what its way in needs."""

from __future__ import annotations

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.api import Api
from tidegate.infra.configuration.hosting import AsyncHosting
from tidegate.infra.validation.sentences import wrong


def check(stage: Stage) -> None:
    """Raise `ConfigurationError` for the first key that API Gateway would refuse, or that would be without effect."""
    api = stage.api
    if api is None:
        return
    if isinstance(stage.hosting, AsyncHosting):
        raise ConfigurationError(
            "[api] does not go with hosting.mode='async', whose requests and answers are objects in S3, which callers "
            "put and get with rights of their own; remove it, or choose another mode"
        )
    _check_token(api)
    _check_throttling(api)
    _check_logs(api)


def _check_token(api: Api) -> None:
    of_tokens = {"issuer": api.issuer, "audience": list(api.audience), "scopes": list(api.scopes)}
    if api.authorization == "jwt":
        for key, example in (("issuer", "'https://identity.example.com/'"), ("audience", "['tidegate']")):
            if not of_tokens[key]:
                raise wrong(
                    "api.authorization", "jwt", f"without {key}, by which tokens are checked; write {key} = {example}"
                )
        if twice := next((name for name in api.algorithms if api.algorithms.count(name) > 1), None):
            raise wrong("api.algorithms", twice, "given twice; write it once")
        return
    if "algorithms" in api.model_fields_set:
        of_tokens["algorithms"] = list(api.algorithms)
    for key, value in of_tokens.items():
        if value:
            raise wrong(f"api.{key}", value, "about tokens, and authorization is 'iam'; remove it, or write 'jwt'")


def _check_throttling(api: Api) -> None:
    for key, value, other, missing in (
        ("rate_per_s", api.rate_per_s, "burst", api.burst),
        ("burst", api.burst, "rate_per_s", api.rate_per_s),
    ):
        if value is not None and missing is None:
            raise wrong(f"api.{key}", value, f"one half of a limit; write api.{other} too, or remove it")


def _check_logs(api: Api) -> None:
    # Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html
    if api.logs_days is not None and api.account_log_role is None:
        raise ConfigurationError(
            "[api] writes access logs, for which API Gateway needs a role that is one for the account and Region; "
            "write account_log_role = 'there' where `aws apigateway get-account` shows a cloudwatchRoleArn, 'new' "
            "where it does not, or logs_days = false"
        )
    if api.logs_days is None and api.account_log_role is not None:
        raise wrong("api.account_log_role", api.account_log_role, "for access logs, and logs_days is off; remove it")
