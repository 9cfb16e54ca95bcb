"""How many instances a variant, or copies a component, is to have: read, and changed, by SageMaker's own operations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

_LOOK_S = 0.05
_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


@dataclass(frozen=True, slots=True)
class Resource:
    """``endpoint/NAME/variant/NAME`` or ``inference-component/NAME``."""

    sagemaker: Any
    id: str

    def capacity(self) -> int | None:
        """What is asked for; None where there is no such resource, or none that has a number."""
        kind, name, *rest = self.id.split("/")
        try:
            if kind == "endpoint":
                variants = self.sagemaker.describe_endpoint(EndpointName=name).get("ProductionVariants", [])
                found: dict[str, Any] = next((each for each in variants if each["VariantName"] == rest[-1]), {})
                return found.get("DesiredInstanceCount")
            described = self.sagemaker.describe_inference_component(InferenceComponentName=name)
            copies: int | None = described.get("RuntimeConfig", {}).get("DesiredCopyCount")
            return copies
        except ClientError:
            return None

    def change(self, capacity: int) -> None:
        """Raises what the service answers."""
        kind, name, *rest = self.id.split("/")
        if kind == "endpoint":
            wish = {"VariantName": rest[-1], "DesiredInstanceCount": capacity}
            self.sagemaker.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=[wish])
            return
        self.sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": capacity}
        )

    def await_rest(self, timeout_s: float) -> None:
        """Returns when the change is done, or after that long."""
        kind, name, *_ = self.id.split("/")
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if kind == "endpoint":
                    status = self.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
                else:
                    described = self.sagemaker.describe_inference_component(InferenceComponentName=name)
                    status = described["InferenceComponentStatus"]
            except ClientError:
                return
            if status not in _MOVING:
                return
            time.sleep(_LOOK_S)
