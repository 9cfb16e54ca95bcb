"""Models are published, rewritten, broken, labelled and retired at random while processes are killed, the server among
them: no answer is wrong, no limit is exceeded, no model is lost, and in the end all is as the repository says.

Some seconds in the suite; minutes with CHAOS=long (see form.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from benchmarks.repository.sampling import on_disk, workers_of
from tests.chaos.askers_of_models import ABSENT, Ledger, asker_of_models
from tests.chaos.form import CHAOS_S, LIMIT_S, SEED
from tests.chaos.publishers import LABELS, MODELS, Publisher
from tests.contract.repositories import Serving, serving
from tests.contract.running import start
from tests.polling import until

LOADED, ON_DISK = 3, 5
CLIENTS = 6
REPOSITORY = "tidegate.inference.repository"
STRIKES = {"kill worker": 10, "kill parent": 2, "kill repository": 5, "pause repository": 4, "kill server": 2}
"""What is done to the server's processes, and how often."""


@dataclass(kw_only=True)
class Striker:
    """Kills and pauses processes of the server, and starts a server that was killed again."""

    here: Serving
    settings: dict[str, str]
    source: random.Random
    done: Counter[str] = field(default_factory=Counter)

    async def go_on(self) -> None:
        """Until cancelled, and then to the end of what it does: a server is started again, a pause ends."""
        while True:
            await asyncio.sleep(self.source.uniform(0.2, 1.5))
            deed = self.source.choices(list(STRIKES), list(STRIKES.values()))[0]
            strike = asyncio.ensure_future(self._strike(deed))
            with contextlib.suppress(psutil.NoSuchProcess):
                try:
                    await asyncio.shield(strike)
                except asyncio.CancelledError:
                    await asyncio.wait([strike])
                    raise

    async def _strike(self, deed: str) -> None:
        server = self.here.server
        if deed == "kill server":
            self.done[deed] += 1
            server.process.kill()
            await asyncio.to_thread(server.process.wait)
            server.process = start(server.log_path.parent, self.settings, server.port).process
            return
        children = psutil.Process(server.process.pid).children()
        repository = [each for each in children if REPOSITORY in each.cmdline()]
        parents = [each for each in children if each not in repository]
        workers = [worker for parent in parents for worker in parent.children()]
        # A parent that has none is perhaps not up yet: a server whose first one dies at its start ends, and says why.
        parents = [parent for parent in parents if parent.children()]
        victims = {"worker": workers, "parent": parents, "repository": repository}[deed.split()[1]]
        if not victims:
            return
        self.done[deed] += 1
        victim = self.source.choice(victims)
        if deed.startswith("kill"):
            victim.kill()
            return
        victim.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.source.uniform(0.1, 1.0))
        victim.send_signal(signal.SIGCONT)


@dataclass(kw_only=True)
class Watcher:
    """Looks at what the server holds."""

    here: Serving
    cache: Path
    most: Counter[str] = field(default_factory=Counter)

    async def go_on(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(0.02)
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            parents = psutil.Process(self.here.server.process.pid).children()
            workers = sum(workers_of(each.pid) for each in parents)
            self.most["workers"] = max(self.most["workers"], workers)
        self.most["directories"] = max(self.most["directories"], on_disk(self.cache)["directories"])


@pytest.mark.timeout(LIMIT_S)
def test_whatever_happens_to_models_and_servers_answers_are_right_and_limits_hold(tmp_path: Path):
    cache = tmp_path / "cache"
    settings = {
        "TIDEGATE_MODEL_CACHE_DIR": str(cache),
        "TIDEGATE_MAX_LOADED_MODELS": str(LOADED),
        "TIDEGATE_MAX_DISK_MODELS": str(ON_DISK),
        "TIDEGATE_TIMEOUT_S": "20",
    }
    with serving(tmp_path, **settings) as here:
        again = {
            "TIDEGATE_MODEL_REPOSITORY": str(here.folder.path),
            "TIDEGATE_RELOAD_INTERVAL_S": "0.1",
            **settings,
        }
        publisher = Publisher(folder=here.folder, source=random.Random(f"{SEED}-publisher"))  # noqa: S311
        publisher.begin()
        for name in MODELS:
            for version in (1, 2):
                here.until_known(name, version)
        ledger = Ledger(reference=publisher.reference)
        striker = Striker(here=here, settings=again, source=random.Random(f"{SEED}-striker"))  # noqa: S311
        watcher = Watcher(here=here, cache=cache)
        asyncio.run(_chaos(here, publisher, ledger, striker, watcher))
        print(f"seed {SEED}: {ledger.sent} requests, {dict(ledger.by_outcome)}, {ledger.unanswered} without an answer")
        print(f"{dict(publisher.done)}, {dict(striker.done)}, at most {dict(watcher.most)}")
        told = f"CHAOS_SEED={SEED} CHAOS_S={CHAOS_S:g}: {dict(ledger.by_outcome)}, {dict(striker.done)}\n"
        told += here.server.log()[-8000:]

        assert ledger.complaints == [], told
        # A request is lost with the server alone: each client had one with it, and some that found nobody there.
        assert ledger.unanswered == 0 or striker.done["kill server"], told
        assert ledger.by_outcome[500, "worker_died"] <= sum(striker.done.values()), told
        assert ledger.by_outcome[200, ""] > CLIENTS, told
        assert watcher.most["workers"] <= LOADED, told
        assert watcher.most["directories"] <= ON_DISK, told

        wanted, found = _wanted(publisher), dict[tuple[str, int | str], str]()

        def all_is_as_it_should_be() -> bool:
            found.update({at: _got(here, *at) for at in wanted})
            return found == wanted

        def wrong() -> str:
            odd = {at: (found.get(at), says) for at, says in wanted.items() if found.get(at) != says}
            return f"found and wanted: {odd}\n{told}"

        until(all_is_as_it_should_be, "every answer is as the repository says", log=wrong)
        assert "the server itself failed" not in here.server.log(), told


async def _chaos(here: Serving, publisher: Publisher, ledger: Ledger, striker: Striker, watcher: Watcher) -> None:
    enough = asyncio.Event()
    sources = [random.Random(f"{SEED}-models-{number}") for number in range(CLIENTS)]  # noqa: S311
    port = here.server.port
    clients = [asyncio.ensure_future(asker_of_models(port, ledger, source, enough)) for source in sources]
    makers = [asyncio.ensure_future(each.go_on()) for each in (publisher, striker, watcher)]
    await asyncio.wait([*makers, *clients], timeout=CHAOS_S, return_when=asyncio.FIRST_EXCEPTION)
    for maker in makers:
        maker.cancel()
    ended = await asyncio.gather(*makers, return_exceptions=True)
    enough.set()
    await asyncio.gather(*clients)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


def _wanted(publisher: Publisher) -> dict[tuple[str, int | str], str]:
    """In the end: what each key says; nothing where it is refused."""
    reference = publisher.reference
    wanted: dict[tuple[str, int | str], str] = {}
    for name in MODELS:
        numbers = {number for each, number, _ in reference.ever if each == name}
        for key in ("latest", *LABELS, *sorted(numbers)):
            wanted[name, key] = reference.answer(name, key) or ""
    return wanted


def _got(here: Serving, name: str, key: int | str) -> str:
    try:
        reply = here.ask(name, key)
    except OSError:
        return "no answer"
    if reply.status == 200:
        return str(reply.json()["says"])
    code = reply.error["code"]
    return "" if (reply.status, code) in {*ABSENT, (500, "model_load_failed")} else code
