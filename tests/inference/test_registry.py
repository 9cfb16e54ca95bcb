"""Models that come and go: one load for all who ask, one count of what is here, nothing left of what has gone.

The workers are stand-ins, on a clock that jumps; threads (which look at directories) are made to answer at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.inference.stand_in_workers import (
    Asked,
    StandInForkServer,
    StandInWorker,
    answer_at_once,
    do_nothing,
    load_at_once,
    run,
    settled,
)
from tidegate.inference import protocol
from tidegate.inference.errors import AlreadyLoaded, DeploymentError, ModelDoesNotFit, NotFound
from tidegate.inference.frontend.models import registry as registry_module
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.queue import model_pool
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.settings import MIB, Settings


@dataclass(kw_only=True)
class Server(StandInForkServer):
    """A fork_server of stand-in workers for any number of models."""

    gpu_count: int = 0

    async def gpus(self) -> int:
        return self.gpu_count


@contextlib.asynccontextmanager
async def registry_of(
    monkeypatch: pytest.MonkeyPatch, fork_server: Server | None = None, **settings: Any
) -> AsyncIterator[Registry]:
    fork_server = fork_server or Server()
    monkeypatch.setattr(model_pool.os, "killpg", fork_server.kill)
    monkeypatch.setattr(model_pool, "monotonic", asyncio.get_running_loop().time)

    async def at_once(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    values: dict[str, Any] = {"multi_model": True, "min_free_memory_bytes": 0, **settings}
    registry = Registry(Settings(**values), cast(ForkServer, fork_server), lambda _cause: None)
    fork_server.pool = cast(Any, registry)  # it is told of every worker that ends
    try:
        yield registry
    finally:
        await registry.close()
        await settled()
        for worker in fork_server.alive:
            worker.end(0)
        await settled()


def archive(tmp_path: Path, name: str, size: int = 0) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(size))
    return folder


def test_all_who_ask_while_a_model_is_loaded_wait_for_the_same_load(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server(on_load=do_nothing)
        async with registry_of(monkeypatch, fork_server) as registry:
            asked = [asyncio.ensure_future(registry.load("m", archive(tmp_path, "m")))]
            asked += [asyncio.ensure_future(registry.load("m", tmp_path / "m")) for _ in range(4)]
            await settled()
            (worker,) = fork_server.started
            assert not any(each.done() for each in asked)
            asked.pop().cancel()
            await settled()
            worker.ready()
            assert len(set(await asyncio.gather(*asked))) == 1
            assert len(fork_server.started) == 1
            with pytest.raises(AlreadyLoaded, match="is loaded already"):
                await registry.load("m", tmp_path / "m")

    run(test())


def test_a_name_that_is_being_loaded_from_elsewhere_is_taken(monkeypatch, tmp_path):
    async def test() -> None:
        async with registry_of(monkeypatch, Server(on_load=do_nothing)) as registry:
            loading = asyncio.ensure_future(registry.load("m", archive(tmp_path, "a")))
            await asyncio.sleep(0)
            with pytest.raises(AlreadyLoaded, match=f"is being loaded from {tmp_path / 'a'}"):
                await registry.load("m", archive(tmp_path, "b"))
            loading.cancel()

    run(test())


def test_a_model_counts_from_the_request_to_load_it_until_its_memory_is_free(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server(on_load=do_nothing)
        async with registry_of(monkeypatch, fork_server, max_loaded_models=1) as registry:
            loading = asyncio.ensure_future(registry.load("a", archive(tmp_path, "a")))
            await asyncio.sleep(0)
            assert not fork_server.started
            with pytest.raises(ModelDoesNotFit, match="1 models are loaded, which is the limit"):
                await registry.load("b", archive(tmp_path, "b"))
            await settled()
            fork_server.started[0].ready()
            await loading
            leaving = asyncio.ensure_future(registry.unload("a"))
            await asyncio.sleep(0)
            with pytest.raises(ModelDoesNotFit):
                await registry.load("b", tmp_path / "b")
            await leaving
            assert not fork_server.alive
            fork_server.on_load = load_at_once
            await registry.load("b", tmp_path / "b")

    run(test())


def test_memory_that_is_promised_to_a_model_that_is_loading_is_not_promised_again(monkeypatch, tmp_path):
    async def test() -> None:
        monkeypatch.setattr(registry_module, "free_memory_bytes", lambda: 10 * MIB)
        fork_server = Server(on_load=do_nothing)
        async with registry_of(monkeypatch, fork_server) as registry:
            first = asyncio.ensure_future(registry.load("a", archive(tmp_path, "a", 6 * MIB)))
            await settled()
            with pytest.raises(ModelDoesNotFit, match="'b' needs about 6 MiB, and 4 MiB are left"):
                await registry.load("b", archive(tmp_path, "b", 6 * MIB))
            fork_server.started[0].ready()
            await first
            fork_server.on_load = load_at_once
            # What is loaded is in the number of what is free, which does not change here.
            await registry.load("b", tmp_path / "b")

    run(test())


def test_a_load_that_fails_leaves_nothing_and_may_be_tried_again(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server, model_dir = Server(on_load=lambda worker: worker.fail("no vocabulary.")), archive(tmp_path, "m")
        async with registry_of(monkeypatch, fork_server, max_loaded_models=1) as registry:
            for _ in range(2):
                with pytest.raises(DeploymentError, match="no vocabulary"):
                    await registry.load("m", model_dir)
                assert not registry.has("m")
                assert registry.pools == {}
            fork_server.on_load = load_at_once
            pool = await registry.load("m", model_dir)
            assert registry.find("m") is pool

    run(test())


@pytest.mark.parametrize("stage", ["packages", "worker"])
def test_unloading_a_model_that_is_loading_ends_the_load_for_all_who_wait(monkeypatch, tmp_path, stage):
    async def test() -> None:
        fork_server = Server(on_load=do_nothing)
        async with registry_of(monkeypatch, fork_server) as registry:
            installing = asyncio.Event()

            async def install(_layers: Any, _model_dir: Path) -> None:
                installing.set()
                if stage == "packages":
                    await asyncio.Event().wait()

            monkeypatch.setattr("tidegate.inference.frontend.packages.layers.Layers.install", install)
            asked = [asyncio.ensure_future(registry.load("m", archive(tmp_path, "m")))]
            asked += [asyncio.ensure_future(registry.load("m", tmp_path / "m"))]
            await installing.wait()
            await settled()
            await registry.unload("m")
            for each in asked:
                with pytest.raises(DeploymentError, match="The model 'm' was stopped while it was loaded"):
                    await each
            assert not fork_server.alive
            with pytest.raises(NotFound):
                await registry.unload("m")

    run(test())


def test_who_leaves_while_a_model_is_unloaded_does_not_stop_it_half_way(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server()
        async with registry_of(monkeypatch, fork_server) as registry:
            await registry.load("m", archive(tmp_path, "m"))
            asked = asyncio.ensure_future(registry.unload("m"))
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.sleep(1)
            assert not fork_server.alive

    run(test())


def test_a_model_of_many_that_cannot_be_kept_up_goes_and_the_others_stay(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server()
        async with registry_of(monkeypatch, fork_server, crash_loop_s=5.0) as registry:
            await registry.load("good", archive(tmp_path, "good"))
            await registry.load("bad", archive(tmp_path, "bad"))
            fork_server.on_load = lambda worker: worker.end(1 << 8)
            fork_server.started[1].end(1 << 8)
            await asyncio.sleep(50)
            assert list(registry.pools) == ["good"]
            assert registry.find("good").healthy

    run(test())


def test_models_start_at_gpus_of_their_own(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server(gpu_count=2)
        async with registry_of(monkeypatch, fork_server) as registry:
            for name in "abc":
                await registry.load(name, archive(tmp_path, name))
            await registry.unload("b")
            await registry.load("d", archive(tmp_path, "d"))
            placed = {
                worker.spec.name: worker.spec.gpu_ids for worker in fork_server.started if worker.spec is not None
            }
            assert placed == {"a": [0], "b": [1], "c": [0], "d": [1]}

    run(test())


def test_models_of_several_gpus_start_at_those_that_the_fewest_others_have(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server(gpu_count=4)
        async with registry_of(monkeypatch, fork_server, gpus_per_worker=2) as registry:
            for name in "abc":
                await registry.load(name, archive(tmp_path, name))
            placed = {
                worker.spec.name: worker.spec.gpu_ids for worker in fork_server.started if worker.spec is not None
            }
            assert placed == {"a": [0, 1], "b": [2, 3], "c": [0, 1]}

    run(test())


def test_what_a_model_holds_of_all_gpus_of_its_workers_counts_against_the_limits(monkeypatch, tmp_path):
    async def test() -> None:
        def load(worker: StandInWorker) -> None:
            worker.write(protocol.ready_frame(may_join=True, has_page=True, gpu_bytes=[300 * MIB, 400 * MIB]))

        monkeypatch.setattr(registry_module, "private_bytes", lambda pids: 50 * MIB * len(pids))
        fork_server = Server(gpu_count=4, on_load=load)
        limits = {"workers": 2, "gpus_per_worker": 2, "max_loaded_bytes": 2000 * MIB}
        async with registry_of(monkeypatch, fork_server, **limits) as registry:
            await registry.load("a", archive(tmp_path, "a"))
            with pytest.raises(ModelDoesNotFit, match="needs about 1500 MiB, and 500 MiB are left"):
                await registry.load("b", archive(tmp_path, "b"))

    run(test())


@pytest.mark.parametrize("many", [False, True])
def test_gpus_that_cannot_be_shared_out_end_the_start_before_anything_is_loaded(monkeypatch, tmp_path, many):
    async def test() -> None:
        fork_server = Server(gpu_count=2)
        async with registry_of(monkeypatch, fork_server, multi_model=many, gpus_per_worker=4) as registry:
            with pytest.raises(DeploymentError, match=r"^TIDEGATE_GPUS_PER_WORKER=4 is more than the 2 GPUs "):
                await (registry.warm_up() if many else registry.load("model", archive(tmp_path, "model")))
            assert not fork_server.started

    run(test())


def revision(version: int, digest: str = "a") -> Revision:
    return Revision(name="m", version=version, digest=digest)


def test_two_revisions_of_a_model_are_side_by_side_until_the_old_one_has_answered_all_that_it_has(
    monkeypatch, tmp_path
):
    async def test() -> None:
        fork_server = Server(on_batch=do_nothing)
        async with registry_of(monkeypatch, fork_server, multi_model=False, model_repository="/models") as registry:
            old = await registry.load_revision(revision(1), archive(tmp_path, "old"), pytest.fail)
            new = await registry.load_revision(revision(2), archive(tmp_path, "new"), pytest.fail)
            assert [worker.spec and worker.spec.version for worker in fork_server.started] == [1, 2]
            assert old.pool is not None
            assert registry.get("m") is new.pool
            asked = [Asked(old.pool, "one"), Asked(old.pool, "two")]
            leaving = asyncio.ensure_future(registry.unload_revision(revision(1), timeout_s=60.0, hurry=True))
            await asyncio.sleep(1)
            assert not leaving.done()
            fork_server.on_batch = answer_at_once
            fork_server.started[0].answer()
            await leaving
            assert [each.outcome for each in asked] == [(200, "one"), (200, "two")]
            assert [worker.alive for worker in fork_server.started] == [False, True]
            assert registry.gauges()["m"].metrics is new.pool.metrics is old.pool.metrics

    run(test())


def test_a_revision_that_does_not_settle_in_time_is_ended(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server = Server(on_batch=do_nothing)
        async with registry_of(monkeypatch, fork_server, multi_model=False, model_repository="/models") as registry:
            model = await registry.load_revision(revision(1), archive(tmp_path, "m"), pytest.fail)
            assert model.pool is not None
            asked = Asked(model.pool, "one")
            await registry.unload_revision(revision(1), timeout_s=3.0, hurry=True)
            assert asked.outcome[0] >= 500
            assert not fork_server.alive
            await registry.unload_revision(revision(1), timeout_s=3.0, hurry=True)

    run(test())


def test_a_revision_that_cannot_be_kept_up_says_so_when_it_has_gone(monkeypatch, tmp_path):
    async def test() -> None:
        fork_server, causes = Server(), list[str]()
        settings: dict[str, Any] = {"multi_model": False, "model_repository": "/models", "crash_loop_s": 5.0}
        async with registry_of(monkeypatch, fork_server, **settings) as registry:
            await registry.load_revision(revision(1), archive(tmp_path, "m"), causes.append)
            fork_server.on_load = lambda worker: worker.end(1 << 8)
            fork_server.started[0].end(1 << 8)
            await asyncio.sleep(50)
            assert len(causes) == 1
            assert "had no worker for 5 s" in causes[0]
            assert not registry.has("m")

    run(test())


@pytest.mark.parametrize("known", [False, True])
def test_models_take_no_more_bytes_together_than_they_may(monkeypatch, tmp_path, known):
    """By their files at first, by what was measured as soon as that is known."""

    async def test() -> None:
        taken = {"a": 4 * MIB, "b": 7 * MIB}
        monkeypatch.setattr(registry_module, "private_bytes", lambda _pids: taken[fork_server.started[-1].spec.name])
        fork_server = Server()
        async with registry_of(monkeypatch, fork_server, max_loaded_bytes=10 * MIB) as registry:
            for name in "ab":
                archive(tmp_path, name, MIB)
            if known:
                await registry.load("b", tmp_path / "b")
                assert registry.find("b")
                await registry.unload("b")
            await registry.load("a", tmp_path / "a")
            started = len(fork_server.started)
            with pytest.raises(ModelDoesNotFit, match="'b' needs about 7 MiB, and 6 MiB are left of the 10 MiB"):
                await registry.load("b", tmp_path / "b")
            assert len(fork_server.started) - started == (0 if known else 1)
            assert len(fork_server.alive) == 1
            assert list(registry.pools) == ["a"]

    run(test())
