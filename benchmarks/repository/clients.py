"""Clients that read every answer and hold it against what they know of the repository."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import HOST, read_head

TIMEOUT_S = 120.0
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    chosen: str
    """Which model and version answered, as the server says."""
    content: Any
    seconds: float


class Asker:
    """One keep-alive connection, opened again after an error."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, content: object = None, **headers: str) -> Reply:
        """POST some JSON, or GET where there is none. Raises OSError, EOFError, TimeoutError or ValueError."""
        body = b"" if content is None else json.dumps(content).encode()
        lines = [f"{'GET' if content is None else 'POST'} {path} HTTP/1.1", f"Host: {HOST}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        started = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, head, answer = await self._exchange("\r\n".join(lines).encode() + body)
        except BaseException:
            self.close()
            raise
        seconds = time.perf_counter() - started
        chosen = next(
            (line.partition(":")[2].strip() for line in head if line.lower().startswith("x-amzn-sagemaker-cu")), ""
        )
        return Reply(status=status, chosen=chosen, content=_content(answer), seconds=seconds)

    async def _exchange(self, request: bytes) -> tuple[int, list[str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self.port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, length, keep = read_head(head)
        answer = await reader.readexactly(length)
        if not keep:
            self.close()
        return status, head.decode("latin-1").split("\r\n"), answer

    async def invoke(self, name: str, at: int, version: object = None) -> Reply:
        """Ask a model of the repository for one of its marks, by the header."""
        chosen = f"model={name}" if version is None else f"model={name};version={version}"
        return await self.ask("/invocations", {"at": at}, **{ATTRIBUTES: chosen})

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def _content(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return answer.decode(errors="replace")


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What became of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that are not those of what was asked."""
    seconds: list[float] = field(default_factory=list)
    """Of the good ones."""

    def note(self, reply: Reply, name: str, at: int, marks: dict[int, int]) -> int | None:
        """Take an answer of the model `name`, whose versions have these marks; returns the version if it is good."""
        said = reply.content
        if reply.status != 200:
            code = said["error"]["code"] if isinstance(said, dict) and "error" in said else ""
            self.outcomes[f"{reply.status} {code}".strip()] += 1
            return None
        self.outcomes["200"] += 1
        for version, mark in marks.items():
            if said == {"mark": mark, "at": at} and reply.chosen == f"model={name};version={version}":
                self.seconds.append(reply.seconds)
                return version
        self.wrong.append(f"{name}, mark {at}: {reply.chosen!r} says {said!r}, the marks are {marks}")
        return None

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return self.outcomes.total() - self.outcomes["200"]

    def told(self) -> str:
        """What became of them, in words."""
        others = ", ".join(f"{count:,} x {what}" for what, count in sorted(self.outcomes.items()) if what != "200")
        return f"{self.outcomes['200']:,} answered" + (f", {others}" if others else "")
