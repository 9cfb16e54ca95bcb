"""What is installed is `tidegate` and nothing else; a checkout answers to the short names too."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.contract.running import free_port
from tests.processes import started
from tests.tidegate.installations import ENTRY, FOLDERS, REPOSITORY, Installation, copy_of_the_checkout

COMMANDS = [
    (["inference", "--version"], "tidegate "),
    (["inference", "--help"], "usage: tidegate "),
    (["client", "--help"], "usage: tidegate "),
    (["local_cloud", "--help"], "usage: tidegate cloud "),
    (["training_hooks", "pack", "--help"], "usage: tidegate pack "),
    (["infra", "models", "--help"], "usage: tidegate models "),
    (["infra", "served", "--help"], "usage: tidegate served "),
    (["infra.cost.draft", "--help"], "usage: python -m tidegate.infra.cost.draft "),
]

TRAINING_SCRIPT = """
import argparse, os
import torch
from training_hooks import ArtifactError, Example, save_model
from training_hooks.errors import ArtifactError as the_same

parser = argparse.ArgumentParser()
parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
arguments = parser.parse_args()
net = torch.nn.Linear(2, 1)
try:
    save_model(net, model_dir=arguments.model_dir, labels=7)
except the_same as error:
    assert type(error) is ArtifactError
    print("refused:", error)
save_model(net, model_dir=arguments.model_dir, example=Example(request=torch.ones(1, 2)), code_dir="code")
"""

MODEL = """
def model_fn(model_dir):
    return "a model"

def input_fn(body, content_type):
    import {module} as mine
    return mine.__name__

def predict_fn(data, model):
    return {{"mine": data}}
"""


def source_files() -> set[str]:
    """What an installation has to hold of the checkout, by its name below `site-packages`."""
    package = REPOSITORY / "tidegate"
    found = {f"tidegate/{path.name}" for path in package.iterdir() if path.is_file()}
    own = [path for path in package.iterdir() if path.is_dir() and not path.is_symlink() and path.name != "__pycache__"]
    for folder in (*(REPOSITORY / name for name in FOLDERS), *own):
        paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        found |= {f"tidegate/{path.relative_to(package if folder in own else REPOSITORY)}" for path in paths}
    return found | {f"tidegate/local_cloud/image/{name}" for name in ENTRY}


@pytest.mark.parametrize("made_of", [0, 1], ids=["the checkout", "the source archive"])
def test_a_wheel_has_one_name_at_its_top_and_every_file_below_it(wheels: tuple[Path, Path], made_of: int) -> None:
    with zipfile.ZipFile(wheels[made_of]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (top_level,) = (name for name in wheel.namelist() if name.endswith("top_level.txt"))
        assert wheel.read(top_level) == b"tidegate\n"
    assert names == source_files() | {"tidegate.pth"}


def test_a_checkout_that_has_lost_its_links_is_not_built_without_them(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path / "checkout", links=False)
    program = "import setuptools.build_meta as build; build.build_wheel('.')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert "tidegate/inference is a symbolic link to ../inference" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("words", "usage"), COMMANDS, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_the_module_commands_run_in_every_folder(
    installed: Installation, tmp_path: Path, words: list[str], usage: str
) -> None:
    done = installed.run("python", "-m", f"tidegate.{words[0]}", *words[1:], cwd=tmp_path)
    assert done.stdout.startswith(usage.format("tidegate.")), done.stderr


@pytest.mark.parametrize("place", ["elsewhere", "in the checkout"])
@pytest.mark.parametrize(("words", "usage"), COMMANDS, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_a_checkout_has_them_by_their_short_names_too(
    editable: Installation, tmp_path: Path, words: list[str], usage: str, place: str
) -> None:
    cwd = editable.source if place == "in the checkout" else tmp_path
    done = editable.run("python", "-m", *words, cwd=cwd)
    assert done.stdout.startswith(usage.format("")), done.stderr


@pytest.mark.parametrize("short", FOLDERS)
def test_a_wheel_leaves_the_short_names_to_others(from_a_wheel: Installation, tmp_path: Path, short: str) -> None:
    done = from_a_wheel.run("python", "-c", f"import tidegate.{short}\nimport {short}", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{short}'"


@pytest.mark.parametrize("place", ["elsewhere", "in the checkout"])
def test_a_module_is_there_once_whichever_name_it_is_imported_by(
    editable: Installation, tmp_path: Path, place: str
) -> None:
    program = """
import sys
import training_hooks.archive as short
import tidegate.training_hooks.archive as long
from client.errors import ModelError
import client, infra, inference.errors, local_cloud, tidegate
from inference.frontend.http import connection

assert short is long is tidegate.training_hooks.archive, (short, long)
assert client is tidegate.client and client.ModelError is ModelError
assert infra is tidegate.infra and local_cloud is tidegate.local_cloud
assert inference.errors is tidegate.inference.errors
assert connection.__name__ == connection.__spec__.name == "tidegate.inference.frontend.http.connection"
twice = {module.__name__ for name, module in sys.modules.items() if name.partition(".")[0] in {*sys.argv[1:]}}
assert all(name.startswith("tidegate.") for name in twice), twice
print("once")
"""
    cwd = editable.source if place == "in the checkout" else tmp_path
    done = editable.run("python", "-c", program, *FOLDERS, cwd=cwd)
    assert (done.stdout, done.stderr) == ("once\n", "")


@pytest.mark.parametrize("short", FOLDERS)
@pytest.mark.parametrize("kind", ["module", "package", "folder"])
def test_a_users_own_module_of_a_short_name_is_what_a_script_imports(
    editable: Installation, tmp_path: Path, short: str, kind: str
) -> None:
    files = {"module": f"{short}.py", "package": f"{short}/__init__.py", "folder": f"{short}/parts.py"}
    path = tmp_path / files[kind]
    path.parent.mkdir(exist_ok=True)
    path.write_text("MINE = True\n")
    imported = f"{short}.parts" if kind == "folder" else short
    (tmp_path / "script.py").write_text(f"import tidegate.{short}\nimport {imported} as it\nprint(it.MINE)\n")
    done = editable.run("python", str(tmp_path / "script.py"), cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_local_cloud_of_a_wheel_trains_as_the_image_does(from_a_wheel: Installation, tmp_path: Path) -> None:
    code, model = tmp_path / "ml" / "code", tmp_path / "ml" / "model"
    code.mkdir(parents=True)
    (code / "train.py").write_text("import os, pathlib; pathlib.Path(os.environ['SM_MODEL_DIR'], 'out').touch()")
    program = (
        "import subprocess\n"
        "from tidegate.local_cloud.sagemaker.jobs.runners import own_train_command\n"
        "raise SystemExit(subprocess.run(own_train_command()).returncode)\n"
    )
    done = from_a_wheel.run("python", "-c", program, cwd=tmp_path, SAGEMAKER_BASE_DIR=str(tmp_path / "ml"))
    assert done.returncode == 0, done.stderr
    assert (model / "out").is_file()


def test_an_old_training_script_runs_by_its_path(editable: Installation, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(
        "import torch\n\ndef model_fn(model_dir):\n    net = torch.nn.Linear(2, 1)\n"
        "    net.load_state_dict(torch.load(f'{model_dir}/model.pth'))\n    return net\n"
    )
    (tmp_path / "train.py").write_text(TRAINING_SCRIPT)
    trained = editable.run("python", str(tmp_path / "train.py"), cwd=tmp_path, SM_MODEL_DIR=str(tmp_path / "model"))
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("refused: ")
    packed = editable.run("python", "-m", "training_hooks", "pack", "model", "--output", "model.tar.gz", cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    checked = editable.run("tidegate", "check", "model", cwd=tmp_path)
    assert checked.stdout.splitlines()[-1] == "this model may take traffic", checked.stderr


@pytest.mark.parametrize(
    "words", [["tidegate", "serve"], ["python", "-m", "inference", "serve"]], ids=lambda words: words[0]
)
def test_the_server_of_a_wheel_serves_a_script_that_imports_us_and_its_own_client(
    from_a_wheel: Installation, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(MODEL.format(module="client"))
    (tmp_path / "code" / "client.py").write_text("from tidegate.inference.errors import BadRequest\n")
    port = free_port()
    with started(
        from_a_wheel.command(*words, str(tmp_path), "--port", str(port)),
        cwd=tmp_path / "code",
        env=from_a_wheel.environment(TIDEGATE_WORKERS="1"),
        stderr=subprocess.PIPE,
    ) as server:
        try:
            assert ask(port, server) == {"mine": "client"}
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0


def ask(port: int, server: subprocess.Popen[bytes]) -> object:
    """The answer to an invocation, once there is one."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", b"[1]", {"content-type": "application/json"}
    )
    deadline = time.monotonic() + 200
    while True:
        assert server.poll() is None, server.communicate()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.05)
