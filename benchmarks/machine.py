"""The machine and the day, as a reader of the results needs them."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import psutil


def describe() -> dict[str, str]:
    """Words for: processor, cores, memory, kernel, Python, load generator, revision, start of the run."""
    return {
        "CPU": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "load": _first_line(["wrk", "-v"]) or "own driver (wrk is not installed)",
        "Java": _first_line(["java", "-version"]) or "none",
        "revision": _first_line(["git", "describe", "--always", "--dirty"]) or "unknown",
        "load average at the start": " ".join(f"{each:.2f}" for each in os.getloadavg()),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "").partition(" Copyright")[0].strip()
