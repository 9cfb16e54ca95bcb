"""What Amazon ECR's own scan found in an image: waited for, and judged.

The stage's repository scans every push. Basic scanning ends as COMPLETE, enhanced scanning (Amazon Inspector) stays
ACTIVE, since it goes on with every new finding that becomes known.
Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.models.account import asked
from tidegate.infra.models.ecr import EcrImage, ecr_host

# The least bad first.
SEVERITIES = ("informational", "low", "medium", "high", "critical")
_POLL_S = 10.0
_DONE = frozenset({"COMPLETE", "ACTIVE"})
_ON_ITS_WAY = frozenset({"PENDING", "IN_PROGRESS"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Hole:
    """One finding of a scan."""

    # As ECR writes it, in small letters; one that is not of `SEVERITIES` was not judged by ECR either.
    severity: str
    name: str
    package: str

    def is_at_least(self, severity: str) -> bool:
        """Whether it is as bad as that; False where nobody judged it."""
        return self.severity in SEVERITIES and SEVERITIES.index(self.severity) >= SEVERITIES.index(severity)


def await_findings(
    ecr: Any, image: EcrImage, *, timeout_s: float, sleep: Callable[[float], None] = time.sleep
) -> tuple[Hole, ...]:
    """All findings of a scan of `image`, once it is over.

    Raises `ConfigurationError` where there is none within `timeout_s`, or where ECR does not scan such an image.
    """
    address = f"{ecr_host(image.account, image.region)}/{image.name}"
    waited_s = 0.0
    while True:
        status, description = _status(ecr, image, address)
        if status in _DONE:
            return tuple(sorted(_holes(ecr, image, address), reverse=True))
        if status is not None and status not in _ON_ITS_WAY:
            raise ConfigurationError(
                f"{address}: the scan of {image.reference} is {status}{description}; see its image in the console of "
                "Amazon ECR, or scan it by another tool"
            )
        if waited_s >= timeout_s:
            raise ConfigurationError(
                f"{address}: there is no scan of {image.reference} after {waited_s:.9g} s ({status or 'none begun'}); "
                "the stage's repository scans every push, others by 'aws ecr start-image-scan'"
            )
        pause_s = min(_POLL_S, timeout_s - waited_s)
        sleep(pause_s)
        waited_s += pause_s


def judged(holes: Iterable[Hole], *, fail_on: str, accepted: Collection[str]) -> tuple[Hole, ...]:
    """Those that are at least as bad as `fail_on`, without the ones that were accepted by their names."""
    return tuple(hole for hole in holes if hole.is_at_least(fail_on) and hole.name not in accepted)


def _request(image: EcrImage) -> dict[str, Any]:
    by = "imageDigest" if image.reference.startswith("sha256:") else "imageTag"
    return {"registryId": image.account, "repositoryName": image.name, "imageId": {by: image.reference}}


def _status(ecr: Any, image: EcrImage, address: str) -> tuple[str | None, str]:
    """The status and what ECR says to it; None where no scan began yet."""
    with asked(f"the scan of {address}"):
        try:
            found = ecr.describe_image_scan_findings(**_request(image))["imageScanStatus"]
        except ecr.exceptions.ScanNotFoundException:
            return None, ""
    description = str(found.get("description", "")).rstrip(".")
    return str(found["status"]), f" ({description})" if description else ""


def _holes(ecr: Any, image: EcrImage, address: str) -> Iterator[Hole]:
    with asked(f"the scan of {address}"):
        pages = list(ecr.get_paginator("describe_image_scan_findings").paginate(**_request(image)))
    for page in pages:
        findings = page.get("imageScanFindings", {})
        yield from (_basic(finding) for finding in findings.get("findings", []))
        yield from (_enhanced(finding) for finding in findings.get("enhancedFindings", []))


def _basic(finding: dict[str, Any]) -> Hole:
    attributes = {each["key"]: each.get("value", "") for each in finding.get("attributes", [])}
    package = f"{attributes.get('package_name', '')} {attributes.get('package_version', '')}".strip()
    return Hole(severity=_severity(finding), name=str(finding.get("name", "")), package=package)


def _enhanced(finding: dict[str, Any]) -> Hole:
    details = finding.get("packageVulnerabilityDetails", {})
    packages = {
        f"{each.get('name', '')} {each.get('version', '')}".strip() for each in details.get("vulnerablePackages", [])
    }
    name = str(details.get("vulnerabilityId") or finding.get("title", ""))
    return Hole(severity=_severity(finding), name=name, package=", ".join(sorted(packages)))


def _severity(finding: dict[str, Any]) -> str:
    return str(finding.get("severity", "UNDEFINED")).lower()
