"""`pip install` by uv, which takes a tenth of the time: `python -m tests.installing [arguments of pip install]`.

uv reads neither pip's configuration nor its variables: it is told where this machine's pip looks, and by what it is
held. What uv does not manage all the same, pip does.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_OPTIONS = {
    "index-url": "--index-url",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraint",
    "cert": "--cert",
}
"""uv's option for each value of a setting of pip."""


def install(python: Path, *words: str) -> str:
    """Install as `pip install` with these `words` would, into the environment of the interpreter `python`.

    Returns the installer that did it. Raises `RuntimeError` with what pip said where neither could.
    """
    told = ["--quiet", "--python", str(python), *options(settings(), words), *words]
    if _run("uv", "pip", "install", *told).returncode == 0:
        return "uv"
    done = _run("pip", "--python", str(python), "install", "--quiet", *words)
    if done.returncode != 0:
        raise RuntimeError(f"pip install {' '.join(words)}\n{done.stdout}")
    return "pip"


def options(told: Mapping[str, str], words: Sequence[str] = ()) -> list[str]:
    """What uv is told of the settings of pip: these, where `words` of the command do not say it otherwise."""
    found = ["--index-strategy", "unsafe-best-match"]  # pip prefers no index to another
    for name, option in _OPTIONS.items():
        if name != "index-url" or option not in words:
            found += [word for value in told.get(name, "").split() for word in (option, value)]
    return found + (["--no-index"] if told.get("no-index", "").lower() in {"1", "yes", "true", "on"} else [])


@cache
def settings() -> Mapping[str, str]:
    """pip's settings for an installation on this machine."""
    return read(_run("pip", "config", "list").stdout)


def read(listed: str) -> dict[str, str]:
    """What `pip config list` says, with lines such as `global.index-url='https://…'` and `:env:.index-url='…'`."""
    found = {}
    for section in ("global.", "install.", ":env:."):  # the later one wins, as for pip
        for line in listed.splitlines():
            name, separator, value = line.partition("=")
            if separator and name.startswith(section):
                found[name.removeprefix(section)] = str(ast.literal_eval(value))
    return found


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


if __name__ == "__main__":
    try:
        install(Path(sys.executable), *sys.argv[1:])
    except RuntimeError as error:
        sys.exit(str(error))
