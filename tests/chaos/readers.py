"""Clients that read chats: every word in its order, or a body that is visibly broken off, or one answer that says why.

Half of them ask for events, the others for the one JSON object. Some leave in the middle.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

ANSWER_S = 60.0
REFUSALS = {500, 503, 504}
"""What a chat may be answered before its first word: its worker was killed twice, was hung, or had no room."""


@dataclass(kw_only=True)
class Chats:
    """What became of all chats."""

    numbers: count[int] = field(default_factory=lambda: count(1))
    words: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


async def reader(port: int, chats: Chats, source: random.Random, enough: asyncio.Event) -> None:
    """Ask for one chat after the other until it is enough, each on a connection of its own."""
    while not enough.is_set():
        read, write = await asyncio.open_connection("127.0.0.1", port)
        number = next(chats.numbers)
        try:
            async with asyncio.timeout(ANSWER_S):
                await _chat(read, write, number, chats, source)
        except TimeoutError:
            chats.complaints.append(f"chat {number} got no answer and no end")
        finally:
            write.close()
            with suppress(ConnectionError):
                await write.wait_closed()


async def _chat(
    read: asyncio.StreamReader, write: asyncio.StreamWriter, number: int, chats: Chats, source: random.Random
) -> None:
    length, as_events = source.choice((0, 1, 20, 300)), source.random() < 0.5
    asked = {
        "messages": [{}],
        "stream": as_events,
        "number": number,
        "length": length,
        "asynchronous": source.random() < 0.5,
    }
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    write.write(head.encode() + body)
    leaves_after = source.choice((1, 30)) if as_events and source.random() < 0.1 else None
    try:
        status, headers = await _head(read)
        data = await _body(read, headers, leaves_after)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        chats.complaints.append(f"chat {number} had no head, or a body that is shorter than announced: {error!r}")
        return
    if data is None:
        chats.ends["vanished"] += 1
        write.transport.abort()
        return
    whole, received = data
    if status != 200:
        chats.ends[str(status)] += 1
        if status not in REFUSALS or not whole:
            chats.complaints.append(f"chat {number} got {status}: {received[:300]!r}")
        return
    said, is_done = _events(received) if as_events else (_said(json.loads(received)), True)
    expected = [f"{number}:{word}" for word in range(length)]
    if said != expected[: len(said)] or is_done != whole or (whole and len(said) != length):
        chats.complaints.append(f"chat {number} of {length} words is {said[-3:]}, {len(said)} words, whole: {whole}")
    chats.words += len(said)
    chats.ends["whole" if whole else "broken off"] += 1


async def _head(read: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await read.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    return int(lines[0].split(" ")[1]), dict(line.split(": ", 1) for line in lines[1:-2])


async def _body(
    read: asyncio.StreamReader, headers: dict[str, str], leaves_after: int | None
) -> tuple[bool, bytes] | None:
    """Whether the body came to its end, and what came of it; None for a client that has left."""
    if "content-length" in headers:
        return True, await read.readexactly(int(headers["content-length"]))
    received, chunks = b"", 0
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while size := int(await read.readuntil(b"\r\n"), 16):
            received += (await read.readexactly(size + 2))[:-2]
            chunks += 1
            if chunks == leaves_after:
                return None
        await read.readexactly(2)
        return True, received
    return False, received


def _events(received: bytes) -> tuple[list[str], bool]:
    """The words of whole events, and whether the last of all came."""
    *events, _ = received.decode().split("\n\n")
    is_done = events[-1:] == ["data: [DONE]"]
    parts = [json.loads(event.removeprefix("data: ")) for event in (events[:-1] if is_done else events)]
    return "".join(part["choices"][0]["delta"].get("content", "") for part in parts).split(), is_done


def _said(answer: Any) -> list[str]:
    words: list[str] = answer["choices"][0]["message"]["content"].split()
    return words
