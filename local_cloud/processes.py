"""Which process is which: process ids are used again, so a process is known by its id and the moment of its birth."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from tidegate.local_cloud.engine import remove_container

logger = logging.getLogger(__name__)

_DEATH_TIMEOUT_S = 10.0
_PAUSE_S = 0.005


def process_birth(process_id: int) -> str | None:
    """The moment at which a process started, as an opaque text; None when no such process runs.

    Linux tells it in clock ticks since boot (``/proc/PID/stat``, field 22); elsewhere ``ps`` tells it in words. A
    process that has ended and only waits to be collected by its parent does not count as running.
    """
    stat = Path(f"/proc/{process_id}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The second field is the program's name in brackets, which may itself hold spaces and brackets.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(process_id)],  # noqa: S607 - every Unix has ps; its place differs
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, birth = answer.stdout.strip().partition(" ")
    return None if not birth or state.startswith("Z") else birth.strip()


def belonging(leader: int) -> set[psutil.Process]:
    """What came from the process that leads (or led) a session: all groups of the session, and descendants.

    A session outlives its leader, and a process leaves it only by founding its own; such a one is found as long as
    the chain of its parents stands.
    """
    found = {process for process in psutil.process_iter() if _session(process.pid) == leader}
    with suppress(psutil.NoSuchProcess):
        found.add(psutil.Process(leader))
    for process in list(found):
        with suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    return {process for process in found if process.pid != leader}


def end_family(leader: int) -> None:
    """SIGKILL to all that came from a session leader that lives, and adopts what its children leave, until it has none.

    Returns when that is so, or after ten seconds.
    """
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    while (left := [each for each in belonging(leader) if process_birth(each.pid)]) and time.monotonic() < deadline:
        for each in left:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                each.kill()
        time.sleep(_PAUSE_S)


def end_rest(leader: int, also: Iterable[psutil.Process]) -> None:
    """SIGKILL to what a dead session leader left: what :func:`belonging` still finds, and ``also``, found before.

    Returns when none of it runs; what the kernel does not let go within ten seconds is logged.
    """
    left = set(also)
    deadline = time.monotonic() + _DEATH_TIMEOUT_S
    while left := {each for each in left | belonging(leader) if process_birth(each.pid) and each.is_running()}:
        if time.monotonic() > deadline:
            logger.warning("processes that do not die: %s", ", ".join(str(each.pid) for each in left))
            return
        for each in left:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                each.kill()
        time.sleep(_PAUSE_S)


def end_orphans(registry: Path) -> list[int]:
    """Ends the sessions that a killed supervisor left in ``registry`` (one file each: the leader's id, its birth).

    Containers that it left stand there too: as ``docker.NAME``, with the docker client as text.
    """
    ended = []
    for entry in sorted(registry.glob("docker.*")):
        remove_container(entry.read_text(encoding="utf-8"), entry.name.partition(".")[2])
        entry.unlink(missing_ok=True)
    for entry in sorted(registry.glob("*")) if registry.is_dir() else []:
        leader, birth = int(entry.name), entry.read_text(encoding="utf-8")
        found = process_birth(leader)
        if _is_born(leader, birth):
            rest = belonging(leader)
            end_family(leader)
            with suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
            end_rest(leader, rest)
            ended.append(leader)
        elif found is None:  # it was killed too; its number is not given again while one of its session lives
            end_rest(leader, ())
        entry.unlink(missing_ok=True)
    return ended


def orphans(registry: Path) -> list[str]:
    """What :func:`end_orphans` would end: the leaders of sessions that run, and containers, which may."""
    return [
        entry.name
        for entry in sorted(registry.glob("*"))
        if entry.name.startswith("docker.") or _is_born(int(entry.name), entry.read_text(encoding="utf-8"))
    ]


def _is_born(process_id: int, birth: str) -> bool:
    return bool(birth) and process_birth(process_id) == birth


def end_strays(program: str, directory: Path) -> None:
    """Ends who runs ``program`` for something below ``directory``, with all that came from it.

    So a start that a kill cut off, before it was noted in the registry, is found by its command line.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if program in words and any(Path(word).is_relative_to(directory) for word in words if word[:1] == "/"):
                logger.warning("process %d is of a start that was cut off, and is ended", process.pid)
                rest = belonging(process.pid)
                process.kill()
                end_rest(process.pid, rest)


def _session(process_id: int) -> int | None:
    try:
        return os.getsid(process_id)
    except OSError:  # it is gone, or not ours to see
        return None


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
