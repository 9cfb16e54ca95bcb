"""The figures of a job's requests, counted line by line in bounded memory."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass, field

from tidegate.client.report.log_lines import Answered, Moment, Trouble
from tidegate.client.report.over_time import OverTime
from tidegate.client.report.spread import Spread

SLOWEST = 10
_MOST_KINDS = 50
_MOST_TROUBLES = 1000
_MOST_FAILED_BODIES = 10_000


@dataclass(slots=True)
class ErrorKind:
    """All requests that ended with one status and code."""

    status: int
    code: str
    first: Answered
    count: int = 0
    cause: str = ""
    """The last line of the server's traceback of the first one, where its log has that."""


@dataclass(slots=True)
class Instance:
    """What one container of the job did."""

    requests: int = 0
    failed: int = 0
    records: int = 0
    request_bytes: int = 0
    busy_s: float = 0.0
    first_s: float = math.inf
    last_s: float = -math.inf
    moments: dict[str, float] = field(default_factory=dict)
    """When each of `MOMENTS` was, first of all times."""


@dataclass(slots=True)
class Figures:
    """`by_line`: whether a line is a record, as with SplitType Line; else a request is one."""

    over_time: OverTime
    by_line: bool
    requests: int = 0
    failed: int = 0
    records: int = 0
    """Those that were answered."""
    records_unknown: int = 0
    """Requests whose lines were not counted, because they were too large for the server's memory."""
    request_bytes: int = 0
    response_bytes: int = 0
    tried_again: int = 0
    """Requests that a second worker was given, because the first was lost."""
    sent_again: int = 0
    """Requests that came again after the same one had failed with 5xx: the platform repeats those."""
    durations_ms: Spread = field(default_factory=Spread)
    queue_ms: Spread = field(default_factory=Spread)
    worker_ms: Spread = field(default_factory=Spread)
    lines: Spread = field(default_factory=Spread)
    """Lines per request."""
    kinds: dict[tuple[int, str], ErrorKind] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    _slowest: list[tuple[float, int, Answered]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _troubles: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _failed_bodies: set[tuple[str, int]] = field(default_factory=set)

    def instance(self, name: str) -> Instance:
        """What is counted of an instance."""
        return self.instances.setdefault(name, Instance())

    def moment(self, instance: str, moment: Moment) -> None:
        """Note where the life of a server has come to."""
        self.instance(instance).moments.setdefault(moment.name, moment.at_s)

    def trouble(self, trouble: Trouble) -> None:
        """Keep what the log says of requests, until they are over."""
        for request_id in trouble.request_ids:
            self._troubles[request_id] = trouble.says
            while len(self._troubles) > _MOST_TROUBLES:
                self._troubles.popitem(last=False)

    def answered(self, instance: str, request: Answered) -> None:
        """Count a request."""
        records = 0 if request.failed else self._records(request)
        self.requests += 1
        self.failed += request.failed
        self.records += records
        self.request_bytes += request.request_bytes
        self.response_bytes += request.response_bytes
        self.tried_again += request.tried_again
        self.durations_ms.add(request.duration_ms)
        if request.queue_ms is not None and request.worker_ms is not None:
            self.queue_ms.add(request.queue_ms)
            self.worker_ms.add(request.worker_ms)
        if request.lines is not None:
            self.lines.add(request.lines)
        self._count_again(request)
        if request.failed:
            self._count_kind(request)
        duration_s = request.duration_ms / 1000
        self.over_time.add(
            request.ended_s,
            duration_s,
            failed=request.failed,
            records=records,
            request_bytes=request.request_bytes,
        )
        heapq.heappush(self._slowest, (request.duration_ms, -next(self._number), request))
        if len(self._slowest) > SLOWEST:
            heapq.heappop(self._slowest)
        of = self.instance(instance)
        of.requests += 1
        of.failed += request.failed
        of.records += records
        of.request_bytes += request.request_bytes
        of.busy_s += duration_s
        of.first_s = min(of.first_s, request.ended_s - duration_s)
        of.last_s = max(of.last_s, request.ended_s)

    @property
    def slowest(self) -> list[Answered]:
        """The slowest first."""
        return [request for _, _, request in sorted(self._slowest, reverse=True)]

    def first_of(self, moment: str) -> float | None:
        """When the first server came to this point."""
        return min((of.moments[moment] for of in self.instances.values() if moment in of.moments), default=None)

    @property
    def first_s(self) -> float | None:
        """When the first request came."""
        return min((of.first_s for of in self.instances.values() if of.requests), default=None)

    @property
    def last_s(self) -> float | None:
        """When the last response was over."""
        return max((of.last_s for of in self.instances.values() if of.requests), default=None)

    def _records(self, request: Answered) -> int:
        if not self.by_line:
            return 1
        self.records_unknown += request.lines is None
        return request.lines or 0

    def _count_again(self, request: Answered) -> None:
        if not request.head_crc32:
            return
        body = (request.head_crc32, request.request_bytes)
        if body in self._failed_bodies:
            self.sent_again += 1
            self._failed_bodies.discard(body)
        if request.status >= 500 and len(self._failed_bodies) < _MOST_FAILED_BODIES:
            self._failed_bodies.add(body)

    def _count_kind(self, request: Answered) -> None:
        key = (request.status, request.code)
        if key not in self.kinds and len(self.kinds) >= _MOST_KINDS:
            key = (0, "others")
        if key not in self.kinds:
            cause = self._troubles.get(request.request_id, "")
            self.kinds[key] = ErrorKind(status=key[0], code=key[1], first=request, cause=cause)
        self.kinds[key].count += 1
