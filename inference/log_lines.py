"""One JSON object per line on standard error, from both rooms."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from tidegate.inference.errors import plain

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record as one line: time, level, logger, message, whatever `extra` adds, and the traceback as a string."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": plain(record.getMessage()),
        }
        extra = {key: value for key, value in record.__dict__.items() if key not in _OWN}
        entry |= {key: plain(value) if isinstance(value, str) else value for key, value in extra.items()}
        if record.exc_info:
            entry["traceback"] = plain(self.formatException(record.exc_info))
        return json.dumps(entry, default=str)


def configure_root(level: int) -> None:
    """Let what user code logs, or warns of, be lines as ours, from `level` on, unless it chooses handlers of its own.

    TorchServe's workers had a handler at INFO, so scripts log by `logging.getLogger(__name__)` and set up nothing.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level)
    logging.captureWarnings(capture=True)


def configure(level: int) -> None:
    """Send the `tidegate` loggers to standard error. The root logger is user code's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("tidegate")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)
