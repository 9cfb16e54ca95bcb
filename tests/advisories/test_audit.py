"""The audit of what is pinned, with the real pip-audit against an advisory service of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.advisories import audit
from tests.contract.running import free_port


class Service(ThreadingHTTPServer):
    """Knows the advisories that it is given, by package and version, in the form of osv.dev."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.advisories: dict[tuple[str, str], list[str]] = {audit.KNOWN: ["PYSEC-2014-8"]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Answers(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = query["package"]["name"]
        fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}]
        known = self.server.advisories.get((name, query["version"]), [])
        answer = {"vulns": [{"id": each, "aliases": [f"CVE-of-{each}"], "affected": affected} for each in known]}
        body = json.dumps(answer if known else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.lock"
    hashed = f"    --hash=sha256:{'0' * 64}\n"
    file.write_text(f"# pinned\nGood-One==1.0 \\\n{hashed}bad_one==2.0 \\\n{hashed}")
    return file


def test_a_pinned_version_with_an_advisory_fails_and_is_named_with_the_version_that_mends_it(
    service: Service, locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.advisories["bad-one", "2.0"] = ["PYSEC-2026-1"]
    assert audit.main([locked], {"AUDIT_OSV_URL": service.url}) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{locked}: bad-one 2.0: PYSEC-2026-1, CVE-of-PYSEC-2026-1; fixed in 9.9",
        f"audited: 2 pins of 1 files at {service.url}: 1 known vulnerabilities",
    ]


def test_without_an_advisory_it_passes_and_says_how_many_pins_it_asked_about(
    service: Service, locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main([locked], {"AUDIT_OSV_URL": service.url}) == 0
    assert capsys.readouterr().out == f"audited: 2 pins of 1 files at {service.url}: no known vulnerability\n"


def test_an_accepted_advisory_does_not_fail(service: Service, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.advisories["bad-one", "2.0"] = ["PYSEC-2026-1"]
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-of-PYSEC-2026-1": "the function is not called here"})
    assert audit.main([locked], {"AUDIT_OSV_URL": service.url}) == 0


@pytest.mark.parametrize(("required", "status"), [("", 0), ("1", 1)])
def test_where_nobody_can_be_asked_it_says_so_and_fails_only_where_it_must_not_be_left_out(
    locked: Path, capsys: pytest.CaptureFixture[str], required: str, status: int
) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/query"
    assert audit.main([locked], {"AUDIT_OSV_URL": url, "AUDIT_REQUIRED": required}) == status
    assert capsys.readouterr().out.startswith(f"NOT AUDITED: the advisory service {url} cannot be asked (")


def test_a_service_that_knows_of_nothing_is_not_believed(
    service: Service, locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.advisories.clear()
    assert audit.main([locked], {"AUDIT_OSV_URL": service.url, "AUDIT_REQUIRED": "1"}) == 1
    assert capsys.readouterr().out.startswith("NOT AUDITED: ")


def test_every_file_that_pins_packages_is_audited_and_read_whole(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    pinning = {
        path.relative_to(audit.REPOSITORY).as_posix()
        for pattern in ("*.lock", "constraints*.txt", "container/*.lock", "*/*/requirements*.txt")
        for path in audit.REPOSITORY.glob(pattern)
    }
    assert pinning == set(audit.LOCKED)
    assert audit.main([audit.REPOSITORY / name for name in audit.LOCKED], {"AUDIT_OSV_URL": service.url}) == 0
    assert f" pins of {len(audit.LOCKED)} files " in capsys.readouterr().out
