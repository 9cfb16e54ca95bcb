"""What the server logs on standard error: a JSON object per line, and at a terminal a line that people read."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import ClassVar

from tidegate.inference.errors import plain

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


AtHand = Callable[[str | None], Mapping[str, object]]
"""What a line says of the requests at hand: of that with this id, where the line is about one already."""


class JsonLines(logging.Formatter):
    """A record as one line: time, level, logger, message, which request it belongs to, whatever `extra` adds, and the
    traceback as a string.
    """

    at_hand: ClassVar[list[AtHand]] = []
    """What says so, where it can be said."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.entry(record), default=str)

    def entry(self, record: logging.LogRecord) -> dict[str, object]:
        """The members of the line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": plain(record.getMessage()),
        }
        extra = {key: value for key, value in record.__dict__.items() if key not in _OWN}
        own_id = extra.get("request_id")
        for at_hand in self.at_hand:
            extra = {**at_hand(own_id if isinstance(own_id, str) and own_id else None), **extra}
        entry |= {key: plain(value) if isinstance(value, str) else value for key, value in extra.items()}
        if record.exc_info:
            entry["traceback"] = plain(self.formatException(record.exc_info))
        return entry


class TerminalLines(JsonLines):
    """The same for a person at a terminal: `00:32:33 worker is ready (worker_pid 22255, model digits)`.

    The level is named from `warning` on, the logger and the process never; a traceback follows on lines of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        warns = record.levelno >= logging.WARNING
        return _for_people(self.entry(record), self.formatTime(record, "%H:%M:%S"), names_level=warns)


def readable(line: str) -> str:
    """A line of `JsonLines` as `TerminalLines` writes it, with the time in UTC; any other line as it is."""
    try:
        entry = json.loads(line)
        time = datetime.fromisoformat(entry["time"]).strftime("%H:%M:%S")
        return _for_people(entry, time, names_level=entry["level"] not in ("debug", "info"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return line


def _for_people(entry: dict[str, object], time: str, *, names_level: bool) -> str:
    level, traceback = entry.pop("level"), entry.pop("traceback", None)
    message = _in_one_line(entry.pop("message"))
    for name in ("time", "logger", "pid"):
        del entry[name]
    words = [time, f"{level}:", message] if names_level else [time, message]
    if entry:
        words.append(f"({', '.join(f'{name} {_in_one_line(value)}' for name, value in entry.items())})")
    return "\n".join([" ".join(words), *([str(traceback)] if traceback else [])])


def _in_one_line(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(text)


def name_requests(at_hand: AtHand) -> None:
    """Let every line from now on say to which request it belongs, by what `at_hand` says where it is written."""
    JsonLines.at_hand = [at_hand]


def handler() -> logging.Handler:
    """What writes such lines to standard error."""
    made = logging.StreamHandler(sys.stderr)
    made.setFormatter(TerminalLines() if sys.stderr.isatty() else JsonLines())
    return made


def configure_root(level: int) -> None:
    """Let what user code logs, or warns of, be lines as ours, from `level` on, unless it chooses handlers of its own.

    TorchServe's workers had a handler at INFO, so scripts log by `logging.getLogger(__name__)` and set up nothing.
    """
    logging.basicConfig(handlers=[handler()], level=level)
    logging.captureWarnings(capture=True)


def configure(level: int) -> None:
    """Send the `tidegate` loggers to standard error. The root logger is user code's."""
    logger = logging.getLogger("tidegate")
    logger.handlers = [handler()]
    logger.propagate = False
    logger.setLevel(level)
