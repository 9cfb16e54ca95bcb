"""Findings of cdk-nag that we accept, each with its reason, made where the resource is."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from constructs import IConstruct


def acknowledge_wildcard(construct: IConstruct, resource: str, reason: str) -> None:
    """Accept one wildcard resource in the policies of `construct`; every other one stays an error."""
    printed = _as_printed(cdk.Stack.of(construct).resolve(resource))
    accepted = cdk.Acknowledgment(id=f"AwsSolutions-IAM5[Resource::{printed}]", reason=reason)
    cdk.Validations.of(construct).acknowledge(accepted)


def _as_printed(value: Any) -> str:
    # cdk-nag writes a reference as <AWS::Region>, and a join as its parts in a row.
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(_as_printed(part) for part in parts)
    return f"<{value['Ref']}>"
