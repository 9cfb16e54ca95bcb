"""What is examined: a stage in an account and a Region, with the names and the numbers that follow from its file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import Hosting, Instances, MultiModelHosting
from tidegate.infra.configuration.model import ArchivedModel, DefaultArchive, PackagedModel
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.hosting import modes, update_capacity
from tidegate.infra.models.ecr import address_of
from tidegate.infra.stage.names import MODELS_PREFIX, Names


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
        return address_of(self.stage.image, self.account, self.region, self.names.repository)

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
            "api": stage.api is not None,
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
    # The type that this one takes the place of, where that is short.
    instead_of: str | None = None
    # Whether a reservation holds them.
    reserved: bool = False


ENDPOINT, TRANSFORM = "endpoint usage", "transform job usage"


def needs(stage: Stage) -> list[Need]:
    """By instance type. Serverless endpoints have none."""
    hosting = stage.hosting
    found = [
        Need(
            instance_type=needed.instance_type,
            use=ENDPOINT,
            first=sum(count for instance_type, count in _started(hosting) if instance_type == needed.instance_type),
            most=needed.total,
            instead_of=needed.instead_of,
            reserved=isinstance(hosting, Instances) and hosting.capacity_reservation is not None,
        )
        for needed in update_capacity.needed(hosting)
    ]
    if (batch := stage.batch) is not None:
        count = batch.instance_count
        found.append(Need(instance_type=batch.instance_type, use=TRANSFORM, first=count, most=count))
    return found


def _started(hosting: Hosting) -> Iterator[tuple[str, int]]:
    """The instances of a first deploy, by type."""
    for fleet in modes.plan(hosting).fleets:
        yield from ((instance_type, fleet.first) for instance_type in fleet.types)


def instance_types_of(stage: Stage) -> list[str]:
    """The types of the endpoint's instances, each once."""
    return list(dict.fromkeys(instance_type for instance_type, _ in _started(stage.hosting)))
