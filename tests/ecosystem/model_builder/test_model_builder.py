"""What ModelBuilder of version 3 of the SDK uploads for `model_server=TORCHSERVE` is served as it is.

Its script reads /opt/ml/model, wherever the model lies, so the server is started where that path is the model's: in a
mount namespace of its own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.contract.running import start, wait_until
from tests.ecosystem.environments import python_of

HERE = Path(__file__).parent
OURS = sysconfig.get_path("purelib")
IN_PLACE = """#!/bin/sh
exec unshare --map-root-user --mount sh -c 'mount -t tmpfs none /opt && mkdir -p /opt/ml && mount --bind "$0" /opt/ml \
&& exec "$@"' {base} {python} "$@"
"""
"""Runs Python where /opt/ml is the folder `base`."""


@pytest.fixture(scope="module")
def sdk() -> Path:
    """The interpreter that has the SDK."""
    return python_of("v3")


@pytest.fixture(scope="module")
def built(sdk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive that the SDK uploaded, and what it says of it."""
    folder = tmp_path_factory.mktemp("built")
    account = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run(
        [str(sdk), str(HERE / "build_model.py"), str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TORCH": OURS, **account},
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_archive_of_model_builder_is_served(built: Path, sdk: Path, tmp_path: Path) -> None:
    if subprocess.run(_words("true", tmp_path), check=False, capture_output=True, timeout=300).returncode != 0:
        pytest.skip("this machine lets nobody make a mount namespace, and the SDK's script reads /opt/ml/model alone")
    said = json.loads((built / "built.json").read_text())
    with tarfile.open(built / "serve.tar.gz") as archive:
        assert {"code/inference.py", "code/serve.pkl", "code/metadata.json", "code/requirements.txt"} <= {
            name.removeprefix("./") for name in archive.getnames()
        }
        archive.extractall(tmp_path / "model", filter="data")
    python = tmp_path / "python"
    python.write_text(IN_PLACE.format(base=tmp_path, python=sys.executable))
    python.chmod(0o755)
    sdks = sysconfig.get_path("purelib", vars={"base": str(sdk.parents[1])})
    platform = {"SAGEMAKER_BASE_DIR": "/opt/ml", "AWS_DEFAULT_REGION": "us-east-1"}  # a container has a region
    environment = {**said["environment"], **platform, "PYTHONPATH": sdks, "PIP_NO_INDEX": "1"}
    server = start(tmp_path, environment, python=str(python))
    try:
        wait_until(lambda: server.process.poll() is not None or server.ping() == 200, "it is ready", 120, server.log)
        assert server.process.poll() is None, server.log()
        reply = server.post((built / "request").read_bytes(), said["content_type"], accept=said["accept"])
        assert reply.status == 200, (reply.body, server.log())
        assert np.load(io.BytesIO(reply.body)) == pytest.approx(np.array(said["answer"]), rel=1e-5)
        assert server.post(b"no tensor", said["content_type"]).status == 500  # the SDK's script says nothing closer
        assert "model_fn of /opt/ml/model/code/inference.py" in server.log()
    finally:
        status = server.terminate() if server.process.poll() is None else None
    assert status == 0


def _words(program: str, folder: Path) -> list[str]:
    script = folder / "try"
    script.write_text(IN_PLACE.format(base=folder, python=shutil.which(program)))
    script.chmod(0o755)
    return [str(script)]
