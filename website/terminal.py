"""A session at a terminal as an SVG that plays once: commands are typed, and their output follows.

The session is a real one: each command runs at a terminal of its own (a pty), and what it prints is drawn.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from xml.sax.saxutils import escape

COLUMNS = 100
_LIMIT_S = 300
_CHARACTER_PX, _LINE_PX, _MARGIN_PX, _BAR_PX = 8.43, 19, 18, 34
_TYPING_S, _OUTPUT_S, _PAUSE_S = 0.9, 0.07, 0.9
_COLOURS = {"back": "#12161c", "bar": "#1d232c", "text": "#d7dde5", "prompt": "#3fb68b", "command": "#ffffff"}


@dataclass(frozen=True, slots=True)
class Said:
    """A command, and the lines that it printed."""

    command: str
    lines: tuple[str, ...]


def said(command: str, directory: Path, environment: Mapping[str, str]) -> Said:
    """What `command` prints until it ends. Raises `subprocess.CalledProcessError` where it fails."""
    with _at_a_terminal(command, directory, environment) as (process, output):
        text = _read(output, until=None)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, text)
    return Said(command, _lines(text))


@contextlib.contextmanager
def saying(command: str, directory: Path, environment: Mapping[str, str], until: str) -> Iterator[Said]:
    """What `command` prints until a line matches `until`; it is stopped by SIGTERM at the end of the block."""
    with _at_a_terminal(command, directory, environment) as (process, output):
        try:
            yield Said(command, _lines(_read(output, until=until)))
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def drawn(session: Sequence[Said], title: str, description: str) -> str:
    """The session as SVG. Who asks for less motion sees its end at once."""
    rows: list[str] = []
    at_s, y = 0.3, _BAR_PX + _MARGIN_PX + _LINE_PX * 0.7

    def row(content: str, delay_s: float) -> None:
        nonlocal y
        rows.append(f'<text x="{_MARGIN_PX}" y="{y:.0f}" style="animation-delay:{delay_s:.2f}s">{content}</text>')
        y += _LINE_PX

    for number, each in enumerate(session):
        if number:
            y += _LINE_PX * 0.5
        for place, words in enumerate(_wrapped(each.command)):
            prompt = f'<tspan class="prompt">$ </tspan><tspan class="command">{escape(words)}</tspan>'
            row(prompt if place == 0 else f'<tspan class="command">  {escape(words)}</tspan>', at_s)
        at_s += _TYPING_S
        for line in each.lines:
            for part in _wrapped(line):
                row(escape(part), at_s)
                at_s += _OUTPUT_S
        at_s += _PAUSE_S
    width, height = COLUMNS * _CHARACTER_PX + 2 * _MARGIN_PX, y + _MARGIN_PX - _LINE_PX * 0.5
    dots = "".join(f'<circle cx="{20 + 18 * i}" cy="17" r="5.5" fill="#3a4350"/>' for i in range(3))
    style = (
        "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"fill:{_COLOURS['text']};"
        "white-space:pre;opacity:0;animation:show 0s forwards}@keyframes show{to{opacity:1}}"
        f".prompt{{fill:{_COLOURS['prompt']}}}.command{{fill:{_COLOURS['command']}}}"
        "@media (prefers-reduced-motion:reduce){text{opacity:1;animation:none}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-labelledby="title description">\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(description)}</desc>\n'
        f"<style>{style}</style>\n"
        f'<rect width="100%" height="100%" rx="9" fill="{_COLOURS["back"]}"/>'
        f'<path d="M0 {_BAR_PX}V9a9 9 0 0 1 9-9H{width - 9:.0f}a9 9 0 0 1 9 9V{_BAR_PX}z" '
        f'fill="{_COLOURS["bar"]}"/>{dots}\n' + "\n".join(rows) + "\n</svg>\n"
    )


def _wrapped(line: str) -> list[str]:
    return [line] if len(line) <= COLUMNS else textwrap.wrap(line, COLUMNS, break_on_hyphens=False)


def _lines(text: str) -> tuple[str, ...]:
    plain = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text.replace("\r\n", "\n"))
    return tuple(line.rsplit("\r", 1)[-1].rstrip() for line in plain.rstrip("\n").split("\n"))


@contextlib.contextmanager
def _at_a_terminal(
    command: str, directory: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command],  # noqa: S607
        cwd=directory,
        env={**environment, "TERM": "dumb", "COLUMNS": str(COLUMNS)},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
        process.wait(_LIMIT_S)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        os.close(ours)


def _read(output: int, until: str | None) -> str:
    """Until a line matches `until`, or to the end. Raises `TimeoutError`, and `EOFError` where no line has matched."""
    content, end_s = b"", time.monotonic() + _LIMIT_S
    while time.monotonic() < end_s:
        if not select.select([output], [], [], 1)[0]:
            continue
        try:
            part = os.read(output, 65_536)
        except OSError:  # what Linux says when the other side is closed
            part = b""
        content += part
        text = content.decode(errors="replace")
        if until is not None and (found := re.search(rf"^.*{until}.*\n", text, re.MULTILINE)):
            return text[: found.end()]
        if not part:
            if until is None:
                return text
            raise EOFError(text)
    raise TimeoutError(content.decode(errors="replace"))
