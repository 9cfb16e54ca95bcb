"""Requests that reach a worker together: all workers are kept busy until the clients' requests wait in the queue.

A script that is asked like this notes each call of its predict_fn as a line of JSON in the file `calls`, and in one of
its requests, the holding one, waits until there is a file `release`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.contract.asking import metric
from tests.contract.running import Reply, Server


def calls(server: Server) -> list[dict[str, Any]]:
    path = server.model_dir / "calls"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # a worker may be at its next line
    return [json.loads(line) for line in whole.splitlines()]


def sizes(server: Server) -> list[int]:
    return [len(call["values"]) for call in calls(server)]


@contextmanager
def held(server: Server, order: str, workers: int = 1) -> Iterator[None]:
    """Keep every worker busy, for as long as the block lasts, with a request each. Forgets the calls before it."""
    for name in ("calls", "encoded", "release"):
        (server.model_dir / name).unlink(missing_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        for busy in range(workers):
            pool.submit(server.post, order)
            server.wait_until(lambda: len(calls(server)) == busy + 1, f"{busy + 1} workers are busy")  # noqa: B023
        (server.model_dir / "calls").unlink()
        try:
            yield
        finally:
            (server.model_dir / "release").touch()


def together(server: Server, orders: Sequence[Any], *, holding: str, workers: int = 1, **headers: str) -> list[Reply]:
    """Send requests from as many clients so that they wait together when the workers become free."""
    with ThreadPoolExecutor(len(orders)) as pool:
        with held(server, holding, workers):
            replies = [pool.submit(server.post, each, **headers) for each in orders]
            server.wait_until(lambda: metric(server, "tidegate_waiting") == len(orders), "all of them wait")
        return [reply.result(timeout=60) for reply in replies]
