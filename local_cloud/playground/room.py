"""What the page asks: which endpoints there are, what their models propose, their metrics; and its invocations.

A browser cannot sign requests. What is posted below ``/playground/endpoints/`` goes to the same runtime as a signed
request to ``/endpoints/``, with the rights of whoever owns this machine. So it must be this page's own: it carries a
token that is another one at each start and that no other page can read, names a loopback host, and comes from here.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from botocore.exceptions import ClientError

from tidegate.local_cloud.playground.ways import ways_of
from tidegate.local_cloud.sagemaker import wire
from tidegate.local_cloud.sagemaker.archive import split_s3_uri
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.inference_components import InferenceComponents
from tidegate.local_cloud.sagemaker.multi_model import NoSuchModel
from tidegate.local_cloud.sagemaker.replica import Replica
from tidegate.local_cloud.sagemaker.runtime import Runtime
from tidegate.local_cloud.sagemaker.state import Json
from tidegate.playground import loopback
from tidegate.playground.first_request import first_request
from tidegate.playground.page import page

PATH = "/playground"
TOKEN_HEADER = "x-tidegate-playground"  # noqa: S105 - a name and no token
OBJECT_HEADER = "X-Tidegate-Object"
"""Of what :meth:`Playground.answer` says of an asynchronous request: ``answer`` or ``failure``."""
_CHUNK_BYTES = 256 * 1024
_METRICS_S = 2.0
_METRICS_BYTES = 8 << 20


def is_below(path: str) -> bool:
    """Whether a path is the playground's."""
    return path == PATH or path.startswith(f"{PATH}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Playground:
    """Answers below ``/playground``."""

    endpoints: Endpoints
    servers: Endpoints
    """What runs the inference components, by their names."""
    components: InferenceComponents
    runtime: Runtime
    region: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def answer(self, request: Request) -> Response:
        """Raises :class:`ServiceError` for what is refused, or cannot be answered."""
        path = request.path.removeprefix(PATH).strip("/")
        opens_a_tab = loopback.opens_a_tab(
            method=request.method,
            mode=request.headers.get("sec-fetch-mode", ""),
            destination=request.headers.get("sec-fetch-dest", ""),
        )
        own = loopback.refusal(
            host=request.headers.get("host", ""),
            origin=request.headers.get("origin", ""),
            site=request.headers.get("sec-fetch-site", ""),
            is_link=not path and opens_a_tab,
        )
        if own is not None:
            raise _denied(own)
        if not path and request.method == "GET":
            shown = page({"kind": "cloud", "token": self.token, "region": self.region})
            return Response(status=200, headers=shown.headers, body=shown.body)
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            raise _denied(
                "The request does not carry this cloud's token. If the cloud was started anew, load the page anew."
            )
        asked = {name: values[0] for name, values in parse_qs(request.query).items()}
        match request.method, path.split("/"):
            case "GET", ["targets"]:
                return wire.json_answer({"targets": list(self._targets())})
            case "GET", ["about"]:
                return wire.json_answer(self._about(asked))
            case "GET", ["metrics"]:
                return wire.json_answer({"instances": self._metrics(asked)})
            case "GET", ["later"]:
                return self._later(asked)
            case "POST", ["endpoints", name, *action]:
                return self.runtime.answer_unsigned(name, "/".join(action), request)
        raise ServiceError("UnknownOperationException", f"The playground has nothing at {request.path}.", status=404)

    def _targets(self) -> Iterator[Json]:
        for summary in self.endpoints.summaries():
            name = summary["EndpointName"]
            ways, reason = ways_of(name, summary["EndpointStatus"], self.endpoints, self.components)
            yield {
                "name": name,
                "status": summary["EndpointStatus"],
                "reason": reason,
                "ways": [
                    _way(name, label, headers, is_async=self.endpoints.async_config(name) is not None)
                    for label, headers in ways
                ],
            }

    def _about(self, asked: dict[str, str]) -> Json:
        name = asked.get("endpoint", "")
        lease = (
            self.components.lease(name, asked["component"])
            if "component" in asked
            else self.endpoints.lease(name, target_variant=asked.get("variant"), hostname=asked.get("hostname"))
        )
        try:
            with lease as held:
                if held.models is not None and "model" in asked:
                    return first_request(held.models.fetched(asked["model"]))
                return first_request(held.base_dir / "model")
        except (NoAnswer, NoSuchModel) as error:
            raise ServiceError(
                "ServiceUnavailable", f"Nothing can be said of its model now: {error}", status=503
            ) from error

    def _later(self, asked: dict[str, str]) -> Response:
        """What has become of an asynchronous request: 202 while it is under way, and then its object in S3."""
        name, output, failure = (asked.get(said, "") for said in ("endpoint", "output", "failure"))
        config = self.endpoints.async_config(name)
        if config is None:
            raise validation_error(f"Endpoint {name} is not there any more, or takes no asynchronous requests.")
        places = config["OutputConfig"]
        known = _is_below(output, places["S3OutputPath"])
        if not known or (failure and not _is_below(failure, places.get("S3FailurePath", ""))):
            raise _denied(f"Endpoint {name} writes neither {output} nor {failure or 'a failure object'}.")
        if self.runtime.async_invocations.is_under_way(name, output):
            return Response(status=202)
        s3 = self.runtime.async_invocations.roles.own_client("s3")
        for kind, location in (("answer", output), ("failure", failure)):
            if not location:
                continue
            bucket, key = split_s3_uri(location)
            try:
                found = s3.get_object(Bucket=bucket, Key=key)
            except ClientError:
                continue
            return Response(
                status=200,
                headers={"Content-Type": found["ContentType"], OBJECT_HEADER: kind},
                pieces=found["Body"].iter_chunks(_CHUNK_BYTES),
                deadline=time.monotonic() + self.runtime.targets.limits.stream_timeout_s,
                release=found["Body"].close,
            )
        said = "There is neither an answer nor a failure object. The cloud's log says what has become of the request."
        if not failure:
            said = (
                "It has failed. No object says why, because the endpoint's configuration has no S3FailurePath; the"
                " cloud's log does."
            )
        return Response(
            status=200, headers={"Content-Type": "text/plain", OBJECT_HEADER: "failure"}, body=said.encode()
        )

    def _metrics(self, asked: dict[str, str]) -> list[Json]:
        """What each server of an endpoint, or of a component, says at ``/metrics``."""
        component = asked.get("component")
        group, name = (self.endpoints, asked.get("endpoint", "")) if component is None else (self.servers, component)
        asking = [
            (
                " ".join([variant, str(instance.number), *([container] if len(instance.chain.replicas) > 1 else [])]),
                replica,
            )
            for running, variant, instances in group.running()
            if running == name and asked.get("variant") in (None, variant)
            for instance in instances
            for container, replica in instance.chain.replicas.items()
        ]
        if not asking:
            return []
        with ThreadPoolExecutor(max_workers=min(16, len(asking))) as pool:
            return list(pool.map(lambda each: _said(*each), asking))


def _said(name: str, replica: Replica) -> Json:
    told: Json = {"name": name, "text": None, "restarts": replica.restarts}
    try:
        with replica.lease() as client:
            answer = client.call("GET", "/metrics", headers={}, timeout_s=_METRICS_S, max_bytes=_METRICS_BYTES)
    except NoAnswer as error:
        return told | {"error": str(error)}
    if answer.status != 200:
        return told | {"error": f"its server has no metrics ({answer.status})"}
    return told | {"text": answer.body.decode(errors="replace")}


def _is_below(location: str, path: str) -> bool:
    """Whether an object is one that an endpoint writes to that path."""
    return path != "" and location.startswith(f"{path.rstrip('/')}/")


def _way(endpoint: str, label: str, chosen: dict[str, str], *, is_async: bool) -> dict[str, Any]:
    """One choice on the page: the headers that make it, and the paths of its requests."""
    name = quote(endpoint, safe="")
    headers = {HEADERS[what]: value for what, value in chosen.items()}
    component = chosen.get("component")
    below = "" if component is None else f"/inference-components/{quote(component, safe='')}"
    said = urlencode({"endpoint": endpoint, **chosen})
    invoke: str = f"/endpoints/{name}/{'async-invocations' if is_async else 'invocations'}"
    stream = None if is_async else f"/endpoints/{name}/invocations-response-stream"
    # The path of chats takes no header that chooses a variant or a model.
    chat = (
        f"/endpoints/{name}{below}/openai/v1/chat/completions"
        if chosen.keys() <= {"component"} and not is_async
        else None
    )
    return {
        "label": label,
        "headers": headers,
        "invoke": PATH + invoke,
        "stream": stream and PATH + stream,
        "chat": chat and PATH + chat,
        # Where to ask what has become of a request; `output` and `failure` are the locations that it was given.
        "later": f"{PATH}/later?{said}" if is_async else None,
        # As whoever signs asks it.
        "aws": {"invoke": invoke, "stream": stream, "chat": chat},
        "about": f"{PATH}/about?{said}",
        "metrics": f"{PATH}/metrics?{said}",
    }


HEADERS = {
    "variant": "X-Amzn-SageMaker-Target-Variant",
    "model": "X-Amzn-SageMaker-Target-Model",
    "component": "X-Amzn-SageMaker-Inference-Component",
    "hostname": "X-Amzn-SageMaker-Target-Container-Hostname",
}


def _denied(sentence: str) -> ServiceError:
    return ServiceError("AccessDeniedException", sentence, status=403)
