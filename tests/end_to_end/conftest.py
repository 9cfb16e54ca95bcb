"""One local cloud for all tests of this room; stages keep apart by their names."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.infra.conftest import ROOT

CLOCK_STANDS = threading.Event()
"""Set by who needs the time of a roll-out for himself: the clock is not set ahead then."""


@contextmanager
def rollouts_do_not_wait(environment: dict[str, str]) -> Iterator[None]:
    """While an endpoint or a component watches its new version, the cloud's clock is set ahead, minute by minute.

    And not while a server starts, which may take long: an update has its limit on that clock.
    """
    url = f"{environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/clock"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            with suppress(OSError):  # it asks again
                if not CLOCK_STANDS.is_set():
                    look()

    def look() -> None:
        with opener.open(url, timeout=60) as answer:
            timers = json.load(answer)["timers"]
        if any(timer["name"].endswith(" bakes") for timer in timers):
            ahead = urllib.request.Request(url, b'{"advance_s": 60}', method="POST")  # noqa: S310 - this cloud's
            with opener.open(ahead, timeout=60):
                pass

    watching = threading.Thread(target=watch, name="clock of roll-outs", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


@pytest.fixture(scope="package")  # no longer: the rooms after this one must not find its variables
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local cloud of this room's own: the variables that `tidegate cloud up` prints, also set for boto3."""
    with running_cloud(tmp_path_factory) as environment:
        yield environment


@pytest.fixture(scope="module")
def enforcing_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The same for one module, in which the rights of roles count: one that a stack forgets fails there."""
    with running_cloud(tmp_path_factory, "--enforce-iam") as environment:
        yield environment


@contextmanager
def running_cloud(tmp_path_factory: pytest.TempPathFactory, *options: str) -> Iterator[dict[str, str]]:
    own = os.environ | {"LOCAL_CLOUD_DIR": str(tmp_path_factory.mktemp("cloud") / "state")}

    def local_cloud(*command: str) -> str:
        run = [sys.executable, "-m", "local_cloud", *command]
        return subprocess.run(run, cwd=ROOT, env=own, check=True, stdout=subprocess.PIPE, text=True).stdout

    lines = [line for line in local_cloud("up", *options).splitlines() if line.startswith("export ")]
    environment = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            with rollouts_do_not_wait(environment):
                yield environment
    finally:
        local_cloud("down")
