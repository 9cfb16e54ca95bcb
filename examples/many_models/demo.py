"""Serve many shops' models from one repository, and replace one while it is served.

    python examples/many_models/demo.py

Trains three shops, serves them with room for two in memory, asks by the header and by the path, publishes a new version
of one, and goes on asking until that answers. Nothing is left running.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sales import DAYS, sales_of

HERE = Path(__file__).parent
SHOPS = ("antwerp", "bergen", "faro")
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
PATIENCE_S = 90.0


class DemoFailed(Exception):
    """Something did not happen as it should; the text is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said, and which model and version said it."""

    status: int
    by: str
    body: Any


def main() -> None:
    """Go through it from the training to the new version."""
    with tempfile.TemporaryDirectory(prefix="many-models-") as work_dir:
        repository = Path(work_dir, "repository")
        train(repository, "--shops", *SHOPS, "--label", "stable")
        say(f"serve {repository}, two models in memory at a time")
        with serving(repository, Path(work_dir)) as port:
            week = sales_of("faro", days=DAYS, seed=2).reshape(1, DAYS).tolist()
            for shop in SHOPS:
                show(f"{shop} by the header", ask(port, week, attributes=f"model={shop};version=stable"))
            before = ask(port, week, path="/models/faro/versions/1/invoke")
            show("faro by the path", before)
            loaded = [entry["modelName"] for entry in models(port) if is_loaded(entry)]
            say(f"in memory: {', '.join(loaded)}; the others come when they are asked for")
            if len(loaded) > 2:
                raise DemoFailed("There are more than two models in memory.")

            train(repository, "--shops", "faro", "--season", "2")
            asked = 0
            while (after := ask(port, week, attributes="model=faro")).by != "model=faro;version=2":
                asked += 1
                if after.body != before.body:
                    raise DemoFailed(f"Version 1 answered {after.body} instead of {before.body}.")
            say(f"version 1 answered {asked} more times, then version 2 took over")
            show("faro, the latest", after)
            show("faro, the stable one", ask(port, week, attributes="model=faro;version=stable"))
            if after.body == before.body:
                raise DemoFailed("Version 2 answers as version 1 did.")
    say("stopped; nothing is left running")


def train(repository: Path, *arguments: str) -> None:
    """Run the training script, which publishes."""
    subprocess.run([sys.executable, str(HERE / "train.py"), str(repository), *arguments], check=True)


@contextlib.contextmanager
def serving(repository: Path, work_dir: Path) -> Iterator[int]:
    """Start the server, wait until it takes traffic, and yield its port."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    if sys.platform != "linux":  # which lets the server bind it all the same, and gives it to nobody else meanwhile
        kept.close()
    settings = {
        "TIDEGATE_MODEL_REPOSITORY": str(repository),
        "TIDEGATE_RELOAD_INTERVAL_S": "1",
        "TIDEGATE_MAX_LOADED_MODELS": "2",
        "TIDEGATE_HOST": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_BASE_DIR": str(work_dir),
    }
    log = work_dir / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "serve"],
            env=os.environ | settings,
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
    with contextlib.suppress(OSError):
        return request(port, "GET", "/ping").status == 200
    return False


def ask(port: int, rows: Any, *, path: str = "/invocations", attributes: str = "") -> Answer:
    """Ask for a forecast. A model that is not in memory is loaded meanwhile."""
    answer = request(port, "POST", path, rows, {ATTRIBUTES: attributes} if attributes else {})
    if answer.status != 200:
        raise DemoFailed(f"The server answered {answer.status}: {answer.body}")
    return answer


def models(port: int) -> list[dict[str, Any]]:
    """What the server says of its models."""
    found: list[dict[str, Any]] = request(port, "GET", "/models").body["models"]
    return found


def is_loaded(entry: dict[str, Any]) -> bool:
    """Whether a version of the model is in memory."""
    return any(version["state"] == "loaded" for version in entry["versions"])


def request(port: int, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One HTTP request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        body = None if content is None else json.dumps(content)
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        data = response.read()
        return Answer(
            status=response.status, by=response.getheader(ATTRIBUTES, ""), body=json.loads(data) if data else None
        )


def show(what: str, answer: Answer) -> None:
    """Print a forecast and who made it."""
    say(f"{what}: {', '.join(f'{units:.0f}' for units in answer.body[0])} ({answer.by})")


def say(line: str) -> None:
    """Print a line at once."""
    print(f"==> {line}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except DemoFailed as error:
        sys.exit(f"demo: error: {error}")
