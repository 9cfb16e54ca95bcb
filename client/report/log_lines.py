"""What one event of a log stream says: a request that is over, a moment in the server's life, an error, or nothing.

Pure. The lines are those of `inference/frontend/http/logged.py` and `inference/frontend/server.py`; whatever else a
container writes is not ours to read, and no line can break the report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MOMENTS = ("listening", "ready", "draining", "stopped")
"""What the server says of its own life, in this order."""
_LONGEST_NUMBER = 1e15
_PLATFORM = "[sagemaker logs]:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request whose response is over. `status` is 0 where the client left before the response began."""

    ended_s: float
    """Of the wall clock, since 1970."""
    request_id: str
    status: int
    duration_ms: float
    request_bytes: int
    response_bytes: int
    queue_ms: float | None = None
    worker_ms: float | None = None
    lines: int | None = None
    line_crc32: str = ""
    head_crc32: str = ""
    code: str = ""
    error: str = ""
    tried_again: bool = False

    @property
    def failed(self) -> bool:
        return not 200 <= self.status < 300 or bool(self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The server's life has come to here."""

    name: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A line of level error about requests: its last words say more than their clients were told."""

    request_ids: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformLine:
    """A line of the platform's own data log; `text` is what follows its time and name."""

    text: str


Line = Answered | Moment | Trouble | PlatformLine


def read(message: str) -> Line | None:
    """What a line says; None where it is not the server's, or says nothing that a report needs."""
    if not message.startswith("{"):
        _, ours, text = message.partition(_PLATFORM)
        return PlatformLine(text=text.strip()) if ours else None
    try:
        entry = json.loads(message)
        return _of(entry) if isinstance(entry, dict) else None
    except (ValueError, RecursionError, OverflowError):
        return None


def is_ours(message: str) -> bool:
    """Whether a line has the form of this server's log."""
    return message.startswith('{"time": "')


def _of(entry: Mapping[str, Any]) -> Line | None:
    match entry:
        case {"logger": "tidegate.requests", "message": "request"}:
            return _answered(entry)
        case {"logger": "tidegate.server", "message": str(name)} if name in MOMENTS:
            return Moment(name=name, at_s=_time(entry))
        case {"level": "error"}:
            return _trouble(entry)
    return None


def _answered(entry: Mapping[str, Any]) -> Answered:
    lines = entry.get("lines")
    return Answered(
        ended_s=_time(entry),
        request_id=_text(entry.get("request_id")),
        status=int(_number(entry.get("status"))),
        duration_ms=_number(entry.get("duration_ms")),
        request_bytes=int(_number(entry.get("request_bytes"))),
        response_bytes=int(_number(entry.get("response_bytes"))),
        queue_ms=_number(entry["queue_ms"]) if "queue_ms" in entry else None,
        worker_ms=_number(entry["worker_ms"]) if "worker_ms" in entry else None,
        lines=None if lines is None else int(_number(lines)),
        line_crc32=_text(entry.get("line_crc32")),
        head_crc32=_text(entry.get("head_crc32")),
        code=_text(entry.get("code")),
        error=_text(entry.get("error")),
        tried_again=entry.get("tried_again") is True,
    )


def _trouble(entry: Mapping[str, Any]) -> Trouble | None:
    given = entry.get("request_ids", [entry.get("request_id")])
    ids = tuple(each for each in given if isinstance(each, str)) if isinstance(given, list) else ()
    last = _text(entry.get("traceback")).rstrip().rpartition("\n")[2]
    return Trouble(request_ids=ids, says=last or _text(entry.get("message"))) if ids else None


def _time(entry: Mapping[str, Any]) -> float:
    moment = datetime.fromisoformat(_text(entry.get("time")))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST_NUMBER:
        raise ValueError(f"{value!r} is no number that the server writes")
    return value if isinstance(value, int) or math.isfinite(value) else 0.0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
