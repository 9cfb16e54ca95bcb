"""What is seen of an endpoint around one deploy of its stack: plain values, which go into the report as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An endpoint at one moment; of its component, if it has one, too."""

    status: str
    config: str
    # What SageMaker says of the last failure; empty where there was none.
    why: str
    # As AWS writes the time of the last change.
    changed: str
    # None where the endpoint says none, as one with components.
    instances: int | None
    # What may be scaled by Application Auto Scaling: the number of its targets.
    scalable: int
    component_status: str | None = None
    component_model: str | None = None
    component_why: str | None = None

    @property
    def in_service(self) -> bool:
        """Whether all of it is."""
        return {self.status, self.component_status or "InService"} == {"InService"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One deploy: what was asked for, how it ended, and how clients fared meanwhile."""

    what: str
    seconds: float
    # Of the stack, at its end.
    stack: str
    # What CloudFormation answered, where it took no update at all.
    refused: str | None
    # What failed, the first first: the resource and its reason.
    failures: tuple[str, ...]
    # The configuration and the model that the template names.
    wanted_config: str
    wanted_model: str
    before: Standing | None
    after: Standing | None
    # Whether the configuration from before is still there.
    config_from_before_is_there: bool
    # By what came back: a model's answer, or the code of an error.
    answers: Mapping[str, int]

    @property
    def failed_requests(self) -> int:
        """Those that got no model's answer; errors have their codes in capitals."""
        return sum(count for answer, count in self.answers.items() if answer[:1].isupper())

    @property
    def went_back(self) -> bool:
        """Whether the endpoint serves with the configuration from before, and not with the one that was asked for."""
        return (
            self.before is not None
            and self.after is not None
            and self.after.config == self.before.config != self.wanted_config
        )
