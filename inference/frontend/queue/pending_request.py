"""One request from its admission to its end, as the queue knows it."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.inference.frontend.queue.body import Body
from tidegate.inference.frontend.queue.reply import Reply
from tidegate.inference.protocol import Form


@dataclass(slots=True, kw_only=True, eq=False)
class PendingRequest:
    """What is asked, the sink of its events, and (from `id` on) what the scheduler notes.

    `content_type` and `accept` are empty where the client sent none; `headers` are whole lines.
    """

    content_type: str
    accept: str
    headers: bytes
    body: Body
    reply: Reply
    form: Form = Form.PLAIN
    id: int = 0
    queued_s: float = 0.0
    """When it was queued; a retry waits anew."""
    sent_s: float = 0.0
    """When a worker was given it, the last time."""
    worker: int = 0
    """The worker that has it; 0 while it waits."""
    place: int = 0
    """Its place among all that this worker was handed (see `begun_page`)."""
    started: bool = False
    """Whether its response has begun: from then on it is never tried again."""
    isolated: bool = False
    """Whether it must be alone with its worker, because one that had it among others was lost."""
    deaths_isolated: int = 0
    """Workers that died while they had nothing else."""
    losses_not_begun: int = 0
    """Workers that were lost when it was the next that they would have begun, and nothing else was at work."""
    over: bool = False
    """Whether it was answered, or its client left: nothing more is sent to its reply."""
