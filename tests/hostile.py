"""The tests on a machine that is set up against them: `python -m tests.hostile [arguments of pytest]`.

pip's configuration constrains torch and sends installations elsewhere; the locale is Turkish, in which the small letter
of "I" is another one, or C where no Turkish can be made; the time zone is fourteen hours ahead; new files are closed to
others; the home directory cannot be written, nor made. Two copies of the repository are tested at the same time and
share the directory for temporary files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tidegate.inference.package_layer import PackageLayer

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("build", "cdk.out", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__")

# Read after the machine's own files, so that the index of this machine stays.
PIP_CONFIGURATION = """
[global]
constraint = {folder}/constraints.txt
require-virtualenv = true
[install]
user = true
src = {folder}/elsewhere
"""


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, made hostile; `folder` takes the files that it names."""
    (folder / "constraints.txt").write_text("torch<=99\n", encoding="utf-8")
    (folder / "pip.conf").write_text(PIP_CONFIGURATION.format(folder=folder), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "XDG_CACHE_", "LANG"))}
    return {
        **kept,
        **_locale(folder),
        "PIP_CONFIG_FILE": str(folder / "pip.conf"),
        "TZ": "Pacific/Kiritimati",
        "HOME": f"{os.devnull}/home",
    }


def _locale(folder: Path) -> dict[str, str]:
    made = ["/usr/bin/env", "localedef", "--inputfile", "tr_TR", "--charmap", "UTF-8", str(folder / "tr_TR.UTF-8")]
    if subprocess.run(made, capture_output=True, check=False).returncode == 0:
        return {"LC_ALL": "tr_TR.UTF-8", "LOCPATH": str(folder)}
    return {"LC_ALL": "C"}


def copy_repository(target: Path) -> PackageLayer:
    """A copy of the working tree; returns its `.venv`, a layer over this one in which our packages are the copy's."""
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(".venv", "node_modules", *LEFT_OUT))
    if (ROOT / "node_modules").exists():
        (target / "node_modules").symlink_to(ROOT / "node_modules", target_is_directory=True)
    layer = PackageLayer(target / ".venv")
    layer.create()
    (layer.site / "copy.pth").write_text(f"{target}\n", encoding="utf-8")
    layer.adopt_programs()
    for name in ("cdk", "node"):  # where tests look for them
        if (program := Path(sys.executable).with_name(name)).exists():
            layer.interpreter.with_name(name).symlink_to(program)
    return layer


def main(arguments: list[str]) -> int:
    """Run pytest twice; returns 1 where either copy failed."""
    with tempfile.TemporaryDirectory(prefix="tidegate-hostile-") as base:
        folder = Path(base)
        hostile = environment(folder)
        layers = [copy_repository(folder / name) for name in ("one", "two")]
        runs = [
            subprocess.Popen(
                [layer.interpreter, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
                cwd=layer.home.parent,
                env=hostile | {"PATH": f"{layer.interpreter.parent}:{hostile['PATH']}"},
                stdout=(folder / f"{layer.home.parent.name}.log").open("wb"),
                stderr=subprocess.STDOUT,
                umask=0o077,
            )
            for layer in layers
        ]
        statuses = [run.wait() for run in runs]
        for layer, status in zip(layers, statuses, strict=True):
            copy = layer.home.parent
            print(f"==> copy {copy.name}: exit status {status}", flush=True)
            print((folder / f"{copy.name}.log").read_text(encoding="utf-8", errors="replace"), flush=True)
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
