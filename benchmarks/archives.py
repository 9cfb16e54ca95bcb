"""Archives of the networks of work.py, in every format, and how one of them is served."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import work
from benchmarks.bodies import Body
from benchmarks.contestants import Start
from benchmarks.processes import free_ports
from tidegate.training_hooks import Example, save_directory, save_model

ROOT = Path(__file__).parents[1]
NPY = "application/x-npy"
PTH, AGAIN, SAFETENSORS, TORCH_SCRIPT, PROGRAM = ".pth", ".pth again", "safetensors", "TorchScript", "torch.export"
EXPORTED = {"ONNX": "onnx", "AOTInductor": "aoti"}
"""What `export` calls them."""
FORMATS = (PTH, AGAIN, SAFETENSORS, TORCH_SCRIPT, PROGRAM, *EXPORTED)
TOGETHER = 8


class Archive(NamedTuple):
    """A saved model, and the body of one record."""

    model_dir: Path
    body: Body
    dynamic: tuple[str, ...] = ()


def picture() -> torch.Tensor:
    """(1, 3, 224, 224), the same in each run."""
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def vector() -> torch.Tensor:
    """(1, 256), the same in each run."""
    return torch.randn(1, 256, generator=torch.Generator().manual_seed(0))


class Network(NamedTuple):
    """A function of work.py that makes a network, and what makes one record for it, (1, …)."""

    maker: str
    record: Callable[[], torch.Tensor]


NETWORKS = {"MLP": Network("mlp", vector), "ResNet-18": Network("resnet18", picture)}


class Sample(NamedTuple):
    """Records that a server is asked for, (N, …), and what eager torch makes of them."""

    body: Body
    records: torch.Tensor
    expected: torch.Tensor


def of_work(folder: Path, network: str, record: torch.Tensor, atol: float) -> Archive:
    """The network of work.py that the function `network` makes, with random weights, on one record (1, …)."""
    code = folder / "code"
    code.mkdir(parents=True)
    shutil.copy(work.__file__, code / "networks.py")
    torch.manual_seed(0)
    model_dir = save_model(
        getattr(work, network)().eval(),
        model_dir=folder / "model",
        code_dir=code,
        architecture=f"networks:{network}",
        example=Example(request=record, accept=NPY, rtol=1e-3, atol=atol),
        batching=True,
    )
    return Archive(model_dir, written(folder, as_npy(record), NPY))


class Archives(NamedTuple):
    """The model directory of each format that can be made here, what to ask them, and why others are not there."""

    model_dirs: dict[str, Path]
    sample: Sample
    missing: list[str]


def of_every_format(folder: Path, network: Network, formats: Sequence[str]) -> Archives:
    """The same network in each of `formats`."""
    record = network.record()
    base = of_work(folder / "state_dict", network.maker, record, 1e-5)
    torch.manual_seed(0)
    net = getattr(work, network.maker)().eval()
    disturbed = record + 0.1 * torch.randn(2 * TOGETHER, *record.shape[1:], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        sample = Sample(base.body, disturbed, net(disturbed))
        example = Example(request=record, response=net(record), accept=NPY)
    archives = {PTH: base.model_dir, AGAIN: base.model_dir}
    if SAFETENSORS in formats:
        archives[SAFETENSORS] = save_model(
            net,
            model_dir=folder / "safetensors",
            code_dir=base.model_dir / "code",
            architecture=f"networks:{network.maker}",
            format="safetensors",
            example=example,
            batching=True,
        )
    if TORCH_SCRIPT in formats:
        file = folder / "model.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of all of TorchScript
            torch.jit.script(net).save(file)
        archives[TORCH_SCRIPT] = alone(file, folder / "torch_script", example, {})
    if PROGRAM in formats:
        file = folder / "model.pt2"
        torch.export.save(torch.export.export(net, (disturbed,), dynamic_shapes=({0: torch.export.Dim("rows")},)), file)
        archives[PROGRAM] = alone(file, folder / "program", example, {})
    made, missing = exported(base.model_dir, folder / "exported", [name for name in EXPORTED if name in formats])
    for name, form in made.items():
        weights = {"signature": form["signature"]} if name == "AOTInductor" else {}
        archives[name] = alone(folder / "exported" / form["file"], folder / form["name"], example, weights)
    return Archives({name: archives[name] for name in formats if name in archives}, sample, missing)


def exported(model_dir: Path, copy: Path, formats: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The forms that the command writes into a copy of an archive, and why others cannot be made."""
    missing = []
    if "AOTInductor" in formats and shutil.which("g++") is None:
        missing.append("AOTInductor is left out, because there is no g++ here")
        formats = [name for name in formats if name != "AOTInductor"]
    if not formats:
        return {}, missing
    shutil.copytree(model_dir, copy)
    names = ",".join(EXPORTED[name] for name in formats)
    command = [sys.executable, "-m", "training_hooks", "export", str(copy), "--to", names, "--force", "--json"]
    done = subprocess.run([*command, "--threads", "1"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    by_name = {each["name"]: each for each in json.loads((copy / "manifest.json").read_bytes())["forms"]}
    told = {each["name"]: each["refused"] for each in json.loads(done.stdout)["forms"]}
    missing += [f"{name} is left out: {told[EXPORTED[name]]}" for name in formats if EXPORTED[name] not in by_name]
    return {name: by_name[EXPORTED[name]] for name in formats if EXPORTED[name] in by_name}, missing


def alone(file: Path, model_dir: Path, example: Example, weights: Mapping[str, Any]) -> Path:
    """An archive of one file that holds its network."""
    source = model_dir.with_name(f"{model_dir.name}-files")
    source.mkdir()
    name = f"model{file.suffix}"
    shutil.copy(file, source / name)
    manifest = {"format_version": 1, "files": {}, "weights": {"file": name, **weights}}
    (source / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return save_directory(source, model_dir=model_dir, example=example, batching=True)


def serving(base_dir: Path, model_dir: Path, **settings: str) -> Start:
    """A server of `model_dir` that trusts it: one worker, batches of at most eight, and `settings` beside these."""
    base_dir.mkdir(parents=True)
    (base_dir / "model").symlink_to(model_dir)
    port = free_ports(1)
    ours = {
        "SAGEMAKER_BASE_DIR": str(base_dir),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": NPY,
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_WORKERS": "1",
        "TIDEGATE_MAX_BATCH_SIZE": "8",
        "TIDEGATE_TRUST_COMPILED_MODEL": "on",
        **settings,
    }
    command = [sys.executable, "-m", "tidegate", "serve"]
    return Start(command=command, environment=foreign_environment() | ours, folder=base_dir, port=port)


def foreign_environment() -> dict[str, str]:
    """The environment without settings of a server."""
    ours = ("SAGEMAKER_", "TIDEGATE_", "TS_", "OTEL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def as_npy(tensor: torch.Tensor) -> bytes:
    """A tensor as the bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, tensor.numpy(), allow_pickle=False)
    return file.getvalue()


def written(folder: Path, data: bytes, content_type: str) -> Body:
    """A body, with its file in `folder`."""
    file = folder / "body"
    file.write_bytes(data)
    return Body(data=data, content_type=content_type, file=file)
