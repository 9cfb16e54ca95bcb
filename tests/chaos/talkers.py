"""Clients that talk to `stream_fn`: each frame comes back as it was, or the conversation ends and says so."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tests.raw_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, opening

ANSWER_S = 60.0
ENDS = {1000, 1001, 1011, 1013}
"""What a Close may say: the script ended, the server does, the worker was lost or hung, there was no room."""


@dataclass(kw_only=True)
class Talks:
    """What became of all conversations."""

    begun: int = 0
    echoed: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


async def talker(port: int, talks: Talks, source: random.Random, enough: asyncio.Event) -> None:
    """Talk, one conversation after the other, until it is enough."""
    while not enough.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(ANSWER_S):
                await _talk(reader, writer, talks, source, enough)
        except TimeoutError:
            talks.complaints.append("a conversation got no answer and no end")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            talks.complaints.append(f"a conversation broke off without a Close: {error!r}")
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _talk(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    talks: Talks,
    source: random.Random,
    enough: asyncio.Event,
) -> None:
    writer.write(opening())
    status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
    if status != 101:
        talks.ends[f"HTTP {status}"] += 1
        if status != 503:
            talks.complaints.append(f"an opening got {status}")
        await asyncio.sleep(0.05)
        return
    talks.begun += 1
    for _ in range(source.randrange(1, 60)):
        if enough.is_set():
            break
        match source.choices(("say", "vanish", "half a frame", "fragments"), (95, 2, 1, 10))[0]:
            case "vanish":
                talks.ends["vanished"] += 1
                writer.transport.abort()
                return
            case "half a frame":
                talks.ends["vanished"] += 1
                writer.write(frame(TEXT, b"half")[:-2])
                return
            case how:
                if not await _echo(reader, writer, talks, source, in_fragments=how == "fragments"):
                    return
    writer.write(close(1000))
    found = await _frame(reader)
    while found[0] != CLOSE:
        found = await _frame(reader)
    talks.ends[_code(found[1], talks)] += 1


async def _echo(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    talks: Talks,
    source: random.Random,
    *,
    in_fragments: bool,
) -> bool:
    """Say something and hear it; False where the conversation ended instead."""
    data = source.choice((b"", b"x", b"y" * 300, b"z" * 100_000)) + str(source.random()).encode()
    kind = source.choice((TEXT, BINARY))
    if in_fragments:
        cut = source.randrange(len(data) + 1)
        writer.write(frame(kind, data[:cut], fin=False) + frame(PING, b"?") + frame(CONTINUATION, data[cut:]))
    else:
        writer.write(frame(kind, data))
    while True:
        found, said = await _frame(reader)
        if found == PONG and in_fragments and said == b"?":
            continue
        if found == CLOSE:
            talks.ends[_code(said, talks)] += 1
            return False
        if found == TEXT and said.startswith(b'{"ModelStreamError"'):
            continue
        if (found, said) != (kind, data):
            talks.complaints.append(f"{kind} {data[:50]!r} came back as {found} {said[:50]!r}")
        talks.echoed += 1
        return True


def _code(payload: bytes, talks: Talks) -> str:
    (code,) = struct.unpack("!H", payload[:2])
    if code not in ENDS:
        talks.complaints.append(f"a conversation ended with {code}: {payload[2:]!r}")
    return str(code)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    return first & 0x0F, await reader.readexactly(length)
