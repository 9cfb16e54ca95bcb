"""In front of moto: what a request changes is on disk before it has its answer.

Whether a request changes something is read off its protocol: the method of a REST request, the operation of the others.
A service that goes on after its answers (stacks, state machines) is also kept before it tells how far it is.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tidegate.local_cloud.keep.errors import KeepError
from tidegate.local_cloud.keep.kept_objects import KeptObjects
from tidegate.local_cloud.keep.memory import Memory

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_READ_BYTES = 4 * 1024 * 1024  # of a body, to find the operation and its resource
_READS = re.compile(
    r"(Get|List|Describe|Head|Search|Query|Scan|BatchGet|TransactGet|Lookup|Filter|Simulate|Validate|Test|Estimate|Select)"
)
_NAMES = re.compile(r"(Name|Arn|ARN|Id|Url|Identifier|Key)$")
_SCOPE = re.compile(r"[^/]+/\d{8}/[^/]+/(?P<service>[^/]+)/aws4_request")
_OPERATION_IN_PATH = re.compile(r"/operation/(?P<operation>\w+)$")
_GOES_ON = frozenset({"cloudformation", "states"})
_MULTIPART = frozenset({"uploads", "uploadId"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as far as it matters here."""

    service: str
    operation: str
    reads: bool
    resource: str = ""
    bucket: str = ""
    key: str = ""
    query: Mapping[str, list[str]] = field(default_factory=dict)
    is_json: bool = False

    @property
    def objects_only(self) -> bool:
        """Whether it changes objects of S3 and nothing else; the uploads in parts are not objects yet."""
        if self.service != "s3" or _MULTIPART & self.query.keys():
            return False
        return bool(self.key) or (bool(self.bucket) and "delete" in self.query)


class KeptMoto:
    """moto's application, with a memory."""

    def __init__(self, application: Application, memory: Memory, objects: KeptObjects) -> None:
        self._application = application
        self._memory = memory
        self._objects = objects

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        call = read_call(environ)
        if call.reads and call.service not in _GOES_ON:
            return self._application(environ, start_response)
        try:
            if call.reads:
                answer = _Answer(self._application, environ)
                self._memory.settle()
            else:
                answer = self._changed(call, environ)
        except KeepError as error:
            return _refused(call, error, start_response)
        return answer.sent(start_response)

    def _changed(self, call: Call, environ: Environ) -> _Answer:
        objects_only = call.objects_only and not self._objects.announces(call.bucket)
        with self._memory.changing(call.operation, call.resource, objects_only=objects_only):
            answer = _Answer(self._application, environ)
            if call.key:
                part = call.query.get("partNumber", [""])[0]
                upload = call.query.get("uploadId", [None])[0]
                self._objects.touched(call.bucket, call.key, upload, int(part) if part.isdigit() else None)
        return answer


class _Answer:
    """What an application answers, held back until it may go out."""

    def __init__(self, application: Application, environ: Environ) -> None:
        self._head: tuple[Any, ...] = ()
        self._body = application(environ, self._take)

    def _take(self, *head: Any) -> Callable[[bytes], None]:
        self._head = head
        return _written

    def sent(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(*self._head)
        return self._body


def _written(_: bytes) -> None:
    raise NotImplementedError("moto's framework answers with iterables")


def read_call(environ: Environ) -> Call:
    """What a request is; its body can be read again."""
    method, path = environ["REQUEST_METHOD"], _text(environ.get("PATH_INFO", "/"))
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", "") or query.get("X-Amz-Credential", [""])[0])
    service = scope["service"] if scope is not None else ""
    target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    in_path = _OPERATION_IN_PATH.search(path)
    if target:
        operation, members = target, _json_members(_body(environ))
    elif in_path is not None:
        operation, members = in_path["operation"], {}
    elif (method == "POST" and "form-urlencoded" in environ.get("CONTENT_TYPE", "")) or "Action" in query:
        form = parse_qs(_body(environ).decode(errors="replace"), keep_blank_values=True) | query
        members = {name: values[0] for name, values in form.items()}
        operation = str(members.get("Action", method))
    elif service in ("s3", ""):
        return _call_of_s3(method, path, query)
    else:
        reads = method in ("GET", "HEAD", "OPTIONS")
        return Call(service=service, operation=f"{service} {method}", reads=reads, resource=path, is_json=True)
    return Call(
        service=service,
        operation=operation,
        reads=_READS.match(operation) is not None,
        resource=_resource(members),
        is_json=bool(target) or in_path is not None,
    )


def _call_of_s3(method: str, path: str, query: Mapping[str, list[str]]) -> Call:
    bucket, _, key = path.lstrip("/").partition("/")
    sub_resource = next((name for name in query if not query[name][0] and not name.startswith(("X-Amz", "x-id"))), "")
    what = "Object" if key else "Bucket"
    if sub_resource == "delete":
        operation = "DeleteObjects"
    elif "uploadId" in query:
        operation = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload"}.get(method, "AbortMultipartUpload")
    elif sub_resource == "uploads":
        operation = "CreateMultipartUpload"
    else:
        verb = "Create" if method == "PUT" and not key and not sub_resource else method.capitalize()
        operation = f"{verb}{what}{sub_resource.capitalize()}"
    return Call(
        service="s3",
        operation=operation,
        reads=method in ("GET", "HEAD", "OPTIONS"),
        resource=f"s3://{bucket}/{key}" if key else f"s3://{bucket}",
        bucket=bucket,
        key=key,
        query=query,
    )


def _text(path: str) -> str:
    """WSGI has bytes as Latin-1."""
    return path.encode("latin-1").decode(errors="replace")


def _body(environ: Environ) -> bytes:
    """A body of moderate length, which moto can still read; empty for another."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or not 0 < int(length) <= _READ_BYTES:
        return b""
    body: bytes = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = io.BytesIO(body)
    if environ.get("HTTP_CONTENT_ENCODING") == "gzip":
        try:
            return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, _READ_BYTES)
        except zlib.error:
            return b""
    return body


def _json_members(body: bytes) -> Mapping[str, Any]:
    try:
        members = json.loads(body)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def _resource(members: Mapping[str, Any]) -> str:
    """What a request is about, for people: its first member that names something."""
    named = (value for name, value in members.items() if _NAMES.search(name) and isinstance(value, str))
    return next(named, "")


def _refused(call: Call, error: KeepError, start_response: Callable[..., Any]) -> Iterable[bytes]:
    said = str(error)
    escaped = said.replace("&", "&amp;").replace("<", "&lt;")
    if call.is_json:
        kind = "application/x-amz-json-1.1"
        body = json.dumps({"__type": "ServiceUnavailable", "message": said, "Message": said})
    else:
        kind = "text/xml"
        inner = f"<Error><Code>ServiceUnavailable</Code><Message>{escaped}</Message></Error>"
        body = inner if call.service == "s3" else f"<ErrorResponse>{inner}</ErrorResponse>"
    content = body.encode()
    start_response("503 Service Unavailable", [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]
