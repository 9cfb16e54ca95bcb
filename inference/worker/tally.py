"""What the worker tells the frontend about a batch when it is done: seconds, predictions, and what came of joining."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tidegate.inference.protocol import Done

PROGRESS_S = 0.02
"""How long the frontend may hear nothing of a step that has ended: much less than any deadline."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """The running account of one batch. `sizes` has an entry for each call of predict_fn or transform_fn."""

    decode_s: float = 0.0
    predict_s: float = 0.0
    encode_s: float = 0.0
    sizes: list[int] = field(default_factory=list)
    joined: int = 0
    proved: int = 0
    refused: int = 0
    halved: int = 0
    hopeless: int = 0
    """Decoded requests that no other request would ever have shared a call with."""
    promising: bool = False
    """Whether any request shared a call, or may share one later."""
    sent_s: float = field(default_factory=time.perf_counter)

    def sent(self) -> None:
        """Something has gone to the frontend."""
        self.sent_s = time.perf_counter()

    def slow(self) -> bool:
        """Whether the frontend should be told that the batch goes on; if so, it counts as told."""
        now_s = time.perf_counter()
        if now_s - self.sent_s < PROGRESS_S:
            return False
        self.sent_s = now_s
        return True

    def done(self) -> Done:
        """The account, closed."""
        return Done(
            self.decode_s,
            self.predict_s,
            self.encode_s,
            self.joined,
            self.proved,
            self.refused,
            self.halved,
            self.hopeless > 1 and not self.promising,
            tuple(self.sizes),
        )
