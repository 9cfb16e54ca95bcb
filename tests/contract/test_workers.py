"""Whatever user code does to its process, every request gets exactly one answer and the server goes on."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.contract.models import OBEDIENT
from tests.contract.running import Reply, Server, running


@pytest.fixture
def server():
    with running({"code/inference.py": OBEDIENT}) as server:
        yield server


@pytest.fixture(scope="module")
def lasting():
    with running({"code/inference.py": OBEDIENT}) as server:
        yield server


@pytest.fixture
def shared(lasting: Server):
    """One server for those who leave its processes as they are: it knows nothing of what the others have asked."""
    processes = [each.pid for each in lasting.workers()]
    yield lasting
    assert [each.pid for each in lasting.workers()] == processes
    for name in ("calls", "release", "child", "orphan"):
        (lasting.model_dir / name).unlink(missing_ok=True)


def order(server: Server, **what: object) -> Reply:
    return server.post(json.dumps(what))


def calls(server: Server) -> list[str]:
    return (server.model_dir / "calls").read_text().splitlines()


def test_a_killed_worker_is_replaced_and_its_request_is_answered_by_the_successor(server: Server):
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(order, server, wait_for="release")
        server.wait_until((server.model_dir / "calls").exists, "the request is being computed")
        (victim,) = server.workers()
        victim.kill()
        server.wait_until(lambda: len(calls(server)) == 2, "the successor computes it again")
        (server.model_dir / "release").touch()
        reply = pending.result(timeout=60)
    assert reply.status == 200
    assert reply.json()["pid"] != victim.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_request_whose_worker_died_once_is_answered_all_the_same(server: Server, number):
    assert order(server, die=number, unless="died-before").status == 200
    assert server.ping() == 200


@pytest.mark.parametrize("deed", [{"die": signal.SIGKILL}, {"segfault": 1}])
def test_a_request_that_kills_two_workers_alone_gets_500_and_the_next_one_200(server: Server, deed):
    reply = order(server, **deed)
    assert (reply.status, reply.error["code"]) == (500, "worker_died")
    assert len(calls(server)) == 2
    assert order(server, fine=1).status == 200


def test_without_retry_a_request_is_executed_at_most_once():
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_RETRY="off") as server:
        assert order(server, die=signal.SIGKILL).status == 500
        assert len(calls(server)) == 1


def test_a_request_that_hangs_gets_504_once_and_its_worker_is_replaced():
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_TIMEOUT_S="3") as server:
        (before,) = server.workers()
        reply = order(server, spin=1)
        assert (reply.status, reply.error["code"]) == (504, "handler_timed_out")
        assert len(calls(server)) == 1
        assert order(server, fine=1).json()["pid"] != before.pid


def test_ping_answers_while_user_code_holds_the_interpreter(shared: Server):
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(order, shared, wait_for="release")
        shared.wait_until((shared.model_dir / "calls").exists, "the request is being computed")
        assert [shared.ping() for _ in range(20)] == [200] * 20
        (shared.model_dir / "release").touch()
        assert pending.result(timeout=60).status == 200


@pytest.mark.parametrize("deed", [{"raise": "inside"}, {"exit": 4}, {"interrupt": 1}, {"cancel": 1}])
def test_an_exception_of_whatever_kind_costs_its_request_and_no_worker(shared: Server, deed):
    (before,) = shared.workers()
    assert order(shared, **deed).status == 500
    assert order(shared, fine=1).json()["pid"] == before.pid


def test_a_fork_that_comes_back_from_user_code_does_not_answer_too(shared: Server):
    (before,) = shared.workers()
    assert [order(shared, fork=1).status for _ in range(3)] == [200] * 3
    assert order(shared, fine=1).json()["pid"] == before.pid


@pytest.mark.parametrize("end", ["death", "hang", "drain"])
def test_what_user_code_started_ends_with_its_worker(end: str):
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_TIMEOUT_S="3") as server:
        assert order(server, start=1).status == 200
        child = psutil.Process(int((server.model_dir / "child").read_text()))
        if end == "death":
            server.workers()[0].kill()
        elif end == "hang":
            assert order(server, spin=1).status == 504
        else:
            assert server.terminate() == 0
        server.wait_until(lambda: not _runs(child), "the child is gone too")


def test_a_process_whose_parent_ended_first_is_waited_for_and_stays_no_zombie(shared: Server):
    (parent,) = _children(shared)
    assert order(shared, orphan=1).status == 200
    orphan = psutil.Process(int((shared.model_dir / "orphan").read_text()))
    assert orphan.ppid() == parent.pid
    (shared.model_dir / "release").touch()
    shared.wait_until(lambda: not psutil.pid_exists(orphan.pid), "it is gone altogether")
    assert order(shared, fine=1).status == 200


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_parents_own_death_costs_nothing_but_a_new_parent(server: Server):
    (parent,) = _children(server)
    (worker,) = server.workers()
    os.kill(parent.pid, signal.SIGKILL)
    server.wait_until(lambda: [p.pid for p in _children(server)] not in ([], [parent.pid]), "a new parent is there")
    assert order(server, fine=1).json()["pid"] == worker.pid
    worker.kill()
    server.wait_until(lambda: order(server, fine=1).status == 200, "a fork of the new parent answers")
    assert server.workers()[0].pid != worker.pid


def _children(server: Server):
    return psutil.Process(server.process.pid).children()


CRASHES_LATER = """
import os
from pathlib import Path

def model_fn(model_dir):
    if (Path(model_dir) / "broken").exists():
        os._exit(9)

def predict_fn(data, model):
    os._exit(7)
"""


def test_a_crash_loop_turns_ping_to_503_and_ends_the_process_with_the_cause():
    with running({"code/inference.py": CRASHES_LATER}, TIDEGATE_CRASH_LOOP_S="1.5") as server:
        (server.model_dir / "broken").touch()
        (worker,) = server.workers()
        worker.kill()
        assert server.ended() == 1
        assert server.log().strip().splitlines()[-1] == (
            "tidegate: error: The server gives up: the model 'model' had no worker for 1.5 s: "
            + server.log().rpartition("had no worker for 1.5 s: ")[2].strip()
        )
        assert "exited with status 9" in server.log().strip().splitlines()[-1]


def test_several_workers_share_the_work_and_each_function_of_a_request_runs_in_one_process():
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_WORKERS="2") as server:
        server.wait_until(
            lambda: len(server.workers()) == 2 and server.log().count("worker is ready") == 2, "two are up"
        )
        with ThreadPoolExecutor(2) as pool:
            pending = [pool.submit(order, server, wait_for="release") for _ in range(2)]
            server.wait_until(lambda: (server.model_dir / "calls").exists() and len(calls(server)) == 2, "both compute")
            (server.model_dir / "release").touch()
            pids = {reply.result(timeout=60).json()["pid"] for reply in pending}
        assert pids == {worker.pid for worker in server.workers()}


def test_a_client_who_left_while_waiting_never_reaches_a_worker(shared: Server):
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(order, shared, wait_for="release")
        shared.wait_until((shared.model_dir / "calls").exists, "the worker is busy")
        leaver = shared.socket()
        port = leaver.getsockname()[1]
        leaver.sendall(b'POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\n\r\n{"leaver": 66}')
        shared.wait_until(lambda: port in _peers(shared), "the leaver is connected")
        leaver.close()
        shared.wait_until(lambda: port not in _peers(shared), "the server has let the leaver go")
        (shared.model_dir / "release").touch()
        assert pending.result(timeout=60).status == 200
    assert order(shared, fine=1).status == 200
    assert not any("leaver" in call for call in calls(shared))


def _peers(server: Server) -> set[int]:
    """The ports of the clients that the server holds a connection with."""
    return {c.raddr.port for c in psutil.Process(server.process.pid).net_connections() if c.raddr}


def test_a_model_that_only_ever_dies_of_its_requests_turns_ping_to_503_and_ends_the_process():
    with running({"code/inference.py": CRASHES_LATER}, TIDEGATE_CRASH_LOOP_S="5") as server:
        for _ in range(5):
            assert server.post(b"[1]").status == 500
        assert server.ping() == 503, "for half of that time before the end"
        assert server.ended() == 1
        last = server.log().strip().splitlines()[-1]
        assert "lost 10 workers in more than 5 s and finished nothing in between" in last
        assert "exited with status 7" in last
