"""The containers of one variant: one, several that a request passes in a row, or several that it chooses among.

A serial pipeline hands the body of each answer, with its content type, to the next container ("Inference pipelines").
What AWS leaves open is decided here: the caller's Accept reaches the last container alone, every other header all of
them, and what the caller gets of headers is the last one's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tidegate.local_cloud.sagemaker.caller import Caller
from tidegate.local_cloud.sagemaker.container import STOP_GRACE_S
from tidegate.local_cloud.sagemaker.container_answers import (
    Answer,
    AnswerTooLarge,
    NoAnswer,
    NotTaken,
    StreamedAnswer,
    Upgraded,
)
from tidegate.local_cloud.sagemaker.container_client import ContainerClient, SizedBody
from tidegate.local_cloud.sagemaker.errors import validation_error
from tidegate.local_cloud.sagemaker.replica import Exit, Replica, latest

Body = bytes | SizedBody | Iterable[bytes] | None


class SerialClient:
    """Sends a request through several containers, in the order of ``clients``, which are by name."""

    def __init__(self, clients: Mapping[str, ContainerClient]) -> None:
        self._clients = clients

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Body = None,
        timeout_s: float,
        max_bytes: int | None = None,
        caller: Caller | None = None,
    ) -> Answer:
        with self._passed(
            method, path, headers=headers, body=body, timeout_s=timeout_s, max_bytes=max_bytes, caller=caller
        ) as answer:
            pieces, size = [], 0
            with _named(answer.container):
                for piece in answer.pieces:
                    pieces.append(piece)
                    size += len(piece)
                    if max_bytes is not None and size > max_bytes:
                        raise AnswerTooLarge(f"the answer is larger than {max_bytes} bytes")
            return Answer(
                status=answer.status, headers=answer.headers, body=b"".join(pieces), container=answer.container
            )

    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Body = None,
        timeout_s: float,
        caller: Caller | None = None,
    ) -> AbstractContextManager[StreamedAnswer]:
        return self._passed(
            method, path, headers=headers, body=body, timeout_s=timeout_s, max_bytes=None, caller=caller
        )

    @staticmethod
    def upgrade(target: str, *, headers: Mapping[str, str], timeout_s: float) -> Upgraded | Answer:
        """Refused: a conversation has no answer that could be the next container's request."""
        del headers, timeout_s
        raise validation_error(f"A serial inference pipeline takes no bidirectional streams ({target}).")

    @contextmanager
    def _passed(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Body,
        timeout_s: float,
        max_bytes: int | None,
        caller: Caller | None,
    ) -> Iterator[StreamedAnswer]:
        """The last container's answer, or that of the first that answers with an error."""
        deadline = time.monotonic() + timeout_s
        *earlier, last = self._clients
        inner = {name: value for name, value in headers.items() if name != "Accept"}
        for name in earlier:
            with _named(name, is_first=name == earlier[0]):
                answer = self._clients[name].call(
                    method,
                    path,
                    headers=inner,
                    body=body,
                    timeout_s=deadline - time.monotonic(),
                    max_bytes=max_bytes,
                    caller=caller,
                )
            if answer.status >= 300:
                yield StreamedAnswer(
                    status=answer.status, headers=answer.headers, pieces=iter([answer.body]), container=name
                )
                return
            body = answer.body
            inner = {name: value for name, value in inner.items() if name != "Content-Type"}
            if "content-type" in answer.headers:
                inner["Content-Type"] = answer.headers["content-type"]
        outer = inner | {name: value for name, value in headers.items() if name == "Accept"}
        with ExitStack() as stack:
            with _named(last, is_first=not earlier):
                streamed = stack.enter_context(
                    self._clients[last].stream(
                        method,
                        path,
                        headers=outer,
                        body=body,
                        timeout_s=deadline - time.monotonic(),
                        caller=caller,
                    )
                )
            yield replace(streamed, container=last)


Client = ContainerClient | SerialClient


@contextmanager
def _named(container: str, *, is_first: bool = True) -> Iterator[None]:
    """Say of a failure which container it was. Before one that is not the first, others have computed already."""
    try:
        yield
    except NoAnswer as error:
        told = NoAnswer(str(error)) if isinstance(error, NotTaken) and not is_first else error
        told.container = container
        raise told from error.__cause__


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The client of one request, and how it learns that the container it reads from has ended."""

    client: Client
    replica: Replica
    answering: ContainerClient

    def ended(self, within_s: float) -> bool:
        """Whether it has ended since; waits up to ``within_s`` for that."""
        return self.replica.has_lost(self.answering, within_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The replicas of one variant by the names of their containers, in their order."""

    replicas: Mapping[str, Replica]
    direct: bool = False

    @property
    def logs(self) -> Mapping[str, Path]:
        """The file of each container's output."""
        return {name: replica.log for name, replica in self.replicas.items()}

    @property
    def restarts(self) -> int:
        """How often a container of it died in service and was replaced."""
        return sum(replica.restarts for replica in self.replicas.values())

    @property
    def last_exit(self) -> Exit | None:
        """The latest end of a container of it."""
        return latest(replica.last_exit for replica in self.replicas.values())

    @contextmanager
    def lease(self, hostname: str | None) -> Iterator[Held]:
        """Holds what one request needs: the container called ``hostname`` of a direct one, else all.

        Raises NoAnswer, with the container's name, while one is being replaced.
        """
        chosen = {hostname: self.replicas[hostname]} if self.direct and hostname is not None else self.replicas
        with ExitStack() as stack:
            clients = {}
            for name, replica in chosen.items():
                with _named(name):
                    clients[name] = stack.enter_context(replica.lease())
            last = list(clients)[-1]
            client: Client = clients[last] if len(clients) == 1 else SerialClient(clients)
            yield Held(client=client, replica=chosen[last], answering=clients[last])

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stops all of them at once; returns when nothing is left."""
        with ThreadPoolExecutor(max_workers=len(self.replicas)) as pool:
            list(pool.map(partial(Replica.stop, grace_s=grace_s), self.replicas.values()))
