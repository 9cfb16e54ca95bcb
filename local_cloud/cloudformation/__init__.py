"""The largest reach into moto: CloudFormation that deploys to our SageMaker.

* The modules called ``…_resources`` are resource classes for what moto lacks or drops; they act through boto3
  (:mod:`.resource_class` has what they share).
* :mod:`.stacks` and :mod:`.change_sets` run stack operations: moto's own are synchronous, lose failures and do not
  carry replacements on.

Templates, parameters, intrinsic functions and every other resource type stay moto's. What all of it needs of moto is
written down in tests/local_cloud/test_moto_facts.py.
"""

from collections.abc import Callable
from typing import Any

from moto.cloudformation import parsing

from tidegate.local_cloud import scaling_service
from tidegate.local_cloud.cloudformation import (
    alarm_resources,
    api_resources,
    bucket_resources,
    budget_resource,
    event_resources,
    key_resource,
    log_resources,
    notification_resources,
    parameter_resource,
    pipeline_resource,
    policy_resource,
    repository_resource,
    role_resource,
    sagemaker_resources,
    scaling_resources,
    schedule_resources,
    table_resources,
)
from tidegate.local_cloud.cloudformation.clients import use
from tidegate.local_cloud.cloudformation.stacks import resume, run_stacks_ourselves

__all__ = [
    "alarm_resources",
    "api_resources",
    "bucket_resources",
    "budget_resource",
    "event_resources",
    "install",
    "key_resource",
    "log_resources",
    "notification_resources",
    "parameter_resource",
    "pipeline_resource",
    "policy_resource",
    "repository_resource",
    "resume",
    "role_resource",
    "sagemaker_resources",
    "scaling_resources",
    "schedule_resources",
    "table_resources",
]


def install(make_client: Callable[[str], Any]) -> None:
    """Puts the seam into this process's moto; ``make_client`` makes a boto3 client of this cloud for a service."""
    use(make_client)
    # moto may have listed its resource classes already; the list must be made again with ours.
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    bucket_resources.ignore_bucket_policies()
    scaling_resources.take_inference_components()
    scaling_service.complete()
    api_resources.take_jwt_authorizers()
    run_stacks_ourselves()
