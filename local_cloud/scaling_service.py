"""What moto's Application Auto Scaling lacks: the tags of scalable targets, and the code of an error.

Terraform's provider asks for the tags whenever it reads a target, and knows by the code that something is gone already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult

Tags = dict[str, str]

_register_of_moto = ApplicationAutoScalingResponse.register_scalable_target


class _NoSuchTarget(ServiceException):
    code = "ResourceNotFoundException"


class _NothingFound(ServiceException):
    code = "ObjectNotFoundException"


def complete() -> None:
    """Gives moto's service what it lacks, for this process; once."""
    ApplicationAutoScalingResponse.register_scalable_target = _register  # type: ignore[method-assign]
    ApplicationAutoScalingResponse.deregister_scalable_target = _saying_what_is_gone(  # type: ignore[method-assign, assignment]
        ApplicationAutoScalingResponse.deregister_scalable_target
    )
    ApplicationAutoScalingResponse.delete_scaling_policy = _saying_what_is_gone(  # type: ignore[method-assign, assignment]
        ApplicationAutoScalingResponse.delete_scaling_policy
    )
    ApplicationAutoScalingResponse.list_tags_for_resource = _list  # type: ignore[attr-defined]
    ApplicationAutoScalingResponse.tag_resource = _add  # type: ignore[attr-defined]
    ApplicationAutoScalingResponse.untag_resource = _remove  # type: ignore[attr-defined]


def _saying_what_is_gone(
    act: Callable[[ApplicationAutoScalingResponse], str],
) -> Callable[[ApplicationAutoScalingResponse], str]:
    def acting(self: ApplicationAutoScalingResponse) -> str:
        try:
            return act(self)
        except AWSValidationException as error:
            if error.message.startswith("No scal"):
                raise _NothingFound(error.message) from error
            raise

    return acting


def _register(self: ApplicationAutoScalingResponse) -> str:
    """Tags that come with a target are new ones of it; without any it keeps those that it has."""
    answer = _register_of_moto(self)
    by_resource = self.applicationautoscaling_backend.targets[self._get_param("ScalableDimension")]
    _tags_of(by_resource[self._get_param("ResourceId")]).update(self._get_param("Tags") or {})
    return answer


def _list(self: ApplicationAutoScalingResponse) -> ActionResult:
    return ActionResult({"Tags": dict(_tags(self))})


def _add(self: ApplicationAutoScalingResponse) -> EmptyResult:
    _tags(self).update(self._get_param("Tags"))
    return EmptyResult()


def _remove(self: ApplicationAutoScalingResponse) -> EmptyResult:
    tags = _tags(self)
    for key in self._get_param("TagKeys"):
        tags.pop(key, None)
    return EmptyResult()


def _tags(response: ApplicationAutoScalingResponse) -> Tags:
    """Those of the target whose ARN a request names."""
    arn = response._get_param("ResourceARN")
    for target in _targets(response.applicationautoscaling_backend):
        if target.arn == arn:
            return _tags_of(target)
    raise _NoSuchTarget(f"Resource with ARN {arn} is not registered as a scalable target.")


def _targets(backend: ApplicationAutoscalingBackend) -> list[Any]:
    return [target for by_resource in backend.targets.values() for target in by_resource.values()]


def _tags_of(target: Any) -> Tags:
    """They lie in moto's own object, so that they go where it goes."""
    tags: Tags = vars(target).setdefault("tags", {})
    return tags
