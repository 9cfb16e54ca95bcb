"""Data capture: what real-time endpoints were asked and answered, as JSON lines in S3.

Lines of a variant wait in memory, some seconds or until there are enough of them, and become one object. A caller never
waits for S3, nor notices that something could not be written. Source of the format and of the place: "Capture data from
real-time endpoint" (https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html).
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import split_s3_uri
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles
from tidegate.local_cloud.sagemaker.routing import happens
from tidegate.local_cloud.sagemaker.state import Json, now

logger = logging.getLogger(__name__)

FLUSH_AFTER_S = 2.0  # of the machine's time, after the first line
_FLUSH_TIMEOUT_S = 60.0  # of S3, while somebody waits for it
_OBJECT_BYTES = 8 * 1024 * 1024  # an object is written when it has become as large
_WAITING_BYTES = 128 * 1024 * 1024  # of all lines that wait; more is not captured
_BASE64 = "BASE64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer; ``sent`` and ``answered`` are their content types."""

    endpoint: str
    variant: str
    request: bytes
    answer: bytes
    sent: str | None
    answered: str | None
    inference_id: str | None = None
    custom_attributes: str | None = None


@dataclass(slots=True, kw_only=True)
class _Lines:
    """What waits to become one object."""

    config: Json
    role_arn: str | None
    begun: datetime
    due: float
    lines: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


class DataCapture:
    """The captures of all endpoints; writes from the first line to :meth:`close`."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._changed = threading.Condition()  # guards the five below
        self._waiting: dict[tuple[str, str], _Lines] = {}
        self._full: list[tuple[tuple[str, str], _Lines]] = []
        self._writing: tuple[str, str] | None = None
        self._waiting_bytes = 0
        self._closing = False
        self._writer: threading.Thread | None = None

    def record(self, config: Json | None, exchange: Exchange, *, role_arn: str | None) -> None:
        """Captures an exchange, as often as the DataCaptureConfig says."""
        if config is None or not config.get("EnableCapture", True):
            return
        if not happens(config["InitialSamplingPercentage"] / 100):
            return
        moment = now()
        line = json.dumps(captured(config, exchange, moment)).encode() + b"\n"
        key = (exchange.endpoint, exchange.variant)
        with self._changed:
            if self._closing or self._waiting_bytes + len(line) > _WAITING_BYTES:
                logger.warning("endpoint %s: an exchange is not captured, because too many wait", exchange.endpoint)
                return
            lines = self._waiting.get(key)
            # An object has the lines of one hour and one configuration.
            if lines is not None and (lines.config != config or lines.begun.hour != moment.hour):
                self._full.append((key, self._waiting.pop(key)))
                lines = None
            if lines is None:
                due = time.monotonic() + FLUSH_AFTER_S
                lines = self._waiting[key] = _Lines(config=config, role_arn=role_arn, begun=moment, due=due)
            lines.lines.append(line)
            lines.size_bytes += len(line)
            self._waiting_bytes += len(line)
            if lines.size_bytes >= _OBJECT_BYTES:
                self._full.append((key, self._waiting.pop(key)))
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="data capture", daemon=True)
                self._writer.start()
            self._changed.notify_all()

    def flush(self, endpoint: str) -> None:
        """Returns when what has been captured of an endpoint is written, or could not be."""
        with self._changed:
            for key in [key for key in self._waiting if key[0] == endpoint]:
                self._full.append((key, self._waiting.pop(key)))
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_to_be_written(endpoint), _FLUSH_TIMEOUT_S)

    def _is_to_be_written(self, endpoint: str) -> bool:
        keys = [key for key, _ in self._full] + ([] if self._writing is None else [self._writing])
        return any(key[0] == endpoint for key in keys)

    def close(self) -> None:
        """Writes what waits, and captures nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            writer = self._writer
        if writer is not None:
            writer.join()

    def _write_all(self) -> None:
        while (found := self._next()) is not None:
            (endpoint, variant), lines = found
            self._write(endpoint, variant, lines)
            with self._changed:
                self._waiting_bytes -= lines.size_bytes
                self._writing = None
                self._changed.notify_all()

    def _next(self) -> tuple[tuple[str, str], _Lines] | None:
        """What is to be written next, once its time has come; None at the end."""
        with self._changed:
            while True:
                if self._full:
                    self._writing = self._full[0][0]
                    return self._full.pop(0)
                first = min(self._waiting.items(), key=lambda item: item[1].due, default=None)
                if first is None and self._closing:
                    return None
                left_s = None if first is None else first[1].due - time.monotonic()
                if first is not None and (self._closing or (left_s is not None and left_s <= 0)):
                    del self._waiting[first[0]]
                    self._writing = first[0]
                    return first
                self._changed.wait(left_s)

    def _write(self, endpoint: str, variant: str, lines: _Lines) -> None:
        bucket, prefix = split_s3_uri(lines.config["DestinationS3Uri"])
        key = object_key(prefix, endpoint, variant, lines.begun)
        encrypted: dict[str, Any] = {}
        if "KmsKeyId" in lines.config:
            encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": lines.config["KmsKeyId"]}
        try:
            s3 = self._roles.client("s3", lines.role_arn)
            s3.put_object(Bucket=bucket, Key=key, Body=b"".join(lines.lines), **encrypted)
        except (RoleNotAssumed, ClientError, BotoCoreError) as error:
            lost = len(lines.lines)
            where = f"s3://{bucket}/{key}"
            logger.warning("endpoint %s: %d captures cannot be written to %s: %s", endpoint, lost, where, error)


def check_capture_config(config: Json) -> str | None:
    """Why a DataCaptureConfig cannot be had here; None where it can."""
    address = config["DestinationS3Uri"]
    return None if address.startswith("s3://") else f"DestinationS3Uri is {address}; it must be an s3:// address."


def summary(config: Json) -> Json:
    """The members of DataCaptureConfigSummary."""
    enabled = bool(config.get("EnableCapture", True))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }


def object_key(prefix: str, endpoint: str, variant: str, begun: datetime) -> str:
    """Where the lines that began at that moment lie."""
    path = f"{endpoint}/{variant}/{begun:%Y/%m/%d/%H}"
    name = f"{begun:%M-%S}-{begun.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
    return "/".join(part for part in (prefix.strip("/"), path, name) if part)


def captured(config: Json, exchange: Exchange, moment: datetime) -> Json:
    """One line."""
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    told: dict[str, Json] = {}
    if modes & {"Input", "InputAndOutput"}:
        told["endpointInput"] = _data(config, "INPUT", exchange.request, exchange.sent)
    if modes & {"Output", "InputAndOutput"}:
        told["endpointOutput"] = _data(config, "OUTPUT", exchange.answer, exchange.answered)
    metadata: Json = {"eventId": str(uuid.uuid4())}
    if exchange.custom_attributes is not None:
        metadata["customAttributes"] = [exchange.custom_attributes]
    if exchange.inference_id is not None:
        metadata["inferenceId"] = exchange.inference_id
    metadata["inferenceTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return {"captureData": told, "eventMetadata": metadata, "eventVersion": "0"}


def _data(config: Json, mode: str, body: bytes, content_type: str | None) -> Json:
    """A body as text where its type is among those that are to be treated so, else in base64."""
    encoding = _encoding(config.get("CaptureContentTypeHeader", {}), content_type)
    try:
        data = body.decode() if encoding != _BASE64 else base64.b64encode(body).decode()
    except UnicodeDecodeError:
        encoding, data = _BASE64, base64.b64encode(body).decode()
    observed = {} if content_type is None else {"observedContentType": content_type}
    return {**observed, "mode": mode, "data": data, "encoding": encoding}


def _encoding(types: Mapping[str, list[str]], content_type: str | None) -> str:
    plain = (content_type or "").partition(";")[0].strip().lower()
    for member, encoding in (("CsvContentTypes", "CSV"), ("JsonContentTypes", "JSON")):
        if plain in (known.lower() for known in types.get(member, [])):
            return encoding
    return _BASE64
