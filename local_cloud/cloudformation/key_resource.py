"""AWS::KMS::Key, through boto3: moto's own class breaks on tags and drops what a later template changes."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import json
from typing import ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, ResourceFailed, as_request, is_true

_AT_CREATION = ("KeyUsage", "KeySpec", "MultiRegion", "Origin")
_CHANGING = ("KeyPolicy", "Description", "EnableKeyRotation", "RotationPeriodInDays", "Enabled", "Tags")


class Key(Resource, CloudFormationModel):
    TYPE = "AWS::KMS::Key"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn", "KeyId": "name"}
    TAKES_STACK_TAGS = True

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        strangers = sorted(set(self.properties) - {*_AT_CREATION, *_CHANGING, "PendingWindowInDays"})
        if strangers:
            raise ResourceFailed(f"The local cloud does not have {strangers[0]} of {self.TYPE}.")
        given = {name: self.properties[name] for name in _AT_CREATION if name in self.properties}
        made = client("kms").create_key(**as_request("kms", "CreateKey", given))["KeyMetadata"]
        self.name, self.arn = made["KeyId"], made["Arn"]
        self._settle(self.properties, before={})

    def update(self, properties: Json) -> bool:
        if any(properties.get(name) != self.properties.get(name) for name in _AT_CREATION):
            return False
        self._settle(properties, before=self.properties)
        return True

    def _settle(self, properties: Json, *, before: Json) -> None:
        """Everything of a key that can change."""
        kms, key = client("kms"), {"KeyId": self.name}
        if "KeyPolicy" in properties:
            kms.put_key_policy(**key, PolicyName="default", Policy=json.dumps(properties["KeyPolicy"]))
        kms.update_key_description(**key, Description=properties.get("Description", ""))
        if is_true(properties.get("EnableKeyRotation", False)):
            period = {name: int(properties[name]) for name in ("RotationPeriodInDays",) if name in properties}
            kms.enable_key_rotation(**key, **period)
        elif is_true(before.get("EnableKeyRotation", False)):
            kms.disable_key_rotation(**key)
        if is_true(properties.get("Enabled", True)) != is_true(before.get("Enabled", True)):
            (kms.enable_key if is_true(properties.get("Enabled", True)) else kms.disable_key)(**key)
        wanted = {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}
        gone = [tag["Key"] for tag in before.get("Tags", []) if tag["Key"] not in wanted]
        if gone:
            kms.untag_resource(**key, TagKeys=gone)
        if wanted:
            kms.tag_resource(**key, Tags=[{"TagKey": name, "TagValue": value} for name, value in wanted.items()])

    def delete(self, account_id: str, region_name: str) -> None:
        days = int(self.properties.get("PendingWindowInDays", 30))
        try:
            client("kms").schedule_key_deletion(KeyId=self.name, PendingWindowInDays=days)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFoundException":
                raise
