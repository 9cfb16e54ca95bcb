"""`tritonclient.http`, unmodified and at its defaults (binary tensors), against servers of several models."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.repositories import serving
from tests.contract.running import running
from tests.contract.test_multi_model import place
from tests.ecosystem.environments import python_of

ECHO = """
def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return data
"""


@pytest.fixture(scope="module", params=["multi-model", "repository"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client saw, of either kind of server that has several models."""
    python = python_of("tritonclient")
    with contextlib.ExitStack() as servers:
        if request.param == "repository":
            here = servers.enter_context(serving(tmp_path_factory.mktemp("triton")))
            here.folder.publish("echo", 1, code=ECHO)
            here.until_known("echo")
            server = here.server
        else:
            server = servers.enter_context(running({}, SAGEMAKER_MULTI_MODEL="true"))
            place(server, "echo", {"code/inference.py": ECHO})
        done = subprocess.run(
            [str(python), "-P", str(Path(__file__).with_name("ask.py")), f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_server_and_model_are_alive_and_described(seen: dict[str, Any]) -> None:
    assert (seen["live"], seen["ready"], seen["server"]) == (True, True, "tidegate")
    assert (seen["ghost"], seen["model"]) == (False, [True, True, False])
    assert seen["metadata"]["versions"] == ["1"]
    assert seen["index"] == ["echo READY"]


def test_tensors_of_every_datatype_come_back_as_they_went(seen: dict[str, Any]) -> None:
    assert len(seen["echoed"]) == 14
    assert all(seen["echoed"].values()), seen["echoed"]
    assert all(seen["in JSON"].values()), seen["in JSON"]
    assert seen["empty"]


def test_several_inputs_packed_bodies_and_requests_at_once_are_answered(seen: dict[str, Any]) -> None:
    assert seen["several"] == [[[0.5, float("inf")]], ["a", "ü"]]
    assert seen["packed"] == ["seven", [[0.5, float("inf")]]]
    assert seen["at once"]


def test_what_is_refused_is_the_clients_own_error(seen: dict[str, Any]) -> None:
    assert seen["refused"] == ["400", "The model has no output 'ghost'; it has output_0."]
    assert seen["gone"] is False
