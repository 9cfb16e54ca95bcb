"""Asks AWS, each thing once and with little patience. Decides nothing: what an answer means is said by the checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.doctor.artifact_checks import Object, Verdict
from tidegate.infra.doctor.capacity_checks import Quota
from tidegate.infra.doctor.finding import Unanswered
from tidegate.infra.doctor.reservation_checks import TrainingPlan
from tidegate.infra.doctor.standing_checks import Name, Role, Taken
from tidegate.infra.image_push.destination import Destination
from tidegate.infra.image_push.media_types import DOCKER_MANIFEST
from tidegate.infra.image_push.registries import (
    HttpRegistry,
    ImageConfiguration,
    Manifest,
    configuration,
)
from tidegate.infra.loopback import is_loopback
from tidegate.infra.models.ecr import ecr_image

_T = TypeVar("_T")
_ABSENT = frozenset(
    {
        "404",
        "ImageNotFoundException",
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchKey",
        "ParameterNotFound",
        "RepositoryNotFoundException",
        "ResourceNotFound",
        "ResourceNotFoundException",
    }
)
_CHECK_TIMEOUT_S = 900.0
_BLOB_TIMEOUT_S = 10.0


class Asker:
    """One account in one Region. An answer that cannot be had is an `Unanswered` with the reason."""

    def __init__(self, region: str | None) -> None:
        """`region` is that of the stage file; without one the environment says it."""
        self._session = boto3.Session(region_name=region)
        # Two tries of a few seconds each: who is offline is told so, and waits for nothing.
        self._config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str | None:
        found: str | None = self._session.region_name
        return found

    def regions(self) -> set[str]:
        """Where SageMaker is, as far as the installed SDK knows."""
        session = self._session
        return {
            name
            for partition in session.get_available_partitions()
            for name in session.get_available_regions("sagemaker", partition_name=partition)
        }

    def is_local(self) -> bool:
        """Whether the cloud is on this machine, such as our own."""
        found = self._ask(lambda: urlsplit(self._client("sts").meta.endpoint_url).netloc)
        return not isinstance(found, Unanswered) and is_loopback(found)

    def account(self) -> str | Unanswered:
        return self._ask(lambda: str(self._client("sts").get_caller_identity()["Account"]))

    def parameter(self, name: str) -> str | Unanswered | None:
        """A value of Parameter Store."""
        return self._find(lambda: str(self._client("ssm").get_parameter(Name=name)["Parameter"]["Value"]))

    def stacks(self, names: Mapping[str, str]) -> dict[str, str] | Unanswered:
        """The status of each stack that is there; `names` are by unit, and so is the answer."""

        def ask() -> dict[str, str]:
            there: dict[str, str] = {}
            for unit, name in names.items():
                found = self._stack(name)
                if found is not None:
                    there[unit] = str(found["StackStatus"])
            return there

        return self._ask(ask)

    def output(self, stack: str, key: str) -> str | Unanswered | None:
        """An output of a stack; None where there is no such stack or output."""

        def ask() -> str | None:
            outputs = (self._stack(stack) or {}).get("Outputs", [])
            return next((str(found["OutputValue"]) for found in outputs if found["OutputKey"] == key), None)

        return self._ask(ask)

    def quotas(self) -> dict[str, Quota] | Unanswered:
        """Those of SageMaker, by name."""

        def ask() -> dict[str, Quota]:
            pages = (
                self._client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
            )
            return {
                quota["QuotaName"]: Quota(code=quota["QuotaCode"], value=float(quota["Value"]))
                for page in pages
                for quota in page["Quotas"]
            }

        return self._ask(ask)

    def training_plan(self, name: str) -> TrainingPlan | Unanswered | None:
        """A plan that holds instances ready."""

        def ask() -> TrainingPlan:
            found = self._client("sagemaker").describe_training_plan(TrainingPlanName=name)
            held = found.get("ReservedCapacitySummaries", [])
            return TrainingPlan(
                status=found["Status"],
                targets=tuple(found.get("TargetResources", [])),
                instance_types=tuple(dict.fromkeys(one["InstanceType"] for one in held)),
                total=found.get("TotalInstanceCount", 0),
                available=found.get("AvailableInstanceCount", 0),
                end=found.get("EndTime"),
            )

        return self._find(ask)

    def zones_offering(self, ec2_type: str) -> set[str] | Unanswered:
        """The zones of the Region that have the type, by name."""

        def ask() -> set[str]:
            pages = self._client("ec2").get_paginator("describe_instance_type_offerings")
            wanted = [{"Name": "instance-type", "Values": [ec2_type]}]
            found = pages.paginate(LocationType="availability-zone", Filters=wanted)
            return {offer["Location"] for page in found for offer in page["InstanceTypeOfferings"]}

        return self._ask(ask)

    def zones(self) -> set[str] | Unanswered:
        """All of the Region that the account may use."""
        return self._ask(
            lambda: {
                zone["ZoneName"]
                for zone in self._client("ec2").describe_availability_zones()["AvailabilityZones"]
                if zone["ZoneType"] == "availability-zone"
            }
        )

    def zones_of_endpoint_services(self, services: Collection[str]) -> dict[str, set[str]] | Unanswered:
        """The zones in which a VPC can have an endpoint of each service; none where the Region lacks the service."""

        def ask() -> dict[str, set[str]]:
            wanted = [{"Name": "service-name", "Values": list(services)}]
            found = self._client("ec2").describe_vpc_endpoint_services(Filters=wanted)["ServiceDetails"]
            return {service: set() for service in services} | {
                service["ServiceName"]: set(service["AvailabilityZones"]) for service in found
            }

        return self._ask(ask)

    def zones_of_subnets(self, subnets: list[str]) -> dict[str, str] | Unanswered:
        """The zone of each."""
        return self._ask(
            lambda: {
                subnet["SubnetId"]: subnet["AvailabilityZone"]
                for subnet in self._client("ec2").describe_subnets(SubnetIds=subnets)["Subnets"]
            }
        )

    def image(self, address: str) -> Manifest | Unanswered | None:
        """What the address names in its registry."""
        image = ecr_image(address)
        if image is None:
            return _elsewhere(address, HttpRegistry.manifest)
        by = "imageDigest" if image.reference.startswith("sha256:") else "imageTag"

        def ask() -> Manifest:
            (found,) = self._client("ecr", image.region).describe_images(
                registryId=image.account, repositoryName=image.name, imageIds=[{by: image.reference}]
            )["imageDetails"]
            return Manifest(media_type=found.get("imageManifestMediaType", ""), digest=found["imageDigest"])

        return self._find(ask)

    def image_configuration(self, address: str) -> ImageConfiguration | Unanswered | None:
        """What the image of the address says of itself, where its manifest is one that SageMaker takes."""
        image = ecr_image(address)
        if image is None:
            return _elsewhere(address, HttpRegistry.configuration)
        by = "imageDigest" if image.reference.startswith("sha256:") else "imageTag"

        def ask() -> ImageConfiguration | Unanswered | None:
            ecr = self._client("ecr", image.region)
            there = {"registryId": image.account, "repositoryName": image.name}
            found = ecr.batch_get_image(
                imageIds=[{by: image.reference}], acceptedMediaTypes=[DOCKER_MANIFEST], **there
            )["images"]
            if not found:
                return None
            digest = json.loads(found[0]["imageManifest"])["config"]["digest"]
            url = ecr.get_download_url_for_layer(layerDigest=digest, **there)["downloadUrl"]
            try:
                with urllib.request.urlopen(url, timeout=_BLOB_TIMEOUT_S) as answer:  # noqa: S310 - of Amazon S3, signed by Amazon ECR
                    return configuration(answer.read())
            except OSError as error:
                return Unanswered(reason=f"Amazon ECR keeps it in Amazon S3, which says '{error}'")

        return self._find(ask)

    def object(self, url: str) -> Object | Unanswered | None:
        """An object of S3 by its `s3://` address."""
        bucket, _, key = url.removeprefix("s3://").partition("/")

        def ask() -> Object:
            s3 = self._client("s3")
            found = s3.head_object(Bucket=bucket, Key=key)
            # Of us-east-1 there is none. Source: API reference, GetBucketLocation.
            region = s3.get_bucket_location(Bucket=bucket).get("LocationConstraint") or "us-east-1"
            return Object(size_bytes=int(found["ContentLength"]), region=region)

        return self._find(ask)

    def verdict(self, url: str, environment: Mapping[str, str]) -> Verdict | Unanswered:
        """What `tidegate check` says, in a process of its own with the variables of the container."""
        if find_spec("torch") is None:
            return Unanswered(reason="torch is not installed here, and the model is loaded to look into it")
        words = [sys.executable, "-m", "tidegate.inference", "check", url, "--json"]
        try:
            done = subprocess.run(
                words,
                env={**os.environ, **environment},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
            said = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return Unanswered(reason=f"the check took longer than {_CHECK_TIMEOUT_S:g} s")
        except ValueError:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            return Unanswered(reason=f"the check ended with status {done.returncode}: {last[0].rstrip('.')}")
        warnings = tuple(_as_sentences(warning["message"], warning["way_out"]) for warning in said["warnings"])
        return Verdict(error=said["error"], warnings=warnings)

    def role(self, arn: str) -> Role | Unanswered:
        """A role by its ARN."""
        name = arn.rpartition("/")[2]
        found = self._find(lambda: self._client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
        return found if isinstance(found, Unanswered) else Role(name=name, trust=found)

    def taken(self, name: Name) -> Taken | Unanswered:
        """Whether something bears the name."""
        calls: dict[str, Callable[[], object]] = {
            "bucket": lambda: self._client("s3").head_bucket(Bucket=name.name),
            "repository": lambda: self._client("ecr").describe_repositories(repositoryNames=[name.name]),
            "endpoint": lambda: self._listed("sagemaker", "list_endpoints", "Endpoints", "EndpointName", name.name),
            "log group": lambda: self._log_group(name.name),
        }
        try:
            return Taken.FREE if calls[name.kind]() is None else Taken.IN_THIS_ACCOUNT
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _ABSENT:
                return Taken.FREE
            # Of a bucket of somebody else, S3 says no more than that. Source: API reference, HeadBucket.
            if name.kind == "bucket" and code in {"403", "AccessDenied"}:
                return Taken.ELSEWHERE
            return Unanswered(reason=_reason(error))
        except BotoCoreError as error:
            return Unanswered(reason=_reason(error))

    def _listed(self, service: str, operation: str, member: str, key: str, name: str) -> str | None:
        pages = self._client(service).get_paginator(operation).paginate(NameContains=name)
        return next((name for page in pages for found in page[member] if found[key] == name), None)

    def _log_group(self, name: str) -> str | None:
        found = self._client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        return next((name for group in found if group["logGroupName"] == name), None)

    def _stack(self, name: str) -> dict[str, Any] | None:
        try:
            (found,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            # There is no code of its own for that. Source: API reference, DescribeStacks.
            if error.response["Error"]["Code"] == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        stack: dict[str, Any] = found
        return stack

    def _client(self, service: str, region: str | None = None) -> Any:
        key = f"{service} {region}"
        if key not in self._clients:
            self._clients[key] = self._session.client(service, region_name=region, config=self._config)
        return self._clients[key]

    def _find(self, call: Callable[[], _T]) -> _T | Unanswered | None:
        """An answer, or None where there is no such thing."""
        try:
            return call()
        except ClientError as error:
            return None if error.response["Error"]["Code"] in _ABSENT else Unanswered(reason=_reason(error))
        except BotoCoreError as error:
            return Unanswered(reason=_reason(error))

    def _ask(self, call: Callable[[], _T]) -> _T | Unanswered:
        try:
            return call()
        except (BotoCoreError, ClientError) as error:
            return Unanswered(reason=_reason(error))


def _as_sentences(*texts: str) -> str:
    """What a check says, which ends no text by a full stop, in a row."""
    return " ".join(f"{text.strip().rstrip('.')}." for text in texts if text.strip())


def _reason(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, ClientError):
        found = error.response["Error"]
        return f"AWS says '{found['Message'].rstrip('.')}' ({found['Code']})"
    return str(error).rstrip(".")


def _elsewhere(address: str, ask: Callable[[HttpRegistry], _T | None]) -> _T | Unanswered | None:
    """What a registry that is not Amazon ECR says."""
    name, _, digest = address.partition("@")
    host, _, path = name.partition("/")
    repository, _, tag = path.partition(":")
    registry = HttpRegistry(Destination(host=host, repository=repository, tag=digest or tag, of_stage=False))
    try:
        return ask(registry)
    except ConfigurationError as error:
        return Unanswered(reason=str(error))
