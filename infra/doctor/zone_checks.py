"""Whether the zones of the network have what the stage puts there: instances, and endpoints of its VPC.

Names of zones are those of the account that is asked; another account may have other names for the same zones.
Source: Amazon RAM user guide, availability zone IDs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tidegate.infra.configuration.network import ExistingVpc, NewVpc
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.subject import Subject

_CHECK = "zones"


def ec2_type(instance_type: str) -> str:
    """The type of Amazon EC2 that one of SageMaker is: without its `ml.`."""
    return instance_type.removeprefix("ml.")


def zones_of_new_network(network: NewVpc, of_region: Collection[str]) -> dict[str, str]:
    """The zones of a VPC that the network stack makes: those that the file names, or the first ones of the Region."""
    return {zone: zone for zone in network.named_zones or sorted(of_region)[: network.zone_count]}


def zones_that_have_all(*those: Collection[str] | Unanswered) -> set[str] | None:
    """The zones that are in all of `those`; None where one of them is not known."""
    known = [set(zones) for zones in those if not isinstance(zones, Unanswered)]
    return set.intersection(*known) if known and len(known) == len(those) else None


def instances(
    subject: Subject,
    instance_type: str,
    offered: Collection[str] | Unanswered,
    used: Mapping[str, str] | Unanswered,
    *,
    usable: Collection[str] | None,
    instead_of: str | None = None,
) -> Finding:
    """`offered`: the zones where EC2 has the type. `used`: where the network is, as zone by subnet or by name.

    `usable` are the zones that have all that the stage needs, and `instead_of` is the type that this one stands in for.
    That SageMaker has a type in the zones where EC2 has it
    is how it is in general, and not verified by us.
    """
    asked = f"ec2:DescribeInstanceTypeOfferings {ec2_type(instance_type)}"
    command = subject.aws(
        "ec2 describe-instance-type-offerings --location-type availability-zone"
        f" --filters Name=instance-type,Values={ec2_type(instance_type)}"
    )
    if isinstance(offered, Unanswered):
        return unknown(_CHECK, asked, offered, command)
    if not offered:
        sentence = f"No zone of {subject.region} offers {instance_type}; choose another type or Region."
        severity = Severity.ERROR if instead_of is None else Severity.WARNING
        return Finding(check=_CHECK, asked=asked, severity=severity, sentence=sentence, command=command)
    there = ", ".join(sorted(offered))
    if subject.stage.network is None:
        return ok(_CHECK, asked, f"{instance_type} is offered in {there}.")
    if isinstance(used, Unanswered):
        return unknown(_CHECK, f"{asked}, ec2:DescribeSubnets", used, command)
    lacking = sorted(place for place, zone in used.items() if zone not in offered)
    if not lacking:
        names = ", ".join(sorted(set(used.values())))
        return ok(_CHECK, asked, f"Every zone of the network offers {instance_type}: {names}.")
    kind = "subnets" if isinstance(subject.stage.network, ExistingVpc) else "zones"
    sentence = (
        f"{instance_type} is offered in {there}, and not in {kind} {', '.join(lacking)} of the network; "
        f"{_way_out(subject, usable)}."
    )
    severity = Severity.ERROR if len(lacking) == len(used) and instead_of is None else Severity.WARNING
    return Finding(check=_CHECK, asked=asked, severity=severity, sentence=sentence, command=command)


def interface_endpoints(
    subject: Subject,
    supported: Mapping[str, Collection[str]] | Unanswered,
    used: Mapping[str, str] | Unanswered,
    *,
    usable: Collection[str] | None,
) -> Finding:
    """`supported`: the zones that each service has, by its name in full; one that the Region lacks has none.

    An endpoint takes no subnet in a zone that its service has not, so that the network's stack would fail.
    Source: AWS PrivateLink guide, interface endpoints, considerations.
    """
    asked = "ec2:DescribeVpcEndpointServices"
    if isinstance(supported, Unanswered):
        return unknown(_CHECK, asked, supported, subject.aws("ec2 describe-vpc-endpoint-services"))
    command = subject.aws(f"ec2 describe-vpc-endpoint-services --service-names {' '.join(supported)}")
    if isinstance(used, Unanswered):
        return unknown(_CHECK, f"{asked}, ec2:DescribeAvailabilityZones", used, command)
    wanted = set(used.values())
    lacking = {service: sorted(wanted - set(zones)) for service, zones in supported.items() if wanted - set(zones)}
    if not lacking:
        names = ", ".join(sorted(wanted))
        return ok(_CHECK, asked, f"Every zone of the network has the endpoints of its VPC: {names}.")
    missing = ", ".join(f"{service} in {', '.join(zones)}" for service, zones in lacking.items())
    sentence = f"There is no endpoint of {missing}; {_way_out(subject, usable)}."
    return Finding(check=_CHECK, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)


def subnets(subject: Subject, named: Collection[str], used: Mapping[str, str] | Unanswered) -> Finding:
    """Subnets that are there already against the zones that the file names."""
    asked = "ec2:DescribeSubnets"
    if isinstance(used, Unanswered):
        return unknown(_CHECK, asked, used, subject.aws("ec2 describe-subnets"))
    command = subject.aws(f"ec2 describe-subnets --subnet-ids {' '.join(used)}")
    elsewhere = sorted(f"{subnet} in {zone}" for subnet, zone in used.items() if zone not in named)
    without = sorted(set(named) - set(used.values()))
    if elsewhere:
        sentence = f"The file names the zones {', '.join(named)}, and there is {', '.join(elsewhere)}."
    elif without:
        sentence = f"None of the subnets is in {', '.join(without)}, which the file names."
    else:
        return ok(_CHECK, asked, f"The subnets are in the zones that the file names: {', '.join(named)}.")
    return Finding(check=_CHECK, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)


def _way_out(subject: Subject, usable: Collection[str] | None) -> str:
    """The zones to name, where it is known which have all."""
    if usable is None:
        return "choose other zones, or another type"
    if not usable:
        return f"no zone of {subject.region} has all that the stage needs, so choose another type or Region"
    if isinstance(subject.stage.network, ExistingVpc):
        return f"choose subnets in {', '.join(sorted(usable))}"
    return f"write availability_zones = {sorted(usable)[:6]} into [network]"
