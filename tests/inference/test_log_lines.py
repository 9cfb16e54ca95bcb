"""What the server logs: JSON for programs, and lines for people where standard error is a terminal."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from tidegate.inference.log_lines import JsonLines, TerminalLines, readable

PROGRAM = """
import logging
from tidegate.inference import log_lines
log_lines.configure(logging.INFO)
logging.getLogger("tidegate.model").info("worker is ready", extra={"worker_pid": 7, "model": "digits"})
"""


def at_a_terminal() -> str:
    """What `PROGRAM` shows to a person."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True, timeout=120)
        return os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def through_a_pipe() -> str:
    """What a program or a log collector gets of it."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, check=True, timeout=120, text=True
    ).stderr


def shown(message: str, level: int = logging.INFO, **extra: object) -> str:
    """A line without its time."""
    record = logging.LogRecord("tidegate.model", level, __file__, 1, message, None, None)
    record.__dict__.update(extra)
    time, _, rest = TerminalLines().format(record).partition(" ")
    assert len(time) == len("00:00:00")
    return rest


def test_a_pipe_gets_an_object_a_line() -> None:
    (line,) = through_a_pipe().splitlines()
    entry = json.loads(line)
    assert (entry["message"], entry["worker_pid"], entry["model"]) == ("worker is ready", 7, "digits")


def test_a_terminal_gets_a_line_that_people_read() -> None:
    (line,) = at_a_terminal().splitlines()
    assert line.endswith(" worker is ready (worker_pid 7, model digits)")
    assert "{" not in line


def test_a_line_without_more_is_its_sentence() -> None:
    assert shown("ready") == "ready"


def test_a_level_is_named_from_warning_on() -> None:
    assert shown("a queue is full", logging.WARNING) == "warning: a queue is full"
    assert shown("the worker died", logging.ERROR, exitcode=-9) == "error: the worker died (exitcode -9)"


def test_what_is_no_word_is_shown_as_json() -> None:
    assert shown("done", took={"load": 1.5}, names=["ä"], ok=None) == 'done (took {"load": 1.5}, names ["ä"], ok null)'


@pytest.mark.parametrize("inject", [lambda text: {"message": text}, lambda text: {"message": "m", "name_of_it": text}])
def test_no_text_of_others_breaks_a_line_or_steers_the_terminal(inject: Callable[[str], dict[str, str]]) -> None:
    line = shown(**inject("a\nforged \x1b[2J\r\x07 line"))  # type: ignore[arg-type]
    assert line.isprintable()
    assert "forged" in line


def test_a_traceback_follows_on_lines_of_its_own() -> None:
    try:
        raise ValueError("no such class")
    except ValueError:
        record = logging.LogRecord("tidegate", logging.ERROR, __file__, 1, "it failed", None, sys.exc_info())
    first, *rest = TerminalLines().format(record).splitlines()
    assert first.endswith("error: it failed")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: no such class"


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_an_object_of_a_file_is_read_as_a_terminal_has_it(level: int) -> None:
    """But for the time, which is UTC; a traceback is on lines of its own."""
    try:
        raise ValueError("a number is wanted")
    except ValueError:
        raised = sys.exc_info()
    record = logging.LogRecord("tidegate.model", level, __file__, 1, "it failed", None, raised)
    record.__dict__.update({"model": "digits", "rows": [1, 2]})
    line = readable(JsonLines().format(record))
    assert line.partition(" ")[2] == TerminalLines().format(record).partition(" ")[2]
    assert line.splitlines()[-1] == "ValueError: a number is wanted"


@pytest.mark.parametrize("line", ["printed", "", "7", "[]", "{}", '{"time": 5}', '{"time": "noon", "level": "info"}'])
def test_any_other_line_of_a_file_is_left_as_it_is(line: str) -> None:
    assert readable(line) == line
