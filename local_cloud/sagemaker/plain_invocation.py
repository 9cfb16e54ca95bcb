"""InvokeEndpoint, in two halves: up to the question to the container, and from what came of it to the answer.

Between them a thread waits for the container, or nobody does: see :mod:`.http_front`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from tidegate.local_cloud.sagemaker import wire
from tidegate.local_cloud.sagemaker.caller import Caller
from tidegate.local_cloud.sagemaker.container_answers import Answer, NoAnswer
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.data_capture import DataCapture, Exchange
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.instances import Instances, NoInstance
from tidegate.local_cloud.sagemaker.invocation_members import container_headers, read_members, returned_headers
from tidegate.local_cloud.sagemaker.leases import Lease, first_taken
from tidegate.local_cloud.sagemaker.multi_model import LoadRefused, NoSuchModel, NotReady
from tidegate.local_cloud.sagemaker.roles import role_of
from tidegate.local_cloud.sagemaker.shadow_traffic import Copy, ShadowTraffic
from tidegate.local_cloud.sagemaker.targets import Targets


@dataclass(frozen=True, slots=True)
class PlainInvocations:
    """Begins them."""

    targets: Targets
    captures: DataCapture
    shadows: ShadowTraffic

    def begin(self, name: str, request: Request) -> Invocation:
        """Raises :class:`ServiceError` where the container is not to be asked at all."""
        members = read_members("InvokeEndpoint", name, request.headers)
        with ExitStack() as entered:
            lease = entered.enter_context(self.targets.lease(name, members))
            self.targets.demand_size(lease, request.body, request.id)
            headers = container_headers(members) | dict(lease.headers)
            begun = Invocation(self, name, members, headers, request.body, lease, ExitStack())
            if lease.shadow is not None:
                begun.copy_to(lease.shadow)
            lease.observed.ask()
            begun.held = entered.pop_all()
        return begun


@dataclass(slots=True)
class Invocation:
    """One that has begun: it holds its container until :meth:`answer` or :meth:`finish`, one of which must be called.

    Both return errors as answers.
    """

    of: PlainInvocations
    name: str
    members: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    lease: Lease
    held: ExitStack

    @property
    def client(self) -> ContainerClient | None:
        """Whom to ask; None where that is more than one question with one answer, or the answer is worked on at length.

        Then :meth:`answer` does it.
        """
        client = self.lease.client
        plain = self.lease.models is None and self.lease.capture_config is None
        return client if plain and isinstance(client, ContainerClient) else None

    @property
    def timeout_s(self) -> float:
        """How long the container may take."""
        return self.of.targets.limits.invocation_timeout_s

    @property
    def max_bytes(self) -> int:
        """How large the answer may be."""
        return self.of.targets.max_bytes(self.lease)

    def elsewhere(self) -> ContainerClient | None:
        """Whom to ask where :attr:`client` has not taken the request; None where no other instance is there."""
        try:
            self.lease = self.lease.elsewhere()
        except NoInstance:
            return None
        return self.client

    def answer(self, caller: Caller) -> Response:
        """Asks, and waits for the answer."""
        try:
            with self.held:
                try:
                    outcome: Answer | NoAnswer = self._asked(caller)
                except NoAnswer as error:
                    outcome = error
                return self._answered(outcome)
        except ServiceError as error:
            return wire.error_answer(error)

    def finish(self, outcome: Answer | NoAnswer) -> Response:
        """The answer, made of that of the container, which another has asked."""
        self.lease.observed.answered()
        try:
            with self.held:
                return self._answered(outcome)
        except ServiceError as error:
            return wire.error_answer(error)

    def copy_to(self, shadow: Instances) -> None:
        """Lets the shadow variant have the request too."""
        copy = Copy(
            endpoint=self.name,
            variant=shadow.variant,
            instances=shadow,
            headers=self.headers,
            body=self.body,
            timeout_s=self.timeout_s,
            answered=lambda answer: self._capture(shadow.variant, answer),
        )
        self.of.shadows.offer(copy)

    def _asked(self, caller: Caller) -> Answer:
        targets, observed = self.of.targets, self.lease.observed

        def ask(lease: Lease) -> Answer:
            self.lease = lease
            if lease.models is None:
                return lease.client.call(
                    "POST",
                    "/invocations",
                    headers=self.headers,
                    body=self.body,
                    timeout_s=self.timeout_s,
                    max_bytes=self.max_bytes,
                    caller=caller,
                )
            return lease.models.invoke(
                lease.client,
                self.members["TargetModel"],
                headers=self.headers,
                body=self.body,
                note=targets.note(self.name, self.members, lease),
                timeout_s=self.timeout_s,
                max_bytes=self.max_bytes,
                caller=caller,
            )

        try:
            return first_taken(self.lease, ask)[1]
        except NoSuchModel as error:
            raise validation_error(str(error)) from error
        except NotReady as error:
            raise ServiceError("ModelNotReadyException", str(error), status=429) from error
        except LoadRefused as error:
            raise targets.container_error(self.name, error.answer, error.answer.body, self.lease) from error
        finally:
            observed.answered()

    def _answered(self, outcome: Answer | NoAnswer) -> Response:
        lease = self.lease
        if isinstance(outcome, NoAnswer):
            raise self.of.targets.no_answer(self.name, outcome, lease) from outcome
        lease.observed.status = outcome.status
        if outcome.status >= 300:
            raise self.of.targets.container_error(self.name, outcome, outcome.body, lease)
        lease.note(outcome.headers)
        self._capture(lease.variant.name, outcome)
        headers = returned_headers(outcome.headers) | {"x-Amzn-Invoked-Production-Variant": lease.variant.name}
        if "content-type" in outcome.headers:
            headers["Content-Type"] = outcome.headers["content-type"]
        return Response(status=200, headers=headers, body=outcome.body)

    def _capture(self, variant: str, answer: Answer) -> None:
        if self.lease.capture_config is None:
            return
        exchange = Exchange(
            endpoint=self.members["EndpointName"],
            variant=variant,
            request=self.body,
            answer=answer.body,
            sent=self.members.get("ContentType"),
            answered=answer.headers.get("content-type"),
            inference_id=self.members.get("InferenceId"),
            custom_attributes=self.members.get("CustomAttributes"),
        )
        self.of.captures.record(self.lease.capture_config, exchange, role_arn=role_of(self.lease.variant.model))
