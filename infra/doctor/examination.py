"""Everything that is looked at, in the order in which one thing needs the other."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.network import ExistingVpc, NewVpc
from tidegate.infra.doctor import (
    artifact_checks,
    capacity_checks,
    place_checks,
    reservation_checks,
    standing_checks,
    zone_checks,
)
from tidegate.infra.doctor.artifact_checks import CHECKED_BYTES, Object, Verdict
from tidegate.infra.doctor.capacity_checks import Quota
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.reservation_checks import TrainingPlan
from tidegate.infra.doctor.standing_checks import Name, Role, Taken
from tidegate.infra.doctor.subject import Need, Subject, instance_types_of, needs
from tidegate.infra.image_push.registries import ImageConfiguration, Manifest
from tidegate.infra.models.container_environment import container_environment
from tidegate.infra.models.remembered_archive import is_forgetful, with_archive
from tidegate.infra.stacks.interface_endpoints import interface_endpoints


class Answers(Protocol):
    """Who is asked: `asker.Asker`, or a stand-in. An answer that cannot be had is an `Unanswered`."""

    @property
    def region(self) -> str | None: ...
    def regions(self) -> set[str]: ...
    def is_local(self) -> bool: ...
    def account(self) -> str | Unanswered: ...
    def parameter(self, name: str) -> str | Unanswered | None: ...
    def stacks(self, names: Mapping[str, str]) -> dict[str, str] | Unanswered: ...
    def output(self, stack: str, key: str) -> str | Unanswered | None: ...
    def quotas(self) -> dict[str, Quota] | Unanswered: ...
    def training_plan(self, name: str) -> TrainingPlan | Unanswered | None: ...
    def zones_offering(self, ec2_type: str) -> set[str] | Unanswered: ...
    def zones(self) -> set[str] | Unanswered: ...
    def zones_of_endpoint_services(self, services: Collection[str]) -> dict[str, set[str]] | Unanswered: ...
    def zones_of_subnets(self, subnets: list[str]) -> dict[str, str] | Unanswered: ...
    def image(self, address: str) -> Manifest | Unanswered | None: ...
    def image_configuration(self, address: str) -> ImageConfiguration | Unanswered | None: ...
    def object(self, url: str) -> Object | Unanswered | None: ...
    def verdict(self, url: str, environment: Mapping[str, str]) -> Verdict | Unanswered: ...
    def role(self, arn: str) -> Role | Unanswered: ...
    def taken(self, name: Name) -> Taken | Unanswered: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found, and where; account and Region are None where they are not known."""

    account: str | None
    region: str | None
    findings: tuple[Finding, ...]


# What is left unasked where nobody knows whose account it is.
_THE_REST = ("bootstrap", "stacks", "quotas", "reservation", "zones", "image", "archive", "layout", "role", "names")


def examine(stage: Stage, argument: str, answers: Answers, *, qualifier: str, load: bool = True) -> Examination:
    """Look at everything that `stage` needs. With `load` its archive is downloaded and loaded."""
    region = stage.region or answers.region
    first = [place_checks.region(region, answers.regions())]
    account: str | Unanswered = Unanswered(reason="no Region is set")
    if region is not None:
        account = answers.account()
        first.append(place_checks.credentials(account, stage.account))
    if region is None or isinstance(account, Unanswered):
        why = "no Region is set" if region is None else "the account does not answer, see credentials"
        rest = [unknown(check, "nothing", Unanswered(reason=why)) for check in _THE_REST]
        return Examination(account=None, region=region, findings=(*first, *rest))
    subject = Subject(
        stage=stage, argument=argument, account=stage.account or account, region=region, qualifier=qualifier
    )
    if is_forgetful(stage) and isinstance(url := answers.parameter(subject.names.archive_parameter), str):
        subject = replace(subject, stage=with_archive(stage, url))
    rest = list(_examine(subject, answers, local=answers.is_local(), load=load))
    return Examination(account=account, region=region, findings=(*first, *rest))


def _examine(subject: Subject, answers: Answers, *, local: bool, load: bool) -> Iterator[Finding]:
    names = subject.names
    version = answers.parameter(f"/cdk-bootstrap/{subject.qualifier}/version") if subject.stage.bootstrapped else None
    yield place_checks.bootstrap(subject, version)
    statuses = answers.stacks({unit: names.stack(unit) for unit in subject.units()})
    yield from place_checks.stacks(subject, statuses)
    yield from _capacity(subject, answers, local=local)
    yield from _image(subject, answers, local=local)
    yield from _archive(subject, answers, load=load)
    yield standing_checks.role(subject, _role(subject, answers))
    standing = {} if isinstance(statuses, Unanswered) else statuses
    for name in standing_checks.names_of(subject):
        is_standing = place_checks.is_standing(standing.get(name.unit))
        yield standing_checks.name(subject, name, answers.taken(name), standing=is_standing)


def _capacity(subject: Subject, answers: Answers, *, local: bool) -> Iterator[Finding]:
    wanted = needs(subject.stage)
    if local or not wanted:
        why = "The local cloud starts processes, and counts none." if local else "The stage takes no instances."
        yield ok("quotas", "the stage file", why)
        yield ok("reservation", "the stage file", why)
        yield ok("zones", "the stage file", why)
        return
    quotas = answers.quotas()
    for need in wanted:
        yield capacity_checks.quota(subject, need, quotas)
    yield _reservation(subject, answers, wanted)
    yield from _zones(subject, answers, {need.instance_type: need.instead_of for need in wanted})


def _reservation(subject: Subject, answers: Answers, needs: Collection[Need]) -> Finding:
    arn = reservation_checks.arn_of(subject)
    if arn is None:
        return ok("reservation", "the stage file", "The stage uses on-demand instances and reserves none.")
    name = reservation_checks.plan_name(arn)
    found = None if name is None else answers.training_plan(name)
    return reservation_checks.reservation(subject, arn, found, needs, now=datetime.datetime.now(tz=datetime.UTC))


def _zones(subject: Subject, answers: Answers, instead_of: Mapping[str, str | None]) -> Iterator[Finding]:
    """`instead_of` names, by type, the one that it stands in for; what stands in need not be in every zone."""
    network = subject.stage.network
    used: Mapping[str, str] | Unanswered = {}
    match network:
        case ExistingVpc():
            used = answers.zones_of_subnets(list(network.subnets))
            if network.availability_zones:
                yield zone_checks.subnets(subject, network.availability_zones, used)
        case NewVpc():
            zones = network.named_zones or answers.zones()
            used = zones if isinstance(zones, Unanswered) else zone_checks.zones_of_new_network(network, zones)
    offered = {
        instance_type: answers.zones_offering(zone_checks.ec2_type(instance_type))
        for instance_type in instance_types_of(subject.stage)
    }
    services = [f"com.amazonaws.{subject.region}.{service}" for service in interface_endpoints(subject.stage)]
    supported = answers.zones_of_endpoint_services(services) if services else {}
    of_services = [supported] if isinstance(supported, Unanswered) else list(supported.values())
    of_first = [there for instance_type, there in offered.items() if instead_of.get(instance_type) is None]
    usable = zone_checks.zones_that_have_all(*of_first, *of_services)
    for instance_type, there in offered.items():
        yield zone_checks.instances(
            subject, instance_type, there, used, usable=usable, instead_of=instead_of.get(instance_type)
        )
    if services:
        yield zone_checks.interface_endpoints(subject, supported, used, usable=usable)


def _image(subject: Subject, answers: Answers, *, local: bool) -> Iterator[Finding]:
    address = subject.image
    manifest = None if local or address is None else answers.image(address)
    found = artifact_checks.image(subject, manifest, local=local)
    yield found
    if address is not None and isinstance(manifest, Manifest) and found.severity is Severity.OK:
        yield artifact_checks.image_configuration(subject, answers.image_configuration(address))


def _archive(subject: Subject, answers: Answers, *, load: bool) -> Iterator[Finding]:
    url = subject.archive
    found = None if url is None else answers.object(url)
    yield artifact_checks.archive(subject, found)
    verdict = None
    if url is not None and isinstance(found, Object) and load and found.size_bytes <= CHECKED_BYTES:
        verdict = answers.verdict(url, _variables(subject.stage))
    yield from artifact_checks.layout(subject, found, verdict)


def _variables(stage: Stage) -> dict[str, str]:
    """Those of the container. Its number of workers is for another machine than this."""
    return {name: value for name, value in container_environment(stage).items() if name != "TIDEGATE_WORKERS"}


def _role(subject: Subject, answers: Answers) -> Role | Unanswered | None:
    if (own := subject.stage.role.arn) is not None:
        return answers.role(own)
    arn = answers.output(subject.names.stack("endpoint"), "ExecutionRoleArn")
    return arn if arn is None or isinstance(arn, Unanswered) else answers.role(arn)
