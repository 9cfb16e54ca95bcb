"""InvokeEndpointAsync: requests whose input and answer lie in S3, in a queue for each endpoint.

The endpoint's container sees an ordinary POST /invocations. The answer, or what went wrong, becomes an object under the
configuration's S3OutputPath or S3FailurePath, and a topic is told where that is asked for. What waits for an endpoint
that is deleted fails. What has no end when the local cloud ends goes with it, or is taken up again by one that
remembers: there a request may be executed twice.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import split_s3_uri
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer, NotTaken, PiecesReader, StreamedAnswer, TimedOut
from tidegate.local_cloud.sagemaker.container_client import SizedBody
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.instances import NoInstance
from tidegate.local_cloud.sagemaker.invocation_metrics import InvocationMetrics, Subject
from tidegate.local_cloud.sagemaker.leases import Lease, first_taken
from tidegate.local_cloud.sagemaker.limits import Limits
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles
from tidegate.local_cloud.sagemaker.state import Identity, Json, now

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 900  # InvokeEndpointAsync, InvocationTimeoutSeconds
DEFAULT_TTL_S = 21_600  # InvokeEndpointAsync, RequestTTLSeconds
DEFAULT_CONCURRENCY = 4  # MaxConcurrentInvocationsPerInstance: "SageMaker chooses"; here it is this
_CHUNK_BYTES = 256 * 1024
_NOTIFIED_BYTES = 128 * 1024  # NotificationConfig, IncludeInferenceResponseIn: answers up to 128 KB
_PART_BYTES = 8 * 1024 * 1024  # what of an answer is in memory while it goes to S3
_NO_TYPE = "binary/octet-stream"  # what S3 says of an object that was put without a type
_PAUSE_S = 0.2
_END_NOTICED_S = 0.5  # between a request that was not taken and the word that its container has ended
_ERROR_CHARS = 4096


class _CutOff(Exception):
    """The local cloud is ending, and the request has neither an answer nor a failure."""


class InvocationFailed(Exception):
    """The request has no answer; the text becomes the failure object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncRequest:
    """One request in the queue. Its input is ``body``, or else the object at ``input_location``."""

    endpoint: str
    config: Json
    inference_id: str
    input_location: str | None
    body: bytes
    output_location: str
    failure_location: str | None
    headers: Mapping[str, str]
    role_arn: str | None
    timeout_s: float
    ttl_s: float
    received: datetime

    @property
    def per_instance(self) -> int:
        """How many calls one instance is given at once."""
        client: Json = self.config.get("ClientConfig", {})
        return int(client.get("MaxConcurrentInvocationsPerInstance", DEFAULT_CONCURRENCY))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """An answer that lies in S3; ``payload`` is all of it where it is small enough for a notification."""

    content_type: str
    payload: bytes | None


@dataclass(slots=True, kw_only=True)
class AsyncInvocations:
    """The queues of all asynchronous endpoints. Each instance is given as many calls at once as it is to take."""

    KEPT: ClassVar[tuple[str, ...]] = ("_pending",)

    endpoints: Endpoints
    roles: Roles
    identity: Identity
    limits: Limits
    metrics: InvocationMetrics
    _waiting: dict[str, dict[str, datetime]] = field(default_factory=dict)  # by endpoint and output, since when
    _pending: dict[str, AsyncRequest] = field(default_factory=dict)  # without an answer or a failure, in their order
    _queues: dict[str, tuple[int, ThreadPoolExecutor]] = field(default_factory=dict)
    _answering: Counter[str] = field(default_factory=Counter)  # requests that instances have, by endpoint
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _fewer: threading.Condition = field(default_factory=threading.Condition)  # guards the counter
    _closing: threading.Event = field(default_factory=threading.Event)

    def submit(self, request: AsyncRequest) -> None:
        """Puts a request into its endpoint's queue."""
        workers = request.per_instance * self.limits.instances
        with self._lock:
            if self._closing.is_set():
                raise ServiceError("ServiceUnavailable", "The local cloud is shutting down.", status=503)
            # The threads of an endpoint that was deleted are not kept.
            for name in [name for name in self._queues if self.endpoints.find(name) is None]:
                self._queues.pop(name)[1].shutdown(wait=False)
            held, queue = self._queues.get(request.endpoint, (0, None))
            if queue is None or held != workers:
                if queue is not None:
                    queue.shutdown(wait=False)  # what is in the old queue is still answered
                queue = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=f"async {request.endpoint}")
                self._queues[request.endpoint] = (workers, queue)
            self._waiting.setdefault(request.endpoint, {})[request.output_location] = request.received
            token = uuid.uuid4().hex
            self._pending[token] = request
            queue.submit(self._work, token, request)

    def resume(self) -> list[str]:
        """After a restart: puts what had no end into the queues again."""
        pending = list(self._pending.values())
        self._pending.clear()
        for request in pending:
            self.submit(request)
        return []

    def backlogs(self) -> dict[str, list[datetime]]:
        """When the requests were received that wait or are being answered, by endpoint."""
        with self._lock:
            return {name: list(waiting.values()) for name, waiting in self._waiting.items()}

    def is_under_way(self, endpoint: str, output_location: str) -> bool:
        """Whether the request whose answer goes there waits, or is being answered."""
        with self._lock:
            return output_location in self._waiting.get(endpoint, {})

    def close(self) -> None:
        """Takes nothing more and drops what waits."""
        with self._lock:
            self._closing.set()
            for _, queue in self._queues.values():
                queue.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """After :meth:`close`: returns when what was being answered has its end, an answer or a failure."""
        for _, queue in self._queues.values():
            queue.shutdown(wait=True)

    def _work(self, token: str, request: AsyncRequest) -> None:
        try:
            self._settle(request, self._answer(request))
        except _CutOff:
            return
        except (InvocationFailed, RoleNotAssumed) as failure:
            self._settle_failure(request, str(failure))
        except Exception as error:
            logger.exception("asynchronous request %s broke", request.inference_id)
            self._settle_failure(request, f"InternalServerError: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                waiting = self._waiting.get(request.endpoint, {})
                waiting.pop(request.output_location, None)
                if not waiting:
                    self._waiting.pop(request.endpoint, None)
        with self._lock:
            self._pending.pop(token, None)

    def _answer(self, request: AsyncRequest) -> _Stored:
        while True:
            if (now() - request.received).total_seconds() > request.ttl_s:
                self.metrics.add(self._subject(request), "ExpiredRequests", 1.0)
                raise InvocationFailed(f"ClientError: the request waited longer than {request.ttl_s:g} seconds.")
            if self._closing.is_set():
                raise _CutOff
            if not self._begins(request):
                continue
            try:
                with self.endpoints.lease(request.endpoint, target_variant=None) as lease, ExitStack() as stack:
                    stack.enter_context(self._counted(request, lease))
                    return self._exchange(request, lease, stack)
            except NoInstance:
                self._closing.wait(_PAUSE_S)
            except TimedOut as error:
                raise InvocationFailed(
                    f"ServerError: the model did not answer within {request.timeout_s:g} seconds."
                ) from error
            except NoAnswer as error:
                raise self._without_answer(error) from error
            except ServiceError as error:
                if not self._is_coming(request.endpoint):
                    raise InvocationFailed(f"ClientError: {error.message}") from error
                self._closing.wait(_PAUSE_S)
            finally:
                with self._fewer:
                    self._answering[request.endpoint] -= 1
                    self._fewer.notify()

    def _begins(self, request: AsyncRequest) -> bool:
        """Whether the instances take one more call; waits a moment for it. An endpoint that is gone says so itself."""
        name = request.endpoint
        gone = self.endpoints.plan(name) is None
        with self._fewer:
            room = request.per_instance * self.endpoints.instance_count(name)
            if self._answering[name] >= room and not gone:
                self._fewer.wait(_PAUSE_S)
                return False
            self._answering[name] += 1
            return True

    def _without_answer(self, error: NoAnswer) -> Exception:
        if self._closing.is_set():  # the container ends with the local cloud
            return _CutOff()
        return InvocationFailed(f"ServerError: the container gave no answer: {error}.")

    def _is_coming(self, endpoint: str) -> bool:
        """Whether an endpoint is being started again: requests are taken for one in service only."""
        return (self.endpoints.find(endpoint) or {}).get("EndpointStatus") == "Creating"

    @contextmanager
    def _counted(self, request: AsyncRequest, lease: Lease) -> Iterator[None]:
        """Tells the metrics of an asynchronous endpoint what becomes of the request.

        Source: "Alarms and logs for tracking metrics from asynchronous endpoints" in the developer guide.
        """
        waited_s = (now() - request.received).total_seconds()
        taken = failed = True
        try:
            yield
            failed = False
        except NotTaken as error:
            taken = not lease.ended(_END_NOTICED_S)
            if taken:
                raise
            # It waits for the next container, as if it had not begun.
            raise NoInstance(str(error), log=lease.log_of(error.container)) from error
        finally:
            if taken:
                self._count(request, lease, waited_s=waited_s, failed=failed)

    def _count(self, request: AsyncRequest, lease: Lease, *, waited_s: float, failed: bool) -> None:
        subject, status = self._subject(request, lease), lease.observed.status
        for name, value in (
            ("TimeInBacklog", waited_s * 1000),
            ("InvocationsProcessed", 1.0),
            ("InvocationFailures", float(failed)),
            ("Invocation4XXErrors", float(400 <= status < 500)),
            ("Invocation5XXErrors", float(status >= 500)),
            ("TotalProcessingTime", (now() - request.received).total_seconds() * 1000),
        ):
            self.metrics.add(subject, name, value)
        if (model_s := lease.observed.model_s) is not None:
            self.metrics.add(subject, "ModelLatency", model_s * 1e6)

    def _subject(self, request: AsyncRequest, lease: Lease | None = None) -> Subject:
        plan = self.endpoints.plan(request.endpoint)
        variants = [variant.name for variant in plan.variants] if plan is not None else []
        return Subject(
            endpoint=request.endpoint,
            variant=lease.variant.name if lease is not None else "".join(variants[:1]),
            config=lease.config if lease is not None else (plan.config_name if plan is not None else ""),
        )

    def _exchange(self, request: AsyncRequest, lease: Lease, stack: ExitStack) -> _Stored:
        """From S3 to the container and back, piece by piece: neither body is ever in memory as a whole."""

        def ask(lease: Lease) -> StreamedAnswer:
            body, headers = self._input(request, stack)
            lease.observed.ask()
            asked: AbstractContextManager[StreamedAnswer] = lease.client.stream(
                "POST", "/invocations", headers=headers, body=body, timeout_s=request.timeout_s
            )
            return stack.enter_context(asked)

        lease, answer = first_taken(lease, ask)
        lease.observed.status = answer.status
        if answer.status >= 300:
            kind = "Client" if answer.status < 500 else "Server"
            said = answer.beginning(4 * _ERROR_CHARS).decode(errors="replace")[:_ERROR_CHARS]
            raise InvocationFailed(
                f'{kind}Error: Received {kind.lower()} error ({answer.status}) from primary with message "{said}"'
            )
        content_type = answer.headers.get("content-type", "application/octet-stream")
        reader = PiecesReader(answer.pieces, max_bytes=self.limits.async_body_bytes, kept_bytes=_NOTIFIED_BYTES)
        bucket, key = split_s3_uri(request.output_location)
        transfer = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False)
        try:
            s3 = self.roles.client("s3", request.role_arn)
            s3.upload_fileobj(reader, bucket, key, ExtraArgs={"ContentType": content_type}, Config=transfer)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise InvocationFailed(f"ClientError: {request.output_location} cannot be written: {error}") from error
        return _Stored(content_type=content_type, payload=reader.kept)

    def _input(self, request: AsyncRequest, stack: ExitStack) -> tuple[bytes | SizedBody, Mapping[str, str]]:
        """The body and the headers. Where the request names no content type, that of the object counts."""
        if request.input_location is None:
            return request.body, request.headers
        bucket, key = split_s3_uri(request.input_location)
        try:
            found = self.roles.client("s3", request.role_arn).get_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise InvocationFailed(f"ClientError: {request.input_location} cannot be read: {error}") from error
        content = stack.enter_context(closing(found["Body"]))
        size_bytes = found["ContentLength"]
        max_bytes = self.limits.async_body_bytes
        if size_bytes > max_bytes:
            raise InvocationFailed(f"ClientError: {request.input_location} is larger than {max_bytes} bytes.")
        own = found.get("ContentType", _NO_TYPE)
        headers = request.headers if own == _NO_TYPE else {"Content-Type": own, **request.headers}
        return SizedBody(size_bytes, content.iter_chunks(_CHUNK_BYTES)), headers

    def _settle(self, request: AsyncRequest, stored: _Stored) -> None:
        members: Json = {"contentType": stored.content_type, "outputLocation": request.output_location}
        wanted = _notification(request).get("IncludeInferenceResponseIn", [])
        if "SUCCESS_NOTIFICATION_TOPIC" in wanted and stored.payload is not None:
            members["payload"] = stored.payload.decode(errors="replace")
        self._notify(request, "SuccessTopic", {"invocationStatus": "Completed", "responseParameters": members})

    def _settle_failure(self, request: AsyncRequest, reason: str) -> None:
        logger.warning("asynchronous request %s of endpoint %s: %s", request.inference_id, request.endpoint, reason)
        members: Json = {"invocationStatus": "Failed", "failureReason": reason}
        if request.failure_location is not None:
            try:
                bucket, key = split_s3_uri(request.failure_location)
                kind = "text/plain; charset=utf-8"
                s3 = self.roles.client("s3", request.role_arn)
                s3.put_object(Bucket=bucket, Key=key, Body=reason.encode(), ContentType=kind)
                members["responseParameters"] = {"failureLocation": request.failure_location}
            except (ClientError, BotoCoreError, RoleNotAssumed) as error:
                logger.warning("%s cannot be written: %s", request.failure_location, error)
        self._notify(request, "ErrorTopic", members)

    def _notify(self, request: AsyncRequest, member: str, result: Json) -> None:
        """The message of "Asynchronous inference, check prediction results"."""
        topic = _notification(request).get(member)
        if topic is None:
            return
        message = {
            "awsRegion": self.identity.region,
            "eventTime": now().isoformat(),
            "receivedTime": request.received.isoformat(),
            "inferenceId": request.inference_id,
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
            "requestParameters": {
                "endpointName": request.endpoint,
                **({"inputLocation": request.input_location} if request.input_location is not None else {}),
            },
            **result,
        }
        try:
            sns = self.roles.client("sns", request.role_arn)
            sns.publish(TopicArn=topic, Message=json.dumps(message))
        except (ClientError, BotoCoreError, RoleNotAssumed) as error:
            logger.warning("%s cannot be told about %s: %s", topic, request.inference_id, error)


def locations(
    config: Json, token: str, *, extension: str | None = None, filename: str | None = None
) -> tuple[str, str | None]:
    """Where the answer and the failure of a request go; ``token`` is unique.

    ``extension`` is appended to the output path, and ``filename`` stands in the place of a generated name
    (InvokeEndpointAsync, S3OutputPathExtension and Filename).
    """
    output = config["OutputConfig"]
    folder = "/".join(part.strip("/") for part in (output["S3OutputPath"], extension or "") if part.strip("/"))
    answer = f"{folder}/{filename or f'{token}.out'}"
    failure = output.get("S3FailurePath")
    return answer, f"{failure.rstrip('/')}/{token}-error.out" if failure else None


def _notification(request: AsyncRequest) -> Json:
    notification: Json = request.config["OutputConfig"].get("NotificationConfig", {})
    return notification
