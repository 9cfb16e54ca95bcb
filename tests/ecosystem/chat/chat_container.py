"""A container that chats: what it says is chosen by the last message."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = ["Once", " upon", " a", " t", "ïme ☃"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200 if self.path == "/ping" else 404, {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = request["messages"][-1]["content"]
        if self.path != "/v1/chat/completions":
            self.reply(404, {"error": {"message": f"nothing at {self.path}", "type": "not_found"}})
        elif asked == "refuse":
            self.reply(400, {"error": {"message": "I will not.", "type": "bad_request"}})
        elif request.get("stream"):
            self.stream(broken=asked == "break off")
        else:
            message = {"role": "assistant", "content": "".join(ANSWER)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.reply(200, {**part("chat.completion"), "choices": [choice]})

    def stream(self, *, broken: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ANSWER[:2] if broken else ANSWER:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            event = {**part("chat.completion.chunk"), "choices": [choice]}
            written = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
            # In two chunks, so that an event is cut, and the last word's two letters of several bytes as well.
            for piece in (written[:-90], written[-90:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if broken:
            self.close_connection = True
        else:
            self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def reply(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        sys.stderr.write(f"{self.command} {self.path}\n")


def part(kind: str) -> dict[str, Any]:
    return {"id": "chat-1", "object": kind, "created": 0, "model": ""}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
