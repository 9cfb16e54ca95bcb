"""Kill publish, retire and label at every point where they touch the disk or the bucket, and report what is left.

    python -m tests.training_hooks.killed_publishes folder WORK_DIR
    python -m tests.training_hooks.killed_publishes bucket WORK_DIR

A child is forked for every point, so that torch is imported once. A point of a folder is a call that opens, makes,
renames or removes something below it; a point of a bucket is a request, which is handled after its sender was killed.
For each one JSON line is printed: what a server would see then, and after the same command was given again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tidegate.training_hooks import ArtifactError, publish, retire, set_label

from .repositories import BucketPlace, FolderPlace, Place, served, write_model
from .s3_server import environment, nothing, serving

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.listdir", "os.scandir"}


def prepare(place: Place, models: Path) -> None:
    """Versions 1 and 2, the first with a label."""
    publish(models / "old", place.address, "net", labels="stable")
    publish(models / "old", place.address, "net")


def actions(place: Place, models: Path) -> dict[str, Callable[[], object]]:
    return {
        "publish": lambda: publish(models / "new", place.address, "net"),
        "retire": lambda: retire(place.address, "net", 2),
        "label": lambda: set_label(place.address, "net", 2, "stable"),
    }


def run_in_child(action: Callable[[], object], begin: Callable[[], object]) -> int:
    """Return the child's wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            begin()
            action()
            status = 0
        os._exit(status)
    _, status = os.waitpid(child, 0)
    return status


def report(place: Place, name: str, action: Callable[[], object], status: int) -> bool:
    """Print what is left, and what the next commands make of it; return whether the child was killed."""
    killed = os.WIFSIGNALED(status)
    if not killed and os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{name} failed by itself")
    files = place.files()
    labels = json.loads(files["net/labels.json"])
    seen = served(files)
    try:
        action()
        again = ""
    except ArtifactError as error:
        again = str(error)
    files = place.files()
    print(
        json.dumps(
            {
                "action": name,
                "killed": killed,
                "seen": seen,
                "labels": labels,
                "again": again,
                "then": served(files),
                "then_labels": json.loads(files["net/labels.json"]),
                "left": sorted(name for name in files if "/." in name),
            }
        ),
        flush=True,
    )
    return killed


def folder(work_dir: Path, models: Path) -> None:
    root = work_dir / "repository"
    place = FolderPlace(root)
    for name, action in actions(place, models).items():
        for point in itertools.count(1):
            shutil.rmtree(root, ignore_errors=True)
            prepare(place, models)
            status = run_in_child(action, lambda point=point: die_at(point, str(root)))  # type: ignore[misc]
            if not report(place, name, action, status):
                break


def die_at(point: int, root: str) -> None:
    """Kill this process, as the machine would, at the given touch of something below `root`."""
    touched = itertools.count(1)

    def look(event: str, arguments: tuple[object, ...]) -> None:
        below = any(isinstance(each, str | os.PathLike) and str(each).startswith(root) for each in arguments[:2])
        if event in TOUCHES and below and next(touched) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def bucket(models: Path) -> None:
    with serving() as s3, environment(s3.environment):
        place = BucketPlace(s3, "some/prefix")
        prepare(place, models)
        prepared = s3.objects()
        for name, action in actions(place, models).items():
            for point in itertools.count(1):
                s3.restore(prepared)
                reading, writing = os.pipe()
                s3.before = killing_at(point, reading)
                status = run_in_child(action, lambda writing=writing: os.write(writing, b"%d" % os.getpid()))  # type: ignore[misc]
                s3.wait_until_idle()
                s3.before = nothing
                os.close(reading)
                os.close(writing)
                if not report(place, name, action, status):
                    break


def killing_at(point: int, reading: int) -> Callable[[str, str], str | None]:
    """Kill the process whose number can be read there at the given request."""
    requests = itertools.count(1)

    def look(method: str, path: str) -> str | None:
        if next(requests) == point:
            os.kill(int(os.read(reading, 20)), signal.SIGKILL)
        return None

    return look


def main(kind: str, work_dir: Path) -> None:
    models = work_dir / "models"
    for name in ("old", "new"):
        write_model(models / name, name)
    if kind == "folder":
        folder(work_dir, models)
    else:
        bucket(models)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
