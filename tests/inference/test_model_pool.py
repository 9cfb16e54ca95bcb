"""A pool of workers whatever its workers and its fork server do: to the second, without a process."""

from __future__ import annotations

import asyncio
import signal
from itertools import pairwise

import pytest

from tests.inference.stand_in_workers import (
    FIRST_PID,
    House,
    StandInForkServer,
    StandInWorker,
    answer_at_once,
    do_nothing,
    house,
    load_at_once,
    outcomes,
    run,
    settled,
)
from tidegate.inference import protocol
from tidegate.inference.errors import DeploymentError, NotReady, Overloaded
from tidegate.inference.frontend.workers.fork_server import ForkServerFailed
from tidegate.inference.frontend.workers.model_health import PING_GRACE_S, State

FOUR_GPUS = {"workers": 4, "gpus": 4}


def gpu_ids(house: House) -> list[list[int]]:
    return [list(worker.spec.gpu_ids) for worker in house.fork_server.started if worker.spec is not None]


# --- slots and devices


@pytest.mark.parametrize(
    ("workers", "gpus", "each", "expected"),
    [
        (4, 4, 1, [[0], [1], [2], [3]]),
        (2, 4, 1, [[0], [1]]),
        (6, 4, 1, [[0], [1], [2], [3], [0], [1]]),
        (3, 0, 1, [[], [], []]),
        (2, 1, 1, [[0], [0]]),
        (2, 4, 2, [[0, 1], [2, 3]]),
        (1, 4, 4, [[0, 1, 2, 3]]),
    ],
)
def test_the_workers_are_spread_over_the_gpus(monkeypatch, workers, gpus, each, expected):
    async def test() -> None:
        async with house(monkeypatch, workers=workers, gpus=gpus, gpus_per_worker=each) as home:
            await home.pool.load()
            await settled()
            assert gpu_ids(home) == expected
            assert len(home.pool.gauges.workers) == workers

    run(test())


@pytest.mark.parametrize("slot", range(4))
def test_a_worker_that_is_replaced_keeps_its_gpu(monkeypatch, slot):
    async def test() -> None:
        async with house(monkeypatch, **FOUR_GPUS) as home:
            await home.pool.load()
            await settled()
            home.fork_server.started[slot].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.pool.gauges.workers) == 4)
            assert gpu_ids(home) == [[0], [1], [2], [3], [slot]]

    run(test())


def test_a_worker_of_several_gpus_that_is_replaced_keeps_them(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch, workers=3, gpus=6, first_gpu=4, gpus_per_worker=2) as home:
            await home.pool.load()
            await settled()
            home.fork_server.started[1].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.pool.gauges.workers) == 3)
            assert gpu_ids(home) == [[4, 5], [0, 1], [2, 3], [0, 1]]

    run(test())


def test_what_a_worker_holds_is_known_for_each_of_its_gpus(monkeypatch):
    """By its number among those of the container, as the worker said it last."""

    async def test() -> None:
        def load(worker: StandInWorker) -> None:
            held = [5, 6] if worker.pid == FIRST_PID else []
            worker.write(protocol.ready_frame(may_join=True, has_page=True, gpu_bytes=held))

        async with house(monkeypatch, StandInForkServer(on_load=load), workers=2, gpus=4, gpus_per_worker=2) as home:
            await home.pool.load()
            await settled()
            first, second = home.fork_server.started
            assert home.pool.gauges.workers == {first.pid: {0: 5, 1: 6}, second.pid: {}}
            second.write(protocol.held_frame(protocol.Held((7, 8))))
            await settled()
            assert home.pool.gauges.workers == {first.pid: {0: 5, 1: 6}, second.pid: {2: 7, 3: 8}}

    run(test())


def test_the_first_worker_checks_the_model_alone_before_the_others_start(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_load=do_nothing)
        async with house(monkeypatch, fork_server, workers=3) as home:
            loading = asyncio.ensure_future(home.pool.load())
            await settled()
            (first,) = fork_server.started
            assert not home.pool.healthy
            with pytest.raises(NotReady):
                home.pool.admit()
            first.ready()
            await loading
            await settled()
            assert [worker.spec.verify for worker in fork_server.started if worker.spec] == [True, False, False]
            assert home.pool.healthy, "one worker that is ready is enough"

    run(test())


# --- a model that does not load


def test_the_sentence_of_a_worker_that_cannot_load_is_the_error_of_the_deployment(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_load=lambda worker: worker.fail("model_fn raised KeyError: 'fc'."))
        async with house(monkeypatch, fork_server, workers=3) as home:
            with pytest.raises(DeploymentError, match=r"^model_fn raised KeyError: 'fc'\.$"):
                await home.pool.load()
            assert len(fork_server.started) == 1

    run(test())


def test_a_worker_that_dies_while_it_loads_is_described_by_its_exit_status(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_load=lambda worker: worker.end(signal.SIGSEGV))
        async with house(monkeypatch, fork_server) as home:
            with pytest.raises(DeploymentError, match="was killed by signal 11"):
                await home.pool.load()

    run(test())


@pytest.mark.parametrize("immortal", [False, True])
def test_a_first_load_that_takes_too_long_is_given_up(monkeypatch, immortal):
    async def test() -> None:
        def hang(worker: StandInWorker) -> None:
            worker.immortal = immortal

        async with house(monkeypatch, StandInForkServer(on_load=hang), load_timeout_s=30.0) as home:
            started_s = asyncio.get_running_loop().time()
            with pytest.raises(DeploymentError, match=r"took longer than 30 s\.$"):
                await home.pool.load()
            assert asyncio.get_running_loop().time() - started_s == pytest.approx(30.0, abs=0.01)
            assert len(home.fork_server.killed) == 1

    run(test())


@pytest.mark.parametrize("error", [ForkServerFailed("it is gone"), OSError(24, "Too many open files")])
def test_a_fork_server_that_fails_at_the_first_start_is_the_error_of_the_deployment(monkeypatch, error):
    async def test() -> None:
        async with house(monkeypatch, StandInForkServer(refusals=[error])) as home:
            with pytest.raises(DeploymentError, match="The workers cannot be started: "):
                await home.pool.load()

    run(test())


# --- starting again


def delays_s(fork_server: StandInForkServer) -> list[float]:
    return [later - earlier for earlier, later in pairwise(fork_server.started_s)]


def test_a_worker_that_does_not_come_up_is_tried_again_after_delays_that_double_to_ten_seconds(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch) as home:
            await home.pool.load()
            home.fork_server.on_load = lambda worker: worker.end(1 << 8)
            home.fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.fork_server.started) == 11)
            expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
            assert delays_s(home.fork_server) == pytest.approx(expected, abs=0.01)

    run(test())


@pytest.mark.parametrize("error", [ForkServerFailed("it is gone"), OSError(24, "Too many open files")])
def test_a_fork_server_that_fails_is_asked_again_until_the_slot_is_filled(monkeypatch, error):
    """Else a moment without file descriptors would cost a worker for the rest of the server's life."""

    async def test() -> None:
        async with house(monkeypatch, workers=2, gpus=2) as home:
            await home.pool.load()
            await settled()
            home.fork_server.refusals = [error, error, error]
            home.fork_server.started[1].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.pool.gauges.workers) == 2)
            assert gpu_ids(home) == [[0], [1], [1]]
            assert delays_s(home.fork_server)[1:] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.01)

    run(test())


def test_a_worker_that_worked_is_replaced_without_delay_and_the_back_off_starts_anew(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch) as home:
            await home.pool.load()
            home.fork_server.on_load = lambda worker: worker.end(1 << 8)
            home.fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.fork_server.started) == 6)
            home.fork_server.on_load = load_at_once
            assert await outcomes(home.ask("a")) == [(200, "a")]
            home.fork_server.on_batch = lambda worker: worker.end(signal.SIGKILL)
            before = len(home.fork_server.started)
            asked_s = asyncio.get_running_loop().time()
            assert await outcomes(home.ask("b")) == [(500, "worker_died")]
            await settled()
            assert len(home.fork_server.started) == before + 2, "it died twice, and each time another one was started"
            assert asyncio.get_running_loop().time() - asked_s == pytest.approx(0.0, abs=0.01)
            home.fork_server.started[-1].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.fork_server.started) == before + 3)
            assert delays_s(home.fork_server)[-1] == pytest.approx(0.1, abs=0.01)

    run(test())


# --- a crash loop


def test_a_crash_loop_is_unhealthy_after_the_grace_and_given_up_with_its_cause_after_the_limit(monkeypatch):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with house(monkeypatch, crash_loop_s=60.0) as home:
            await home.pool.load()
            home.fork_server.on_load = lambda worker: worker.fail("model_fn raised OSError: no space left.")
            home.fork_server.started[0].end(signal.SIGKILL)
            await settled()
            down_s = loop.time()
            assert home.pool.healthy, "a restart is not a fault"
            await home.passes_until(lambda: not home.pool.healthy)
            assert loop.time() - down_s == pytest.approx(PING_GRACE_S, abs=0.01)
            await home.passes_until(lambda: home.gave_up)
            assert loop.time() - down_s == pytest.approx(60.0, abs=0.01)
            assert home.gave_up == ["the model 'toy' had no worker for 60 s: model_fn raised OSError: no space left."]
            assert home.pool.state is State.FAILED
            with pytest.raises(NotReady):
                home.pool.admit()
            await asyncio.sleep(1000.0)
            assert len(home.gave_up) == 1, "it is said once"

    run(test())


def test_the_cause_of_a_crash_loop_is_the_exit_status_where_no_worker_gave_a_reason(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch, crash_loop_s=20.0) as home:
            await home.pool.load()
            home.fork_server.on_load = lambda worker: worker.end(9 << 8)
            home.fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(lambda: home.gave_up)
            last = home.fork_server.started[-1]
            assert home.gave_up[0].endswith(f"worker {last.pid} exited with status 9")

    run(test())


def test_requests_that_wait_while_no_worker_comes_up_are_answered_within_the_time_limit(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch, max_queue_wait_s=5.0) as home:
            await home.pool.load()
            home.fork_server.on_load = do_nothing
            home.fork_server.started[0].end(signal.SIGKILL)
            await settled()
            asked = home.ask("a", "b")
            await home.passes_until(lambda: all(each.done() for each in asked), within_s=6.0)
            assert await outcomes(asked) == [(503, "overloaded")] * 2

    run(test())


def test_a_model_that_comes_back_in_time_is_healthy_and_answers(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch, crash_loop_s=60.0) as home:
            await home.pool.load()
            home.fork_server.on_load = lambda worker: worker.end(1 << 8)
            home.fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(lambda: not home.pool.healthy)
            home.fork_server.on_load = load_at_once
            await home.passes_until(lambda: home.pool.healthy)
            assert await outcomes(home.ask("a")) == [(200, "a")]
            await asyncio.sleep(150.0)
            assert home.gave_up == []

    run(test())


# --- workers that hang


def hang_on(body: str):
    def on_batch(worker: StandInWorker) -> None:
        if any(bytes(item.body) == body.encode() for item in worker.batches[-1]):
            worker.immortal = True  # as a process that waits for a device: SIGKILL is noted and nothing happens
        else:
            worker.answer()

    return on_batch


@pytest.mark.parametrize(("size", "begun"), [(1, True), (1, False), (5_000_000, False)])
def test_a_worker_that_hangs_is_replaced_even_when_it_cannot_be_killed(monkeypatch, size, begun):
    """Nor read: a large request may still be on its way to it. What it has not begun is answered by its successor."""

    async def test() -> None:
        async with house(monkeypatch, timeout_s=5.0, gpus=1) as home:
            await home.pool.load()
            (first,) = home.fork_server.started
            first.immortal = True
            assert first.transport is not None
            first.transport.pause_reading()
            asked_s = asyncio.get_running_loop().time()
            hung = home.ask("x" * size)
            await settled()
            if begun:
                first.begin(1)
            assert await outcomes(hung) == [(504, "handler_timed_out") if begun else (200, "x" * size)]
            assert asyncio.get_running_loop().time() - asked_s == pytest.approx(5.0, abs=0.01)
            assert home.fork_server.killed == [first.pid]
            assert await outcomes(home.ask("next")) == [(200, "next")]
            assert gpu_ids(home)[-1] == [0]
            assert home.pool.metrics.worker_restarts == 1

    run(test())


def test_a_replacement_that_hangs_while_it_loads_is_replaced_even_when_it_cannot_be_killed(monkeypatch):
    async def test() -> None:
        def hang(worker: StandInWorker) -> None:
            worker.immortal = True

        async with house(monkeypatch, load_timeout_s=8.0) as home:
            await home.pool.load()
            home.fork_server.on_load = hang
            home.fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(lambda: len(home.fork_server.started) == 2)
            home.fork_server.on_load = load_at_once
            await home.passes_until(lambda: len(home.pool.gauges.workers) == 1, within_s=12.0)
            assert home.fork_server.killed == [home.fork_server.started[1].pid]
            assert await outcomes(home.ask("a")) == [(200, "a")]

    run(test())


def test_who_shared_a_batch_with_a_request_that_hangs_is_answered_and_only_the_culprit_gets_504(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=hang_on("bad"))
        async with house(monkeypatch, fork_server, max_batch_size=4) as home:
            await home.pool.load()
            found = await outcomes(home.ask("a", "b", "bad", "c"))
            assert found == [(200, "a"), (200, "b"), (504, "handler_timed_out"), (200, "c")]
            assert fork_server.started[0].bodies == [["a", "b", "bad", "c"]]
            tried_alone = [batch for worker in fork_server.started[1:] for batch in worker.bodies]
            assert tried_alone == [["a"], ["b"], ["bad"], ["c"]]
            assert home.pool.metrics.retries == 4

    run(test())


def test_that_all_workers_hang_is_unhealthy_at_once_and_over_when_one_is_back(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch, StandInForkServer(on_batch=do_nothing), workers=2, timeout_s=5.0) as home:
            await home.pool.load()
            await settled()
            home.fork_server.on_load = do_nothing
            assert await outcomes(home.ask("a", "b")) == [(504, "handler_timed_out")] * 2
            assert not home.pool.healthy
            await settled()
            home.fork_server.started[-1].ready()
            await settled()
            assert home.pool.healthy

    run(test())


# --- workers that die


def die_on(body: str):
    def on_batch(worker: StandInWorker) -> None:
        if any(bytes(item.body) == body.encode() for item in worker.batches[-1]):
            worker.end(signal.SIGKILL)
        else:
            worker.answer()

    return on_batch


def test_who_shared_a_batch_with_a_request_that_kills_is_answered_and_the_killer_gets_500(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=die_on("bad"))
        async with house(monkeypatch, fork_server, max_batch_size=3) as home:
            await home.pool.load()
            assert await outcomes(home.ask("a", "bad", "b")) == [(200, "a"), (500, "worker_died"), (200, "b")]
            alone = [batch for worker in fork_server.started[1:] for batch in worker.bodies]
            assert sorted(alone) == [["a"], ["b"], ["bad"], ["bad"]], "the killer is alone at two deaths"

    run(test())


def test_without_retry_a_lost_batch_is_lost_and_nothing_is_executed_twice(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=die_on("bad"))
        async with house(monkeypatch, fork_server, max_batch_size=3, retry=False) as home:
            await home.pool.load()
            assert await outcomes(home.ask("a", "bad", "b")) == [(500, "worker_died")] * 3
            assert await outcomes(home.ask("c")) == [(200, "c")]
            assert [batch for worker in fork_server.started for batch in worker.bodies] == [["a", "bad", "b"], ["c"]]

    run(test())


def test_what_was_answered_before_the_death_is_not_tried_again(monkeypatch):
    async def test() -> None:
        def answer_one_and_die(worker: StandInWorker) -> None:
            fork_server.on_batch = answer_at_once
            items = worker.batches[-1]
            worker.batches[-1] = items[:1]
            worker.answer()
            worker.batches[-1] = items
            asyncio.get_running_loop().call_soon(worker.end, signal.SIGKILL)

        fork_server = StandInForkServer(on_batch=answer_one_and_die)
        async with house(monkeypatch, fork_server, max_batch_size=2) as home:
            await home.pool.load()
            assert await outcomes(home.ask("a", "b")) == [(200, "a"), (200, "b")]
            assert [batch for worker in fork_server.started for batch in worker.bodies] == [["a", "b"], ["b"]]

    run(test())


def test_a_worker_that_exited_is_replaced_even_when_its_socket_stays_open(monkeypatch):
    """A process that user code forked holds the socket too: its close never comes."""

    async def test() -> None:
        async with house(monkeypatch, StandInForkServer(on_batch=do_nothing), timeout_s=60.0) as home:
            await home.pool.load()
            (asked,) = home.ask("a")
            await settled()
            home.fork_server.on_batch = answer_at_once
            home.fork_server.started[0].ended(signal.SIGKILL)  # reported by its parent; the socket is as it was
            await home.passes_until(asked.done, within_s=5.0)
            assert await outcomes([asked]) == [(200, "a")]
            assert len(home.fork_server.started) == 2

    run(test())


def test_an_answer_that_is_on_its_way_when_the_exit_is_reported_is_not_lost(monkeypatch):
    """The fork server's word may overtake what the worker wrote before it ended."""

    async def test() -> None:
        async with house(monkeypatch, StandInForkServer(on_batch=do_nothing), retry=False) as home:
            await home.pool.load()
            asked = home.ask("a")
            await settled()
            (worker,) = home.fork_server.started
            worker.ended(0)
            worker.answer()
            worker.end(0)
            assert await outcomes(asked) == [(200, "a")]

    run(test())


def test_a_worker_that_closed_its_socket_but_lives_on_is_ended(monkeypatch):
    """User code may close every descriptor that it finds, as daemons do; its process must not linger."""

    async def test() -> None:
        async with house(monkeypatch, StandInForkServer(on_batch=do_nothing)) as home:
            await home.pool.load()
            (first,) = home.fork_server.started
            assert first.transport is not None
            first.fork_server.pool, pool = None, home.pool  # its exit is not reported, because it does not exit
            first.transport.abort()
            await settled()
            first.fork_server.pool, first.alive = pool, True
            await home.passes_until(lambda: home.fork_server.killed == [first.pid], within_s=10.0)

    run(test())


# --- the queue


def test_what_waits_is_shared_evenly_among_the_idle_workers(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, workers=2, max_batch_size=8) as home:
            await home.pool.load()
            await settled()
            first = home.ask("hold") + home.ask("hold")
            await settled()
            eight = home.ask(*"abcdefgh")
            await settled()
            fork_server.on_batch = answer_at_once
            for worker in fork_server.started:
                worker.answer()
            assert await outcomes([*first, *eight]) == [(200, "hold")] * 2 + [(200, letter) for letter in "abcdefgh"]
            assert [worker.bodies for worker in fork_server.started] == [
                [["hold"], list("efgh")],
                [["hold"], list("abcd")],
            ]

    run(test())


def test_who_left_while_waiting_never_reaches_a_worker(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server) as home:
            await home.pool.load()
            asked = home.ask("a", "b", "c")
            await settled()
            asked[1].leave()
            await settled()
            fork_server.on_batch = answer_at_once
            fork_server.started[0].answer()
            assert await outcomes([asked[0], asked[2]]) == [(200, "a"), (200, "c")]
            assert fork_server.started[0].bodies == [["a"], ["c"]]

    run(test())


def test_who_left_while_being_computed_is_not_tried_again_when_the_worker_dies(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, max_batch_size=2) as home:
            await home.pool.load()
            asked = home.ask("a", "b")
            await settled()
            asked[0].leave()
            await settled()
            fork_server.on_batch = answer_at_once
            fork_server.started[0].end(signal.SIGKILL)
            assert await outcomes(asked[1:]) == [(200, "b")]
            assert [batch for worker in fork_server.started for batch in worker.bodies] == [["a", "b"], ["b"]]

    run(test())


def test_a_retried_request_in_front_does_not_hide_from_the_sweep_what_waited_too_long_behind_it(monkeypatch):
    """The wait of a request that is tried again counts anew; that of those behind it does not."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, timeout_s=10.0, max_queue_wait_s=10.0, crash_loop_s=100.0) as home:
            await home.pool.load()
            computing = home.ask("a")
            await settled()
            waiting = home.ask("b")
            asked_s = loop.time()
            await asyncio.sleep(6.0)
            fork_server.on_load = do_nothing
            fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(waiting[0].done)
            assert loop.time() - asked_s == pytest.approx(10.0, abs=0.01)
            assert await outcomes(waiting) == [(503, "overloaded")]
            assert await outcomes(computing) == [(503, "overloaded")]
            assert loop.time() - asked_s == pytest.approx(16.0, abs=0.01)

    run(test())


def test_what_has_no_place_is_rejected_and_counted(monkeypatch):
    async def test() -> None:
        async with house(monkeypatch, StandInForkServer(on_batch=do_nothing), queue_size=2) as home:
            await home.pool.load()
            asked = home.ask("computing")
            await settled()
            asked += home.ask("waiting", "waiting")
            await settled()
            for ask in (home.pool.admit, lambda: home.ask("one too many")):
                with pytest.raises(Overloaded, match="its queue of 2 is full"):
                    ask()
            assert home.pool.metrics.shed == {"queue_full": 2}
        assert await outcomes(asked) == [(503, "not_ready")] * 3

    run(test())


def test_a_wait_that_would_be_longer_than_the_time_limit_is_refused(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(
            on_batch=lambda w: asyncio.get_running_loop().call_later(4.0, w.answer) and None
        )
        async with house(monkeypatch, fork_server, max_queue_wait_s=5.0) as home:
            await home.pool.load()
            for _ in range(30):
                await outcomes(home.ask("a"))
            home.pool.admit()
            asked = home.ask("a", "b", "c")
            await settled()
            with pytest.raises(Overloaded, match="the wait would be longer than 5 s"):
                home.pool.admit()
        assert await outcomes(asked) == [(503, "not_ready")] * 3

    run(test())


# --- the end


def test_closing_answers_everything_and_starts_nothing_more(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, workers=2, max_batch_size=2) as home:
            await home.pool.load()
            await settled()
            asked = home.ask(*"abcdefgh")
            await settled()
            assert sum(len(worker.batches) for worker in fork_server.started) == 2
            home.pool.close()
            assert await outcomes(asked) == [(503, "not_ready")] * 8
            await asyncio.sleep(100.0)
            assert len(fork_server.started) == 2
            assert fork_server.alive == []
            with pytest.raises(NotReady):
                home.pool.admit()

    run(test())


def test_closing_lets_idle_workers_leave_and_kills_the_busy_ones(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, workers=2) as home:
            await home.pool.load()
            await settled()
            asked = home.ask("a")
            await settled()
            (busy,) = [worker for worker in fork_server.started if worker.batches]
            home.pool.close()
            await outcomes(asked)
            await settled()
            assert fork_server.killed == [busy.pid]
            assert fork_server.alive == []

    run(test())


def test_closing_while_a_successor_is_being_started_leaves_no_worker(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, workers=2) as home:
            await home.pool.load()
            await settled()
            fork_server.on_load = do_nothing
            fork_server.started[0].end(signal.SIGKILL)
            await home.passes_until(lambda: len(fork_server.started) == 3)
            home.pool.close()
            await settled()
            await asyncio.sleep(100.0)
            assert fork_server.alive == []
            assert len(fork_server.started) == 3

    run(test())


def test_a_batch_lost_by_a_model_that_was_given_up_is_answered(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server, workers=2, timeout_s=1000.0, crash_loop_s=1.0) as home:
            await home.pool.load()
            await settled()
            (busy,) = home.ask("a")
            await settled()
            (computing,) = [worker for worker in fork_server.started if worker.batches]
            fork_server.on_load = lambda worker: worker.end(1 << 8)
            (idle,) = [worker for worker in fork_server.started if not worker.batches]
            idle.end(signal.SIGKILL)
            await home.passes_until(lambda: home.gave_up)
            assert "finished nothing in between" in home.gave_up[0]
            computing.end(signal.SIGKILL)
            assert await outcomes([busy]) == [(503, "not_ready")]

    run(test())
