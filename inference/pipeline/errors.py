"""What a pipeline raises of its own. What a stage's function raises comes as it is, with a note on its place."""

from __future__ import annotations


class StageError(Exception):
    """A stage could not do its work for an item: its process has died, say."""


class StageTimeout(StageError, TimeoutError):
    """A call of a stage's function took longer than its `timeout_s`."""


class BrokenStage(StageError):
    """A stage is wrong whatever the item, so that `on_error` is not asked.

    Its function takes batches and does not return one result for each item, or its process cannot import it.
    """


class RemoteTraceback(Exception):
    """The traceback of a stage's process, as text: the cause of what is raised here."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def text_of(error: BaseException) -> str:
    """`str(error)`, or a few words where that raises."""
    try:
        return str(error)
    except Exception:
        return "its text cannot be shown"
