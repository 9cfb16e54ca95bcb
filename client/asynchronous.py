"""Requests whose answer is an object in S3."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import boto3
from botocore.exceptions import ClientError

from tidegate.client.addresses import split_s3
from tidegate.client.errors import GaveUpWaiting, InvocationFailed

POLL_S = 1.0
Taken = TypeVar("Taken")


class Submitted:
    """A request that an asynchronous endpoint has taken.

    To pick it up in another process, keep `output_location` and `failure_location` and make one of these of them.
    """

    def __init__(
        self,
        *,
        output_location: str,
        failure_location: str | None = None,
        inference_id: str = "",
        session: boto3.Session | None = None,
    ) -> None:
        self.output_location = output_location
        self.failure_location = failure_location
        """Where the reason will be if it fails; None where the endpoint has no S3FailurePath, and failure is silent."""
        self.inference_id = inference_id
        self._s3 = (session or boto3.Session()).client("s3")

    def wait(
        self,
        *,
        timeout_s: float = 3600.0,
        on_poll: Callable[[float], object] | None = None,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> bytes:
        """The answer, once it is there; `on_poll` is told the seconds waited so far.

        Raises `InvocationFailed` with the reason that SageMaker wrote, and `GaveUpWaiting`.
        """
        return self._await(self._fetch, timeout_s=timeout_s, on_poll=on_poll, poll_s=poll_s, clock=clock, sleep=sleep)

    def save(
        self,
        file: Path | str,
        *,
        timeout_s: float = 3600.0,
        on_poll: Callable[[float], object] | None = None,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Path:
        """Write the answer to `file` once it is there: what `wait` does, for answers that memory should not hold."""
        target = Path(file)
        return self._await(
            lambda location: self._download(location, target),
            timeout_s=timeout_s,
            on_poll=on_poll,
            poll_s=poll_s,
            clock=clock,
            sleep=sleep,
        )

    def _await(
        self,
        take: Callable[[str], Taken | None],
        *,
        timeout_s: float,
        on_poll: Callable[[float], object] | None,
        poll_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> Taken:
        began_s = clock()
        while True:
            answer = take(self.output_location)
            if answer is not None:
                return answer
            if self.failure_location is not None:
                failure = self._fetch(self.failure_location)
                if failure is not None:
                    reason = failure.decode(errors="replace").strip()
                    raise InvocationFailed(f"asynchronous request {self.inference_id} failed: {reason}")
            waited_s = clock() - began_s
            if waited_s >= timeout_s:
                silent = "" if self.failure_location else "; without an S3FailurePath a failure would look the same"
                raise GaveUpWaiting(f"{self.output_location} was not there after {waited_s:.0f} s{silent}")
            if on_poll is not None:
                on_poll(waited_s)
            sleep(min(poll_s, max(timeout_s - waited_s, 0.0)))

    def _fetch(self, location: str) -> bytes | None:
        bucket, key = split_s3(location)
        try:
            with self._s3.get_object(Bucket=bucket, Key=key)["Body"] as stream:
                content: bytes = stream.read()
            return content
        except ClientError as error:
            # Without the right to list the bucket, S3 says 403 of an object that is not there. Waiting for an answer
            # that may not be read would hide that for an hour, so it is not taken for "not yet".
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise

    def _download(self, location: str, target: Path) -> Path | None:
        bucket, key = split_s3(location)
        try:
            self._s3.download_file(bucket, key, str(target))
            return target
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise


def submit(
    session: boto3.Session,
    runtime: Any,
    request: Mapping[str, Any],
    content: bytes | str | Path | BinaryIO,
    input_location: str | None,
) -> Submitted:
    """Upload `content` where that is needed, and hand the request to the endpoint."""
    if isinstance(content, str):
        if input_location is not None:
            raise ValueError(
                "content is an address already; leave input_location out, or give content as bytes or a file"
            )
        split_s3(content)
        input_location = content
    else:
        if input_location is None:
            raise ValueError("input_location is missing: say where in S3 the content is to lie (s3://bucket/key)")
        bucket, key = split_s3(input_location)
        upload = {"Bucket": bucket, "Key": key, "ExtraArgs": {"ContentType": request["ContentType"]}}
        if isinstance(content, Path):
            session.client("s3").upload_file(str(content), **upload)
        else:
            session.client("s3").upload_fileobj(
                io.BytesIO(content) if isinstance(content, bytes) else content, **upload
            )
    response = runtime.invoke_endpoint_async(**request, InputLocation=input_location)
    return Submitted(
        output_location=response["OutputLocation"],
        failure_location=response.get("FailureLocation"),
        inference_id=response.get("InferenceId", ""),
        session=session,
    )
