"""The least that uvicorn can stream with: a bare ASGI application, no framework.

A body is `{"kind": "burst", "chunks": …}`: that many chunks of 20 bytes, one after the other; or `{"kind": "paced",
"chunks": …, "pause_s": …}`: chunks that say when they were made, with a pause after each.
"""

from __future__ import annotations

import asyncio
import json
import time

CHUNK = b"x" * 20


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = json.loads(body or "{}")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(asked.get("chunks", 0)):
        paced = asked["kind"] == "paced"
        piece = b"%019d\n" % time.monotonic_ns() if paced else CHUNK
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        if paced:
            await asyncio.sleep(asked["pause_s"])
    await send({"type": "http.response.body", "body": b""})
