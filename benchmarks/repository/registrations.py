"""TorchServe's way to a model that was not loaded: it is registered, and asked. The same weights, the same answer."""

from __future__ import annotations

import json
import os
import time
import zipfile
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.contestants import Start
from benchmarks.environments import REQUIREMENTS, python_of
from benchmarks.processes import DidNotStart, free_ports
from benchmarks.repository.models import mark_of, model_dir

HANDLER = REQUIREMENTS / "torchserve" / "handler.py"


def start_of_torchserve(folder: Path, known: list[str]) -> Start:
    """A TorchServe without a model, beside a store of archives. Raises `CannotInstall`."""
    python = python_of("torchserve")
    (folder / "store").mkdir(parents=True)
    for name in known:
        _write_archive(folder, name)
    port = free_ports(3)
    addresses = {"inference": port, "management": port + 1, "metrics": port + 2}
    lines = [f"{what}_address=http://127.0.0.1:{each}" for what, each in addresses.items()]
    (folder / "config.properties").write_text("\n".join(lines))
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "JAVA_HOME", "TMPDIR") if name in os.environ}
    command = [str(python.parent / "torchserve"), "--start", "--foreground", "--ncs"]
    command += ["--disable-token-auth", "--enable-model-api"]
    command += ["--model-store", str(folder / "store"), "--ts-config", str(folder / "config.properties")]
    environment = kept | {"PATH": f"{python.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return Start(command=command, environment=environment, folder=folder, port=port, path="", health="/ping")


def _write_archive(folder: Path, name: str) -> None:
    weights = model_dir(folder / "new", mark_of(name, 1)) / "model.pth"
    manifest = {
        "runtime": "python",
        "model": {
            "modelName": name,
            "serializedFile": "model.pth",
            "handler": "handler.py:handle",
            "modelVersion": "1.0",
        },
    }
    with zipfile.ZipFile(folder / "store" / f"{name}.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.write(HANDLER, "handler.py")
        archive.write(weights, "model.pth")


def registration_s(start: Start, name: str) -> float:
    """From the registration, with one worker and waiting for it, to the first answer; the model is taken out again."""
    began = time.perf_counter()
    _demand(start.port + 1, "POST", f"/models?url={name}.mar&initial_workers=1&synchronous=true")
    said = _demand(start.port, "POST", f"/predictions/{name}", b'{"at": 7}')
    taken = time.perf_counter() - began
    if json.loads(said) != {"mark": mark_of(name, 1), "at": 7}:
        raise DidNotStart(f"TorchServe's {name} says {said[:200]!r}")
    _demand(start.port + 1, "DELETE", f"/models/{name}/1.0")
    return taken


def _demand(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    said = response.read()
    connection.close()
    if response.status != 200:
        raise DidNotStart(f"{method} {path}: {response.status} {said[:300]!r}")
    return said
