"""SageMaker Pipelines through plain boto3: executions whose steps are real jobs."""

from __future__ import annotations

import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud import pipelines, training
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.pipelines import (
    compare,
    condition,
    create,
    definition,
    described,
    ended,
    fail,
    get,
    given,
    join,
    parameter,
    process,
    run,
    start,
    statuses,
    step,
    steps_of,
    train,
)
from tests.local_cloud.test_stacks import stack_of

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

SPLIT = "(base / 'processing/out/rows.csv').write_text('1\\n2\\n3\\n')\n"
LEARN = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--factor")
factor = float(parser.parse_args().factor)
rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "rows.csv").read_text().split()
pathlib.Path(os.environ["SM_MODEL_DIR"], "sum").write_text(str(factor * sum(map(float, rows))))
"""
EVALUATE = """
import tarfile
with tarfile.open(next((base / "processing/model").rglob("model.tar.gz"))) as tar:
    value = float(tar.extractfile("sum").read())
(base / "processing/out/deep").mkdir()
report = {"metrics": {"error of mean": [{"value": value}]}}
(base / "processing/out/deep/report.json").write_text(json.dumps(report))
"""
TYPES = {"SupportedContentTypes": ["text/csv"], "SupportedResponseMIMETypes": ["text/csv"]}
ERROR_OF_MEAN = {
    "Std:JsonGet": {
        "PropertyFile": get("Steps.Evaluate.PropertyFiles.report"),
        "Path": "metrics['error of mean'][0].value",
    }
}


def abalone(account: Account, group: str) -> str:
    """The shape of the public examples: process, train, evaluate, then register and transform, or fail."""
    artifacts = get("Steps.Train.ModelArtifacts.S3ModelArtifacts")
    channel = training.channel("train", "s3://x/y")
    channel["DataSource"]["S3DataSource"]["S3Uri"] = get(
        "Steps.Process.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"
    )
    learn = train(account, "Train", LEARN, InputDataConfig=[channel])
    learn["Arguments"]["HyperParameters"]["factor"] = get("Parameters.Factor")
    evaluate = process(
        account,
        "Evaluate",
        EVALUATE,
        ProcessingInputs=[given("model", artifacts)],
        PropertyFiles=[{"PropertyFileName": "report", "OutputName": "out", "FilePath": "deep/report.json"}],
    )
    container = {"Image": "any", "ModelDataUrl": artifacts}
    register = step(
        "Register",
        "RegisterModel",
        {
            "ModelPackageGroupName": group,
            "ModelApprovalStatus": get("Parameters.Approval"),
            "InferenceSpecification": {"Containers": [container], **TYPES},
        },
    )
    model = step("Create", "Model", {"ExecutionRoleArn": ROLE, "PrimaryContainer": container})
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{group}/in/"}}}
    transform = step(
        "Transform",
        "Transform",
        {
            "ModelName": get("Steps.Create.ModelName"),
            "TransformInput": source,
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/{group}/out"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
    )
    decide = condition(
        "Decide",
        compare("LessThanOrEqualTo", ERROR_OF_MEAN, get("Parameters.Limit")),
        then=[register, model, transform],
        otherwise=[fail("Fail", join("the error is above", get("Parameters.Limit"), on=" "))],
    )
    parameters = [
        parameter("Factor", "Float", 2.0),
        parameter("Limit", "Integer", 12),
        parameter("Approval", "String", "PendingManualApproval", EnumValues=["PendingManualApproval", "Approved"]),
    ]
    return definition(process(account, "Process", SPLIT), learn, evaluate, decide, parameters=parameters)


@pytest.fixture(scope="module")
def group(account: Account) -> str:
    name = account.name("group")
    account.put(f"{name}/in/a.txt", b"first")
    return name


@pytest.fixture(scope="module")
def examples(account: Account, group: str) -> str:
    """The name of the pipeline of the examples' shape."""
    return create(account, abalone(account, group), Tags=[{"Key": "team", "Value": "blue"}])


@pytest.fixture(scope="module")
def good(account: Account, examples: str) -> str:
    """An execution of it whose model is good."""
    execution = start(account, examples, parameters={"Approval": "Approved"}, PipelineExecutionDisplayName="first")
    end = ended(account, execution)
    assert end["PipelineExecutionStatus"] == "Succeeded", (end, steps_of(account, execution))
    return execution


def test_data_flow_from_step_to_step_and_the_good_model_is_registered_and_used(
    account: Account, group: str, good: str
) -> None:
    steps = steps_of(account, good)
    assert list(steps) == ["Process", "Train", "Evaluate", "Decide", "Register", "Create", "Transform"]
    assert set(statuses(steps).values()) == {"Succeeded"}
    assert steps["Decide"]["Metadata"]["Condition"] == {"Outcome": "True"}
    package = account.sagemaker.describe_model_package(
        ModelPackageName=steps["Register"]["Metadata"]["RegisterModel"]["Arn"]
    )
    assert (package["ModelPackageGroupName"], package["ModelApprovalStatus"]) == (group, "Approved")
    assert package["MetadataProperties"] == {"GeneratedBy": good}
    trained = training.described(account, pipelines.job_name(steps["Train"], "TrainingJob"))
    data = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    assert data == trained["ModelArtifacts"]["S3ModelArtifacts"]
    assert trained["HyperParameters"]["factor"] == "2.0", "a number where the job takes text"
    assert training.archive_of(account, data)["sum"] == b"12.0"
    assert account.get(f"{group}/out/a.txt.out") == b"FIRST"
    for item in steps.values():
        assert item["EndTime"] >= item["StartTime"]


def test_jobs_are_named_after_the_execution_and_the_step(account: Account, good: str) -> None:
    name = pipelines.job_name(steps_of(account, good)["Process"], "ProcessingJob")
    execution_id = good.rpartition("/")[2]
    assert name.startswith(f"pipelines-{execution_id}-process-".lower())


def test_an_execution_is_described_and_listed(account: Account, examples: str, good: str) -> None:
    description = described(account, good)
    assert description["PipelineExecutionDisplayName"] == "first"
    assert description["PipelineArn"].endswith(f":pipeline/{examples.lower()}")
    assert "FailureReason" not in description
    listed = account.sagemaker.list_pipeline_executions(PipelineName=description["PipelineArn"])
    assert good in [item["PipelineExecutionArn"] for item in listed["PipelineExecutionSummaries"]]
    values = account.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=good)["PipelineParameters"]
    assert {item["Name"]: item["Value"] for item in values} == {
        "Factor": "2.0",
        "Limit": "12",
        "Approval": "Approved",
    }
    text = account.sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=good)
    assert json.loads(text["PipelineDefinition"])["Version"] == "2020-12-01"
    pipeline = account.sagemaker.describe_pipeline(PipelineName=examples)
    assert pipeline["LastRunTime"] >= pipeline["CreationTime"]
    assert account.sagemaker.list_tags(ResourceArn=pipeline["PipelineArn"])["Tags"] == [
        {"Key": "team", "Value": "blue"}
    ]


def test_a_bad_model_ends_the_execution_with_the_message_of_the_fail_step(
    account: Account, examples: str, good: str
) -> None:
    execution = start(account, examples, parameters={"Factor": "3", "Limit": "17"})
    end = ended(account, execution)
    assert end["PipelineExecutionStatus"] == "Failed"
    assert end["FailureReason"] == "Step failure: One or multiple steps failed."
    steps = steps_of(account, execution)
    assert list(steps) == ["Process", "Train", "Evaluate", "Decide", "Fail"], "nothing of the other branch"
    assert steps["Decide"]["Metadata"]["Condition"] == {"Outcome": "False"}
    assert steps["Fail"]["FailureReason"] == "the error is above 17"
    assert steps["Fail"]["Metadata"]["Fail"] == {"ErrorMessage": "the error is above 17"}
    last_first = account.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution)
    assert last_first["PipelineExecutionSteps"][0]["StepName"] == "Fail"


def test_selected_steps_run_with_what_an_earlier_execution_has_made(account: Account, examples: str, good: str) -> None:
    selection = {"SelectedSteps": [{"StepName": "Evaluate"}]}
    with pytest.raises(ClientError) as caught:
        start(account, examples, SelectiveExecutionConfig=selection)
    assert caught.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "Invalid SourcePipelineExecutionArn: null. The selected steps [Evaluate] have dependencies on"
        " [Process, Train]",
    }
    execution = start(account, examples, SelectiveExecutionConfig=selection | {"SourcePipelineExecutionArn": good})
    assert ended(account, execution)["PipelineExecutionStatus"] == "Succeeded"
    before, steps = steps_of(account, good), steps_of(account, execution)
    assert list(steps) == ["Process", "Train", "Evaluate"]
    assert steps["Train"]["SelectiveExecutionResult"] == {"SourcePipelineExecutionArn": good}
    assert steps["Train"]["Metadata"] == before["Train"]["Metadata"]
    assert "SelectiveExecutionResult" not in steps["Evaluate"]
    assert steps["Evaluate"]["Metadata"] != before["Evaluate"]["Metadata"]


def test_a_step_that_was_run_before_with_the_same_arguments_is_taken_from_the_cache(account: Account) -> None:
    config = {"Enabled": True, "ExpireAfter": "PT1H"}
    script = (
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--factor')\nparser.parse_args()\n"
    )
    learn = train(account, "Train", script, CacheConfig=config)
    learn["Arguments"]["HyperParameters"]["factor"] = get("Parameters.Factor")
    name = create(account, definition(learn, parameters=[parameter("Factor", "String", "1")]))
    first, again, other = (
        start_and_await(account, name, parameters=values) for values in ({}, {"Factor": "1"}, {"Factor": "2"})
    )
    assert "CacheHitResult" not in steps_of(account, first)["Train"]
    hit = steps_of(account, again)["Train"]
    assert hit["CacheHitResult"] == {"SourcePipelineExecutionArn": first}
    assert hit["Metadata"] == steps_of(account, first)["Train"]["Metadata"]
    assert "CacheHitResult" not in steps_of(account, other)["Train"]


def start_and_await(account: Account, name: str, **members: Any) -> str:
    execution = start(account, name, **members)
    end = ended(account, execution)
    assert end["PipelineExecutionStatus"] == "Succeeded", (end, steps_of(account, execution))
    return execution


def test_a_job_that_fails_fails_its_execution_and_a_retry_runs_what_has_not_succeeded(account: Account) -> None:
    flag = f"{account.name('flag')}/go"
    script = (
        "import boto3, sys\n"
        f"found = boto3.client('s3').list_objects_v2(Bucket={BUCKET!r}, Prefix={flag!r})['KeyCount']\n"
        "sys.exit(None if found else 'no flag yet')\n"
    )
    text = definition(
        process(account, "First", ""),
        process(account, "Second", script, DependsOn=["First"]),
        process(account, "Third", "", DependsOn=["Second"]),
    )
    execution = start(account, create(account, text))
    assert ended(account, execution)["PipelineExecutionStatus"] == "Failed"
    steps = steps_of(account, execution)
    assert statuses(steps) == {"First": "Succeeded", "Second": "Failed"}
    assert steps["Second"]["FailureReason"].startswith("ClientError: AlgorithmError:")
    assert "no flag yet" in steps["Second"]["FailureReason"]
    account.put(flag, b"")
    account.sagemaker.retry_pipeline_execution(PipelineExecutionArn=execution)
    end = ended(account, execution)
    assert end["PipelineExecutionStatus"] == "Succeeded", steps_of(account, execution)
    assert "FailureReason" not in end
    later = steps_of(account, execution)
    assert statuses(later) == {"First": "Succeeded", "Second": "Succeeded", "Third": "Succeeded"}
    assert later["First"] == steps["First"]
    with pytest.raises(ClientError) as caught:
        account.sagemaker.retry_pipeline_execution(PipelineExecutionArn=execution)
    assert caught.value.response["Error"]["Code"] == "ConflictException"


def test_an_execution_that_is_stopped_stops_its_jobs_and_starts_no_more(account: Account) -> None:
    forever = "(base / 'processing/out/begun').write_text('')\nwhile True: time.sleep(0.05)\n"
    text = definition(process(account, "Long", forever), process(account, "Next", "", DependsOn=["Long"]))
    name = create(account, text)
    execution = start(account, name)
    await_true(
        lambda: statuses(steps_of(account, execution)).get("Long") == "Executing",
        "it runs",
        timeout_s=pipelines.LIMIT_S,
    )
    with pytest.raises(ClientError) as caught:
        account.sagemaker.delete_pipeline(PipelineName=name)
    assert caught.value.response["Error"]["Code"] == "ConflictException"
    account.sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
    assert ended(account, execution)["PipelineExecutionStatus"] == "Stopped"
    steps = steps_of(account, execution)
    assert statuses(steps) == {"Long": "Stopped"}
    job = account.sagemaker.describe_processing_job(
        ProcessingJobName=pipelines.job_name(steps["Long"], "ProcessingJob")
    )
    assert job["ProcessingJobStatus"] == "Stopped"
    account.sagemaker.delete_pipeline(PipelineName=name)
    with pytest.raises(ClientError, match="does not exist"):
        described(account, execution)


def test_no_more_steps_run_at_once_than_the_pipeline_says(account: Account) -> None:
    names = [f"Step{number}" for number in range(3)]
    text = definition(*(process(account, name, "") for name in names))
    limit = {"MaxParallelExecutionSteps": 1}
    execution = start(account, create(account, text, ParallelismConfiguration=limit))
    end = ended(account, execution)
    assert end["ParallelismConfiguration"] == limit
    steps = [steps_of(account, execution)[name] for name in names]
    assert [item["StepStatus"] for item in steps] == ["Succeeded"] * 3
    for earlier, later in itertools.pairwise(steps):
        assert later["StartTime"] >= earlier["EndTime"]


def test_a_request_that_an_operation_refuses_fails_the_step_in_the_service_s_words(account: Account) -> None:
    learn = train(account, "Train", "", InputDataConfig=[training.channel("train", f"s3://{BUCKET}/nothing-there/")])
    steps = run(account, definition(learn), status="Failed")
    assert steps["Train"]["FailureReason"].startswith(
        "ClientError: Failed to invoke sagemaker:CreateTrainingJob. Error Details: No S3 objects found"
    )
    assert steps["Train"]["Metadata"] == {}


def test_a_property_file_that_is_not_there_fails_the_condition(account: Account) -> None:
    files = [{"PropertyFileName": "report", "OutputName": "out", "FilePath": "none.json"}]
    evaluate = process(account, "Evaluate", "", PropertyFiles=files)
    value = {"Std:JsonGet": {"PropertyFile": get("Steps.Evaluate.PropertyFiles.report"), "Path": "a"}}
    steps = run(account, definition(evaluate, condition("Decide", compare("Equals", value, 1))), status="Failed")
    assert statuses(steps) == {"Evaluate": "Succeeded", "Decide": "Failed"}
    assert "none.json cannot be read" in steps["Decide"]["FailureReason"]


def test_a_tuning_step_gives_its_best_training_job(account: Account) -> None:
    script = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--depth')\n"
    script += "print(f'score={parser.parse_args().depth};', flush=True)\n"
    metrics = [{"Name": "score", "Regex": "score=([0-9.]+);"}]
    asked = training.request(account, script, AlgorithmSpecification={"MetricDefinitions": metrics})
    members = ("AlgorithmSpecification", "RoleArn", "OutputDataConfig", "ResourceConfig", "StoppingCondition")
    tuning = {
        "HyperParameterTuningJobConfig": {
            "Strategy": "Grid",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
            "ResourceLimits": {"MaxParallelTrainingJobs": 1},
            "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "depth", "Values": ["1", "3", "2"]}]},
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": asked["HyperParameters"],
            **{member: asked[member] for member in members},
        },
    }
    best, second = (get(f"Steps.Tune.TrainingJobSummaries[{at}].TunedHyperParameters['depth']") for at in (0, 1))
    told = fail("Tell", join(get("Steps.Tune.BestTrainingJob.TrainingJobStatus"), best, second, on=" "))
    steps = run(account, definition(step("Tune", "Tuning", tuning), told), status="Failed")
    assert steps["Tell"]["FailureReason"] == "Completed 3 2"
    assert len(pipelines.job_name(steps["Tune"], "TuningJob")) <= 32


def test_an_endpoint_and_its_component_are_made_and_an_endpoint_that_is_there_is_changed(account: Account) -> None:
    container = {"Image": "any", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    variant = {"VariantName": "all", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    config = {"EndpointConfigName": "mine", "ExecutionRoleArn": ROLE, "ProductionVariants": [variant]}
    endpoint = {
        "EndpointName": get("Parameters.Name"),
        "EndpointConfigName": get("Steps.Config.EndpointConfigName"),
    }
    component = {
        "InferenceComponentName": "mine",
        "EndpointName": get("Steps.Deploy.EndpointName"),
        "VariantName": "all",
        "Specification": {"ModelName": get("Steps.Create.ModelName")},
        "RuntimeConfig": {"CopyCount": 1},
    }
    text = definition(
        step("Create", "Model", {"ExecutionRoleArn": ROLE, "PrimaryContainer": container}),
        step("Config", "EndpointConfig", config),
        step("Deploy", "Endpoint", endpoint),
        step("Component", "InferenceComponent", component),
        parameters=[parameter("Name", "String", "mine")],
    )
    pipeline = create(account, text)
    first = steps_of(account, start_and_await(account, pipeline))
    spelled = pipelines.job_name(first["Deploy"], "Endpoint")
    name = account.sagemaker.describe_endpoint(EndpointName=spelled)["EndpointName"]
    assert name.startswith("mine-"), "the service adds the execution to a name"
    found = account.sagemaker.list_inference_components(EndpointNameEquals=name)["InferenceComponents"]
    component_name = found[0]["InferenceComponentName"]
    answer = account.invoke(name, b"hello", InferenceComponentName=component_name)
    assert answer == b"HELLO"
    second = steps_of(account, start_and_await(account, pipeline, parameters={"Name": name}))
    assert second["Deploy"]["Metadata"] == first["Deploy"]["Metadata"]
    used = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    assert used.lower() == pipelines.job_name(second["Config"], "EndpointConfig")


def test_a_step_that_waits_for_a_failure_runs_after_it_and_one_that_waits_for_success_does_not(
    account: Account,
) -> None:
    failed, ended_anyhow = ({"Step": "Work", "Trigger": trigger} for trigger in ("Failed", "Any"))
    steps = run(
        account,
        definition(
            process(account, "Work", "sys.exit('broken')\n"),
            condition("OnFailure", compare("Equals", 1, 1), DependsOn=[failed]),
            condition("Always", compare("Equals", 1, 2), DependsOn=[ended_anyhow]),
            condition("AfterFailure", compare("Equals", 1, 1), DependsOn=["OnFailure"]),
            condition("OnSuccess", compare("Equals", 1, 1), DependsOn=["Work"]),
        ),
        status="CompletedWithFailures",
    )
    assert statuses(steps) == {
        "Work": "Failed",
        "OnFailure": "Succeeded",
        "Always": "Succeeded",
        "AfterFailure": "Succeeded",
    }


def test_executions_and_steps_are_told_to_eventbridge(account: Account) -> None:
    events, sqs = account.cloud.client("events"), account.cloud.client("sqs")
    name = account.name("queue")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pipeline = create(account, definition(fail("Fail", "as told")))
    pipeline_arn = account.sagemaker.describe_pipeline(PipelineName=pipeline)["PipelineArn"]
    pattern = {"source": ["aws.sagemaker"], "detail": {"pipelineArn": [pipeline_arn]}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    execution = start(account, pipeline)
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            told.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(told) >= 4

    await_true(is_told, "four events came", timeout_s=pipelines.LIMIT_S)
    assert all(event["resources"] == [pipeline_arn, execution] for event in told)
    of_execution = [
        event["detail"] for event in told if event["detail-type"].endswith("Pipeline Execution Status Change")
    ]
    of_step = [event["detail"] for event in told if event["detail-type"].endswith("Execution Step Status Change")]
    assert sorted(detail["currentPipelineExecutionStatus"] for detail in of_execution) == ["Executing", "Failed"]
    end = next(detail for detail in of_step if detail["currentStepStatus"] == "Failed")
    assert (end["previousStepStatus"], end["failureReason"], end["stepType"]) == ("Starting", "as told", "Fail")
    assert end["metadata"] == {"fail": {"errorMessage": "as told"}}
    for client in (events, sqs):
        client.close()


def test_an_event_starts_a_pipeline_with_the_parameters_of_the_rule(account: Account) -> None:
    events = account.cloud.client("events")
    name = account.name("rule")
    pipeline = create(account, definition(fail("Fail", get("Parameters.Why")), parameters=[parameter("Why", "String")]))
    arn = account.sagemaker.describe_pipeline(PipelineName=pipeline)["PipelineArn"]
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
    parameters = {"PipelineParameterList": [{"Name": "Why", "Value": "by the rule"}]}
    target = {"Id": "pipeline", "Arn": arn, "RoleArn": ROLE, "SageMakerPipelineParameters": parameters}
    events.put_targets(Rule=name, Targets=[target])
    events.put_events(Entries=[{"Source": name, "DetailType": "any", "Detail": "{}"}])

    def executions() -> list[dict[str, Any]]:
        found = account.sagemaker.list_pipeline_executions(PipelineName=pipeline)
        listed: list[dict[str, Any]] = found["PipelineExecutionSummaries"]
        return listed

    await_true(lambda: bool(executions()), "an execution is there", timeout_s=pipelines.LIMIT_S)
    execution = executions()[0]["PipelineExecutionArn"]
    ended(account, execution)
    assert steps_of(account, execution)["Fail"]["FailureReason"] == "by the rule"
    events.close()


def test_a_pipeline_is_changed_in_versions_and_an_earlier_one_still_runs(account: Account) -> None:
    name = create(account, definition(fail("One", "first")), PipelineDescription="toy")
    with pytest.raises(ClientError) as caught:
        account.sagemaker.create_pipeline(
            PipelineName=name, PipelineDefinition=definition(fail("One", "")), RoleArn=ROLE
        )
    assert caught.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "Pipeline names must be unique within an AWS account and region. Pipeline with name"
        f" ({name}) already exists.",
    }
    account.put(f"{name}/definition.json", definition(fail("Two", "second")).encode())
    place = {"Bucket": BUCKET, "ObjectKey": f"{name}/definition.json"}
    answer = account.sagemaker.update_pipeline(PipelineName=name, PipelineDefinitionS3Location=place)
    assert answer["PipelineVersionId"] == 2
    assert (
        json.loads(account.sagemaker.describe_pipeline(PipelineName=name)["PipelineDefinition"])["Steps"][0]["Name"]
        == "Two"
    )
    account.sagemaker.update_pipeline_version(
        PipelineArn=answer["PipelineArn"], PipelineVersionId=1, PipelineVersionDisplayName="the-first"
    )
    first = account.sagemaker.describe_pipeline(PipelineName=name, PipelineVersionId=1)
    assert (first["PipelineVersionDisplayName"], first["PipelineDescription"]) == ("the-first", "toy")
    execution = start(account, name, PipelineVersionId=1)
    assert ended(account, execution)["PipelineVersionId"] == 1
    assert list(steps_of(account, execution)) == ["One"]
    versions = account.sagemaker.list_pipeline_versions(PipelineName=name)["PipelineVersionSummaries"]
    assert [item["PipelineVersionId"] for item in versions] == [2, 1]
    assert versions[1]["LastExecutionPipelineExecutionArn"] == execution
    listed = account.sagemaker.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    assert name in [item["PipelineName"] for item in listed]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert account.sagemaker.list_pipelines(PipelineNamePrefix=name, CreatedAfter=tomorrow)["PipelineSummaries"] == []


def test_a_template_makes_changes_and_deletes_a_pipeline_with_what_runs(account: Account) -> None:
    name = account.name("Pipeline")

    def template(*steps: dict[str, Any]) -> dict[str, Any]:
        body = {"PipelineDefinitionBody": definition(*steps)}
        properties = {"PipelineName": name, "PipelineDefinition": body, "RoleArn": ROLE}
        tags = [{"Key": "team", "Value": "blue"}]
        pipeline = {"Type": "AWS::SageMaker::Pipeline", "Properties": {**properties, "Tags": tags}}
        return {"Resources": {"Pipeline": pipeline}, "Outputs": {"Name": {"Value": {"Ref": "Pipeline"}}}}

    with stack_of(account) as stack:
        stack.create(template(fail("Fail", "")))
        arn = account.sagemaker.describe_pipeline(PipelineName=name)["PipelineArn"]
        assert {"Key": "team", "Value": "blue"} in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        stack.update(template(process(account, "Long", "while True: time.sleep(0.05)\n")))
        assert (
            account.sagemaker.list_pipeline_versions(PipelineName=name)["PipelineVersionSummaries"][0][
                "PipelineVersionId"
            ]
            == 2
        )
        execution = start(account, name)
        await_true(
            lambda: statuses(steps_of(account, execution)).get("Long") == "Executing",
            "it runs",
            timeout_s=pipelines.LIMIT_S,
        )
        account.cloudformation.delete_stack(StackName=stack.name)
        # The waiter of a stack's end is for stacks that are gone at once.
        await_true(lambda: name not in names(account, name), "the pipeline is gone", timeout_s=pipelines.LIMIT_S)


def names(account: Account, prefix: str) -> list[str]:
    summaries = account.sagemaker.list_pipelines(PipelineNamePrefix=prefix)["PipelineSummaries"]
    return [item["PipelineName"] for item in summaries]


def test_a_request_with_the_same_token_is_done_once(account: Account) -> None:
    name = create(account, definition(fail("Fail", "")))
    token = str(uuid.uuid4())
    first, second = (start(account, name, ClientRequestToken=token) for _ in range(2))
    assert first == second
    assert len(account.sagemaker.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"]) == 1
    with pytest.raises(ClientError) as caught:
        start(account, name, ClientRequestToken=token, PipelineExecutionDescription="another")
    assert caught.value.response["Error"]["Code"] == "ConflictException"
    ended(account, first)
    assert "FailureReason" not in steps_of(account, first)["Fail"], "an empty message is none"


def test_an_execution_is_renamed(account: Account) -> None:
    execution = start(account, create(account, definition(fail("Fail", ""))))
    account.sagemaker.update_pipeline_execution(
        PipelineExecutionArn=execution, PipelineExecutionDisplayName="other", PipelineExecutionDescription="why"
    )
    end = ended(account, execution)
    assert (end["PipelineExecutionDisplayName"], end["PipelineExecutionDescription"]) == ("other", "why")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"Count": "1"}, "These parameters have no default and need a value: Name."),
        ({"Name": "a", "Other": "b"}, "The pipeline has no parameter Other."),
        ({"Name": "a", "Count": "1.5"}, "The parameter Count is '1.5', which is no Integer."),
        ({"Name": "a", "Share": "nan"}, "The parameter Share is 'nan', which is no Float."),
        ({"Name": "a", "Flag": "yes"}, "The parameter Flag is 'yes', which is no Boolean."),
        ({"Name": "c"}, "The parameter Name is 'c'; it must be one of a, b."),
        ({"Name": ""}, '[string "" is too short (length: 0, required minimum: 1)]'),
    ],
)
def test_values_that_a_pipeline_does_not_take_are_refused(
    account: Account, typed: str, values: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ClientError) as caught:
        start(account, typed, parameters=values)
    assert caught.value.response["Error"] == {"Code": "ValidationException", "Message": sentence}


@pytest.fixture(scope="module")
def typed(account: Account) -> str:
    """A pipeline with a parameter of each type."""
    parameters = [
        parameter("Name", "String", EnumValues=["a", "b"]),
        parameter("Count", "Integer", 1),
        parameter("Share", "Float", 0.5),
        parameter("Flag", "Boolean", False),
    ]
    values = [get(f"Parameters.{name}") for name in ("Name", "Count", "Share", "Flag")]
    return create(account, definition(fail("Tell", join(*values, on=" ")), parameters=parameters))


def test_parameters_have_their_types(account: Account, typed: str) -> None:
    execution = start(account, typed, parameters={"Name": "a", "Flag": "True", "Share": "2"})
    ended(account, execution)
    assert steps_of(account, execution)["Tell"]["FailureReason"] == "a 1 2.0 true"


@pytest.mark.parametrize("operation", ["describe_pipeline", "start_pipeline_execution", "list_pipeline_executions"])
def test_a_pipeline_that_is_not_there_is_not_found(account: Account, operation: str) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(account.sagemaker, operation)(PipelineName="none")
    assert caught.value.response["Error"] == {
        "Code": "ResourceNotFound",
        "Message": "Pipeline 'arn:aws:sagemaker:us-east-1:123456789012:pipeline/none' does not exist.",
    }
