"""The end of a worker's process."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress


def leave(status: int) -> None:
    """End the process at once, without the parent's exit handlers, which a fork has inherited."""
    logging.shutdown()
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # its reader is gone, or user code closed it
            output.flush()
    os._exit(status)
