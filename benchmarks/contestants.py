"""Who is measured, in which shape, and how each is started.

Every server has the configuration that its own documentation gives for this job; its application is in
`peers/<name>/`. A shape is the number of workers, the torch threads of each and the largest batch.
"""

# ruff: noqa: ARG001 - every server is prepared from the same arguments

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.bodies import Body
from benchmarks.environments import BUILD, REQUIREMENTS, ROOT, python_of

WORK = Path(__file__).resolve().parent / "work.py"
WEIGHTS = BUILD / "weights"
BATCH_WAIT_MS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a server is spread over the machine."""

    workers: int = 2
    threads: int = 1
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.workers}x{self.threads} b{self.batch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server in a shape. `label` is its name in the tables."""

    label: str
    peer: str
    shape: Shape
    environment: tuple[tuple[str, str], ...] = ()
    is_control: bool = False
    """Whether it is a server that is measured already, under a second label: what the two differ by is noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How to start one server: nothing in it refers to a shell."""

    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    port: int
    path: str = "/invocations"
    health: str = "/ping"


PLAIN = Shape()
BATCHED = Shape(batch=8)


def label_of(peer: str, shape: Shape) -> str:
    """What a table calls a peer that batches requests, or does not."""
    name = peer.replace("_", " ")
    return name if shape.batch == 1 else f"{name}, batches of {shape.batch}"


def _in(peer: str, shape: Shape = PLAIN) -> Contestant:
    return Contestant(label=label_of(peer, shape), peer=peer, shape=shape)


US = label_of("tidegate", PLAIN)
"""Ours as every archive runs that asks for nothing: each request is predicted alone."""
US_BATCHED = label_of("tidegate", BATCHED)
CONTROL = f"{US}, again"
MAIN: tuple[Contestant, ...] = (
    _in("tidegate"),
    replace(_in("tidegate"), label=CONTROL, is_control=True),
    _in("tidegate", BATCHED),
    _in("mosec"),
    _in("mosec", BATCHED),
    _in("litserve"),
    _in("litserve", BATCHED),
    _in("fastapi"),
    _in("one_process", Shape(workers=1)),
    _in("torchserve"),
    _in("flask"),
)
USUAL = tuple(dict.fromkeys(each.peer for each in MAIN if each.peer != "flask"))
"""The peers of a run that names none."""
CAN_BATCH = frozenset({"tidegate", "mosec", "litserve"})
"""TorchServe batches too, but the toolkit of the AWS container predicts the requests of a batch one by one."""
TAKES_AN_ARCHIVE = frozenset({"tidegate", "torchserve", "one_process"})


def as_sent(contestant: Contestant, body: Body) -> Body:
    """The body as this server takes it: LitServe parses JSON itself unless the type says that it is bytes."""
    raw = contestant.peer == "litserve" and body.content_type == "application/json"
    return replace(body, content_type="application/octet-stream") if raw else body


def with_two_threads(peer: str) -> list[Contestant]:
    """One worker with two threads, for the table of best shapes: the other way to use two cores."""
    batches = (PLAIN, BATCHED) if peer in CAN_BATCH else (PLAIN,)
    return [_in(peer, Shape(workers=1, threads=2, batch=each.batch)) for each in batches]


def prepare(contestant: Contestant, work: str, port: int, *, script: Path | None = None) -> Start:
    """Lay out the application of `contestant` in a folder of its own and say how to start it.

    `script` replaces the archive's inference.py (ours only: for the probes).
    """
    python = python_of(contestant.peer)
    folder = BUILD / "running" / f"{contestant.peer}-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shape = contestant.shape
    # What a shell would have, without the settings of whoever runs this.
    environment = {name: os.environ[name] for name in ("HOME", "LANG", "JAVA_HOME", "TMPDIR") if name in os.environ}
    environment |= {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": str(shape.threads),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BENCHMARK_WORK": work,
        "BENCHMARK_WEIGHTS": str(WEIGHTS),
        "BENCHMARK_WORKERS": str(shape.workers),
        "BENCHMARK_THREADS": str(shape.threads),
        "BENCHMARK_BATCH": str(shape.batch),
        "BENCHMARK_PORT": str(port),
    }
    start = PREPARE[contestant.peer](python, folder, port, shape, environment)
    if contestant.peer in TAKES_AN_ARCHIVE:
        archive = folder / "model"
        ours = REQUIREMENTS / "tidegate" / ("batched.py" if shape.batch > 1 else "inference.py")
        _write_archive(archive, work, script or ours, batching=shape.batch > 1)
    else:
        shutil.copy(WORK, folder / "work.py")
    if (app := REQUIREMENTS / contestant.peer / "app.py").exists():
        shutil.copy(app, folder / "app.py")
    return replace(start, environment={**start.environment, **dict(contestant.environment)})


def _write_archive(model: Path, work: str, script: Path, *, batching: bool) -> None:
    """What SageMaker unpacks: the weights (linked, not copied) and the code."""
    (model / "code").mkdir(parents=True)
    if batching:
        # All clients send the same body, which proves nothing: the archive has to say that requests may be joined.
        manifest = '{"format_version": 1, "files": {}, "batching": true}'
        (model / "manifest.json").write_text(manifest, encoding="utf-8")
    shutil.copy(script, model / "code" / "inference.py")
    shutil.copy(WORK, model / "code" / "work.py")
    if (weights := WEIGHTS / f"{work}.pth").exists():
        os.link(weights, model / weights.name)


def _tidegate(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    del environment["OMP_NUM_THREADS"]
    ours = {
        "PYTHONPATH": str(ROOT),
        "PYTHONSAFEPATH": "1",
        "SAGEMAKER_BASE_DIR": str(folder),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_WORKERS": str(shape.workers),
        "TIDEGATE_THREADS_PER_WORKER": str(shape.threads),
    }
    if shape.batch > 1:
        ours |= {"TIDEGATE_MAX_BATCH_SIZE": str(shape.batch), "TIDEGATE_MAX_WAIT_MS": str(BATCH_WAIT_MS)}
    command = [str(python), "-m", "tidegate.inference", "serve"]
    return Start(command=command, environment=environment | ours, folder=folder, port=port)


def _mosec(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    command = [str(python), "app.py", "--address", "127.0.0.1", "--port", str(port)]
    return Start(
        command=command, environment=environment, folder=folder, port=port, path="/inference", health="/metrics"
    )


def _litserve(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    return Start(command=[str(python), "app.py"], environment=environment, folder=folder, port=port)


def _fastapi(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    command = [str(python), "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(shape.workers), "--no-access-log"]
    return Start(command=command, environment=environment, folder=folder, port=port)


def _one_process(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    command = [str(python), "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    return Start(command=command, environment=environment, folder=folder, port=port)


def _flask(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    command = [str(python), "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(shape.workers), "app:app"]
    return Start(command=command, environment=environment, folder=folder, port=port)


def _torchserve(python: Path, folder: Path, port: int, shape: Shape, environment: dict[str, str]) -> Start:
    theirs = {
        "SAGEMAKER_BASE_DIR": str(folder),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(shape.workers),
        # The toolkit listens on every address; here on the loopback only, and on ports that are free.
        "TS_INFERENCE_ADDRESS": f"http://127.0.0.1:{port}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{port + 1}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{port + 2}",
    }
    if shape.batch > 1:
        theirs["SAGEMAKER_TS_BATCH_SIZE"] = str(shape.batch)
        theirs["SAGEMAKER_TS_MAX_BATCH_DELAY"] = str(BATCH_WAIT_MS)
        theirs["SAGEMAKER_TS_MIN_WORKERS"] = theirs["SAGEMAKER_TS_MAX_WORKERS"] = str(shape.workers)
    return Start(command=[str(python), "app.py"], environment=environment | theirs, folder=folder, port=port)


PREPARE = {
    "tidegate": _tidegate,
    "mosec": _mosec,
    "litserve": _litserve,
    "fastapi": _fastapi,
    "one_process": _one_process,
    "flask": _flask,
    "torchserve": _torchserve,
}
