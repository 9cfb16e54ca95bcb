"""The model registry: groups of versioned model packages, their approval, and the containers that they describe.

A change of a package's approval is announced to EventBridge as the service announces it, so rules that wait for one see
it. Packages outside a group, validation and marketplace are not here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from local_cloud.sagemaker.errors import ServiceError, validation_exception
from local_cloud.sagemaker.state import Identity, Json, Tags, now, page

logger = logging.getLogger(__name__)

_PENDING = "PendingManualApproval"  # CreateModelPackage, ModelApprovalStatus: the default of versioned packages

Announce = Callable[[str, str, Json], None]
"""Takes what happened (EventBridge's detail-type), the ARN that it happened to, and the detail."""


@dataclass(slots=True, kw_only=True)
class Package:
    """One version of a group; ``request`` is the CreateModelPackage request with all later changes."""

    group: str
    version: int
    arn: str
    created: datetime
    modified: datetime
    request: Json

    @property
    def approval(self) -> str:
        return str(self.request.get("ModelApprovalStatus", _PENDING))


@dataclass(slots=True, kw_only=True)
class Group:
    """A group and its versions, the oldest first. Version numbers are never used again."""

    name: str
    arn: str
    created: datetime
    request: Json
    packages: list[Package] = field(default_factory=list)
    versions: int = 0


@dataclass(slots=True, kw_only=True)
class ModelPackages:
    """All groups of this SageMaker."""

    identity: Identity
    tags: Tags
    announce: Announce
    _groups: dict[str, Group] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # groups

    def create_group(self, request: Json) -> Json:
        name = request["ModelPackageGroupName"]
        arn = self.identity.arn("model-package-group", name)
        with self._lock:
            if name in self._groups:
                raise validation_exception(f"Model Package Group already exists: {arn}")
            self._groups[name] = Group(name=name, arn=arn, created=now(), request=request)
            self.tags.add(arn, request.get("Tags", []))
        return {"ModelPackageGroupArn": arn}

    def describe_group(self, request: Json) -> Json:
        with self._lock:
            group = self._group(request["ModelPackageGroupName"])
            return {
                **{key: value for key, value in group.request.items() if key != "Tags"},
                "ModelPackageGroupArn": group.arn,
                "CreationTime": group.created,
                "CreatedBy": {},
                "ModelPackageGroupStatus": "Completed",
            }

    def list_groups(self, request: Json) -> Json:
        with self._lock:
            summaries = [
                {
                    "ModelPackageGroupName": group.name,
                    "ModelPackageGroupArn": group.arn,
                    "CreationTime": group.created,
                    "ModelPackageGroupStatus": "Completed",
                }
                for group in self._groups.values()
            ]
        items, token = page(summaries, request, name_key="ModelPackageGroupName")
        return {"ModelPackageGroupSummaryList": items} | ({"NextToken": token} if token else {})

    def delete_group(self, request: Json) -> Json:
        with self._lock:
            group = self._group(request["ModelPackageGroupName"])
            if group.packages:
                raise ServiceError(
                    "ConflictException",
                    f"Model Package Group cannot be deleted because it still contains Model Packages: {group.arn}",
                )
            del self._groups[group.name]
            self.tags.forget(group.arn)
        return {}

    # packages

    def create(self, request: Json) -> Json:
        if "ModelPackageGroupName" not in request:
            raise validation_exception("The local cloud has only model packages of a group (ModelPackageGroupName).")
        containers = request.get("InferenceSpecification", {}).get("Containers", [])
        if len(containers) != 1:
            raise validation_exception(
                "The local cloud takes model packages with exactly one container (InferenceSpecification.Containers)."
            )
        with self._lock:
            group = self._group(request["ModelPackageGroupName"])
            group.versions += 1
            moment = now()
            package = Package(
                group=group.name,
                version=group.versions,
                arn=f"{self.identity.arn('model-package', group.name)}/{group.versions}",
                created=moment,
                modified=moment,
                request={**request, "ModelPackageGroupName": group.name},
            )
            group.packages.append(package)
            self.tags.add(package.arn, request.get("Tags", []))
        self._announce(package)
        return {"ModelPackageArn": package.arn}

    def describe(self, request: Json) -> Json:
        with self._lock:
            package = self._package(request["ModelPackageName"])
            described = {key: value for key, value in package.request.items() if key not in ("Tags", "ClientToken")}
            return {
                **described,
                **_summary(package),
                "LastModifiedTime": package.modified,
                "ModelPackageStatusDetails": {"ValidationStatuses": []},
            }

    def list(self, request: Json) -> Json:
        """Without a group only packages outside of groups are listed, unless the type says otherwise; here are none."""
        wanted = request.get("ModelPackageGroupName", "")
        if not wanted and request.get("ModelPackageType", "Unversioned") == "Unversioned":
            return {"ModelPackageSummaryList": []}
        with self._lock:
            groups = [self._group(wanted)] if wanted else list(self._groups.values())
            packages = [package for group in groups for package in group.packages]
            status = request.get("ModelApprovalStatus")
            summaries = [_summary(package) for package in packages if status in (None, package.approval)]
        # Two versions may have the same moment; a list in the order of versions keeps them apart.
        summaries.sort(key=lambda summary: summary["ModelPackageVersion"], reverse=True)
        items, token = page(summaries, request, name_key="ModelPackageArn")
        return {"ModelPackageSummaryList": items} | ({"NextToken": token} if token else {})

    def update(self, request: Json) -> Json:
        with self._lock:
            package = self._package(request["ModelPackageArn"])
            before = package.approval
            changed = dict(package.request)
            for member in ("ModelApprovalStatus", "ApprovalDescription"):
                if member in request:
                    changed[member] = request[member]
            gone = set(request.get("CustomerMetadataPropertiesToRemove", []))
            kept = {
                key: value for key, value in changed.get("CustomerMetadataProperties", {}).items() if key not in gone
            }
            changed["CustomerMetadataProperties"] = kept | request.get("CustomerMetadataProperties", {})
            package.request, package.modified = changed, now()
        if package.approval != before:
            self._announce(package)
        return {"ModelPackageArn": package.arn}

    def delete(self, request: Json) -> Json:
        with self._lock:
            package = self._package(request["ModelPackageName"])
            self._groups[package.group].packages.remove(package)
            self.tags.forget(package.arn)
        return {}

    def container(self, name: str) -> Json:
        """The container that a package describes, for a model that names it."""
        with self._lock:
            container: Json = self._package(name).request["InferenceSpecification"]["Containers"][0]
            return container

    def arns(self) -> set[str]:
        with self._lock:
            groups = self._groups.values()
            return {group.arn for group in groups} | {item.arn for group in groups for item in group.packages}

    def _group(self, name: str) -> Group:
        """By name, or by ARN, which the service takes too and which has small letters only."""
        for group in self._groups.values():
            if name in (group.name, group.arn):
                return group
        arn = name if name.startswith("arn:") else self.identity.arn("model-package-group", name)
        raise validation_exception(f'Could not find model package group "{arn}".')

    def _package(self, name: str) -> Package:
        """By ARN, or by what follows ``model-package/`` in it."""
        tail = name.partition(":model-package/")[2] or name
        for group in self._groups.values():
            for package in group.packages:
                if tail.lower() == f"{group.name}/{package.version}".lower():
                    return package
        raise validation_exception(f"Could not find model package {name}.")

    def _announce(self, package: Package) -> None:
        # The event has the creation in milliseconds (EventBridge, "SageMaker Model Package State Change").
        detail = {
            **_summary(package),
            "ModelPackageName": f"{package.group}/{package.version}",
            "CreationTime": int(package.created.timestamp() * 1000),
        }
        try:
            self.announce("SageMaker Model Package State Change", package.arn, detail)
        except Exception:
            # The registry's own work is done; who listens must not undo it.
            logger.exception("the state of %s could not be announced", package.arn)


def _summary(package: Package) -> Json:
    summary: Json = {
        "ModelPackageGroupName": package.group,
        "ModelPackageVersion": package.version,
        "ModelPackageArn": package.arn,
        "CreationTime": package.created,
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": package.approval,
    }
    if "ModelPackageDescription" in package.request:
        summary["ModelPackageDescription"] = package.request["ModelPackageDescription"]
    return summary
