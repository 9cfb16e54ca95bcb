"""What a run of the tests says of the machine that it is on."""

from __future__ import annotations

from tests.container.two_hosts import means


def pytest_report_header() -> str:
    """How the two hosts of a training job are kept apart: a green run does not claim more than that."""
    return f"two hosts of a training job: {means()}"
