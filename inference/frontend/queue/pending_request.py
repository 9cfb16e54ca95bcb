"""One request in the queue of a model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tidegate.inference.protocol import Answer, Error, Request


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """What waits, and the future that its outcome goes to. Cancelled when the client has left."""

    item: Request
    outcome: asyncio.Future[Answer | Error]
    admitted_s: float
    sent_s: float = 0.0
    alone: bool = False
    deaths_alone: int = 0

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not self.outcome.done()

    def settle(self, outcome: Answer | Error) -> None:
        """Give the one answer; a second one, or one for a client who left, goes nowhere."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)
