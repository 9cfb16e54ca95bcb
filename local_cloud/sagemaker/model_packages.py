"""The model registry: versioned model packages of a group and packages by themselves, and the containers in them.

A change of a package's approval is announced to EventBridge as the service announces it, so rules that wait for one see
it. Nothing is validated, and there is no marketplace: what asks for either is kept and described.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_exception
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, now, page

logger = logging.getLogger(__name__)

_PENDING = "PendingManualApproval"  # CreateModelPackage, ModelApprovalStatus: the default of versioned packages

_REPLACED = ("ModelApprovalStatus", "ApprovalDescription", "SourceUri", "ModelCard", "ModelLifeCycle")
"""What UpdateModelPackage puts in the place of what was there."""

Announce = Callable[[str, str, Json], None]
"""Takes what happened (EventBridge's detail-type), the ARN that it happened to, and the detail."""


@dataclass(slots=True, kw_only=True)
class Package:
    """A version of a group, or a package by itself; ``request`` is the CreateModelPackage request with later changes.

    ``name`` is what follows ``model-package/`` in the ARN, as it was given: ``GROUP/VERSION`` or ``NAME``.
    """

    name: str
    group: str | None
    version: int  # 0 outside a group
    arn: str
    created: datetime
    modified: datetime
    request: Json

    @property
    def approval(self) -> str | None:
        return None if self.group is None else str(self.request.get("ModelApprovalStatus", _PENDING))


@dataclass(slots=True, kw_only=True)
class Group:
    """A group and its versions, the oldest first. Version numbers are never used again."""

    name: str
    arn: str
    created: datetime
    request: Json
    policy: str | None = None
    packages: list[Package] = field(default_factory=list)
    versions: int = 0


@dataclass(slots=True, kw_only=True)
class ModelPackages:
    """All groups of this SageMaker."""

    KEPT: ClassVar[tuple[str, ...]] = ("_groups", "_unversioned")

    identity: Identity
    tags: Tags
    announce: Announce
    _groups: dict[str, Group] = field(default_factory=dict)
    _unversioned: list[Package] = field(default_factory=list)
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

    def put_policy(self, request: Json) -> Json:
        """Kept and described; rights are not enforced here."""
        with self._lock:
            group = self._group_of_policy(request)
            group.policy = request["ResourcePolicy"]
            return {"ModelPackageGroupArn": group.arn}

    def get_policy(self, request: Json) -> Json:
        with self._lock:
            return {"ResourcePolicy": _policy_of(self._group_of_policy(request))}

    def delete_policy(self, request: Json) -> Json:
        with self._lock:
            group = self._group_of_policy(request)
            _policy_of(group)
            group.policy = None
        return {}

    # packages

    def create(self, request: Json) -> Json:
        if ("ModelPackageGroupName" in request) == ("ModelPackageName" in request):
            raise validation_exception(
                "CreateModelPackage takes either ModelPackageGroupName, for a new version, or ModelPackageName."
            )
        containers = request.get("InferenceSpecification", {}).get("Containers", [])
        if len(containers) != 1:
            raise validation_exception(
                "The local cloud takes model packages with exactly one container (InferenceSpecification.Containers)."
            )
        with self._lock:
            package = self._version(request) if "ModelPackageGroupName" in request else self._by_itself(request)
            self.tags.add(package.arn, request.get("Tags", []))
        self._announce(package)
        return {"ModelPackageArn": package.arn}

    def _version(self, request: Json) -> Package:
        group = self._group(request["ModelPackageGroupName"])
        group.versions += 1
        moment = now()
        package = Package(
            name=f"{group.name}/{group.versions}",
            group=group.name,
            version=group.versions,
            arn=f"{self.identity.arn('model-package', group.name)}/{group.versions}",
            created=moment,
            modified=moment,
            request={**request, "ModelPackageGroupName": group.name},
        )
        group.packages.append(package)
        return package

    def _by_itself(self, request: Json) -> Package:
        name = request["ModelPackageName"]
        arn = self.identity.arn("model-package", name)
        if any(package.arn == arn for package in self._unversioned):
            raise validation_exception(f"Model Package already exists: {arn}")
        moment = now()
        # Approval does not apply outside a group (CreateModelPackage, ModelApprovalStatus).
        kept = {key: value for key, value in request.items() if key != "ModelApprovalStatus"}
        package = Package(name=name, group=None, version=0, arn=arn, created=moment, modified=moment, request=kept)
        self._unversioned.append(package)
        return package

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
        """Without a group only packages outside of groups are listed, unless the type says otherwise."""
        wanted = request.get("ModelPackageGroupName", "")
        kind = "Versioned" if wanted else request.get("ModelPackageType", "Unversioned")
        with self._lock:
            groups = [self._group(wanted)] if wanted else list(self._groups.values())
            packages = list(self._unversioned) if kind != "Versioned" else []
            if kind != "Unversioned":
                packages += [package for group in groups for package in group.packages]
            status = request.get("ModelApprovalStatus")
            summaries = [_summary(package) for package in packages if status in (None, package.approval)]
        # Two versions may have the same moment; a list in the order of versions keeps them apart.
        summaries.sort(key=lambda summary: summary.get("ModelPackageVersion", 0), reverse=True)
        items, token = page(summaries, request, name_key="ModelPackageArn")
        return {"ModelPackageSummaryList": items} | ({"NextToken": token} if token else {})

    def update(self, request: Json) -> Json:
        with self._lock:
            package = self._package(request["ModelPackageArn"])
            before = package.approval
            changed = dict(package.request)
            if package.group is None and "ModelApprovalStatus" in request:
                raise validation_exception(f"{package.arn} is in no group, so it has no ModelApprovalStatus.")
            changed |= {member: request[member] for member in _REPLACED if member in request}
            gone = set(request.get("CustomerMetadataPropertiesToRemove", []))
            kept = {
                key: value for key, value in changed.get("CustomerMetadataProperties", {}).items() if key not in gone
            }
            kept |= request.get("CustomerMetadataProperties", {})
            changed.pop("CustomerMetadataProperties", None)
            changed |= {"CustomerMetadataProperties": kept} if kept else {}
            package.request, package.modified = changed, now()
        if package.approval != before:
            self._announce(package)
        return {"ModelPackageArn": package.arn}

    def delete(self, request: Json) -> Json:
        with self._lock:
            package = self._package(request["ModelPackageName"])
            packages = self._unversioned if package.group is None else self._groups[package.group].packages
            packages.remove(package)
            self.tags.forget(package.arn)
        return {}

    def container(self, name: str) -> Json:
        """The container that a package describes, for a model that names it."""
        with self._lock:
            container: Json = self._package(name).request["InferenceSpecification"]["Containers"][0]
            return container

    def arns(self) -> set[str]:
        with self._lock:
            return {group.arn for group in self._groups.values()} | {package.arn for package in self._all()}

    def _all(self) -> Iterator[Package]:
        yield from self._unversioned
        for group in self._groups.values():
            yield from group.packages

    def _group(self, name: str) -> Group:
        """By name, or by ARN, which the service takes too and which has small letters only.

        The service's sentences, also those below, are those by which its own CloudFormation handlers know what is
        missing: github.com/aws-cloudformation/aws-cloudformation-resource-providers-sagemaker.
        """
        group = self._found(name)
        if group is None:
            raise validation_exception(f"ModelPackageGroup {self._group_arn(name)} does not exist.")
        return group

    def _group_of_policy(self, request: Json) -> Group:
        name = request["ModelPackageGroupName"]
        group = self._found(name)
        if group is None:
            raise validation_exception(f"Cannot find Model Package Group: {self._group_arn(name)}")
        return group

    def _found(self, name: str) -> Group | None:
        return next((group for group in self._groups.values() if name in (group.name, group.arn)), None)

    def _group_arn(self, name: str) -> str:
        return name if name.startswith("arn:") else self.identity.arn("model-package-group", name)

    def _package(self, name: str) -> Package:
        """By ARN, or by what follows ``model-package/`` in it."""
        tail = name.partition(":model-package/")[2] or name
        for package in self._all():
            if tail.lower() == package.name.lower():
                return package
        arn = name if name.startswith("arn:") else self.identity.arn("model-package", name)
        raise validation_exception(f"ModelPackage {arn} does not exist.")

    def _announce(self, package: Package) -> None:
        # The event has the creation in milliseconds (EventBridge, "SageMaker Model Package State Change").
        detail = {
            **_summary(package),
            "ModelPackageName": package.name,
            "CreationTime": int(package.created.timestamp() * 1000),
        }
        try:
            self.announce("SageMaker Model Package State Change", package.arn, detail)
        except Exception:
            # The registry's own work is done; who listens must not undo it.
            logger.exception("the state of %s could not be announced", package.arn)


def _policy_of(group: Group) -> str:
    if group.policy is None:
        raise validation_exception(f"Cannot find resource policy for: {group.arn}")
    return group.policy


def _summary(package: Package) -> Json:
    summary: Json = {
        "ModelPackageArn": package.arn,
        "CreationTime": package.created,
        "ModelPackageStatus": "Completed",
    }
    if package.group is None:
        summary["ModelPackageName"] = package.name
    else:
        summary |= {
            "ModelPackageGroupName": package.group,
            "ModelPackageVersion": package.version,
            "ModelApprovalStatus": package.approval,
        }
    if "ModelPackageDescription" in package.request:
        summary["ModelPackageDescription"] = package.request["ModelPackageDescription"]
    return summary
