"""What a pipeline raises of its own. What a stage's function raises comes as it is, with a note on its place."""

from __future__ import annotations


class StageError(Exception):
    """A stage cannot do its work for an item."""


class StageTimeout(StageError, TimeoutError):
    """A call of a stage's function took longer than its `timeout_s`."""


class ResultsMismatch(StageError):
    """A function that takes batches does not return one result for each item.

    The function is at fault and not an item, so that `on_error` is not asked.
    """
