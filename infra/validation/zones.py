"""Availability zones by name: of the stage's Region, and no more of them than subnets."""

from __future__ import annotations

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.network import ExistingVpc, NewVpc
from tidegate.infra.validation.sentences import wrong

_KEY = "network.availability_zones"


def check(stage: Stage) -> None:
    """What can be known without an account; `infra doctor` asks the account for the rest."""
    match stage.network:
        case NewVpc(named_zones=named):
            pass
        case ExistingVpc(availability_zones=named, subnets=subnets):
            if len(named) > len(subnets):
                why = f"more zones than the {len(subnets)} of network.subnets can lie in; name those of the subnets"
                raise wrong(_KEY, named, why)
        case _:
            return
    # They are all of one Region, and a zone's name is its Region's and a letter.
    if named and stage.region is not None and (there := named[0][:-1]) != stage.region:
        raise wrong(_KEY, named, f"zones of {there}, and the stage's region is {stage.region}; name zones of that one")
