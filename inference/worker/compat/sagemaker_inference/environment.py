"""Where things are, and the container's variables, as scripts read them.

What the server itself does with a variable is decided by its own settings; this only tells scripts its value.
"""

from __future__ import annotations

import os
from pathlib import PurePath

from . import content_types, parameters

DEFAULT_MODULE_NAME = "inference.py"
DEFAULT_MODEL_SERVER_TIMEOUT = "60"
DEFAULT_STARTUP_TIMEOUT = "600"
DEFAULT_HTTP_PORT = "8080"
DEFAULT_VMARGS = "-XX:-UseContainerSupport"
DEFAULT_MAX_REQUEST_SIZE = None
SAGEMAKER_BASE_PATH = "/opt/ml"

base_dir = os.environ.get(parameters.BASE_PATH_ENV, SAGEMAKER_BASE_PATH)
model_dir = str(PurePath(base_dir, "model"))
code_dir = str(PurePath(model_dir, "code"))


class Environment:
    """The variables as they are when the object is made."""

    def __init__(self) -> None:
        program = os.environ.get(parameters.USER_PROGRAM_ENV) or DEFAULT_MODULE_NAME
        self.module_name: str | None = program.removesuffix(".py")
        self.model_server_timeout = int(_read(parameters.MODEL_SERVER_TIMEOUT_ENV, DEFAULT_MODEL_SERVER_TIMEOUT))
        seconds = os.environ.get(parameters.MODEL_SERVER_TIMEOUT_SECONDS_ENV)
        self.model_server_timeout_seconds = int(seconds) if seconds else None
        self.model_server_workers = os.environ.get(parameters.MODEL_SERVER_WORKERS_ENV)
        self.startup_timeout = int(_read(parameters.STARTUP_TIMEOUT_ENV, DEFAULT_STARTUP_TIMEOUT))
        self.default_accept = _read(parameters.DEFAULT_INVOCATIONS_ACCEPT_ENV, content_types.JSON)
        self.inference_http_port = _read(parameters.BIND_TO_PORT_ENV, DEFAULT_HTTP_PORT)
        self.management_http_port = self.inference_http_port
        self.safe_port_range = os.environ.get(parameters.SAFE_PORT_RANGE_ENV)
        self.vmargs = _read(parameters.MODEL_SERVER_VMARGS, DEFAULT_VMARGS)
        payload_mib = os.environ.get(parameters.MAX_REQUEST_SIZE)
        self.max_request_size = int(payload_mib) * 1024 * 1024 if payload_mib else DEFAULT_MAX_REQUEST_SIZE


def _read(name: str, default: str) -> str:
    return os.environ.get(name, default)
