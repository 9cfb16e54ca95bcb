"""One word chooses the endpoint: what each mode is made of, and that the API would take it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.infra.hosted import BUCKET, COMPONENT, CONFIG, ENDPOINT, FULL, KEY, NAME, ROLE, change, host

pytestmark = pytest.mark.usefixtures("node_on_path")


def test_every_mode_that_a_stage_file_may_name_is_made_here() -> None:
    from tidegate.infra.configuration.hosting import Hosting

    union, _ = get_args(Hosting)
    named = {get_args(table.model_fields["mode"].annotation)[0] for table in get_args(union)}

    assert named == FULL.keys()


def rejected(operation: str, properties: dict[str, Any]) -> str:
    """What the API's own model finds wrong with the properties; empty if nothing."""
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model(operation).input_shape
    report: str = ParamValidator().validate(properties, shape).generate_report()
    return report


@pytest.mark.parametrize("mode", FULL)
def test_the_api_s_own_model_takes_what_is_made(mode: str) -> None:
    """Names, types, required members and ranges."""
    hosted = host(FULL[mode], key_arn=KEY)
    config = hosted.only(CONFIG)
    if mode == "async":  # topics are references until the deploy
        config = config | {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/"}}}

    assert rejected("CreateEndpointConfig", config) == ""
    endpoint = hosted.only(ENDPOINT)
    assert rejected("UpdateEndpoint", endpoint) == ""
    for component in hosted.all(COMPONENT).values():
        created = {name: value for name, value in component.items() if name != "DeploymentConfig"}
        assert rejected("CreateInferenceComponent", created) == ""
        updated = {name: value for name, value in component.items() if name not in {"EndpointName", "VariantName"}}
        assert rejected("UpdateInferenceComponent", updated) == ""


def test_what_the_api_s_model_does_not_take_is_noticed() -> None:
    assert "ProductionVariants" in rejected("CreateEndpointConfig", {"EndpointConfigName": "a"})


def test_a_serverless_endpoint_has_memory_and_concurrency_and_nothing_that_needs_an_instance() -> None:
    hosted = host(FULL["serverless"])

    (variant,) = hosted.variants
    assert variant == {
        "VariantName": "primary",
        "ModelName": "model-1",
        "InitialVariantWeight": 1,
        "ServerlessConfig": {"MemorySizeInMB": 3072, "MaxConcurrency": 20, "ProvisionedConcurrency": 2},
    }
    assert hosted.only(CONFIG).keys() == {"EndpointConfigName", "ProductionVariants"}
    assert hosted.endpoint.model_name == "model-1"


def test_nothing_is_kept_warm_unless_it_is_asked_for() -> None:
    (variant,) = host(change("serverless", provisioned_concurrency=None)).variants

    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 20}


def test_an_asynchronous_endpoint_writes_answers_and_failures_below_the_stage_s_bucket() -> None:
    hosted = host(FULL["async"], key_arn=KEY)

    asynchronous = hosted.only(CONFIG)["AsyncInferenceConfig"]
    output = asynchronous["OutputConfig"]
    assert output["S3OutputPath"] == f"s3://{BUCKET}/async/output/"
    assert output["S3FailurePath"] == f"s3://{BUCKET}/async/failure/"
    assert output["KmsKeyId"] == KEY
    assert asynchronous["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 4}
    assert hosted.endpoint.plan.reads_below == ("async/input/",)
    assert hosted.endpoint.plan.writes_below == ("async/output/", "async/failure/")
    assert "RoutingConfig" not in hosted.variants[0]


def test_successes_and_failures_are_published_to_a_topic_each_over_tls_only() -> None:
    hosted = host(FULL["async"])

    topics = hosted.all("AWS::SNS::Topic")
    assert {one["TopicName"] for one in topics.values()} == {f"{NAME}-async-success", f"{NAME}-async-failure"}
    assert all("KmsMasterKeyId" in one for one in topics.values())
    notifications = hosted.only(CONFIG)["AsyncInferenceConfig"]["OutputConfig"]["NotificationConfig"]
    assert topics[notifications["SuccessTopic"]["Ref"]]["TopicName"].endswith("success")
    assert topics[notifications["ErrorTopic"]["Ref"]]["TopicName"].endswith("failure")
    assert {one["Endpoint"] for one in hosted.all("AWS::SNS::Subscription").values()} == {"ml@example.com"}
    assert {arn.rpartition(":")[2] for arn in hosted.endpoint.publishes_to} == {
        one["TopicName"] for one in topics.values()
    }
    for policy in hosted.all("AWS::SNS::TopicPolicy").values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_without_notify_there_is_no_topic() -> None:
    hosted = host(change("async", notify=None, email=None))

    assert hosted.all("AWS::SNS::Topic") == {}
    assert hosted.endpoint.publishes_to == ()


def test_a_component_puts_copies_of_the_model_on_instances_that_have_none() -> None:
    hosted = host(
        FULL["component"], size_gib=40, subnets=["subnet-0a1b2c3d4e5f60718"], security_groups=["sg-0a1b2c3d4e5f60718"]
    )

    config = hosted.only(CONFIG)
    (variant,) = config["ProductionVariants"]
    assert "ModelName" not in variant
    assert variant["ManagedInstanceScaling"] == {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}
    assert variant["InitialInstanceCount"] == 1
    assert variant["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert config["ExecutionRoleArn"] == ROLE
    assert config["EnableNetworkIsolation"] is True
    assert config["VpcConfig"] == {
        "Subnets": ["subnet-0a1b2c3d4e5f60718"],
        "SecurityGroupIds": ["sg-0a1b2c3d4e5f60718"],
    }

    component = hosted.only(COMPONENT)
    assert component["EndpointName"] == component["InferenceComponentName"] == NAME
    assert component["VariantName"] == variant["VariantName"]
    assert component["Specification"]["ModelName"] == "model-1"
    assert component["Specification"]["StartupParameters"] == {
        "ModelDataDownloadTimeoutInSeconds": 1440,
        "ContainerStartupHealthCheckTimeoutInSeconds": 960,
    }
    assert component["Specification"]["ComputeResourceRequirements"] == {
        "NumberOfAcceleratorDevicesRequired": 1,
        "MinMemoryRequiredInMb": 4096,
    }
    assert component["RuntimeConfig"] == {"CopyCount": 1}
    assert hosted.endpoint.component_name == NAME
    assert hosted.endpoint.model_name == "model-1"


def test_another_network_is_another_configuration_though_its_ids_are_known_at_the_deploy_only() -> None:
    ids = {"subnets": ["subnet-0a1b2c3d4e5f60718"], "security_groups": ["sg-0a1b2c3d4e5f60718"]}
    one, other = (
        host(FULL["component"], network_content={"cidr": cidr}, **ids) for cidr in ("10.0.0.0/16", "10.1.0.0/16")
    )

    assert one.endpoint.config_name != other.endpoint.config_name


def test_a_component_without_a_gpu_asks_for_none() -> None:
    copies = {"gpus": 0, "cpu_cores": 2, "min_memory_mib": 1024, "max_memory_mib": 2048, "count": 3}
    hosted = host({"mode": "component", "instance_type": "ml.m7i.xlarge", "copies": copies, "rollout": {}})

    component = hosted.only(COMPONENT)
    assert component["Specification"]["ComputeResourceRequirements"] == {
        "NumberOfCpuCoresRequired": 2,
        "MinMemoryRequiredInMb": 1024,
        "MaxMemoryRequiredInMb": 2048,
    }
    assert component["RuntimeConfig"] == {"CopyCount": 3}
    assert "InferenceAmiVersion" not in hosted.variants[0]
    assert len(component["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]) == 1


def test_a_new_model_changes_the_component_and_not_the_endpoint() -> None:
    before, after = host(FULL["component"]), host(FULL["component"], model_name="model-2")

    assert before.only(ENDPOINT) == after.only(ENDPOINT)
    assert before.only(COMPONENT) != after.only(COMPONENT)
    assert after.comes_after(COMPONENT, "AWS::SageMaker::Model")
    assert after.comes_after(COMPONENT, ENDPOINT)


def test_a_multi_model_endpoint_leaves_the_routing_to_sagemaker_and_is_no_model_for_batch() -> None:
    hosted = host(FULL["multi_model"])

    (variant,) = hosted.variants
    assert "RoutingConfig" not in variant
    assert variant["ModelName"] == "model-1"
    assert hosted.endpoint.model_name is None
