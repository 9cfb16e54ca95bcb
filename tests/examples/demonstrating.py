"""An example's demonstration as a process, as `make example NAME=…` runs it."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def demonstrated(name: str, *options: str, temporary: Path) -> str:
    """Run it to its end with all its checks; return what it printed. Nothing of it is left below `temporary`."""
    done = subprocess.run(
        [sys.executable, "-m", "examples", name, *options],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All checks held" in done.stdout
    assert list(temporary.iterdir()) == []
    return done.stdout
