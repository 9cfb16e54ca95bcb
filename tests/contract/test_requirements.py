"""`code/requirements.txt`: installed before the load, for this model alone, from the wheels of the archive if any."""

from __future__ import annotations

import io
import re
import socket
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import typing_extensions

from tests.contract.running import running

TORCH = metadata.version("torch")
USES = """
import json, os, sys
import {module}

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return data

def input_fn(data, content_type):
    return data

def output_fn(prediction, accept):
    import subprocess
    program = "import {module}; print({module}.__version__)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return json.dumps({{"version": {module}.__version__, "child": child.stdout.strip(), "file": {module}.__file__}})
"""


def wheel(name: str, version: str, source: str, requires: str = "") -> tuple[str, bytes]:
    """A pure wheel with one module, as (file name, bytes)."""
    file = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/__init__.py", source)
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}-{version}-py3-none-any.whl", file.getvalue()


def archive(requirements: str | bytes, *wheels: tuple[str, bytes], module: str) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {
        "code/inference.py": USES.format(module=module),
        "code/requirements.txt": requirements,
        "code/wheels/.keep": b"",
    }
    return files | {f"code/wheels/{name}": content for name, content in wheels}


def final_line(files: dict[str, str | bytes], **environment: str) -> str:
    with running(files, wait=False, **environment) as server:
        assert server.ended() == 1, server.log()
        return server.log().strip().splitlines()[-1]


def test_a_package_that_bears_the_server_s_name_is_the_model_s_own():
    """`inference` is a package of the registry, too."""
    theirs = wheel("inference", "1.0", "__version__ = 'theirs'")
    files = archive("inference==1.0\n", theirs, module="inference")
    files["code/serve.py"] = files.pop("code/inference.py")
    with running(files, SAGEMAKER_PROGRAM="serve.py") as server:
        assert server.post(b"1").json()["version"] == "theirs"


def test_a_module_beside_the_script_may_bear_the_server_s_name():
    files = {
        "code/serve.py": (
            "from inference import VALUE\n\ndef model_fn(_):\n    pass\n\ndef transform_fn(*_):\n    return VALUE\n"
        ),
        "code/inference.py": "VALUE = 'of the archive'\n",
    }
    with running(files, SAGEMAKER_PROGRAM="serve.py") as server:
        assert server.post(b"1").body == b"of the archive"


def test_packages_come_from_the_wheels_of_the_archive_without_a_network():
    needed = wheel("tg_needed", "1.5", "__version__ = '1.5'")
    asked = wheel("tg_asked", "2.0", "import tg_needed\n__version__ = '2.0'", requires="tg_needed>=1")
    with running(archive("tg_asked\nnumpy\n", needed, asked, module="tg_asked")) as server:
        answer = server.post(b"1").json()
        assert (answer["version"], answer["child"]) == ("2.0", "2.0")
        assert "tidegate-packages" in answer["file"]
        assert "fresh interpreter" not in server.log()


def test_a_model_that_brings_another_version_of_what_is_preloaded_gets_a_fresh_interpreter_and_the_log_says_so():
    source = Path(typing_extensions.__file__).read_text()  # torch needs all of it
    other = wheel("typing_extensions", "99.0", f"{source}\n__version__ = '99.0'\n")
    with running(archive("typing_extensions==99.0\n", other, module="typing_extensions")) as server:
        lines = server.entries()
        said = [line for line in lines if "fresh interpreter" in line["message"]]
        answer = server.post(b"1").json()
        assert answer["version"] == "99.0"
        assert [line["packages"] for line in said] == [["typing_extensions"]]
        (worker,) = server.workers()
        worker.kill()
        server.wait_until(lambda: server.post(b"1").json()["version"] == "99.0", "its successor has it too")


def test_requirements_that_are_met_already_install_nothing():
    with running(archive(f"numpy=={np.__version__}\ntorch\n", module="numpy")) as server:
        assert "all requirements are here already" in server.log()
        assert server.post(b"1").json()["version"] == np.__version__


def test_requirements_at_the_root_of_the_archive_are_not_installed_and_the_log_says_so():
    files = {
        "code/inference.py": USES.format(module="json").replace("json.__version__", "'1'"),
        "requirements.txt": "no_such_package",
    }
    with running(files) as server:
        entries = server.entries()
        (entry,) = [entry for entry in entries if "not_installed" in entry]
    assert (entry["level"], entry["message"]) == ("warning", "requirements are installed from code/ alone")
    assert entry["not_installed"].endswith("/model/requirements.txt")


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("no_such_package_of_ours\n", "Could not find a version that satisfies the requirement no_such_pack"),
        ("torch==1.0\n", f"it wants torch==1.0, but torch stays at the installed version, {TORCH}."),
        ("tg_old\n", f"tg-old 1.0 wants torch<2, but torch stays at the installed version, {TORCH}."),
        ("a b c\n", "Invalid requirement: 'a b c'"),
    ],
)
def test_what_cannot_be_installed_is_one_line_and_exit_1(requirements, words):
    old = wheel("tg_old", "1.0", "", requires="torch<2")
    line = final_line(archive(requirements, old, module="json"))
    assert line.startswith("tidegate: error: ")
    assert "code/requirements.txt cannot be installed: " in line
    assert words in line, line


def test_an_index_that_nobody_answers_is_one_line_with_its_address_and_exit_1():
    files = {"code/inference.py": USES.format(module="json"), "code/requirements.txt": "no_such_package_of_ours\n"}
    # A port that is bound and does not listen refuses every connection.
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{refusing.getsockname()[1]}"
        line = final_line(files, PIP_INDEX_URL=f"http://{place}/simple", PIP_RETRIES="1")
    assert line.startswith("tidegate: error: ")
    assert re.search(rf"the package index at {place} cannot be reached \(.+\); name another by PIP_INDEX_", line)


def test_requirements_that_are_no_text_are_one_line_with_the_place_and_exit_1():
    line = final_line(archive(b"numpy  # caf\xe9\n", module="json"))
    assert line.startswith("tidegate: error: ")
    assert line.endswith("code/requirements.txt is not UTF-8 text: byte 12 cannot be decoded.")


def test_modules_of_the_script_are_not_imported_by_pip_and_utf_16_is_read_by_its_mark():
    """PowerShell writes UTF-16."""
    files = archive("numpy\n".encode("utf-16"), module="json")
    for name in ("pip", "optparse"):
        files[f"code/{name}.py"] = "raise SystemExit('user code ran in place of pip')"
    with running(files, PYTHONSAFEPATH="") as server:
        assert "all requirements are here already" in server.log()


def test_nothing_of_a_models_packages_is_left_when_the_server_has_stopped():
    asked = wheel("tg_asked", "2.0", "__version__ = '2.0'")
    with running(archive("tg_asked\n", asked, module="tg_asked")) as server:
        folder = server.post(b"1").json()["file"].partition("/tg_asked/")[0]
        assert server.terminate() == 0
        assert not Path(folder).exists()
