"""The archive of examples/voice, with its toy, in the real server: over a WebSocket, and as a whole recording."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.contract.running import Server, running
from tests.examples.voice import THEIR_EVENTS, TWO_SENTENCES, VOICE, WINDOW_S, make_archive, pieces

EVENTS = [event for event, _ in THEIR_EVENTS]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    archive = make_archive(tmp_path_factory.mktemp("voice"))
    files = {path.relative_to(archive).as_posix(): path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    with running(files) as server:
        yield server


def url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/invocations-bidirectional-stream"


def open_stream(server: Server) -> ClientConnection:
    return connect(url(server), open_timeout=60, proxy=None)


def next_event(connection: ClientConnection) -> dict[str, Any]:
    return json.loads(connection.recv(timeout=60))


def test_the_start_of_speech_is_told_before_the_client_sends_more(server: Server) -> None:
    """Ten quiet windows and a loud one are sent, and no byte more until the event has come."""
    with open_stream(server) as connection:
        connection.send(TWO_SENTENCES[: 11 * 1024])
        assert next_event(connection) == {"event": "speech_start", "at_s": 10 * WINDOW_S}
        for piece in pieces(TWO_SENTENCES[11 * 1024 :], 640):
            connection.send(piece)
        assert [next_event(connection)["event"] for _ in range(3)] == EVENTS[1:4]
        connection.send("end")
        assert next_event(connection)["event"] == "audio_end"
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=60)
        assert closed.value.rcvd.code == 1000


def test_several_connections_hear_their_own_audio(server: Server) -> None:
    """One worker, three clients in turns."""
    sounds = [TWO_SENTENCES, bytes(len(TWO_SENTENCES)), TWO_SENTENCES]
    heard = []
    with ExitStack() as stack:
        connections = [stack.enter_context(open_stream(server)) for _ in sounds]
        for parts in zip(*(pieces(sound, 4096) for sound in sounds), strict=True):
            for connection, part in zip(connections, parts, strict=True):
                connection.send(part)
        for connection in connections:
            connection.send("end")
            heard.append([json.loads(message)["event"] for message in connection])
    assert heard == [EVENTS, ["audio_end"], EVENTS]


def test_text_is_answered_with_the_models_error(server: Server) -> None:
    """As the text frame that the platform has for it, and with the connection's end."""
    with open_stream(server) as connection:
        connection.send("hello")
        assert "ModelStreamError" in next_event(connection)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=60)
        assert closed.value.rcvd.code != 1000


def test_the_client_of_the_example_prints_what_it_hears(server: Server) -> None:
    """listen.py, with audio on its standard input."""
    command = [sys.executable, str(VOICE / "listen.py"), url(server)]
    done = subprocess.run(command, input=TWO_SENTENCES, capture_output=True, check=True, timeout=300)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == EVENTS


def test_a_recording_is_answered_with_the_same_events(server: Server) -> None:
    """Through /invocations, as lines and as one list."""
    lines = server.post(TWO_SENTENCES, "application/octet-stream", accept="application/jsonlines")
    whole = server.post(TWO_SENTENCES, "application/octet-stream", accept="application/json")
    assert [json.loads(line) for line in lines.body.splitlines()] == whole.json()
    assert [(each["event"], round(each["at_s"] / WINDOW_S)) for each in whole.json()] == THEIR_EVENTS
