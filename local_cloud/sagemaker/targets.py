"""Who answers a request to the runtime: the container, held while the request runs, or the error in AWS's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tidegate.local_cloud.sagemaker.container_answers import (
    PRIMARY,
    Answer,
    AnswerTooLarge,
    NoAnswer,
    StreamedAnswer,
    TimedOut,
)
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import ServiceError, model_error, validation_error
from tidegate.local_cloud.sagemaker.inference_components import InferenceComponents, NoCapacity
from tidegate.local_cloud.sagemaker.instances import NoInstance, model, session
from tidegate.local_cloud.sagemaker.invocation_metrics import InvocationMetrics, Observation, Subject
from tidegate.local_cloud.sagemaker.leases import Lease
from tidegate.local_cloud.sagemaker.limits import Limits
from tidegate.local_cloud.sagemaker.state import Identity

_ORIGINAL_MESSAGE_CHARS = 2048  # ModelError, OriginalMessage
_CUT = "… (could not load the entire response body)"
_NO_RESPONSE = "Amazon SageMaker could not get a response from the primary endpoint ({})."


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The containers of endpoints and of inference components."""

    endpoints: Endpoints
    components: InferenceComponents
    identity: Identity
    limits: Limits
    metrics: InvocationMetrics

    @contextmanager
    def lease(self, name: str, members: Mapping[str, str]) -> Iterator[Lease]:
        """The container that the request goes to. Raises :class:`ServiceError` where there is none."""
        if self.endpoints.async_config(name) is not None:
            raise validation_error(f"Endpoint {name} is asynchronous: it takes only InvokeEndpointAsync.")
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(self._chosen(name, members))
            except NoCapacity:
                self.metrics.add(self._subject(name, members), "NoCapacityInvocationFailures", 1.0)
                raise
            except NoInstance as error:
                with self.metrics.observe(self._subject(name, members), Observation(), instances=0):
                    raise self._model_error(
                        name, 0, _NO_RESPONSE.format(error), "Received server error (0)", error.log
                    ) from error
            if lease.models is None and "TargetModel" in members:
                raise validation_error(
                    f"Endpoint {name} is not a multi-model endpoint and does not support target model header."
                )
            if lease.models is not None and "TargetModel" not in members:
                raise validation_error(f"Endpoint {name} is a multi-model endpoint: a request needs TargetModel.")
            subject = self._subject(name, members, lease)
            stack.enter_context(self.metrics.observe(subject, lease.observed, instances=lease.instances))
            yield lease

    def note(self, name: str, members: Mapping[str, str], lease: Lease) -> Callable[[str, float], None]:
        """What takes further metrics of a request."""
        return partial(self.metrics.add, self._subject(name, members, lease))

    def _subject(self, name: str, members: Mapping[str, str], lease: Lease | None = None) -> Subject:
        """Whose request it is; without a lease, because there is none, that of the variant which it would go to."""
        component = members.get("InferenceComponentName")
        if lease is not None:
            return Subject(endpoint=name, variant=lease.variant.name, config=lease.config, component=component)
        plan = self.endpoints.plan(name)
        names = [variant.name for variant in plan.variants] if plan is not None else []
        variant = members.get("TargetVariant") or (names[0] if names else "")
        return Subject(
            endpoint=name, variant=variant, config=plan.config_name if plan is not None else "", component=component
        )

    def max_bytes(self, lease: Lease) -> int:
        """How large a request, and an answer that is not streamed, may be."""
        return self.limits.body_bytes if lease.variant.serverless is None else self.limits.serverless_body_bytes

    def demand_size(self, lease: Lease, body: bytes, request_id: str) -> None:
        """Raises what a serverless endpoint says of a larger body; for the others the server's own limit counts.

        The wording: aws/sagemaker-python-sdk#4271.
        """
        if len(body) > self.max_bytes(lease):
            raise validation_error(f"Request {request_id} has oversize body.")

    def container_error(self, name: str, answer: Answer | StreamedAnswer, body: bytes, lease: Lease) -> ServiceError:
        """The container's own error as the caller sees it; ``body`` is as much of the answer as is shown."""
        status = answer.status
        message = body.decode(errors="replace")
        if len(message) > _ORIGINAL_MESSAGE_CHARS:
            message = f"{message[: _ORIGINAL_MESSAGE_CHARS - len(_CUT)]}{_CUT}"
        kind = "client" if status < 500 else "server"
        log = lease.log_of(answer.container)
        return self._model_error(
            name, status, message, f"Received {kind} error ({status})", log, container=answer.container
        )

    def no_answer(self, name: str, error: NoAnswer, lease: Lease) -> ServiceError:
        """What the caller sees of a container that did not answer."""
        if isinstance(error, TimedOut):
            said = f"Your invocation timed out while waiting for a response from container {error.container}."
        elif isinstance(error, AnswerTooLarge):
            said = f"The response of container {error.container} is larger than {self.max_bytes(lease)} bytes."
        else:
            said = _NO_RESPONSE.format(error)
        log = lease.log_of(error.container)
        return self._model_error(name, 0, said, "Received server error (0)", log, container=error.container)

    def _chosen(self, name: str, members: Mapping[str, str]) -> AbstractContextManager[Lease]:
        """The variant by weight or by name, or the inference component that the request names."""
        component = members.get("InferenceComponentName")
        if not self.endpoints.takes_components(name):
            if component is not None:
                raise validation_error(f"Endpoint {name} has no inference components, so a request must not name one.")
            return self.endpoints.lease(
                name,
                target_variant=members.get("TargetVariant"),
                hostname=members.get("TargetContainerHostname"),
                belongs_to=_belongs_to(members),
            )
        if component is None:
            raise validation_error(
                "Inference Component Name header is required for endpoints to which you plan to deploy inference"
                " components. Please include Inference Component Name header or consider using SageMaker models."
            )
        if "TargetContainerHostname" in members:
            raise validation_error(f"Endpoint {name} has inference components, which take no TargetContainerHostname.")
        self.endpoints.demand_invokable(name)
        return self.components.lease(name, component, belongs_to=_belongs_to(members))

    def _model_error(
        self, name: str, status: int, original: str, received: str, log: Path, *, container: str = PRIMARY
    ) -> ServiceError:
        return model_error(
            original_status=status,
            original_message=original,
            # The service's wording; in the place of the CloudWatch address stands the file that plays the log.
            message=f'{received} from {container} with message "{original}". See {log.as_uri()} in account'
            f" {self.identity.account} for more information.",
            log_stream_arn=self.identity.log_group_arn(f"/aws/sagemaker/Endpoints/{name}"),
        )


def _belongs_to(members: Mapping[str, str]) -> str | None:
    """What a request has in common with others that must go to the same instance."""
    if "TargetModel" in members:
        return model(members["TargetModel"])
    return session(members["SessionId"]) if "SessionId" in members else None
