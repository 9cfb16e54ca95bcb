"""Clients of a model repository: they choose models, versions and labels at random, and hold each answer against what
was ever published."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.publishers import BROKEN, LABELS, MODELS, STEADY, Reference
from tests.contract.asking import Asker, NoAnswer, post
from tests.contract.repositories import ATTRIBUTES
from tests.contract.running import Reply

ON_ITS_WAY = {(503, "model_loading"), (503, "not_ready"), (503, "overloaded")}
"""What any request may get: it is to come back."""
ABSENT = {(404, "model_not_found"), (404, "version_not_found")}
LOST_TWICE = (500, "worker_died")


@dataclass(kw_only=True)
class Ledger:
    """What became of all requests."""

    reference: Reference
    sent: int = 0
    by_outcome: Counter[tuple[int, str]] = field(default_factory=Counter)
    unanswered: int = 0
    complaints: list[str] = field(default_factory=list)

    def note(self, name: str, key: int | str, reply: Reply) -> None:
        """Hold an answer against its request."""
        code = "" if reply.status == 200 else reply.error["code"]
        self.by_outcome[reply.status, code] += 1
        if reply.status == 200:
            self._note_answer(name, key, reply)
        elif (reply.status, code) not in self._may_get(name, key):
            self.complaints.append(f"{name} {key} got {reply.status} {code}: {reply.body[:300]!r}")

    def _note_answer(self, name: str, key: int | str, reply: Reply) -> None:
        said = reply.json()
        number, says = said["version"], said["says"]
        told = reply.headers.get(ATTRIBUTES.lower())
        right = (said["name"], number, says) in self.reference.ever and said["name"] == name and says != BROKEN
        right = right and told == f"model={name};version={number}"
        if isinstance(key, int):
            right = right and number == key
        elif key != "latest":
            right = right and (name, key, number) in self.reference.labelled
        if not right:
            self.complaints.append(f"{name} {key} got {said} ({told}), which it never was")

    def _may_get(self, name: str, key: int | str) -> set[tuple[int, str]]:
        allowed = {*ON_ITS_WAY, LOST_TWICE}
        if name == STEADY and key in (1, "latest"):
            return allowed  # it is never absent and never broken
        if not isinstance(key, int) or (name, key) in self.reference.unsteady or not self._was_there(name, key):
            allowed |= {*ABSENT, (500, "model_load_failed")}
        return allowed

    def _was_there(self, name: str, number: int) -> bool:
        return any((each, version) == (name, number) for each, version, _ in self.reference.ever)


async def asker_of_models(port: int, ledger: Ledger, source: random.Random, enough: asyncio.Event) -> None:
    """Ask until it is enough, each time as soon as the last answer is there; connect again where nobody answers."""
    asker: Asker | None = None
    while not enough.is_set():
        name = source.choice(MODELS)
        key: int | str = source.choice(("latest", "latest", 1, 2, source.randrange(1, 9), *LABELS))
        ledger.sent += 1
        try:
            if asker is None:
                asker = Asker(port)
                await asker.open()
            await asker.renew()
            asker.send(post(json.dumps({}).encode(), **{ATTRIBUTES: f"model={name};version={key}"}))
            reply = await asker.reply()
            ledger.note(name, key, reply)
            if reply.status == 503:
                await asyncio.sleep(0.1)
        except (NoAnswer, OSError):
            ledger.unanswered += 1
            if asker is not None:
                await asker.close()
            asker = None
            await asyncio.sleep(0.05)
        await asyncio.sleep(source.choice((0.0, 0.0, 0.02)))
    if asker is not None:
        await asker.close()
