"""What is examined: a stage in an account and a Region, with the names and the numbers that follow from its file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import (
    AsyncHosting,
    ComponentHosting,
    Instances,
    MultiModelHosting,
    RealtimeHosting,
)
from tidegate.infra.configuration.image import ImageUri, PinnedImage, TaggedImage
from tidegate.infra.configuration.model import ArchivedModel, DefaultArchive, PackagedModel
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.ecr import ecr_host
from tidegate.infra.names import MODELS_PREFIX, Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`argument` is how the stage was named on the command line, so that commands can name it too."""

    stage: Stage
    argument: str
    account: str
    region: str
    # Of `cdk bootstrap`.
    qualifier: str

    @property
    def names(self) -> Names:
        return Names(prefix=self.stage.prefix, stage=self.stage.name)

    @property
    def environment(self) -> str:
        """As the CDK writes it."""
        return f"aws://{self.account}/{self.region}"

    def cdk(self, words: str) -> str:
        """A command of the CDK for this stage."""
        return f"cdk {words} -c stage={self.argument}"

    def aws(self, words: str) -> str:
        """A command of the AWS command line in this Region."""
        return f"aws {words} --region {self.region}"

    @property
    def bucket(self) -> str:
        return self.names.bucket(self)

    @property
    def image(self) -> str | None:
        """The address of the image; None where `cdk deploy` builds one, or a package names one."""
        match self.stage.image:
            case TaggedImage(tag=tag):
                return f"{ecr_host(self.account, self.region)}/{self.names.repository}:{tag}"
            case PinnedImage(digest=digest):
                return f"{ecr_host(self.account, self.region)}/{self.names.repository}@{digest}"
            case ImageUri(uri=uri):
                return uri
            case _:
                return None

    @property
    def archive(self) -> str | None:
        """The one archive that the endpoint serves, where the file names it."""
        match self.stage.model:
            case ArchivedModel(archive=url):
                return url
            case PackagedModel(package_archive=str(url)) if url.endswith(".tar.gz"):
                return url
            case DefaultArchive() if not isinstance(self.stage.hosting, MultiModelHosting):
                return f"s3://{self.bucket}/{MODELS_PREFIX}model.tar.gz"
            case _:
                return None

    def units(self) -> tuple[str, ...]:
        """The stacks of the stage, by the names that the command line has for them."""
        stage = self.stage
        there = {
            "storage": True,
            "registry": True,
            "network": isinstance(stage.network, NewVpc),
            "endpoint": True,
            "batch": stage.batch is not None,
            "models": stage.model_registry is not None,
            "observability": stage.observability is not None or stage.budget is not None,
        }
        return tuple(unit for unit, wanted in there.items() if wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """How many instances of a type a stage takes: at its first deploy, and at most while an update runs."""

    instance_type: str
    use: str  # as the names of the quotas end
    first: int
    most: int


ENDPOINT, TRANSFORM = "endpoint usage", "transform job usage"


def needs(stage: Stage) -> list[Need]:
    """By instance type. Serverless endpoints have none.

    A blue/green update, which is what an update is unless `rollout` says otherwise, starts a whole second fleet beside
    the first. Source: SageMaker guide, blue/green deployments.
    """
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for instance_type, first, most in _fleets(stage):
        before = counts.get((instance_type, ENDPOINT), (0, 0))
        counts[instance_type, ENDPOINT] = (before[0] + first, before[1] + most)
    if stage.batch is not None:
        counts[stage.batch.instance_type, TRANSFORM] = (stage.batch.instance_count, stage.batch.instance_count)
    return [
        Need(instance_type=instance_type, use=use, first=first, most=most)
        for (instance_type, use), (first, most) in counts.items()
    ]


def _fleets(stage: Stage) -> Iterator[tuple[str, int, int]]:
    """Of each variant: its type, the instances that it begins with, and the most while an update runs."""
    hosting = stage.hosting
    match hosting:
        case ComponentHosting():
            # Copies roll within the fleet.
            yield hosting.instance_type, max(1, hosting.min_instances), hosting.max_instances
        case RealtimeHosting(variants=variants, shadow=shadow) if variants or shadow:
            for variant in variants or (None,):
                count = (variant and variant.instance_count) or hosting.instance_count
                yield (
                    (variant and variant.instance_type) or hosting.instance_type,
                    count,
                    _during_update(hosting, count),
                )
            if shadow is not None:
                count = shadow.instance_count
                yield shadow.instance_type or hosting.instance_type, count, _during_update(hosting, count)
        case RealtimeHosting() | AsyncHosting() | MultiModelHosting():
            count = hosting.instance_count
            yield hosting.instance_type, count, _during_update(hosting, count)


def _during_update(hosting: RealtimeHosting | AsyncHosting | MultiModelHosting, count: int) -> int:
    largest = max(count, hosting.scaling.max_instances if hosting.scaling is not None else 0)
    rollout: object = hosting.rollout
    if getattr(rollout, "strategy", None) == "rolling":
        return largest + max(1, math.ceil(largest * getattr(rollout, "percent", 50) / 100))
    return 2 * largest


def instance_types_of(stage: Stage) -> list[str]:
    """The types of the endpoint's instances, each once."""
    if not isinstance(stage.hosting, Instances):
        return []
    return list(dict.fromkeys(instance_type for instance_type, _, _ in _fleets(stage)))
