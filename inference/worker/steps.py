"""The steps of a request: from a body to data, to a prediction, to an answer, each by the user's function or ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import torch

from tidegate.inference import protocol
from tidegate.inference.errors import HandlerFailed, OutOfMemory
from tidegate.inference.protocol import Error, Form
from tidegate.inference.worker import chat, collate, defaults, misfit, named_outputs, open_inference
from tidegate.inference.worker.accept import demand_some, demand_writable, preferred_type
from tidegate.inference.worker.adapters import Adapters
from tidegate.inference.worker.chunks import BodyChunks, ItemChunks, StreamBody, is_source
from tidegate.inference.worker.content import JSON, Reading, split_media_type
from tidegate.inference.worker.context import ADAPTER_LINE, Context
from tidegate.inference.worker.declared.sides import Declared
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost
from tidegate.inference.worker.encoding import Unsendable
from tidegate.inference.worker.formats.onnx_model import OnnxModel
from tidegate.inference.worker.given_body import given_body, given_buffer, given_file, given_type
from tidegate.inference.worker.handler import Functions
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.response import answer_of, body_and_type
from tidegate.inference.worker.tally import Tally
from tidegate.inference.worker.user_errors import public_error

log = logging.getLogger("tidegate.worker")

_WHOLE = frozenset({bytes, str})
"""The types of most bodies, which are no streams."""
# To look a member up in its enumeration takes as long as a call.
_PLAIN, _CHAT, _OPEN_INFERENCE = Form.PLAIN, Form.CHAT, Form.OPEN_INFERENCE


@dataclass(slots=True, kw_only=True)
class Steps:
    """A loaded model with its functions. Shapes and types of what flows between them are the user's own.

    `decode`, `predict`, `predict_together` and `encode` raise what user code raises; `attempt` makes it the request's
    outcome.
    """

    model: Any
    functions: Functions
    context: Context
    default_accept: str
    reading: Reading
    max_response_bytes: int
    declared: Declared = field(default_factory=Declared)
    """How the functions that the script lacks read and write."""
    adapters: Adapters = field(default_factory=Adapters)
    """Those that requests may ask the model to have."""
    by_name: bool = False
    """Whether a model that the default `predict_fn` calls has turned out to want a dict also of one named tensor."""
    tally: Tally = field(default_factory=Tally)
    """The account of the batch at hand."""
    proving: bool = False
    """Whether what is computed now is only tried: the clients have their answers."""
    writable: tuple[str, ...] | None = field(init=False)
    """The types that answers may have; None where only a function of the script knows, and does not say."""
    _predictor: str = field(init=False)
    _preferred: Callable[[str], str] = field(init=False)
    """From an Accept header to the type to answer with."""

    def __post_init__(self) -> None:
        ours = self.functions.output_fn is None and self.functions.transform_fn is None
        self.writable = self.declared.writable if ours else (self.functions.media_types or self.functions.usual_types)
        self._predictor = self.functions.predictor
        self._preferred = lru_cache(maxsize=1024)(
            partial(preferred_type, default=self.default_accept, writable=self.writable)
        )

    def receive(self, received: protocol.Request) -> Request:
        """The request at the beginning of its way."""
        # The Accept header of the open inference protocol is about tensors, which a script's output_fn does not make.
        wanted = received.accept if received.form is not _OPEN_INFERENCE else ""
        return Request(received=received, accept=self._preferred(wanted))

    def attempt(self, request: Request, function: str, step: Callable[[Request], None]) -> None:
        """Take one step. What it raises, even SystemExit, is the outcome of this request and of no other."""
        try:
            step(request)
            return
        except BaseException as error:
            request.outcome = self.failure(error, function, request)
        # Outside the handler: until it is left, the traceback holds the tensors that did not fit.
        if request.outcome.status == OutOfMemory.status:
            empty_cache()

    def failure(self, error: BaseException, function: str, request: Request) -> Error:
        """What the client is told of `error`, which user code raised; the log has its traceback."""
        if isinstance(error, Unsendable) and (called := self.functions.called):
            # There is no function of the contract in such a script, and it must not define one.
            told = f"{error.fault}; {called[0].lower()}{called[1:]} must return {error.instead} instead."
            error = HandlerFailed(told).with_traceback(error.__traceback__)
        give_up_if_device_is_lost(error)
        public = public_error(error, function, request)
        if public.status >= 500:
            self.context.turn_to(request)
            request_id = self.context.get_request_id(0)
            log.error("%s failed", function, exc_info=error, extra={"request_id": request_id})
        return Error(request.received.id, public.status, public.code, public.message)

    # --- input_fn

    def attempt_to_decode(self, request: Request) -> None:
        """Decode a request that is not decoded yet."""
        if not request.decoded:
            request.decoded = True
            self.attempt(request, "input_fn", self.decode)

    def decode(self, request: Request) -> None:
        """From the body to `data`."""
        self.context.turn_to(request)
        functions, limit, form = self.functions, self.reading.max_decoded_bytes, request.received.form
        if form is _CHAT:
            if functions.chat_fn is None:
                raise chat.no_chat_fn()
            request.data = chat.read_request(given_buffer(request, limit), request.received.content_type)
            return
        if functions.media_types is not None and form is _PLAIN:
            demand_writable(request.accept, functions.media_types)  # before a prediction that nobody can have
        source = request
        if form is _OPEN_INFERENCE:
            length = request.processor.get_request_property(open_inference.JSON_LENGTH)
            request.asked = asked = open_inference.read_request(given_buffer(request, limit), length, limit)
            if functions.input_fn is None and functions.transform_fn is None:
                if (checked := self.declared.checked(asked.values())) is not None:
                    request.asked = asked = asked.holding(checked)
                request.data = open_inference.data_of(asked, by_name=self.by_name or self._onnx is not None)
                return
            source = open_inference.as_body(asked, request, named=functions.takes_names)
        content_type = given_type(source.received.content_type)
        if functions.input_fn is None and functions.transform_fn is None:
            as_rows = functions.predict_fn is None
            body = given_body(source, limit, may_map=True)
            if (taken := self.declared.read(body, content_type or "", max_decoded_bytes=limit)) is not None:
                request.data, request.records_in_body = taken.data, taken.records
                request.taken = replace(taken, data=None)  # whoever lets go of the data lets go of all of it
                return
            request.data, request.records_in_body = defaults.input_fn(body, content_type, self.reading, as_rows=as_rows)
            return
        given = given_file(source, limit) if functions.body_as_file else given_body(source, limit, may_map=False)
        if functions.input_fn is not None:
            request.data = functions.input_fn(given, content_type)
        else:
            request.data = (given, content_type)

    # --- predict_fn

    def attempt_to_predict(self, request: Request) -> None:
        """Predict one request by itself, and note the time that it takes."""
        started_s = time.perf_counter()
        function = chat.FUNCTION if request.received.form is _CHAT else self._predictor
        self.attempt(request, function, self.predict)
        request.predict_s = time.perf_counter() - started_s
        self.tally.predict_s += request.predict_s

    def predict(self, request: Request) -> None:
        """From `data` to `prediction`, with a call of its own."""
        self.context.turn_to(request)
        if self.adapters.in_use or ADAPTER_LINE in request.received.headers:
            self.adapters.turn_to(request.adapter)
        if request.received.form is _CHAT and self.functions.chat_fn is not None:
            self.tally.sizes.append(1)
            request.prediction = self.functions.chat_fn(request.data, self.model)
        elif self.functions.transform_fn is not None:
            body, content_type = request.data
            self.tally.sizes.append(1)
            request.prediction = self.functions.transform_fn(self.model, body, content_type, request.accept)
        elif self.functions.collate_fn is not None or self.functions.split_fn is not None:
            self.predict_together([request])  # so that output_fn is given the same from a batch of one
        else:
            if request.compared:
                self.context.asked = False
            request.prediction = self._predict_alone(request)
            request.asked_context = request.compared and self.context.asked

    def predict_together(self, requests: Sequence[Request]) -> Any:
        """Give each of `requests` its part of one prediction, which is returned. Raises `NotSplittable` besides."""
        self.context.turn_to(*requests)
        self.adapters.turn_to(requests[0].adapter)
        inputs = [request.data for request in requests]
        if self.functions.collate_fn is not None:
            joined = self.functions.collate_fn(inputs)
        else:
            joined = collate.join(inputs) if len(inputs) > 1 else inputs[0]
        prediction = self._call_predict(joined, len(requests))
        if is_source(prediction):
            if len(requests) > 1:
                raise collate.NotSplittable("predict_fn returned a generator")
            requests[0].prediction = prediction
            return prediction
        for request, part in zip(requests, self._split(prediction, requests), strict=True):
            request.prediction = part
        return prediction

    def _call_predict(self, data: Any, requests: int) -> Any:
        self.tally.sizes.append(requests)
        if self.functions.predict_fn is not None:
            return self.functions.predict_fn(data, self.model)
        return defaults.predict_fn(data, self.model)

    def _predict_alone(self, request: Request) -> Any:
        """The prediction of one request; of one named tensor, by its name where the model turns out to want that."""
        if self.functions.predict_fn is not None:
            self.tally.sizes.append(1)
            return self.functions.predict_fn(request.data, self.model)
        try:
            return self._call_predict(request.data, 1)
        except Exception as error:
            if not (
                request.asked is not None
                and isinstance(request.data, torch.Tensor)
                and misfit.wants_names(error.__cause__ or error)
            ):
                raise
        assert request.asked is not None  # noqa: S101 - for the type checker
        request.data = open_inference.data_of(request.asked, by_name=True)
        prediction = self._call_predict(request.data, 1)
        self.by_name = True
        return prediction

    def _split(self, prediction: Any, requests: Sequence[Request]) -> list[Any]:
        if self.functions.split_fn is not None:
            parts = list(map(collate.owned, self.functions.split_fn(prediction, len(requests))))
            if len(parts) != len(requests):
                raise collate.NotSplittable(f"split_fn made {len(parts)} parts for {len(requests)} requests")
            return parts
        try:
            return collate.split(prediction, [request.records or _records(request.data) for request in requests])
        except collate.NotSplittable as error:
            if len(requests) == 1:  # nothing to split
                return [prediction]
            raise collate.NotSplittable(f"a prediction cannot be split: {error}") from None

    # --- output_fn

    def attempt_to_encode(self, request: Request) -> None:
        """Encode a request that has no outcome yet."""
        if request.outcome is None:
            started_s = time.perf_counter()
            self.attempt(request, "output_fn", self.encode)
            self.tally.encode_s += time.perf_counter() - started_s

    def encode(self, request: Request) -> None:
        """From `prediction` to the outcome."""
        self.context.turn_to(request)
        if self.adapters.in_use or ADAPTER_LINE in request.received.headers:
            self.adapters.turn_to(request.adapter)  # output_fn may know the model by another way
        function, accept = "transform_fn", request.accept
        if request.received.form is _CHAT:
            self._answer_chat(request)
            return
        if self.functions.transform_fn is not None:
            result = request.prediction
        elif self.functions.output_fn is not None:
            function = "output_fn"
            result = self.functions.output_fn(request.prediction, accept)
        elif request.asked is not None:
            self._answer_by_tensors(request, request.prediction)
            return
        elif (stream := _stream_of_items(request)) is not None:
            request.stream = stream
            return
        elif self.declared.output is not None:
            demand_some(accept)
            result = self.declared.write(request.prediction, accept, request.taken, records=request.records_in_body)
        else:
            by_record = self.functions.predict_fn is None
            result = defaults.output_fn(
                request.prediction, accept, records=request.records_in_body, by_record=by_record
            )
        body, content_type = body_and_type(result, request.accept) if isinstance(result, tuple) else (result, accept)
        if request.asked is not None:
            self._answer_by_tensors(request, body, content_type)
        elif type(body) not in _WHOLE and is_source(body):
            inner = request.prediction if is_source(request.prediction) else None
            request.stream = StreamBody(body, BodyChunks(content_type), function, inner)
        else:
            request.outcome = answer_of(body, content_type, request, self.max_response_bytes)

    def _answer_chat(self, request: Request) -> None:
        said = chat.answer_of(
            request.prediction,
            request.data,
            request_id=self.context.get_request_id(),
            model_name=self.context.model_name,
        )
        if isinstance(said, StreamBody):
            request.stream = said
        else:
            request.outcome = answer_of(said, JSON, request, self.max_response_bytes)

    def doubt(self, example: Request) -> str | None:
        """What of a declaration is doubtful, going by an example that was answered; None where nothing is."""
        writes = self.functions.output_fn is None and self.functions.transform_fn is None
        return self.declared.doubt(example.prediction) if writes else None

    @property
    def _onnx(self) -> OnnxModel | None:
        """The model, where the default `predict_fn` calls one that has names for its inputs and outputs."""
        return self.model if isinstance(self.model, OnnxModel) and self.functions.predict_fn is None else None

    def _answer_by_tensors(self, request: Request, result: Any, content_type: str | None = None) -> None:
        """Answer as the open inference protocol has it: by a prediction, or by a body of the type `content_type`."""
        assert request.asked is not None  # noqa: S101 - for the type checker: whoever calls this has looked
        source = result[0] if isinstance(result, tuple) and result else result
        if is_source(source):
            if isinstance(source, Generator):
                source.close()
            raise open_inference.no_streams()
        if content_type is None:
            outputs = named_outputs.outputs_of(result, self._onnx.outputs[0] if self._onnx else "output_0")
        else:
            processor = request.processor
            outputs = named_outputs.outputs_of_body(result, str(processor.response_content_type or content_type))
            processor.response_content_type = None  # it is that of an output
        written = open_inference.write_answer(
            request.asked,
            outputs,
            model_name=self.context.model_name,
            model_version=str(self.context.model_version),
        )
        answer = answer_of(written.body, written.content_type, request, self.max_response_bytes)
        request.outcome = answer._replace(headers=answer.headers + written.headers)


def _stream_of_items(request: Request) -> StreamBody | None:
    """The stream of a prediction that is a generator, or one with the type of its items; None for any other."""
    prediction = request.prediction
    # Not every pair is one with a type: a model may predict two tensors.
    typed = isinstance(prediction, tuple) and len(prediction) == 2 and is_source(prediction[0])
    if not typed and not is_source(prediction):
        return None
    source, accept = body_and_type(prediction, request.accept)
    named = typed or split_media_type(accept)[0] in request.received.accept.lower()
    return StreamBody(source, ItemChunks(accept, named=named), "predict_fn")


def _records(data: Any) -> int:
    found = collate.signature(data)
    return found[1] if found else 1
