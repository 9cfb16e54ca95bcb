"""Studio.ML's `ModelPipe`, over a `Pipeline` of ours.

What is the same: `add` and its arguments, what is composed and what opens a stage, what a stage takes over from the one
before it, and what comes back for which container. What was wrong there and is right here: results come in order, and
none is lost to a slow stage; `timeout` is the time of one call, and neither ends a stream nor is waited for at the end;
an item that fails is None in its place (there it vanished, or took its batch with it); a tuple comes back; nothing
spins, and no thread is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from tidegate.inference.pipeline import Pipeline, Stage
from tidegate.inference.worker.compat.studio.model_input import resize_to_model_input

__all__ = ["ModelPipe", "resize_to_model_input"]

log = logging.getLogger("studio.model_util")

Function = Callable[[Any], Any]
Pair = tuple[Hashable, Any]
"""What goes through the stages: a value and its key, or its place."""


_MAX_WAIT_MS = 20.0
"""How long a batch waits to be full. There it did not wait, and was small wherever a model was fast."""


class _NoValue(Exception):
    """The stage before has returned None: there is nothing to go on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What `add` said of one stage, in Studio.ML's words."""

    function: Function | None = None
    num_workers: int = 0
    batch_size: int = 1
    filterf: Function | None = None
    batcher: Function | None = None
    timeout: float | None = None
    own: bool = False
    """Whether it is a stage of its own, with a thread: the first one is not, until something is said of it."""

    def composed(self, function: Function) -> _Part:
        first = self.function
        return replace(self, function=function if first is None else lambda value: function(first(value)))

    def stages(self) -> Iterable[Stage]:
        """The stages of a `Pipeline` of pairs that do this."""
        function = self.function
        if function is None:
            return
        filterf = self.filterf
        if self.own:
            given = None if filterf is None else lambda pair: filterf(pair[1])
            yield Stage(_demand_value if filterf is None else _same, filter=given, on_error=_none, name="filterf")
        name = str(getattr(function, "__name__", type(function).__name__))
        workers = max(1, self.num_workers) if self.own else None
        timeout_s = self.timeout or None
        if self.batch_size > 1:
            call, size = _of_batch(function, self.batcher), self.batch_size
        else:
            call, size = _of_pair(function), None
        wait_ms = None if size is None else _MAX_WAIT_MS
        yield Stage(
            call,
            workers=workers,
            batch_size=size,
            max_wait_ms=wait_ms,
            timeout_s=timeout_s,
            on_error=_none,
            name=name,
        )


class ModelPipe:
    """Functions that each value passes, with threads and batches where `add` asks for them.

    Called with a dict it gives a dict; with a list, tuple or generator, one of pairs (place, result), which
    `apply_ordered` gives without the places; with a set, a set. What a `filterf` has dropped is missing; where a
    function raises, or takes too long, the result is None and the log has the reason.
    """

    def __init__(self) -> None:
        self._parts = [_Part()]
        self._pipeline: Pipeline | None = None

    def add(  # noqa: PLR0917 - their signature
        self,
        func: Any,
        num_workers: int | None = None,
        batch_size: int | None = None,
        filterf: Function | None = None,
        batcher: Function | None = None,
        timeout: float | None = None,
    ) -> ModelPipe:
        """Put `func` behind what is there; returns the pipe.

        Alone it is composed with the function before it. With any other argument it is a stage of its own, which has
        the arguments of the stage before where it is given none. `num_workers` threads call it; with `batch_size` it
        takes up to so many values, as `batcher` makes one of them, and returns a result for each. `filterf` says which
        values it takes: by default those that are not None. `timeout` is what one call may take in seconds, 0 is
        no limit.
        """
        function = _called(func)
        said: dict[str, Any] = {
            "num_workers": num_workers,
            "batch_size": batch_size,
            "filterf": filterf,
            "batcher": batcher,
            "timeout": timeout,
        }
        given = {name: value for name, value in said.items() if value is not None}
        if given:
            self._parts.append(replace(self._parts[-1], function=function, own=True, **given))
        else:
            self._parts[-1] = self._parts[-1].composed(function)
        self._pipeline = None
        return self

    def __call__(self, data: Any) -> Any:
        """As `apply_unordered`, of which the order is right here."""
        return self.apply_unordered(data)

    def apply_unordered(self, data: Any) -> Any:
        """A dict of a dict, a set of a set; of anything else pairs (place, result), in the container that it has."""
        if isinstance(data, Mapping):
            return dict(self._run(data.items()))
        if isinstance(data, Set):
            return {result for _, result in self._run(enumerate(data))}
        return _contained(data, self._run(enumerate(data)))

    def apply_ordered(self, data: Any) -> Any:
        """The same without the places."""
        if isinstance(data, Mapping | Set):
            return self.apply_unordered(data)
        return _contained(data, (result for _, result in self._run(enumerate(data))))

    def _run(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        if self._pipeline is None:
            stages = chain.from_iterable(part.stages() for part in self._parts)
            self._pipeline = Pipeline(*stages)
        with self._pipeline(pairs) as results:
            yield from results


def _contained(data: Any, results: Iterator[Any]) -> Any:
    if isinstance(data, list | tuple):
        return type(data)(results) if type(data) in (list, tuple) else list(results)
    return results


def _called(func: Any) -> Function:
    """A model of Keras is asked by its `predict`, as Studio.ML did."""
    is_keras = any(
        kind.__module__.partition(".")[0] in {"keras", "tf_keras", "tensorflow"} for kind in type(func).__mro__
    )
    function = func.predict if is_keras and hasattr(func, "predict") else func
    if not callable(function):
        raise TypeError(f"ModelPipe.add takes a function; {func!r} cannot be called.")
    return function  # type: ignore[no-any-return]


def _same(pair: Pair) -> Pair:
    return pair


def _demand_value(pair: Pair) -> Pair:
    if pair[1] is None:
        raise _NoValue
    return pair


def _of_pair(function: Function) -> Function:
    def call(pair: Pair) -> Pair:
        key, value = pair
        return key, function(value)

    return call


def _of_batch(function: Function, batcher: Function | None) -> Function:
    def call(pairs: list[Pair]) -> Any:
        values = [value for _, value in pairs]
        returned = function(values if batcher is None else batcher(values))
        if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | bytearray | Mapping):
            return returned  # which the pipeline refuses, as it does a wrong number
        results = list(returned)
        if len(results) != len(pairs):
            return results
        return [(key, result) for (key, _), result in zip(pairs, results, strict=True)]

    return call


def _none(pair: Pair, error: Exception) -> Pair:
    key, _ = pair
    if not isinstance(error, _NoValue):
        log.warning("the item %r has no result: %s", key, type(error).__name__, exc_info=error)
    return key, None
