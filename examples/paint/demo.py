"""Train the painter, ask it as a library, then ask it behind a server, and keep the pictures.

    python -m examples.paint.demo                    trains for half a minute, unless build/paint/model is there
    python -m examples.paint.demo --full             the whole training, some minutes

Writes build/paint/map.png, which is as a browser would draw it, with soft edges, and build/paint/picture.png. Exit
status 0 when every check held, 1 with one sentence otherwise; no process is left in either case.
"""

import argparse
import contextlib
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from examples.paint import measure
from examples.paint.scenes import scene
from tidegate.inference.images import data_uri, reading
from tidegate.model_loader import ModelLoader

HERE = Path(__file__).parent
SEED = 3_000_004
SIDE = 256
PATIENCE_S = 90.0
PNG, JSON = "image/png", "application/json"
MAX_LEVELS = 2  # of 255, between two processes: sums are taken in another order


class DemoFailed(Exception):
    """Something did not happen as it should; the text is one sentence."""


def main() -> None:
    """Go through it from the training to the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.paint.demo", description="Train, ask and serve the painter."
    )
    parser.add_argument("--full", action="store_true", help="the whole training, in place of half a minute of it")
    parser.add_argument("--build-dir", type=Path, default="build/paint", help="default: %(default)s")
    options = parser.parse_args()
    model_dir = options.build_dir / "model"
    if (model_dir / "manifest.json").is_file():
        say(f"{model_dir} is trained already")
    else:
        say("train" + ("" if options.full else " for a first look: the pictures are blurred"))
        train(model_dir, *([] if options.full else ["--quick"]))

    say("ask the library, without a server")
    loader = ModelLoader("paint", configurations=model_dir / "code" / "models.yaml")
    drawn = drawn_map(loader)
    map_path, picture_path = options.build_dir / "map.png", options.build_dir / "picture.png"
    map_path.write_bytes(drawn)
    began = time.perf_counter()
    answer = loader.get_prediction(data_uri.write(drawn, PNG))
    say(f"{answer[:34]}… of {len(answer):,} characters in {time.perf_counter() - began:.2f} s")
    picture = data_uri.read(answer, max_bytes=measure.MAX_BYTES).data

    say(f"serve {model_dir}")
    with tempfile.TemporaryDirectory(prefix="paint-") as work_dir, serving(model_dir, Path(work_dir)) as port:
        body = json.dumps({"segmap": data_uri.write(drawn, PNG)}).encode()
        uri = json.loads(ask(port, body, content_type=JSON, accept=JSON))["image"]
        check(picture, data_uri.read(uri, max_bytes=measure.MAX_BYTES).data, "as a data URI")
        check(picture, ask(port, drawn, content_type=PNG, accept=PNG), "as PNG in and out")
    picture_path.write_bytes(picture)
    say(f"the map is {map_path}, the picture is {picture_path}; nothing is left running")


def train(model_dir: Path, *arguments: str) -> None:
    """Run the training script."""
    command = [sys.executable, str(HERE / "train.py"), "--model-dir", str(model_dir), *arguments]
    if subprocess.run(command, check=False).returncode:
        raise DemoFailed("The training failed; what it said is above.")


def drawn_map(loader: ModelLoader) -> bytes:
    """An unseen map as PNG, drawn four times as large as the scene and smoothed, so that edges mix two colours."""
    small = loader.palette.paint(scene(SEED).labels)
    large = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def serving(model_dir: Path, work_dir: Path) -> Iterator[int]:
    """Start the server, wait until it takes traffic, and yield its port."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    if sys.platform != "linux":  # which lets the server bind it all the same, and gives it to nobody else meanwhile
        kept.close()
    log = work_dir / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "serve", str(model_dir), "--host", "127.0.0.1", "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not is_ready(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"The server did not start; it said:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        kept.close()


def is_ready(port: int) -> bool:
    """Whether /ping says 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    return False


def ask(port: int, body: bytes, *, content_type: str, accept: str) -> bytes:
    """Have a map painted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", body, {"content-type": content_type, "accept": accept})
        response = connection.getresponse()
        answer = response.read()
    if response.status != 200:
        raise DemoFailed(f"The server answered {response.status}: {answer.decode(errors='replace')}")
    return answer


def check(wanted: bytes, got: bytes, how: str) -> None:
    """The server's picture is the library's."""
    one, other = (reading.pixels(each, max_decoded_bytes=measure.MAX_BYTES).astype(int) for each in (wanted, got))
    if one.shape != other.shape or (worst := int(np.abs(one - other).max())) > MAX_LEVELS:
        raise DemoFailed(f"The server's picture {how} is another than the library's.")
    say(f"{how}: the library's picture, no value is off by more than {worst} of 255")


def say(line: str) -> None:
    """Print a line at once."""
    print(f"==> {line}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except DemoFailed as error:
        sys.exit(f"demo: error: {error}")
