"""Send audio from standard input to the speech detector, and print its events as they come.

    arecord -q -t raw -f S16_LE -r 16000 -c 1 | python examples/voice/listen.py

It wants 16-bit little-endian mono samples at 16 kHz, without a header.
"""

import argparse
import sys
import threading

from websockets.sync.client import ClientConnection, connect

PIECE_BYTES = 640  # 20 ms


def main() -> None:
    """Talk to the server until the audio ends or the server closes the connection."""
    parser = argparse.ArgumentParser(description="Print when somebody speaks.")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8080/invocations-bidirectional-stream")
    with connect(parser.parse_args().url) as connection:
        # Apart from the loop below, because events come while audio is still being sent.
        threading.Thread(target=send, args=(connection,), daemon=True).start()
        for event in connection:
            print(event, flush=True)


def send(connection: ClientConnection) -> None:
    """Send what standard input has, in pieces as a microphone makes them, and say when it ends."""
    while piece := sys.stdin.buffer.read(PIECE_BYTES):
        connection.send(piece)
    connection.send("end")


if __name__ == "__main__":
    main()
