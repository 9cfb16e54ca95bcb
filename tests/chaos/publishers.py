"""Somebody who publishes, rewrites, breaks, labels and retires at random, and a simple reference of what that means."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from tests.contract.repositories import Folder

STEADY = "steady"
"""A model whose version 1 nobody touches: it is never absent, and its answer is always the same."""
MODELS = (STEADY, "a", "b", "c", "d", "e")
LABELS = ("stable", "canary")
BROKEN = "broken"

DEEDS = {"publish": 30, "rewrite": 15, "break": 8, "mend": 8, "label": 15, "retire": 12, "remove": 3}
"""What is done to the repository, and how often."""


@dataclass(kw_only=True)
class Reference:
    """What the repository holds, and what it ever held."""

    now: dict[str, dict[int, str]] = field(default_factory=lambda: {name: {} for name in MODELS})
    """By model and version, what the answer says."""
    labels: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in MODELS})
    ever: set[tuple[str, int, str]] = field(default_factory=set)
    labelled: set[tuple[str, str, int]] = field(default_factory=set)
    unsteady: set[tuple[str, int]] = field(default_factory=set)
    """Versions that were absent at some time, or broken: they may be refused."""

    def answer(self, name: str, key: int | str) -> str | None:
        """What a key should say in the end; None where it is refused."""
        versions = self.now[name]
        good = {number: says for number, says in versions.items() if says != BROKEN}
        if key == "latest":
            return good[max(good)] if good else None
        number = self.labels[name].get(key, 0) if isinstance(key, str) else key
        return good.get(number)


@dataclass(kw_only=True)
class Publisher:
    """Changes the repository. Each deed is complete on the disk before the reference is told that it is so."""

    folder: Folder
    source: random.Random
    reference: Reference = field(default_factory=Reference)
    done: Counter[str] = field(default_factory=Counter)
    _contents: count[int] = field(default_factory=lambda: count(1))
    _numbers: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """Two versions of each."""
        for name in MODELS:
            for _ in range(2):
                self._publish(name)
        self.reference.unsteady.clear()

    async def go_on(self) -> None:
        """Until cancelled; what is begun is done."""
        while True:
            await asyncio.sleep(self.source.uniform(0.02, 0.4))
            deed = self.source.choices(list(DEEDS), list(DEEDS.values()))[0]
            name = self.source.choice(MODELS)
            self.done[deed] += 1
            await asyncio.shield(asyncio.to_thread(self._deeds[deed], self, name))

    def _write(self, name: str, number: int, says: str) -> None:
        # Allowed before it is there, for it may answer before this returns.
        self.reference.ever.add((name, number, says))
        self.reference.unsteady.add((name, number))
        self.folder.publish(name, number, says)
        self.reference.now[name][number] = says

    def _publish(self, name: str) -> None:
        self._numbers[name] += 1
        number = self._numbers[name]
        self._write(name, number, f"{name} {number} content {next(self._contents)}")

    def _any(self, name: str) -> int | None:
        numbers = sorted(self.reference.now[name])
        if name == STEADY:
            numbers = numbers[1:]
        return self.source.choice(numbers) if numbers else None

    def _rewrite(self, name: str) -> None:
        if (number := self._any(name)) is not None:
            self._write(name, number, f"{name} {number} content {next(self._contents)}")

    def _break(self, name: str) -> None:
        if (number := self._any(name)) is not None:
            self._write(name, number, BROKEN)

    def _mend(self, name: str) -> None:
        for number, says in list(self.reference.now[name].items()):
            if says == BROKEN:
                self._write(name, number, f"{name} {number} content {next(self._contents)}")

    def _label(self, name: str) -> None:
        number, label = self._any(name), self.source.choice(LABELS)
        if number is None:
            return
        self.reference.labelled.add((name, label, number))
        labels = self.reference.labels[name]
        labels[label] = number
        self.folder.label(name, **labels)

    def _retire(self, name: str) -> None:
        number = self._any(name)
        if number is None:
            return
        self.reference.unsteady.add((name, number))
        self.folder.retire(name, number)
        del self.reference.now[name][number]

    def _remove(self, name: str) -> None:
        if name == STEADY:
            return
        self.reference.unsteady.update((name, number) for number in self.reference.now[name])
        self.reference.labels[name].clear()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder.path / name)
        self.reference.now[name].clear()

    _deeds: dict[str, Callable[[Publisher, str], None]] = field(
        default_factory=lambda: {
            "publish": Publisher._publish,
            "rewrite": Publisher._rewrite,
            "break": Publisher._break,
            "mend": Publisher._mend,
            "label": Publisher._label,
            "retire": Publisher._retire,
            "remove": Publisher._remove,
        }
    )
