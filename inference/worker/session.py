"""What a script keeps between the requests of one stateful session: a directory, and values in it by name."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The session of one request. All workers of the model see the same directory, which goes when the session ends."""

    session_id: str
    directory: Path

    @property
    def files_path(self) -> str:
        """The directory by the name that AWS's hosting standards have for it."""
        return str(self.directory)

    def put(self, key: str, value: Any) -> None:
        """Keep what JSON can hold. A reader meanwhile gets the value before or this one, and never half of it."""
        path = self._path(key)
        aside = path.with_name(f"{path.name}.{os.getpid()}~")
        aside.write_text(json.dumps(value), encoding="utf-8")
        aside.replace(path)

    def get(self, key: str, default: Any = None) -> Any:
        """What was kept under `key`, or `default`."""
        try:
            return json.loads(self._path(key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return default

    def _path(self, key: str) -> Path:
        if not key or key in (".", "..") or "/" in key or "\0" in key:
            raise ValueError(f"the key {key!r} of a session is no file name")
        return self.directory / key


def session_of(root: str | None, header: str | None) -> Session | None:
    """The session that the frontend found under this id; None where sessions are off or the request is in none."""
    if root is None or header is None or not _ID.fullmatch(header):
        return None
    return Session(session_id=header, directory=Path(root) / header)
