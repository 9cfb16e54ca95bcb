"""Whether the values of a stage fit together, found out before anything is synthesised.

A value by itself was checked when it was read. Each check here takes two or more keys that SageMaker would refuse
together, hours later, and raises `ConfigurationError` with one sentence that names key, value and way out.
"""

from __future__ import annotations

import datetime

from tidegate.inference import settings
from tidegate.infra.configuration import Stage
from tidegate.infra.models.container_environment import container_environment
from tidegate.infra.validation import (
    api,
    capacity,
    containers,
    gpus,
    hosting,
    instances,
    monitor,
    operations,
    sharing,
    sources,
    spans,
    tables,
    zones,
)


def check(stage: Stage) -> None:
    """Raise `ConfigurationError` for the first pair of keys of `stage` that cannot be deployed together."""
    operations.check_tags(stage.tags)
    sources.check_image(stage)
    sources.check_model(stage)
    instances.check_types(stage)
    capacity.check(stage)
    hosting.check(stage)
    zones.check(stage)
    containers.check(stage)
    monitor.check(stage)
    api.check(stage)
    operations.check(stage)
    sharing.check(stage)
    tables.check(stage, today=datetime.datetime.now(tz=datetime.UTC).date())
    server = settings.read(container_environment(stage))
    gpus.check(stage, server)
    spans.check(stage, server)
