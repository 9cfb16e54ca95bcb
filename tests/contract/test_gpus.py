"""Workers of several GPUs, by what a real server gives to them. There are none here: torch is told how many it has.

That a model computes on them is not shown by this.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.running import Server, running, write_files
from tests.polling import AT_ONCE
from tidegate.inference.worker.context import Context

FOUR = "GPU-a,GPU-b,GPU-c,GPU-d"

MACHINE = """
import importlib.util, os, sys

class WithGpus:
    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        execute = spec.loader.exec_module
        def exec_module(torch):
            execute(torch)
            torch.version.cuda = "13.0"
            torch.cuda.device_count = lambda: len(os.environ["CUDA_VISIBLE_DEVICES"].split(","))
            torch.cuda.set_device = lambda device: None
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, WithGpus())
"""
"""A `sitecustomize`: in every process of the server torch has as many GPUs as CUDA_VISIBLE_DEVICES names."""

SCRIPT = f"""
import json, os
import torch
{AT_ONCE}
held = {{0: 5 << 20, 1: 7 << 20}}

def model_fn(model_dir, context):
    torch.cuda.is_initialized = lambda: True
    torch.cuda.memory_reserved = lambda gpu_id: held[gpu_id]
    seen = os.environ["CUDA_VISIBLE_DEVICES"]
    says = [[str(each) for each in context.devices], str(context.device), context.system_properties["gpu_id"]]
    write_at_once(os.path.join(model_dir, "saw " + seen), json.dumps(says))
    return seen

def input_fn(body, content_type):
    return int(body)

def predict_fn(data, model):
    held[1] = data << 20
    return model
"""


@contextmanager
def serving(root: Path, script: str = SCRIPT, *, wait: bool = True, **environment: str) -> Iterator[Server]:
    with running({"code/inference.py": script}, wait=wait, **(on_gpus(root) | environment)) as server:
        yield server


def on_gpus(root: Path) -> dict[str, str]:
    """What makes a process believe in GPUs."""
    (root / "sitecustomize.py").write_text(MACHINE)
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": FOUR, "TIDEGATE_WORKERS": ""}


def seen(server: Server) -> dict[str, list[object]]:
    return {path.name.removeprefix("saw "): json.loads(path.read_text()) for path in server.model_dir.glob("saw *")}


def held(server: Server) -> dict[str, float]:
    text = server.request("GET", "/metrics").body.decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {each.labels["gpu"]: each.value for each in samples if each.name == "tidegate_worker_gpu_bytes"}


def test_each_worker_sees_the_gpus_that_are_its_own_and_no_others(tmp_path: Path) -> None:
    with serving(tmp_path, TIDEGATE_GPUS_PER_WORKER="2") as server:
        server.wait_until(lambda: len(held(server)) == 4, "both workers have loaded the model")
        own = [["cuda:0", "cuda:1"], "cuda:0", 0]
        assert seen(server) == {"GPU-a,GPU-b": own, "GPU-c,GPU-d": own}


def test_the_memory_of_each_gpu_is_a_series_of_its_own_and_grows_with_use(tmp_path: Path) -> None:
    with serving(tmp_path, TIDEGATE_GPUS_PER_WORKER="2", TIDEGATE_WORKERS="1") as server:
        assert held(server) == {"0": 5 << 20, "1": 7 << 20}
        assert server.post(b"9").json() == "GPU-a,GPU-b"
        server.wait_until(lambda: held(server) == {"0": 5 << 20, "1": 9 << 20}, "what it holds now is known")


def test_a_worker_of_one_gpu_sees_all_and_has_its_own(tmp_path: Path) -> None:
    script = SCRIPT.replace('"saw " + seen', '"saw " + str(context.device)')
    with serving(tmp_path, script.replace("held = {0: 5 << 20,", "held = {0: 5 << 20, 2: 0, 3: 0,")) as server:
        saw = server.wait_until(
            lambda: len(saw := seen(server)) == 4 and saw, "every worker has begun to load the model"
        )
        assert saw == {f"cuda:{gpu}": [[f"cuda:{gpu}"], f"cuda:{gpu}", gpu] for gpu in range(4)}


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"TIDEGATE_GPUS_PER_WORKER": "8"}, "TIDEGATE_GPUS_PER_WORKER=8 is more than the 4 GPUs"),
        ({"TIDEGATE_GPUS_PER_WORKER": "3"}, "TIDEGATE_GPUS_PER_WORKER=3 does not divide the 4 GPUs"),
        ({"TIDEGATE_GPUS_PER_WORKER": "2", "TIDEGATE_WORKERS": "3"}, "need 6, and this container sees 4"),
    ],
)
def test_gpus_that_cannot_be_shared_out_end_the_start_with_one_sentence(
    tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    with serving(tmp_path, wait=False, **environment) as server:
        server.wait_until(lambda: server.process.poll() is not None, "the server has given up")
        assert server.process.returncode == 1
        assert sentence in server.log()
        assert not seen(server)


def test_check_says_what_a_worker_has_and_which_gpus_it_leaves_idle(tmp_path: Path) -> None:
    write_files(tmp_path / "model", {"code/inference.py": SCRIPT.replace("7 << 20", "0")})
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGEMAKER_", "TIDEGATE_", "TS_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-m", "inference", "check", str(tmp_path / "model"), "--json"],
        env=kept | on_gpus(tmp_path) | {"TIDEGATE_GPUS_PER_WORKER": "2", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["load"]["gpus"], report["load"]["gpu_bytes"]) == (2, 5 << 20)
    assert any("uses nothing of 1 of its worker's 2 GPUs (cuda:1)" in each["message"] for each in report["warnings"])


def test_the_guides_network_is_the_same_on_one_device_and_is_spread_over_several(tmp_path: Path) -> None:
    """A device of torch that computes nothing (`meta`) stands for the second GPU."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "gpus.md").read_text(encoding="utf-8")
    (script,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class Spread" in each]
    names: dict[str, object] = {}
    exec(script, names)  # noqa: S102 - the guide's
    net = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(6)))
    torch.save(net.state_dict(), tmp_path / "model.pth")
    model_fn = names["model_fn"]
    assert callable(model_fn)

    def made(*devices: torch.device) -> torch.nn.Module:
        context = Context(model_name="model", manifest={}, system_properties={}, devices=devices)
        model: torch.nn.Module = model_fn(str(tmp_path), context)
        return model

    x = torch.rand(2, 4)
    assert torch.equal(made()(x), net(x))
    cpu, other = torch.device("cpu"), torch.device("meta")
    spread = made(cpu, other)
    assert [each.device for each in spread.parameters()] == [cpu] * 6 + [other] * 6
    assert spread(x).device == other
