"""One image for all of these tests, and the reason where there can be none.

Without docker the tests are skipped, and the end of the run says so; with REQUIRE_DOCKER=1, as in CI, they fail.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from container import build
from container.engine import DockerUnavailable, Engine, find, local_base
from tests.container.docker_runs import Docker, Job, job_directory

TOY = Path(__file__).parent / "toy"
TAG = "tidegate-test:cpu"
UNTESTED = "the image is not tested: "
"""How the reason of such a skip begins."""


def leave_untested(reason: str) -> NoReturn:
    """Skip, and let the end of the run say so; fail where docker must be there."""
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1 is set, and {reason}")
    pytest.skip(UNTESTED + reason)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The docker of this machine."""
    try:
        return find()
    except DockerUnavailable as error:
        leave_untested(f"there is no docker that can build: {error}")


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image of this checkout, built as `make image` builds it."""
    base = os.environ.get("BASE_IMAGE") or local_base(engine)
    build.build(engine, build.Recipe(tag=TAG, base_image=base, torch_index=os.environ.get("TORCH_INDEX")))
    return TAG


@pytest.fixture(scope="session")
def docker(engine: Engine, image: str) -> Iterator[Docker]:
    """Starts containers of the image; those that are left at the end are removed."""
    docker = Docker(engine=engine, image=image)
    yield docker
    docker.remove_all()


@pytest.fixture(scope="session")
def trained(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training job that has run in the image: its /opt/ml, its output and its exit status."""
    base_dir = job_directory(TOY, tmp_path_factory.mktemp("job"), sagemaker_program="train.py", slope=3.0, epochs=300)
    return docker.train(base_dir)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say what a green run did not test, after everything else that pytest says."""
    yield
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    untested = [reason.partition(UNTESTED)[2] for reason in reasons if UNTESTED in reason]
    if untested:
        terminalreporter.section("not tested: the image", yellow=True)
        terminalreporter.line(f"{len(untested)} tests that run the image were skipped: {untested[0]}")
