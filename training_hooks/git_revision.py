"""The revision of the checkout that a script lies in, asked of git within a bounded time; without git there is none."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

TIMEOUT_S = 5.0

# The checkout's monitor is not started, and nothing is written into it.
_QUIET = ("-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false", "--no-optional-locks")


def revision_of(place: Path, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any] | None:
    """Return revision, state and name of a script, or of a folder; None where no revision holds it.

    Args:
        place: the script; a folder where there is none, as in a notebook.
        timeout_s: how long git may take for all.

    Returns:
        `{"revision": …, "dirty": …, "script": …}`. It is dirty where a tracked file differs from the revision, or the
        script is no tracked file; without `dirty` where git did not say so in time. `script` is relative to the top of
        the checkout.
    """
    deadline = time.monotonic() + timeout_s
    folder = place if place.is_dir() else place.parent
    top = _asked(folder, deadline, "rev-parse", "--show-toplevel")
    revision = _asked(folder, deadline, "rev-parse", "--verify", "HEAD")
    if top is None or not revision:
        return None
    found: dict[str, Any] = {"revision": revision}
    tracked = True
    if place.is_file():
        if _asked(folder, deadline, "check-ignore", "--quiet", "--", place.name) is not None:
            return None  # a script of an environment or a build that lies in somebody's checkout
        tracked = _asked(folder, deadline, "ls-files", "--error-unmatch", "--", place.name) is not None
        if place.resolve().is_relative_to(Path(top).resolve()):
            found["script"] = place.resolve().relative_to(Path(top).resolve()).as_posix()
    changes = _asked(folder, deadline, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    if changes is not None:
        found["dirty"] = bool(changes) or not tracked
    return found


def _asked(folder: Path, deadline: float, *arguments: str) -> str | None:
    """What git prints; None where it is missing, fails, or takes too long."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *_QUIET, *arguments],  # noqa: S607 - the user's git, wherever it is
            cwd=folder,
            env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            check=False,
            timeout=left_s,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
