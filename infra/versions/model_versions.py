"""Versions of a stage's model in SageMaker's model registry: register, list, approve, reject.

A version is an archive in the stage's bucket and an image by digest, so what was approved is what is rolled out. It
carries the archive's digests and the metrics of its training script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.models.account import asked
from tidegate.infra.models.ecr import address_of, ecr_image
from tidegate.infra.stage.names import MODELS_PREFIX, Names
from tidegate.infra.versions import served
from tidegate.infra.versions.archive_description import ArchiveDescription, describe

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BRIEFLY = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})
# What the server reads and writes by itself (docs/handlers.md); a script may take more.
_READS = ("application/json", "application/jsonlines", "text/csv", "application/x-npy", "application/x-npz")
_WRITES = ("application/json", "application/jsonlines", "text/csv", "application/x-npy")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    account: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One model package of a group."""

    number: int
    arn: str
    approval: str
    created: str
    image_uri: str
    archive_url: str
    properties: Mapping[str, str]


class ModelVersions:
    """The model package group of one stage. Every error of AWS becomes a `ConfigurationError` of one sentence."""

    def __init__(self, stage: Stage, *, progress: Callable[[int], object] = lambda _: None) -> None:
        """`progress` is told the number of bytes of each piece that was uploaded."""
        self._stage = stage
        self._progress = progress
        with asked("the account"):
            self._sagemaker, self._s3 = self._client("sagemaker"), self._client("s3")
            self.account = stage.account or self._client("sts").get_caller_identity()["Account"]
            self.region = str(self._sagemaker.meta.region_name)
        registry = stage.model_registry
        self._names = Names(prefix=stage.prefix, stage=stage.name)
        self.group = (registry and registry.group) or self._names.model_group
        self.bucket = self._names.bucket(_Place(account=self.account, region=self.region))

    def register(self, source: str, *, image: str | None, commit: str | None, description: str | None) -> Version:
        """Make a version of the archive at `source`, a path or an `s3://` address, that waits for approval.

        The same archive with the same image is one version, however often it is registered.
        """
        pinned = self._pinned(image or self._image_of_stage())
        with self._opened(source) as file:
            archive = describe(file, source)
        for version in self.versions():
            if version.properties.get("archive_sha256") == archive.sha256 and version.image_uri == pinned:
                return version
        folder = f"{MODELS_PREFIX}{archive.sha256[:16]}/"
        url = self._place(source, f"{folder}model.tar.gz", archive)
        request: dict[str, Any] = {
            "ModelPackageGroupName": self.group,
            "ModelApprovalStatus": "PendingManualApproval",
            "InferenceSpecification": {
                "Containers": [{"Image": pinned, "ModelDataUrl": url}],
                "SupportedContentTypes": sorted({*_READS, *filter(None, [archive.example_content_type])}),
                "SupportedResponseMIMETypes": list(_WRITES),
            },
            "CustomerMetadataProperties": _properties(archive),
        }
        if archive.metrics:
            request["ModelMetrics"] = self._place_metrics(f"{folder}metrics.json", archive.metrics)
        if commit is not None:
            request["MetadataProperties"] = {"CommitId": commit}
        if description is not None:
            request["ModelPackageDescription"] = description
        with asked(f"group {self.group}"):
            arn = self._sagemaker.create_model_package(**request)["ModelPackageArn"]
        return self._describe(arn)

    def versions(self) -> Iterator[Version]:
        """All of the group, the newest first."""
        with asked(f"group {self.group}"):
            pages = self._sagemaker.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=self.group, SortBy="CreationTime", SortOrder="Descending"
            )
            arns = [found["ModelPackageArn"] for page in pages for found in page["ModelPackageSummaryList"]]
        return map(self._describe, sorted(arns, key=_number, reverse=True))

    def version(self, number: int) -> Version:
        """One of them."""
        partition = self._sagemaker.meta.partition
        for_group = f"arn:{partition}:sagemaker:{self.region}:{self.account}:model-package/{self.group}"
        return self._describe(f"{for_group}/{number}")

    def decide(self, number: int, approval: str, *, note: str | None, again: bool = False) -> Version:
        """Set a version's approval to `Approved` or `Rejected`.

        A version that has it already sends no event; `again` takes the approval back first, so that it is rolled out
        anew. That is the way back to an earlier version.
        """
        version = self.version(number)
        if version.approval == approval and not again:
            raise ConfigurationError(
                f"version {number} of {self.group} is {approval} already; add --again to have it rolled out anew"
            )
        steps = ["PendingManualApproval", approval] if version.approval == approval else [approval]
        for step in steps:
            with asked(f"version {number} of {self.group}"):
                self._sagemaker.update_model_package(
                    ModelPackageArn=version.arn,
                    ModelApprovalStatus=step,
                    **({"ApprovalDescription": note} if note else {}),
                )
        return self.version(number)

    def served(self) -> Version:
        """The version that the stage's endpoint serves.

        Raises `ConfigurationError` where the endpoint went back to another than its stack names.
        """
        arn = self._named_by_stack()
        if arn is None:
            name = self._names.stack("endpoint")
            raise ConfigurationError(f"stack {name} serves no package yet; approve one, or name a version")
        served.demand(self._stage)
        return self._describe(arn)

    def has_image(self, version: Version) -> bool:
        """Whether the image is there that the version names; True also where nobody can say.

        Only Amazon ECR is asked, which may keep what it has in another account to itself.
        """
        image = ecr_image(version.image_uri)
        if image is None:
            return True
        by = "imageDigest" if _DIGEST.fullmatch(image.reference) else "imageTag"
        try:
            boto3.client("ecr", region_name=image.region, config=_BRIEFLY).describe_images(
                registryId=image.account, repositoryName=image.name, imageIds=[{by: image.reference}]
            )
        except ClientError as error:
            return error.response["Error"]["Code"] not in {"ImageNotFoundException", "RepositoryNotFoundException"}
        except BotoCoreError:
            return True
        return True

    def key_arn(self) -> str:
        """The key that the stage's archives are under: that of its file, or the one that its storage stack made."""
        if self._stage.encryption.key != "new":
            return self._stage.encryption.key
        name = self._names.key_parameter
        with asked(f"the key of stage {self._stage.name}, kept in {name}"):
            return str(self._client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def delete(self, number: int) -> None:
        """Delete a version; a group can be deleted when it has none. Its archive and its image stay.

        Raises `ConfigurationError` for the one that the endpoint's stack names.
        """
        version = self.version(number)
        if version.arn == self._named_by_stack():
            raise ConfigurationError(
                f"version {number} of {self.group} is what stack {self._names.stack('endpoint')} serves; destroy that "
                "stack first, or approve another version"
            )
        with asked(f"version {number} of {self.group}"):
            self._sagemaker.delete_model_package(ModelPackageName=version.arn)

    def _named_by_stack(self) -> str | None:
        """The package that the endpoint's stack names; None where there is no such stack, or no package in it."""
        name = self._names.stack("endpoint")
        with asked(f"stack {name}"):
            try:
                (stack,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
            except ClientError as error:
                if error.response["Error"]["Code"] == "ValidationError":  # there is none of that name
                    return None
                raise
        values = {given["ParameterKey"]: given["ParameterValue"] for given in stack.get("Parameters", [])}
        return values.get("ModelPackageArn") or None

    def _client(self, service: str) -> Any:
        return boto3.client(service, region_name=self._stage.region)

    def _describe(self, arn: str) -> Version:
        with asked(arn):
            found = self._sagemaker.describe_model_package(ModelPackageName=arn)
        container = found["InferenceSpecification"]["Containers"][0]
        return Version(
            number=_number(arn),
            arn=arn,
            approval=found["ModelApprovalStatus"],
            created=f"{found['CreationTime']:%Y-%m-%d %H:%M}",
            image_uri=container["Image"],
            archive_url=container.get("ModelDataUrl") or container["ModelDataSource"]["S3DataSource"]["S3Uri"],
            properties=found.get("CustomerMetadataProperties", {}),
        )

    def _image_of_stage(self) -> str:
        address = address_of(self._stage.image, self.account, self.region, self._names.repository)
        if address is None:
            raise ConfigurationError(
                f"{self._stage.name}.toml names no image in a registry; give --image host/name@sha256:digest"
            )
        return address

    def _pinned(self, uri: str) -> str:
        """The image by its digest: a version must run what it was approved with."""
        if _DIGEST.fullmatch(uri.rpartition("@")[2]):
            return uri
        image = ecr_image(uri)
        if image is None:
            raise ConfigurationError(
                f"--image={uri} is not in Amazon ECR, so its digest is unknown; give @sha256:digest"
            )
        with asked(f"image {uri}"):
            ecr = boto3.client("ecr", region_name=image.region)
            (found,) = ecr.describe_images(
                registryId=image.account,
                repositoryName=image.name,
                imageIds=[{"imageTag": image.reference}],
            )["imageDetails"]
        return f"{uri.rpartition(':')[0]}@{found['imageDigest']}"

    @contextmanager
    def _opened(self, source: str) -> Iterator[IO[bytes]]:
        if source.startswith("s3://"):
            bucket, _, key = source.removeprefix("s3://").partition("/")
            with asked(source):
                body = self._s3.get_object(Bucket=bucket, Key=key)["Body"]
            with closing(body):
                yield body
            return
        try:
            file = Path(source).open("rb")  # noqa: SIM115 - closed below, so that only opening is blamed on the path
        except OSError as error:
            raise ConfigurationError(f"{source} cannot be read: {error.strerror}; name a model.tar.gz") from None
        with file:
            yield file

    def _place(self, source: str, key: str, archive: ArchiveDescription) -> str:
        """Put the archive where the endpoint's role may read it; one that is there already stays."""
        url = f"s3://{self.bucket}/{key}"
        with asked(f"bucket {self.bucket}"):
            there = self._s3.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1).get("Contents", [])
            if there and there[0]["Key"] == key and there[0]["Size"] == archive.size_bytes:
                self._progress(archive.size_bytes)
            elif source.startswith("s3://"):
                bucket, _, from_key = source.removeprefix("s3://").partition("/")
                self._s3.copy({"Bucket": bucket, "Key": from_key}, self.bucket, key, Callback=self._progress)
            else:
                self._s3.upload_file(source, self.bucket, key, Callback=self._progress)
        return url

    def _place_metrics(self, key: str, metrics: Mapping[str, float]) -> dict[str, Any]:
        with asked(f"bucket {self.bucket}"):
            self._s3.put_object(
                Bucket=self.bucket, Key=key, Body=json.dumps(dict(metrics)).encode(), ContentType="application/json"
            )
        return {
            "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": f"s3://{self.bucket}/{key}"}}
        }


def _properties(archive: ArchiveDescription) -> dict[str, str]:
    # At most 50, names of 128 and values of 256 characters. Source: API reference, CreateModelPackage.
    metrics = {f"metric:{name}"[:128]: f"{value:.6g}" for name, value in sorted(archive.metrics.items())[:40]}
    return metrics | {"archive_sha256": archive.sha256, "manifest_sha256": archive.manifest_sha256}


def _number(arn: str) -> int:
    return int(arn.rpartition("/")[2])
