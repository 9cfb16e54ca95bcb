"""`[hosting.monitor]`: something to look at, an image to do it, and time for it."""

from __future__ import annotations

import re

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import RealtimeHosting
from tidegate.infra.configuration.model import Piped
from tidegate.infra.configuration.monitor import Monitor
from tidegate.infra.hosting import instance_types
from tidegate.infra.hosting.analyzer_image import analyzer_image
from tidegate.infra.validation.registries import check_registry
from tidegate.infra.validation.sentences import wrong


def check(stage: Stage) -> None:
    """Raise `ConfigurationError` for the first key that Model Monitor would refuse."""
    hosting = stage.hosting
    if not isinstance(hosting, RealtimeHosting) or hosting.monitor is None:
        return
    if hosting.capture is None:
        raise ConfigurationError(
            "[hosting.monitor] looks at captured requests, and none are captured; write [hosting.capture]"
        )
    # Source: SageMaker guide, "Data and model quality monitoring with Model Monitor", notes.
    several = "[[hosting.variants]]" if len(hosting.variants) > 1 else None
    if isinstance(stage.model, Piped) and stage.model.containers and stage.model.invocation == "direct":
        several = "model.invocation = 'direct'"
    if several is not None:
        raise ConfigurationError(
            f"[hosting.monitor] is for endpoints of one model, and {several} makes more; remove one of the two"
        )
    _check_image(stage, hosting.monitor)
    _check_type(hosting.monitor.instance_type)
    _check_time(hosting.monitor)


def _check_image(stage: Stage, monitor: Monitor) -> None:
    if monitor.image_uri is not None:
        check_registry(stage, "hosting.monitor.image_uri", monitor.image_uri)
        # Source: API reference, DataQualityAppSpecification.
        for key, value in (("preprocessor", monitor.preprocessor), ("postprocessor", monitor.postprocessor)):
            if value is not None:
                why = "called by SageMaker's own analyzer only; call it in your image, or remove image_uri"
                raise wrong(f"hosting.monitor.{key}", value, why)
        return
    if stage.region is None:
        raise ConfigurationError(
            "[hosting.monitor] runs an image that is of another account in each Region; write region above the first "
            "table, or hosting.monitor.image_uri"
        )
    if analyzer_image(stage.region) is None:
        why = "without an account of Model Monitor's analyzer that we know; write hosting.monitor.image_uri"
        raise wrong("region", stage.region, why)


def _check_type(instance_type: str) -> None:
    known = instance_types.processing_types()
    if instance_type not in known:
        near = instance_types.suggestions(instance_type, known)
        hint = f"did you mean {' or '.join(near)}?" if near else "one that exists is ml.m5.xlarge"
        raise wrong("hosting.monitor.instance_type", instance_type, f"not an instance type of processing jobs; {hint}")


def _check_time(monitor: Monitor) -> None:
    """A job ends before the next one begins. Source: API reference, MonitoringStoppingCondition."""
    hours = 24
    if monitor.schedule.startswith("cron(0 * "):
        hours = 1
    elif every := re.search(r"/(\d+) ", monitor.schedule):
        hours = int(every[1])
    if monitor.max_runtime_s > hours * 3600:
        why = f"longer than from one job to the next; write {hours * 3600} or less, or another schedule"
        raise wrong("hosting.monitor.max_runtime_s", monitor.max_runtime_s, why)
