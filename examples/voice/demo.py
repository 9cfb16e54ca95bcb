"""Serve the speech detector, speak to it over a WebSocket, and see the events come while the audio is being sent.

make example NAME=voice                     (or: python -m examples voice)
"""

import json
import sys
import threading

from websockets.sync.client import ClientConnection, connect

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.voice.made_up_voice import RATE_HZ, speech

SENTENCES_S = [1.5, 2.0]
PIECE_BYTES = 640  # 20 ms, as a microphone sends them


def main() -> int:
    """Run the demonstration; return the exit status."""
    parser = arguments("voice", __doc__ or "")
    parser.add_argument("--wheel", help="of silero-vad; fetched by pip if omitted")
    return run(demonstrate, parser, steps=4)


def demonstrate(show: Demonstration) -> None:
    """From the archive to the events."""
    with show.step("Make the archive: examples/voice/make_archive.py"):
        given = ["--wheel", show.options.wheel] if show.options.wheel else []
        show.python("make", "examples/voice/make_archive.py", "--model-dir", str(show.model_dir), *given, echo="")
    with show.step("Check: tidegate check"):
        show.check(show.model_dir)
    audio = speech(SENTENCES_S, pause_s=1.0)
    with (
        show.serving(show.model_dir) as server,
        show.step(f"Speak for {len(audio) / 2 / RATE_HZ:.1f} s: {len(SENTENCES_S)} sentences of a made-up voice"),
        connect(f"ws://127.0.0.1:{server.port}/invocations-bidirectional-stream", proxy=None) as connection,
    ):
        sender = threading.Thread(target=send, args=(connection, audio), daemon=True)
        sender.start()  # apart from the loop below, because events come while audio is still being sent
        heard = []
        for message in connection:
            heard.append(json.loads(message))
            show.say(f"{heard[-1]['at_s']:6.2f} s  {heard[-1]['event']}")
        sender.join()
        starts = sum(event["event"] == "speech_start" for event in heard)
        if starts != len(SENTENCES_S):
            raise DemoFailed(f"{len(SENTENCES_S)} sentences were spoken, and {starts} were heard.")


def send(connection: ClientConnection, audio: bytes) -> None:
    """Send the audio in pieces, and say when it ends."""
    for begin in range(0, len(audio), PIECE_BYTES):
        connection.send(audio[begin : begin + PIECE_BYTES])
    connection.send("end")


if __name__ == "__main__":
    sys.exit(main())
