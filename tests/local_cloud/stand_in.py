"""A tiny stand-in for the model server: one behaviour for each request, chosen by the model's environment or the body.

It is started exactly as the real server is (SAGEMAKER_BASE_DIR, SAGEMAKER_BIND_TO_PORT, /ping, /invocations). Its
answer to a request is what the tests want to see of it: the headers that arrived, the environment, the model's files.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])
MODEL = BASE / "model"
STARTED = time.monotonic()
LOADED: dict[str, str] = {}  # multi-model: the directory of each model by its name
ADAPTERS: dict[str, str] = {}  # the directory of each adapter by its name


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fails_left = int(os.environ.get("STAND_IN_FAIL_FIRST", "0"))

    def do_GET(self) -> None:
        if self.path == "/execution-parameters" and "STAND_IN_EXECUTION_PARAMETERS" in os.environ:
            self.reply(200, os.environ["STAND_IN_EXECUTION_PARAMETERS"].encode())
        elif self.path == "/ping":
            gate = os.environ.get("STAND_IN_PING")  # "never", or once there is this file
            self.reply(503 if gate == "never" or (gate and not Path(gate).exists()) else 200, b"")
        elif self.path.startswith("/models/"):
            self.reply(200 if self.path.split("/")[2] in LOADED else 404, b"")
        else:
            self.reply(404, b"")

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/models":
            self.load(**json.loads(body))
        elif self.path == "/adapters":
            self.adapt(**json.loads(body))
        elif adapter := self.headers.get("X-Amzn-SageMaker-Adapter-Identifier"):
            self.act_adapted(adapter, body)
        elif self.path.startswith("/models/"):
            self.act_as(self.path.split("/")[2], body)
        elif body.startswith(b"until gone:"):
            self.compute_until_gone(body.removeprefix(b"until gone:"))
        else:
            self.act(body)

    def do_DELETE(self) -> None:
        there = ADAPTERS if self.path.startswith("/adapters/") else LOADED
        self.reply(200 if there.pop(self.path.split("/")[2], None) else 404, b"")

    def adapt(self, name: str, src: str, **_: object) -> None:
        """POST /adapters: one with the file `refuse` is answered with its text, as is one that lies elsewhere."""
        refuse = Path(src) / "refuse"
        if not Path(src).is_relative_to(os.environ["TIDEGATE_ADAPTERS_DIR"]):
            self.reply(400, b"not below TIDEGATE_ADAPTERS_DIR")
        elif refuse.exists():
            self.reply(400, refuse.read_bytes())
        else:
            ADAPTERS[name] = src
            self.reply(200, f"Adapter {name} registered".encode())

    def act_adapted(self, name: str, body: bytes) -> None:
        """The adapter's file `word` before the body."""
        if name in ADAPTERS:
            self.reply(200, (Path(ADAPTERS[name]) / "word").read_bytes() + b" " + body)
        else:
            self.reply(404, f"no adapter {name}".encode())

    def load(self, model_name: str, url: str) -> None:
        """POST /models: the text of the file `refuse` is answered with its status, a full container says 507."""
        refuse = Path(url) / "refuse"
        if len(LOADED) >= int(os.environ.get("STAND_IN_MAX_MODELS", "2")):
            self.reply(507, b"no room")
        elif refuse.exists():
            self.reply(500, refuse.read_bytes())
        else:
            LOADED[model_name] = url
            self.reply(200, b"")

    def act_as(self, name: str, body: bytes) -> None:
        """POST /models/NAME/invoke: the model's file `word` before the body; `die` dies, `lose` forgets."""
        if name not in LOADED:
            self.reply(404, b"not loaded")
        elif body == b"lose":
            LOADED.clear()
            self.reply(404, b"lost")
        elif body == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            target = self.headers.get("X-Amzn-SageMaker-Target-Model", "")
            word = (Path(LOADED[name]) / "word").read_text()
            self.reply(200, f"{word} {body.decode()} {target} {len(LOADED)}".encode())

    def act(self, body: bytes) -> None:
        if Handler.fails_left > 0:
            Handler.fails_left -= 1
            self.reply(500, b"not yet")
            return
        match body.split(b":", 1):
            case [b"status", code]:
                self.reply(int(code), f"refused with {int(code)}".encode())
            case [b"die", _]:
                os.kill(os.getpid(), signal.SIGKILL)
            case [b"hang up", _]:
                self.close_connection = True
                self.connection.close()
            case [b"hang", _]:
                sys.stderr.write("hanging\n")
                sys.stderr.flush()
                time.sleep(600)
            case [b"big", size]:
                self.reply(200, b"x" * int(size))
            case [b"stream", words]:
                self.stream(words.decode().split(","))
            case [b"headers", _]:
                headers = {
                    "X-Amzn-SageMaker-Custom-Attributes": "from the model",
                    "X-Amzn-SageMaker-New-Session-Id": "s1; Expires=2030-01-01T00:00:00Z",
                    "X-Private": "stays inside",
                }
                seen = {name.lower(): value for name, value in self.headers.items()}
                self.reply(200, json.dumps(seen).encode(), headers)
            case [b"environment", _]:
                self.reply(200, json.dumps(dict(os.environ)).encode())
            case [b"files", _]:
                files = {str(f.relative_to(MODEL)): f.read_text() for f in sorted(MODEL.rglob("*")) if f.is_file()}
                self.reply(200, json.dumps(files).encode())
            case _:
                self.reply(200, os.environ.get("STAND_IN_PREFIX", "").encode() + body.upper())

    def compute_until_gone(self, first: bytes) -> None:
        """Answers with no more than the first word of a stream, and says when the caller hangs up."""
        sys.stderr.write("computing\n")
        sys.stderr.flush()
        if first:
            self.stream([first.decode()], ended=False)
        left = not self.connection.recv(1)
        sys.stderr.write("the caller is gone\n" if left else "the caller goes on\n")
        sys.stderr.flush()
        self.close_connection = True

    def stream(self, words: list[str], *, ended: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in words:
            if word == "break":
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(f"{len(word):x}\r\n{word}\r\n".encode())
        if ended:
            self.wfile.write(b"0\r\n\r\n")

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        content_type = os.environ.get("STAND_IN_CONTENT_TYPE", self.headers.get("Accept") or "application/json")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        sys.stderr.write(f"{self.command} {self.path}\n")


def main() -> None:
    if "STAND_IN_ERROR" in os.environ:
        sys.stderr.write(f"loading\ntidegate: error: {os.environ['STAND_IN_ERROR']}\n")
        sys.exit(1)
    if "STAND_IN_LAST_WORDS" in os.environ:
        sys.exit(os.environ["STAND_IN_LAST_WORDS"])
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler)
    gate = os.environ.get("STAND_IN_ENDS_ONCE_THERE_IS")

    def end() -> None:
        while gate and not Path(gate).exists():
            time.sleep(0.01)
        os._exit(0)

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end).start())
    server.serve_forever()


if __name__ == "__main__":
    main()
