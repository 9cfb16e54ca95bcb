"""The metrics of a cloud that remembers, in a file of their own: a line for each tally, written once a minute.

They are not in the picture of the state (``keep``), which is written at every change: fifteen days of minutes would
make each of them heavy. What was counted since the last full minute is lost with a process that is killed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tidegate.local_cloud.metrics.store import KEPT, MINUTE_S, MetricStore, Series, Tally, minute_of

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class KeptMetrics:
    """:meth:`load` once, then :meth:`write`. The last line of a series and a minute counts."""

    path: Path
    store: MetricStore
    _failed: bool = field(default=False, init=False)

    def load(self, now: datetime) -> None:
        """Fills the store with what is young enough at ``now``, and writes the file anew without the rest."""
        oldest = minute_of(now - KEPT)
        try:
            found = {(series, minute): tally for series, minute, tally in self._lines() if minute >= oldest}
            for (series, minute), tally in found.items():
                self.store.merge(series, datetime.fromtimestamp(minute * MINUTE_S, now.tzinfo), tally)
            draft = self.path.with_suffix(".draft")
            draft.unlink(missing_ok=True)
            _append(draft, "".join(_line(*each) for each in self.store.tallies()))
            draft.replace(self.path)
        except OSError as error:
            logger.warning("the kept metrics cannot be read: %s", error)
        self.store.watch()

    def write(self) -> None:
        """Appends what has changed since the last call; what cannot be written comes with the next one."""
        changed = self.store.changes()
        try:
            _append(self.path, "".join(_line(*each) for each in changed))
            self._failed = False
        except OSError as error:
            self.store.changed_still(changed)
            if not self._failed:
                logger.warning("metrics cannot be kept: %s", error)
            self._failed = True

    def _lines(self) -> Iterator[tuple[Series, int, Tally]]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    document = json.loads(line)
                except ValueError:  # cut off by a kill, or by a full disk
                    continue
                yield _read(document)


def _append(path: Path, text: str) -> None:
    """All of it, or after a full disk a last line that is not whole. Raises OSError."""
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        content = text.encode()
        while content:
            content = content[os.write(file, content) :]
    finally:
        os.close(file)


def _line(series: Series, minute: int, tally: Tally) -> str:
    return (
        json.dumps(
            {
                "series": [series.namespace, series.name, series.dimensions],
                "minute": minute,
                "tally": [tally.count, tally.total, tally.least, tally.most],
                "buckets": list(tally.buckets.items()),
            }
        )
        + "\n"
    )


def _read(document: dict[str, Any]) -> tuple[Series, int, Tally]:
    namespace, name, dimensions = document["series"]
    count, total, least, most = document["tally"]
    series = Series(namespace, name, tuple((key, value) for key, value in dimensions))
    tally = Tally(count=count, total=total, least=least, most=most, buckets=dict(document["buckets"]))
    return series, document["minute"], tally
