"""The process of the fork server, begun. Imports little, so that it can be done before all else of a start.

Torch takes a second to import, and it does so on another core while this process imports the frontend.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import tidegate

_PACKAGE_ROOT = str(Path(tidegate.__file__).resolve().parents[1])
END_S = 2.0
"""How long the process may take to end once its socket is closed."""
# No collections while it imports: what comes then is there to stay, and it looked through all of it again and again.
# -P: a user's inference.py in the working directory must not be imported in place of the package.
PROGRAM = """
import gc
gc.disable()
import sys
sys.path.insert(0, {root!r})
from tidegate.inference.worker.fork_server import main
sys.path.remove({root!r})
main({fd}, {log_level})
"""


@dataclass(slots=True, kw_only=True)
class Launched:
    """A fork server that is importing. As a context manager: whatever happens inside, it has ended afterwards."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    """Our end of its socket."""
    taken: bool = False
    """Whether somebody may have asked it for workers, which it has to end."""

    def __enter__(self) -> Launched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.close()
        if not self.taken:
            self.process.kill()  # it would import to the end before it looked, and a deployer waits for a sentence
        try:
            self.process.wait(timeout=END_S)  # it ends its workers, which nobody else would
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def launch(log_level: int) -> Launched:
    """Start a fork server. Raises `OSError`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = dict(os.environ)
    if "OPENBLAS_NUM_THREADS" not in environment:
        # Else numpy's import starts a thread per core, and a process with threads must not fork.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "TIDEGATE_PRELOAD_BLAS": "1"}
    program = PROGRAM.format(root=_PACKAGE_ROOT, fd=theirs.fileno(), log_level=log_level)
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
    return Launched(process=process, control=ours)
