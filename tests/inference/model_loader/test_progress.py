"""How far a download is, for people on a terminal and for logs."""

from __future__ import annotations

import io
import logging

import pytest

from tidegate.inference.model_loader import progress
from tidegate.inference.model_loader.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "_ON_A_TERMINAL_S", 0.0)
    shown = Progress("s3://models/net.pth", 4 << 20)
    shown.at(0)
    shown.at(3 << 20)
    shown.end()
    assert terminal.getvalue() == (
        "\rs3://models/net.pth: 0.0 of 4.0 MiB (0 %)\x1b[K\rs3://models/net.pth: 3.0 of 4.0 MiB (75 %)\x1b[K\n"
    )


def test_a_log_has_a_record_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """And none of a download that is soon done."""
    now_s = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    with caplog.at_level(logging.INFO, "tidegate.model_loader"):
        shown = Progress("net.pth", 4 << 20)
        shown.at(1)
        now_s = 105.0
        shown.at(1 << 20)
        shown.at(2 << 20)
        shown.end()
    assert caplog.messages == ["net.pth: 1.0 of 4.0 MiB (25 %)"]
