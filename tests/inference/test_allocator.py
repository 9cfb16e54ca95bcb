"""What a batch has freed, the next one uses again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.inference.toy_models import computation, request
from tests.inference.working import working
from tests.polling import until
from tidegate.inference.protocol import Answer, Done
from tidegate.inference.worker import allocator, intake
from tidegate.inference.worker.allocator import FreedMemory

FAULTS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a huge page would be one fault for 512
from tidegate.inference.worker.allocator import keep_freed_memory

done = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def touch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 << 20)
    ctypes.memset(ctypes.c_void_p(block), 1, 64 << 20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

touch()
print(int(done), touch())
"""


def faults(**environment: str) -> tuple[bool, int]:
    run = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    done, count = run.stdout.split()
    return done == "1", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator's knobs are glibc's")
def test_a_large_block_that_was_freed_is_used_again_without_asking_the_kernel() -> None:
    done, count = faults()
    assert done
    assert count < 100


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator's knobs are glibc's")
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_an_allocator_that_the_deployer_has_set_stays_as_it_is(name: str) -> None:
    done, count = faults(**{name: "131072"})
    assert not done
    assert count > 100


THREADS = """
import threading
from tidegate.inference.worker.allocator import keep_freed_memory

keep_freed_memory()
together = threading.Barrier(32)

def talk():
    together.wait()
    frame = b"x" * (15 << 20)
    together.wait()
    del frame

threads = [threading.Thread(target=talk) for _ in range(32)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator's knobs are glibc's")
def test_threads_that_have_ended_leave_little_of_what_they_freed() -> None:
    """As those of a `stream_fn`: each pool of the allocator would keep 64 MiB for ever, and there would be many."""
    run = subprocess.run([sys.executable, "-c", THREADS], env={}, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 400


GIVEN_BACK = """
import ctypes
from tidegate.inference.worker.allocator import FreedMemory, keep_freed_memory

freed = FreedMemory(kept=keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def resident_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) // 1024

block = libc.malloc(200 << 20)
ctypes.memset(ctypes.c_void_p(block), 1, 200 << 20)
libc.free(block)
kept = resident_mib()
freed.give_back()
print(kept - resident_mib())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator's knobs are glibc's")
def test_what_was_kept_is_given_back_where_nothing_is_to_do() -> None:
    run = subprocess.run([sys.executable, "-c", GIVEN_BACK], env={}, capture_output=True, text=True, check=True)
    assert int(run.stdout) > 100


@dataclass
class Counted(FreedMemory):
    """Counts instead."""

    used: bool = False
    times: int = 0

    def give_back(self) -> None:
        self.times += self.used
        self.used = False


class Asked(list[str]):
    """Counts how often it is asked whether there is something."""

    asked = 0

    def __len__(self) -> int:
        self.asked += 1
        return super().__len__()


@pytest.mark.parametrize("input_threads", [0, 2])
def test_a_worker_gives_memory_back_once_it_has_had_nothing_to_do_for_a_while(
    monkeypatch: pytest.MonkeyPatch, input_threads: int
) -> None:
    """And once only: the wait goes on, and what is kept for the next batch is gone."""
    monkeypatch.setattr(intake, "IDLE_S", 0.02)
    freed = Counted()
    with working(computation(predict_fn=lambda data, _: data), input_threads=input_threads, freed=freed) as frontend:
        for done in (1, 2):
            frontend.compute(request([done], done))
            assert isinstance(frontend.until(Answer), Answer)
            frontend.until(Done)
            until(lambda done=done: freed.times >= done)
    assert freed.times == 2


def test_nothing_is_given_back_while_conversations_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are going to need it again, and the batches between them say nothing of that."""
    monkeypatch.setattr(intake, "IDLE_S", 0.02)
    open_ones = Asked(["conversation"])
    freed = Counted()
    with working(computation(predict_fn=lambda data, _: data), freed=freed, conversations=open_ones) as frontend:
        frontend.ask(1, [1])
        frontend.until(Done)
        asked = open_ones.asked
        until(lambda: open_ones.asked > asked + 2)
        assert freed.times == 0
        open_ones.clear()
        until(lambda: freed.times == 1)


def test_an_allocator_that_is_set_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[None] = []
    monkeypatch.setattr(allocator, "give_back_freed_memory", lambda: given.append(None))
    FreedMemory(kept=False).give_back()
    assert given == []
    freed = FreedMemory(kept=True)
    freed.give_back()
    freed.give_back()
    assert given == [None]
