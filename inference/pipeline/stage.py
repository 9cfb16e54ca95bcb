"""What a user says about one stage: its function, and how it is to be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any, Literal

OnError = Literal["raise", "null"] | Callable[[Any, Exception], Any]
_LONGEST_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One function that each item passes.

    `workers` calls run at once, in threads, or with `processes=True` each in a process of its own. A stage that says
    nothing of workers, processes, batches or time-outs runs in the threads of the unbatched stage before it.

    With `batch_size` the function takes up to so many items, as a list or as `collate(list)` makes it, and returns
    one result for each in the same order (any iterable but a text, a mapping or a set; `split` takes another apart).
    A batch goes when it is full, when `max_wait_ms` have passed since its first item came, and when nothing more can
    come. A batch that fails is called again item by item, so that only the item at fault fails.

    `timeout_s` bounds each call; `filter` says of an item whether it goes on at all (no result where it does not).
    `on_error`: `"raise"` ends the pipeline with the exception, in the item's turn; `"null"` makes the item's result
    None; `function(item, error)` makes it what it returns. Such a result passes no later stage.
    """

    function: Callable[[Any], Any]
    _: KW_ONLY
    workers: int | None = None
    processes: bool = False
    batch_size: int | None = None
    max_wait_ms: float | None = None
    collate: Callable[[list[Any]], Any] | None = None
    split: Callable[[Any], Sequence[Any]] | None = None
    timeout_s: float | None = None
    filter: Callable[[Any], object] | None = None
    on_error: OnError = "raise"
    name: str = ""

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError in one sentence that names the stage, the option and the value."""
        if not callable(self.function):
            raise TypeError(f"A stage is a function or another callable; {self.function!r} cannot be called.")
        if inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise TypeError(f"{self.function!r} is asynchronous; a stage's function runs in a thread and just returns.")
        if not self.name:
            object.__setattr__(self, "name", _name_of(self.function))
        for option in ("workers", "batch_size"):
            self._check_count(option)
        for option, least in (("max_wait_ms", 0.0), ("timeout_s", None)):
            self._check_time(option, least)
        for option in ("collate", "split", "filter"):
            value = getattr(self, option)
            if value is not None and not callable(value):
                raise TypeError(f"{option} of stage {self.name!r} is {value!r}; it must be a function.")
        if not callable(self.on_error) and self.on_error not in {"raise", "null"}:
            raise ValueError(
                f'on_error of stage {self.name!r} is {self.on_error!r}; it must be "raise", "null" or a function of '
                "the item and the error."
            )
        if self.batch_size is None:
            for option in ("max_wait_ms", "collate", "split"):
                if getattr(self, option) is not None:
                    raise ValueError(f"{option} of stage {self.name!r} is about batches; give it a batch_size too.")

    @property
    def is_plain(self) -> bool:
        """Whether it can run in the threads of the stage before it."""
        return self.workers is None and not self.processes and self.batch_size is None and self.timeout_s is None

    def _check_count(self, option: str) -> None:
        value = getattr(self, option)
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{option} of stage {self.name!r} is {value!r}; it must be a whole number from 1.")

    def _check_time(self, option: str, least: float | None) -> None:
        value = getattr(self, option)
        if value is None:
            return
        unit = 1000.0 if option.endswith("_ms") else 1.0
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not (value > 0 if least is None else value >= least) or value > _LONGEST_S * unit:
            bound = "above 0" if least is None else f"from {least:g}"
            raise ValueError(
                f"{option} of stage {self.name!r} is {value!r}; it must be a number {bound} and at most "
                f"{_LONGEST_S * unit:.0f}."
            )


def _name_of(function: Callable[[Any], Any]) -> str:
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return str(getattr(function, "__name__", "") or type(function).__name__)
