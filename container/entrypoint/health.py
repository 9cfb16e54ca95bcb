"""What HEALTHCHECK asks: `/ping` of the server in this container, on the port that it was told.

SageMaker asks by itself and ignores HEALTHCHECK; docker and compose use it. A container that trains or runs a command
has no server, and is healthy as long as it runs.
"""

from __future__ import annotations

import http.client
import os
from pathlib import Path

_START = b"/opt/tidegate/bin/start"
PING_TIMEOUT_S = 2.0  # what SageMaker allows for one ping


def check(without_argument: str) -> int:
    """0 where the server answers 200, or where no server is meant to run here; else 1.

    `without_argument` is what `start` alone does in this container: "serve" or "train".
    """
    if not serves(Path("/proc"), without_argument):
        return 0
    connection = http.client.HTTPConnection("127.0.0.1", _port(), timeout=PING_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


def _port() -> int:
    return int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "").strip() or 8080)


def serves(proc: Path, without_argument: str) -> bool:
    """Whether a process here was started as `start serve`, or as `start` alone where that serves."""
    for cmdline in proc.glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")[:-1]
        except OSError:
            continue  # it has ended meanwhile
        if words[-1:] == [_START]:
            words.append(without_argument.encode())
        if words[-2:] == [_START, b"serve"]:
            return True
    return False
