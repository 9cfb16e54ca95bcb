"""Whether a capacity reservation holds what the endpoint takes, and how long.

Source: SageMaker guide, training plans for inference endpoints; API reference, DescribeTrainingPlan.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass

from tidegate.infra.configuration.capacity import TRAINING_PLAN
from tidegate.infra.configuration.hosting import Instances
from tidegate.infra.doctor.finding import Finding, Severity, Unanswered, ok, unknown
from tidegate.infra.doctor.subject import ENDPOINT, Need, Subject
from tidegate.infra.validation.sentences import counted

_CHECK = "reservation"
# A plan that ends within these days leaves little time to get another.
_SOON = datetime.timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """One of SageMaker. `available` are the instances that nothing uses now."""

    status: str
    targets: Collection[str]
    instance_types: Collection[str]
    total: int
    available: int
    end: datetime.datetime | None


def arn_of(subject: Subject) -> str | None:
    """The reservation that the stage names."""
    hosting = subject.stage.hosting
    return hosting.capacity_reservation if isinstance(hosting, Instances) else None


def plan_name(arn: str) -> str | None:
    """The name of a training plan by its ARN; None for a reservation of another kind, which no API tells of."""
    kind, _, name = arn.rpartition(":")[2].partition("/")
    return name if kind == TRAINING_PLAN else None


def reservation(
    subject: Subject,
    arn: str,
    found: TrainingPlan | Unanswered | None,
    needs: Collection[Need],
    *,
    now: datetime.datetime,
) -> Finding:
    """`found` is None where there is no such plan; `needs` are those of the stage."""
    name = plan_name(arn)
    asked = f"sagemaker:DescribeTrainingPlan {name}"
    command = subject.aws(f"sagemaker describe-training-plan --training-plan-name {name}")
    if name is None:
        return unknown(_CHECK, "nothing", Unanswered(reason=f"{arn} is no training plan"))
    if isinstance(found, Unanswered):
        return unknown(_CHECK, asked, found, command)
    if found is None:
        sentence = f"There is no training plan {name} in {subject.region}."
        command = subject.aws("sagemaker list-training-plans")
        return Finding(check=_CHECK, asked=asked, severity=Severity.ERROR, sentence=sentence, command=command)
    need = next(need for need in needs if need.use == ENDPOINT)
    wrong = _wrong(name, found, need)
    if wrong is not None:
        return Finding(check=_CHECK, asked=asked, severity=Severity.ERROR, sentence=wrong, command=command)
    until = "" if found.end is None else f" until {found.end:%Y-%m-%d %H:%M} UTC"
    has = f"The training plan {name} holds {found.total} x {need.instance_type}{until}"
    if found.total < need.most:
        why = f"{has}: enough to start {need.first}, and too few for the {need.most} of an update or of the peak."
    elif found.end is not None and found.end - now < _SOON:
        why = f"{has}, and the endpoint stops serving then."
    else:
        return ok(_CHECK, asked, f"{has}, {found.available} of them free; the endpoint stops serving when it ends.")
    return Finding(check=_CHECK, asked=asked, severity=Severity.WARNING, sentence=why, command=command)


def _wrong(name: str, found: TrainingPlan, need: Need) -> str | None:
    """Why no instance would come from the plan."""
    if found.status != "Active":
        return f"The training plan {name} is {found.status}, and must be Active for an endpoint to use it."
    if "endpoint" not in found.targets:
        return f"The training plan {name} is for {', '.join(found.targets)}, and not for endpoints."
    if need.instance_type not in found.instance_types:
        there = ", ".join(found.instance_types)
        return f"The training plan {name} holds {there}, and the stage takes {need.instance_type}."
    if found.total < need.first:
        return f"The training plan {name} holds {counted(found.total, 'instance')}, and the stage starts {need.first}."
    return None
