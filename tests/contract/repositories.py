"""A model repository in a folder, and a server of it: published by hand, asked on real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.asking import metric
from tests.contract.running import Reply, Server, running, write_files
from tidegate.inference.repository.layout import UNFINISHED

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"

TELLS_WHO_IT_IS = """
import json, os
from pathlib import Path

def model_fn(model_dir, context):
    says = Path(model_dir, "says.txt").read_text()
    if says == "broken":
        raise ValueError("no vocabulary")
    return says

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(order, model, context):
    wait_for = order.get("wait_for") if isinstance(order, dict) else None
    while wait_for and not Path(wait_for).exists():
        import time
        time.sleep(0.005)
    return {"name": context.model_name, "version": context.model_version, "says": model, "pid": os.getpid()}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
"""Answers with its name, its version and what its file says; a file that says `broken` does not load."""


@dataclass(slots=True, kw_only=True)
class Folder:
    """A repository."""

    path: Path

    def publish(
        self, name: str, version: int | None, says: str = "", *, code: str = TELLS_WHO_IT_IS, **helpers: str
    ) -> Path:
        """Write a version, or a model without versions: marked as unfinished until its manifest is there.

        `helpers` are modules beside the script.
        """
        files = {"says.txt": (says or f"{name} {version}").encode(), "code/inference.py": code.encode()}
        files |= {f"code/{module}.py": source.encode() for module, source in helpers.items()}
        listed = {
            file: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
            for file, content in files.items()
        }
        manifest = json.dumps({"format_version": 1, "files": listed}).encode()
        return self.put_version(name, version, files | {"manifest.json": manifest})

    def put_version(self, name: str, version: int | None, files: Mapping[str, bytes]) -> Path:
        """Write a version that has its manifest among its files: marked as unfinished until that is there."""
        target = self.path / name if version is None else self.path / name / str(version)
        write_files(target, {UNFINISHED: b""})
        (target / "manifest.json").unlink(missing_ok=True)
        write_files(target, {file: content for file, content in files.items() if file != "manifest.json"})
        self.put(target / "manifest.json", files["manifest.json"])
        (target / UNFINISHED).unlink()
        return target

    def label(self, name: str, **labels: int) -> None:
        """Write the labels of a model."""
        self.put(self.path / name / "labels.json", json.dumps(labels).encode())

    def retire(self, name: str, version: int) -> None:
        """Remove a version, its manifest first."""
        target = self.path / name / str(version)
        (target / "manifest.json").unlink()
        shutil.rmtree(target)

    def put(self, path: Path, content: bytes) -> None:
        """Write a file at once or not at all."""
        unfinished = self.path / f".{path.name}.new"
        unfinished.write_bytes(content)
        unfinished.rename(path)


@dataclass(slots=True, kw_only=True)
class Serving:
    """A server of a repository."""

    folder: Folder
    server: Server

    def ask(self, name: str | None = None, version: object = None, body: object = None, **headers: str) -> Reply:
        """Ask by the header."""
        chosen = [f"model={name}"] * (name is not None) + [f"version={version}"] * (version is not None)
        sent = {ATTRIBUTES: ";".join(chosen)} if chosen else {}
        return self.server.request(
            "POST", "/invocations", json.dumps(body), {"content-type": "application/json", **sent, **headers}
        )

    def at(self, path: str, body: object = None) -> Reply:
        """Ask by the path."""
        return self.server.request("POST", path, json.dumps(body), {"content-type": "application/json"})

    def versions(self, name: str) -> dict[int, dict[str, Any]]:
        """What `/models/NAME` says of each version."""
        entry = self.server.request("GET", f"/models/{name}").json()
        return {version["version"]: version for version in entry.get("versions", [])}

    def state(self, name: str, version: int) -> str:
        """The state of a version, empty where there is none."""
        return str(self.versions(name).get(version, {}).get("state", ""))

    def until_known(self, name: str, version: int = 1) -> None:
        """Wait for a version that is published to be whole in the server's eyes: it is listed while it is written."""
        self.until(lambda: self.state(name, version) not in ("", "invalid"), f"{name} {version} is known")

    def says(self, name: str | None = None, version: object = None) -> str:
        """What answers, or the code of the error."""
        reply = self.ask(name, version)
        return reply.json()["says"] if reply.status == 200 else reply.error["code"]

    def until(self, condition: Any, what: str) -> Any:
        return self.server.wait_until(condition, what)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a series' samples that have these labels."""
        return metric(self.server, name, **labels)


@contextlib.contextmanager
def serving(
    path: Path,
    publish: Mapping[str, tuple[int | None, ...]] | None = None,
    *,
    wait: bool = True,
    missing: bool = False,
    **environment: str,
) -> Iterator[Serving]:
    """A server of a repository in `path` that holds these versions; ready, unless `wait` is off.

    `missing`: there is no folder yet.
    """
    folder = Folder(path=path / "repository")
    if not missing:
        folder.path.mkdir(exist_ok=True)
    for name, versions in (publish or {}).items():
        for version in versions:
            folder.publish(name, version)
    settings = {
        "TIDEGATE_MODEL_REPOSITORY": str(folder.path),
        "TIDEGATE_RELOAD_INTERVAL_S": "0.1",
        **environment,
    }
    with running({}, wait=wait, **settings) as server:
        yield Serving(folder=folder, server=server)
