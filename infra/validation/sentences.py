"""The form of what validation says."""

from __future__ import annotations

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.hosting import Hosting, PooledInstances
from tidegate.infra.stage.stage_errors import shown


def counted(number: int, noun: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def wrong(key: str, value: object, why: str) -> ConfigurationError:
    """`key=value is why`, where `why` ends in a way out."""
    return ConfigurationError(f"{key}={shown(value)} is {why}")


def larger(hosting: Hosting) -> str:
    """The way out of too few GPUs on a type of the endpoint, by the key that the stage has for it."""
    if isinstance(hosting, PooledInstances) and hosting.instance_pools:
        return "choose larger types in [[hosting.instance_pools]]"
    return "choose a larger instance_type"
