"""One run of local mode for each version of the SDK; the tests read what it found."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from container.engine import Engine
from tests.container.conftest import engine as engine  # noqa: PLC0414 - a fixture, lent to these tests
from tests.container.conftest import image as image  # noqa: PLC0414 - another one
from tests.container.conftest import leave_untested
from tests.ecosystem.local_mode.runs import Outcome, local_mode


@pytest.fixture(scope="session")
def compose(engine: Engine) -> None:
    """What the SDK starts containers with (docker-compose) and finds their processes with (pgrep)."""
    plugin = subprocess.run([engine.client, "compose", "version"], capture_output=True, check=False).returncode == 0
    missing = [] if plugin or shutil.which("docker-compose") else ["docker-compose"]
    missing += [] if shutil.which("pgrep") else ["pgrep"]
    if missing:
        leave_untested(f"SageMaker's local mode needs {' and '.join(missing)}.")


@pytest.fixture(scope="session", params=["v3", "v2"])
def outcome(request: pytest.FixtureRequest, compose: None, engine: Engine, image: str) -> Iterator[Outcome]:
    """Train, endpoint, invoke, transform, by one version of the SDK."""
    with local_mode(request.param, engine, image) as found:
        yield found
