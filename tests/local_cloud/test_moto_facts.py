"""What the local cloud knows of moto that moto does not promise, each as a sentence: "moto's … still …".

A release of moto that changes one of them fails here, in one readable place, and not somewhere in a deployment. A name
that the local cloud takes from moto and that no table here has fails too: whoever reaches further says so first.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOM = Path(__file__).parents[2] / "local_cloud"

PROMISED = {
    "moto.core.common_models:CloudFormationModel": "the base of resource classes, also of people's own",
    "moto.core.exceptions:ServiceException": "an error with a code",
    "moto.core.responses:ActionResult": "an answer as members",
    "moto.core.responses:EmptyResult": "an answer without members",
    "moto.cloudformation.exceptions:AlreadyExistsException": "an error of the service",
    "moto.cloudformation.exceptions:CloudFormationError": "an error of the service",
    "moto.cloudformation.exceptions:UnformattedGetAttTemplateException": "an error of the service",
    "moto.cloudformation.exceptions:ValidationError": "an error of the service",
    "moto.iam.exceptions:MalformedPolicyDocument": "an error of the service",
    "moto.iam.exceptions:NotFoundException": "an error of the service",
    "moto.s3.exceptions:S3ClientError": "an error of the service",
    "moto.utilities.utils:get_partition": "the partition of a Region",
    "moto.s3.exceptions:EntityTooSmall": "an error of the service",
    "moto.s3.exceptions:InvalidPart": "an error of the service",
    "moto.s3.exceptions:MalformedXML": "an error of the service",
    "moto.settings:S3_UPLOAD_PART_MIN_SIZE": "a setting",
    "moto.settings:get_s3_default_key_buffer_size": "a setting",
    "moto.iam.access_control:PermissionResult": "what a policy says",
}
"""Names that other extensions of moto use as well; that they can be imported is all that is asked of them."""

CALLED = {
    "moto.cloudformation.models:cloudformation_backends": None,
    "moto.core.base_backend:AccountSpecificBackend": None,
    "moto.core.base_backend:BackendDict": None,
    "moto.core.base_backend:BaseBackend": None,
    "moto.iam.models:AWSManagedPolicy": None,
    "moto.s3.utils:_VersionedKeyStore": None,
    "moto.s3:models": None,
    "moto.stepfunctions.parser.api:ExecutionStatus": None,
    "moto.stepfunctions.parser.backend.execution_worker:ExecutionWorker": None,
    "moto.s3.utils:_VersionedKeyStore.__setitem__": "key value",
    "moto.s3.utils:_VersionedKeyStore.setlist": "key list_",
    "moto.s3.utils:_VersionedKeyStore.pop": "key",
    "moto.apigateway:responses": None,
    "moto.applicationautoscaling.exceptions:AWSValidationException": None,
    "moto.applicationautoscaling.models:ApplicationAutoscalingBackend": None,
    "moto.applicationautoscaling.models:applicationautoscaling_backends": None,
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse": None,
    "moto.cloudwatch.models:Alarm": None,
    "moto.cloudwatch.models:CloudWatchBackend": None,
    "moto.cloudwatch.models:Dimension": None,
    "moto.cloudwatch.models:MetricAggregatedDatum": None,
    "moto.cloudwatch.models:MetricDatum": None,
    "moto.cloudwatch.models:cloudwatch_backends": None,
    "moto.cloudwatch.responses:CloudWatchResponse": None,
    "moto.core.common_models:BaseModel": None,
    "moto.core.common_models:CloudWatchMetricProvider": None,
    "moto.events.models:EventsBackend": None,
    "moto.events.models:events_backends": None,
    "moto.scheduler.models:EventBridgeSchedulerBackend": None,
    "moto.scheduler.models:scheduler_backends": None,
    "moto.scheduler.responses:EventBridgeSchedulerResponse": None,
    "moto.stepfunctions.parser.models:stepfunctions_parser_backends": None,
    "moto.applicationautoscaling:models": None,
    "moto.applicationautoscaling:responses": None,
    "moto.cloudformation:parsing": None,
    "moto.cloudformation.parsing:parse_and_create_resource": "logical_id resource_json resources_map account_id"
    " region_name",
    "moto.cloudformation.parsing:parse_and_update_resource": "logical_id resource_json resources_map account_id"
    " region_name",
    "moto.cloudformation.parsing:ResourceMap.__init__": "stack_id stack_name parameters tags region_name account_id"
    " template cross_stack_resources",
    "moto.cloudformation.parsing:ResourceMap.load": "",
    "moto.cloudformation.parsing:ResourceMap._delete_resource": "parsed_resource resource_json",
    "moto.cloudformation.models:ChangeSet": None,
    "moto.cloudformation.models:CloudFormationBackend": None,
    "moto.cloudformation.models:CloudFormationBackend.get_stack": "name_or_stack_id",
    "moto.cloudformation.models:CloudFormationBackend._resolve_update_parameters": "instance incoming_params",
    "moto.cloudformation.models:Event": None,
    "moto.cloudformation.models:Event.__init__": "stack_id stack_name logical_resource_id physical_resource_id"
    " resource_type resource_status resource_status_reason resource_properties",
    "moto.cloudformation.models:Event.sendToSns": "account_id region sns_topic_arns",
    "moto.cloudformation.models:Stack": None,
    "moto.cloudformation.models:Stack.__init__": "stack_id name template parameters account_id region_name"
    " notification_arns tags role_arn cross_stack_resources enable_termination_protection timeout_in_mins"
    " stack_policy_body",
    "moto.cloudformation.models:Stack.parse_template": "template",
    "moto.cloudformation.models:Stack._create_resource_map": "",
    "moto.cloudformation.models:Stack._create_output_map": "",
    "moto.cloudformation.responses:CloudFormationResponse": None,
    "moto.cloudformation.utils:generate_stack_id": "stack_name region account",
    "moto.core.config:default_user_config": None,
    "moto.core.responses:BaseResponse": None,
    "moto.core.responses:BaseResponse._get_action": "",
    "moto.core.responses:BaseResponse.serialized": "action_result",
    "moto.ecr.models:Repository": None,
    "moto.events.models:EventPattern": None,
    "moto.events.models:EventPattern.__init__": "raw_pattern pattern",
    "moto.events.models:EventPattern.get_pattern": "",
    "moto.events.models:EventPattern.matches_event": "event",
    "moto.events.models:Rule": None,
    "moto.iam.models:Role": None,
    "moto.iam.models:iam_backends": None,
    "moto.iam.models:IAMBackend.get_role_by_arn": "arn",
    "moto.iam.models:Role.put_policy": "policy_name policy_json",
    "moto.iam.policy_validation:IAMPolicyDocumentValidator": None,
    "moto.iam.policy_validation:IAMPolicyDocumentValidator.validate": "",
    "moto.iam.responses:IamResponse": None,
    "moto.kms.models:kms_backends": None,
    "moto.moto_server.werkzeug_app:DomainDispatcherApplication": None,
    "moto.moto_server.werkzeug_app:DomainDispatcherApplication.__init__": "create_app",
    "moto.moto_server.werkzeug_app:MotoRequestHandler": None,
    "moto.moto_server.werkzeug_app:create_backend_app": "service",
    "moto.s3.models:FakeBucket": None,
    "moto.s3.models:FakeKey": None,
    "moto.s3.models:FakeMultipart": None,
    "moto.s3.models:MultipartChecksumBuilder": None,
    "moto.s3.models:MultipartChecksumBuilder.__init__": "checksum_algorithm checksum_type",
    "moto.s3.models:MultipartChecksumBuilder.addPart": "part",
    "moto.s3.models:MultipartChecksumBuilder.build": "",
    "moto.s3.models:s3_backends": None,
    "moto.s3.responses:S3Response": None,
    "moto.sns.models:sns_backends": None,
    "moto.sqs.models:sqs_backends": None,
    "moto.stepfunctions.parser.asl.component.intrinsic:jsonata": None,
    "moto.stepfunctions.parser.asl.component.state.exec.state_task.service:state_task_service_aws_sdk": None,
    "moto.stepfunctions.parser.asl.jsonata:jsonata": None,
    "moto.stepfunctions.parser.models:StepFunctionsParserBackend": None,
    "moto.sts.models:AssumedRole": None,
    "moto.sts.models:STSBackend.get_assumed_role_from_access_key": "access_key_id",
    "moto.sts.models:sts_backends": None,
    "moto.sts.responses:TokenResponse": None,
    "moto.sts.models:STSBackend.assume_role": "region_name role_session_name role_arn policy duration external_id",
}
"""What is called, with the names of its parameters; None for a module or a class, whose members stand beside it."""

REPLACED = {
    "moto.core.common_models:BaseModel.__new__": "args kwargs",
    "moto.applicationautoscaling.models:ApplicationAutoscalingBackend.deregister_scalable_target": "namespace r_id"
    " dimension",
    "moto.applicationautoscaling.models:ApplicationAutoscalingBackend.put_scaling_policy": "policy_name"
    " service_namespace resource_id scalable_dimension policy_body policy_type",
    "moto.cloudwatch.models:CloudWatchBackend.put_metric_alarm": "name namespace metric_name comparison_operator"
    " evaluation_periods period threshold statistic description dimensions alarm_actions metric_data_queries"
    " datapoints_to_alarm extended_statistic ok_actions insufficient_data_actions unit actions_enabled"
    " treat_missing_data evaluate_low_sample_count_percentile threshold_metric_id rule tags",
    "moto.cloudwatch.models:CloudWatchBackend.set_alarm_state": "alarm_name reason reason_data state_value",
    "moto.cloudwatch.models:CloudWatchBackend.delete_alarms": "alarm_names",
    "moto.cloudwatch.responses:CloudWatchResponse.get_metric_data": "",
    "moto.cloudwatch.responses:CloudWatchResponse.get_metric_statistics": "",
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.register_scalable_target": "",
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.deregister_scalable_target": "",
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.delete_scaling_policy": "",
    "moto.cloudformation.models:CloudFormationBackend.create_stack": "name template parameters notification_arns tags"
    " role_arn enable_termination_protection timeout_in_mins stack_policy_body",
    "moto.cloudformation.models:CloudFormationBackend.update_stack": "name template role_arn parameters tags",
    "moto.cloudformation.models:CloudFormationBackend.delete_stack": "name_or_stack_id",
    "moto.cloudformation.models:CloudFormationBackend.create_change_set": "stack_name change_set_name template"
    " parameters description change_set_type notification_arns tags role_arn",
    "moto.cloudformation.models:CloudFormationBackend.execute_change_set": "change_set_name stack_name",
    "moto.cloudformation.models:CloudFormationBackend.describe_change_set": "change_set_name",
    "moto.cloudformation.models:CloudFormationBackend.delete_change_set": "change_set_name",
    "moto.cloudformation.models:Stack.outputs": None,
    "moto.cloudformation.models:Stack.stack_resources": None,
    "moto.cloudformation.responses:CloudFormationResponse._get_stack_from_s3_url": "template_url",
    "moto.cloudformation.responses:CloudFormationResponse._validate_different_update": "incoming_params stack_body"
    " old_stack",
    "moto.cloudformation.responses:CloudFormationResponse.describe_change_set": "",
    "moto.cloudformation.responses:CloudFormationResponse.delete_change_set": "",
    "moto.core.responses:BaseResponse.call_action": "",
    "moto.events.models:Rule.send_to_targets": "original_event transform_input",
    "moto.s3.models:FakeBucket.get_permission": "action resource",
    "moto.sts.models:AssumedRole.__init__": "account_id region_name access_key role_session_name role_arn policy"
    " duration external_id",
    "moto.s3.models:FakeKey.value": None,
    "moto.s3.models:FakeMultipart.complete": "body",
    "moto.s3.responses:S3Response._authenticate_and_authorize_s3_action": "bucket_name key_name",
    "moto.s3.responses:S3Response.get_object": "",
    "moto.s3.responses:S3Response.put_object": "",
    "moto.s3.responses:S3Response.upload_part": "",
    "moto.scheduler.responses:EventBridgeSchedulerResponse.update_schedule": "",
    "moto.stepfunctions.parser.models:StepFunctionsParserBackend.start_execution": "state_machine_arn name"
    " execution_input trace_header",
}
"""What the local cloud puts its own in the place of, with the parameters that it is called with."""

BY_NAME = {
    # Modules that hold Python's own of this name, and a class with its method.
    "moto.applicationautoscaling.models": "time",
    "moto.core.utils": "datetime",
    "moto.s3.models": "datetime",
    "moto.stepfunctions.parser.asl.component.state.state": "datetime",
    "moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp": "datetime",
    "moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function": "WaitFunction",
    "moto.stepfunctions.parser.asl.eval.event.event_manager": "datetime",
    "moto.stepfunctions.parser.backend.execution": "datetime",
    "moto.stepfunctions.parser.backend.state_machine": "datetime",
    "moto.stepfunctions.parser.models": "datetime",
}
"""What `moto_time.py` lets go by the cloud's clock."""

_SCALING = "local_cloud/scaling_service.py"
SIMPLER_WITHOUT = {
    "moto.cloudwatch.responses:CloudWatchResponse.describe_alarm_history": "local_cloud/alarms/history.py",
    "moto.cloudwatch.responses:CloudWatchResponse.put_composite_alarm": "local_cloud/alarms/alarms.py",
    "moto.iam.responses:IamResponse.simulate_principal_policy": "local_cloud/access/policy_simulation.py",
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.list_tags_for_resource": _SCALING,
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.describe_scaling_activities": "local_cloud"
    "/scaling/scaler.py",
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.tag_resource": _SCALING,
    "moto.applicationautoscaling.responses:ApplicationAutoScalingResponse.untag_resource": _SCALING,
    "moto.budgets.responses:BudgetsResponse.update_budget": "local_cloud/cloudformation/budget_resource.py",
    "moto.athena.responses:AthenaResponse.update_work_group": "local_cloud/cloudformation/table_resources.py",
}
"""Operations that moto lacks, and what of ours can go once it has them."""


FURTHER = {
    "moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function:WaitFunction"
    "._wait_interval": "env wait_seconds",
    "moto.stepfunctions.parser.asl.utils.boto_client:boto_client_for": "region service state_credentials",
}
"""What is reached by the name of its module alone."""


@pytest.fixture(scope="module")
def moto() -> Any:
    """What moto is where nothing of ours has been: other tests of this process have the local cloud replace parts."""
    asked = {
        "described": [*PROMISED, *CALLED, *REPLACED, *FURTHER],
        "has": list(SIMPLER_WITHOUT),
        "is python's own": {module: name for module, name in BY_NAME.items() if name != "WaitFunction"},
    }
    alone = [sys.executable, "-I", Path(__file__).parent / "moto_alone.py"]
    done = subprocess.run(alone, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ours"] == [], "moto was to be looked at in a process that has nothing of ours"
    return told


@pytest.mark.parametrize("dotted", [*PROMISED, *CALLED, *REPLACED, *FURTHER])
def test_moto_still_has_what_we_and_other_extensions_of_it_use(moto: Any, dotted: str) -> None:
    assert "missing" not in moto["described"][dotted], moto["described"][dotted]


@pytest.mark.parametrize("dotted", [dotted for dotted, wanted in {**CALLED, **FURTHER}.items() if wanted is not None])
def test_moto_still_takes_these_parameters_when_it_is_called(moto: Any, dotted: str) -> None:
    taken = moto["described"][dotted]["parameters"]
    assert taken == {**CALLED, **FURTHER}[dotted], f"moto's {dotted} is called in another way now"


@pytest.mark.parametrize("dotted", REPLACED)
def test_moto_still_calls_what_we_replace_with_these_parameters(moto: Any, dotted: str) -> None:
    described, wanted = moto["described"][dotted], REPLACED[dotted]
    if wanted is None:
        assert described["is a property"], f"moto's {dotted} is no property any more"
    else:
        assert described["parameters"] == wanted, f"moto calls {dotted} in another way now: ours would be called so too"


@pytest.mark.parametrize("dotted", SIMPLER_WITHOUT)
def test_moto_still_lacks_these_operations(moto: Any, dotted: str) -> None:
    assert moto["has"][dotted] is False, SIMPLER_WITHOUT[dotted]


def test_every_name_that_is_taken_from_moto_stands_in_a_table() -> None:
    taken = set()
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "moto":
                taken |= {f"{node.module}:{name.name}" for name in node.names}
            elif isinstance(node, ast.Import):
                assert not [name for name in node.names if name.name.split(".")[0] == "moto"], path
    assert taken == {dotted for dotted in (*PROMISED, *CALLED) if "." not in dotted.partition(":")[2]} - {
        dotted for dotted in CALLED if dotted.startswith("moto.cloudformation.parsing:")
    }


def test_every_module_of_moto_s_that_is_named_in_a_text_stands_in_the_table() -> None:
    named = {
        node.value
        for path in ROOM.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"moto(\.\w+)+", node.value)
        and node.value != "moto.requests"  # a logger
    }
    assert named == BY_NAME.keys()


@pytest.mark.parametrize("module", [module for module, name in BY_NAME.items() if name != "WaitFunction"])
def test_moto_s_modules_still_ask_python_for_the_time_under_this_name(moto: Any, module: str) -> None:
    """Whoever else asks for it would go by the machine's clock."""
    assert moto["is python's own"][module]


def test_every_method_of_moto_s_that_is_replaced_stands_in_the_table() -> None:
    replaced = set()
    for path in ROOM.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            name.asname or name.name: f"{node.module}:{name.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "moto"
            for name in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
                owner, name = node.args[:2]
                if isinstance(owner, ast.Name) and owner.id in names and isinstance(name, ast.Constant):
                    replaced.add(f"{names[owner.id]}.{name.value}")
            for target in node.targets if isinstance(node, ast.Assign) else ():
                if (
                    isinstance(target, ast.Attribute)
                    and isinstance(target.value, ast.Name)
                    and target.value.id in names
                ):
                    replaced.add(f"{names[target.value.id]}.{target.attr}")
    engine = "moto.stepfunctions.parser.asl.jsonata:jsonata._eval_jsonata"  # which has a test of its own
    assert replaced - {engine} - SIMPLER_WITHOUT.keys() == REPLACED.keys()


def test_moto_s_stack_still_keeps_its_state_under_these_names(moto: Any) -> None:
    """`stacks.py`, `stack_steps.py` and `stack_update.py` read and set them."""
    assert moto["stack"] == {
        "nothing is made by a stack that is constructed": True,
        "resources have a physical id": True,
        "definitions": ["Queue"],
        "parameters": {"Size": "small"},
        "conditions": True,
        "status": "CREATE_PENDING",
        "events": True,
        "dicts": True,
        "exports": ["the-queue"],
        "exporter": True,
    }


def test_moto_still_lists_resource_classes_by_inheritance_and_the_last_of_a_type_wins(moto: Any) -> None:
    """`cloudformation/__init__.py` makes the list anew once ours are imported."""
    assert moto["resource_classes"] == {
        "caches that can be cleared": [True, True, True],
        "asks for subclasses": 1,
        "subclasses are a list": True,
        "WaitCondition is none": True,
    }


def test_moto_s_objects_still_lie_in_a_buffer_that_rolls_into_a_file(moto: Any) -> None:
    """`objects_in_files.py` answers from that file."""
    assert moto["objects"] == {"rolled": [False, True], "size": 3, "value": "abc", "locked": False}


def test_moto_still_raises_for_an_operation_that_it_lacks(moto: Any) -> None:
    """`moto_server.py` makes an error with a code of it, which clients do not try again."""
    assert moto["responses"] == {"raises": True, "names the service": True}


def test_moto_s_scaling_still_knows_a_target_by_dimension_and_resource_and_an_error_by_its_words(moto: Any) -> None:
    """`scaling_service.py` keeps a target's tags in the target, and makes a code of AWS's of the words."""
    seen = moto["scaling"]
    assert {**seen, "error": ""} == {
        "kept under dimension and resource": True,
        "arn": "arn:aws:",
        "tags": False,
        "error": "",
    }
    assert seen["error"].startswith("No scalable target found")


def test_moto_s_services_still_know_too_little_of_sagemaker_s_world(moto: Any) -> None:
    """`api_resources.py` adds a kind of authorizer, `scaling_resources.py` a dimension."""
    assert moto["sagemakers_world"] == {
        "authorizer types are a list": True,
        "JWT": False,
        "one set of dimensions": True,
        "copies": False,
    }


def test_moto_s_interpreter_of_state_machines_still_has_the_places_that_we_fill(moto: Any) -> None:
    """`workflows/state_machines.py`: JSONata, names of errors, clients. Moto makes an engine only where none is."""
    assert moto["interpreter"] == {
        "no engine": True,
        "calls the engine": True,
        "$hash": True,
        "sagemaker's errors": False,
        "configuration is a dict": True,
    }


def test_moto_s_sessions_still_find_their_role_by_the_key(moto: Any) -> None:
    """`access/execution_role.py` gives the session of the role the key that `up` exports."""
    assert moto["sessions"] == {"found by its key": True}
