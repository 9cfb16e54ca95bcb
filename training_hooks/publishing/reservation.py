"""Who may write a version of a bucket: the mark `.unfinished` in it, which one publisher at a time holds.

The mark names its holder by a token and is written by conditional requests, so that no number is given twice. The
holder writes it again every minute; one that was not written for a quarter of an hour was left behind.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

from tidegate.training_hooks.errors import ArtifactError

from .names import UNFINISHED
from .objects import Body, Objects

RENEWED_S = 60.0
ABANDONED_S = 900.0
RETIRE = "retire"
"""The purpose of a mark whose holder only removes: whoever comes next may go on with that at once."""


class Reservation:
    """The right to write below one prefix. `take` first."""

    def __init__(self, objects: Objects, prefix: str, purpose: str) -> None:
        self._objects = objects
        self._key = prefix + UNFINISHED
        self._token = secrets.token_hex(8)
        self._content = json.dumps({"purpose": purpose, "host": socket.gethostname(), "token": self._token}).encode()
        self._etag: str | None = None

    def take(self, other: Body | None = None) -> bool:
        """Write the mark where there is none, or in the place of `other`; return whether it is ours now."""
        self._objects.put_if(self._key, self._content, etag=None if other is None else other.etag)
        # Read back: an answer may have been lost on its way, and not every store that speaks S3 knows conditions.
        return self._is_ours()

    def _is_ours(self) -> bool:
        found = self._objects.get(self._key)
        if found is None or token_of(found) != self._token:
            return False
        self._etag = found.etag
        return True

    def renew(self) -> None:
        """Write the mark again. Raises `ArtifactError` where it is somebody else's by now."""
        if not self._objects.put_if(self._key, self._content, etag=self._etag) and not self._is_ours():
            raise ArtifactError(
                f"{self._objects.address}/{self._key} is not this process's any more: it did not write for "
                f"{ABANDONED_S / 60:.0f} minutes, and another one took the version over; publish again"
            )

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the mark in the background for as long as the block takes, and once more at its end."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(RENEWED_S):
                # What fails here fails at the end, too, where it is told.
                with contextlib.suppress(ArtifactError):
                    self.renew()

        thread = threading.Thread(target=go_on, name="tidegate-publish-renew", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.renew()

    def release(self) -> None:
        """Remove the mark, unless it is somebody else's by now."""
        if self._etag:
            self._objects.delete_if(self._key, etag=self._etag)

    def is_held(self) -> bool:
        """Whether the mark is still ours, for who tidies up."""
        with contextlib.suppress(ArtifactError):
            return self._is_ours()
        return False


def token_of(mark: Body) -> str:
    """Who holds a mark; empty where it cannot be read."""
    return str(_fields(mark).get("token", ""))


def is_abandoned(mark: Body) -> bool:
    """Whether nobody wrote the mark for so long that its holder cannot be there any more, or it was a retire's."""
    return mark.age_s > ABANDONED_S or _fields(mark).get("purpose") == RETIRE


def told(mark: Body) -> str:
    """Who holds a mark and since when, for a sentence."""
    fields = _fields(mark)
    return f"a {fields.get('purpose', 'publish')} on {fields.get('host', 'some machine')} wrote {mark.age_s:.0f} s ago"


def _fields(mark: Body) -> dict[str, Any]:
    try:
        fields = json.loads(mark.data)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
