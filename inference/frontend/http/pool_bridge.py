"""Replies for a pool that still answers by a future. Goes as soon as the pool calls the reply itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.queue.body import Body
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.reply import Reply
from tidegate.inference.protocol import Answer


@dataclass(slots=True, kw_only=True, eq=False)
class PendingRequest:
    content_type: str
    accept: str
    headers: bytes
    body: Body
    reply: Reply
    queued_s: float = 0.0
    sent_s: float = 0.0


class PoolBridge:
    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self.spec = pool.spec
        self._task: asyncio.Task[None] | None = None

    def submit(self, pending: PendingRequest) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(pending))

    async def _answer(self, pending: PendingRequest) -> None:
        reply = pending.reply
        try:
            ticket = await self._pool.answer(
                pending.content_type, pending.accept, pending.headers, pending.body.whole()
            )
        except RequestError as error:
            reply.fail(error)
            return
        pending.queued_s, pending.sent_s = ticket.admitted_s, ticket.sent_s
        outcome = ticket.outcome.result()
        if isinstance(outcome, Answer):
            reply.start(outcome.status, outcome.content_type, outcome.headers, len(outcome.body))
            reply.write(outcome.body)
            reply.end()
        else:
            reply.fail(outcome)

    def cancel(self, pending: PendingRequest) -> None:  # noqa: ARG002 - as the pool's own will be
        if self._task is not None:
            self._task.cancel()

    def pause(self, pending: PendingRequest) -> None: ...
    def resume(self, pending: PendingRequest) -> None: ...
