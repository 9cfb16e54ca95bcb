"""Short requests to an unbatched script travel together; each is still computed, blamed and forgotten by itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.contract.asking import Asker, metric, post
from tests.contract.running import Server, running
from tests.polling import until_in_loop

SCRIPT = """
import json, os, signal, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def predict_fn(data, model):
    with (model / "begun").open("a") as file:
        file.write(f"{data['id']}\\n")
    if data.get("deed") == "wait":
        until = model / f"go-{data['id']}"
        while not until.exists():
            time.sleep(0.005)
    if data.get("deed") == "tell":
        return tell(model / f"go-{data['id']}")
    if data.get("deed") == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"id": data["id"], "pid": os.getpid()}

def tell(until):
    while not until.exists():
        time.sleep(0.04)
        yield "word "

def input_fn(body, content_type):
    return json.loads(body)

def output_fn(prediction, accept):
    if not isinstance(prediction, dict):
        return prediction, "text/plain"
    return json.dumps(prediction)
"""
FILES = {"code/inference.py": SCRIPT}


def begun(server: Server) -> list[int]:
    """The ids of all requests that user code has seen, in their order."""
    path = Path(server.model_dir) / "begun"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def go(server: Server, number: int) -> None:
    (Path(server.model_dir) / f"go-{number}").touch()


def body(number: int, deed: str = "") -> bytes:
    return json.dumps({"id": number, "deed": deed}).encode()


async def learned(server: Server, asker: Asker) -> None:
    """The server knows that the script's requests are short."""
    for _ in range(150):
        assert (await asker.post(body(-1))).status == 200


async def behind(server: Server, first: int, others: range, deed: str) -> tuple[Asker, list[Asker]]:
    """One client whose request is at work, and others whose requests a worker has, or will have, behind it."""
    askers = [Asker(server.port) for _ in range(1 + len(others))]
    for asker in askers:
        await asker.open()
    askers[0].send(post(body(first, deed)))
    for asker, number in zip(askers[1:], others, strict=True):
        asker.send(post(body(number)))
    await until_in_loop(lambda: first in begun(server), "it is at work", log=server.log)
    return askers[0], askers[1:]


@pytest.mark.parametrize("retry", ["on", "off"])
def test_a_request_that_kills_its_worker_costs_none_of_those_that_came_with_it(retry: str) -> None:
    async def ask(server: Server) -> None:
        async with Asker(server.port) as asker:
            await learned(server, asker)
            killer, others = await behind(server, 1000, range(30), "die")
            replies = await asyncio.gather(*(other.reply() for other in others))
            assert [(reply.status, reply.json()["id"]) for reply in replies] == [(200, number) for number in range(30)]
            refused = await killer.reply()
            assert (refused.status, refused.error["code"]) == (500, "worker_died")
            for other in (killer, *others):
                await other.close()

    with running(FILES, TIDEGATE_WORKERS="1", TIDEGATE_RETRY=retry) as server:
        asyncio.run(ask(server))
        seen = begun(server)
        assert seen.count(1000) == (2 if retry == "on" else 1)
        assert sorted(number for number in seen if 0 <= number < 1000) == list(range(30)), "each was begun once"


def test_a_request_that_hangs_costs_none_of_those_that_came_with_it() -> None:
    async def ask(server: Server) -> None:
        async with Asker(server.port) as asker:
            await learned(server, asker)
            hung, others = await behind(server, 1000, range(30), "wait")
            replies = await asyncio.gather(*(other.reply() for other in others))
            assert [(reply.status, reply.json()["id"]) for reply in replies] == [(200, number) for number in range(30)]
            refused = await hung.reply()
            assert (refused.status, refused.error["code"]) == (504, "handler_timed_out")
            for other in (hung, *others):
                await other.close()

    with running(FILES, TIDEGATE_WORKERS="1", TIDEGATE_TIMEOUT_S="3") as server:
        asyncio.run(ask(server))
        assert sorted(number for number in begun(server) if number >= 0) == [*range(30), 1000]


def test_those_behind_a_long_request_go_to_the_worker_that_is_free() -> None:
    async def ask(server: Server) -> None:
        async with Asker(server.port) as asker:
            await learned(server, asker)
            long, others = await behind(server, 1000, range(30), "wait")
            replies = await asyncio.gather(*(other.reply() for other in others))
            go(server, 1000)
            stayed = (await long.reply()).json()["pid"]
            assert [reply.json()["id"] for reply in replies] == list(range(30)), "they were answered before it was done"
            assert replies[-1].json()["pid"] != stayed
            for other in (long, *others):
                await other.close()

    with running(FILES, TIDEGATE_WORKERS="2") as server:
        asyncio.run(ask(server))


def test_who_leaves_before_its_request_is_begun_is_not_computed_for() -> None:
    async def ask(server: Server) -> None:
        async with Asker(server.port) as asker:
            await learned(server, asker)
            long, others = await behind(server, 1000, range(20), "wait")
            await until_in_loop(
                lambda: metric(server, "tidegate_waiting", "tidegate_in_flight") == 21, "all are there", log=server.log
            )
            for other in others[::2]:
                await other.close()
            await until_in_loop(
                lambda: metric(server, "tidegate_requests_abandoned_total") == 10, "they have left", log=server.log
            )
            go(server, 1000)
            assert (await long.reply()).status == 200
            for number, other in list(enumerate(others))[1::2]:
                assert (await other.reply()).json()["id"] == number
            for other in (long, *others):
                await other.close()

    with running(FILES, TIDEGATE_WORKERS="1") as server:
        asyncio.run(ask(server))
        assert [number for number in begun(server) if 0 <= number < 1000] == list(range(1, 20, 2))


def test_short_requests_are_answered_between_the_items_of_a_slow_stream() -> None:
    async def ask(server: Server) -> None:
        async with Asker(server.port) as asker:
            await learned(server, asker)
            stream, others = await behind(server, 1000, range(12), "tell")
            for _ in range(3):
                replies = await asyncio.gather(*(other.reply() for other in others))
                assert [reply.json()["id"] for reply in replies] == list(range(12)), "while the stream is open"
                for number, other in enumerate(others):
                    other.send(post(body(number)))
            await asyncio.gather(*(other.reply() for other in others))
            go(server, 1000)
            for other in (stream, *others):
                await other.close()

    with running(FILES, TIDEGATE_WORKERS="1") as server:
        asyncio.run(ask(server))
