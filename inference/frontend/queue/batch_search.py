"""How many requests share a call, and how long a batch waits for more: found by trying on live traffic.

Pure: it is told of batches, with the time, and answers with plans. There is always a choice, at first 1. Another size
is in trial now and then: five batches have it, among the ordinary ones, and their medians are compared.

    a larger one ─ 5 % less of a worker's time for each request, within `latency_s` ─▶ is the choice
                 └ else, or where its requests are not joined, or the call fails ────▶ rests, each time longer
    half of it, now and then ─ the choice gains less than 2 % ───────────────────────▶ is the choice

Its laws:

* No more than `SHARE` of all requests are in a trial, or were held back for one, at any time and from the first on.
* What is chosen adds no more than `latency_s` to what a request takes alone, by computing and waiting together, as far
  as was measured; where that is no longer so, the choice is halved at once.
* Nothing is held back but where the workers have too little time, nor longer than a shared call saves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import NamedTuple

from tidegate.inference.frontend.queue.batch_trial import MOST_UNGATHERED, REMEMBERED, SAMPLES, Rests, Trial, high
from tidegate.inference.frontend.queue.scheduling import NOTHING, Plan, plan_batches
from tidegate.inference.frontend.queue.search_load import QUIET_S, SearchLoad

SHARE = 0.04
"""Of all requests, how many may pay for the search."""
MOST_CREDIT = 128.0
"""How many of them may come one after the other, after a long time without."""
GAIN = 0.95
"""A larger size has to need at most so much of a worker's time for each request."""
NO_GAIN = 1.02
"""Half the size may need so much more, and is the better choice: its batches are done sooner."""
CLOSE = (0.85, 1.1)
"""Between these two sizes are compared by twice as many batches."""
CHANGE = 1.5
"""By what factor a batch has to be slower or faster for what is known to count as old."""
MIN_WAIT_S = 0.001
"""A shorter wait is none: it is as long as what a timer is late by."""
CHECK_S, LONGEST_CHECK_S = 300.0, 3600.0
"""After this time half of the choice is tried; doubled each time that nothing has changed."""
STALE_S = 60.0
"""A trial that saw nothing for so long begins anew."""


class Choice(NamedTuple):
    """What a search has found so far: how many requests share a call, how long a batch waits for them, and why."""

    size: int
    wait_s: float
    why: str


class _Crowd(NamedTuple):
    """Who waits and who works, as `plan_batches` has it."""

    waiting: int
    idle: int
    computing: int
    busy: int
    expected: int

    def plan(self, max_size: int, max_wait_s: float, waited_s: float) -> Plan:
        """What to send of it."""
        return plan_batches(**self._asdict(), oldest_wait_s=waited_s, max_size=max_size, max_wait_s=max_wait_s)

    def less(self, size: int) -> _Crowd:
        """The same when one worker has taken so many."""
        return _Crowd(self.waiting - size, self.idle - 1, self.computing + size, self.busy + 1, self.expected - size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    size: int
    held_s: float
    trial: Trial | None


class BatchSearch:
    """The search for one model. `max_size` and `max_wait_s` are the most that it may choose."""

    def __init__(self, *, max_size: int, max_wait_s: float, latency_s: float) -> None:
        self.size = 1
        """How many requests share a call, as far as is known."""
        self.wait_s = 0.0
        """How long a batch of them may wait for more."""
        self.paid = 0
        """Requests that were in a trial, or held back for one."""
        self.why = "no larger batch has been tried yet"
        """What the last trial found."""
        self._max_size, self._max_wait_s, self._latency_s = max_size, max_wait_s, latency_s
        self._workers = 1
        self._load = SearchLoad()
        self._credit = 0.0
        self._sent: dict[int, deque[_Sent]] = {}
        self._alone: deque[float] = deque(maxlen=REMEMBERED)
        self._spans: deque[float] = deque(maxlen=REMEMBERED)
        """What the last batches of one took, and those of the chosen size."""
        self._fresh = 0
        """Batches of the chosen size since the last look at whether something has changed."""
        self._usual_s: float | None = None
        """What a batch of the chosen size took, when it was chosen or when that changed."""
        self._slope_s: float | None = None
        """What each further request added to a call, going by the last two sizes."""
        self._rests = Rests()
        self._check_due_s, self._check_pause_s = inf, CHECK_S
        self._trial: Trial | None = None
        self._trying: Trial | None = None
        """The trial that the next batch belongs to."""
        self._held_since_s: float | None = None
        self._held_for: Trial | None = None

    @property
    def choice(self) -> Choice:
        """What is chosen now."""
        return Choice(self.size, self.wait_s, self.why)

    # --- what to send

    def plan(self, *, waiting: int, idle: int, computing: int, busy: int, now_s: float) -> Plan:
        """As `plan_batches`. What it plans is sent, in its order, and told."""
        self._trying = None
        if not waiting or not idle:
            return NOTHING
        self._workers = idle + busy
        if not computing:
            self._load.look(now_s)
        waited_s = 0.0 if self._held_since_s is None else now_s - self._held_since_s
        if waited_s > self._max_wait_s + QUIET_S:  # they left, and others have come
            self._held_since_s, self._held_for, waited_s = None, None, 0.0
        crowd = _Crowd(waiting, idle, computing, busy, self._load.in_flight - computing)
        patient = self._load.high
        trial = self._due(waiting, computing, now_s)
        if trial is not None:
            wait_s = trial.wait_s if patient else 0.0
            plan = crowd._replace(idle=1, busy=self._workers - 1).plan(trial.size, wait_s, waited_s)
            if plan.hold_s:
                return self._hold(plan, trial, now_s)
            if plan.sizes == (trial.size,):
                self._trying = trial
                rest = crowd.less(trial.size).plan(self.size, 0.0, 0.0)
                return Plan(sizes=(*plan.sizes, *rest.sizes))
        if self._held_for is not None:
            self._held_in_vain(self._held_for, waiting, now_s)
        plan = crowd.plan(self.size, self.wait_s if patient else 0.0, waited_s)
        return self._hold(plan, None, now_s) if plan.hold_s else plan

    def _hold(self, plan: Plan, trial: Trial | None, now_s: float) -> Plan:
        if self._held_since_s is None:
            self._held_since_s = now_s
        self._held_for = trial or self._held_for
        return plan

    def _held_in_vain(self, trial: Trial, waiting: int, now_s: float) -> None:
        self._pay(min(waiting, trial.size))
        self._held_for = None
        trial.ungathered += 1
        if trial is self._trial and trial.ungathered >= MOST_UNGATHERED:
            self._reject(f"too few requests come together for batches of {trial.size}", now_s)

    def sent(self, worker: int, size: int, now_s: float, *, planned: bool = True) -> None:
        """A batch was given to a worker; one that was not `planned` here is isolated, or no batch."""
        self._credit = min(self._credit + SHARE * size, MOST_CREDIT)
        trial, held_s = None, 0.0
        if planned:
            if self._trying is not None and self._trying.size == size:
                trial = self._trying
                self._pay(size)
            if self._held_since_s is not None:
                held_s = min(now_s - self._held_since_s, self._max_wait_s)
            self._trying = self._held_since_s = self._held_for = None
        self._sent.setdefault(worker, deque()).append(_Sent(size=size, held_s=held_s, trial=trial))

    def _pay(self, requests: int) -> None:
        paid = min(requests, int(self._credit))
        self._credit -= paid
        self.paid += paid

    # --- what came of it

    def finished(
        self,
        worker: int,
        *,
        busy_s: float,
        in_flight: int,
        joined: int = 0,
        compared: int = 0,
        halved: int = 0,
        largest: int = 1,
        now_s: float,
    ) -> None:
        """A worker has done a batch, which took `busy_s`; `in_flight` requests were here, its own among them.

        Of its calls, `joined` were shared, `compared` were calls once more to prove that they may be, and `halved`
        failed though their halves did not; the `largest` had so many requests.
        """
        batches = self._sent.get(worker)
        if not batches:
            return
        batch = batches.popleft()
        cost_s = busy_s + batch.held_s
        self._load.done(cost_s, in_flight, self._workers, now_s)
        if halved and batch.size > 1:
            self._failed(batch.size, now_s)
        elif batch.trial is not None and batch.trial is self._trial:
            self._tried(batch.trial, cost_s, busy_s, joined=joined, compared=compared, largest=largest, now_s=now_s)
        elif batch.size == 1 or (joined and not compared):
            if batch.size == 1:
                self._alone.append(busy_s)
            if batch.size == self.size:
                self._usual(cost_s, busy_s, now_s)

    def _usual(self, cost_s: float, span_s: float, now_s: float) -> None:
        self._spans.append(span_s)
        self._look(now_s)
        if (trial := self._trial) is not None:
            trial.usual.append(cost_s)
            self._judge(trial, now_s)

    def lost(self, worker: int, now_s: float) -> None:
        """A worker is lost with all that it had. A size that was in trial there counts as failed; the choice stays."""
        batches = self._sent.pop(worker, None)
        if batches and (trial := batches[0].trial) is not None and trial.size > self.size:
            self._failed(trial.size, now_s)

    # --- trials

    def _due(self, waiting: int, computing: int, now_s: float) -> Trial | None:
        """The trial that the next batch should belong to."""
        share = max(self._load.in_flight, waiting + computing) // self._workers
        trial = self._trial
        if trial is not None and now_s >= trial.seen_s + STALE_S:
            if trial.costs:
                self._rests.add(trial.size, now_s)
            trial = self._trial = None
        if trial is None:
            size = self._next_size(share, now_s)
            if not size:
                return None
            span_s = median(self._spans) if self._spans else 0.0
            wait_s = min(self._max_wait_s, self._latency_s, span_s) if size > self.size else 0.0
            trial = Trial(size=size, wait_s=wait_s if wait_s >= MIN_WAIT_S else 0.0, seen_s=now_s)
            self._trial = trial
        enough = share >= trial.size and (trial.size > self.size or waiting >= trial.size)
        return trial if enough and len(trial.costs) < trial.wanted and self._credit >= trial.size else None

    def _next_size(self, share: int, now_s: float) -> int:
        """The size to try where each worker might have `share` requests at a time; 0 where there is none."""
        size = self.size
        if len(self._spans) < SAMPLES:
            return 0
        if size > 1 and now_s >= self._check_due_s:
            return size // 2
        larger = 2 * size if share >= 2 * size else size + size // 2
        if self._rests.level(larger, now_s):
            larger *= 2
        if larger == size or larger > min(share, self._max_size) or self._rests.has(larger, now_s):
            return 0
        if self._slope_s is not None:
            foreseen_s = median(self._spans) + self._slope_s * (larger - size)
            if foreseen_s - self._alone_s() > self._latency_s:
                return 0
        return larger

    def _tried(
        self, trial: Trial, cost_s: float, span_s: float, *, joined: int, compared: int, largest: int, now_s: float
    ) -> None:
        trial.seen_s = now_s
        whole = trial.size == 1 or (joined and largest == trial.size)
        if compared or not whole:
            # Each worker has to prove a size before it is joined. What is of several kinds is never one call: then the
            # time of such batches counts, as long as some of their requests share one.
            trial.not_whole += 1
            if trial.not_whole >= 8 + 6 * self._workers:
                self._reject(f"batches of {trial.size} share no call, or are still being proved", now_s)
                return
            if compared or not joined or trial.not_whole <= 2 * self._workers:
                return
        trial.costs.append(cost_s)
        trial.spans.append(span_s)
        if trial.size > self.size and span_s - self._alone_s() > 2 * self._latency_s:
            trial.too_long += 1
        self._judge(trial, now_s)

    def _judge(self, trial: Trial, now_s: float) -> None:
        if trial.too_long > 1:
            self._reject(self._takes_too_long(trial.size), now_s)
        if trial.too_long > 1 or len(trial.costs) < trial.wanted or len(trial.usual) < SAMPLES:
            return
        each_s, usual_s = median(trial.costs) / trial.size, median(trial.usual) / self.size
        gain = each_s / usual_s if usual_s else 1.0
        if CLOSE[0] < gain < CLOSE[1] and trial.wanted < REMEMBERED:
            trial.wanted = REMEMBERED
            return
        if trial.size < self.size:
            if gain <= NO_GAIN:
                self._rests.add(self.size, now_s, level=True)
                self._choose(trial, 0.0, f"batches of {self.size} gained nothing over {trial.size}", now_s)
                self._check_due_s = now_s  # maybe the half of it is as good, too
            else:
                saved_s = median(trial.spans) * self.size / trial.size - median(self._spans)
                self._set_wait(saved_s, self._spans)
                self._trial, self._check_pause_s = None, min(2 * self._check_pause_s, LONGEST_CHECK_S)
                self._check_due_s = now_s + self._check_pause_s
            return
        if high(trial.spans) - self._alone_s() > self._latency_s:
            self._reject(self._takes_too_long(trial.size), now_s)
        elif gain > GAIN:
            self._reject(f"batches of {trial.size} gain nothing over {self.size}", now_s, level=gain < 2 - GAIN)
        else:
            saved_s = trial.size * usual_s - median(trial.spans)
            why = f"a request in a batch of {trial.size} takes {gain:.0%} of what it takes in one of {self.size}"
            self._choose(trial, saved_s, why, now_s)

    def _choose(self, trial: Trial, saved_s: float, why: str, now_s: float) -> None:
        grew = trial.size - self.size
        if grew > 0:
            self._slope_s = max(0.0, median(trial.spans) - median(self._spans)) / grew
        self._spans = deque(trial.spans, REMEMBERED)
        self.size, self.why = trial.size, why
        self._set_wait(saved_s, trial.spans)
        self._begin_anew(now_s)

    def _begin_anew(self, now_s: float) -> None:
        self._trial, self._fresh = None, 0
        self._usual_s = median(self._spans) if self._spans else None
        self._check_pause_s = CHECK_S
        self._check_due_s = now_s + CHECK_S

    def _set_wait(self, saved_s: float, spans: Sequence[float]) -> None:
        """Wait no longer than a shared call saves, and than the bound leaves."""
        left_s = self._latency_s - (high(spans) - self._alone_s())
        wait_s = min(saved_s, left_s, self._max_wait_s)
        self.wait_s = wait_s if wait_s >= MIN_WAIT_S and self.size > 1 else 0.0

    def _reject(self, why: str, now_s: float, *, level: bool = False) -> None:
        if self._trial is not None:
            self.why = why
            self._rests.add(self._trial.size, now_s, level=level)
            self._trial = None

    def _failed(self, size: int, now_s: float) -> None:
        if self._trial is not None and self._trial.size >= size:
            self._trial = None
        self._rests.add(size, now_s, failed=True)
        self.why = f"a call of {size} failed, and its requests did not in smaller ones"
        if size <= self.size:
            self._halve(now_s)

    # --- what has changed

    def _look(self, now_s: float) -> None:
        """See whether the choice still keeps the bound, and whether batches take what they took."""
        self._fresh += 1
        span_s = median(self._spans)
        if self.size > 1 and self._fresh >= SAMPLES:
            added_s = span_s - self._alone_s()
            if added_s > self._latency_s:
                self.why = self._takes_too_long(self.size)
                self._rests.add(self.size, now_s)
                self._halve(now_s)
                return
            if self.wait_s > self._latency_s - added_s:
                left_s = self._latency_s - added_s
                self.wait_s = left_s if left_s >= MIN_WAIT_S else 0.0
        if self._fresh < REMEMBERED:
            return
        self._fresh = SAMPLES
        if self._usual_s is None:
            self._usual_s = span_s
        elif span_s and self._usual_s and not 1 / CHANGE <= span_s / self._usual_s <= CHANGE:
            self._changed(span_s / self._usual_s, now_s)
            self._usual_s = span_s

    def _changed(self, factor: float, now_s: float) -> None:
        if factor < 1:  # it may not be seen alone for long; left as it is where all is slower, it errs on the safe side
            self._alone = deque((factor * each for each in self._alone), REMEMBERED)
        if self._slope_s is not None:
            self._slope_s *= factor
        self._rests.forget_slow()
        self._check_due_s, self._check_pause_s = (now_s if self.size > 1 else inf), CHECK_S

    def _halve(self, now_s: float) -> None:
        self.size, self.wait_s, self._slope_s = self.size // 2, 0.0, None
        if self.size == 1:
            self._alone.clear()  # it may be old, and is seen at once
        self._spans.clear()
        self._begin_anew(now_s)

    def _alone_s(self) -> float:
        """What a request takes by itself: no more than a batch does."""
        known = [median(each) for each in (self._alone, self._spans) if each]
        return min(known) if self._alone else 0.0

    def _takes_too_long(self, size: int) -> str:
        return f"a call of {size} takes over {1000 * self._latency_s:g} ms longer than a request alone"
