"""One local cloud for all tests of this room; stages keep apart by their names."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.infra.conftest import ROOT


@pytest.fixture(scope="package")  # no longer: the rooms after this one must not find its variables
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local cloud of this room's own, which enforces IAM: what `local_cloud up` prints, also set for boto3."""
    own = os.environ | {"LOCAL_CLOUD_DIR": str(tmp_path_factory.mktemp("cloud") / "state")}

    def local_cloud(*command: str) -> str:
        run = [sys.executable, "-m", "local_cloud", *command]
        return subprocess.run(run, cwd=ROOT, env=own, check=True, stdout=subprocess.PIPE, text=True).stdout

    lines = [line for line in local_cloud("up").splitlines() if line.startswith("export ")]
    environment = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            yield environment
    finally:
        local_cloud("down")
