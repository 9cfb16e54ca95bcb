"""What a user calls: stages put together, and a call on whatever holds the items."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, overload

from tidegate.inference.pipeline.calls import Function, Step
from tidegate.inference.pipeline.child import pickled
from tidegate.inference.pipeline.flow import Plan
from tidegate.inference.pipeline.results import AsyncResults, Results
from tidegate.inference.pipeline.run import Run
from tidegate.inference.pipeline.stage import Stage

Key = TypeVar("Key")
_ITEMS_AHEAD = 8
"""So many items a pipeline holds for each worker: those behind one slow item are worked on meanwhile."""
_BATCHES_AHEAD = 3
"""So many batches for each worker that takes batches: one at work, one coming together, one waiting for its turn."""
_LEAST_IN_FLIGHT = 16


class Pipeline:
    """Stages that each item passes, many items at once: `Pipeline(Stage(fetch, workers=4), decode, …)(items)`.

    A stage is a `Stage`, a plain function, or another pipeline, whose stages come in its place. The same pipeline may
    be called from several threads at once; it holds no thread or process itself. `max_in_flight` bounds the items
    between the source and the consumer; left out, it follows from the stages' workers and batches.
    """

    def __init__(self, *stages: Stage | Pipeline | Callable[[Any], Any], max_in_flight: int | None = None) -> None:
        self.stages = tuple(stage for given in stages for stage in _stages(given))
        if max_in_flight is not None and (type(max_in_flight) is not int or max_in_flight < 1):
            raise ValueError(f"max_in_flight is {max_in_flight!r}; it must be a whole number from 1.")
        self._plans = _plans(self.stages)
        self.max_in_flight = max_in_flight or max(_LEAST_IN_FLIGHT, sum(map(_held, self._plans)))

    @overload
    def __call__(self, items: Mapping[Key, Any]) -> dict[Key, Any]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, items: AsyncIterable[Any]) -> AsyncResults: ...
    @overload
    def __call__(self, items: Iterable[Any]) -> Results: ...

    def __call__(self, items: Any) -> Any:
        """The results of `items`, in their order, less those that a filter has dropped.

        Of an iterable they are an iterator that computes as it is asked (`Results`), of an asynchronous one an
        asynchronous iterator (`AsyncResults`), of a mapping a dict under the same keys, whole.
        """
        if isinstance(items, str | bytes | bytearray | memoryview):
            raise TypeError(
                f"A pipeline takes an iterable of items or a mapping; a {type(items).__name__} is one item: put it "
                "in a list."
            )
        if isinstance(items, Mapping):
            with Results(self._run(keyed=True), iter(items.items()), pairs=True) as results:
                return dict(results)
        if isinstance(items, AsyncIterable):
            return AsyncResults(self._run(keyed=False), items)
        try:
            source = iter(items)
        except TypeError as error:
            raise TypeError(
                f"A pipeline takes an iterable of items or a mapping, and not a {type(items).__name__}."
            ) from error
        return Results(self._run(keyed=False), source, pairs=False)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(stage.name for stage in self.stages)})"

    def _run(self, *, keyed: bool) -> Run:
        return Run(self._plans, self.max_in_flight, keyed=keyed)


def _stages(given: Stage | Pipeline | Callable[[Any], Any]) -> tuple[Stage, ...]:
    if isinstance(given, Pipeline):
        return given.stages
    return (given if isinstance(given, Stage) else Stage(given),)


def _plans(stages: Iterable[Stage]) -> list[Plan]:
    """Who runs where: a plain stage in the threads of the unbatched one before it, any other in threads of its own."""
    plans: list[Plan] = []
    for number, stage in enumerate(stages, 1):
        function = Function(name=stage.name, call=stage.function, collate=stage.collate, split=stage.split)
        step = Step(number=number, name=stage.name, function=function, filter=stage.filter, on_error=stage.on_error)
        if stage.batch_size is not None and stage.filter is not None:
            # Before a batch is put together: it would go with holes in it.
            _add_plain(plans, replace(step, function=None))
            step = replace(step, filter=None)
        if stage.is_plain:
            _add_plain(plans, step)
            continue
        plans.append(
            Plan(
                steps=(step,),
                workers=stage.workers or 1,
                pickled=pickled(function) if stage.processes else None,
                batch_size=stage.batch_size,
                max_wait_s=None if stage.max_wait_ms is None else stage.max_wait_ms / 1000,
                timeout_s=stage.timeout_s,
            )
        )
    return plans


def _add_plain(plans: list[Plan], step: Step) -> None:
    if plans and plans[-1].batch_size is None and plans[-1].pickled is None:
        plans[-1] = replace(plans[-1], steps=(*plans[-1].steps, step))
    else:
        plans.append(Plan(steps=(step,)))


def _held(plan: Plan) -> int:
    return plan.workers * (_ITEMS_AHEAD if plan.batch_size is None else _BATCHES_AHEAD * plan.batch_size)
