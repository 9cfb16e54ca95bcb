"""Where instances come from: types that are tried one after the other, or a reservation that holds them ready."""

from __future__ import annotations

from typing import Annotated

from tidegate.infra.configuration.value import InstanceType, Rule, Value, like

# A training plan whose target is `endpoint`, or an ML capacity reservation. Source: API reference,
# ProductionVariantCapacityReservationConfig.
Reservation = Annotated[
    str,
    like(
        r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:[a-z0-9-]{1,14}/\S+",
        "not a reservation of SageMaker; write arn:aws:sagemaker:REGION:ACCOUNT:training-plan/NAME",
    ),
]


class InstancePool(Value):
    """An instance type that is taken where those of the tables above it are not to be had."""

    instance_type: InstanceType
    """The order of the tables is that in which they are tried."""


# Source: API reference, ProductionVariant.InstancePools, which takes one too; that is what `instance_type` says.
IS_POOLS = Rule(
    lambda pools: 2 <= len(pools) <= 5,
    "not 2 to 5 tables; for one type write instance_type",
    {"minItems": 2, "maxItems": 5},
)
