"""What Cortex's page on models promises, asked of a real server: its trees, its four events, its table of processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.contract.repositories import Serving, serving
from tests.contract.running import Reply, write_files

READS_ITS_FILES = """
import json, os
from pathlib import Path

def model_fn(model_dir):
    return {path.name: path.read_text() for path in Path(model_dir).iterdir() if path.is_file()}

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(data, model, context):
    return {"version": context.model_version, "files": model, "pid": os.getpid()}
"""


def tree(says: str) -> dict[str, str]:
    """A model of Cortex's Python predictor: any structure, such as MLflow's, and no manifest."""
    return {"MLmodel": "flavors: {}", "conda.yaml": "channels: []", "model.pkl": says}


def shared(path: Path) -> None:
    write_files(path / "repository" / "code", {"inference.py": READS_ITS_FILES})


def pickle_of(here: Serving, name: str, version: object = None) -> str:
    """What the file of the model that answers holds, or the code of the error."""
    reply = here.ask(name, version)
    return files_of(reply).get("model.pkl", "none") if reply.status == 200 else reply.error["code"]


def files_of(reply: Reply) -> dict[str, str]:
    """What the files of the model hold that has answered: none where it refused, or of a tree on its way some."""
    found: dict[str, str] = reply.json().get("files", {})
    return found


def test_the_four_events_of_live_reloading_are_seen(tmp_path: Path) -> None:
    """A model is added, removed, gets another structure, gets an updated file; versions are timestamps."""
    shared(tmp_path)
    with serving(tmp_path) as here:
        models = here.folder.path
        write_files(models / "model-A" / "1523423423", tree("first"))
        here.until(lambda: pickle_of(here, "model-A") == "first", "a model is added")
        write_files(models / "model-A" / "2434389194", tree("second"))
        here.until(lambda: pickle_of(here, "model-A") == "second", "the highest number is the latest")
        assert pickle_of(here, "model-A", 1523423423) == "first"

        (models / "model-A" / "2434389194" / "labels.txt").write_text("a b c")
        here.until(lambda: "labels.txt" in files_of(here.ask("model-A")), "its structure has changed")
        (models / "model-A" / "2434389194" / "model.pkl").write_text("mended")
        here.until(lambda: pickle_of(here, "model-A") == "mended", "a file is updated")

        shutil.rmtree(models / "model-A" / "2434389194")
        here.until(lambda: pickle_of(here, "model-A") == "first", "the newest version is removed, and the next answers")
        write_files(models / "model-B", tree("unversioned"))
        here.until(lambda: pickle_of(here, "model-B") == "unversioned", "a model without versions is added")
        shutil.rmtree(models / "model-A")
        here.until(lambda: pickle_of(here, "model-A") == "model_not_found", "a model is removed")
        assert pickle_of(here, "model-B") == "unversioned"


def test_a_single_model_is_the_repository_and_needs_no_name(tmp_path: Path) -> None:
    """`model_path`, with versions: `get_model()` without arguments is a request without a choice."""
    repository = tmp_path / "repository"
    for number in (9, 10):
        write_files(repository / str(number), tree(f"version {number}") | {"code/inference.py": READS_ITS_FILES})
    with serving(tmp_path) as here:
        here.until(lambda: here.ask().status == 200, "it is found")
        assert here.ask().json()["version"] == 10
        assert pickle_of(here, "model", 9) == "version 9"


def test_models_with_two_processes_each_are_reloaded_and_cached(tmp_path: Path) -> None:
    """Cortex cached with one process alone. Both processes of a model answer, and both go."""
    shared(tmp_path)
    for name in ("a", "b"):
        write_files(tmp_path / "repository" / name / "1", tree(f"{name} 1"))
    limits = {"TIDEGATE_MAX_LOADED_MODELS": "1", "TIDEGATE_RELOAD_ORDER": "unload-first"}  # there is no room for two
    with serving(tmp_path, TIDEGATE_WORKERS="2", **limits) as here:
        here.until(lambda: here.server.request("GET", "/models").body.count(b'"available"') == 2, "both are found")
        for name in ("a", "b", "a"):
            assert pickle_of(here, name) == f"{name} 1"
            assert len(here.server.workers()) <= 2
        first = here.until(lambda: len(both := here.server.workers()) == 2 and both, "both processes are there")
        write_files(tmp_path / "repository" / "b" / "2", tree("b 2"))
        here.until(lambda: pickle_of(here, "b") == "b 2", "a new version answers")
        here.until(lambda: not any(worker.is_running() for worker in first), "the other model's processes are gone")
        listed = json.loads(here.server.request("GET", "/models").body)["models"]
        states = [version["state"] for entry in listed for version in entry["versions"]]
        assert states.count("loaded") == 1
