"""A container that gives every body back, through a file: its memory does not grow with the body.

A body that begins with `break` is given back by half, one that begins with `refuse` is refused before it is read.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.head(200, 0)

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        first = self.rfile.read(min(size, 6))
        if first == b"refuse":
            self.close_connection = True
            self.head(413, 8)
            self.wfile.write(b"too much")
            return
        with tempfile.TemporaryFile() as file:
            file.write(first)
            left = size - len(first)
            while left:
                left -= file.write(self.rfile.read(min(left, 65_536)))
            file.seek(0)
            if first.startswith(b"break"):
                self.close_connection = True
                file.truncate(size // 2)
            self.head(200, size)
            shutil.copyfileobj(file, self.wfile)

    def head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        sys.stderr.write(f"{self.command} {self.path}\n")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
