"""Copies of requests to shadow variants. Their answers are dropped, and no caller waits for them or sees their errors.

Copies wait in a queue that is bounded in number and bytes; what does not fit is dropped, counted and logged. Source:
"Testing models with shadow variants" (https://docs.aws.amazon.com/sagemaker/latest/dg/model-shadow-deployment.html).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidegate.local_cloud.sagemaker.container_answers import Answer, NoAnswer
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.instances import Instances

logger = logging.getLogger(__name__)

WAITING_COPIES = 256
_WAITING_BYTES = 64 * 1024 * 1024
_SENDERS = 4
_TOLD_EVERY = 100  # of those that are dropped one in so many is logged


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A request for a shadow variant; ``answered`` is told of an answer that is no error."""

    endpoint: str
    variant: str
    instances: Instances
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    answered: Callable[[Answer], None]


class ShadowTraffic:
    """The queue of copies and the threads that send them, from the first copy to :meth:`close`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the five below
        self._waiting: deque[Copy] = deque()
        self._waiting_bytes = 0
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._senders: list[threading.Thread] = []
        self._closing = False

    def offer(self, copy: Copy) -> None:
        """Returns at once, whether there is room for the copy or not."""
        with self._changed:
            counts = self._counts.setdefault((copy.endpoint, copy.variant), Counter(Sent=0, Failed=0, Dropped=0))
            room = len(self._waiting) < WAITING_COPIES and self._waiting_bytes + len(copy.body) <= _WAITING_BYTES
            if self._closing or not room:
                counts["Dropped"] += 1
                if counts["Dropped"] % _TOLD_EVERY == 1:
                    logger.warning(
                        "the shadow variant %s of endpoint %s does not keep up: %d copies were dropped",
                        copy.variant,
                        copy.endpoint,
                        counts["Dropped"],
                    )
                return
            self._waiting.append(copy)
            self._waiting_bytes += len(copy.body)
            if len(self._senders) < _SENDERS:
                sender = threading.Thread(target=self._send_all, name="shadow traffic", daemon=True)
                self._senders.append(sender)
                sender.start()
            self._changed.notify()

    def counts(self, endpoint: str) -> dict[str, dict[str, int]]:
        """How many copies each shadow variant was sent, how many of them failed, and how many were dropped."""
        with self._changed:
            return {variant: dict(counts) for (name, variant), counts in self._counts.items() if name == endpoint}

    def close(self) -> None:
        """Sends nothing more; what is under way ends with the variant's containers."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """After :meth:`close`, and after the end of the containers: returns when no copy is under way."""
        for sender in self._senders:
            sender.join()

    def _send_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                copy = self._waiting.popleft()
                self._waiting_bytes -= len(copy.body)
            outcome = self._send(copy)
            with self._changed:
                self._counts[copy.endpoint, copy.variant][outcome] += 1

    @staticmethod
    def _send(copy: Copy) -> str:
        try:
            with copy.instances.lease(None) as (_, held):
                answer = held.client.call(
                    "POST", "/invocations", headers=copy.headers, body=copy.body, timeout_s=copy.timeout_s
                )
            if answer.status < 300:
                copy.answered(answer)
                return "Sent"
            logger.info("shadow variant %s of endpoint %s answered %d", copy.variant, copy.endpoint, answer.status)
        except (NoAnswer, ServiceError) as error:
            logger.info("shadow variant %s of endpoint %s: %s", copy.variant, copy.endpoint, error)
        except Exception:
            logger.exception("a copy for shadow variant %s of endpoint %s broke", copy.variant, copy.endpoint)
        return "Failed"
