"""Starting a module of ours in a process of its own, whether it is installed or only lies in the working directory."""

from __future__ import annotations

import sys
from pathlib import Path

import tidegate

_HOME = str(Path(tidegate.__file__).resolve().parents[1])
# Not by PYTHONPATH, which all that is started further on inherits: what else lies beside `tidegate` (in a checkout, or
# in site-packages) would come before Python's own modules, and before a model's.
_PROGRAM = """
import runpy, sys
sys.path.insert(0, {home!r})
import tidegate
del sys.path[0]
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """`python -m MODULE ARGUMENT…`, where the working directory is not looked in."""
    return (sys.executable, "-P", "-c", _PROGRAM.format(home=_HOME), module, *arguments)
