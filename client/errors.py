"""What can go wrong on the way to a model and back.

    your code ─▶ SageMaker ─▶ container          ModelError: the container answered, with an error
        ◀── parts of a stream ──                 StreamBroken: the answer began and did not end
        lines, events of a stream                UnreadableStream: they are not what was asked for
    asleep, loading, overloaded                  GaveUpWaiting: it was so for longer than you wanted to wait
    asynchronous requests, transform jobs        InvocationFailed, BatchFailed
    a finished job as a table                TableFailed: nothing was written

Whatever AWS itself refuses (no such endpoint, no right to call it) stays botocore's `ClientError`, whose text says it.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError


class ClientFailure(Exception):
    """The base of all errors of this package; the text is one sentence."""


class ModelError(ClientFailure):
    """The container answered with an error status. `message` is the container's own sentence."""

    def __init__(
        self, status: int, message: str, *, code: str = "", request_id: str = "", log_stream_arn: str = ""
    ) -> None:
        which = f" (request id {request_id})" if request_id and status >= 500 else ""  # where to look in the log
        super().__init__(f"the model answered {status}{f' {code}' if code else ''}: {message}{which}")
        self.status = status
        """The container's HTTP status: 4xx for what the caller did wrong, 5xx for what the model or server did."""
        self.code = code
        """The short name of the error, such as `bad_request`; empty where the container is not Tidegate's."""
        self.message = message
        self.request_id = request_id
        """What the container's log lines carry."""
        self.log_stream_arn = log_stream_arn

    @classmethod
    def of(cls, error: ClientError) -> ModelError:
        """The model's error in botocore's. Source: API reference, InvokeEndpoint, ModelError."""
        response: dict[str, Any] = error.response
        return cls.from_body(
            int(response.get("OriginalStatusCode", 0)),
            str(response.get("OriginalMessage", response["Error"].get("Message", ""))),
            log_stream_arn=str(response.get("LogStreamArn", "")),
        )

    @classmethod
    def from_body(cls, status: int, body: str, *, log_stream_arn: str = "") -> ModelError:
        """The error that a body of `{"error": {"code", "message", "request_id"}}` describes; another body is quoted."""
        try:
            found = json.loads(body)["error"]
            return cls(
                status,
                str(found["message"]),
                code=str(found["code"]),
                request_id=str(found.get("request_id", "")),
                log_stream_arn=log_stream_arn,
            )
        except (ValueError, KeyError, TypeError):
            return cls(status, body.strip() or "(it said nothing)", log_stream_arn=log_stream_arn)


class GaveUpWaiting(ClientFailure):
    """What was waited for did not come in the time that was given."""


class StreamBroken(ClientFailure):
    """A streamed answer began and broke off; what was whole before that has been yielded."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """`ModelStreamError` or `InternalStreamFailure`; empty where the connection to SageMaker itself was lost. (What
        the former says by its ErrorCode, boto3 drops; its message is in this error's text.)"""
        self.rest = b""
        """What came behind the last whole line, event or letter."""


class StreamClosed(ClientFailure):
    """A streamed answer was closed before its end, and then read."""


class UnreadableStream(ClientFailure):
    """A streamed answer is not UTF-8 or not JSON, or one line of it is longer than is put together."""


class InvocationFailed(ClientFailure):
    """An asynchronous request has a failure instead of an answer; the text is SageMaker's or the container's."""


class BatchFailed(ClientFailure):
    """A transform job ended other than `Completed`."""


class TableFailed(ClientFailure):
    """What a transform job wrote cannot become a table; nothing of it was written."""
