"""Whether as many instances can be had: quotas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    if found.value < need.first and need.instead_of is not None:
        sentence = f"{has}, so not all {need.first} could be of this type where {need.instead_of} is short."
        severity = Severity.WARNING
    elif found.value < need.most and need.reserved:
        # AWS does not say whether instances of a training plan count, and we have not seen it.
        sentence = f"{has}, and the stage takes {need.most} at most, if those of its reservation count."
        severity = Severity.WARNING
    elif found.value < need.first:
        sentence, severity = f"{has}, and the stage starts {_instances(need.first)}.", Severity.ERROR
    elif found.value < need.most:
        sentence = f"{has}: enough to start {need.first}, and too few for the {need.most} of an update or of the peak."
        severity = Severity.WARNING
    else:
        return ok(check, asked, f"{has}, and the stage takes {need.most} at most; other endpoints count too.")
    return Finding(check=check, asked=asked, severity=severity, sentence=sentence, command=command)


def _instances(count: int) -> str:
    return f"{count} instance{'s' if count > 1 else ''}"
