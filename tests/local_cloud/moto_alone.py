"""What moto is in a process of its own, where nothing of ours has put anything in its place.

`test_moto_facts.py` runs this file with the names that it asks for on standard input, as JSON, and gets the answers as
JSON. It imports nothing of ours, so that what an earlier test had the local cloud do to moto is not looked at.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

ACCOUNT_ID = "123456789012"


def found(dotted: str) -> Any:
    """The object, as its class holds it. Raises ImportError or AttributeError where it is no more."""
    module, _, name = dotted.partition(":")
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        try:
            thing = inspect.getattr_static(thing, part)
        except AttributeError:
            thing = importlib.import_module(f"{module}.{part}")  # a module that its package has not imported
    return thing


def parameters(thing: Any) -> str | None:
    """The names of a function's parameters; None for what is none."""
    thing = getattr(thing, "__func__", thing)
    if not inspect.isfunction(thing):
        return None
    return " ".join(name for name in inspect.signature(thing).parameters if name not in ("self", "cls"))


def described(dotted: str) -> dict[str, Any]:
    try:
        thing = found(dotted)
    except (ImportError, AttributeError) as error:
        return {"missing": f"{type(error).__name__}: {error}"}
    return {"parameters": parameters(thing), "is a property": isinstance(thing, property)}


def has(dotted: str) -> bool:
    module, _, name = dotted.partition(":")
    kind, operation = name.split(".")
    return hasattr(getattr(importlib.import_module(module), kind), operation)


def is_pythons_own(module: str, name: str) -> bool:
    """Whether a module of moto's has a module of Python's under its own name."""
    return getattr(importlib.import_module(module), name) is importlib.import_module(name)


def resource_classes() -> dict[str, Any]:
    from moto.cloudformation import parsing
    from moto.core.common_models import CloudFormationModel

    return {
        "caches that can be cleared": [
            callable(cached.cache_clear)
            for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map)
        ],
        "asks for subclasses": inspect.getsource(parsing.get_model_list.__wrapped__).count(
            "CloudFormationModel.__subclasses__()"
        ),
        "subclasses are a list": isinstance(CloudFormationModel.__subclasses__(), list),
        "WaitCondition is none": "AWS::CloudFormation::WaitCondition" in parsing.NULL_MODELS,
    }


def objects() -> dict[str, Any]:
    from moto.s3.models import FakeKey

    key = FakeKey(name="k", value=b"abc", account_id=ACCOUNT_ID, region_name="us-east-1")
    rolled = [key._value_buffer._rolled]  # type: ignore[attr-defined]
    key._value_buffer.rollover()
    rolled.append(key._value_buffer._rolled)  # type: ignore[attr-defined]
    told = {"rolled": rolled, "size": key.contentsize, "value": key.value.decode(), "locked": key.lock.locked()}
    key.dispose()
    return told


def responses() -> dict[str, Any]:
    from moto.core.responses import BaseResponse

    return {
        "raises": "raise NotImplementedError" in inspect.getsource(BaseResponse.call_action),
        "names the service": "boto3_service_name" in dir(BaseResponse),
    }


def scaling() -> dict[str, Any]:
    from moto.applicationautoscaling.exceptions import AWSValidationException
    from moto.applicationautoscaling.models import applicationautoscaling_backends

    backend = applicationautoscaling_backends[ACCOUNT_ID]["eu-west-3"]
    which = ("sagemaker", "endpoint/e/variant/v", "sagemaker:variant:DesiredInstanceCount")
    target = backend.register_scalable_target(*which, 1, 2, role_arn="", suspended_state="")
    told = {
        "kept under dimension and resource": backend.targets[which[2]][which[1]] is target,
        "arn": target.arn[:8],
        "tags": "tags" in vars(target),
        "error": "",
    }
    backend.deregister_scalable_target(*which)
    try:
        backend.deregister_scalable_target(*which)
    except AWSValidationException as error:
        told["error"] = error.message
    return told


def sagemakers_world() -> dict[str, Any]:
    from moto.apigateway import responses as gateway
    from moto.applicationautoscaling import models, responses

    return {
        "authorizer types are a list": isinstance(gateway.AUTHORIZER_TYPES, list),
        "JWT": "JWT" in gateway.AUTHORIZER_TYPES,
        "one set of dimensions": models.ScalableDimensionValueSet is responses.ScalableDimensionValueSet,
        "copies": "sagemaker:inference-component:DesiredCopyCount"
        in {dimension.value for dimension in models.ScalableDimensionValueSet},
    }


def interpreter() -> dict[str, Any]:
    from moto.core.config import default_user_config
    from moto.stepfunctions.parser.asl.component.intrinsic import jsonata as functions
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
        state_task_service_aws_sdk,
    )
    from moto.stepfunctions.parser.asl.jsonata import jsonata as engine

    return {
        "no engine": engine._eval_jsonata is None,
        "calls the engine": "_eval_jsonata(" in inspect.getsource(engine.eval_jsonata_expression),
        "$hash": "$hash" in functions._DECLARATION_BY_VARIABLE_REFERENCE,
        "sagemaker's errors": "sagemaker" in state_task_service_aws_sdk._SERVICE_ERROR_NAMES,
        "configuration is a dict": isinstance(default_user_config, dict),
    }


def sessions() -> dict[str, Any]:
    from moto.sts.models import sts_backends

    backend = sts_backends[ACCOUNT_ID]["aws"]
    session = backend.assume_role(
        region_name="us-east-1",
        role_session_name="s",
        role_arn=f"arn:aws:iam::{ACCOUNT_ID}:role/r",
        policy="",
        duration=3600,
        external_id="",
    )
    session.access_key_id = "LOCALCLOUDLOCALFACTS"
    return {"found by its key": backend.get_assumed_role_from_access_key("LOCALCLOUDLOCALFACTS") is session}


STACK = """
Parameters: {Size: {Type: String, Default: small}}
Conditions: {Is: !Equals [!Ref Size, small]}
Resources:
  Queue: {Type: "AWS::SQS::Queue", Condition: Is, Properties: {QueueName: a}}
Outputs: {Queue: {Value: !Ref Queue, Export: {Name: the-queue}}}
"""


def stack() -> dict[str, Any]:
    from moto import mock_aws
    from moto.cloudformation import parsing
    from moto.cloudformation.models import Stack, cloudformation_backends

    with mock_aws():
        stack = Stack(
            stack_id=f"arn:aws:cloudformation:us-east-1:{ACCOUNT_ID}:stack/s/1",
            name="s",
            template=STACK,
            parameters={},
            account_id=ACCOUNT_ID,
            region_name="us-east-1",
            cross_stack_resources={},
        )
        backend = cloudformation_backends[ACCOUNT_ID]["us-east-1"]
        made = stack.resource_map
        before = list(made._parsed_resources)
        resource: Any = parsing.parse_and_create_resource(
            "Queue", made._resource_json_map["Queue"], made, ACCOUNT_ID, "us-east-1"
        )
        made._parsed_resources["Queue"] = resource
        dicts = (backend.stacks, backend.change_sets, backend.exports, backend.deleted_stacks, stack.template_dict)
        return {
            "nothing is made by a stack that is constructed": "Queue" not in before,
            "resources have a physical id": bool(resource.physical_resource_id),
            "definitions": sorted(made._resource_json_map),
            "parameters": made.resolved_parameters,
            "conditions": bool(made.lazy_condition_map["Is"]),
            "status": stack.status,
            "events": isinstance(stack.events, list),
            "dicts": all(isinstance(each, dict) for each in dicts),
            "exports": [export.name for export in stack.exports],
            "exporter": stack.exports[0].exporting_stack_id == stack.stack_id,
        }


LOOKED_AT: dict[str, Callable[[], dict[str, Any]]] = {
    each.__name__: each
    for each in (resource_classes, objects, responses, scaling, sagemakers_world, interpreter, sessions, stack)
}


def looked_at(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is seen, or what went wrong: one fact that does not hold leaves the others theirs."""
    try:
        return look()
    except Exception:
        return {"went wrong": traceback.format_exc()}


def main() -> None:
    asked = json.load(sys.stdin)
    told = {
        "described": {dotted: described(dotted) for dotted in asked["described"]},
        "has": {dotted: has(dotted) for dotted in asked["has"]},
        "is python's own": {module: is_pythons_own(module, name) for module, name in asked["is python's own"].items()},
        **{name: looked_at(look) for name, look in LOOKED_AT.items()},
        "ours": sorted(name for name in sys.modules if name.partition(".")[0] in ("tidegate", "tests")),
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
