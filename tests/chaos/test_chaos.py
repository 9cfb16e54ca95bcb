"""Processes are killed and stopped at random, requests fail and hang, clients vanish: every request gets its answer.

What is broken off, a chat or a conversation, never looks whole. Some seconds in the suite; minutes with CHAOS=long (see
form.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest

from tests.chaos.crowd import Ledger, client
from tests.chaos.form import CHAOS_S, LIMIT_S, SEED
from tests.chaos.mayhem import MODEL, Mayhem, processes_of
from tests.chaos.readers import Chats, reader
from tests.chaos.talkers import Talks, talker
from tests.contract.asking import metric
from tests.contract.running import Server, running

WORKERS = 3
CLIENTS = 16
TALKERS = 6
READERS = 6
BATCH = 4
TIMEOUT_S = 5.0
BYTES_IN_FLIGHT = 8_000_000
"""Several times what the clients send at one time."""


@pytest.mark.timeout(LIMIT_S)
def test_whatever_dies_every_request_gets_one_answer_and_it_is_its_own():
    settings = {
        "TIDEGATE_WORKERS": str(WORKERS),
        "TIDEGATE_MAX_BATCH_SIZE": str(BATCH),
        "TIDEGATE_TIMEOUT_S": str(TIMEOUT_S),
        "TIDEGATE_LOAD_TIMEOUT_S": "20",
        "TIDEGATE_MAX_BODY_BYTES": str(BYTES_IN_FLIGHT),
        "TIDEGATE_MAX_BYTES_IN_FLIGHT": str(BYTES_IN_FLIGHT),
    }
    with running({"code/inference.py": MODEL}, **settings) as server:
        server.wait_until(lambda: metric(server, "tidegate_workers") == WORKERS, "all workers are ready")
        frontend = server.process.pid
        ledger, talks, chats, mayhem, standstills = asyncio.run(_chaos(server))
        print(f"seed {SEED}: {len(ledger.sent)} requests, {dict(ledger.by_status)}, {dict(mayhem.done)}")
        print(f"{talks.begun} conversations, {talks.echoed} messages, {dict(talks.ends)}")
        print(f"{chats.words} words of chats, {dict(chats.ends)}")
        told = f"CHAOS_SEED={SEED} CHAOS_S={CHAOS_S:g}: {dict(ledger.by_status)}, {dict(mayhem.done)}\n"
        told += server.log()[-5000:]

        assert ledger.complaints == [], told
        assert ledger.lost == [], told
        # At most those who were alone with a worker, and lost with it twice or hung, paid for what was done to it.
        # Where the machine itself stands still for the half of a worker's time, all workers may count as hung.
        assert ledger.innocents_hit <= sum(mayhem.done.values()) + WORKERS * standstills, told
        assert ledger.by_status[200] > len(ledger.answered) // 4, told

        assert talks.complaints == [], told
        assert talks.echoed > 0, told

        assert chats.complaints == [], told
        assert chats.ends["whole"] > 0, told

        # What is over is over.
        assert server.process.pid == frontend
        assert server.process.poll() is None, told
        server.wait_until(lambda: metric(server, "tidegate_workers") == WORKERS, "all workers are back")
        assert server.ping() == 200
        server.wait_until(
            lambda: metric(server, "tidegate_waiting") == metric(server, "tidegate_in_flight") == 0, "nothing is left"
        )
        server.wait_until(lambda: metric(server, "tidegate_conversations_open") == 0, "nobody talks")
        server.wait_until(lambda: metric(server, "tidegate_streams_open") == 0, "nobody reads")
        server.wait_until(lambda: len(processes_of(server)) == 1 + 1 + WORKERS, "no process is left over")
        assert "the server itself failed" not in server.log(), told
        # Admitted only where no byte of any other body is held.
        body = b'{"id": 1, "deed": "answer"}'.ljust(BYTES_IN_FLIGHT)
        server.wait_until(lambda: server.post(body).status == 200, "all the memory for bodies is free")
    server.wait_until(lambda: processes_of(server) == [], "every process of the server is gone")


async def _chaos(server: Server) -> tuple[Ledger, Talks, Chats, Mayhem, int]:
    ledger, talks, chats, enough = Ledger(), Talks(), Chats(), asyncio.Event()
    mayhem = Mayhem(server, random.Random(f"{SEED}-mayhem"))  # noqa: S311 - it is to be repeatable
    sources = [random.Random(f"{SEED}-{number}") for number in range(CLIENTS)]  # noqa: S311
    clients = [asyncio.ensure_future(client(server.port, ledger, source, enough)) for source in sources]
    sources = [random.Random(f"{SEED}-talker-{number}") for number in range(TALKERS)]  # noqa: S311
    clients += [asyncio.ensure_future(talker(server.port, talks, source, enough)) for source in sources]
    sources = [random.Random(f"{SEED}-reader-{number}") for number in range(READERS)]  # noqa: S311
    clients += [asyncio.ensure_future(reader(server.port, chats, source, enough)) for source in sources]
    striking, standstills = asyncio.ensure_future(mayhem.go_on()), Counter[str]()
    watching = asyncio.ensure_future(_count_standstills(standstills))
    await asyncio.wait([striking, *clients], timeout=CHAOS_S, return_when=asyncio.FIRST_EXCEPTION)
    striking.cancel()
    enough.set()
    await asyncio.gather(*clients)
    watching.cancel()
    await asyncio.gather(striking, watching, return_exceptions=True)
    return ledger, talks, chats, mayhem, standstills["seen"]


async def _count_standstills(seen: Counter[str]) -> None:
    """Until cancelled: how often this process was not let on for long."""
    before_s = time.monotonic()
    while True:
        await asyncio.sleep(0.02)
        now_s = time.monotonic()
        seen["seen"] += now_s - before_s > TIMEOUT_S / 2
        before_s = now_s
