"""Load: wrk where it is installed, and a driver of our own for what wrk cannot do (open loops, every answer counted).

Every loop is bounded in time and in requests, and goes to the loopback only.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bodies import Body

HOST = "127.0.0.1"
MAX_REQUESTS = 5_000_000
ANSWER_TIMEOUT_S = 60.0


@dataclass(slots=True, kw_only=True)
class Result:
    """What one load saw. `outcomes` counts statuses, and the names of the errors of requests without one."""

    elapsed_s: float
    answered: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def good_per_s(self) -> float:
        """Answers with status 200 in a second."""
        return (self.answered - self.failed) / self.elapsed_s


# --- wrk


def wrk(
    port: int,
    path: str,
    body: Body,
    *,
    connections: int,
    seconds: int,
    statuses: bool = False,
    attributes: str = "",
) -> Result:
    """A closed loop of `connections` for `seconds`. Without wrk on the machine, the same by our own driver.

    `attributes` is what X-Amzn-SageMaker-Custom-Attributes says, which only wrk sends.
    """
    program = shutil.which("wrk")
    if program is None:
        if attributes:
            raise subprocess.SubprocessError("wrk is not installed")
        return asyncio.run(closed_loop(port, path, lambda _: body, connections=connections, seconds=seconds))
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={ANSWER_TIMEOUT_S:g}s"]
    command += ["-s", str(Path(__file__).with_name("wrk.lua")), f"http://{HOST}:{port}{path}"]
    environment = os.environ | {"WRK_BODY": str(body.file), "WRK_TYPE": body.content_type}
    if attributes:
        environment["WRK_ATTRIBUTES"] = attributes
    if statuses:
        environment["WRK_STATUSES"] = "1"
    output = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds + ANSWER_TIMEOUT_S, check=True
    ).stdout
    return read_wrk(output)


def read_wrk(output: str) -> Result:
    """The line that wrk.lua prints. Raises `subprocess.SubprocessError` where there is none."""
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise subprocess.SubprocessError(f"wrk gave no result: {output[-300:]}")
    raw: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    errors = {name: count for name, count in raw["errors"].items() if count}
    statuses = dict(raw["statuses"]) or errors
    lost = sum(count for name, count in errors.items() if name != "status")
    return Result(
        elapsed_s=raw["elapsed_us"] / 1e6,
        answered=raw["requests"],
        p50_ms=raw["p50_us"] / 1e3,
        p99_ms=raw["p99_us"] / 1e3,
        max_ms=raw["max_us"] / 1e3,
        failed=errors.get("status", 0),
        outcomes=statuses | ({"lost": lost} if lost and statuses is not errors else {}),
    )


# --- our own


class Connection:
    """One keep-alive connection; opened again after an error. Reads answers that have a Content-Length."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """The status of the answer to `request`. Raises OSError, EOFError (`IncompleteReadError`) or ValueError."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self.port)
        try:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, length, keep = read_head(head)
            await self._reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        if not keep:
            self.close()
        return status

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def read_head(head: bytes) -> tuple[int, int, bool]:
    """(status, length of the body, whether the connection stays open). Raises ValueError without a length."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    if "content-length" not in headers:
        raise ValueError("an answer without Content-Length")
    return int(first.split()[1]), int(headers["content-length"]), headers.get("connection", "").lower() != "close"


def encode(path: str, body: Body) -> bytes:
    """One POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {body.content_type}\r\n"
    return f"{head}Content-Length: {len(body.data)}\r\n\r\n".encode() + body.data


@dataclass(slots=True)
class Tally:
    """Every request sent, by what became of it, with the moment of its end."""

    started: float = field(default_factory=time.monotonic)
    sent: int = 0
    ends: list[tuple[float, float, str]] = field(default_factory=list)
    """(moment of the end in seconds from the start, latency in ms, outcome)."""

    async def ask(self, connection: Connection, request: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        self.sent += 1
        asked = time.monotonic()
        try:
            outcome = str(await asyncio.wait_for(connection.ask(request), timeout_s))
        except TimeoutError:
            outcome = "no answer"
        except (OSError, EOFError, ValueError) as error:
            outcome = type(error).__name__
        now = time.monotonic()
        self.ends.append((now - self.started, (now - asked) * 1e3, outcome))
        return outcome

    def steady(self, begin_s: float, end_s: float) -> Result:
        """What ended between two moments of a load that goes on.

        The rate is that from one good answer to another, so that it does not hang on how many batches fall into the
        window.
        """
        good = [at for at, _, outcome in self.ends if outcome == "200" and at <= end_s]
        begin_s = max((at for at in good if at <= begin_s), default=begin_s)
        end_s = max((at for at in good if at > begin_s), default=end_s)
        within = Tally(started=self.started, ends=[each for each in self.ends if begin_s < each[0] <= end_s])
        return within.result(end_s - begin_s)

    def result(self, elapsed_s: float) -> Result:
        """Latencies are those of good answers; what never ended counts as failed."""
        outcomes = Counter(outcome for _, _, outcome in self.ends)
        latencies = sorted(latency for _, latency, outcome in self.ends if outcome == "200")
        return Result(
            elapsed_s=elapsed_s,
            answered=len(self.ends),
            p50_ms=percentile(latencies, 50),
            p99_ms=percentile(latencies, 99),
            max_ms=latencies[-1] if latencies else math.nan,
            failed=len(self.ends) - outcomes["200"],
            outcomes=dict(outcomes),
        )


async def closed_loop(
    port: int,
    path: str,
    body_of: Callable[[int], Body],
    *,
    connections: int,
    seconds: float,
    requests: int = MAX_REQUESTS,
) -> Result:
    """`connections` clients, each asking again when it was answered; `body_of` gives the body of the n-th request."""
    tally = Tally()
    await run_closed_loop(tally, port, path, body_of, connections=connections, seconds=seconds, requests=requests)
    return tally.result(time.monotonic() - tally.started)


async def run_closed_loop(
    tally: Tally,
    port: int,
    path: str,
    body_of: Callable[[int], Body],
    *,
    connections: int,
    seconds: float,
    requests: int = MAX_REQUESTS,
) -> None:
    """As `closed_loop`, into a tally that the caller watches. Ends when every request sent has ended."""
    encoded: dict[Body, bytes] = {}

    async def client() -> None:
        connection = Connection(port)
        while time.monotonic() - tally.started < seconds and tally.sent < requests:
            body = body_of(tally.sent)
            if body not in encoded:
                encoded[body] = encode(path, body)
            if await tally.ask(connection, encoded[body]) not in {"200", "503", "504"}:
                await asyncio.sleep(0.001)  # a refused connection must not become a busy loop
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))


async def open_loop(
    port: int, path: str, body: Body, *, per_s: float, seconds: float, connections: int = 1500
) -> Result:
    """Requests at fixed moments, whether or not earlier ones were answered; at most `connections` at a time.

    Goodput is counted inside the `seconds`; what is in flight then is still waited for, and belongs to the outcomes.
    """
    tally = Tally()
    request = encode(path, body)
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        connection = idle.pop() if idle else Connection(port)
        await tally.ask(connection, request)
        idle.append(connection)

    for number in range(min(int(per_s * seconds), MAX_REQUESTS)):
        await asyncio.sleep(max(0.0, tally.started + number / per_s - time.monotonic()))
        if len(running) >= connections:
            tally.sent += 1
            tally.ends.append((time.monotonic() - tally.started, 0.0, "not sent"))
            continue
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.sleep(max(0.0, tally.started + seconds - time.monotonic()))
    good_in_time = sum(1 for at, _, outcome in tally.ends if outcome == "200" and at <= seconds)
    await asyncio.gather(*running)
    for connection in idle:
        connection.close()
    result = tally.result(seconds)
    # Later answers are answers, but no goodput of the window.
    result.failed = result.answered - good_in_time
    return result


async def pings(port: int, *, seconds: float, path: str = "/ping", every_s: float = 0.02) -> list[tuple[float, str]]:
    """(latency in ms, outcome) of the health path, asked at fixed moments; a slow one delays no other."""
    tally = Tally()
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    async def ask() -> None:
        connection = Connection(port)
        await tally.ask(connection, request, 10.0)
        connection.close()

    tasks = []
    for number in range(int(seconds / every_s)):
        await asyncio.sleep(max(0.0, tally.started + number * every_s - time.monotonic()))
        tasks.append(asyncio.create_task(ask()))
    await asyncio.gather(*tasks)
    return [(latency, outcome) for _, latency, outcome in tally.ends]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
