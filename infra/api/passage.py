"""What goes through the API, as plain values: headers of a request, headers of an answer, and statuses.

Names and statuses are those of InvokeEndpoint.
Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import ComponentHosting, MultiModelHosting, RealtimeHosting
from tidegate.infra.configuration.model import Piped

_OWN = "X-Amzn-SageMaker-"
TARGET_MODEL = f"{_OWN}Target-Model"
TARGET_VARIANT = f"{_OWN}Target-Variant"
TARGET_CONTAINER = f"{_OWN}Target-Container-Hostname"
COMPONENT = f"{_OWN}Inference-Component"

# Of every mode. What a request has not, SageMaker is not sent.
_OF_EVERY_REQUEST = (
    "Content-Type",
    "Accept",
    f"{_OWN}Custom-Attributes",
    f"{_OWN}Inference-Id",
    f"{_OWN}Session-Id",
)
ANSWER_HEADERS = (
    "Content-Type",
    "x-Amzn-Invoked-Production-Variant",
    f"{_OWN}Custom-Attributes",
    f"{_OWN}New-Session-Id",
    f"{_OWN}Closed-Session-Id",
)

# ValidationError and throttling, a missing right, ModelNotReadyException, ModelError; InternalFailure,
# ServiceUnavailable, InternalDependencyException. Each goes out as it came in.
_ERRORS = ("400", "403", "424", "429", "500", "503", "530")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Headers that a caller may give, that it must give, and that the API gives by itself."""

    optional: tuple[str, ...]
    required: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()


def of_stage(stage: Stage, endpoint_name: str) -> Passage:
    """What the requests of a mode need beside the body."""
    match stage.hosting:
        case MultiModelHosting():
            return Passage(optional=_OF_EVERY_REQUEST, required=(TARGET_MODEL,))
        case ComponentHosting(adapters=()):
            # There is one, so no caller has to know its name.
            return Passage(optional=_OF_EVERY_REQUEST, fixed=((COMPONENT, endpoint_name),))
        case ComponentHosting():
            return Passage(optional=_OF_EVERY_REQUEST, required=(COMPONENT,))
        case RealtimeHosting(variants=variants) if len(variants) > 1:
            return Passage(optional=(*_OF_EVERY_REQUEST, TARGET_VARIANT))
        case _ if isinstance(stage.model, Piped) and stage.model.containers and stage.model.invocation == "direct":
            return Passage(optional=_OF_EVERY_REQUEST, required=(TARGET_CONTAINER,))
        case _:
            return Passage(optional=_OF_EVERY_REQUEST)


def statuses() -> dict[str, str | None]:
    """Which of SageMaker's statuses goes out as which: a pattern for each, and None for what nothing else matches.

    No two patterns match the same status, so their order does not matter. A status that we do not know keeps its kind.
    """
    patterns: dict[str, str | None] = {"200": None} | {status: status for status in _ERRORS}
    for kind in ("4", "5"):
        known = "|".join(status[1:] for status in _ERRORS if status[0] == kind)
        patterns[f"{kind}00"] = rf"{kind}00|{kind}(?!{known})\d{{2}}"
    return patterns
