"""`python -m tidegate.inference.repository [LOG_LEVEL]`: started by the server, which speaks on the pipes."""

from __future__ import annotations

import logging
import os
import signal
import sys

from tidegate.inference import log_lines
from tidegate.inference.repository.process import Output, run


def main(arguments: list[str]) -> None:
    """Serve the pipes until the server closes its end."""
    # What a library prints must not stand between the messages.
    messages = os.dup(1)
    os.dup2(2, 1)
    # Ctrl-C reaches the whole terminal; the server says when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_lines.configure(int(arguments[0]) if arguments else 20)
    status = 0
    try:
        run(sys.stdin.buffer, Output(messages))
    except ValueError as error:
        logging.getLogger("tidegate.inference.repository").critical(
            "What came is not understood.", extra={"reason": str(error)}
        )
        status = 1
    # The threads may be in the middle of a download, which is what the next process goes on from.
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
