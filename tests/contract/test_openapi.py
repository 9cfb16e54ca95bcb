"""`/openapi.json` against the server that serves it: what it describes is there, what is there it describes, and its
examples are sent and answered as it says. One server for each mode.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract.repositories import Serving, serving
from tests.contract.running import Reply, Server, running, write_files
from tests.contract.talking import Refused, Talker
from tidegate.inference import errors
from tidegate.inference.frontend.models.registry import SINGLE_MODEL

ROOT = Path(__file__).parents[2]
ROUTERS = ("application.py", "open_inference.py", "repository_paths.py")
VERBS = ("get", "post", "put", "patch", "delete")
CHAT = "/v1/chat/completions"
CONVERSE = "invocations-bidirectional-stream"
PAGES = "/playground", "/docs", "/openapi.json"
NAME = 'cats & "dogs" {1}'

SUMS = """
import json

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    return {"sum": sum(data)}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
TALKS = """
def chat_fn(request, model):
    return "Good day"

async def stream_fn(incoming, context):
    async for message in incoming:
        yield message
"""
IMAGE = b"\x89PNG\r\n\x1a\nnot really"


def archive(code: str, **more: Any) -> dict[str, str]:
    """A model with an example: the sum of numbers."""
    files = {"code/inference.py": code, "example/request.json": "[1, 2]", "example/response.json": '{"sum": 3}'}
    listed = {
        name: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "size_bytes": len(text)}
        for name, text in files.items()
    }
    request = {"file": "example/request.json", "content_type": "application/json", "accept": "application/json"}
    manifest = {
        "format_version": 1,
        "files": listed,
        "name": "sums",
        "lineage": {"git": {"revision": "0123456789abcdef", "dirty": False}},
        "example": {
            "request": request,
            "response": {"file": "example/response.json", "content_type": "application/json"},
        },
        **more,
    }
    return {**files, "manifest.json": json.dumps(manifest)}


@pytest.fixture(scope="module")
def single() -> Iterator[Server]:
    """One model whose script answers in every way that there is."""
    with running(archive(SUMS + TALKS), TIDEGATE_PAGES="on", SAGEMAKER_ENABLE_STATEFUL_SESSIONS="on") as server:
        yield server


@pytest.fixture(scope="module")
def multi() -> Iterator[Server]:
    """A server of the multi-model contract with one model that is loaded."""
    with running({}, TIDEGATE_PAGES="on", SAGEMAKER_MULTI_MODEL="on") as server:
        model_dir = server.model_dir.parent / "models" / "one" / "model"
        write_files(model_dir, archive(SUMS))
        loaded = server.request("POST", "/models", json.dumps({"model_name": NAME, "url": str(model_dir)}))
        assert loaded.status == 200, loaded.body
        yield server


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of a repository: two models, one of them loaded."""
    path = tmp_path_factory.mktemp("openapi")
    with serving(path, {"cats": (1,), "dogs": (1,)}, TIDEGATE_PAGES="on") as running_one:
        running_one.until_known("cats")
        running_one.until_known("dogs")
        assert running_one.ask("cats").status == 200
        yield running_one


def description(server: Server) -> dict[str, Any]:
    reply = server.request("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    return strict(reply.body)


def strict(body: bytes) -> Any:
    """JSON, without what Python's reader takes besides."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(body.decode("utf-8"), parse_constant=refuse)


def resolved(document: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, dict) and "$ref" in value:
        found: Any = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found
    return value


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        yield from ((path, verb, verbs[verb]) for verb in VERBS if verb in verbs)


def bytes_of(example: Mapping[str, Any], media_type: str) -> bytes | None:
    """The body of an example object; None where the description does not hold it."""
    if (uri := example.get("externalValue")) is not None:
        head, _, data = uri.partition(",")
        return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
    if "value" not in example:
        return None
    is_json = media_type.endswith(("/json", "+json"))
    return (json.dumps(example["value"]) if is_json else example["value"]).encode()


def asked(server: Server, document: Mapping[str, Any], path: str, verb: str, operation: Mapping[str, Any]) -> Reply:
    """The answer to an operation: to its example, where it has one."""
    for parameter in (resolved(document, each) for each in operation.get("parameters", [])):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(parameter.get("example", "latest"), safe=""))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        examples = [*content.get("examples", {}).values()]
        if "example" in content:
            examples.append({"value": content["example"]})
        for example in examples:
            headers = {"content-type": media_type, **example.get("x-tidegate-headers", {})}
            if "schema" in content and "value" in example:
                Draft202012Validator(content["schema"]).validate(example["value"])
            return server.request(verb.upper(), path, bytes_of(example, media_type), headers)
    body = b"[1, 2]" if verb == "post" else None
    return server.request(verb.upper(), path, body, {"content-type": "application/json"} if body else {})


def is_there(reply: Reply, path: str, verb: str) -> bool:
    """Whether an answer is one of something that is served."""
    if reply.status not in (404, 405, 400):
        return True
    said = reply.json()["error"]
    message = said if isinstance(said, str) else said["message"]
    if reply.status == 400:
        return "This server has one model" not in message
    if reply.status == 404:
        no_such_path = message.startswith(("There is nothing at", "There are no adapters here"))
        return not no_such_path and "has no chat_fn" not in message
    return False


def check(server: Server, document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Ask for everything that is described, and compare each answer with what is said of it; returns what was asked."""
    OpenAPIV31SpecValidator(dict(document)).validate()
    done = set()
    for path, verb, operation in operations(document):
        if path.endswith(CONVERSE):
            if "{" not in path:
                assert str(opened(server, path)) in operation["responses"], path
            assert server.request("GET", path.replace("{model_name}", "x").replace("{version}", "1")).status == 426
            done.add((verb, path))
            continue
        if (verb, path) == ("post", "/models") or (verb == "delete" and path.startswith("/models/")):
            continue  # they change what is loaded: the fixture has loaded, and the last test unloads
        if path.endswith("/unload"):
            continue
        reply = asked(server, document, path, verb, operation)
        assert is_there(reply, path, verb), (path, verb, reply.status, reply.body)
        responses = operation["responses"]
        said = responses.get(str(reply.status)) or responses.get(f"{reply.status // 100}XX")
        assert said is not None, (path, verb, reply.status, reply.body)
        said = resolved(document, said)
        valid(document, said.get("content"), reply, f"{verb} {path}")
        done.add((verb, path))
    return done


def valid(document: Mapping[str, Any], content: Mapping[str, Any] | None, reply: Reply, where: str) -> None:
    """Whether an answer is of a type and a shape that the description has."""
    if not reply.body:
        return
    assert content is not None, where
    media_type = reply.headers["content-type"].partition(";")[0]
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    found = next((content[each] for each in ranges if each in content), None)
    assert found is not None, (where, media_type, list(content))
    if media_type == "application/json":
        schema = {**resolved(document, found["schema"])}
        Draft202012Validator({**schema, "components": document["components"]}).validate(reply.json())


def candidates() -> set[str]:
    """Every path that the server's routers match, with NAME and VERSION: read from the patterns in their sources."""
    folder = ROOT / "inference" / "frontend" / "http"
    found = {"/ping", "/metrics", "/execution-parameters", "/invocations", CHAT}
    for router in ROUTERS:
        below = "/v2/" if router == "open_inference.py" else "/"
        for node in ast.walk(ast.parse((folder / router).read_text(encoding="utf-8"))):
            if isinstance(node, ast.MatchSequence):
                for steps in product(*map(steps_of, node.patterns)):
                    found.add(below + "/".join(filter(None, steps)))
    return {path.rstrip("/") for path in found if not path.startswith(("//", *PAGES)) and path.strip("/")}


def steps_of(pattern: ast.pattern) -> list[str]:
    """What one place of a pattern may be."""
    match pattern:
        case ast.MatchValue(value=ast.Constant(value=str(step))):
            return [step]
        case ast.MatchAs(pattern=None, name=name):
            return [{"version": "VERSION", "last": CONVERSE}.get(name or "", "NAME")]
        case ast.MatchAs(pattern=inner) if inner is not None:
            return steps_of(inner)
        case ast.MatchOr(patterns=patterns):
            return [step for each in patterns for step in steps_of(each)]
        case ast.MatchStar(name=str()):  # what may follow a name, which is matched elsewhere
            return ["", CHAT.strip("/"), "infer", "ready"]
    return [""]


def covered(document: Mapping[str, Any], verb: str, path: str) -> bool:
    """Whether a description has an operation for a path."""
    for template, verbs in document["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if verb in verbs and re.fullmatch(pattern, path):
            return True
    return False


def missing(server: Server, document: Mapping[str, Any], chosen: str) -> list[str]:
    """What the server answers and the description does not have."""
    found = []
    names = {"NAME": quote(chosen, safe=""), "VERSION": "1"}
    for path in sorted({re.sub("NAME|VERSION", lambda found: names[found[0]], each) for each in candidates()}):
        for verb in ("get", "post"):
            if covered(document, verb, path):
                continue
            if path.endswith(CONVERSE):
                if verb == "get" and opened(server, path) == 101:
                    found.append(f"{verb} {path}")
                continue
            body = json.dumps({"messages": [{"role": "user", "content": "x"}], "model": chosen})
            reply = server.request(
                verb.upper(), path, body if verb == "post" else None, {"content-type": "application/json"}
            )
            if is_there(reply, path, verb):
                found.append(f"{verb} {path} {reply.status}")
    return found


def opened(server: Server, path: str) -> int:
    """The status of a WebSocket that is asked for."""
    try:
        with Talker(server, path):
            return 101
    except Refused as error:
        return error.status


def test_everything_that_a_server_of_one_model_describes_is_there_and_nothing_is_left_out(single: Server) -> None:
    """Its examples are answered as described, and every path of the routers is in it or is none here."""
    document = description(single)
    assert document["info"]["title"] == "sums"
    assert document["info"]["version"] == "0123456789ab"
    assert document["servers"][0]["url"] == f"http://127.0.0.1:{single.port}"
    done = check(single, document)
    assert {("post", "/invocations"), ("post", "/v1/chat/completions"), ("get", f"/{CONVERSE}")} <= done
    assert missing(single, document, SINGLE_MODEL) == []
    operation = document["paths"]["/invocations"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["examples"]["archive"]
    answered = operation["responses"]["200"]["content"]["application/json"]["examples"]["archive"]
    assert (example["value"], answered["value"]) == ([1, 2], {"sum": 3})
    assert single.post(json.dumps(example["value"])).json() == answered["value"]
    names = {resolved(document, each)["name"] for each in operation["parameters"]}
    assert {"X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Session-Id"} <= names


def test_a_multi_model_server_describes_each_model_that_is_loaded_and_none_that_is_gone(multi: Server) -> None:
    """Whatever its name is: it is encoded in the path, and the description is valid."""
    document = description(multi)
    path = f"/models/{quote(NAME, safe='')}/invoke"
    assert document["paths"][path]["post"]["x-tidegate-playground"] == {"model": NAME}
    check(multi, document)
    assert missing(multi, document, NAME) == []
    assert "/invocations" not in document["paths"]
    assert "/v1/chat/completions" not in document["paths"]
    assert multi.request("DELETE", f"/models/{quote(NAME, safe='')}").status == 200
    later = description(multi)
    OpenAPIV31SpecValidator(later).validate()
    assert path not in later["paths"]
    assert "No model is loaded now" in later["info"]["description"]


def test_the_description_of_a_repository_follows_what_is_loaded_now(repository: Serving) -> None:
    """A new version is described in the place of the one before when it answers."""
    server = repository.server
    document = description(server)
    assert {"/models/cats/invoke", "/models/cats/versions/1/invoke", "/invocations"} <= set(document["paths"])
    assert "/models/dogs/invoke" not in document["paths"]
    check(server, document)
    assert missing(server, description(server), "cats") == []
    files = {file: text.encode() for file, text in archive(SUMS + TALKS).items()}
    repository.folder.put_version("cats", 2, files)

    def version() -> str:
        return str(description(server)["paths"]["/models/cats/invoke"]["post"]["x-tidegate-playground"]["version"])

    repository.until(lambda: version() == "2", "version 2 answers, and is described")
    later = description(server)
    check(server, later)
    example = later["paths"]["/models/cats/invoke"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert example["archive"]["value"] == [1, 2]
    assert "/models/cats/v1/chat/completions" in later["paths"]


def test_every_error_of_the_table_is_described(single: Server, repository: Serving) -> None:
    """Each code with its words: in the answers of operations, or, of no operation, among the codes."""
    found: set[str] = set()
    for server in (single, repository.server):
        document = description(server)
        found |= {code for name in document["components"]["responses"] for code in name.split("-")[1:]}
        codes = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
        assert codes == sorted({each.code for each in errors.RequestError.__subclasses__()} | {"internal_error"})
    # One is of no operation, but of a verb that a path does not have.
    assert set(codes) - found == {"method_not_allowed"}
    refused = single.request(
        "POST", "/invocations", b"{", {"content-type": "application/json", "content-encoding": "x"}
    )
    assert refused.status == 415
    Draft202012Validator(document["components"]["schemas"]["Error"]).validate(refused.json())


def test_the_pages_of_a_server_are_for_this_machine_only(single: Server) -> None:
    """Not by another name and not from another page; by a link, in a tab."""
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path in ("/openapi.json", "/docs", "/docs/"):
        assert single.request("GET", path).status == 200
        assert single.request("HEAD", path).body == b""
        assert single.request("POST", path, b"").status == 405
        assert single.request("GET", path, headers={"Host": "evil.example"}).status == 403
        assert single.request("GET", path, headers={"Origin": "http://evil.example"}).status == 403
        assert single.request("GET", path, headers={"Sec-Fetch-Site": "cross-site"}).status == 403
        assert single.request("GET", path, headers=linked).status == 200
