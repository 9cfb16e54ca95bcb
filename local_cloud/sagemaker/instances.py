"""The instances of one variant: each a server process (or its containers), and which of them takes a request.

Instances are added and taken away under traffic: one is asked only once it is healthy, and one that goes takes no new
request, answers what it has, and is stopped then.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tidegate.local_cloud.sagemaker.container import STOP_GRACE_S
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer
from tidegate.local_cloud.sagemaker.multi_model import ModelCache
from tidegate.local_cloud.sagemaker.pipeline import Chain, Held
from tidegate.local_cloud.sagemaker.replica import Exit, latest

logger = logging.getLogger(__name__)

_MODEL = "model "
_REMEMBERED = 10_000  # sessions and models whose instance is known, the longest unused forgotten first

_random = random.SystemRandom()


class NoInstance(NoAnswer):
    """The variant has no instance, or each one's container died and its successor is not yet healthy."""

    def __init__(self, message: str, *, log: Path) -> None:
        super().__init__(message)
        self.log = log


@dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """One instance: the chain of its containers, and the models that a multi-model one has loaded."""

    number: int
    chain: Chain
    models: ModelCache | None
    directory: Path
    outstanding: int = 0
    last_asked: int = 0

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Lets running requests end; returns when nothing is left."""
        if self.models is not None:
            self.models.close()
        self.chain.stop(grace_s)
        shutil.rmtree(self.directory, ignore_errors=True)


class Instances:
    """Begins empty; :meth:`resize` starts and stops. ``start`` brings up the instance of a number.

    ``at_most`` processes run, whatever the count is: the others are counted and not run. ``log`` is the file of the
    first instance's output.
    """

    def __init__(
        self,
        start: Callable[[int], Instance],
        *,
        variant: str,
        endpoint: str,
        strategy: str | None,
        at_most: int,
        log: Path,
    ) -> None:
        self.variant = variant
        self.name = f"variant {variant} of {endpoint}"
        self.log = log
        self._start = start
        self._strategy = strategy
        self._at_most = at_most
        self._lock = threading.Lock()  # guards the four below and the counters of each instance
        self._instances: list[Instance] = []
        self._known: OrderedDict[str, Instance] = OrderedDict()
        self._asked = 0
        self._count = 0

    @property
    def count(self) -> int:
        """How many there are, with those that are counted and not run."""
        with self._lock:
            return self._count

    @property
    def running(self) -> list[Instance]:
        """Those that take requests."""
        with self._lock:
            return list(self._instances)

    @property
    def restarts(self) -> int:
        """How often a container of one died in service and was replaced."""
        return sum(instance.chain.restarts for instance in self.running)

    @property
    def last_exit(self) -> Exit | None:
        """How a container of one ended the last time that one died in service."""
        return latest(instance.chain.last_exit for instance in self.running)

    def resize(self, count: int) -> None:
        """Starts or stops as many as are missing or too many; one thread at a time calls it.

        Raises what ``start`` raises; then as many run as before.
        """
        wanted = min(count, self._at_most)
        if wanted < count:
            logger.warning(
                "%s has %d instances, of which the local cloud runs %d; `--limit instances=%d` runs all",
                self.name,
                count,
                wanted,
                count,
            )
        running = self.running
        if wanted > len(running):
            taken = {instance.number for instance in running}
            numbers = [number for number in range(1, wanted + 1) if number not in taken]
            started = _all_or_none(self._start, numbers[: wanted - len(running)])
            with self._lock:
                self._instances += started
                self._count = count
            return
        with self._lock:
            going = self._instances[wanted:]
            del self._instances[wanted:]
            self._count = count
            for key in [key for key, instance in self._known.items() if instance in going]:
                del self._known[key]
        _stop_all(going)

    def stop(self) -> None:
        """Stops all; returns when nothing is left."""
        self.resize(0)

    @contextmanager
    def lease(
        self, hostname: str | None, *, belongs_to: str | None = None, but: Collection[Instance] = ()
    ) -> Iterator[tuple[Instance, Held]]:
        """An instance for one request, with what it needs of its containers.

        ``belongs_to`` names what is to stay at one instance (:func:`session`, :func:`model`); none of those in ``but``
        is chosen. Raises :class:`NoInstance` where none is there or all are being replaced.
        """
        with self._lock, ExitStack() as entered:
            instance, held = self._choose(entered, hostname, belongs_to, but)
            instance.outstanding += 1
            self._asked += 1
            instance.last_asked = self._asked
            stack = entered.pop_all()
        try:
            with stack:
                yield instance, held
        finally:
            with self._lock:
                instance.outstanding -= 1

    def has_session(self, belongs_to: str) -> bool:
        """Whether that is a session which one of these instances has opened."""
        with self._lock:
            return belongs_to in self._known and not belongs_to.startswith(_MODEL)

    def remember(self, belongs_to: str, instance: Instance) -> None:
        """Further requests that belong to it go to this instance, while it is there."""
        with self._lock:
            if instance in self._instances:
                self._remember(belongs_to, instance)

    def _choose(
        self, stack: ExitStack, hostname: str | None, belongs_to: str | None, but: Collection[Instance]
    ) -> tuple[Instance, Held]:
        failure = NoInstance(f"{self.name} has no instance", log=self.log)
        known = None if belongs_to is None else self._known.get(belongs_to)
        for instance in self._order(known):
            if instance in but:
                continue
            try:
                held = stack.enter_context(instance.chain.lease(hostname))
            except NoAnswer as error:
                failure = NoInstance(str(error), log=instance.chain.logs[error.container])
                continue
            if belongs_to is not None and belongs_to.startswith(_MODEL):
                self._remember(belongs_to, instance)
            return instance, held
        raise failure

    def _order(self, first: Instance | None) -> list[Instance]:
        """Who is asked before whom: RoutingStrategy, of which RANDOM is the default."""
        order = list(self._instances)
        _random.shuffle(order)
        if self._strategy not in (None, "RANDOM"):
            order.sort(key=lambda instance: (instance.outstanding, instance.last_asked))
        if first in order:
            order.sort(key=lambda instance: instance is not first)
        return order

    def _remember(self, belongs_to: str, instance: Instance) -> None:
        self._known[belongs_to] = instance
        self._known.move_to_end(belongs_to)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def session(name: str) -> str:
    """What keeps a stateful session at the instance that opened it."""
    return f"session {name}"


def model(name: str) -> str:
    """What keeps the requests for one of many models at the instance that has loaded it."""
    return f"{_MODEL}{name}"


def _all_or_none(start: Callable[[int], Instance], numbers: list[int]) -> list[Instance]:
    """The instances of these numbers, started at once. Where one fails, none of them is left."""
    if not numbers:
        return []
    with ThreadPoolExecutor(max_workers=len(numbers)) as pool:
        starts = [pool.submit(start, number) for number in numbers]
    failure = next((begun.exception() for begun in starts if begun.exception() is not None), None)
    if failure is None:
        return [begun.result() for begun in starts]
    _stop_all([begun.result() for begun in starts if begun.exception() is None], grace_s=0.0)
    raise failure


def _stop_all(instances: list[Instance], grace_s: float = STOP_GRACE_S) -> None:
    if not instances:
        return
    with ThreadPoolExecutor(max_workers=len(instances)) as pool:
        list(pool.map(partial(Instance.stop, grace_s=grace_s), instances))
