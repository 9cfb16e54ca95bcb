"""Asking an endpoint: whole, in parts, or later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tidegate.client.asynchronous import Submitted, submit
from tidegate.client.bearer_token import bearer_token
from tidegate.client.errors import GaveUpWaiting, ModelError
from tidegate.client.model_choice import AnsweredBy, answered_by, with_choice
from tidegate.client.stream import Stream
from tidegate.client.waking import Reason, pauses_s, reason_to_wait

# The platform gives a model 60 s, and 8 minutes for a stream, in which it may be silent. Source: API reference,
# InvokeEndpoint; "Model Hosting FAQs". A client that hangs up earlier only doubles the load.
READ_TIMEOUT_S = 70
STREAM_READ_TIMEOUT_S = 490

OnWait = Callable[[Reason, float], object]
"""Told why the endpoint does not answer yet, and for how many seconds that has been so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model answered."""

    body: bytes
    content_type: str
    variant: str
    """The production variant that answered."""
    custom_attributes: str = ""
    new_session_id: str = ""
    """Where the request opened a stateful session: its id, and behind a `;` when it expires."""
    closed_session_id: str = ""

    @property
    def answered_by(self) -> AnsweredBy | None:
        """The model and the number of its version, where the server has a model repository."""
        return answered_by(self.custom_attributes)


class Endpoint:
    """One endpoint, or one inference component of it.

    `wake_timeout_s` is how long to go on asking while the endpoint scales from zero, loads the model or is overloaded
    (see `waking`); 0 gives up at the first refusal. `session` is boto3's; without one the default credentials count.
    """

    def __init__(
        self,
        name: str,
        *,
        component: str | None = None,
        wake_timeout_s: float = 900.0,
        on_wait: OnWait | None = None,
        session: boto3.Session | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name = name
        self._component = component
        self._wake_timeout_s = wake_timeout_s
        self._on_wait = on_wait
        self._clock = clock
        self._sleep = sleep
        self._session = session or boto3.Session()
        self._runtime = self._runtime_client(READ_TIMEOUT_S)
        self._stream_runtime: Any = None

    def invoke(
        self,
        body: bytes,
        *,
        content_type: str,
        accept: str = "application/json",
        model: str | None = None,
        version: int | str | None = None,
        **options: str,
    ) -> Answer:
        """Ask, and return the whole answer.

        `model` and `version` (a number, `latest` or a label) are of the server's model repository, where it has one.
        `options` are further members of `invoke_endpoint` by boto3's names, such as `TargetModel`, `InferenceId` or
        `SessionId`. Raises `ModelError` with the container's sentence, `GaveUpWaiting`, and botocore's `ClientError`
        for what AWS refuses.
        """
        options = with_choice(options, model, version)
        response = self._ask(self._runtime.invoke_endpoint, body, content_type, accept, options)
        with response["Body"] as stream:
            content: bytes = stream.read()
        return Answer(
            body=content,
            content_type=response.get("ContentType", ""),
            variant=response.get("InvokedProductionVariant", ""),
            custom_attributes=response.get("CustomAttributes", ""),
            new_session_id=response.get("NewSessionId", ""),
            closed_session_id=response.get("ClosedSessionId", ""),
        )

    def stream(
        self,
        body: bytes,
        *,
        content_type: str,
        accept: str = "application/json",
        model: str | None = None,
        version: int | str | None = None,
        **options: str,
    ) -> Stream:
        """Ask, and return the answer as it comes: as bytes, text, lines, JSON lines or server-sent events.

        Takes and raises what `invoke` does; reading the stream raises `StreamBroken` where it breaks off.
        """
        if self._stream_runtime is None:
            self._stream_runtime = self._runtime_client(STREAM_READ_TIMEOUT_S)
        ask = self._stream_runtime.invoke_endpoint_with_response_stream
        response = self._ask(ask, body, content_type, accept, with_choice(options, model, version))
        return Stream(
            response["Body"],
            content_type=response.get("ContentType", ""),
            variant=response.get("InvokedProductionVariant", ""),
            custom_attributes=response.get("CustomAttributes", ""),
        )

    @property
    def openai_base_url(self) -> str:
        """Where clients of OpenAI's API find the endpoint: `OpenAI(base_url=…, api_key=endpoint.bearer_token)`."""
        component = f"/inference-components/{self._component}" if self._component else ""
        return f"{self._runtime.meta.endpoint_url}/endpoints/{self.name}{component}/openai/v1"

    def bearer_token(self) -> str:
        """A token for `openai_base_url`, good for 12 hours, or for as long as the session's credentials are."""
        return bearer_token(self._session)

    def submit(
        self,
        content: bytes | str | Path | BinaryIO,
        *,
        content_type: str,
        accept: str = "application/json",
        input_location: str | None = None,
        model: str | None = None,
        version: int | str | None = None,
        **options: Any,
    ) -> Submitted:
        """Ask an asynchronous endpoint: up to 1 GB, and up to an hour of computing, for one request.

        `content` (bytes, a `Path`, an open binary file) is uploaded to `input_location` (`s3://bucket/key`), or, where
        it is such an address itself, is there already. Returns at once; the answer is `Submitted.wait()`, a large one
        `Submitted.save(file)`. `model` and `version` are as in `invoke`. Raises `ValueError` for an address that is
        none.
        """
        target = {"InferenceComponentName": self._component} if self._component else {}
        return submit(
            self._session,
            self._runtime,
            {
                "EndpointName": self.name,
                "ContentType": content_type,
                "Accept": accept,
                **target,
                **with_choice(options, model, version),
            },
            content,
            input_location,
        )

    def _runtime_client(self, read_timeout_s: int) -> Any:
        config = Config(read_timeout=read_timeout_s, tcp_keepalive=True, retries={"total_max_attempts": 2})
        return self._session.client("sagemaker-runtime", config=config)

    def _ask(self, call: Any, body: bytes, content_type: str, accept: str, options: dict[str, str]) -> Any:
        target = {"InferenceComponentName": self._component} if self._component else {}
        request = {
            "EndpointName": self.name,
            "Body": body,
            "ContentType": content_type,
            "Accept": accept,
            **target,
            **options,
        }
        began_s = self._clock()
        waited_for: Reason | None = None
        pauses: Iterator[float] = iter(())
        while True:
            try:
                return call(**request)
            except ClientError as error:
                reason = reason_to_wait(error.response)
                waited_s = self._clock() - began_s
                if reason is None or self._wake_timeout_s <= 0:
                    if error.response["Error"]["Code"] == "ModelError":
                        raise ModelError.of(error) from error
                    raise
                if waited_s >= self._wake_timeout_s:
                    raise GaveUpWaiting(
                        f"endpoint {self.name} {reason.value}, and did so for {waited_s:.0f} s: {error}"
                    ) from error
            if reason is not waited_for:
                waited_for, pauses = reason, pauses_s(reason)
            if self._on_wait is not None:
                self._on_wait(reason, waited_s)
            # Somewhere in the second half of the pause, so that clients who were refused together do not come together.
            pause_s = next(pauses) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._sleep(min(pause_s, self._wake_timeout_s - waited_s))
