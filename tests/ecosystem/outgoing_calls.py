"""Notes every attempt to reach another machine. Loaded into the SDK's own environment, so standard library only.

`watch` sets an audit hook that sees each connection and each look-up of a name that this Python process makes, through
whatever library, and refuses those that are not loopback. What child processes do (docker, docker-compose) it does not
see; `refuse` therefore also gives them proxies and an AWS endpoint at a port that only writes down who called.
"""

from __future__ import annotations

import ipaddress
import os
import socketserver
import sys
import threading
from pathlib import Path

NO_TELEMETRY = """SchemaVersion: '1.0'
SageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}
"""
"""The SDK tells AWS of every call otherwise, also of those in local mode."""

calls: list[str] = []
"""Whom somebody tried to reach, in the order of the attempts."""


class LeavesTheMachine(RuntimeError):
    """A connection to another machine was refused."""


def watch() -> None:
    """Refuse and note what this Python process does, from now on; its environment stays as it is."""
    sys.addaudithook(_watch)


def refuse(work: Path) -> None:
    """Refuse and note, from now on and until this process ends. `work` takes the SDK's configuration file."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Recorder)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    nobody = f"http://127.0.0.1:{server.server_address[1]}"
    configuration = work / "sdk.yaml"
    configuration.write_text(NO_TELEMETRY)
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ[name] = os.environ[name.lower()] = nobody
    os.environ |= {
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "AWS_ENDPOINT_URL": nobody,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(configuration),
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(configuration),
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        "SAGEMAKER_VALIDATE_ROLE": "false",
    }
    watch()


class _Recorder(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        verb_and_target = self.rfile.readline(500).decode("latin-1").split()[:2]
        calls.append(f"by proxy or endpoint: {' '.join(verb_and_target)}")
        self.wfile.write(b"HTTP/1.1 503 Nobody\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        whom: object = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return  # a Unix socket: docker's
        whom = address[0]
    else:
        return
    if not _is_this_machine(whom):
        calls.append(f"{event}: {whom}")
        raise LeavesTheMachine(f"{event} of {whom}")


def _is_this_machine(host: object) -> bool:
    if host in (None, "", b"", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False
