"""Servers that are not Tidegate's: whose command runs for which image, on which port, and how a failure is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_cloud.conftest import Account, await_true
from tidegate.local_cloud import CloudError, LocalCloud
from tidegate.local_cloud.sagemaker import fixed_port
from tidegate.local_cloud.sagemaker.container import ContainerFailed, ContainerSpec, await_healthy
from tidegate.local_cloud.sagemaker.process_container import ProcessRunner, launcher
from tidegate.local_cloud.sagemaker.server_commands import CommandRefused, ServerCommands

SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from neighbour import WORD

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == sys.argv[1] else 404)
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        said = {"word": WORD, "body": body, "here": os.getcwd(), "arguments": sys.argv[1:], "process": os.getpid()}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

print("listening", flush=True)
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def moves_the_port() -> bool:
    """Whether this machine's kernel lets another process answer a `bind`."""
    trial = f"import socket; s = socket.socket(); s.bind(('127.0.0.1', {fixed_port.PORT})); print(s.getsockname()[1])"
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        command = [*launcher(Path.cwd(), port=port), sys.executable, "-c", trial]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() == str(port)


needs_the_kernel = pytest.mark.skipif(not moves_the_port(), reason="this machine does not move a server's port")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("project")
    (directory / "server.py").write_text(SERVER)
    (directory / "neighbour.py").write_text("WORD = 'hello'\n")
    return directory


@pytest.fixture(scope="module")
def others(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A cloud whose models are served by server.py, except those of two images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        cloud = LocalCloud(
            tmp_path_factory.mktemp("cloud") / "state",
            container_command=[sys.executable, "server.py", "/ping"],
            container_commands={
                "byoc": [sys.executable, "server.py", "/ping", "as byoc"],
                "broken": [sys.executable, "-c", "import sys; print('no licence'); sys.exit(3)"],
            },
        )
    with cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def model(account: Account, image: str) -> str:
    name = account.name("model")
    account.sagemaker.create_model(
        ModelName=name, ExecutionRoleArn="arn:aws:iam::123456789012:role/r", PrimaryContainer={"Image": image}
    )
    return name


def answer(account: Account, endpoint: str, **options: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(account.invoke(endpoint, b"question", **options))
    return said


@needs_the_kernel
def test_servers_that_bind_port_8080_run_at_the_same_time(others: Account, work: Path) -> None:
    """Each in the directory in which the cloud was made, with what lies there, and each asked by itself."""
    first, second = model(others, f"{ECR}/mine:1"), model(others, f"{ECR}/byoc:7")
    endpoint = others.endpoint(first, second, weights=(1.0, 1.0))
    other = others.endpoint(first)
    said = [
        answer(others, endpoint, TargetVariant="variant-0"),
        answer(others, endpoint, TargetVariant="variant-1"),
        answer(others, other),
    ]
    assert [each["arguments"] for each in said] == [["/ping"], ["/ping", "as byoc"], ["/ping"]]
    assert {(each["word"], each["body"], each["here"]) for each in said} == {("hello", "question", str(work))}
    assert len({each["process"] for each in said}) == 3
    others.delete(endpoint)
    others.delete(other)


def test_a_server_that_ends_is_told_with_its_exit_code_and_last_words(others: Account) -> None:
    reason = others.failed_endpoint(model(others, "broken"))
    assert reason.startswith("the server ended with exit code 3: no licence (production variant ")


@needs_the_kernel
def test_a_server_whose_ping_is_not_200_is_told_so(tmp_path: Path, work: Path) -> None:
    command = (sys.executable, str(work / "server.py"), "/health")
    runner = ProcessRunner(tmp_path / "containers", others=ServerCommands(every=command, directory=str(work)))
    base = tmp_path / "base"
    base.mkdir()
    container = runner.start(ContainerSpec(image="any", base_dir=base, environment={}, log=tmp_path / "log"))
    try:
        await_true(lambda: (tmp_path / "log").read_bytes().startswith(b"listening"), "the server listens")
        with pytest.raises(ContainerFailed, match=r"within 1 seconds.*; (it answers 404|nothing answers at its port)$"):
            await_healthy(container, timeout_s=1, cancelled=threading.Event())
    finally:
        container.stop(0.0)


BINDS = """
import json, os, socket, sys, threading
found = {}
def bound(name, family, address, prepare=lambda s: None):
    with socket.socket(family) as s:
        prepare(s)
        s.bind(address)
        found[name] = s.getsockname()[:2] if family != socket.AF_UNIX else s.getsockname()
bound("everywhere", socket.AF_INET, ("0.0.0.0", 8080))
both = lambda s: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
if sys.argv[1] == "6":
    bound("both", socket.AF_INET6, ("::", 8080), both)
bound("unix", socket.AF_UNIX, "socket")
bound("free", socket.AF_INET, ("127.0.0.1", 0))
thread = threading.Thread(target=bound, args=("thread", socket.AF_INET, ("127.0.0.1", 8080)))
thread.start()
thread.join()
listening = socket.socket()
listening.bind(("127.0.0.1", 8080))
listening.listen()
try:
    bound("again", socket.AF_INET, ("127.0.0.1", 8080))
except OSError as error:
    found["again"] = error.strerror
print(json.dumps(found), flush=True)
"""
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-sys_admin")
"""Root's own way to a filter is closed then, as it is to any user."""


@needs_the_kernel
@pytest.mark.parametrize("prefix", [(), WITHOUT_RIGHTS], ids=["as this user", "without rights"])
def test_only_port_8080_of_a_server_becomes_another(tmp_path: Path, prefix: tuple[str, ...]) -> None:
    """On a loopback address, in each thread; and a second socket at the same port is refused as on any machine."""
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"this machine refuses: {' '.join(prefix)}")
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        command = [*prefix, *launcher(tmp_path, port=port), sys.executable, "-c", BINDS, "6" if socket.has_ipv6 else ""]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["everywhere"] == found["thread"] == ["127.0.0.1", port]
    assert found.get("both", ["::ffff:127.0.0.1", port]) == ["::ffff:127.0.0.1", port]
    assert found["unix"] == "socket"
    assert found["free"][1] not in (0, port)
    assert found["again"] == "Address already in use"


def test_an_images_command_is_found_by_its_whole_name_or_less(tmp_path: Path) -> None:
    texts = ["true every", "byoc=true byoc", "byoc:2=true two", "localhost:5000/team/byoc=true team"]
    commands = ServerCommands.of(texts, tmp_path)
    wanted = {
        "byoc": "byoc",
        f"{ECR}/byoc:1": "byoc",
        f"{ECR}/byoc@sha256:{'0' * 64}": "byoc",
        f"{ECR}/byoc:2": "two",
        "localhost:5000/team/byoc:9": "team",
        f"{ECR}/team/byoc": "every",
        "anything": "every",
    }
    assert {image: commands.command(image)[1] for image in wanted} == wanted
    assert ServerCommands.of([], tmp_path).command("anything") == ()
    assert ServerCommands.read(json.loads(json.dumps(commands.record()))) == commands


def test_an_image_without_a_command_beside_others_that_have_one_is_told_with_the_nearest(tmp_path: Path) -> None:
    commands = ServerCommands.of(["byoc:2=true two", "another=true x"], tmp_path)
    sentence = commands.misfit(f"{ECR}/byoc:3")
    assert sentence == (
        f"no --server is for the image {ECR}/byoc:3, so Tidegate's own is started; the nearest with one is byoc:2"
        " (others: another)"
    )
    assert commands.misfit("byoc:2") == ""
    assert ServerCommands.of(["true", "byoc:2=true two"], tmp_path).misfit("byoc:3") == "", "one command is for all"
    assert ServerCommands.of([], tmp_path).misfit("byoc:3") == ""
    log, base = tmp_path / "log", tmp_path / "base"
    base.mkdir()
    container = ProcessRunner(tmp_path / "containers", others=commands).start(
        ContainerSpec(image=f"{ECR}/byoc:3", base_dir=base, environment={"TIDEGATE_WORKERS": "none"}, log=log)
    )
    try:
        with pytest.raises(ContainerFailed) as failed:
            await_healthy(container, timeout_s=600, cancelled=threading.Event())
    finally:
        container.stop(0.0)
    assert str(failed.value).endswith(f" ({sentence})")
    assert log.read_text(encoding="utf-8").startswith(f"local cloud: {sentence}\n")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["true", "true x"], "'true x' is the second command for all images: write IMAGE=COMMAND for one image's"),
        (["a=true", "a=true"], "the image a has two commands"),
        (["a="], "'a=' names no command"),
        (["PORT=1 true"], "begins with a variable: write env PORT=1 true"),
        (["python 'x"], "cannot be read as a shell would read it: No closing quotation"),
        (["nosuchcommand x"], "there is no command 'nosuchcommand' on PATH"),
        (["./serve"], "there is no program "),
        (["./notes.txt"], "is not executable: chmod +x it"),
    ],
)
def test_a_command_that_cannot_run_is_refused_by_name(tmp_path: Path, texts: list[str], words: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CommandRefused) as refused:
        ServerCommands.of(texts, tmp_path)
    assert words in str(refused.value)


def test_up_a_second_time_takes_the_same_servers_and_refuses_others(tmp_path: Path) -> None:
    kept = (name for name in os.environ if not name.startswith("AWS_") and not name.lower().endswith("_proxy"))
    environment = {name: os.environ[name] for name in kept}
    environment["LOCAL_CLOUD_DIR"] = str(tmp_path / "cloud")

    def up(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local_cloud", "up", *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)

    try:
        first = up("--server", "byoc=true serve")
        assert first.returncode == 0, first.stderr
        again = up("--server", "byoc=true serve")
        assert (again.returncode, again.stdout) == (0, first.stdout)
        assert up().stdout == first.stdout
        other = up("--server", "true")
        assert (other.returncode, other.stdout) == (1, "")
        assert "already, with other servers or from another directory: `tidegate cloud down` first" in (other.stderr)
    finally:
        LocalCloud(tmp_path / "cloud").down()


def test_a_cloud_is_not_made_with_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="there is no command 'nosuchcommand' on PATH"):
        LocalCloud(tmp_path / "cloud", container_commands={"byoc": ["nosuchcommand"]})
    assert shutil.which("nosuchcommand") is None
