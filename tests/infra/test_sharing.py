"""One account builds, another deploys: what the first one's policies allow, and what the second one's role may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised
from tests.infra.stage.stage_files import refusal, written
from tidegate.infra.sharing.statements import decrypt_models_under

DEV, PROD = "123456789012", "210987654321"
REGION = "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:{DEV}:key/0a1b2c3d-0000-4000-8000-000000000000"
IMAGE = f"{DEV}.dkr.ecr.{REGION}.amazonaws.com/tidegate-private@sha256:{'0' * 64}"
PACKAGE = f"arn:aws:sagemaker:{REGION}:{DEV}:model-package/tidegate-private/3"
BUCKET = f"tidegate-private-data-{DEV}-{REGION}"
PROD_STAGE = f"""
account = "{PROD}"
region = "{REGION}"

[model]
package = "{PACKAGE}"
package_image = "{IMAGE}"
package_archive = "s3://{BUCKET}/models/1/model.tar.gz"
archive_key = "{KEY}"

[hosting]
mode = "realtime"

[retention]
keep_data = true
"""


@pytest.fixture(scope="module")
def dev(synthesise: Synthesise) -> Synthesised:
    """A stage with a key of its own and a model registry, which another account may deploy from."""
    place = {"account": DEV, "region": REGION}
    return synthesise(stage=str(SAMPLES / "private.toml"), changes=place | {"shared_with": [PROD]})


@pytest.fixture(scope="module")
def prod(synthesise: Synthesise, tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    """A stage of that account, which deploys a package by its ARN and its image by digest."""
    path = tmp_path_factory.mktemp("prod") / "prod.toml"
    path.write_text(PROD_STAGE, encoding="utf-8")
    return synthesise(stage=str(path))


def flat(value: Any) -> str:
    """A value of a template as one text, with the partition as it is nearly everywhere."""
    if isinstance(value, dict) and "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(flat(part) for part in parts)
    if isinstance(value, dict):
        return "aws" if value.get("Ref") == "AWS::Partition" else json.dumps(value)
    return str(value)


def texts(value: Any) -> Iterator[str]:
    """Every text in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def allowed(policy: Any) -> dict[str, dict[str, Any]]:
    """The statements of a policy that let the other account in, by their ids."""
    statements = {each["Sid"]: each for each in policy["Statement"] if PROD in json.dumps(each.get("Principal", ""))}
    for statement in statements.values():
        (principal,) = (
            [statement["Principal"]["AWS"]]
            if not isinstance(statement["Principal"]["AWS"], list)
            else statement["Principal"]["AWS"]
        )
        assert flat(principal) == f"arn:aws:iam::{PROD}:root"
        assert statement["Effect"] == "Allow"
    return statements


def actions(statement: dict[str, Any]) -> set[str]:
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


def test_the_other_account_pulls_images_and_pushes_none(dev: Synthesised) -> None:
    (statement,) = allowed(dev.only("registry", "AWS::ECR::Repository")["RepositoryPolicyText"]).values()

    assert actions(statement) == {
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:DescribeImages",
        "ecr:GetDownloadUrlForLayer",
    }


def test_the_other_account_reads_models_and_nothing_else_of_the_bucket(dev: Synthesised) -> None:
    policies = dev.properties("storage", "AWS::S3::BucketPolicy").values()
    (statements,) = filter(None, (allowed(policy["PolicyDocument"]) for policy in policies))

    assert {action for each in statements.values() for action in actions(each)} == {
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:ListBucket",
    }
    assert flat(statements["ReadModelsFromOtherAccounts"]["Resource"]).endswith("/models/*")
    assert statements["ListModelsFromOtherAccounts"]["Condition"] == {"StringLike": {"s3:prefix": ["models/*"]}}


def test_the_other_account_decrypts_through_s3_alone(dev: Synthesised) -> None:
    (statement,) = allowed(dev.only("storage", "AWS::KMS::Key")["KeyPolicy"]).values()

    assert actions(statement) == {"kms:Decrypt", "kms:DescribeKey"}
    assert statement["Condition"] == {"StringLike": {"kms:ViaService": [f"s3.{REGION}.amazonaws.com*"]}}


def test_the_other_account_makes_models_of_versions_and_approves_none(dev: Synthesised) -> None:
    group = dev.only("models", "AWS::SageMaker::ModelPackageGroup")
    statements = allowed(group["ModelPackageGroupPolicy"])

    assert {sid: (actions(each), flat(each["Resource"])) for sid, each in statements.items()} == {
        "SeeGroupFromOtherAccounts": (
            {"sagemaker:DescribeModelPackageGroup"},
            f"arn:aws:sagemaker:{REGION}:{DEV}:model-package-group/tidegate-private",
        ),
        "DeployVersionsFromOtherAccounts": (
            {"sagemaker:CreateModel", "sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages"},
            f"arn:aws:sagemaker:{REGION}:{DEV}:model-package/tidegate-private/*",
        ),
    }


def test_a_stage_that_shares_nothing_lets_nobody_in(samples: dict[str, Synthesised]) -> None:
    private = samples["private"]

    assert "RepositoryPolicyText" not in private.only("registry", "AWS::ECR::Repository")
    assert "ModelPackageGroupPolicy" not in private.only("models", "AWS::SageMaker::ModelPackageGroup")
    for unit in ("storage", "registry", "models"):
        assert "FromOtherAccounts" not in json.dumps(private.templates[unit].to_json())


def test_what_is_shared_passes_the_rules(dev: Synthesised) -> None:
    assert '"conclusion": "failure"' not in dev.report


def test_the_deploying_account_s_role_may_read_exactly_what_it_deploys(prod: Synthesised) -> None:
    role = prod.only("endpoint", "AWS::IAM::Role")
    statements = {
        statement["Sid"]: statement
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    }

    assert flat(statements["ReadThisModel"]["Resource"]) == f"arn:aws:s3:::{BUCKET}/models/1/model.tar.gz"
    assert flat(statements["PullImage"]["Resource"]) == f"arn:aws:ecr:{REGION}:{DEV}:repository/tidegate-private"
    assert statements["DecryptThisModel"]["Resource"] == KEY
    assert actions(statements["DecryptThisModel"]) == {"kms:Decrypt"}
    assert prod.only("endpoint", "AWS::SageMaker::Model")["PrimaryContainer"]["ModelPackageName"] == PACKAGE


def test_the_policy_of_a_key_that_is_not_the_stage_s_is_told(synthesise: Synthesise) -> None:
    changes = {"account": DEV, "region": REGION, "shared_with": [PROD], "encryption": {"key": KEY}}
    stage = synthesise(stage=str(SAMPLES / "private.toml"), changes=changes)

    told = next(text for text in texts(json.loads(stage.report)) if "shared_with cannot change" in text)
    assert f"the policy of {KEY}" in told
    # On a line of its own, and nothing is left in it that only CloudFormation knows.
    assert json.loads(told.splitlines()[1]) == {
        "Sid": "DecryptModelsFromOtherAccounts",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{PROD}:root"},
        "Action": ["kms:Decrypt", "kms:DescribeKey"],
        "Resource": "*",
        "Condition": {"StringLike": {"kms:ViaService": [f"s3.{REGION}.amazonaws.com*"]}},
    }


def test_that_policy_is_of_the_partition_and_region_of_the_key_for_each_account() -> None:
    key = f"arn:aws-us-gov:kms:us-gov-west-1:{DEV}:key/0a1b2c3d-0000-4000-8000-000000000000"
    accounts = ["345678901234", PROD]

    statement = cdk.Stack().resolve(decrypt_models_under(key, accounts))

    assert set(statement["Principal"]["AWS"]) == {f"arn:aws-us-gov:iam::{account}:root" for account in accounts}
    assert statement["Condition"] == {"StringLike": {"kms:ViaService": ["s3.us-gov-west-1.amazonaws.com*"]}}


@pytest.mark.parametrize(
    ("top", "tables", "sentence"),
    [
        ('shared_with = ["12"]', {}, "shared_with[1]='12' is not an account; write its 12 digits in quotes"),
        ("shared_with = []", {}, "shared_with=[] is not a list of 1 to 10 accounts"),
        (
            f'shared_with = ["{PROD}", "{PROD}"]',
            {},
            f"shared_with='{PROD}' is given twice; name each account once",
        ),
        (
            f'account = "{PROD}"\nshared_with = ["{PROD}"]',
            {},
            f"shared_with='{PROD}' is the stage's own account, which needs no leave; name the others",
        ),
        (
            f'shared_with = ["{PROD}"]',
            {"image": 'build = "."\ndockerfile = "container/Dockerfile"'},
            "shared_with shares the stage's repository, and image.build='.' is pushed to that of 'cdk bootstrap'; push "
            "it by 'tidegate image push', and name it by tag or digest",
        ),
        (
            'region = "us-east-1"',
            {"model": f'archive = "s3://bucket/model.tar.gz"\narchive_key = "{KEY}"'},
            f"model.archive_key='{KEY}' is in Region {REGION}, and the stage in us-east-1; an endpoint takes its "
            "archive from its own Region, so name the key of a bucket there",
        ),
        (
            "",
            {"model": f'repository = "s3://bucket/live"\narchive_key = "{KEY}"'},
            None,
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(
    top: str, tables: dict[str, str], sentence: str | None, tmp_path: Path
) -> None:
    said = refusal(written(tmp_path, top, **tables))

    assert said == sentence if sentence is not None else "archive_key" in said
