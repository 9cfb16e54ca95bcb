"""One request on its way through the user's functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tidegate.inference.protocol import Answer, Error, Request
from tidegate.inference.worker.context import RequestProcessor
from tidegate.inference.worker.members import Path


@dataclass(slots=True, kw_only=True)
class Job:
    """One request on its way through the functions."""

    item: Request
    request: RequestProcessor
    accept: str
    data: Any = None
    decoded: bool = False
    records: int = 0
    """How many records `data` holds; 0 until somebody has counted."""
    sent: int = 0
    """How many records the default `input_fn` counted in the body; 0 where it could not, or was not asked."""
    prediction: Any = None
    members: dict[Path, int] = field(default_factory=dict)
    """The members of `data` by their digests, where it is to be proved that it may share a call."""
    compared: bool = False
    """Whether its answer may be held against that of a batch."""
    kept: Any = None
    """A copy of the prediction as it was before output_fn had it, to compare."""
    asked_context: bool = False
    """Whether predict_fn has asked the context about the request."""
    predict_s: float = 0.0
    outcome: Answer | Error | None = None

    @property
    def answer(self) -> Answer | Error:
        """The outcome of a job that has come to its end."""
        assert self.outcome is not None  # noqa: S101 - each step that ends without one is followed by another
        return self.outcome
