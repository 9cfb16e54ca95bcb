"""What every stage's buckets and image repository promise, read from the templates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.conftest import Synthesised


def data_bucket(stage: Synthesised) -> dict[str, Any]:
    (bucket,) = (b for b in stage.properties("storage", "AWS::S3::Bucket").values() if "LoggingConfiguration" in b)
    return bucket


def test_every_bucket_is_private_encrypted_and_owned_by_the_account(stage: Synthesised) -> None:
    buckets = stage.properties("storage", "AWS::S3::Bucket")

    assert len(buckets) == 2
    for bucket in buckets.values():
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def test_every_bucket_refuses_requests_without_current_tls(stage: Synthesised) -> None:
    policies = stage.properties("storage", "AWS::S3::BucketPolicy").values()
    refused = {}
    for policy in policies:
        denials = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        refused[json.dumps(policy["Bucket"])] = [s["Condition"] for s in denials]
        assert all(s["Action"] == "s3:*" and s["Principal"] == {"AWS": "*"} for s in denials)

    assert set(refused) == {json.dumps({"Ref": name}) for name in stage.properties("storage", "AWS::S3::Bucket")}
    for conditions in refused.values():
        assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in conditions


def test_the_data_bucket_keeps_versions_logs_accesses_and_tidies_up(stage: Synthesised) -> None:
    bucket = data_bucket(stage)
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}

    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["LoggingConfiguration"]["LogFilePrefix"] == "data/"
    assert rules["tidy"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["tidy"]["NoncurrentVersionExpiration"]["NoncurrentDays"] > 0
    assert rules["batch-output"]["Prefix"] == "batch/output/"
    assert rules["batch-submitted"]["Prefix"] == "batch/input/submitted/"
    assert "ExpirationInDays" not in rules["tidy"], "a rule for the whole bucket would expire models"


def test_tags_of_the_repository_never_move_and_pushes_are_scanned(stage: Synthesised) -> None:
    repository = stage.only("registry", "AWS::ECR::Repository")

    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}


def test_the_repository_keeps_the_newest_images_only(stage: Synthesised) -> None:
    policy = json.loads(stage.only("registry", "AWS::ECR::Repository")["LifecyclePolicy"]["LifecyclePolicyText"])
    untagged, newest = (rule["selection"] for rule in policy["rules"])

    assert (untagged["tagStatus"], untagged["countType"]) == ("untagged", "sinceImagePushed")
    assert (newest["tagStatus"], newest["countType"]) == ("any", "imageCountMoreThan")
    assert newest["countNumber"] >= 2


@pytest.mark.parametrize(("name", "fate"), [("local", "Delete"), ("dev", "Delete"), ("prod", "Retain")])
def test_what_holds_data_outlives_its_stack_only_where_the_stage_says_so(
    name: str, fate: str, all_stages: dict[str, Synthesised]
) -> None:
    stage = all_stages[name]
    holders = stage.templates["storage"].find_resources("AWS::S3::Bucket")
    holders |= stage.templates["registry"].find_resources("AWS::ECR::Repository")

    # A creation that fails takes along what it has made, so that the next one finds no name taken.
    policies = ("Delete", "Delete") if fate == "Delete" else ("RetainExceptOnCreate", "Retain")
    assert {(holder["DeletionPolicy"], holder["UpdateReplacePolicy"]) for holder in holders.values()} == {policies}
    assert stage.only("registry", "AWS::ECR::Repository")["EmptyOnDelete"] is (fate == "Delete")
    for unit in ("storage", "registry"):
        assert stage.artifact(unit)["properties"]["terminationProtection"] is (fate == "Retain")


def test_nothing_that_stays_would_stop_the_next_creation_of_its_stack(
    all_stages: dict[str, Synthesised], samples: dict[str, Synthesised]
) -> None:
    """A log group has a fixed name and no data that is asked for; it goes with its stack also where data is kept.

    A role stays where other APIs of the account write with it, under a name that CloudFormation chose.
    """
    kept = set()
    for stage in [*all_stages.values(), *samples.values()]:
        for unit, template in stage.templates.items():
            for name, resource in template.to_json()["Resources"].items():
                policy = resource.get("DeletionPolicy", "Delete")
                assert policy != "Retain", f"{unit}: {name}"
                kept |= {resource["Type"]} if policy == "RetainExceptOnCreate" else set()
                if resource["Type"] == "AWS::IAM::Role":
                    assert "RoleName" not in resource["Properties"]
    assert kept == {
        "AWS::ApiGateway::Account",
        "AWS::ECR::Repository",
        "AWS::IAM::Role",
        "AWS::KMS::Key",
        "AWS::S3::Bucket",
        "AWS::SageMaker::ModelPackageGroup",
    }


@pytest.mark.parametrize(("name", "account"), [("local", "123456789012"), ("dev", "unknown-account")])
def test_a_stage_is_deployed_where_it_says_or_else_where_its_caller_is(
    name: str, account: str, all_stages: dict[str, Synthesised]
) -> None:
    assert all_stages[name].artifact("endpoint")["environment"] == f"aws://{account}/unknown-region"


def test_every_stack_and_thus_every_resource_carries_project_and_stage_as_tags(
    all_stages: dict[str, Synthesised],
) -> None:
    for name, stage in all_stages.items():
        for unit in stage.templates:
            assert stage.artifact(unit)["properties"]["tags"] == {"project": "tidegate", "stage": name}


def test_no_stack_exports_a_value_that_another_would_hold_on_to(stage: Synthesised) -> None:
    for template in stage.templates.values():
        text = json.dumps(template.to_json())
        assert "Fn::ImportValue" not in text
        assert all("Export" not in output for output in template.to_json()["Outputs"].values())


def test_the_local_stage_needs_no_bootstrap(all_stages: dict[str, Synthesised]) -> None:
    for template in all_stages["local"].templates.values():
        assert "BootstrapVersion" not in template.to_json().get("Parameters", {})
    assert "BootstrapVersion" in all_stages["dev"].templates["storage"].to_json()["Parameters"]


def test_the_longest_name_of_a_stage_still_fits_a_bucket(synthesise: Any) -> None:
    """S3 allows 63 characters; the longest Region name today has 14."""
    changes = {"prefix": "p" * 16, "name": "s" * 10, "region": "ap-southeast-1"}
    stage = synthesise(stage="local", changes=changes)

    names = [bucket["BucketName"] for bucket in stage.properties("storage", "AWS::S3::Bucket").values()]
    assert all(len(name) <= 63 for name in names), names
