"""What another account may do with the stage's image and models: it may deploy them, and change nothing.

Each statement names the account and not a role of it, so that account's own IAM decides who; a role there needs the
same right of its own, which the roles of these stacks have.
Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-deploy-xaccount.html (repository, bucket, key,
group); IAM guide, cross-account policy evaluation; Amazon ECR guide, private repository policy examples; KMS guide,
"Allowing users in other accounts to use a KMS key".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from tidegate.infra.stage.names import MODELS_PREFIX


def pull_images(accounts: Sequence[str]) -> iam.PolicyStatement:
    """Of the repository: the pull by SageMaker with the role of the endpoint there, and a look for the image.

    ECR decrypts what it holds under a key by itself, so a pull needs no right on it.
    Source: Amazon ECR guide, encryption at rest.
    """
    return _statement(
        "PullFromOtherAccounts",
        accounts,
        ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"],
    )


def read_models(accounts: Sequence[str], bucket_arn: str) -> list[iam.PolicyStatement]:
    """Of the bucket: what lies below models/, and nothing else."""
    return [
        _statement("ReadModelsFromOtherAccounts", accounts, ["s3:GetObject"], [f"{bucket_arn}/{MODELS_PREFIX}*"]),
        _statement(
            "ListModelsFromOtherAccounts",
            accounts,
            ["s3:ListBucket"],
            [bucket_arn],
            {"StringLike": {"s3:prefix": [f"{MODELS_PREFIX}*"]}},
        ),
        # `tidegate doctor` asks whether the archive is in the Region of the endpoint.
        _statement("LocateModelsFromOtherAccounts", accounts, ["s3:GetBucketLocation"], [bucket_arn]),
    ]


def decrypt_models(accounts: Sequence[str], region: str, partition: str = cdk.Aws.PARTITION) -> iam.PolicyStatement:
    """Of the stage's key: reading the archives, through S3 alone. Source: KMS guide, kms:ViaService."""
    conditions = {"StringLike": {"kms:ViaService": [f"s3.{region}.amazonaws.com*"]}}
    # Of a key's own policy `*` is this key.
    return _statement(
        "DecryptModelsFromOtherAccounts",
        accounts,
        ["kms:Decrypt", "kms:DescribeKey"],
        ["*"],
        conditions,
        partition=partition,
    )


def decrypt_models_under(key_arn: str, accounts: Sequence[str]) -> dict[str, Any]:
    """The same for a policy that is written by hand: that of a key which is not the stage's.

    Nothing in it is left to CloudFormation. A bucket's key is of the bucket's own Region, so its ARN says the rest.
    Source: S3 guide, "Specifying server-side encryption with AWS KMS".
    """
    _, partition, _, region, *_ = key_arn.split(":")
    statement: dict[str, Any] = decrypt_models(accounts, region, partition).to_statement_json()
    return statement


def deploy_versions(accounts: Sequence[str], stack: cdk.Stack, group: str) -> dict[str, Any]:
    """The policy of the model package group: see its versions, and make a model of one. Approving stays here."""
    principal = {"AWS": [_root(account) for account in accounts]}
    packages = stack.format_arn(service="sagemaker", resource="model-package", resource_name=f"{group}/*")
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "SeeGroupFromOtherAccounts",
                "Effect": "Allow",
                "Principal": principal,
                "Action": ["sagemaker:DescribeModelPackageGroup"],
                "Resource": stack.format_arn(service="sagemaker", resource="model-package-group", resource_name=group),
            },
            {
                "Sid": "DeployVersionsFromOtherAccounts",
                "Effect": "Allow",
                "Principal": principal,
                "Action": ["sagemaker:CreateModel", "sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages"],
                "Resource": packages,
            },
        ],
    }


def _statement(
    sid: str,
    accounts: Sequence[str],
    actions: list[str],
    resources: list[str] | None = None,
    conditions: dict[str, Any] | None = None,
    *,
    partition: str = cdk.Aws.PARTITION,
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid,
        principals=[iam.ArnPrincipal(_root(account, partition)) for account in accounts],
        actions=actions,
        resources=resources,
        conditions=conditions,
    )


def _root(account: str, partition: str = cdk.Aws.PARTITION) -> str:
    """All of an account, so far as its own policies allow."""
    return f"arn:{partition}:iam::{account}:root"
