"""Many clients at once: one HTTP/1.1 connection each, in one loop.

async with Asker(port) as asker:
    reply = await asker.post(b"{}")
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import TracebackType

from prometheus_client.parser import text_string_to_metric_families

from tests.contract.running import Reply, Server

ANSWER_S = 60.0


class NoAnswer(Exception):
    """The connection ended, or stayed silent, where an answer was due."""


class Asker:
    """One client on one connection; asks one thing at a time, as HTTP/1.1 has it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.ended = False
        """Whether the last answer said that no further one comes on this connection."""

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.ended = False

    async def __aenter__(self) -> Asker:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    async def reset(self) -> None:
        """Hang up as a process that was killed does: with a reset."""
        assert self._writer is not None
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        await self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self._writer is not None
        self._writer.write(data)

    async def post(self, body: bytes, **headers: str) -> Reply:
        """Ask, on a new connection where the last answer ended the old one."""
        await self.renew()
        self.send(post(body, **headers))
        return await self.reply()

    async def get(self, path: str) -> Reply:
        await self.renew()
        self.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
        return await self.reply()

    async def reply(self) -> Reply:
        """The next answer. Raises `NoAnswer`."""
        assert self._reader is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                head = await self._reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        self.ended = headers.get("connection") == "close"
        return Reply(status=int(lines[0].split(" ")[1]), headers=headers, body=body)

    async def renew(self) -> None:
        """Connect anew where the last answer ended the connection."""
        if self.ended:
            await self.close()
            await self.open()

    async def rest(self) -> bytes:
        """What still comes after we have said that nothing more will be asked: nothing, if all is well."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write_eof()
        async with asyncio.timeout(ANSWER_S):
            return await self._reader.read()


def post(body: bytes, **headers: str) -> bytes:
    """The bytes of a POST to /invocations; `content_type="text/csv"` is a header."""
    named = {"content-type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def metric(server: Server, *names: str, **labels: str) -> float:
    """The sum of the samples of `names` that have `labels` at /metrics, at one moment.

    What is counted in one place first and in another then is missed, or counted twice, by one question for each.
    """
    text = server.request("GET", "/metrics").body.decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in names and labels.items() <= sample.labels.items()
    )
