"""The same model and the same speech in the real server: over a WebSocket, in a microphone's pieces."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.contract.running import Server, running
from tests.ecosystem.voice.speech import QUIET, TOLERANCE_S, seconds, spoken
from tests.examples.demonstrating import demonstrated
from tests.examples.voice import VOICE, pieces

PIECE_BYTES = 640
"""20 ms."""


@pytest.fixture(scope="module")
def server(archive: Path) -> Iterator[Server]:
    files = {path.relative_to(archive).as_posix(): path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    with running(files) as server:
        yield server


@pytest.fixture(scope="module")
def elephants() -> bytes:
    return spoken("Elephants remember the way to the water.")


def url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/invocations-bidirectional-stream"


def test_speech_is_heard_while_the_client_still_speaks(server: Server, elephants: bytes) -> None:
    """The sentence's first second is sent, and no byte more before its start is told; its end is told unasked."""
    with connect(url(server), open_timeout=60, proxy=None) as connection:

        def send(audio: bytes) -> None:
            for piece in pieces(audio, PIECE_BYTES):
                connection.send(piece)

        def next_event() -> dict[str, Any]:
            event: dict[str, Any] = json.loads(connection.recv(timeout=60))
            return event

        send(QUIET + elephants[: len(QUIET)])
        begin = next_event()
        assert begin["event"] == "speech_start"
        assert begin["at_s"] == pytest.approx(seconds(QUIET), abs=TOLERANCE_S)
        send(elephants[len(QUIET) :] + QUIET)
        end = next_event()
        assert end["event"] == "speech_end"
        assert end["at_s"] == pytest.approx(seconds(QUIET + elephants), abs=TOLERANCE_S)
        connection.send("end")
        assert next_event()["event"] == "audio_end"


def test_two_who_speak_at_once_are_heard_apart(server: Server, elephants: bytes) -> None:
    """Their pieces come to one worker in turn, and one of them says nothing."""
    with (
        connect(url(server), open_timeout=60, proxy=None) as speaking,
        connect(url(server), open_timeout=60, proxy=None) as silent,
    ):
        said = QUIET + elephants + QUIET
        for piece in pieces(said, PIECE_BYTES):
            speaking.send(piece)
            silent.send(bytes(len(piece)))
        speaking.send("end")
        silent.send("end")
        assert [json.loads(each)["event"] for each in speaking] == ["speech_start", "speech_end", "audio_end"]
        assert [json.loads(each)["event"] for each in silent] == ["audio_end"]


def test_the_client_of_the_example_hears_what_a_recording_is_answered(server: Server, elephants: bytes) -> None:
    """listen.py with speech on its standard input, and /invocations with the same bytes."""
    said = QUIET + elephants + QUIET
    command = [sys.executable, str(VOICE / "listen.py"), url(server)]
    done = subprocess.run(command, input=said, capture_output=True, check=True, timeout=300)
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["event"] for each in heard] == ["speech_start", "speech_end", "audio_end"]
    assert heard == server.post(said, "application/octet-stream", accept="application/json").json()


def test_the_demonstration_hears_its_made_up_voice(tmp_path: Path) -> None:
    """Two sentences with their ends, told in their order."""
    said = demonstrated("voice", temporary=tmp_path)
    told = [line.split()[-1] for line in said.splitlines() if line.endswith(("_start", "_end"))]
    assert told == ["speech_start", "speech_end", "speech_start", "speech_end", "audio_end"]
