"""Two hosts of a training job on one machine: network namespaces with a cable between them, else loopback addresses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from tests.container.entry_point import start

_IP = shutil.which("ip")
NAMESPACES, LOOPBACK = "network namespaces", "two loopback addresses"


@cache
def means() -> str:
    """How this machine keeps two hosts apart."""
    if os.geteuid() == 0 and _IP is not None:
        name = f"tidegate-probe-{os.getpid()}"
        if _ip("netns", "add", name, check=False):
            pair = _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1", check=False)
            pair = pair and _ip("netns", "exec", name, sys.executable, "-c", "pass", check=False)
            _ip("netns", "del", name)
            return NAMESPACES if pair else LOOPBACK
    return LOOPBACK


def _ip(*words: str, check: bool = True) -> bool:
    assert _IP is not None
    return subprocess.run([_IP, *words], check=check, capture_output=True).returncode == 0


@dataclass(slots=True)
class Host:
    """One of them, with a directory like /opt/ml of its own."""

    address: str
    interface: str
    base_dir: Path
    before: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = field(default=None)

    def begin(self, **environment: str) -> None:
        """Start the job that lies in its directory."""
        self.process = start(self.base_dir, before=self.before, new_session=True, **environment)

    def end(self, timeout_s: float = 300) -> tuple[int, str]:
        """Wait for its exit status and what it wrote to standard error."""
        assert self.process is not None
        _, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, errors

    def kill(self) -> None:
        """End all that runs on it at once."""
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(psutil.NoSuchProcess):
            # torchrun gives each process of the script a session of its own.
            tree = psutil.Process(self.process.pid)
            for process in (*tree.children(recursive=True), tree):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        self.process.communicate()

    @property
    def failure(self) -> str:
        """What the platform would show."""
        return (self.base_dir / "output/failure").read_text()


@contextmanager
def two_hosts(work: Path) -> Iterator[tuple[Host, Host]]:
    """The hosts, whose resourceconfig.json names both; what runs on them at the end is killed."""
    names = [f"tidegate-{os.getpid()}-{number}" for number in (1, 2)]
    addresses, interface = ["10.77.0.1", "10.77.0.2"], "eth0"
    if means() == LOOPBACK:
        addresses, interface = ["127.0.0.1", "127.0.0.2"], "lo"
    hosts: list[Host] = []
    try:
        if means() == NAMESPACES:
            _cable(names, addresses)
        for name, address in zip(names, addresses, strict=True):
            base_dir = work / address
            config = base_dir / "input/config"
            config.mkdir(parents=True)
            resources = {"current_host": address, "hosts": addresses, "network_interface_name": interface}
            (config / "resourceconfig.json").write_text(json.dumps(resources))
            before = (_IP, "netns", "exec", name) if means() == NAMESPACES and _IP is not None else ()
            hosts.append(Host(address, interface, base_dir, before))
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            host.kill()
        if means() == NAMESPACES:
            for name in names:
                _ip("netns", "del", name, check=False)


def _cable(names: list[str], addresses: list[str]) -> None:
    for name in names:
        _ip("netns", "add", name)
    first, second = names
    _ip("-n", first, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", second)
    for name, address in zip(names, addresses, strict=True):
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            _ip("-n", name, "link", "set", interface, "up")
