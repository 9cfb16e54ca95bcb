"""Where instances come from: types that are tried one after the other, or a reservation that holds them ready."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from tidegate.infra.configuration.value import InstanceType, Rule, Value

TRAINING_PLAN = "training-plan"
# A training plan whose target is `endpoint`, or an ML capacity reservation. Source: API reference,
# ProductionVariantCapacityReservationConfig, which says nothing of a name's letters; CreateTrainingPlan, which does.
_RESERVATION = r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:([a-z0-9-]{1,14})/([!-~]+)"
_PLAN_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,63}"
_LONGEST = 258


def _is_reservation(arn: str) -> bool:
    found = re.fullmatch(_RESERVATION, arn)
    if found is None or len(arn) > _LONGEST:
        return False
    return found[1] != TRAINING_PLAN or re.fullmatch(_PLAN_NAME, found[2]) is not None


Reservation = Annotated[
    str,
    AfterValidator(
        Rule(
            _is_reservation,
            "not a reservation of SageMaker; write arn:aws:sagemaker:REGION:ACCOUNT:training-plan/NAME",
            {"pattern": f"^{_RESERVATION}$", "maxLength": _LONGEST},
        )
    ),
]


class InstancePool(Value):
    """An instance type that is used if those of the tables above it are not available."""

    instance_type: InstanceType
    """Types are tried in the order of the tables."""


# Source: API reference, ProductionVariant.InstancePools, which takes one too; that is what `instance_type` says.
IS_POOLS = Rule(
    lambda pools: 2 <= len(pools) <= 5,
    "not 2 to 5 tables; for one type write instance_type",
    {"minItems": 2, "maxItems": 5},
)
