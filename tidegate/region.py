"""AWS_REGION for every command: the variable that AWS's other SDKs and Lambda read, and boto3 does not."""

from __future__ import annotations

from collections.abc import MutableMapping


def honour_aws_region(environment: MutableMapping[str, str]) -> None:
    """Let AWS_DEFAULT_REGION, where it is not set, be AWS_REGION, for boto3 and for the programs started from here.

    botocore's `configprovider` reads the Region from AWS_DEFAULT_REGION and the profile only. AWS_REGION is in the list
    of all SDKs: https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    region = environment.get("AWS_REGION", "").strip()
    if region and not environment.get("AWS_DEFAULT_REGION", "").strip():
        environment["AWS_DEFAULT_REGION"] = region
