"""SIGTERM becomes a flag, and only for as long as asked."""

import multiprocessing
import os
import signal
import time

from tidegate.training_hooks import stopping_gracefully


def test_sigterm_sets_the_flag() -> None:
    """The training loop goes on and can save before the platform's 120 s are over."""
    with stopping_gracefully() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)  # a second one changes nothing
        assert stop.requested


def test_the_earlier_reaction_comes_back() -> None:
    """After the block, and after an exception in it, SIGTERM does what it did before."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with stopping_gracefully():
            raise RuntimeError
    except RuntimeError:
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_processes_that_are_forked_meanwhile_end_by_sigterm() -> None:
    """A pool that is left, or a process that is terminated, at once: neither waits for a child that ignores it."""
    with stopping_gracefully() as stop:
        for _ in range(20):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
            child.start()
            child.terminate()
            child.join()
            assert child.exitcode == -signal.SIGTERM
        for _ in range(5):
            with multiprocessing.get_context("fork").Pool(2):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
