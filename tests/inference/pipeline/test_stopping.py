"""A consumer that stops early leaves no thread behind (conftest.py looks), and no call is begun any more."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.inference.pipeline.threads import running
from tests.polling import until
from tests.processes import started
from tidegate.pipeline import Pipeline, Results, Stage


def same(value: Any) -> Any:
    return value


PIPELINE = Pipeline(Stage(same, workers=4), Stage(list, batch_size=3), Stage(same, workers=2, timeout_s=60))


def by_break(results: Results) -> None:
    for _ in results:
        break


def by_close(results: Results) -> None:
    next(results)
    results.close()
    assert list(results) == []


def by_with(results: Results) -> None:
    with results:
        next(results)


def by_an_exception(results: Results) -> None:
    with suppress(LookupError):
        for _ in results:
            raise LookupError


def by_forgetting(results: Results) -> None:
    next(results)


def in_a_cycle(results: Results) -> None:
    cycle: dict[str, Any] = {"results": results}
    cycle["cycle"] = cycle
    next(results)


def from_another_thread(results: Results) -> None:
    """While this one may be waiting."""
    timer = threading.Timer(0.01, results.close)
    timer.start()
    for _ in results:
        pass
    timer.join()


@pytest.mark.parametrize(
    "stop",
    [by_break, by_close, by_with, by_an_exception, by_forgetting, in_a_cycle, from_another_thread],
)
def test_however_the_consumer_stops_the_threads_end(stop: Callable[[Results], None]) -> None:
    """With an endless source, so that there would always be more to do."""
    stop(PIPELINE(itertools.count()))
    gc.collect()
    until(lambda: not running())


def test_results_that_nobody_asks_for_start_nothing() -> None:
    """A generator would not have begun either."""
    results = PIPELINE(itertools.count())
    assert not running()
    del results


def test_the_source_is_let_go() -> None:
    """A generator among the sources is closed, whatever it has open with it."""
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    results = PIPELINE(source())
    next(results)
    results.close()
    assert closed.wait(60)


def test_pipelines_on_end_stop_each_other() -> None:
    """The results of one are the source of the next; who drops the last drops all."""
    results = PIPELINE(PIPELINE(PIPELINE(itertools.count())))
    assert next(results) == 0
    del results
    until(lambda: not running())


def test_a_call_under_way_is_not_waited_for() -> None:
    """A thread cannot be stopped; it ends by itself, and what it returns is dropped."""
    entered, released = threading.Event(), threading.Event()

    def hangs(value: int) -> int:
        if value:
            entered.set()
            assert released.wait(60)
        return value

    results = Pipeline(Stage(hangs, workers=2))([0, 1])
    assert next(results) == 0
    assert entered.wait(60)
    results.close()
    until(lambda: len(running()) == 1)
    released.set()


def test_on_error_is_not_asked_after_the_end() -> None:
    """Nobody reads what it would return."""
    entered, released = threading.Event(), threading.Event()
    asked = []

    def fails_late(value: int) -> int:
        if value:
            entered.set()
            assert released.wait(60)
            raise ValueError
        return value

    results = Pipeline(Stage(fails_late, workers=2, on_error=lambda *given: asked.append(given)))([0, 1])
    assert next(results) == 0
    assert entered.wait(60)
    results.close()
    released.set()
    until(lambda: not running())
    assert asked == []


def test_nothing_holds_the_items_when_the_results_are_gone() -> None:
    """Neither a thread nor the pipeline itself."""

    class Thing:
        pass

    things = [Thing() for _ in range(20)]
    references = [weakref.ref(thing) for thing in things]
    results = PIPELINE(iter(things))
    next(results)
    del things, results
    gc.collect()
    until(lambda: all(reference() is None for reference in references))


INTERRUPTED = """
import itertools, threading, time
from tidegate.pipeline import Pipeline, Stage

def slow(value):
    if value == 6:
        print("slow", flush=True)
    if value > 5:
        time.sleep(0.5)
    return value

try:
    for value in Pipeline(Stage(slow, workers=3))(itertools.count()):
        pass
except KeyboardInterrupt:
    while any(thread.name.startswith("pipeline-") for thread in threading.enumerate()):
        time.sleep(0.01)
    print("interrupted, none left", flush=True)
"""


def test_ctrl_c_ends_everything() -> None:
    """The consumer gets KeyboardInterrupt while it waits for a result."""
    # A shell has what it starts in the background ignore SIGINT, and that is inherited.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + INTERRUPTED
    with started([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "slow\n"
        process.send_signal(signal.SIGINT)
        try:
            output = process.communicate(timeout=300)[0]
        finally:
            process.kill()
    assert output.endswith("interrupted, none left\n")
    assert process.returncode == 0


INTERRUPTED_WHILE_THE_LOCK_IS_ELSEWHERE = """
import os, signal, threading, time
from tidegate.pipeline import Pipeline, Stage

answered = threading.Event()
results = Pipeline(Stage(lambda value: value and answered.wait()))(iter([0, 1]))
next(results)
run = results._run

def interrupt():
    while not run._consumer:
        time.sleep(0.001)
    with run._lock:
        run._consumer.ring()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

threading.Thread(target=interrupt).start()
try:
    next(results)
except KeyboardInterrupt:
    answered.set()
    while any(thread.name.startswith("pipeline-") for thread in threading.enumerate()):
        time.sleep(0.01)
    print("interrupted, none left", flush=True)
"""


def test_ctrl_c_while_a_thread_holds_the_lock_ends_everything() -> None:
    """The consumer has been woken and waits for its turn: there, too, the interrupt comes as KeyboardInterrupt."""
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    ended = subprocess.run(
        [sys.executable, "-c", program + INTERRUPTED_WHILE_THE_LOCK_IS_ELSEWHERE],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("interrupted, none left\n", "")


AT_THE_END = """
import itertools, torch
from tidegate.pipeline import Pipeline, Stage

layer, pictures = torch.nn.Conv2d(3, 32, 3), torch.zeros(4, 3, 64, 64)

def compute(value):
    with torch.inference_mode():
        return layer(pictures).sum().item()

for _ in Pipeline(Stage(compute, workers=4))(itertools.count()):
    break
unread = Pipeline(Stage(compute, workers=2))(itertools.count())
next(unread)
"""


def test_a_program_may_end_with_calls_under_way() -> None:
    """A thread that Python ends within torch would take the process with it; one that sleeps would hold it up."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_end_of_the_program_does_not_stumble_over_a_thread_that_ctrl_c_kept_from_its_start() -> None:
    """Those behind it are waited for."""
    program = (
        "from threading import Thread\n"
        + AT_THE_END
        + """
from tidegate.inference.pipeline import at_exit
at_exit.threads.add(Thread())
"""
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_no_ordinary_exception_ends_the_pipeline_at_once(error: BaseException) -> None:
    """`on_error` is not asked, and the consumer gets it."""

    def exits(value: int) -> int:
        raise error

    with pytest.raises(type(error)) as raised:
        list(Pipeline(Stage(exits, workers=2, on_error="null"))(range(100)))
    assert raised.value is error


def test_results_of_another_process_say_so() -> None:
    """After a fork the threads are in the other process; waiting for them, or for a lock of theirs, would never end."""
    results = PIPELINE(itertools.count())
    next(results)
    reader, writer = os.pipe()
    results._run._lock.acquire()  # as a thread may hold it at that moment; in the fork nobody ever gives it back
    child = os.fork()
    if not child:  # pragma: no cover - in the fork
        try:
            next(results)
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    results._run._lock.release()
    os.close(writer)
    try:
        until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    with os.fdopen(reader) as answer:
        assert answer.read().startswith("This call of a pipeline was begun before a fork")


def test_a_pipeline_made_before_a_fork_works_in_it() -> None:
    """As in the workers of a server, which are forks."""
    list(PIPELINE(range(10)))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - in the fork
        try:
            os.write(writer, str(sum(PIPELINE(range(100)))).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        assert answer.read() == "4950"


def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit on processes counts threads."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(PIPELINE([1]))


def test_the_garbage_collector_may_end_a_run_from_within_its_own_threads() -> None:
    """`__del__` runs where an allocation happens to be, also in a thread that holds the run's lock."""
    for _ in range(50):
        results = PIPELINE(itertools.count())
        next(results)
        in_a_cycle(results)
        del results
        for _ in PIPELINE(itertools.islice(itertools.count(), 300)):
            gc.collect(0)
    gc.collect()
    until(lambda: not running())
