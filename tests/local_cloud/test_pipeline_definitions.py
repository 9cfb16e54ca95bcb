"""Definitions of pipelines that are refused, and the rules that an execution goes by: pure functions."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.local_cloud.pipelines import compare, condition, definition, fail, get, join, parameter, step
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.pipelines.caching import cache_key, cached, duration
from tidegate.local_cloud.sagemaker.pipelines.conditions import holds
from tidegate.local_cloud.sagemaker.pipelines.definition import read_definition
from tidegate.local_cloud.sagemaker.pipelines.execution import Execution, StepRun
from tidegate.local_cloud.sagemaker.pipelines.kinds import KINDS, NOT_HERE
from tidegate.local_cloud.sagemaker.pipelines.references import Scope, Unresolved, resolved
from tidegate.local_cloud.sagemaker.pipelines.retries import chosen, of_error, of_reason, retry_policy
from tidegate.local_cloud.sagemaker.pipelines.selection import check_selection
from tidegate.local_cloud.sagemaker.pipelines.steps import resource_name

Json = dict[str, Any]
PREFIX = "Unable to parse pipeline definition. "
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def model(name: str, **members: Any) -> Json:
    container = {"Image": "any", "ModelDataUrl": members.pop("data", "s3://a/b.tar.gz")}
    return step(name, "Model", {"PrimaryContainer": container}, **members)


def always(**branches: Any) -> Json:
    return condition("Decide", compare("Equals", 1, 1), **branches)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "Expecting property name"),
        ("[]", "The definition is not a JSON object."),
        ('{"Version": "2020-12-01"}', "Steps is a list with at least one step."),
        (definition(fail("A", ""), Version="2021-01-01"), "Version is '2021-01-01'; it must be '2020-12-01'."),
        (definition(fail("A", ""), MlflowConfig={}), "The local cloud does not have MlflowConfig of a definition."),
        (definition(fail("A", ""), fail("A", "")), "The name A is used by more than one step."),
        (definition(fail("A b", "")), "The name of a step is 'A b'; it has 1 to 64 letters, digits, - and _."),
        (definition(step("A", "Cook", {})), "Step A has the type 'Cook', which there is not."),
        (definition(fail("A", "", Colour=1)), "The local cloud does not have Colour of a step (step A)."),
        (definition(fail("A", "", DisplayName=5)), "DisplayName of step A is a text of at most 256 characters."),
        (
            definition(condition("A", compare("Equals", None, 1))),
            "Step A: a condition of the type Equals compares single values and references, not None.",
        ),
        (definition(model("A", DependsOn="B")), "Step A: DependsOn is a list."),
        (
            definition(model("A", DependsOn=[{"Step": "B", "Trigger": "Late"}]), model("B")),
            "Step A: Trigger is 'Late'; it must be one of Completed, Failed, Stopped, Any.",
        ),
        (definition(model("A", DependsOn=["B"])), "Step A depends on B, which there is not."),
        (definition(model("A", DependsOn=["B"]), fail("B", "")), "A can not depends on B."),
        (
            definition(model("A", DependsOn=["B"]), model("B", DependsOn=["A"]), model("C")),
            "Cycle detected: these steps wait for one another: A, B.",
        ),
        (definition(model("A", data=get("Parameters.X"))), "step A refers to the parameter X, which there is not."),
        (definition(model("A", data=get("Steps.B.ModelName"))), "step A refers to the step B, which there is not."),
        (
            definition(model("A"), model("B", data=get("Steps.A.ModelColour"))),
            "step B refers to Steps.A.ModelColour, which a step of the type Model does not have.",
        ),
        (
            definition(model("A", data=get("Execution.Mood"))),
            "step A refers to Execution.Mood; there are StartDateTime",
        ),
        (definition(model("A", data=get("Other.X"))), "step A refers to Other.X, which there is not."),
        (definition(model("A", data=get("Parameters..X"))), "Step A: Parameters..X is no path: what follows"),
        (definition(model("A", data={"Std:Join": {"On": 1, "Values": []}})), "Step A: On of Std:Join is a string."),
        (
            definition(always(then=[always()])),
            "Step Decide: a condition step does not stand in a branch of another one.",
        ),
        (
            definition(condition("A", {"Type": "Near", "LeftValue": 1, "RightValue": 1})),
            "Step A: the Type of a condition is 'Near'; it must be one of Equals",
        ),
        (
            definition(condition("A", {"Type": "In", "QueryValue": 1})),
            "Step A: a condition of the type In takes QueryValue and Values, not QueryValue.",
        ),
        (
            definition(step("A", "Model", {"PrimaryContainer": {"Image": "any", "Mode": "Twice"}})),
            "Model Validation failed: 1 validation error detected: Value 'Twice' at 'primaryContainer.mode' failed to"
            " satisfy constraint: Member must satisfy enum value set",
        ),
        (
            definition(step("A", "Model", {"PrimaryContainer": {"Image": "any", "InferenceSpecificationName": "x"}})),
            "Model Validation failed: The local cloud does not have PrimaryContainer.InferenceSpecificationName of"
            " CreateModel; it is refused, not ignored.",
        ),
        (
            definition(model("A", CacheConfig={"Enabled": True, "ExpireAfter": "1d"})),
            "Step A: steps of the type Model are not cached.",
        ),
        (
            definition(fail("A", "", RetryPolicies=[{"ExceptionType": ["Step.THROTTLING"]}])),
            "Step A: steps of the type Fail have no RetryPolicies.",
        ),
        (
            definition(fail("A", ""), parameters=[parameter("P", "Integer", "1")]),
            "The default of the parameter P is '1', which is no Integer.",
        ),
        (
            definition(fail("A", ""), parameters=[parameter("P", "Integer", True)]),
            "The default of the parameter P is True, which is no Integer.",
        ),
        *(
            (
                definition(fail("A", ""), parameters=[parameter("P", "Float", value)]),
                "The default of the parameter P is no Float that there is.",
            )
            for value in (10**400, float("inf"))
        ),
        (
            definition(fail("A", ""), parameters=[parameter("P", "Integer", -(10**23))]),
            "The default of the parameter P is no Integer of 64 bits.",
        ),
        (
            definition(fail("A", ""), parameters=[parameter("P", "Date")]),
            "The parameter P has the type 'Date'; it must be one of String, Integer, Float, Boolean.",
        ),
        (
            definition(fail("A", ""), parameters=[parameter("P", "String"), parameter("P", "String")]),
            "The parameter P is there more than once.",
        ),
    ],
)
def test_a_definition_that_contradicts_itself_is_refused_by_name(text: str, sentence: str) -> None:
    with pytest.raises(ServiceError) as caught:
        read_definition(text)
    assert caught.value.code == "ValidationException"
    assert caught.value.message.startswith(PREFIX + sentence), caught.value.message


PREPARE = step(
    "P",
    "Processing",
    {
        "RoleArn": "arn:aws:iam::123456789012:role/service",
        "AppSpecification": {"ImageUri": "any"},
        "Environment": {"A": "b"},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
        "ProcessingInputs": [
            {"InputName": "in", "S3Input": {"S3Uri": "s3://a/in", "S3DataType": "S3Prefix", "LocalPath": "/opt/ml/in"}}
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "out",
                    "S3Output": {"S3Uri": get("Parameters.Out"), "LocalPath": "/out", "S3UploadMode": "EndOfJob"},
                }
            ]
        },
    },
)
OUTPUTS = "ProcessingOutputConfig.Outputs"


def referring(path: str) -> str:
    """A definition with a step that refers to ``path`` of one that processes."""
    steps = (PREPARE, model("B", data=get(f"Steps.P.{path}")))
    return definition(*steps, parameters=[parameter("Out", "String", "s3://a/b")])


@pytest.mark.parametrize(
    "path",
    [
        f"{OUTPUTS}['out'].S3Output.S3Uri",
        f"{OUTPUTS}[0].S3Output.S3Uri",
        "ProcessingInputs['in'].S3Input.S3Uri",
        "Environment['A']",
        "ExitMessage",
        "ProcessingJobArn",
    ],
)
def test_what_a_description_repeats_of_the_arguments_may_be_referred_to(path: str) -> None:
    assert set(read_definition(referring(path)).steps) == {"P", "B"}


@pytest.mark.parametrize(
    ("path", "flaw"),
    [
        (f"{OUTPUTS}['nope'].S3Output.S3Uri", "the arguments of step P do not have"),
        (f"{OUTPUTS}[1].S3Output.S3Uri", "the arguments of step P do not have"),
        ("ProcessingInputs['out'].S3Input.S3Uri", "the arguments of step P do not have"),
        ("Environment['B']", "the arguments of step P do not have"),
        ("ModelArtifacts.S3ModelArtifacts", "a step of the type Processing does not have"),
        ("InputDataConfig['train'].DataSource", "a step of the type Processing does not have"),
    ],
)
def test_what_no_run_of_a_step_can_have_is_refused_before_the_first(path: str, flaw: str) -> None:
    with pytest.raises(ServiceError) as caught:
        read_definition(referring(path))
    shown = path.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "")
    assert caught.value.message == f"{PREFIX}step B refers to Steps.P.{shown}, which {flaw}."


@pytest.mark.parametrize("kind", NOT_HERE)
def test_a_step_of_a_type_that_is_not_here_is_refused_by_its_name(kind: str) -> None:
    with pytest.raises(ServiceError) as caught:
        read_definition(definition(step("A", kind, {})))
    assert caught.value.message == f"{PREFIX}The local cloud does not have steps of the type {kind} (step A)."


def test_steps_need_what_they_refer_to_name_and_stand_in() -> None:
    text = definition(
        model("A"),
        model("B", data=join("s3://", get("Steps.A.ModelName"))),
        always(then=[model("C", DependsOn=["B"])]),
    )
    found = read_definition(text)
    assert {name: one.needs for name, one in found.steps.items()} == {
        "A": set(),
        "B": {"A"},
        "Decide": set(),
        "C": {"B", "Decide"},
    }
    assert found.needed_by({"C"}) == {"A", "B", "Decide"}


def test_what_comes_in_the_place_of_a_reference_is_not_checked_before_it_is_known() -> None:
    parameters = [parameter("Mode", "String")]
    text = definition(
        step("A", "Model", {"PrimaryContainer": {"Image": "any", "Mode": get("Parameters.Mode")}}),
        parameters=parameters,
    )
    assert list(read_definition(text).steps) == ["A"]


def test_selected_steps_leave_none_out_between_them() -> None:
    found = read_definition(definition(model("A"), model("B", DependsOn=["A"]), model("C", DependsOn=["B"])))
    check_selection(found, ["B", "C"])
    with pytest.raises(ServiceError, match="lie between selected ones and must be selected as well: B"):
        check_selection(found, ["A", "C"])
    with pytest.raises(ServiceError, match="the pipeline does not have: X"):
        check_selection(found, ["X"])


SCOPE = Scope(
    parameters={"text": "a", "number": 3, "flag": True},
    execution={"PipelineName": "p", "StartDateTime": "now"},
    experiment={"TrialName": "t"},
    properties=lambda name: {
        "Outputs": [{"OutputName": "first", "S3Output": {"S3Uri": f"s3://{name}"}}],
        "Items": [{"Name": "x"}],
        "Map": {"a.b": "dotted"},
        "Moment": MOMENT,
    },
    property_file=lambda step, name: f"s3://{step}/{name}",
    read_json=lambda address: {"from": address, "list": [1, {"deep key": 2.5}]},
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (get("Parameters.number"), 3),
        (get("PipelineExperimentConfig.TrialName"), "t"),
        (get("Steps.S.Outputs['first'].S3Output.S3Uri"), "s3://S"),
        (get('Steps.S.Map["a.b"]'), "dotted"),
        (get("Steps.S.Items[0].Name"), "x"),
        (
            join(get("Parameters.text"), 1, 2.5, get("Parameters.flag"), get("Steps.S.Moment"), on="-"),
            "a-1-2.5-true-2026-01-01T00:00:00.000Z",
        ),
        ({"deep": [{"a": get("Execution.PipelineName")}]}, {"deep": [{"a": "p"}]}),
        ({"Std:JsonGet": {"PropertyFile": get("Steps.S.PropertyFiles.F"), "Path": "$.from"}}, "s3://S/F"),
        ({"Std:JsonGet": {"S3Uri": join("s3://", get("Parameters.text")), "Path": "list[1]['deep key']"}}, 2.5),
    ],
)
def test_references_stand_for_values(value: Any, expected: Any) -> None:
    assert resolved(value, SCOPE) == expected


@pytest.mark.parametrize(
    "path", ["Steps.S.Nothing", "Steps.S.Outputs['second'].S3Output", "Steps.S.Items[1]", "Steps.S.Items['x']"]
)
def test_a_reference_without_a_value_says_which(path: str) -> None:
    with pytest.raises(Unresolved, match="has no value: there is no") as caught:
        resolved(get(path), SCOPE)
    assert path in str(caught.value)


def test_a_structure_is_not_joined() -> None:
    with pytest.raises(Unresolved, match="is no single value"):
        resolved(join(get("Steps.S.Items")), SCOPE)


@pytest.mark.parametrize(
    ("kind", "left", "right", "expected"),
    [
        ("Equals", get("Parameters.number"), 3.0, True),
        ("Equals", get("Parameters.text"), "b", False),
        ("Equals", get("Parameters.flag"), True, True),
        ("Equals", get("Parameters.flag"), 1, False),
        ("Equals", "3", 3, False),
        ("GreaterThan", 3, get("Parameters.number"), False),
        ("GreaterThanOrEqualTo", 3, get("Parameters.number"), True),
        ("LessThan", "a", "b", True),
        ("LessThanOrEqualTo", 4, get("Parameters.number"), False),
    ],
)
def test_values_are_compared(kind: str, left: Any, right: Any, expected: bool) -> None:
    assert holds(compare(kind, left, right), SCOPE) is expected
    assert holds({"Type": "Not", "Condition": compare(kind, left, right)}, SCOPE) is not expected


def test_conditions_are_joined() -> None:
    no, yes = compare("Equals", 1, 2), compare("Equals", 1, 1)
    assert holds({"Type": "Or", "Conditions": [no, yes]}, SCOPE)
    assert not holds({"Type": "Or", "Conditions": [no, no]}, SCOPE)
    assert holds({"Type": "In", "QueryValue": get("Parameters.text"), "Values": ["b", get("Parameters.text")]}, SCOPE)
    assert not holds({"Type": "In", "QueryValue": 1, "Values": ["1"]}, SCOPE)
    with pytest.raises(Unresolved, match="'1' and 2 cannot be compared by LessThan"):
        holds(compare("LessThan", "1", 2), SCOPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", timedelta(days=30)),
        ("5y", timedelta(days=5 * 365)),
        ("T16m", timedelta(minutes=16)),
        ("30dT5h", timedelta(days=30, hours=5)),
        ("PT1H", timedelta(hours=1)),
        ("P4DT12H", timedelta(days=4, hours=12)),
        ("p2w", timedelta(weeks=2)),
        ("P1M", timedelta(days=30)),
    ],
)
def test_durations_are_read_as_aws_writes_them(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "P", "T", "16", "1x", "PT1S", "-1d", "٣d", "9" * 30 + "d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(text)


def execution(name: str, ended: datetime, **members: Any) -> Execution:
    run = StepRun(name="S", kind="Training", status="Succeeded", started=ended, ended=ended, cache_key="k")
    for member, value in members.items():
        setattr(run, member, value)
    return Execution(
        arn=name,
        pipeline_name="p",
        pipeline_arn="p",
        version=1,
        definition="",
        role="r",
        parameters={},
        created=ended,
        modified=ended,
        display_name=name,
        steps={"S": run},
    )


def test_the_cache_has_the_latest_successful_run_of_the_step_that_is_young_enough() -> None:
    day = timedelta(days=1)
    executions = [
        execution("old", MOMENT - 3 * day),
        execution("young", MOMENT - day),
        execution("younger", MOMENT, cached_from="young"),
        execution("failed", MOMENT, status="Failed"),
        execution("other", MOMENT, cache_key="other"),
    ]
    hit = cached(executions, step="S", key="k", oldest=MOMENT - 2 * day)
    assert hit is not None
    assert hit[0].arn == "young"
    assert cached(executions, step="S", key="k", oldest=MOMENT) is None
    assert cached(executions, step="T", key="k", oldest=MOMENT - 2 * day) is None


def test_a_run_is_another_one_by_the_attributes_of_its_type_only() -> None:
    attributes = KINDS["Training"].cached_by
    request = {"TrainingJobName": "a", "HyperParameters": {"x": "1"}, "OutputDataConfig": {"S3OutputPath": "s3://a"}}
    same = request | {"TrainingJobName": "b", "OutputDataConfig": {"S3OutputPath": "s3://b"}}
    other = request | {"HyperParameters": {"x": "2"}}
    key = cache_key("Training", attributes, request)
    assert key == cache_key("Training", attributes, same)
    assert key != cache_key("Training", attributes, other)


def test_a_step_is_tried_again_at_growing_distances_as_often_as_its_policy_says() -> None:
    policy = retry_policy(
        {"ExceptionType": ["SageMaker.JOB_CAPACITY_ERROR"], "IntervalSeconds": 3, "BackoffRate": 2, "MaxAttempts": 2}
    )
    moments = [policy.next_attempt(retries=count, began=MOMENT, failed=MOMENT) for count in range(3)]
    assert moments == [MOMENT + timedelta(seconds=3), MOMENT + timedelta(seconds=6), None]
    assert chosen([policy], of_reason("CapacityError: none left", kind="Training")) is policy
    assert chosen([policy], of_reason("InternalServerError: x", kind="Training")) is None
    assert chosen([policy], of_reason("AlgorithmError: x", kind="Training")) is None


def test_a_policy_with_a_time_ends_with_it() -> None:
    policy = retry_policy({"ExceptionType": ["Step.SERVICE_FAULT"], "ExpireAfterMin": 5})
    early, late = (MOMENT + timedelta(minutes=minutes) for minutes in (4, 5))
    assert policy.next_attempt(retries=0, began=MOMENT, failed=early) == early + timedelta(seconds=1)
    assert policy.next_attempt(retries=0, began=MOMENT, failed=late) is None
    assert chosen([policy], of_error(OSError("broke"))) is policy
    assert chosen([policy], of_error(ServiceError("ServiceUnavailable", "closing", status=503))) is policy
    assert chosen([policy], of_error(ServiceError("ValidationException", "a mistake"))) is None


def test_a_tuning_job_is_not_tried_again_for_a_fault_of_the_service() -> None:
    policy = retry_policy({"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"]})
    assert chosen([policy], of_reason("InternalServerError: x", kind="Training")) is policy
    assert chosen([policy], of_reason("InternalServerError: x", kind="Tuning")) is None


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({}, "ExceptionType of a retry policy is a list of"),
        ({"ExceptionType": ["Step.OTHER"]}, "ExceptionType of a retry policy is a list of"),
        ({"MaxAttempts": 21}, "MaxAttempts of a retry policy is 21; it must be a whole number from 0 to 20"),
        ({"MaxAttempts": 1, "ExpireAfterMin": 1}, "a retry policy takes either MaxAttempts or ExpireAfterMin"),
        ({"BackoffRate": -1}, "BackoffRate of a retry policy is -1"),
        ({"Colour": 1}, "a retry policy has no Colour"),
    ],
)
def test_a_policy_that_aws_does_not_take_is_refused(policy: Json, sentence: str) -> None:
    given = policy if policy == {} else {"ExceptionType": ["Step.THROTTLING"], **policy}
    with pytest.raises(ValueError, match=sentence):
        retry_policy(given)


@pytest.mark.parametrize(
    ("kind", "given", "step_name", "shape"),
    [
        ("Training", None, "My_Step", r"pipelines-abcdefghijkl-My-Step-\w{10}"),
        ("Training", None, "S" * 64, r"pipelines-abcdefghijkl-S{29}-\w{10}"),
        ("Training", None, "__", r"pipelines-abcdefghijkl-\w{10}"),
        ("Tuning", None, "Find-the-best", r"abcdefghijkl-Find-the-\w{10}"),
        ("Model", "mine", "S", r"mine-abcdefghijkl-\w{10}"),
        ("EndpointConfig", "mine", "S", r"mine-abcdefghijkl-\w{10}"),
    ],
)
def test_names_have_the_execution_and_fit(kind: str, given: str | None, step_name: str, shape: str) -> None:
    name = resource_name(KINDS[kind], given=given, execution_id="abcdefghijkl", step=step_name)
    assert re.fullmatch(shape, name), name
    assert len(name) <= KINDS[kind].name_chars


def test_definitions_are_read_as_they_were_written() -> None:
    text = definition(always(then=[model("A")], otherwise=[fail("B", "no")]), parameters=[parameter("P", "Float", 1)])
    assert json.loads(text)["Steps"][0]["Arguments"]["IfSteps"][0]["Name"] == "A"
    found = read_definition(text)
    assert (found.steps["A"].branch, found.steps["B"].branch) == (("Decide", True), ("Decide", False))
    assert found.parameters["P"].value("2") == 2.0
