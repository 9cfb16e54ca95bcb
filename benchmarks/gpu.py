"""Batching through the server against the bare model at its best batch size, on a machine with a GPU.

Both run in the interpreter of this command, whose torch must be a CUDA build. One worker; the server's batch size is
the bare model's best, and four times as many connections keep it filled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import machine, processes
from benchmarks.bodies import Body
from benchmarks.contestants import WORK, Start
from benchmarks.environments import BUILD, REQUIREMENTS, ROOT
from benchmarks.load import wrk
from benchmarks.processes import DidNotStart, Server, free_ports, watch_cpu
from benchmarks.report import table

SOURCES = REQUIREMENTS / "gpu"
VARIANTS = ("float32", "channels_last", "half", "half+channels_last", "half+channels_last+compile")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
NO_GPU = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """Images per second of the bare model at one batch size."""

    variant: str
    batch: int
    per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Images per second through the server at the bare model's best batch size."""

    variant: str
    batch: int
    connections: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_us: float


def run(output: Path, *, seconds: int) -> int:
    """Measure every variant, write `output`.md and .json. The exit status: 2 where there is no GPU, with one line."""
    if reason := why_not():
        print(f"benchmarks: error: {reason}", file=sys.stderr)
        return NO_GPU
    processes.adopt_orphans()
    bare: list[Bare] = []
    served: list[Served] = []
    for variant in VARIANTS:
        found = measure_bare(variant, seconds=seconds)
        bare += found
        best = best_batch(found)
        print(f"{variant}: bare model {best.per_s:.0f} images/s at batch {best.batch}", flush=True)
        try:
            served.append(measure_served(variant, best.batch, seconds=seconds))
        except DidNotStart as error:
            print(f"{variant}: the server did not start: {error}", file=sys.stderr)
            continue
        print(f"{variant}: served {served[-1].per_s:.0f} images/s", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = machine.describe() | {"GPU": _torch("torch.cuda.get_device_name(0)"), "torch": _torch("torch.__version__")}
    record = {"machine": facts, "bare": [asdict(each) for each in bare], "served": [asdict(each) for each in served]}
    output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    output.with_suffix(".md").write_text(markdown(facts, bare, served))
    print(f"written: {output.with_suffix('.md')}")
    return 0


def why_not() -> str:
    """The sentence that says why this machine cannot run it; empty where it can."""
    if _torch("torch.cuda.is_available()") == "True":
        return ""
    return f"there is no GPU that torch {_torch('torch.__version__')} can use; this benchmark needs one."


def best_batch(found: Iterable[Bare], *, worth: float = 1.03) -> Bare:
    """The smallest batch that is within 3 % of the fastest: a larger one only costs latency."""
    found = sorted(found, key=lambda each: each.batch)
    fastest = max(each.per_s for each in found)
    return next(each for each in found if each.per_s * worth >= fastest)


def markdown(facts: dict[str, str], bare: Sequence[Bare], served: Sequence[Served]) -> str:
    """Ratios first, then the bare model at every batch size."""
    rows = []
    for each in served:
        best = best_batch(one for one in bare if one.variant == each.variant)
        rows.append(
            (
                each.variant,
                str(each.batch),
                f"{each.per_s / best.per_s:.2f} x",
                f"{each.per_s:.0f}",
                f"{best.per_s:.0f}",
                f"{each.p50_ms:.1f}",
                f"{each.p99_ms:.1f}",
                f"{each.cpu_us:.0f}",
                str(each.failed),
            )
        )
    head = ("variant", "batch", "served / bare", "served/s", "bare/s", "p50 ms", "p99 ms", "CPU µs/req", "failed")
    sizes = sorted({each.batch for each in bare})
    rates = {(each.variant, each.batch): f"{each.per_s:.0f}" for each in bare}
    every = [
        (variant, *(rates.get((variant, size), "") for size in sizes))
        for variant in dict.fromkeys(each.variant for each in bare)
    ]
    return (
        "\n\n".join(
            (
                "# GPU benchmark",
                f"Machine: {', '.join(f'{name}: {value}' for name, value in facts.items())}",
                "## Through the server, at the bare model's best batch size",
                table(head, rows),
                "## The bare model, images/s by batch size",
                table(("variant", *map(str, sizes)), every),
            )
        )
        + "\n"
    )


def measure_bare(variant: str, *, seconds: int) -> list[Bare]:
    command = [sys.executable, str(SOURCES / "bare.py"), variant, str(seconds), *map(str, BATCHES)]
    environment = os.environ | {"PYTHONPATH": str(WORK.parent), "PYTHONSAFEPATH": ""}
    output = subprocess.check_output(command, env=environment, text=True, timeout=600 + 2 * seconds * len(BATCHES))
    return [Bare(**json.loads(line)) for line in output.splitlines() if line.startswith("{")]


def measure_served(variant: str, batch: int, *, seconds: int) -> Served:
    """One worker, batches of at most `batch`. Raises `DidNotStart`."""
    body = _image()
    connections = 4 * batch
    with Server(_prepare(variant, batch, free_ports(1))) as server:
        server.wait_for_answer(body.data, body.content_type)
        wrk(server.start.port, server.start.path, body, connections=connections, seconds=2)
        with watch_cpu(server) as usage:
            result = wrk(server.start.port, server.start.path, body, connections=connections, seconds=seconds)
    return Served(
        variant=variant,
        batch=batch,
        connections=connections,
        per_s=result.good_per_s,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        failed=result.failed,
        cpu_us=usage.server_cpu_s / max(1, result.answered) * 1e6,
    )


def _prepare(variant: str, batch: int, port: int) -> Start:
    folder = BUILD / "running" / f"gpu-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    code = folder / "model" / "code"
    code.mkdir(parents=True)
    # As in `contestants`: bodies that are all the same prove nothing.
    (folder / "model" / "manifest.json").write_text(
        '{"format_version": 1, "files": {}, "batching": true}', encoding="utf-8"
    )
    for source in (SOURCES / "inference.py", SOURCES / "variants.py", WORK):
        shutil.copy(source, code / source.name)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONSAFEPATH": "1",
        "SAGEMAKER_BASE_DIR": str(folder),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_WORKERS": "1",
        "TIDEGATE_MAX_BATCH_SIZE": str(batch),
        "BENCHMARK_VARIANT": variant,
        "BENCHMARK_BATCH": str(batch),
    }
    return Start(
        command=[sys.executable, "-m", "tidegate.inference", "serve"], environment=environment, folder=folder, port=port
    )


def _image() -> Body:
    folder = BUILD / "bodies"
    folder.mkdir(parents=True, exist_ok=True)
    data = bytes(range(256)) * (3 * 224 * 224 // 256)
    (folder / "gpu.bin").write_bytes(data)
    return Body(data=data, content_type="application/octet-stream", file=folder / "gpu.bin")


def _torch(expression: str) -> str:
    """The value of an expression, in a process of its own: this one stays free of torch and of CUDA."""
    command = [sys.executable, "-c", f"import torch; print({expression})"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.strip() or (done.stderr.strip().splitlines() or ["nothing"])[-1]
