"""Clients that ask, remember what they asked, and hold every answer against it. Some of them vanish."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from tests.chaos.mayhem import DEEDS, INTERFERENCE, OWN_ANSWERS
from tests.contract.asking import Asker, NoAnswer, post
from tests.contract.running import Reply


@dataclass(kw_only=True)
class Ledger:
    """Every request that was sent, and what became of it."""

    ids: count = field(default_factory=lambda: count(1))
    sent: dict[int, str] = field(default_factory=dict)
    answered: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    vanished: set[int] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def ask(self, source: random.Random) -> tuple[int, bytes]:
        """A new request: its id and its bytes."""
        number = next(self.ids)
        deed = source.choices(list(DEEDS), list(DEEDS.values()))[0]
        self.sent[number] = deed
        padding = " " * source.choice((0, 0, 0, 2_000, 200_000))
        body = json.dumps({"id": number, "deed": deed}) + padding
        return number, post(body.encode(), **{"x-amzn-sagemaker-inference-id": str(number)})

    def note(self, number: int, reply: Reply) -> None:
        """Hold an answer against its request."""
        deed = self.sent[number]
        if number in self.answered:
            self.complaints.append(f"request {number} was answered twice")
        code = None if reply.status == 200 else reply.error["code"]
        self.answered[number] = (reply.status, code)
        whose = reply.json()["id"] if reply.status == 200 else int(reply.error["request_id"])
        if whose != number:
            self.complaints.append(f"request {number} got the answer to {whose}")
        if (reply.status, code) not in {OWN_ANSWERS[deed], *INTERFERENCE}:
            self.complaints.append(f"request {number} ({deed}) got {reply.status} {code}: {reply.body[:300]!r}")

    @property
    def lost(self) -> list[int]:
        """Requests that somebody waited for and nobody answered."""
        return sorted(self.sent.keys() - self.answered.keys() - self.vanished)

    @property
    def innocents_hit(self) -> int:
        """Requests that paid, with a 500 or 504, for what happened to their workers."""
        hit = {(500, "worker_died"), (504, "handler_timed_out")}
        return sum(found in hit and OWN_ANSWERS[self.sent[number]] != found for number, found in self.answered.items())

    @property
    def by_status(self) -> Counter[int]:
        return Counter(status for status, _ in self.answered.values())


async def client(port: int, ledger: Ledger, source: random.Random, enough: asyncio.Event) -> None:
    """Ask until it is enough, each time as soon as the last answer is there; vanish now and then."""
    asker = Asker(port)
    await asker.open()
    try:
        while not enough.is_set():
            number, data = ledger.ask(source)
            await asker.renew()
            match source.choices(("wait", "vanish", "break off", "dribble"), (90, 4, 2, 4))[0]:
                case "vanish":
                    ledger.vanished.add(number)
                    asker.send(data)
                    await asyncio.sleep(source.choice((0.0, 0.01, 0.3)))
                    await asker.reset()
                    await asker.open()
                    continue
                case "break off":
                    ledger.vanished.add(number)
                    asker.send(data[: source.randrange(1, len(data))])
                    await asyncio.sleep(source.choice((0.0, 0.01)))
                    await asker.close()
                    await asker.open()
                    continue
                case "dribble":
                    cut = source.randrange(len(data))
                    asker.send(data[:cut])
                    await asyncio.sleep(0.01)
                    asker.send(data[cut:])
                case _:
                    asker.send(data)
            try:
                ledger.note(number, await asker.reply())
            except NoAnswer as error:
                ledger.complaints.append(f"request {number} ({ledger.sent[number]}) got no answer: {error}")
                await asker.close()
                await asker.open()
        if not asker.ended and (rest := await asker.rest()):
            ledger.complaints.append(f"after its last answer a client was sent {rest[:300]!r}")
    finally:
        await asker.close()
