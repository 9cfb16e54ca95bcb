"""The plain state of the control plane: what was created and how it is described. It lives as long as the process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.sagemaker.errors import validation_exception

Json = dict[str, Any]
_MAX_TAGS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where this SageMaker is: decides the ARNs."""

    region: str
    account: str

    def arn(self, kind: str, name: str) -> str:
        """``kind`` is the path segment of the real ARNs: model, endpoint-config, endpoint, transform-job."""
        # The real service lower-cases the name in the ARN.
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"

    def log_group_arn(self, group: str) -> str:
        return f"arn:aws:logs:{self.region}:{self.account}:log-group:{group}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A created model; ``request`` is the CreateModel request as given, ``containers`` what is to run, by name.

    What a container's model package says is in its definition. Several are a pipeline, whose order is theirs.
    """

    name: str
    arn: str
    created: datetime
    request: Json
    containers: Mapping[str, Json]

    @property
    def container(self) -> Json:
        """The only one, or the first of a pipeline."""
        return next(iter(self.containers.values()))

    @property
    def several(self) -> bool:
        """Whether it is a pipeline."""
        return len(self.containers) > 1

    @property
    def direct(self) -> bool:
        """InferenceExecutionConfig: a request names the container that answers it."""
        return bool(self.request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct")

    @property
    def multi_model(self) -> bool:
        """Mode MultiModel: ModelDataUrl is a prefix, and requests say which archive under it they want."""
        return self.container.get("Mode") == "MultiModel"

    @property
    def isolated(self) -> bool:
        """EnableNetworkIsolation: the container gets no AWS credentials."""
        return bool(self.request.get("EnableNetworkIsolation", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """A created endpoint configuration; ``request`` is the CreateEndpointConfig request as given."""

    name: str
    arn: str
    created: datetime
    request: Json

    @property
    def variants(self) -> list[Json]:
        variants: list[Json] = self.request["ProductionVariants"]
        return variants


@dataclass(slots=True)
class Tags:
    """Tags of every resource by its ARN."""

    KEPT: ClassVar[tuple[str, ...]] = ("_by_arn",)

    _by_arn: dict[str, dict[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, arn: str, tags: Iterable[Mapping[str, str]]) -> None:
        """Raises a ValidationException for more than a resource can have (AddTags, Tags; its sentence is not known)."""
        with self._lock:
            together = self._by_arn.get(arn, {}) | {tag["Key"]: tag["Value"] for tag in tags}
            if len(together) > _MAX_TAGS:
                raise validation_exception(
                    f"{arn} would have {len(together)} tags; a resource has at most {_MAX_TAGS}."
                )
            self._by_arn[arn] = together

    def remove(self, arn: str, keys: Iterable[str]) -> None:
        with self._lock:
            for key in keys:
                self._by_arn.get(arn, {}).pop(key, None)

    def forget(self, arn: str) -> None:
        with self._lock:
            self._by_arn.pop(arn, None)

    def of(self, arn: str) -> list[dict[str, str]]:
        with self._lock:
            return [{"Key": key, "Value": value} for key, value in self._by_arn.get(arn, {}).items()]


def check_tags(tags: Iterable[Mapping[str, str]]) -> None:
    """Raises a ValidationException for tags that no resource can have.

    Source: "Tag naming and usage conventions" in the Tagging AWS Resources guide. The sentences are not verified.
    """
    keys = [tag["Key"] for tag in tags]
    for key in keys:
        if key.lower().startswith("aws:"):
            raise validation_exception(f"The tag key {key} begins with aws:, which is reserved for AWS.")
        if keys.count(key) > 1:
            raise validation_exception(f"The tag key {key} is given more than once; the keys of a resource differ.")


def now() -> datetime:
    """The time stamps of the control plane, from the cloud's clock: UTC, with milliseconds as the service has them."""
    moment = CLOCK.now()
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def page(
    summaries: Iterable[Json], request: Mapping[str, Any], *, name_key: str, status_key: str | None = None
) -> tuple[list[Json], str | None]:
    """What a List operation answers: the summaries that pass the request's filters, and the token of the next page.

    Defaults are the service's: newest first, at most 100 to a page. The token is an index into the sorted list.
    """
    chosen = [summary for summary in summaries if _passes(summary, request, name_key, status_key)]
    sort_key = {"Name": name_key, "Status": status_key}.get(request.get("SortBy", "CreationTime")) or "CreationTime"
    descending = request.get("SortOrder", "Ascending" if sort_key == name_key else "Descending") == "Descending"
    chosen.sort(key=lambda summary: summary[sort_key], reverse=descending)
    return part(chosen, request)


def part(items: list[Json], request: Mapping[str, Any]) -> tuple[list[Json], str | None]:
    """The page of ``items`` that a request asks for, and the token of the next one."""
    token = str(request.get("NextToken") or "0")
    if not (token.isascii() and token.isdigit()):
        raise validation_exception(f"NextToken is '{token}', which no answer of this operation gave.")
    start = int(token)
    end = start + int(request.get("MaxResults", 100))
    return items[start:end], str(end) if end < len(items) else None


def _passes(summary: Json, request: Mapping[str, Any], name_key: str, status_key: str | None) -> bool:
    if request.get("NameContains", "") not in summary[name_key]:
        return False
    if status_key and request.get("StatusEquals", summary[status_key]) != summary[status_key]:
        return False
    for member in ("CreationTime", "LastModifiedTime"):
        stamp = summary[member].timestamp() if member in summary else 0.0
        if f"{member}Before" in request and not stamp < float(request[f"{member}Before"]):
            return False
        if f"{member}After" in request and not stamp > float(request[f"{member}After"]):
            return False
    return True
