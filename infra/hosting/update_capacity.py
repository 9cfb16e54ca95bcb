"""How many instances of each type an account needs: those that serve, and those that an update starts beside them.

A new fleet is started whole before the old one ends (blue/green), whatever the steps in which the traffic moves, so a
quota that is enough to serve is not enough to update. A rolling update starts one batch at a time.
Source: SageMaker guide, blue/green deployments and rolling deployments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidegate.infra.configuration.hosting import Hosting
from tidegate.infra.configuration.rollout import Rolling, Rollout
from tidegate.infra.hosting import modes


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """Instances of one type: at most `serving`, and `beside` more while an update rolls out."""

    instance_type: str
    serving: int
    beside: int
    how: str
    # The type that it takes the place of, where that is short.
    instead_of: str | None = None

    @property
    def total(self) -> int:
        """What the account's quota "for endpoint usage" of that type must be."""
        return self.serving + self.beside


def needed(hosting: Hosting) -> tuple[Needed, ...]:
    """Each type once, in the order of the stage file. None for serverless endpoints, which have another quota."""
    found: dict[str, Needed] = {}
    for one in _fleets(hosting):
        before = found.get(one.instance_type)
        found[one.instance_type] = Needed(
            instance_type=one.instance_type,
            serving=one.serving + (before.serving if before else 0),
            beside=one.beside + (before.beside if before else 0),
            how=one.how,
            instead_of=one.instead_of if before is None or before.instead_of else None,
        )
    return tuple(found.values())


def _fleets(hosting: Hosting) -> Iterator[Needed]:
    plan = modes.plan(hosting)
    for fleet in plan.fleets:
        if fleet.managed:
            first = Needed(
                instance_type=fleet.instance_type, serving=fleet.most, beside=0, how="new copies start on these"
            )
        else:
            first = _fleet(fleet.instance_type, fleet.most, plan.rollout)
        yield first
        # Any of the types may be all that there is.
        for other in fleet.fallbacks:
            yield replace(first, instance_type=other, instead_of=fleet.instance_type)


def _fleet(instance_type: str, serving: int, rollout: Rollout | None) -> Needed:
    if not isinstance(rollout, Rolling):
        return Needed(instance_type=instance_type, serving=serving, beside=serving, how="blue/green")
    return Needed(
        instance_type=instance_type,
        serving=serving,
        beside=math.ceil(serving * rollout.percent / 100),
        how=f"rolling, {rollout.percent} percent at a time",
    )
