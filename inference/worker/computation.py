"""One batch of requests to events: the only way of a request, from a client as from the self-check.

Requests that share a predict_fn call (`joined_calls`) wait for each other. All others are no batch: each is decoded,
predicted and encoded before the next is looked at, and its answer leaves at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

from tidegate.inference import protocol
from tidegate.inference.batching import Batching
from tidegate.inference.begun_page import BegunPage
from tidegate.inference.protocol import Answer, Event, Form, PassedOver, Progress, ServedAs, Tensors
from tidegate.inference.worker import comparing, proof
from tidegate.inference.worker.chunks import is_source
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.declared.sides import Declared
from tidegate.inference.worker.gpu_memory import GpuMemory
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.joined_calls import JoinedCalls
from tidegate.inference.worker.joining import Decision
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.steps import Steps
from tidegate.inference.worker.streams import Streams
from tidegate.inference.worker.tally import Tally

if TYPE_CHECKING:
    from tidegate.inference.worker.traced import Traced

LARGE_ANSWER_BYTES = 4 * 1024 * 1024
"""A larger answer is sent in parts: whole, it would be in memory several times on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests on their way; decoded already where other threads do that, which took `decode_s`."""

    requests: list[Request]
    alone: bool
    """Whether they are only on their way together, and no batch."""
    decode_s: float
    first_place: int = 0
    """Where the requests are among all that this worker was handed."""
    begun: Sequence[bool] | None = None
    """Whether each was begun, where they were all begun at once."""
    looked_at: bool = False
    """Whether somebody looks afterwards at what became of each on its way."""

    def let_go(self) -> None:
        """Let go of all requests but those that are streams, which go on."""
        for request in self.requests:
            self.drop(request)

    def drop(self, request: Request) -> None:
        """Let go of a request that needs no more steps, unless it is a stream: those after it may take long."""
        if request.stream is not None:
            return
        if self.looked_at:
            request.close_body()
        else:
            request.let_go()

    def forget(self, request: Request) -> None:
        """Let go of what led to the answer of a request."""
        if not self.looked_at:
            request.forget()


class Computation:
    """A loaded model that turns batches of requests into events.

    `prove` is off where calling a function twice may do harm; `timeout_s` is what one call may take; `traced` makes
    spans of what is done, where they are asked for.
    """

    def __init__(
        self,
        *,
        model: Any,
        functions: Functions,
        context: Context,
        default_accept: str,
        reading: Reading,
        max_response_bytes: int,
        declared: Declared | None = None,
        batching: Batching | None = None,
        prove: bool = True,
        timeout_s: float = 60.0,
        max_streams: int = 32,
        gpu_memory: GpuMemory | None = None,
        traced: Traced | None = None,
    ) -> None:
        self.context = context
        self.gpu_memory = gpu_memory or GpuMemory()
        self.tensors: Tensors = {}
        """Those that the model takes and gives, as far as they are known when it is loaded."""
        self.form: ServedAs | None = None
        """Which form of the model is served and why, where there was a choice."""
        make_steps: Callable[..., Steps] = Steps if traced is None else traced.steps
        self.steps = make_steps(
            model=model,
            functions=functions,
            context=context,
            default_accept=default_accept,
            reading=reading,
            max_response_bytes=max_response_bytes,
            declared=declared or Declared(),
        )
        self.joined_calls = JoinedCalls(
            steps=self.steps, batching=batching or Batching(), prove=prove, timeout_s=timeout_s
        )
        make_streams: Callable[..., Streams] = Streams if traced is None else traced.streams
        self.streams = make_streams(self.steps, max_open=max_streams, timeout_s=timeout_s)
        self.around_conversation: Callable[[Request], AbstractContextManager[object]]
        """What is entered while `stream_fn` runs."""
        self.around_conversation = nullcontext if traced is None else partial(traced.span, "stream_fn")
        self._page: BegunPage | None = None
        self._next_place = 0

    @property
    def may_join(self) -> bool:
        """Whether requests may ever share a call, so that sending several together is of use."""
        return self.joined_calls.possible

    def serve(self, page: BegunPage | None) -> None:
        """From now on requests come from the frontend, which reads on `page` what is begun."""
        self._page, self._next_place = page, 0

    def begin(
        self, received: Sequence[protocol.Request], decoders: Executor | None = None, *, alone: bool = False
    ) -> Batch:
        """Take in a batch, or requests that are each by itself.

        They are decoded by `decoders`, or later, in the thread that scripts rely on.
        """
        requests = [self.steps.receive(each) for each in received]
        place = self._next_place
        self._next_place += len(requests)
        if decoders is None:
            return Batch(requests=requests, alone=alone, decode_s=0.0, first_place=place)
        started_s = time.perf_counter()
        begun = self._begin_all(requests, place)
        for _ in decoders.map(self.steps.attempt_to_decode, compress(requests, begun)):
            pass
        decode_s = time.perf_counter() - started_s
        return Batch(requests=requests, alone=alone, decode_s=decode_s, first_place=place, begun=begun)

    def _begin_all(self, requests: Sequence[Request], first_place: int) -> list[bool]:
        return [self._begin(first_place + at) for at in range(len(requests))]

    def _begin(self, place: int) -> bool:
        return self._page is None or self._page.begin(place)

    def events(self, batch: Batch) -> Iterator[list[Event]]:
        """Answer the requests of `batch`: yields what is ready as soon as it is; the last list ends with `Done`.

        Of a request whose body is a stream it says so, and leaves it to `streams`.
        """
        steps, calls = self.steps, self.joined_calls
        tally = steps.tally = Tally(decode_s=batch.decode_s)
        company = not batch.alone and len(batch.requests) > 1 and calls.possible
        to_join: dict[tuple[Hashable, Hashable], list[Request]] = {}
        to_prove: dict[tuple[Hashable, str | None], list[Request]] = {}
        waiting = len(batch.requests)
        ready: list[Event] = []
        # 1. What is no batch, or not yet: one request after the other, to its answer.
        for request in self._taken_up(batch, together=company):
            if isinstance(request, PassedOver):
                waiting -= 1
                yield [request]
                continue
            started_s = time.perf_counter()
            steps.attempt_to_decode(request)
            tally.decode_s += time.perf_counter() - started_s
            may_share = company and request.outcome is None and request.received.form is not Form.CHAT
            key, decision = calls.decide(request) if may_share else (None, Decision.SINGLE)
            if decision is Decision.JOIN:
                # Requests of different adapters are requests to different models.
                likeness = (request.adapter, calls.alike(key, request))
                to_join.setdefault((key, likeness), []).append(request)
                if tally.slow():
                    yield [Progress(proving=False)]
                continue
            ready.append(self._answer(request))
            if self._is_due(request, key, decision):
                to_prove.setdefault((key, request.adapter), []).append(request)
                batch.forget(request)
            else:
                batch.drop(request)
            waiting -= 1
            if waiting or to_prove:
                tally.sent()
                yield ready
                ready = []
        # 2. What shares a call.
        for key, requests in calls.portions(to_join) if to_join else ():
            started_s = time.perf_counter()
            calls.predict(requests, key)
            tally.predict_s += time.perf_counter() - started_s
            for request in requests:
                ready.append(self._encode(request))
                batch.drop(request)
                waiting -= 1
                if waiting and tally.slow():
                    yield ready
                    ready = []
            if ready and (waiting or to_prove):
                tally.sent()
                yield ready
                ready = []
        # 3. What might share one. The clients have their answers.
        for progress in self._proofs(to_prove) if to_prove else ():
            yield [progress]
        batch.let_go()
        yield [*ready, *self.gpu_memory.news(), tally.done()]

    def _taken_up(self, batch: Batch, *, together: bool) -> Iterator[Request | PassedOver]:
        """The requests, each begun when it is asked for, or all `together`; of one that was taken back, its place."""
        begun = batch.begun
        if begun is None and together:
            begun = self._begin_all(batch.requests, batch.first_place)
        for at, request in enumerate(batch.requests):
            place = batch.first_place + at
            yield request if (self._begin(place) if begun is None else begun[at]) else PassedOver(place)

    def _is_due(self, request: Request, key: Hashable, decision: Decision) -> bool:
        """Whether an answered request has a part in a proof."""
        if request.outcome is None:  # its body is a stream
            self.joined_calls.streams(key)
            return False
        return decision is Decision.PROVE or decision is Decision.WAIT

    def _proofs(self, to_prove: Mapping[tuple[Hashable, str | None], list[Request]]) -> Iterator[Progress]:
        self.steps.proving = True
        try:
            for (key, _), requests in to_prove.items():
                answered = [request for request in requests if isinstance(request.outcome, Answer)]
                yield from proof.prove(self.joined_calls, key, answered)
        finally:
            self.steps.proving = False
        self.context.turn_to()  # a proof has requests of its own

    def _answer(self, request: Request) -> Event:
        """Lead one request to its outcome, as if there were no others."""
        if request.outcome is None:
            self.steps.attempt_to_predict(request)
        if request.compared and request.outcome is None and not is_source(request.prediction):
            request.kept = comparing.copied(request.prediction)
        return self._encode(request)

    def _encode(self, request: Request) -> Event:
        self.steps.attempt_to_encode(request)
        outcome = request.outcome
        if outcome is None:  # the body is a stream
            return self.streams.open(request)
        if isinstance(outcome, Answer) and len(outcome.body) > LARGE_ANSWER_BYTES:
            return self.streams.send(request, outcome)
        return outcome
