"""What this machine and this shell can do for a local cloud and what not, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from tidegate.local_cloud.engine import EngineError, find_client
from tidegate.local_cloud.environment import ACCESS_KEY_ID, past_proxies
from tidegate.local_cloud.sagemaker import private_opt_ml
from tidegate.local_cloud.sagemaker.process_container import SERVER_PACKAGES, launcher
from tidegate.local_cloud.state_directory import StateDirectory, SupervisorRecord

_TRIAL_TIMEOUT_S = 60.0
_ENOUGH_MEMORY_BYTES = 2 * 1024**3  # import torch alone takes some hundred MiB in each server
_ENOUGH_DISK_BYTES = 2 * 1024**3

# The oldest release of a client that asks this cloud and not AWS, and why.
_OLDEST_CDK = (2, 177, 0)
_OLDEST_BOTO3 = (1, 44)
_MOTO = "5.2.5"


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # something will not work, or not as one expects
    ERROR = "error"  # no cloud comes up here


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``sentence`` is what was seen, ``advice`` what to do; "" where nothing is to be done."""

    check: str
    level: Level
    sentence: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is looked at: the state directory, and the variables of the shell."""

    directory: StateDirectory
    shell: Mapping[str, str]

    @property
    def record(self) -> SupervisorRecord | None:
        """Of the cloud that is up, or was."""
        return self.directory.read()


Check = Callable[[Surroundings], Iterator[Finding]]


def examine(surroundings: Surroundings) -> list[Finding]:
    """Every check's findings, in the order in which they come to matter."""
    checks: tuple[Check, ...] = (
        _python,
        _packages,
        _own_server,
        _state,
        _shell,
        _clients,
        _opt_ml,
        _fixed_port,
        _ports,
        _memory,
        _disk,
        _docker,
    )
    return [finding for check in checks for finding in check(surroundings)]


def _ok(check: str, sentence: str) -> Finding:
    return Finding(check=check, level=Level.OK, sentence=sentence)


def _warning(check: str, sentence: str, advice: str) -> Finding:
    return Finding(check=check, level=Level.WARNING, sentence=sentence, advice=advice)


def _error(check: str, sentence: str, advice: str) -> Finding:
    return Finding(check=check, level=Level.ERROR, sentence=sentence, advice=advice)


def _python(_: Surroundings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield _ok("python", f"Python {version} at {sys.executable}, on {sys.platform}")


def _packages(_: Surroundings) -> Iterator[Finding]:
    needed = {"boto3": "boto3", "moto": "moto", "psutil": "psutil", "jsonpath-ng": "jsonpath_ng"}
    needed |= {"jsonata-python": "jsonata", "flask": "flask"}
    missing = [name for name, module in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        yield _error("packages", f"not installed: {', '.join(missing)}", "pip install 'tidegate[local]'")
        return
    moto, boto3 = (importlib.metadata.version(name) for name in ("moto", "boto3"))
    if moto != _MOTO:
        yield _error(
            "packages",
            f"moto is {moto}; the local cloud stands on the insides of {_MOTO}",
            f"pip install 'moto[server]=={_MOTO}'",
        )
    if _numbers(boto3) < _OLDEST_BOTO3:
        yield _error(
            "packages",
            f"boto3 is {boto3}; the local cloud needs the API models of {_dotted(_OLDEST_BOTO3)} or newer",
            f"pip install 'boto3>={_dotted(_OLDEST_BOTO3)}'",
        )
    if moto == _MOTO and _numbers(boto3) >= _OLDEST_BOTO3:
        yield _ok("packages", f"boto3 {boto3}, moto {moto}")


def _own_server(_: Surroundings) -> Iterator[Finding]:
    missing = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield _warning(
            "server",
            f"Tidegate's own server cannot run here: {', '.join(missing)} not installed",
            "name the server of your image (up --server COMMAND), or pip install 'tidegate[serve]'",
        )
    else:
        yield _ok("server", "models without a server of their own are served by Tidegate's")


def _state(surroundings: Surroundings) -> Iterator[Finding]:
    directory, record = surroundings.directory, surroundings.record
    if record is not None and record.alive:
        if record.stopping:
            yield _warning("state", f"the cloud in {directory.path} is still stopping", "up waits for that")
        else:
            enforces = ", and enforces the rights of roles" if record.enforces_iam else ""
            yield _ok("state", f"a cloud is up in {directory.path} as process {record.process_id}{enforces}")
        return
    if (remains := directory.remains()) is not None:
        yield _warning("state", remains.sentence, remains.advice)
    elif directory.obstacle:
        yield _error("state", directory.obstacle, "choose another directory: export LOCAL_CLOUD_DIR=…")
    elif directory.path.is_dir() and not directory.marker.exists() and any(directory.path.iterdir()):
        yield _error(
            "state",
            f"{directory.path} holds files that are not the local cloud's",
            "choose another directory: export LOCAL_CLOUD_DIR=…",
        )
    else:
        yield _ok("state", f"no cloud is up in {directory.path}")


def _shell(surroundings: Surroundings) -> Iterator[Finding]:
    shell, record = surroundings.shell, surroundings.record
    up = record is not None and record.alive and not record.stopping
    way = 'eval "$(tidegate cloud up)"'
    elsewhere = []
    addresses = {name: value for name, value in shell.items() if name.startswith("AWS_ENDPOINT_URL")}
    ours = {record.moto_url, record.sagemaker_url} if record is not None and up else set()
    for name, value in sorted(addresses.items()):
        if value not in ours:
            dead = "" if _answers(value) else ", where nothing answers"
            elsewhere.append(f"{name} leads to {value}{dead}")
    if elsewhere:
        advice = f"{way} in this shell, or unset {' '.join(sorted(addresses))}"
        yield _warning("shell", f"this shell talks to another cloud: {'; '.join(elsewhere)}", advice)
    if shell.get("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID) != ACCESS_KEY_ID:
        yield _warning("shell", "AWS_ACCESS_KEY_ID is a key of a real account", f"{way} puts a dummy in its place")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        if shell.get(name):
            yield _warning("shell", f"{name} is set, and leads clients to a real account", f"{way} unsets it")
    if shell.get("AWS_CA_BUNDLE") == "":
        yield _warning("shell", "AWS_CA_BUNDLE is empty, which boto3 takes for a file", "unset AWS_CA_BUNDLE")
    if past_proxies(shell) != {name: shell.get(name, "") for name in past_proxies(shell)}:
        yield _warning("shell", "a proxy is set, and NO_PROXY does not except 127.0.0.1", f"{way} excepts it")
    if up and not addresses:
        yield _warning("shell", "a cloud is up, and this shell's clients do not know of it", way)
    elif up and not elsewhere:
        yield _ok("shell", "this shell's clients talk to the cloud that is up")
    elif not elsewhere:
        yield _ok("shell", "no address of another cloud is set")


def _clients(_: Surroundings) -> Iterator[Finding]:
    cdk = shutil.which("cdk")
    if cdk is not None:
        said = _said([cdk, "--version"])
        version = re.match(r"\d+(?:\.\d+)*", said)
        if version is not None and _numbers(version[0]) < _OLDEST_CDK:
            # Sources: https://github.com/localstack/aws-cdk-local/pull/107, https://github.com/localstack/lstk/pull/302
            yield _error(
                "clients",
                f"cdk {version[0]} ({cdk}) does not read AWS_ENDPOINT_URL: it would deploy to a real account",
                "npm install aws-cdk@latest",
            )
        elif version is not None:
            yield _ok("clients", f"cdk {version[0]}")
    try:
        sdk = importlib.metadata.version("sagemaker")
    except importlib.metadata.PackageNotFoundError:
        return
    if _numbers(sdk) >= (2,):
        yield _ok("clients", f"SageMaker Python SDK {sdk}; tested are 2.257 and 3.27")
    else:
        yield _warning("clients", f"SageMaker Python SDK {sdk} was never tried", "pip install 'sagemaker>=2.257'")


def _opt_ml(_: Surroundings) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as base:
        trial = [sys.executable, "-I", "-S", private_opt_ml.__file__, base, sys.executable, "-c", ""]
        said = _said(trial, errors=True)
    if private_opt_ml.NOTE in said:
        reason = said.partition(private_opt_ml.NOTE)[2].partition("; ")[0]
        yield _warning(
            "/opt/ml",
            f"servers and jobs have no /opt/ml of their own: {reason}",
            "name files by SAGEMAKER_BASE_DIR or model_dir, or run containers (up --container)",
        )
    else:
        yield _ok("/opt/ml", "each server and job has an /opt/ml of its own")


_BIND_THE_FIXED_PORT = """
import socket
with socket.socket() as trial:
    trial.bind(("0.0.0.0", 8080))
    print(trial.getsockname()[1])
"""


def _fixed_port(_: Surroundings) -> Iterator[Finding]:
    with socket.socket() as kept, tempfile.TemporaryDirectory() as base:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port: int = kept.getsockname()[1]
        command = [*launcher(Path(base), port=port), sys.executable, "-c", _BIND_THE_FIXED_PORT]
        said = _said(command)
    if said == str(port):
        yield _ok("port 8080", "servers that bind port 8080 get a port of their own, several at a time")
    else:
        yield _warning(
            "port 8080",
            "the system does not let a server's port 8080 be another one",
            "have your server bind the port in SAGEMAKER_BIND_TO_PORT",
        )


def _ports(_: Surroundings) -> Iterator[Finding]:
    try:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
    except OSError as error:
        yield _error("ports", f"127.0.0.1 gives no port ({error.strerror})", "end what holds so many ports")
        return
    try:
        with socket.socket() as trial:
            trial.bind(("127.1.2.3", 0))
    except OSError:
        yield _warning(
            "ports",
            "127.0.0.1 is the only loopback address",
            "jobs with several hosts need 127.X.Y.Z, which Linux has: run them with InstanceCount 1",
        )
    else:
        yield _ok("ports", "free ones are given by the system")


def _memory(_: Surroundings) -> Iterator[Finding]:
    free = psutil.virtual_memory().available
    sentence = f"{free / 1024**3:.1f} GiB of memory are free"
    if free < _ENOUGH_MEMORY_BYTES:
        yield _warning("memory", sentence, "each server needs room for its model and its libraries")
    else:
        yield _ok("memory", sentence)


def _disk(surroundings: Surroundings) -> Iterator[Finding]:
    place = surroundings.directory.path
    place = next(each for each in (place, *place.parents) if each.exists())
    free = shutil.disk_usage(place).free
    sentence = f"{free / 1024**3:.1f} GiB are free in {place}"
    if free < _ENOUGH_DISK_BYTES:
        yield _warning("disk", sentence, "models and jobs are unpacked there: export LOCAL_CLOUD_DIR=…")
    else:
        yield _ok("disk", sentence)


def _docker(_: Surroundings) -> Iterator[Finding]:
    try:
        client = find_client()
    except EngineError as error:
        yield _ok("docker", f"not available ({error}); only up --container and image builds need it")
    else:
        yield _ok("docker", f"{client}, for up --container")


def _answers(url: str) -> bool:
    found = re.match(r"https?://([^/:]+):(\d+)", url)
    if found is None or found[1] not in ("127.0.0.1", "localhost"):
        return True  # somebody else's machine is not ours to knock at
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", int(found[2]))) == 0


def _said(command: list[str], *, errors: bool = False) -> str:
    """What a command prints, "" where it cannot be run."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TRIAL_TIMEOUT_S,
            check=False,
            env={**os.environ, "CI": "true"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr if errors else done.stdout).strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
