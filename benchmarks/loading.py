"""`python -m benchmarks.loading`: how long a worker takes to load weights, beside the bare call of the library.

A gigabyte of weights in sixteen layers, as model.pth and as safetensors, in the machine's page cache. Bare is
`torch.load(mmap=True)`, or `safetensors.torch.load_file`, and `load_state_dict(assign=True)` into a network on the meta
device; it comes twice in each round, and the ratio of the two is what noise alone makes. The ordinary way is the
network with its random numbers and a copy. Each load is in a process of its own, the order within a round is random;
"with first use" adds one sum over every weight, for which the mapped pages come. A ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch

from benchmarks.machine import describe

FILES = ("model.pth", "model.safetensors")
BARE, AGAIN, SERVER, ORDINARY = "bare", "bare, again", "the server's loader", "the ordinary way"
WAYS = (BARE, AGAIN, SERVER, ORDINARY)
RESULTS = Path(__file__).parent / "results" / "loading.md"
NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width, bias=False) for _ in range(layers))
"""
LOAD = """
import json, sys, time
from pathlib import Path
import safetensors.torch, torch
from tidegate.inference.worker import weights
import net

way, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
arguments = json.loads((folder / "manifest.json").read_text())["weights"]["arguments"]
path, place = folder / name, torch.device("cpu")

def read(mapped):
    if name.endswith(".safetensors"):
        return safetensors.torch.load_file(path)
    return torch.load(path, mmap=mapped, weights_only=True)

begin = time.perf_counter()
if way == "the server's loader":
    model = weights.load(folder, place)
elif way == "the ordinary way":
    model = net.Net(**arguments)
    model.load_state_dict(read(False))
else:
    with torch.device("meta"):
        model = net.Net(**arguments)
    model.load_state_dict(read(True), assign=True)
loaded = time.perf_counter()
for value in model.state_dict().values():
    value.sum().item()
print(json.dumps([loaded - begin, time.perf_counter() - begin]))
"""


def prepare(folder: Path, *, layers: int, width: int) -> None:
    """Write the weights in both kinds, and the network."""
    torch.manual_seed(0)
    state = {f"layers.{number}.weight": torch.randn(width, width) for number in range(layers)}
    torch.save(state, folder / FILES[0])
    safetensors.torch.save_file(state, folder / FILES[1])
    (folder / "net.py").write_text(NETWORK, encoding="utf-8")


def load(way: str, folder: Path, name: str, *, layers: int, width: int) -> tuple[float, float]:
    """Seconds until the network has its weights, and until all of them were used once."""
    described_weights = {"file": name, "architecture": "net:Net", "arguments": {"layers": layers, "width": width}}
    manifest = {"format_version": 1, "files": {}, "weights": described_weights}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "load.py").write_text(LOAD, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(folder / "load.py"), way, str(folder), name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded, used = json.loads(done.stdout.splitlines()[-1])
    return float(loaded), float(used)


def measure(folder: Path, *, rounds: int, layers: int, width: int) -> list[str]:
    """The rows of the table."""
    rows = []
    for name in FILES:
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in random.sample(WAYS, len(WAYS)):
                times[way].append(load(way, folder, name, layers=layers, width=width))
        rows += [row(name, way, times[way], times[BARE]) for way in WAYS]
    return rows


def row(name: str, way: str, times: Sequence[tuple[float, float]], bare: Sequence[tuple[float, float]]) -> str:
    """One line of the table."""
    loaded, used = (statistics.median(time[at] for time in times) for at in (0, 1))
    ratios = (statistics.median(time[at] / other[at] for time, other in zip(times, bare, strict=True)) for at in (0, 1))
    load_ratio, use_ratio = ratios
    return f"| {name} | {way} | {loaded * 1000:.0f} | {load_ratio:.2f} | {used * 1000:.0f} | {use_ratio:.2f} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and write it where the results are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    size = options.layers * options.width**2 * 4
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), layers=options.layers, width=options.width)
        rows = measure(Path(folder), rounds=options.rounds, layers=options.layers, width=options.width)
    machine = {name: value for name, value in describe().items() if name not in ("load", "Java", "revision")}
    lines = [
        "# Loading weights",
        "",
        f"`python -m benchmarks.loading`: {size / 1e9:.2f} GB of weights in the page cache, {options.rounds} rounds. "
        f"{'; '.join(f'{name}: {value}' for name, value in machine.items())}.",
        "",
        "| file | how | load, ms | ratio to bare | with first use, ms | ratio to bare |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]
    text = "\n".join(lines)
    print(text)
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
