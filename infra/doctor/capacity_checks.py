"""Whether the instances can be had: quotas, and zones that offer them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tidegate.infra.configuration.network import ExistingVpc, NewVpc
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.subject import Need, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One of Service Quotas. `value` counts instances of the whole account."""

    code: str
    value: float


def quota_name(need: Need) -> str:
    """As Service Quotas has it: `ml.g6.xlarge for endpoint usage`."""
    return f"{need.instance_type} for {need.use}"


def quota(subject: Subject, need: Need, quotas: Mapping[str, Quota] | Unanswered) -> Finding:
    """`quotas` by name. What other endpoints of the account use is not known and not counted."""
    name = quota_name(need)
    check, asked = "quotas", f"servicequotas:ListServiceQuotas '{name}'"
    if isinstance(quotas, Unanswered):
        return unknown(check, asked, quotas, subject.aws("service-quotas list-service-quotas --service-code sagemaker"))
    found = quotas.get(name)
    if found is None:
        return unknown(
            check,
            asked,
            Unanswered(reason=f"Service Quotas has no quota of the name '{name}'"),
            subject.aws("service-quotas list-service-quotas --service-code sagemaker"),
        )
    command = subject.aws(
        f"service-quotas request-service-quota-increase --service-code sagemaker --quota-code {found.code}"
        f" --desired-value {need.most}"
    )
    has = f"The quota '{name}' is {found.value:g}"
    if found.value < need.first:
        sentence, severity = f"{has}, and the stage starts {_instances(need.first)}.", Severity.ERROR
    elif found.value < need.most:
        sentence = f"{has}: enough to start {need.first}, and too few for the {need.most} of an update or of the peak."
        severity = Severity.WARNING
    else:
        return ok(check, asked, f"{has}, and the stage takes {need.most} at most; other endpoints count too.")
    return Finding(check=check, asked=asked, severity=severity, sentence=sentence, command=command)


def _instances(count: int) -> str:
    return f"{count} instance{'s' if count > 1 else ''}"


def ec2_type(instance_type: str) -> str:
    """The type of Amazon EC2 that one of SageMaker is: without its `ml.`."""
    return instance_type.removeprefix("ml.")


def zones(
    subject: Subject,
    instance_type: str,
    offered: Collection[str] | Unanswered,
    used: Mapping[str, str] | Unanswered,
) -> Finding:
    """`offered`: the zones where EC2 has the type. `used`: where the network is, as zone by subnet or by number.

    That SageMaker has a type in the zones where EC2 has it is how it is in general, and not verified by us.
    """
    check, asked = "zones", f"ec2:DescribeInstanceTypeOfferings {ec2_type(instance_type)}"
    command = subject.aws(
        "ec2 describe-instance-type-offerings --location-type availability-zone"
        f" --filters Name=instance-type,Values={ec2_type(instance_type)}"
    )
    if isinstance(offered, Unanswered):
        return unknown(check, asked, offered, command)
    if not offered:
        sentence = f"No zone of {subject.region} offers {instance_type}; choose another type or Region."
        return Finding(check=check, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)
    there = ", ".join(sorted(offered))
    if subject.stage.network is None:
        return ok(check, asked, f"{instance_type} is offered in {there}.")
    if isinstance(used, Unanswered):
        return unknown(check, f"{asked}, ec2:DescribeSubnets", used, command)
    lacking = sorted(place for place, zone in used.items() if zone not in offered)
    if not lacking:
        return ok(
            check, asked, f"Every zone of the network offers {instance_type}: {', '.join(sorted(used.values()))}."
        )
    kind = "subnets" if isinstance(subject.stage.network, ExistingVpc) else "zones"
    sentence = (
        f"{instance_type} is offered in {there}, and not in {kind} {', '.join(lacking)} of the network; "
        + ("choose others" if kind == "subnets" else "choose another number of zones, or another type")
        + "."
    )
    severity = Severity.ERROR if len(lacking) == len(used) else Severity.WARNING
    return Finding(check=check, asked=asked, severity=severity, sentence=sentence, command=command)


def zones_of_new_network(network: NewVpc, of_region: Collection[str]) -> dict[str, str]:
    """The zones of a VPC that the network stack makes: the first ones of the Region, by name."""
    return {zone: zone for zone in sorted(of_region)[: network.availability_zones]}
