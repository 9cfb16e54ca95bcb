"""Requests and answers of every operation beside botocore's model of it, in the order of the table of capabilities.

`every_answer` is one walk through all operations, in as many states as there are; what it was answered is checked as it
arrives (`answers.py`). An operation that is added to the table fails here until the walk calls it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud import pipelines, test_async_invocations, test_monitoring, test_processing_jobs, training
from tests.local_cloud import test_transform_jobs as transform
from tests.local_cloud import test_tuning_jobs as tuning
from tests.local_cloud.answers import Answers
from tests.local_cloud.breaches import breaches
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.test_inference_components import VARIANT, Component, specification
from tidegate.local_cloud.sagemaker.capabilities import SUPPORT
from tidegate.local_cloud.sagemaker.shapes import operation_model

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
RUNTIME = ("InvokeEndpoint", "InvokeEndpointWithResponseStream", "InvokeEndpointAsync")
TAG = {"Key": "team", "Value": "a"}
NOBODY = "nobody"
EXECUTION = f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{NOBODY}/execution/abcdefghijkl"
BY_NAME = ("Describe", "Delete", "Get", "Stop", "Update", "ListTags", "ListTrainingJobsFor", "ListPipelineV")
"""Operations on a resource that may be missing begin so; what others need for that is in `ABSENT`."""


ABSENT: dict[str, dict[str, Any]] = {
    "CreateEndpointConfig": {
        "EndpointConfigName": "c",
        "ProductionVariants": [
            {"VariantName": "v", "ModelName": NOBODY, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
    },
    "CreateEndpoint": {"EndpointName": "e", "EndpointConfigName": NOBODY},
    "UpdateEndpoint": {"EndpointName": NOBODY, "EndpointConfigName": NOBODY},
    "UpdateEndpointWeightsAndCapacities": {
        "EndpointName": NOBODY,
        "DesiredWeightsAndCapacities": [{"VariantName": "v", "DesiredWeight": 1.0}],
    },
    "CreateInferenceComponent": {
        "InferenceComponentName": "i",
        "EndpointName": NOBODY,
        "VariantName": "v",
        "Specification": specification(),
        "RuntimeConfig": {"CopyCount": 1},
    },
    "UpdateInferenceComponentRuntimeConfig": {
        "InferenceComponentName": NOBODY,
        "DesiredRuntimeConfig": {"CopyCount": 1},
    },
    "PutModelPackageGroupPolicy": {"ModelPackageGroupName": NOBODY, "ResourcePolicy": "{}"},
    "UpdateModelPackage": {
        "ModelPackageArn": f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{NOBODY}/1",
        "ModelApprovalStatus": "Approved",
    },
    "CreateMonitoringSchedule": {
        "MonitoringScheduleName": "s",
        "MonitoringScheduleConfig": {"MonitoringJobDefinitionName": NOBODY, "MonitoringType": "DataQuality"},
    },
    "UpdateMonitoringSchedule": {
        "MonitoringScheduleName": NOBODY,
        "MonitoringScheduleConfig": {"MonitoringJobDefinitionName": NOBODY, "MonitoringType": "DataQuality"},
    },
    "StartPipelineExecution": {"PipelineName": NOBODY},
    "RetryPipelineExecution": {"PipelineExecutionArn": EXECUTION},
    "ListPipelineExecutionSteps": {"PipelineExecutionArn": EXECUTION},
    "UpdatePipelineVersion": {
        "PipelineArn": f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{NOBODY}",
        "PipelineVersionId": 1,
    },
    "AddTags": {"ResourceArn": f"arn:aws:sagemaker:us-east-1:123456789012:model/{NOBODY}", "Tags": [TAG]},
    "DeleteTags": {"ResourceArn": f"arn:aws:sagemaker:us-east-1:123456789012:model/{NOBODY}", "TagKeys": ["team"]},
}


@pytest.fixture(scope="module")
def every_answer(account: Account) -> dict[str, list[tuple[int, Any]]]:
    """What each operation was answered."""
    seen = Answers()
    with_eyes = Account.__new__(Account)  # the same cloud and clients of our own: those of the others go on unseen
    with_eyes.cloud, with_eyes.s3, with_eyes.cloudformation = account.cloud, account.s3, account.cloudformation
    with_eyes.sagemaker = seen.follow(account.cloud.client("sagemaker"))
    with_eyes.runtime = seen.follow(account.cloud.client("sagemaker-runtime"))
    for walk in (
        models_and_endpoints,
        asynchronous_endpoint,
        inference_components,
        model_packages,
        transform_jobs,
        training_and_tuning_jobs,
        processing_jobs,
        pipelines_of_steps,
        monitoring,
    ):
        walk(with_eyes)
    with_eyes.sagemaker.close()
    with_eyes.runtime.close()
    return seen.by_operation


def models_and_endpoints(account: Account) -> None:
    sagemaker, model = account.sagemaker, account.model()
    arn = sagemaker.describe_model(ModelName=model)["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[TAG])
    sagemaker.list_tags(ResourceArn=arn)
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    sagemaker.list_models(NameContains=model)
    sagemaker.list_models(MaxResults=1)  # with a token of the next page, where others have models too
    first, second = account.config(model), account.config(model, InitialVariantWeight=0.5)
    sagemaker.describe_endpoint_config(EndpointConfigName=first)
    sagemaker.list_endpoint_configs(NameContains=first)
    name = account.name("endpoint")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=first, Tags=[TAG])
    sagemaker.describe_endpoint(EndpointName=name)
    account.settled(name)
    sagemaker.list_endpoints(NameContains=name)
    weights = [{"VariantName": "variant-0", "DesiredWeight": 2.0, "DesiredInstanceCount": 1}]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=weights)
    account.settled(name)
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=second)
    sagemaker.describe_endpoint(EndpointName=name)
    assert account.settled(name)["EndpointStatus"] == "InService"
    assert account.invoke(name, b"asked", ContentType="text/plain") == b"ASKED"
    for body in (b"status:400", b"status:500", b"hang up:"):
        with pytest.raises(account.runtime.exceptions.ModelError):
            account.invoke(name, body)
    answer = account.runtime.invoke_endpoint_with_response_stream(EndpointName=name, Body=b"stream:a,b")
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"ab"
    with pytest.raises(ClientError):
        account.runtime.invoke_endpoint_with_response_stream(EndpointName=NOBODY, Body=b"")
    with pytest.raises(ClientError):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=first)
    sagemaker.delete_endpoint(EndpointName=name)
    with suppress(ClientError):
        sagemaker.describe_endpoint(EndpointName=name)
    account.failed_endpoint(account.model(STAND_IN_ERROR="it cannot"))
    serverless = account.name("config")
    variant = {
        "VariantName": "v",
        "ModelName": model,
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
    }
    sagemaker.create_endpoint_config(EndpointConfigName=serverless, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=serverless, EndpointConfigName=serverless)
    account.settled(serverless)
    account.delete(serverless)
    for config in (first, second, serverless):
        sagemaker.delete_endpoint_config(EndpointConfigName=config)
    sagemaker.delete_model(ModelName=model)


def asynchronous_endpoint(account: Account) -> None:
    name = test_async_invocations.asynchronous(account, account.model())
    submitted = test_async_invocations.submit(account, name, b"later")
    assert test_async_invocations.content(account, submitted["OutputLocation"]) == b"LATER"
    with pytest.raises(ClientError):
        account.runtime.invoke_endpoint_async(EndpointName=name)
    account.delete(name)


def inference_components(account: Account) -> None:
    sagemaker, name = account.sagemaker, account.name("shared")
    sagemaker.create_endpoint_config(EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[VARIANT])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    account.settled(name)
    component = Component(account, name)
    assert component.create(specification())["InferenceComponentStatus"] == "InService"
    assert component.invoke(b"asked") == b"ASKED"
    sagemaker.list_inference_components(EndpointNameEquals=name)
    sagemaker.update_inference_component(
        InferenceComponentName=component.name, Specification=specification(STAND_IN_PREFIX="<")
    )
    component.settled()
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=component.name, DesiredRuntimeConfig={"CopyCount": 0}
    )
    component.settled()
    broken = Component(account, name)
    assert broken.create(specification(STAND_IN_ERROR="it cannot"))["InferenceComponentStatus"] == "Failed"
    for each in (component, broken):
        sagemaker.delete_inference_component(InferenceComponentName=each.name)
    await_true(
        lambda: not sagemaker.list_inference_components(EndpointNameEquals=name)["InferenceComponents"], "they go"
    )
    account.delete(name)


def model_packages(account: Account) -> None:
    sagemaker, name = account.sagemaker, account.name("group")
    sagemaker.create_model_package_group(ModelPackageGroupName=name, ModelPackageGroupDescription="words", Tags=[TAG])
    sagemaker.describe_model_package_group(ModelPackageGroupName=name)
    sagemaker.list_model_package_groups(NameContains=name)
    sagemaker.put_model_package_group_policy(ModelPackageGroupName=name, ResourcePolicy='{"Statement": []}')
    sagemaker.get_model_package_group_policy(ModelPackageGroupName=name)
    sagemaker.delete_model_package_group_policy(ModelPackageGroupName=name)
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    types = {"SupportedContentTypes": ["text/csv"], "SupportedResponseMIMETypes": ["text/csv"]}
    arns = [
        sagemaker.create_model_package(**where, InferenceSpecification={"Containers": [container], **types})[
            "ModelPackageArn"
        ]
        for where in ({"ModelPackageGroupName": name}, {"ModelPackageName": account.name("package")})
    ]
    sagemaker.update_model_package(
        ModelPackageArn=arns[0], ModelApprovalStatus="Approved", CustomerMetadataProperties={"a": "b"}
    )
    for arn in arns:
        sagemaker.describe_model_package(ModelPackageName=arn)
    sagemaker.list_model_packages(ModelPackageType="Both")
    with pytest.raises(ClientError, match="ConflictException"):
        sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    for arn in arns:
        sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)


def transform_jobs(account: Account) -> None:
    sagemaker, place, model = account.sagemaker, account.name("batch"), account.model()
    account.put(f"{place}/in/good", b"a")
    account.put(f"{place}/bad", b"status:400")
    account.put(f"{place}/long", b"hang:")
    uri = f"s3://{BUCKET}/{place}"
    transform.completed(account, model, f"{uri}/in", output=place, Tags=[TAG], DataProcessing={"JoinSource": "None"})
    transform.failure(account, model, f"{uri}/bad", output=place)
    running = transform.start(account, model, f"{uri}/long", output=place)
    sagemaker.describe_transform_job(TransformJobName=running)
    sagemaker.stop_transform_job(TransformJobName=running)
    sagemaker.describe_transform_job(TransformJobName=running)
    assert transform.ended(account, running)["TransformJobStatus"] == "Stopped"
    sagemaker.list_transform_jobs(MaxResults=100)
    with pytest.raises(ClientError, match="ResourceInUse"):
        sagemaker.create_transform_job(
            TransformJobName=running,
            ModelName=model,
            TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}},
            TransformOutput={"S3OutputPath": uri},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )


def training_and_tuning_jobs(account: Account) -> None:
    sagemaker = account.sagemaker
    rows = account.put(f"{account.name('rows')}/rows.csv", b"1\n")
    metrics = {"MetricDefinitions": [{"Name": "score", "Regex": "score=([0-9.]+)"}]}
    training.completed(
        account,
        "print('score=1.5', flush=True)",
        AlgorithmSpecification=metrics,
        InputDataConfig=[training.channel("train", rows)],
        ResourceConfig={"KeepAlivePeriodInSeconds": 60},
        Tags=[TAG],
    )
    training.failure(account, "raise SystemExit(3)")
    running = training.start(account, "import time; print('begun', flush=True); time.sleep(3600)")
    training.await_line(account, running, "begun")
    training.described(account, running)
    sagemaker.stop_training_job(TrainingJobName=running)
    training.described(account, running)
    assert training.ended(account, running)["TrainingJobStatus"] == "Stopped"
    sagemaker.list_training_jobs(MaxResults=100)
    name = tuning.start(account, {})
    tuning.described(account, name)
    assert tuning.ended(account, name)["HyperParameterTuningJobStatus"] == "Completed"
    sagemaker.list_hyper_parameter_tuning_jobs()
    sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    other = tuning.start(account, {}, script="import time; time.sleep(3600)")
    await_true(lambda: bool(tuning.described(account, other)["TrainingJobStatusCounters"]["InProgress"]), "it begins")
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=other)
    tuning.described(account, other)
    assert tuning.ended(account, other)["HyperParameterTuningJobStatus"] == "Stopped"


def processing_jobs(account: Account) -> None:
    sagemaker, place = account.sagemaker, account.name("processed")
    output = {"Outputs": [test_processing_jobs.made("out", f"s3://{BUCKET}/{place}", "/opt/ml/processing/out")]}
    script = "(base / 'processing/out/word').write_text('done')"
    done = test_processing_jobs.start(account, script, ProcessingOutputConfig=output, Tags=[TAG])
    assert test_processing_jobs.ended(account, done)["ProcessingJobStatus"] == "Completed"
    failed = test_processing_jobs.start(account, "raise SystemExit(3)")
    assert test_processing_jobs.ended(account, failed)["ProcessingJobStatus"] == "Failed"
    running = test_processing_jobs.start(account, "print('begun', flush=True); time.sleep(3600)")
    training.await_line(account, running, "begun", group=test_processing_jobs.GROUP)
    sagemaker.stop_processing_job(ProcessingJobName=running)
    assert test_processing_jobs.ended(account, running)["ProcessingJobStatus"] == "Stopped"
    sagemaker.list_processing_jobs(MaxResults=100)


def pipelines_of_steps(account: Account) -> None:
    sagemaker = account.sagemaker
    bad = pipelines.compare("Equals", pipelines.get("Parameters.Kind"), "bad")
    work = pipelines.process(account, "Work", "while not os.environ.get('ENDS'): time.sleep(0.05)")
    text = pipelines.definition(
        pipelines.condition("Decide", bad, then=[pipelines.fail("Fail", "it is bad")], otherwise=[work]),
        parameters=[pipelines.parameter("Kind", "String", "good")],
    )
    name = pipelines.create(account, text, PipelineDescription="toy", Tags=[TAG])
    failed = pipelines.start(account, name, parameters={"Kind": "bad"})
    assert pipelines.ended(account, failed)["PipelineExecutionStatus"] == "Failed"
    pipelines.steps_of(account, failed)
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=failed)
    pipelines.ended(account, failed)
    running = pipelines.start(account, name)
    await_true(lambda: "Work" in pipelines.steps_of(account, running), "it runs", timeout_s=pipelines.LIMIT_S)
    with pytest.raises(ClientError, match="ConflictException"):
        sagemaker.delete_pipeline(PipelineName=name)
    sagemaker.update_pipeline_execution(PipelineExecutionArn=running, PipelineExecutionDescription="why")
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=running)
    assert pipelines.ended(account, running)["PipelineExecutionStatus"] == "Stopped"
    pipelines.steps_of(account, running)
    sagemaker.list_pipeline_executions(PipelineName=name)
    sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=failed)
    sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=failed)
    arn = sagemaker.update_pipeline(PipelineName=name, PipelineDescription="another")["PipelineArn"]
    sagemaker.update_pipeline_version(PipelineArn=arn, PipelineVersionId=1, PipelineVersionDisplayName="the-first")
    sagemaker.describe_pipeline(PipelineName=name)
    sagemaker.list_pipeline_versions(PipelineName=name)
    sagemaker.list_pipelines(PipelineNamePrefix=name)
    sagemaker.delete_pipeline(PipelineName=name)


def monitoring(account: Account) -> None:
    sagemaker, name = account.sagemaker, account.name("monitored")
    capture = {"EnableCapture": True, "InitialSamplingPercentage": 100, "DestinationS3Uri": f"s3://{BUCKET}/capture"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {"VariantName": "v", "ModelName": account.model(), "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
        DataCaptureConfig=capture | {"CaptureOptions": [{"CaptureMode": "Input"}]},
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    account.settled(name)
    sagemaker.create_data_quality_job_definition(JobDefinitionName=name, **test_monitoring.definition(name), Tags=[TAG])
    sagemaker.describe_data_quality_job_definition(JobDefinitionName=name)
    sagemaker.list_data_quality_job_definitions(EndpointName=name)
    config = test_monitoring.schedule(name)
    sagemaker.create_monitoring_schedule(MonitoringScheduleName=name, MonitoringScheduleConfig=config)
    sagemaker.describe_monitoring_schedule(MonitoringScheduleName=name)
    sagemaker.list_monitoring_schedules(EndpointName=name)
    sagemaker.list_monitoring_executions(MonitoringScheduleName=name)
    sagemaker.update_monitoring_schedule(MonitoringScheduleName=name, MonitoringScheduleConfig=config)
    with pytest.raises(ClientError, match="ResourceInUse"):
        sagemaker.create_monitoring_schedule(MonitoringScheduleName=name, MonitoringScheduleConfig=config)
    sagemaker.delete_monitoring_schedule(MonitoringScheduleName=name)
    sagemaker.delete_data_quality_job_definition(JobDefinitionName=name)
    account.delete(name)


@pytest.mark.parametrize("operation", [*SUPPORT, *RUNTIME])
def test_every_operation_answers_as_the_model_has_it(
    every_answer: dict[str, list[tuple[int, Any]]], operation: str
) -> None:
    answered = [document for status, document in every_answer[operation] if status < 300]
    assert answered, f"no call of {operation} was answered: add one to the walks above"
    if operation.startswith("List") and operation != "ListMonitoringExecutions":
        assert any(items for document in answered for items in document.values() if isinstance(items, list))


@pytest.mark.parametrize(
    ("operation", "member", "statuses"),
    [
        ("DescribeEndpoint", "EndpointStatus", {"Creating", "InService", "Updating", "Failed"}),
        ("DescribeInferenceComponent", "InferenceComponentStatus", {"InService", "Failed"}),
        ("DescribeTransformJob", "TransformJobStatus", {"InProgress", "Completed", "Failed", "Stopped"}),
        ("DescribeTrainingJob", "TrainingJobStatus", {"InProgress", "Completed", "Failed", "Stopped"}),
        ("DescribeProcessingJob", "ProcessingJobStatus", {"Completed", "Failed", "Stopped"}),
        ("DescribePipelineExecution", "PipelineExecutionStatus", {"Executing", "Failed", "Stopped"}),
        ("DescribeHyperParameterTuningJob", "HyperParameterTuningJobStatus", {"InProgress", "Completed", "Stopped"}),
    ],
)
def test_descriptions_were_seen_in_each_state(
    every_answer: dict[str, list[tuple[int, Any]]], operation: str, member: str, statuses: set[str]
) -> None:
    assert statuses <= {document[member] for status, document in every_answer[operation] if status < 300}


@pytest.fixture(scope="module")
def unchecked(account: Account) -> Iterator[Any]:
    """Clients that send what they are given, by the service; each answer must be as the model has it."""
    environment, answers = account.cloud.environment, Answers()
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1}, proxies={})
    clients = {
        service: answers.follow(
            boto3.client(
                service,
                endpoint_url=environment[f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"],
                config=config,
                **keys,
            )
        )
        for service in ("sagemaker", "sagemaker-runtime")
    }
    yield clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("operation", SUPPORT)
def test_a_request_that_breaks_the_model_is_refused_with_each_member_that_does(
    unchecked: dict[str, Any], operation: str
) -> None:
    model, client = operation_model("sagemaker", operation), unchecked["sagemaker"]
    assert model is not None
    found = list(breaches(model.input_shape))
    assert len(found) >= 2, "at least types and sizes can be wrong"
    for breach in found:
        code, message = _refusal_of(client, operation, breach.request)
        assert code == "ValidationException", (breach.kind, message)
        for path, constraint in breach.said:
            assert f"at '{path}' failed to satisfy constraint: {constraint}" in message, (breach.kind, path)


def _refusal_of(client: Any, operation: str, request: Any) -> tuple[str, str]:
    """What is answered to a document that the client's serializer could not write."""

    def as_it_is(params: dict[str, Any], **_: Any) -> None:
        params["body"] = json.dumps(request).encode()

    client.meta.events.register("before-call.sagemaker", as_it_is)
    try:
        with pytest.raises(ClientError) as caught:
            getattr(client, xform_name(operation))()
    finally:
        client.meta.events.unregister("before-call.sagemaker", as_it_is)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize("operation", RUNTIME)
def test_an_invocation_that_breaks_the_model_is_refused_with_each_member_that_does(
    unchecked: dict[str, Any], operation: str
) -> None:
    model, client = operation_model("sagemaker-runtime", operation), unchecked["sagemaker-runtime"]
    assert model is not None
    found = [each for each in breaches(model.input_shape) if each.kind in ("pattern", "long", "small", "large")]
    assert {"pattern", "long"} <= {each.kind for each in found}
    for breach in found:
        headers = {
            name: value
            for name, value in breach.request.items()
            if model.input_shape.members[name].serialization.get("location") == "header" and value != "\n"
        }
        said = [(path, words) for path, words in breach.said if path[0].upper() + path[1:] in headers]
        with pytest.raises(ClientError) as caught:
            getattr(client, xform_name(operation))(EndpointName="a", **headers)
        error = caught.value.response["Error"]
        assert error["Code"] == "ValidationError", (breach.kind, error)
        for path, constraint in said:
            assert f"at '{path}' failed to satisfy constraint: {constraint}" in error["Message"], (breach.kind, path)


@pytest.mark.parametrize("operation", [name for name in SUPPORT if name in ABSENT or name.startswith(BY_NAME)])
def test_what_is_not_there_is_refused_by_an_error_of_the_model(account: Account, operation: str) -> None:
    """The codes differ from operation to operation: which are allowed, `answers.py` reads off the model."""
    request = ABSENT.get(operation) or _naming_nobody(operation)
    with pytest.raises(ClientError) as caught:
        getattr(account.sagemaker, xform_name(operation))(**request)
    assert "failed to satisfy constraint" not in caught.value.response["Error"]["Message"], "the request is not wrong"


def _naming_nobody(operation: str) -> dict[str, str]:
    """A request with the one member that says what it is about, which it requires."""
    model = operation_model("sagemaker", operation)
    assert model is not None
    (member,) = set(model.input_shape.required_members) - {"ClientRequestToken"}
    arns = {
        "ResourceArn": f"arn:aws:sagemaker:us-east-1:123456789012:model/{NOBODY}",
        "PipelineExecutionArn": EXECUTION,
    }
    return {member: arns.get(member, NOBODY)}
