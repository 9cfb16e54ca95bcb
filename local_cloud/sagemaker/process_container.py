"""A model's container as a plain process: the server with the container's environment, in a session of its own."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.local_cloud import own_module
from tidegate.local_cloud.processes import belonging, end_family, end_rest, process_birth
from tidegate.local_cloud.sagemaker import fixed_port, keeper, private_opt_ml
from tidegate.local_cloud.sagemaker.container import (
    STOP_GRACE_S,
    Container,
    ContainerFailed,
    ContainerSpec,
    kept_port,
)
from tidegate.local_cloud.sagemaker.server_commands import ServerCommands

logger = logging.getLogger(__name__)

# The directory by its own name, and not as the end of the path of one that plays it.
_OPT_ML = re.compile(r"(?<![\w.-])/opt/ml\b")
# What a process needs to run at all on this machine. The rest of the caller's environment stays outside, as it would
# outside a container; above all the AWS_* variables.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CERT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

SERVER_PACKAGES = ("torch", "numpy", "PIL", "uvloop", "httptools")
"""What Tidegate's own server does not start without; the extra `serve` has it all."""


def machine_environment() -> dict[str, str]:
    """What a process gets of this one's environment."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def launcher(
    base_dir: Path, *, hosts_file: Path | None = None, port: int | None = None, stay: bool = False
) -> list[str]:
    """What stands before a command: it ends all that the command started, and gives it an ``/opt/ml`` of its own.

    With ``port``, a server that binds port 8080 gets that one, where the kernel can do so. With ``stay`` the command
    runs in the working directory, and else in what plays ``/opt/ml``.
    """
    # -I and -S: nothing of the model's environment, and no site-packages, for what needs the standard library alone.
    python = [sys.executable, "-I", "-S"]
    hosts = [] if hosts_file is None else ["--hosts", str(hosts_file)]
    instead = [] if port is None or not fixed_port.is_possible() else ["--port", str(port)]
    stays = ["--stay"] if stay else []
    return [*python, keeper.__file__, *instead, *python, private_opt_ml.__file__, *hosts, *stays, str(base_dir)]


def own_server() -> Sequence[str]:
    """The command of the server that comes with this package. Raises :class:`.ContainerFailed` where it cannot run."""
    missing = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ContainerFailed(
            f"no server is named for this image, and Tidegate's own cannot run here ({missing[0]} is not installed):"
            " name yours (tidegate cloud up --server COMMAND), or pip install 'tidegate[serve]'"
        )
    return own_module.command("tidegate.inference", "serve")


@dataclass(frozen=True, slots=True)
class ProcessRunner:
    """Runs the server in a session of its own on a free loopback port.

    ``command`` is run in the place of Tidegate's server, in what plays ``/opt/ml``; ``others`` are somebody else's
    servers, by image. ``registry`` is a directory with one file per running server, so that a later start can end what
    a killed supervisor left behind.
    """

    registry: Path
    command: Sequence[str] = ()
    others: ServerCommands = field(default_factory=ServerCommands)

    def start(self, spec: ContainerSpec) -> Container:
        others = self.others.command(spec.image)
        misfit = "" if others or self.command else self.others.misfit(spec.image)
        if misfit:
            logger.warning("%s", misfit)
        try:
            command = others or self.command or own_server()
        except ContainerFailed as failure:
            raise ContainerFailed(f"{misfit}: {failure}" if misfit else str(failure)) from failure
        port = kept_port()
        # A container's /tmp goes with the container, also where the server was killed and could not tidy up.
        temporary = spec.base_dir / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {**machine_environment(), **spec.environment}
        environment |= {
            "SAGEMAKER_BASE_DIR": str(spec.base_dir),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "TMPDIR": str(temporary),
            "PYTHONUNBUFFERED": "1",
        }
        if others:
            words = [*launcher(spec.base_dir, port=port, stay=True), *others]
            return ProcessContainer(
                words, environment, spec, port, self.registry, directory=Path(self.others.directory), foreign=True
            )
        # No module of the model's hides one of the server's.
        environment |= {"TIDEGATE_HOST": "127.0.0.1", "PYTHONSAFEPATH": "1"}
        words = [*launcher(spec.base_dir), *command]
        return ProcessContainer(words, environment, spec, port, self.registry, misfit=misfit)

    def path_inside(self, base_dir: Path, path: Path) -> str:  # noqa: ARG002 - a process sees what everybody sees
        return str(path)


class ProcessContainer:
    """A server process with everything it started, in ``directory`` (without one, in what plays ``/opt/ml``).

    The last words of a ``foreign`` server are told with its exit code, and those of another with why it is not
    somebody else's (``misfit``).
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        spec: ContainerSpec,
        port: int,
        registry: Path,
        *,
        directory: Path | None = None,
        foreign: bool = False,
        misfit: str = "",
    ) -> None:
        self._foreign = foreign
        self._misfit = misfit
        self._port = port
        self._spec = spec
        self._stop_lock = threading.Lock()
        self._stopped = False
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = spec.log.stat().st_size if spec.log.exists() else 0
        with spec.log.open("ab") as log:
            if misfit:
                log.write(f"local cloud: {misfit}\n".encode())
                log.flush()
                self._log_start = log.tell()
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=directory or spec.base_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._entry = registry / str(self._process.pid)
        self._entry.parent.mkdir(parents=True, exist_ok=True)
        self._entry.write_text(process_birth(self._process.pid) or "", encoding="utf-8")

    @property
    def port(self) -> int:
        return self._port

    @property
    def process_id(self) -> int:
        """Of the process that leads the server's session."""
        return self._process.pid

    def exit_code(self) -> int | None:
        code = self._process.poll()
        return None if code is None else _as_shells_say(code)

    def wait(self) -> int:
        return _as_shells_say(self._process.wait())

    def last_words(self) -> str:
        said = self._last_words()
        return f"{said} ({self._misfit})" if self._misfit else said

    def _last_words(self) -> str:
        with self._spec.log.open("rb") as log:
            log.seek(self._log_start)
            written = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        notes = [line for line in written if line.startswith(private_opt_ml.NOTE)]
        lines = [line for line in written if line not in notes]
        errors = [line for line in lines if line.startswith("tidegate: error: ")]
        said = errors[-1] if errors else " | ".join(lines[-3:])
        if notes and _OPT_ML.search(said):
            said = f"{said} ({notes[-1]})"
        if said and self._foreign and not errors:
            return f"the {self._spec.what} ended with exit code {self.exit_code()}: {said}"
        return said or f"the {self._spec.what} ended with exit code {self.exit_code()} and said nothing"

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        with self._stop_lock:
            if self._stopped:
                return
            rest = belonging(self._process.pid)
            if self._process.poll() is None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
            # As with a container: whatever it started, also after a clean end.
            rest |= belonging(self._process.pid)
            if self._process.poll() is None:
                end_family(self._process.pid)
            self._process.kill()
            self._process.wait()
            end_rest(self._process.pid, rest)
            self._stopped = True
            self._entry.unlink(missing_ok=True)


def _as_shells_say(code: int) -> int:
    """128 and the number of the signal for a process that one ended."""
    return code if code >= 0 else 128 - code
