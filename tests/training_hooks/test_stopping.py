"""SIGTERM becomes a flag, and only for as long as asked."""

import os
import signal

from training_hooks import stopping_gracefully


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
