"""The tests on a machine that is set up against them: `python -m tests.hostile [arguments of pytest]`.

pip's configuration constrains torch and sends installations elsewhere; the locale is not UTF-8 (or Turkish, where the
machine has that); the time zone is fourteen hours ahead; new files are closed to others; the home directory cannot be
written, nor made. Two copies of the repository are tested at the same time and share the directory for temporary files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINKED = (".venv", "node_modules")
LEFT_OUT = ("build", "cdk.out", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__")

# Read after the machine's own files, so that the index of this machine stays.
PIP_CONFIGURATION = """
[global]
constraint = {folder}/constraints.txt
require-virtualenv = true
[install]
user = true
target = {folder}/elsewhere
prefix = {folder}/elsewhere
src = {folder}/elsewhere
"""


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, made hostile; `folder` takes the files that it names."""
    (folder / "constraints.txt").write_text("torch<=99\n", encoding="utf-8")
    (folder / "pip.conf").write_text(PIP_CONFIGURATION.format(folder=folder), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "XDG_CACHE_", "LANG"))}
    return {
        **kept,
        **_locale(),
        "PIP_CONFIG_FILE": str(folder / "pip.conf"),
        "TZ": "Pacific/Kiritimati",
        "HOME": f"{os.devnull}/home",
    }


def _locale() -> dict[str, str]:
    known = subprocess.run(["/usr/bin/env", "locale", "-a"], capture_output=True, text=True, check=False).stdout
    turkish = [name for name in known.splitlines() if name.startswith("tr_TR") and "utf" in name.lower()]
    if turkish:
        return {"LC_ALL": turkish[0]}
    # Python would take the locale C for UTF-8, as it does not take the old 8-bit ones that this stands for.
    return {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def copy_repository(target: Path) -> Path:
    """A copy of the working tree that shares what `make env` installed."""
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(*LINKED, *LEFT_OUT))
    for name in LINKED:
        if (ROOT / name).exists():
            (target / name).symlink_to(ROOT / name, target_is_directory=True)
    return target


def main(arguments: list[str]) -> int:
    """Run pytest twice; returns 1 where either copy failed."""
    with tempfile.TemporaryDirectory(prefix="tidegate-hostile-") as base:
        folder = Path(base)
        hostile = environment(folder)
        copies = [copy_repository(folder / name) for name in ("one", "two")]
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
                cwd=copy,
                # Before the editable installation, which is of the repository that was copied.
                env=hostile | {"PYTHONPATH": str(copy)},
                stdout=(folder / f"{copy.name}.log").open("wb"),
                stderr=subprocess.STDOUT,
                umask=0o077,
            )
            for copy in copies
        ]
        failed = False
        for copy, run in zip(copies, runs, strict=True):
            status = run.wait()
            failed = failed or status != 0
            print(f"==> copy {copy.name}: exit status {status}", flush=True)
            print((folder / f"{copy.name}.log").read_text(encoding="utf-8", errors="replace"), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
