"""The threads that pipelines have started in this test."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.polling import until


def running() -> set[threading.Thread]:
    """Every thread of a pipeline in this process."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("pipeline-")}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test does to a pipeline, its threads end."""
    before = running()
    yield
    until(lambda: running() <= before)
