"""The repository as the server has it, around stand-ins: its process is the test, its workers live on a jumping clock.

What is decided is tested where it is decided; here it is done, told and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.inference.stand_in_workers import Asked, StandInForkServer, StandInWorker, do_nothing, run, settled
from tidegate.inference.errors import DeploymentError, Draining, ModelLoadFailed, ModelNotFound, NotReady, RequestError
from tidegate.inference.frontend.models import registry as registry_module
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.queue import model_pool
from tidegate.inference.frontend.repository import repository as repository_module
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.repository import Answering, Repository
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.repository import messages
from tidegate.inference.repository.catalogue import Model, Revision, Version
from tidegate.inference.settings import MIB, Settings

A, B = Selector("a"), Selector("b")


class PlayedProcess:
    """Fetches at once into folders of the test, unless it is told to hold still."""

    def __init__(self, heard: Callable[[messages.Event], None], lost: Callable[[], None], root: Path) -> None:
        self.hear, self.lose, self._root = heard, lost, root
        self.told: list[messages.Request] = []
        self.holds_still = False

    def open(self) -> None: ...

    async def close(self) -> None: ...

    def tell(self, request: messages.Request) -> None:
        self.told.append(request)
        if self.holds_still:
            return
        if isinstance(request, messages.Fetch):
            directory = self._root / f"{request.revision.name}-{request.revision.digest}"
            directory.mkdir(exist_ok=True)
            event: messages.Event = messages.Fetched(id=request.id, directory=str(directory), size_bytes=1)
        elif isinstance(request, messages.Remove):
            event = messages.Removed(directory=request.directory)
        else:
            return
        asyncio.get_running_loop().call_soon(self.hear, event)

    def list_models(self, **digests: str) -> None:
        """A listing: each model has one version, of this content."""
        models = [
            Model(name=name, versions=(Version(number=1, digest=digest, size_bytes=1),))
            for name, digest in digests.items()
        ]
        self.hear(messages.Changed(models=tuple(models)))
        self.hear(messages.Listed(models=len(models), interval_s=1.0))


class Waiting:
    """A request that waits."""

    def __init__(self, repository: Repository, selector: Selector) -> None:
        self.answering: Answering | None = None
        self.error: RequestError | None = None
        repository.want(self, selector)

    def granted(self, answering: Answering) -> None:
        assert self.answering is self.error is None
        self.answering = answering

    def refused(self, error: RequestError) -> None:
        assert self.answering is self.error is None
        self.error = error


class Here:
    """The repository and what is around it."""

    def __init__(self, repository: Repository, process: PlayedProcess, workers: Workers) -> None:
        self.repository, self.process, self.workers = repository, process, workers

    async def load(self, selector: Selector) -> Answering:
        waiting = Waiting(self.repository, selector)
        await asyncio.sleep(0.1)
        assert waiting.answering is not None, waiting.error
        return waiting.answering


class Workers(StandInForkServer):
    """Of a machine without a GPU."""

    async def gpus(self) -> int:
        return 0


@contextlib.asynccontextmanager
async def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **settings: Any) -> AsyncIterator[Here]:
    workers = Workers()
    clock = asyncio.get_running_loop().time
    monkeypatch.setattr(model_pool.os, "killpg", workers.kill)
    monkeypatch.setattr(model_pool, "monotonic", clock)
    monkeypatch.setattr(repository_module, "monotonic", clock)
    monkeypatch.setattr(repository_module, "free_memory_bytes", lambda: 1 << 40)
    monkeypatch.setattr(registry_module, "private_bytes", lambda _pids: MIB)
    played: list[PlayedProcess] = []

    def process(_opening: object, heard: Any, lost: Any, _command: object) -> PlayedProcess:
        played.append(PlayedProcess(heard, lost, tmp_path))
        return played[0]

    async def at_once(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    monkeypatch.setattr(repository_module, "RepositoryProcess", process)
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    values = Settings(model_repository="/models", model_cache_dir=tmp_path, min_free_memory_bytes=0, **settings)
    registry = Registry(values, cast(ForkServer, workers), pytest.fail)
    workers.pool = cast(Any, registry)
    repository = Repository(values, registry)
    repository.open()
    try:
        yield Here(repository, played[0], workers)
    finally:
        await repository.close()
        await registry.close()
        await settled()
        for worker in workers.alive:
            worker.end(0)
        await settled()


def test_nothing_is_known_before_the_first_listing_and_then_what_is_not_there(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            with pytest.raises(NotReady, match="has not been listed yet"):
                Waiting(here.repository, A)
            here.process.hear(messages.ListingFailed(reason="access denied", retry_in_s=1.0))
            with pytest.raises(NotReady, match="has not been listed yet"):
                Waiting(here.repository, A)
            assert "could not be listed: access denied" in here.repository.starting, "as /ping says"
            assert not here.repository.ready
            here.process.list_models()
            assert here.repository.ready
            with pytest.raises(ModelNotFound):
                Waiting(here.repository, A)

    run(test())


def test_a_second_server_of_one_cache_directory_is_a_mistake_of_who_deploys(monkeypatch, tmp_path):
    """It waits a moment, for a server that was killed just now, and goes on where that has let go."""

    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            await here.repository.own_cache()
            lock = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(DeploymentError, match=r"is in use by another server: set a directory for each\."):
                await here.repository.own_cache()
            waiting = asyncio.ensure_future(here.repository.own_cache())
            await asyncio.sleep(1)
            assert not waiting.done()
            os.close(lock)
            await waiting

    run(test())


def test_a_model_that_grows_while_it_serves_makes_others_go(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path, max_loaded_bytes=10 * MIB) as here:
            here.process.list_models(a="1", b="1")
            await here.load(A)
            await here.load(B)
            assert here.repository.gauges().memory_bytes == 2 * MIB
            monkeypatch.setattr(registry_module, "private_bytes", lambda _pids: 7 * MIB)
            await asyncio.sleep(60)
            assert here.repository.find(A) is None
            assert here.repository.find(B) is not None
            assert here.repository.gauges().memory_bytes == 7 * MIB
            assert len(here.workers.alive) == 1

    run(test())


def test_where_nothing_can_be_measured_what_was_reserved_counts(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path, max_loaded_bytes=10 * MIB) as here:
            monkeypatch.setattr(registry_module, "private_bytes", lambda _pids: 0)
            here.process.list_models(a="1")
            await here.load(A)
            assert here.repository.gauges().memory_bytes > 0

    run(test())


def test_what_scripts_hold_is_taken_off_what_was_measured_and_not_off_what_is_left_of_it(monkeypatch, tmp_path):
    """Each worker may be on its way out, so that there is none to measure, and its script's models are there still."""

    async def test() -> None:
        async with house(monkeypatch, tmp_path, max_loaded_bytes=10 * MIB) as here:
            here.process.list_models(a="1")
            await here.load(A)
            monkeypatch.setattr(here.repository.scripts, "held_bytes", lambda _home: 2 * MIB)
            monkeypatch.setattr(registry_module, "private_bytes", lambda _pids: 7 * MIB)
            await asyncio.sleep(60)
            assert here.repository.gauges().memory_bytes == 5 * MIB
            monkeypatch.setattr(registry_module, "private_bytes", lambda _pids: 0)
            await asyncio.sleep(60)
            assert here.repository.gauges().memory_bytes == 5 * MIB

    run(test())


def test_a_load_that_throws_what_nobody_expects_fails_and_is_tried_again(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:

            async def install(_layers: object, _model_dir: Path) -> None:
                raise RuntimeError("no more threads")

            with monkeypatch.context() as patch:
                patch.setattr("tidegate.inference.frontend.packages.layers.Layers.install", install)
                here.process.list_models(a="1")
                waiting = Waiting(here.repository, A)
                await settled()
                assert waiting.error is not None
                assert (waiting.error.status, waiting.error.code) == (500, "model_load_failed")
                assert "no more threads" not in waiting.error.message
                assert "the server's log says why" in waiting.error.message
                assert "no more threads" in here.repository.librarian.report("a").versions[0].reason
            await asyncio.sleep(1000)
            await here.load(A)

    run(test())


def test_a_message_that_cannot_be_taken_does_not_end_the_hearing(monkeypatch, tmp_path, caplog):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            with monkeypatch.context() as patch:
                patch.setattr(here.repository.librarian, "changed", lambda *_: 1 / 0)
                here.process.list_models(a="1")
            here.process.list_models(a="1")
            await here.load(A)

    run(test())
    assert "a message of the repository's process could not be taken" in caplog.text


def test_a_revision_that_cannot_be_kept_up_goes_and_is_loaded_again_for_who_asks(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path, crash_loop_s=5.0) as here:
            here.process.list_models(a="1")
            await here.load(A)
            load, here.workers.on_load = here.workers.on_load, lambda worker: worker.end(1 << 8)
            here.workers.started[0].end(1 << 8)
            epoch = here.repository.epoch
            while here.repository.find(A) is not None:  # noqa: ASYNC110 - nobody says when it is gone
                await asyncio.sleep(1)
            assert here.repository.epoch > epoch
            assert here.repository.gauges().in_memory == 0
            here.workers.on_load = load
            await asyncio.sleep(1000)
            await here.load(A)

    run(test())


def test_who_waits_does_not_notice_that_a_worker_was_lost_while_it_loaded(monkeypatch, tmp_path):
    """Somebody killed it, or the machine was out of memory for a moment: that says nothing about the model."""

    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            load, here.workers.on_load = here.workers.on_load, lambda worker: worker.end(9)
            here.process.list_models(a="1")
            waiting = Waiting(here.repository, A)
            await settled()
            assert (waiting.answering, waiting.error) == (None, None)
            here.workers.on_load = load
            await asyncio.sleep(5)
            assert waiting.answering is not None

    run(test())


def test_a_model_that_kills_each_worker_that_loads_it_is_refused(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            here.workers.on_load = lambda worker: worker.end(11)
            here.process.list_models(a="1")
            waiting = Waiting(here.repository, A)
            await asyncio.sleep(20)
            assert isinstance(waiting.error, ModelLoadFailed)
            assert "was killed by signal 11" in here.repository.librarian.report("a").versions[0].reason

    run(test())


def test_who_leaves_while_it_waits_is_told_nothing(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            here.process.list_models(a="1")
            here.workers.on_load = do_nothing
            stays, leaves = Waiting(here.repository, A), Waiting(here.repository, A)
            await settled()
            here.repository.leave(leaves)
            here.workers.started[0].ready()
            await settled()
            assert stays.answering is not None
            assert leaves.answering is leaves.error is None

    run(test())


def test_who_waits_at_the_end_of_the_server_is_told_so(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            here.process.holds_still = True
            here.process.list_models(a="1")
            waiting = Waiting(here.repository, A)
            await here.repository.close()
            assert isinstance(waiting.error, Draining)

    run(test())


def test_what_a_process_that_died_was_asked_for_is_asked_of_the_next_one(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            here.process.holds_still = True
            here.process.list_models(a="1")
            waiting = Waiting(here.repository, A)
            await settled()
            here.process.lose()
            await settled()
            assert waiting.answering is waiting.error is None
            here.process.holds_still = False
            here.process.list_models(a="1")
            await settled()
            assert waiting.answering is not None
            assert waiting.answering.revision == Revision(name="a", version=1, digest="1")
            assert here.repository.metrics.process_restarts == 1

    run(test())


def test_a_switch_waits_for_the_last_request_of_the_old_revision(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path) as here:
            here.process.list_models(a="1")
            old = await here.load(A)
            computing: list[StandInWorker] = []
            here.workers.on_batch = computing.append
            asked = [Asked(old.pool, str(number)) for number in range(3)]
            await settled()
            here.process.list_models(a="2")
            await settled()
            new = here.repository.find(A)
            assert new is not None
            assert new.revision.digest == "2"
            assert here.workers.started[0].alive
            here.workers.on_batch = StandInWorker.answer
            computing[0].answer()
            await asyncio.sleep(1)
            assert [each.outcome for each in asked] == [(200, "0"), (200, "1"), (200, "2")]
            assert [worker.alive for worker in here.workers.started] == [False, True]

    run(test())


def test_what_is_at_work_is_not_evicted_while_something_else_is_idle(monkeypatch, tmp_path):
    async def test() -> None:
        async with house(monkeypatch, tmp_path, max_loaded_models=2) as here:
            here.process.list_models(a="1", b="1", c="1")
            here.workers.on_batch = do_nothing
            asked = Asked((await here.load(A)).pool, "long")
            await asyncio.sleep(1)
            await here.load(B)
            await asyncio.sleep(1)
            await here.load(Selector("c"))
            assert here.repository.find(B) is None
            assert here.repository.find(A) is not None
            here.workers.started[0].answer()
            await settled()
            assert asked.outcome == (200, "long")

    run(test())
