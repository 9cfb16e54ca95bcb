"""What holds for every test: patience with a busy machine, and what a run says of the machine that it is on."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from functools import cache
from typing import Any

import boto3
import botocore.session
import hypothesis
import pytest
from hypothesis import HealthCheck

from tests.container.two_hosts import means
from tests.distribution import Scheduling, undivided_first

# This machine may be busy, and no property is about speed: neither that of an example nor that of its making.
hypothesis.settings.register_profile(
    "tidegate", deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tidegate")

# What describes AWS's services is read once, and not by each session anew: a tenth of a second for every client.
botocore.session.create_loader = cache(botocore.session.create_loader)


def pytest_report_header() -> str:
    """How the two hosts of a training job are kept apart: a green run does not claim more than that."""
    return f"two hosts of a training job: {means()}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: tests wait, for servers that drain and for jobs that are looked at."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = undivided_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that a collection makes is there to stay: nothing need look through it while it grows."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What the imports have left is there to stay: no collection need look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_test_has_the_credentials_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 keeps a session for a whole process, with the credentials that it found first."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


@pytest.fixture(scope="module", autouse=True)
def _what_a_failed_test_leaves_is_blamed_on_its_own_file(request: pytest.FixtureRequest) -> Iterator[None]:
    """A process or a socket that its failure has left open, and not on a test of another file, much later."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)  # they hold the frames of the last failure
        gc.collect()
