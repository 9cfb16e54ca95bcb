"""The form of what validation says."""

from __future__ import annotations

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.stage.stage_errors import shown


def wrong(key: str, value: object, why: str) -> ConfigurationError:
    """`key=value is why`, where `why` ends in a way out."""
    return ConfigurationError(f"{key}={shown(value)} is {why}")
