"""`python -m benchmarks.start`: from the start of the server to its first answer, beside what no server can leave out.

Two archives, of 5 MB and of 1 GB, as `save_model` writes them: weights, the class of their network in the manifest, and
the hash of every file. Each is started with its files in the page cache (warm) and after they were dropped from it
(cold; torch's own files stay in it). Bare is an interpreter that imports torch, loads the weights by
`torch.load(mmap=True)` and `load_state_dict(assign=True)` and predicts once; its own start is not counted. The control
is the same server without the thread that reads ahead. Everything runs in random order within a round; a figure is the
median over the rounds, and so is a difference, of the rounds' own differences.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.contestants import Start
from benchmarks.machine import describe
from benchmarks.processes import Server, adopt_orphans, free_ports

BARE, AGAIN, SERVER, CONTROL = "bare", "bare, again", "the server", "without reading ahead"
WAYS = (BARE, AGAIN, SERVER, CONTROL)
WARM, COLD = "warm", "cold"
GOAL_S = 0.2
RESULTS = Path(__file__).parent / "results" / "start.md"
NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width, bias=False) for _ in range(layers))

    def forward(self, data):
        for layer in self.layers:
            data = layer(data.float())
        return data
"""
_BARE = """
import json, sys, time
began = time.perf_counter()
import torch
imported = time.perf_counter()
import net
weights, arguments = sys.argv[1], json.loads(sys.argv[2])
with torch.device("meta"):
    model = net.Net(**arguments)
model.load_state_dict(torch.load(weights, mmap=True, weights_only=True), assign=True)
with torch.inference_mode():
    model.eval()(torch.ones(1, arguments["width"])).sum().item()
print(json.dumps([imported - began, time.perf_counter() - imported]))
"""
_SERVE = """
import sys
if sys.argv[1] == {control!r}:
    import threading
    start = threading.Thread.start
    threading.Thread.start = lambda self: None if self.name == "read-ahead" else start(self)
sys.argv[1:] = ["serve"]
from tidegate.inference.__main__ import main
sys.exit(main())
"""


class Times(NamedTuple):
    """Seconds: until torch is imported and until the model has predicted (bare), or until `/ping` and the answer."""

    first_s: float
    last_s: float


class Archive(NamedTuple):
    """A model on disk: what its network is made with, and what it is called in the table."""

    name: str
    folder: Path
    arguments: Mapping[str, int]

    @property
    def model_dir(self) -> Path:
        """What is served."""
        return self.folder / "model"


def prepare(name: str, folder: Path, *, layers: int, width: int) -> Archive:
    """Write an archive."""
    model = folder / "model"
    (model / "code").mkdir(parents=True)
    torch.manual_seed(0)
    state = {f"layers.{number}.weight": torch.randn(width, width) / width**0.5 for number in range(layers)}
    torch.save(state, model / "model.pth")
    (model / "code" / "net.py").write_text(NETWORK, encoding="utf-8")
    arguments = {"layers": layers, "width": width}
    files = [model / "model.pth", model / "code" / "net.py"]
    manifest = {
        "format_version": 1,
        "name": "start",
        "files": {str(path.relative_to(model)): _facts(path) for path in files},
        "weights": {"file": "model.pth", "architecture": "net:Net", "arguments": arguments},
    }
    (model / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Archive(name, folder, arguments)


def _facts(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size_bytes": path.stat().st_size}


def set_cache(archive: Archive, cache: str) -> None:
    """Have the archive's files in the page cache, or not."""
    for path in (each for each in archive.model_dir.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a page that is still to be written stays
            if cache == COLD:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while cache == WARM and file.read(1 << 20):
                pass


def measure(way: str, archive: Archive) -> Times:
    """Start once, to the first answer."""
    if way in (BARE, AGAIN):
        command = [sys.executable, "-W", "ignore", "-c", _BARE, str(archive.model_dir / "model.pth")]
        environment = {**os.environ, "PYTHONPATH": str(archive.model_dir / "code")}
        done = subprocess.run(
            [*command, json.dumps(archive.arguments)], check=True, capture_output=True, text=True, env=environment
        )
        imported_s, loaded_s = json.loads(done.stdout.splitlines()[-1])
        return Times(imported_s, imported_s + loaded_s)
    port = free_ports(1)
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "SAGEMAKER_BASE_DIR": str(archive.folder),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_WORKERS": "1",
    }
    command = [sys.executable, "-c", _SERVE.format(control=CONTROL), way]
    with Server(Start(command=command, environment=environment, folder=archive.folder, port=port)) as server:
        server.wait_for_answer(json.dumps([[1.0] * archive.arguments["width"]]).encode(), "application/json")
        return Times(server.health_s, server.answer_s)


def run(archives: Sequence[Archive], rounds: int) -> dict[tuple[str, str], list[dict[str, Times]]]:
    """What each way took in each round, by the name of the archive and the cache."""
    turns = [(archive, cache, way) for archive in archives for cache in (WARM, COLD) for way in WAYS]
    found: dict[tuple[str, str], list[dict[str, Times]]] = {(each.name, cache): [] for each, cache, _ in turns}
    for _ in range(rounds):
        for times in found.values():
            times.append({})
        for archive, cache, way in random.sample(turns, len(turns)):
            set_cache(archive, cache)
            found[archive.name, cache][-1][way] = measure(way, archive)
    return found


def rows(name: str, cache: str, rounds: Sequence[Mapping[str, Times]]) -> list[str]:
    """Of the table, one for each way."""
    lines = []
    for way in WAYS:
        first_s, last_s = (statistics.median(each[way][at] for each in rounds) for at in (0, 1))
        told = [f"{first_s:.2f}", ""] if way in (BARE, AGAIN) else ["", f"{first_s:.2f}"]
        lines.append(f"| {name} | {cache} | {way} | {' | '.join(told)} | {last_s:.2f} | {beyond_s(way, rounds):+.2f} |")
    return lines


def beyond_s(way: str, rounds: Sequence[Mapping[str, Times]]) -> float:
    """What a way takes beyond the bare one."""
    return statistics.median(each[way].last_s - each[BARE].last_s for each in rounds)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write it where the results are; returns 1 where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="a tiny model: to see that all works, not to quote")
    options = parser.parse_args(arguments)
    adopt_orphans()
    sizes = {"64 B": (1, 4)} if options.quick else {"5 MB": (1, 1120), "1 GB": (16, 4096)}
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        archives = [
            prepare(name, Path(folder, str(number)), layers=layers, width=width)
            for number, (name, (layers, width)) in enumerate(sizes.items())
        ]
        found = run(archives, options.rounds)
    reached = all(beyond_s(SERVER, rounds) <= GOAL_S for rounds in found.values())
    lines = [
        "# Start to the first answer",
        "",
        f"`python -m benchmarks.start`: seconds, medians of {options.rounds} rounds. "
        f"{'; '.join(f'{name}: {value}' for name, value in machine.items() if name != 'Java')}.",
        "",
        f"Goal: the server takes {GOAL_S:g} s beyond the bare start at most: {'reached' if reached else 'missed'}.",
        "",
        "| model | page cache | how | torch imported | first 200 of /ping | first answer | beyond bare |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(line for (name, cache), rounds in found.items() for line in rows(name, cache, rounds)),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    options.output.write_text(text, encoding="utf-8")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
