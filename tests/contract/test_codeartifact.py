"""`CA_REPOSITORY_ARN`: requirements come from CodeArtifact, and its token is seen by nobody but pip.

A small server of our own stands for both halves of AWS: the two calls of the service, and the index that they name.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.contract.running import running
from tests.contract.test_requirements import USES, wheel
from tidegate.inference.frontend.packages.package_index import Index

ARN = "arn:aws:codeartifact:eu-west-1:123456789012:repository/our-domain/our.repo"
TOKEN = "eyJ2ZXIiOjF9/secret+token=="


@dataclass(kw_only=True)
class CodeArtifact:
    """What was asked of the stand-in, and the wheels that it has."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    wheels: dict[str, bytes] = field(default_factory=dict)
    refuses: bool = False

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        target = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(target.query).items()}
        self.asked.append(target.path)
        named = {"domain": "our-domain", "domain-owner": "123456789012"}
        if target.path == "/v1/authorization-token":
            if self.refuses or query != named:
                return 403, b'{"message": "no permission for this domain"}'
            return 200, json.dumps({"authorizationToken": TOKEN, "expiration": 1}).encode()
        if target.path == "/v1/repository/endpoint":
            right = query == {**named, "repository": "our.repo", "format": "pypi"}
            content = {"repositoryEndpoint": f"{self.url}/pypi/our.repo/"}
            return (200, json.dumps(content).encode()) if right else (404, b"{}")
        if authorization != "Basic " + base64.b64encode(f"aws:{TOKEN}".encode()).decode():
            return 401, b""
        if target.path == "/pypi/our.repo/simple/tg-asked/":
            return 200, "".join(f'<a href="/wheels/{name}">{name}</a>' for name in self.wheels).encode()
        name = target.path.removeprefix("/wheels/")
        return (200, content) if (content := self.wheels.get(name)) else (404, b"")


@pytest.fixture
def codeartifact() -> Iterator[CodeArtifact]:
    stand_in = CodeArtifact(wheels=dict([wheel("tg_asked", "2.0", "__version__ = '2.0'")]))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = stand_in.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("content-type", "text/html" if "/simple/" in self.path else "application/json")
            self.send_header("content-length", str(len(body)))
            if status == 401:
                self.send_header("www-authenticate", 'Basic realm="ours"')
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield stand_in
        server.shutdown()
        thread.join()


def environment(codeartifact: CodeArtifact) -> dict[str, str]:
    return {
        "CA_REPOSITORY_ARN": ARN,
        "AWS_ENDPOINT_URL_CODEARTIFACT": codeartifact.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "1",
    }


def final_line(requirements: str, **variables: str) -> tuple[str, str]:
    """The last line, and all, of what a server says that does not come up."""
    files = {"code/inference.py": USES.format(module="json"), "code/requirements.txt": requirements}
    with running(files, wait=False, **variables) as server:
        assert server.ended() == 1, server.log()
        return server.log().strip().splitlines()[-1], server.log()


def test_requirements_are_installed_from_the_repository_with_its_token(codeartifact: CodeArtifact) -> None:
    files = {"code/inference.py": USES.format(module="tg_asked"), "code/requirements.txt": "tg_asked\n"}
    with running(files, **environment(codeartifact)) as server:
        assert server.post(b"1").json()["version"] == "2.0"
        assert ARN in server.log()
        assert TOKEN not in server.log()
    assert codeartifact.asked[:2] == ["/v1/authorization-token", "/v1/repository/endpoint"]


def test_the_token_is_not_in_what_the_server_says_of_a_failure(codeartifact: CodeArtifact) -> None:
    codeartifact.wheels = dict.fromkeys(codeartifact.wheels, b"")
    line, log = final_line("tg_asked\n", **environment(codeartifact))
    assert "code/requirements.txt cannot be installed: HTTP error 404 while getting " in line
    assert "/wheels/tg_asked-2.0" in line
    assert all(secret not in log for secret in (TOKEN, quote(TOKEN, safe=""), quote(TOKEN)))


def test_the_token_is_taken_out_of_any_text_in_either_spelling() -> None:
    index = Index(url=f"https://aws:{quote(TOKEN, safe='')}@host/simple/", token=TOKEN)
    assert index.redact(f"at {index.url}, and {TOKEN}") == "at https://aws:****@host/simple/, and ****"
    assert "secret" not in repr(index)


def test_a_refusal_of_aws_is_one_line_and_exit_1(codeartifact: CodeArtifact) -> None:
    codeartifact.refuses = True
    line, _ = final_line("tg_asked\n", **environment(codeartifact))
    assert line.startswith(f"tidegate: error: CodeArtifact (CA_REPOSITORY_ARN={ARN}) cannot be asked: ")
    assert "no permission for this domain" in line


def test_an_image_without_boto3_says_so_in_one_line(codeartifact: CodeArtifact, tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ImportError('not here')")
    line, _ = final_line("tg_asked\n", PYTHONPATH=str(tmp_path), **environment(codeartifact))
    assert line == (
        f"tidegate: error: CodeArtifact (CA_REPOSITORY_ARN={ARN}) cannot be asked: "
        "it needs boto3, which is not in this image."
    )
    assert codeartifact.asked == []


def test_the_wheels_of_an_archive_need_no_repository(codeartifact: CodeArtifact) -> None:
    name, content = wheel("tg_asked", "3.0", "__version__ = '3.0'")
    files: dict[str, str | bytes] = {
        "code/inference.py": USES.format(module="tg_asked"),
        "code/requirements.txt": "tg_asked\n",
        f"code/wheels/{name}": content,
    }
    with running(files, **environment(codeartifact)) as server:
        assert server.post(b"1").json()["version"] == "3.0"
    assert codeartifact.asked == []


def test_a_name_that_is_no_repository_is_refused_at_start() -> None:
    line, _ = final_line("", CA_REPOSITORY_ARN="arn:aws:s3:::bucket")
    assert line == (
        "tidegate: error: CA_REPOSITORY_ARN='arn:aws:s3:::bucket' is not valid: "
        "it must be like arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY."
    )
