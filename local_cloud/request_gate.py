"""Through here goes every request to moto's services: what AWS refuses is refused, and no answer is a page of HTML.

moto takes much without a look. The services that this cloud acts upon are held against botocore's model of the
operation, and then against the rules of a room of ours; every other service is moto's alone. What moto lacks is refused
by name, and an exception that nobody foresaw is an error of the protocol, with its traceback in the log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError
from botocore.model import OperationNotFoundError, StructureShape
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from werkzeug.exceptions import HTTPException

from tidegate.local_cloud.sagemaker.shapes import broken_constraints, operation_model
from tidegate.playground.loopback import is_loopback

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Rules = Callable[[str, Json], None]
"""Takes an operation and the members of a request, and raises :class:`Refusal` for what AWS does not take."""
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# The services whose requests are checked, with the code that each has for what it does not accept.
_CODES = {
    "application-autoscaling": "ValidationException",
    "cloudwatch": "ValidationError",
    "events": "ValidationException",
    "scheduler": "ValidationException",
}
_LONGEST_TEXT_CHARS = 500
_XML_PROTOCOLS = ("application/x-www-form-urlencoded", "text/xml", "application/xml")


class Refusal(Exception):
    """A request that the service does not accept: its code, where that is not the usual one, and its sentence."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class _Error(ServiceException):
    """A class of our own, because moto reads off the module of an error whose error it is."""


_act_of_moto = BaseResponse.call_action
_rules: dict[str, Rules] = {}


def install() -> None:
    """Puts the gate before what moto does, for this process. It checks no words until :func:`check_by` says which."""
    BaseResponse.call_action = _act  # type: ignore[method-assign]


def check_by(rules: Mapping[str, Rules]) -> None:
    """Replaces the rules by which requests are checked beyond botocore's models, by service."""
    _rules.clear()
    _rules.update(rules)


def _act(self: BaseResponse) -> Any:
    service = str(self.boto3_service_name)
    try:
        if service in _CODES:
            _check(self, service)
        return _act_of_moto(self)
    except Refusal as refusal:
        return _answered(self, refusal.code or _CODES[service], refusal.message)
    except ClientError as error:  # of another service of this cloud, which moto or a room of ours has called
        said = error.response["Error"]
        return _answered(self, str(said.get("Code", "")), str(said.get("Message", "")))
    except NotImplementedError:
        return _answered(self, "UnknownOperationException", f"The local cloud does not have {_called(self)}.")
    except (HTTPException, ServiceException):
        raise
    except Exception as error:
        logger.exception("%s failed", _called(self))
        status, headers, body = _answered(self, "InternalFailure", _failure(_called(self), error))
        del status
        return 500, headers | {"status": "500"}, body


def _check(response: BaseResponse, service: str) -> None:
    operation = operation_model(service, str(response._get_action()))
    if operation is None or operation.input_shape is None:
        return
    members = _members(response, operation.input_shape)
    broken = broken_constraints(operation.input_shape, members)
    if broken is not None:
        raise Refusal(broken)
    if service in _rules:
        _rules[service](operation.name, members)


def _members(response: BaseResponse, wanted: StructureShape) -> Json:
    """What a request says, by the names of the model."""
    if response.automated_parameter_parsing:
        return dict(response.params)
    try:
        read = json.loads(response.body or "{}")
    except ValueError as error:
        raise Refusal("The request's body is not JSON.", code="SerializationException") from error
    if not isinstance(read, dict):
        raise Refusal("The request's body is not a JSON object.", code="SerializationException")
    for name, shape in wanted.members.items():
        place, called = shape.serialization.get("location"), shape.serialization.get("name", name)
        if place == "uri" and called in response.uri_match:
            read[name] = unquote(str(response.uri_match[called]))
        elif place == "querystring":
            given = response.normalized_request.args.getlist(called)
            if given:
                read[name] = _typed(shape.type_name, given)
    return read


def _typed(kind: str, given: list[str]) -> Any:
    """The text of a query as the model has it."""
    if kind == "list":
        return given
    if kind in ("integer", "long") and given[0].lstrip("-").isdecimal():
        return int(given[0])
    return given[0]


def _answered(response: BaseResponse, code: str, message: str) -> Any:
    return response.serialized(ActionResult(_Error(code, message)))


def _called(response: BaseResponse) -> str:
    return f"{response._get_action()} of {response.boto3_service_name}"


def _failure(what: str, error: Exception) -> str:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"The local cloud failed in {what} ({said[:_LONGEST_TEXT_CHARS]}); its log has the rest."


_ELSEWHERE = "The local cloud's own paths are below the address in AWS_ENDPOINT_URL_SAGEMAKER; here is Amazon S3."
_FOREIGN = "A page of {origin} may not use the local cloud: only programs, and pages of this machine."


class NoPages:
    """In front of moto's servers: an exception that leaves them is told in the request's protocol.

    Our own paths are at SageMaker's address, and who asks for them here is told so. A web page of another machine is
    refused: it could put an archive here and have a stack run it, and moto would let it read the answers.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not _is_of_this_machine(origin):
            return _told(environ, start_response, "403 Forbidden", "AccessDenied", _FOREIGN.format(origin=origin[:200]))
        if _is_own_path(environ):
            return _told(environ, start_response, "405 Method Not Allowed", "MethodNotAllowed", _ELSEWHERE)
        try:
            return self._application(environ, start_response)
        except Exception as error:
            what = f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
            target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
            if target:
                what = f"{what} {target.rpartition('.')[2]}"
            if isinstance(error, OperationNotFoundError):
                return _told(environ, start_response, "400 Bad Request", "UnknownOperationException", str(error))
            logger.exception("%s failed", what)
            said = _failure(what, error)
            return _told(environ, start_response, "500 Internal Server Error", "InternalFailure", said)


def _is_of_this_machine(origin: str) -> bool:
    """Of a page whose address is a loopback one, at any port: somebody's front end that is being written."""
    try:
        name = urlsplit(origin).hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def _is_own_path(environ: Mapping[str, Any]) -> bool:
    """A bucket may be called `local`, but an object takes no POST without a word in the query."""
    path, query = str(environ.get("PATH_INFO")), environ.get("QUERY_STRING")
    return environ.get("REQUEST_METHOD") == "POST" and path.startswith("/local/") and not query


def _told(
    environ: Mapping[str, Any], start_response: Callable[..., Any], status: str, code: str, message: str
) -> Iterable[bytes]:
    """An error as JSON, or as XML where the client speaks that."""
    kind = str(environ.get("CONTENT_TYPE", ""))
    signed_for = str(environ.get("HTTP_AUTHORIZATION", ""))
    if kind.startswith(_XML_PROTOCOLS) or "/s3/aws4_request" in signed_for or not (kind or signed_for):
        inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        of_s3 = not kind.startswith("application/x-www-form-urlencoded")
        body = f"<Error>{inner}</Error>" if of_s3 else f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>"
        content, kind = f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode(), "application/xml"
    elif "cbor" in kind:
        content, kind = _cbor({"__type": code, "message": message}), "application/cbor"
    else:
        content = json.dumps({"__type": code, "message": message}).encode()
        kind = "application/x-amz-json-1.1"
    headers = [("Content-Type", kind), ("Content-Length", str(len(content))), ("x-amzn-errortype", code)]
    if kind == "application/cbor":
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    start_response(status, headers)
    return [content]


def _cbor(members: Mapping[str, str]) -> bytes:
    """A map of texts in CBOR (RFC 8949): each has its kind and its length in front."""

    def text(value: str) -> bytes:
        content = value.encode()
        return b"\x79" + len(content).to_bytes(2, "big") + content  # a text with a length of two bytes

    return bytes([0xA0 | len(members)]) + b"".join(text(name) + text(value) for name, value in members.items())
