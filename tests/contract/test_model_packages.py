"""What a model's packages are to its script: in the worker, in what it starts, and after the model has gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.running import running, write_files
from tests.inference.package_sources import repository, wheel
from tests.inference.test_loading import check

ASKS = """
import json, multiprocessing, os, subprocess, sys
import tg_flat

def model_fn(model_dir):
    return None

def _origin(answers):
    import tg_flat
    answers.put(tg_flat.ORIGIN)

def _spawned():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_origin, args=(answers,))
    process.start()
    said = answers.get(timeout=60)
    process.join()
    return said

def transform_fn(model, body, content_type, accept):
    run = lambda *words: subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    program = "import tg_flat; print(tg_flat.ORIGIN)"
    return json.dumps({
        "worker": tg_flat.ORIGIN,
        "interpreter": run(sys.executable, "-c", program),
        "python": run("python", "-c", program),
        "program": run("tg_flat-say"),
        "spawned": _spawned(),
        "file": tg_flat.__file__,
    })
"""


@pytest.mark.parametrize("editable", ["", "-e "])
def test_a_package_of_a_git_reference_is_there_for_the_worker_and_for_whatever_it_starts(
    tmp_path: Path, editable: str
) -> None:
    origin = repository(tmp_path / "origin")
    wanted = f"{editable}git+file://{origin}@v1#egg=tg_flat\n"
    with running({"code/inference.py": ASKS, "code/requirements.txt": wanted}) as server:
        answer = server.post(b"1").json()
        file = Path(answer.pop("file"))
        assert set(answer.values()) == {"commit 1"}, answer
        assert any(folder.name.startswith("tidegate-packages-") for folder in file.parents)
        assert server.terminate() == 0
        assert not file.exists()


def test_the_packages_of_a_model_go_with_it(tmp_path: Path) -> None:
    """Else a server whose models come and go fills its disk."""
    source = "import tg_asked\n\ndef model_fn(_):\n    pass\n\ndef transform_fn(*_):\n    return tg_asked.__file__\n"
    name, content = wheel("tg_asked", "1.0", "")
    files = {"code/inference.py": source, "code/requirements.txt": "tg_asked\n", f"code/wheels/{name}": content}
    write_files(tmp_path / "model", files)
    fails = {**files, "code/inference.py": "raise ValueError('no')\n"}
    write_files(tmp_path / "fails", fails)
    with running({}, wait=False, SAGEMAKER_MULTI_MODEL="true", TMPDIR=str(tmp_path)) as server:
        server.wait_until(lambda: server.ping() == 200, "the server is ready")
        for _ in range(2):
            url = f'{{"model_name": "m", "url": "{tmp_path / "model"}"}}'
            assert server.request("POST", "/models", url, {"content-type": "application/json"}).status == 200
            file = Path(server.request("POST", "/models/m/invoke", b"1").body.decode())
            assert file.is_file()
            assert server.request("DELETE", "/models/m").status == 200
            assert not file.exists()
        url = f'{{"model_name": "m", "url": "{tmp_path / "fails"}"}}'
        assert server.request("POST", "/models", url, {"content-type": "application/json"}).status >= 400
        (layers,) = tmp_path.glob("tidegate-packages-*")
        assert list(layers.iterdir()) == []


LIBRARY = {
    "code/inference.py": (
        "import json, subprocess, sys\nimport common\nimport single\nimport lib.common\n\n"
        "def model_fn(_):\n    return None\n\n"
        "def transform_fn(*_):\n"
        "    program = 'import common; print(common.VALUE)'\n"
        "    child = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True).stdout.strip()\n"
        "    return json.dumps([common.VALUE, single.VALUE, lib.common.VALUE, child])\n"
    ),
    "code/lib/common/__init__.py": "VALUE = 'of lib'\n",
    "code/lib/single.py": "VALUE = 'one file'\n",
}


def test_what_the_sdk_put_into_code_lib_is_importable() -> None:
    """`dependencies=[…]` of its models; `from lib.common import …` goes on working too."""
    with running(LIBRARY) as server:
        assert server.post(b"1").json() == ["of lib", "one file", "of lib", "of lib"]


def test_what_lies_in_code_lib_is_importable_in_a_check(tmp_path: Path) -> None:
    write_files(tmp_path, LIBRARY)
    report = check(tmp_path)
    assert report.status == 0, report.error


def test_nothing_in_code_lib_hides_a_module_of_python_or_of_the_server() -> None:
    """An archive may call a package of its own `lib`."""
    script = (
        "import json, subprocess, sys, torch\nfrom lib.json import VALUE\n\n"
        "def model_fn(_):\n    return torch.nn.Identity()\n\n"
        "def transform_fn(*_):\n"
        "    program = 'import json; print(json.dumps(1))'\n"
        "    child = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True).stdout.strip()\n"
        "    return json.dumps([VALUE, child])\n"
    )
    files = {
        "code/inference.py": script,
        "code/lib/json.py": "VALUE = 'of lib'\n",
        "code/lib/torch.py": "raise SystemExit('not the real torch')\n",
    }
    with running(files) as server:
        assert server.post(b"1").json() == ["of lib", "1"]
