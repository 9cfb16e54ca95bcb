"""The worker where OpenTelemetry is on: a span for each function, current while it runs, so that spans of the script's
own become its children.

    one request     input_fn ▶ predict_fn ▶ output_fn, each a child of the frontend's span
    a shared call   one predict_fn below the first request, with links to all; each other request has a span of the same
                    time that links to it, so that every trace is whole
    a stream        from its announcement until its generator is closed
    a conversation  stream_fn, as long as it runs

Nothing of this is imported where it is off. What is only tried (the archive's example, a proof that requests may share
a call) has no spans.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span

from tidegate.inference.protocol import Error, Event, Form
from tidegate.inference.protocol import Stream as Announced
from tidegate.inference.span_export import Tracing, handed_over, note
from tidegate.inference.worker import chat
from tidegate.inference.worker.open_stream import OpenStream
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.steps import Steps
from tidegate.inference.worker.streams import Streams


class Traced:
    """What makes a computation's steps and streams such that they have spans."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracer = tracing.tracer

    def steps(self, **how: Any) -> Steps:
        """The steps; `how` is that of `Steps`."""
        return TracedSteps(traced=self, **how)

    def streams(self, steps: Steps, **how: Any) -> Streams:
        """The streams; `how` is that of `Streams`."""
        return TracedStreams(self, steps, **how)

    def span(self, name: str, request: Request) -> AbstractContextManager[object]:
        """A span of one request, current inside."""
        context = handed_over(request.received.headers)
        return nullcontext() if context is None else self._span(name, context)

    @contextmanager
    def _span(
        self, name: str, context: Context, attributes: dict[str, int] | None = None, links: Sequence[Link] = ()
    ) -> Iterator[Span]:
        with self.tracer.start_as_current_span(
            name, context=context, attributes=attributes, links=links, record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                yield span
            except BaseException as error:
                note(span, error)
                raise

    @contextmanager
    def shared(self, name: str, requests: Sequence[Request]) -> Iterator[None]:
        """The span of a call that several requests share, current inside."""
        contexts = [each for request in requests if (each := handed_over(request.received.headers)) is not None]
        if not contexts:
            yield
            return
        first = next((each for each in contexts if _asks(each).trace_flags.sampled), contexts[0])
        size, started_ns = {"tidegate.batch_size": len(requests)}, time.time_ns()
        links = [Link(_asks(each)) for each in contexts]
        failed: BaseException | None = None
        span: Span = trace.INVALID_SPAN
        try:
            with self._span(name, first, size, links) as span:
                yield
        except BaseException as error:
            failed = error
            raise
        finally:
            for context in contexts:
                if context is not first:
                    link = Link(span.get_span_context())
                    other = self.tracer.start_span(
                        name, context=context, attributes=size, links=[link], start_time=started_ns
                    )
                    if failed is not None:
                        note(other, failed)
                    other.end()


@dataclass(slots=True, kw_only=True)
class TracedSteps(Steps):
    """`Steps`, each with its span. A class with slots is made anew by its decorator, so `super()` finds nothing."""

    traced: Traced

    def decode(self, request: Request) -> None:
        """See `Steps`."""
        with self._span("input_fn", request):
            Steps.decode(self, request)

    def predict(self, request: Request) -> None:
        """See `Steps`."""
        functions = self.functions
        chats = request.received.form is Form.CHAT and functions.chat_fn is not None
        joins = functions.collate_fn is not None or functions.split_fn is not None
        if joins and not chats and functions.transform_fn is None:
            Steps.predict(self, request)  # by `predict_together`
            return
        with self._span(chat.FUNCTION if chats else functions.predictor, request):
            Steps.predict(self, request)

    def predict_together(self, requests: Sequence[Request]) -> Any:
        """See `Steps`."""
        if self.proving:
            return Steps.predict_together(self, requests)
        if len(requests) == 1:
            with self.traced.span(self.functions.predictor, requests[0]):
                return Steps.predict_together(self, requests)
        with self.traced.shared(self.functions.predictor, requests):
            return Steps.predict_together(self, requests)

    def encode(self, request: Request) -> None:
        """See `Steps`."""
        with self._span("output_fn", request):
            Steps.encode(self, request)

    def _span(self, name: str, request: Request) -> AbstractContextManager[object]:
        return nullcontext() if self.proving else self.traced.span(name, request)


class TracedStreams(Streams):
    """`Streams`, each with a span that is current while its generator runs."""

    def __init__(self, traced: Traced, steps: Steps, **how: Any) -> None:
        super().__init__(steps, **how)
        self._traced = traced
        self._spans: dict[int, tuple[Span, Context]] = {}

    def open(self, request: Request) -> Event:
        """See `Streams`."""
        function = request.stream.function if request.stream is not None else ""
        said = super().open(request)
        context = handed_over(request.received.headers)
        if isinstance(said, Announced) and context is not None:
            attributes = {"tidegate.function": function}
            span = self._traced.tracer.start_span("stream", context=context, attributes=attributes)
            self._spans[said.id] = span, trace.set_span_in_context(span, context)
        return said

    def failure(self, stream: OpenStream, error: BaseException) -> Error:
        """See `Streams`."""
        if (known := self._spans.get(stream.id)) is not None:
            note(known[0], error)
        return super().failure(stream, error)

    def put_at_hand(self, stream: OpenStream) -> None:
        """See `Streams`."""
        super().put_at_hand(stream)
        if stream.is_async and (known := self._spans.get(stream.id)) is not None:
            attach(known[1])  # in the context of its own task, which nobody else has

    def ended(self, stream: OpenStream) -> None:
        """See `Streams`."""
        super().ended(stream)
        if stream.is_async:  # a plain one is closed later
            self._end_span(stream)

    def _advance(self, stream: OpenStream) -> list[Event]:
        with self._current(stream):
            return super()._advance(stream)

    def _close(self, stream: OpenStream) -> None:
        with self._current(stream):
            super()._close(stream)
        self._end_span(stream)

    @contextmanager
    def _current(self, stream: OpenStream) -> Iterator[None]:
        known = self._spans.get(stream.id)
        if known is None:
            yield
            return
        token = attach(known[1])
        try:
            yield
        finally:
            detach(token)

    def _end_span(self, stream: OpenStream) -> None:
        if (known := self._spans.pop(stream.id, None)) is not None:
            known[0].end()


def _asks(context: Context) -> trace.SpanContext:
    """The span that a context was handed over with."""
    return trace.get_current_span(context).get_span_context()
