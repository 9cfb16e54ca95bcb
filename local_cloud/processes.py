"""Which process is which: process ids are used again, so a process is known by its id and the moment of its birth."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from local_cloud.engine import remove_container


def process_birth(process_id: int) -> str | None:
    """The moment at which a process started, as an opaque text; None when no such process runs.

    Linux tells it in clock ticks since boot (``/proc/PID/stat``, field 22); elsewhere ``ps`` tells it in words. A
    process that has ended and only waits to be collected by its parent does not count as running.
    """
    stat = Path(f"/proc/{process_id}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The second field is the program's name in brackets, which may itself hold spaces and brackets.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(process_id)],  # noqa: S607 - every Unix has ps; its place differs
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, birth = answer.stdout.strip().partition(" ")
    return None if not birth or state.startswith("Z") else birth.strip()


def end_group(group: int) -> None:
    """SIGKILL to a whole process group; one that is already gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_orphans(registry: Path) -> list[int]:
    """Ends the process groups that a killed supervisor left in ``registry`` (one file each: name id, text birth).

    Containers that it left stand there too: as ``docker.NAME``, with the docker client as text.
    """
    ended = []
    for entry in sorted(registry.glob("docker.*")):
        remove_container(entry.read_text(), entry.name.partition(".")[2])
        entry.unlink(missing_ok=True)
    for entry in sorted(registry.glob("*")) if registry.is_dir() else []:
        group, birth = int(entry.name), entry.read_text()
        if birth and process_birth(group) == birth:
            end_group(group)
            ended.append(group)
        entry.unlink(missing_ok=True)
    return ended


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
