"""What the platform lets a request have, in bytes and seconds. Whoever wants to see a limit act sets a lower one."""

from __future__ import annotations

from dataclasses import dataclass, fields

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The defaults are AWS's where it has such a limit."""

    body_bytes: int = 25 * _MIB
    """"Model Hosting FAQs": 25 MB of payload for real-time endpoints, each way (of a stream: of the request)."""
    serverless_body_bytes: int = 4 * _MIB
    """The same page: 4 MB of payload for serverless endpoints, each way."""
    async_inline_body_bytes: int = 128_000
    """InvokeEndpointAsync, Body."""
    async_body_bytes: int = 1024 * _MIB
    """"Asynchronous inference": payloads of up to 1 GB."""
    invocation_timeout_s: float = 60.0
    """"your-algorithms-inference-code": the model has 60 seconds to answer."""
    stream_timeout_s: float = 480.0
    """"Model Hosting FAQs": 8 minutes for a streamed answer, from the request to its last byte."""

    bidirectional_timeout_s: float = 1800.0
    """A bidirectional stream: aws-samples/sample-sagemaker-marketplace-onboarding-skill, not the developer guide."""
    job_stop_grace_s: float = 120.0
    """"How Amazon SageMaker AI Runs Your Training Image", StopTrainingJob: from SIGTERM to SIGKILL."""

    instances: int = 8
    """Not AWS's: how many processes one variant, or one inference component, has at most on this machine."""

    @classmethod
    def of(cls, given: dict[str, float]) -> Limits:
        """AWS's limits, but for those that are given. Raises `ValueError` for a name or a number that is none."""
        kinds = {field.name: type(getattr(cls(), field.name)) for field in fields(cls)}
        for name, value in given.items():
            if name not in kinds:
                raise ValueError(f"there is no limit {name}; there are {', '.join(sorted(kinds))}")
            if value <= 0:
                raise ValueError(f"the limit {name} is {value:g}; it must be above 0")
        return cls(**{name: kinds[name](value) for name, value in given.items()})
