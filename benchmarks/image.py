"""`python -m benchmarks.image`: the image's size, its rebuild, and its start beside the same server as a process.

Writes benchmarks/results/image.md. The container and the process serve the same model in turn, so that both meet the
same machine; the time runs from the command to the first 200 of /ping, asked every 5 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_ports
from container import build
from container.engine import ROOT, DockerFailed, Engine, find, local_base

RESULTS = ROOT / "benchmarks/results/image.md"
MODEL = """
import torch


def model_fn(model_dir):
    return torch.nn.Identity()
"""
START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds, one entry per round, and the image's size in bytes."""

    size_bytes: int
    layers: tuple[tuple[str, str], ...]
    rebuild_s: tuple[float, ...]
    container_start_s: tuple[float, ...]
    process_start_s: tuple[float, ...]

    @property
    def start_ratio(self) -> float:
        """The median of the rounds' own ratios: both halves of a round met the same machine."""
        pairs = zip(self.container_start_s, self.process_start_s, strict=True)
        return statistics.median(container / process for container, process in pairs)


def measure(engine: Engine, recipe: build.Recipe, rounds: int) -> Measured:
    """Build, rebuild after a changed line of code, and start both ways, `rounds` times each."""
    with tempfile.TemporaryDirectory(prefix="tidegate-context-") as place:
        context = _copy_of_the_context(Path(place))
        build.build(engine, recipe, context)
        rebuilds = tuple(_rebuild_s(engine, recipe, context) for _ in range(rounds))
    containers, processes = [], []
    build.build(engine, recipe)
    with tempfile.TemporaryDirectory(prefix="tidegate-measure-") as work:
        code = Path(work, "model/code")
        code.mkdir(parents=True)
        (code / "inference.py").write_text(MODEL)
        _container_start_s(engine, recipe.tag, Path(work))  # the first start also reads the image's files from disk
        _process_start_s(Path(work))
        for _ in range(rounds):
            containers.append(_container_start_s(engine, recipe.tag, Path(work)))
            processes.append(_process_start_s(Path(work)))
    history = engine.run("history", "--format", "{{.Size}}\t{{.CreatedBy}}", recipe.tag).splitlines()
    layers = [line.split("\t", 1) for line in history if not line.startswith("0B")]
    return Measured(
        size_bytes=int(engine.run("image", "inspect", "--format", "{{.Size}}", recipe.tag)),
        layers=tuple((size, " ".join(made.split())[:90]) for size, made in layers),
        rebuild_s=rebuilds,
        container_start_s=tuple(containers),
        process_start_s=tuple(processes),
    )


def _copy_of_the_context(target: Path) -> Path:
    """What the build reads, in a place of its own: a measurement changes no file of the checkout."""
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("tidegate", "inference", "training_hooks", "container"):
        shutil.copytree(ROOT / name, target / name, ignore=skipped)
    for name in ("LICENSE", ".dockerignore"):
        shutil.copy2(ROOT / name, target / name)
    return target


def _rebuild_s(engine: Engine, recipe: build.Recipe, context: Path) -> float:
    """The time of a build after one more line in a file of the server."""
    with (context / "inference/__init__.py").open("a", encoding="utf-8") as file:
        file.write(f"# {time.time_ns()}\n")
    began = time.perf_counter()
    build.build(engine, recipe, context)
    return time.perf_counter() - began


def _container_start_s(engine: Engine, tag: str, base_dir: Path) -> float:
    port = free_ports(1)
    words = ["run", "--detach", "--rm", "--publish", f"127.0.0.1:{port}:8080", "--env", "TIDEGATE_WORKERS=1"]
    began = time.perf_counter()
    started = engine.run(*words, "--volume", f"{base_dir / 'model'}:/opt/ml/model:ro", tag, "serve").strip()
    try:
        _wait_for_ping(port)
        return time.perf_counter() - began
    finally:
        engine.run("kill", started)
        with contextlib.suppress(Exception):
            engine.run("wait", started)


def _process_start_s(base_dir: Path) -> float:
    port = free_ports(1)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SAGEMAKER_", "TIDEGATE_"))
    }
    environment |= {"SAGEMAKER_BASE_DIR": str(base_dir), "SAGEMAKER_BIND_TO_PORT": str(port), "TIDEGATE_WORKERS": "1"}
    environment["TIDEGATE_HOST"] = "127.0.0.1"
    words = [sys.executable, "-P", "-m", "tidegate.inference", "serve"]
    began = time.perf_counter()
    with subprocess.Popen(
        words, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for_ping(port)
            return time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_for_ping(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/ping")
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.005)
    raise TimeoutError(f"no 200 from /ping within {START_TIMEOUT_S:g} s")


def table(measured: Measured, when: str) -> str:
    """The page benchmarks/results/image.md."""
    return "\n".join(_lines(measured, when)) + "\n"


def _lines(measured: Measured, when: str) -> Iterator[str]:
    def row(what: str, seconds: tuple[float, ...]) -> str:
        return f"| {what} | {statistics.median(seconds):.2f} s | {min(seconds):.2f} to {max(seconds):.2f} s |"

    yield "# The image: size and start"
    yield ""
    yield f"Made by `python -m benchmarks.image` on {when}: {len(measured.rebuild_s)} rounds, {_machine()}."
    yield ""
    yield "| what | median | range | goal |"
    yield "| --- | --- | --- | --- |"
    yield f"| size of the CPU image | {measured.size_bytes / 1e6:.0f} MB | | 895 MB |"
    yield row("build after a line of the server was changed", measured.rebuild_s) + " 3 s |"
    yield row("container: from `docker run` to the first 200 of `/ping`", measured.container_start_s) + " |"
    yield row("process: the same server and model", measured.process_start_s) + " |"
    yield f"| container / process, median of the pairs | {measured.start_ratio:.2f} | | 1.5 |"
    yield ""
    yield "What the image is made of, newest layer first:"
    yield ""
    yield "| size | made by |"
    yield "| --- | --- |"
    for size, made in measured.layers:
        yield f"| {size} | `{made.replace('|', '/') or 'the base image'}` |"


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.release().split('-')[0]}"
    )


def main(clock: Callable[[], float] = time.time) -> int:
    """Measure, and write the page; exit status 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image", description="Measure the image.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tag", default="tidegate-measure:cpu", help="removed at the end")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    engine = find()
    base = os.environ.get("BASE_IMAGE") or local_base(engine)
    try:
        measured = measure(
            engine,
            build.Recipe(tag=arguments.tag, base_image=base, torch_index=os.environ.get("TORCH_INDEX")),
            arguments.rounds,
        )
    finally:
        with contextlib.suppress(DockerFailed):
            engine.run("image", "rm", arguments.tag)
    when = time.strftime("%Y-%m-%d", time.gmtime(clock()))
    arguments.output.write_text(table(measured, when), encoding="utf-8")
    print(arguments.output.read_text(encoding="utf-8"))
    goals = (
        measured.size_bytes <= 895e6,
        statistics.median(measured.rebuild_s) < 3,
        measured.start_ratio <= 1.5,
    )
    return 0 if all(goals) else 1


if __name__ == "__main__":
    sys.exit(main())
