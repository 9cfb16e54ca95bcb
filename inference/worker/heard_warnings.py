"""What the server's own loggers warn of, kept for a report."""

from __future__ import annotations

import logging

_OURS = "tidegate"
MOST_HEARD = 100


class Heard(logging.Handler):
    """Keeps the warnings of the server's own loggers, as often as they were said once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING and len(self.messages) < MOST_HEARD:
            message = record.getMessage()
            if message not in self.messages:
                self.messages.append(message)

    def __enter__(self) -> Heard:
        logging.getLogger(_OURS).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_OURS).removeHandler(self)
