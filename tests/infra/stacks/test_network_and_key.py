"""A private stage: no way to the internet, a key of its own, and no lock between the stacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised
from tests.infra.stacks.test_endpoint import CONFIG, MODEL, names

KEY_PARAMETER = "/tidegate/private/key-arn"


@pytest.fixture(scope="module")
def private(samples: dict[str, Synthesised]) -> Synthesised:
    return samples["private"]


def filled_in(stage: Synthesised, unit: str, name: str) -> str:
    """The logical id of the stack's parameter that CloudFormation fills from Parameter Store."""
    parameters = stage.templates[unit].to_json()["Parameters"]
    (logical_id,) = (key for key, parameter in parameters.items() if parameter.get("Default") == name)
    assert parameters[logical_id]["Type"].startswith("AWS::SSM::Parameter::Value<")
    return str(logical_id)


def test_the_containers_run_in_the_private_subnets_that_the_network_keeps(private: Synthesised) -> None:
    kept = {item["Name"]: item["Value"] for item in private.properties("network", "AWS::SSM::Parameter").values()}
    subnets = [
        {"Ref": name}
        for name, subnet in private.properties("network", "AWS::EC2::Subnet").items()
        if not subnet["MapPublicIpOnLaunch"]
    ]
    vpc = private.only("endpoint", MODEL)["VpcConfig"]

    assert kept["/tidegate/private/subnets"] == {"Fn::Join": [",", subnets]}
    assert vpc["Subnets"] == {"Ref": filled_in(private, "endpoint", "/tidegate/private/subnets")}
    assert vpc["SecurityGroupIds"] == {"Ref": filled_in(private, "endpoint", "/tidegate/private/security-groups")}


def test_without_a_nat_gateway_there_is_no_way_to_the_internet(private: Synthesised) -> None:
    network = private.templates["network"]

    network.resource_count_is("AWS::EC2::NatGateway", 0)
    network.resource_count_is("AWS::EC2::InternetGateway", 0)
    assert not [
        route
        for route in private.properties("network", "AWS::EC2::Route").values()
        if route.get("DestinationCidrBlock") == "0.0.0.0/0"
    ]


def test_private_containers_reach_what_they_need_by_endpoints_of_the_vpc(private: Synthesised) -> None:
    endpoints = private.properties("network", "AWS::EC2::VPCEndpoint").values()
    services = {json.dumps(endpoint["ServiceName"]): endpoint["VpcEndpointType"] for endpoint in endpoints}
    found = {
        service: kind
        for service in ("ecr.api", "ecr.dkr", "logs", "monitoring", "sagemaker.runtime", "sts", "kms", "s3")
        for name, kind in services.items()
        if f".{service}" in name
    }

    assert len(endpoints) == 8
    assert found.pop("s3") == "Gateway"
    assert set(found.values()) == {"Interface"}
    assert len(found) == 7
    assert all(endpoint["PrivateDnsEnabled"] for endpoint in endpoints if endpoint["VpcEndpointType"] == "Interface")


def test_only_the_containers_reach_the_endpoints_and_nobody_reaches_the_containers(private: Synthesised) -> None:
    groups = private.properties("network", "AWS::EC2::SecurityGroup")
    (ingress,) = private.properties("network", "AWS::EC2::SecurityGroupIngress").values()
    (containers,) = (name for name, group in groups.items() if group["GroupDescription"].startswith("Containers"))

    assert not any(group.get("SecurityGroupIngress") for group in groups.values())
    assert (ingress["FromPort"], ingress["ToPort"], ingress["IpProtocol"]) == (443, 443, "tcp")
    assert ingress["SourceSecurityGroupId"] == {"Fn::GetAtt": [containers, "GroupId"]}
    (egress,) = groups[containers]["SecurityGroupEgress"]
    assert (egress["FromPort"], egress["ToPort"]) == (443, 443)


def test_with_a_nat_gateway_the_containers_reach_the_internet_and_no_interface_endpoint_is_paid(
    samples: dict[str, Synthesised],
) -> None:
    stage = samples["component"]

    stage.templates["network"].resource_count_is("AWS::EC2::NatGateway", 1)
    assert [item["VpcEndpointType"] for item in stage.properties("network", "AWS::EC2::VPCEndpoint").values()] == [
        "Gateway"
    ]


def test_who_connected_to_whom_is_logged(private: Synthesised) -> None:
    flow_log = private.only("network", "AWS::EC2::FlowLog")

    assert (flow_log["ResourceType"], flow_log["TrafficType"]) == ("VPC", "ALL")


def test_an_existing_vpc_is_taken_by_its_ids_and_nothing_is_made(samples: dict[str, Synthesised]) -> None:
    vpc = samples["async"].only("endpoint", MODEL)["VpcConfig"]

    assert vpc == {"Subnets": ["subnet-0a1b2c3d", "subnet-0a1b2c3e"], "SecurityGroupIds": ["sg-0a1b2c3d"]}


def test_another_network_makes_another_model(private: Synthesised, synthesise: Synthesise) -> None:
    """The ids of subnets are not known at synthesis, and a model cannot change under its name."""
    wider = synthesise(stage="dev", changes={"network": {"vpc": "new", "availability_zones": 3}})
    smaller = synthesise(stage="dev", changes={"network": {"vpc": "new"}})

    assert names(wider)[0] != names(smaller)[0]
    assert len(wider.properties("network", "AWS::EC2::Subnet")) == 3


def test_a_network_in_a_named_account_needs_no_look_into_that_account(synthesise: Synthesise) -> None:
    """The CDK would ask for the availability zones, which takes credentials at every synthesis."""
    place = {"account": "123456789012", "region": "eu-central-1", "network": {"vpc": "new", "nat": True}}
    stage = synthesise(stage="dev", changes=place)

    assert "missing" not in json.loads((stage.directory / "manifest.json").read_text())
    zones = {
        json.dumps(subnet["AvailabilityZone"]) for subnet in stage.properties("network", "AWS::EC2::Subnet").values()
    }
    assert zones == {json.dumps({"Fn::Select": [index, {"Fn::GetAZs": ""}]}) for index in (0, 1)}


def test_subnets_lie_in_the_zones_that_the_file_names(synthesise: Synthesise) -> None:
    zones = ["eu-central-1b", "eu-central-1c", "eu-central-1a"]
    place = {"region": "eu-central-1", "network": {"vpc": "new", "availability_zones": zones}}
    stage = synthesise(stage="dev", changes=place)

    subnets = stage.properties("network", "AWS::EC2::Subnet").values()
    assert sorted(subnet["AvailabilityZone"] for subnet in subnets) == sorted(zones)
    endpoints = [
        endpoint
        for endpoint in stage.properties("network", "AWS::EC2::VPCEndpoint").values()
        if endpoint["VpcEndpointType"] == "Interface"
    ]
    assert endpoints
    assert {len(endpoint["SubnetIds"]) for endpoint in endpoints} == {3}
    assert "missing" not in json.loads((stage.directory / "manifest.json").read_text())


@pytest.mark.parametrize("name", ["approved", "async", "component", "multimodel", "serverless", "variants"])
def test_every_mode_can_have_a_key_of_its_own_and_all_but_serverless_a_network(
    name: str, synthesise: Synthesise
) -> None:
    """Synthesis itself fails where a rule of cdk-nag is broken."""
    network = None if name == "serverless" else {"vpc": "new", "subnets": None, "security_groups": None}
    sample = str(SAMPLES / f"{name}.toml")
    stage = synthesise(stage=sample, changes={"encryption": {"key": "new"}, "network": network})
    model = next(iter(stage.properties("endpoint", MODEL).values()))

    assert ("VpcConfig" in model) is (network is not None)
    (policy,) = stage.only("endpoint", "AWS::IAM::Role")["Policies"]
    assert "UseKey" in {statement["Sid"] for statement in policy["PolicyDocument"]["Statement"]}
    kept = stage.templates["endpoint"].to_json()["Parameters"]
    assert any(parameter.get("Default") == f"/tidegate/{name}/key-arn" for parameter in kept.values())


def test_an_image_outside_of_ecr_is_pulled_through_the_vpc(synthesise: Synthesise) -> None:
    existing = {"vpc": "vpc-0a1b2c3d", "subnets": ["subnet-0a1b2c3d"], "security_groups": ["sg-0a1b2c3d"]}
    stage = synthesise(stage="dev", changes={"network": existing}, image_uri="registry.example/serving:1")

    assert stage.only("endpoint", MODEL)["PrimaryContainer"]["ImageConfig"] == {"RepositoryAccessMode": "Vpc"}


class TestKey:
    """`[encryption] key = "new"`."""

    def test_the_key_is_rotated_and_kept_where_the_other_stacks_look(self, private: Synthesised) -> None:
        key = private.only("storage", "AWS::KMS::Key")
        kept = private.only("storage", "AWS::SSM::Parameter")

        assert key["EnableKeyRotation"] is True
        assert kept["Name"] == KEY_PARAMETER
        (key_id,) = private.templates["storage"].find_resources("AWS::KMS::Key")
        assert kept["Value"] == {"Fn::GetAtt": [key_id, "Arn"]}

    def test_its_policy_names_nobody_but_the_account(self, private: Synthesised) -> None:
        """Roles are let in by their own policies, and no service sends anything under this key by itself."""
        (statement,) = private.only("storage", "AWS::KMS::Key")["KeyPolicy"]["Statement"]

        assert list(statement["Principal"]) == ["AWS"]
        assert ":root" in json.dumps(statement["Principal"])

    def test_bucket_images_and_captures_are_under_the_key(self, private: Synthesised) -> None:
        buckets = private.properties("storage", "AWS::S3::Bucket").values()
        rules = [bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0] for bucket in buckets]
        algorithms = sorted(rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] for rule in rules)

        assert algorithms == ["AES256", "aws:kms"], "S3 delivers access logs to buckets with its own encryption only"
        assert [rule["BucketKeyEnabled"] for rule in rules if "BucketKeyEnabled" in rule] == [True]
        repository = private.only("registry", "AWS::ECR::Repository")["EncryptionConfiguration"]
        assert repository == {"EncryptionType": "KMS", "KmsKey": {"Ref": filled_in(private, "registry", KEY_PARAMETER)}}
        capture = private.only("endpoint", CONFIG)["DataCaptureConfig"]
        assert capture["KmsKeyId"] == {"Ref": filled_in(private, "endpoint", KEY_PARAMETER)}

    def test_the_role_lends_the_key_to_aws_services_only(self, private: Synthesised) -> None:
        (policy,) = private.only("endpoint", "AWS::IAM::Role")["Policies"]
        statements = {item["Sid"]: item for item in policy["PolicyDocument"]["Statement"]}

        assert statements["LendKeyToVolumes"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
        assert statements["UseKey"]["Resource"] == {"Ref": filled_in(private, "endpoint", KEY_PARAMETER)}

    def test_a_key_of_somebody_else_is_used_by_its_arn(self, synthesise: Synthesise) -> None:
        arn = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"
        stage = synthesise(stage="dev", changes={"encryption": {"key": arn}})

        assert stage.only("registry", "AWS::ECR::Repository")["EncryptionConfiguration"]["KmsKey"] == arn
        assert not stage.properties("storage", "AWS::KMS::Key")
        assert [item for item in _keys(stage) if item == arn]


def _keys(stage: Synthesised) -> list[Any]:
    return [
        bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"].get(
            "KMSMasterKeyID"
        )
        for bucket in stage.properties("storage", "AWS::S3::Bucket").values()
    ]
