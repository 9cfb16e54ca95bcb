"""One batch of requests to one batch of answers.

Requests share a predict_fn call where the archive declares that they may, or where that has been proved (`joining`).
All others are no batch: each is decoded, predicted and encoded before the next is looked at, and its answer leaves at
once. One item's error is that item's error; SystemExit, KeyboardInterrupt and CancelledError are errors like any other.
A shared call that fails, for whatever reason, is halved until the item that fails is alone; running out of memory is
the same road, with the cache emptied first.
"""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError

from inference.batching import Batching
from inference.errors import (
    BadRequest,
    HandlerFailed,
    NotAcceptable,
    OutOfMemory,
    RaisedByHandler,
    RequestError,
    UnsupportedMediaType,
)
from inference.protocol import Answer, Done, Error, Event, Item, Progress
from inference.worker import collate, comparing, defaults, trial
from inference.worker.accept import preferred_type
from inference.worker.comparing import Evidence
from inference.worker.content import TEXT_TYPES, WRITABLE, Reading, decode_text, split_media_type
from inference.worker.content_codings import unpack
from inference.worker.context import Context, RequestProcessor
from inference.worker.device_errors import empty_cache, give_up_if_device_is_lost, is_out_of_memory
from inference.worker.handler import Functions
from inference.worker.job import Job
from inference.worker.joining import Decision, Finding, Signatures
from inference.worker.tally import Tally
from inference.worker.user_code import one_line

log = logging.getLogger("tidegate.worker")

_SERVERS_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Response headers that user code cannot set: a second one would tell the client another length than is sent."""
_CLIENTS_MISTAKES = (ValueError, EOFError, csv.Error, UnidentifiedImageError, Image.DecompressionBombError)
"""What an input_fn raises when the body is not what it reads; anything else that it raises is its own mistake."""
_WAY_OUT = (
    "define collate_fn and split_fn in the script, or say by save_model(batching=True) that joining is right, "
    "or by save_model(batching=False) that it is not"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests on their way, decoded already where other threads do that."""

    jobs: list[Job]
    decode_s: float


@dataclass(kw_only=True)
class Computation:
    """A loaded model with its functions. Shapes and types of what flows between them are the user's own.

    `prove` is off where calling a function twice may do harm; `timeout_s` is what one call may take.
    """

    model: Any
    functions: Functions
    context: Context
    default_accept: str
    reading: Reading
    max_response_bytes: int
    batching: Batching = field(default_factory=Batching)
    prove: bool = True
    timeout_s: float = 60.0
    splittable: bool = True
    """False from the first prediction of a declared batch on that has no part for each request."""
    signatures: Signatures = field(default_factory=Signatures)
    tally: Tally = field(default_factory=Tally)

    @property
    def may_join(self) -> bool:
        """Whether requests may ever share a call, so that sending several together is of use."""
        if self.functions.transform_fn is not None or self.batching.joins is False:
            return False
        return self.prove or self.declared

    @cached_property
    def declared(self) -> bool:
        """Whether somebody who knows the model has said that joining is right."""
        functions = self.functions
        return self.batching.joins is True or functions.collate_fn is not None or functions.split_fn is not None

    @cached_property
    def tolerance(self) -> comparing.Tolerance:
        """How far apart predictions may be that count as the same."""
        return comparing.tolerance_of(self.model)

    def answer(self, items: Sequence[Item]) -> tuple[list[Answer | Error], Done]:
        """Answer every item; returns the answers in the order of the items."""
        batch = self.begin(items)
        *_, done = (event for events in self.finish(batch) for event in events)
        assert isinstance(done, Done)  # noqa: S101 - the last event is
        return [job.outcome for job in batch.jobs if job.outcome is not None], done

    def begin(self, items: Sequence[Item], decoders: Executor | None = None) -> Batch:
        """Take in a batch. Its requests are decoded by `decoders`, or later, in the thread that scripts rely on."""
        jobs = [self.job(item) for item in items]
        started = time.perf_counter()
        if decoders is not None:
            for _ in decoders.map(self._decode_once, jobs):
                pass
        return Batch(jobs=jobs, decode_s=time.perf_counter() - started)

    def finish(self, batch: Batch) -> Iterator[list[Event]]:
        """Answer the requests of `batch`: yields what is ready as soon as it is; the last list ends with `Done`."""
        tally = self.tally = Tally(decode_s=batch.decode_s)
        company = len(batch.jobs) > 1 and self.may_join
        to_join: dict[Hashable, list[Job]] = {}
        to_prove: dict[Hashable, list[Job]] = {}
        waiting = len(batch.jobs)
        ready: list[Event] = []
        # 1. What is no batch, or not yet: one request after the other, to its answer.
        for job in batch.jobs:
            started = time.perf_counter()
            self._decode_once(job)
            tally.decode_s += time.perf_counter() - started
            key, decision = self._decide(job) if company and job.outcome is None else (None, Decision.ALONE)
            if decision is Decision.JOIN:
                to_join.setdefault(key, []).append(job)
                if tally.slow():
                    yield [Progress(proving=False)]
                continue
            job.compared = decision is Decision.PROVE
            self._answer_alone(job)
            if decision in {Decision.PROVE, Decision.WAIT}:
                to_prove.setdefault(key, []).append(job)
            waiting -= 1
            ready.append(job.answer)
            if waiting or to_prove:
                tally.sent()
                yield ready
                ready = []
        # 2. What shares a call.
        for key, jobs in self._portions(to_join):
            started = time.perf_counter()
            self._predict_group(jobs, key)
            tally.predict_s += time.perf_counter() - started
            for job in jobs:
                self._encode_once(job)
                waiting -= 1
                ready.append(job.answer)
                if waiting and tally.slow():
                    yield ready
                    ready = []
            if ready and (waiting or to_prove):
                tally.sent()
                yield ready
                ready = []
        # 3. What might share one. The clients have their answers.
        for key, jobs in to_prove.items():
            yield from self._prove(key, [job for job in jobs if isinstance(job.outcome, Answer)])
        yield [*ready, tally.done(_gpu_bytes())]

    # --- the three phases

    def _decode_once(self, job: Job) -> None:
        if not job.decoded:
            job.decoded = True
            self._attempt(job, "input_fn", self._decode)

    def _decode(self, job: Job) -> None:
        media_type, charset = split_media_type(job.item.content_type)
        packed = job.request.take_content_encoding()
        data = unpack(job.item.body, packed, self.reading.max_decoded_bytes) if packed else job.item.body
        body: str | bytearray
        if media_type in TEXT_TYPES:
            body = decode_text(data, charset)
        else:
            body = data if isinstance(data, bytearray) else bytearray(data)
        content_type = media_type if media_type in TEXT_TYPES else job.item.content_type or None
        if self.functions.transform_fn is not None:
            job.data = (body, content_type)
        elif self.functions.input_fn is not None:
            job.data = self.functions.input_fn(body, content_type)
        else:
            as_rows = self.functions.predict_fn is None
            job.data, job.sent = defaults.input_fn(body, content_type, self.reading, as_rows=as_rows)

    def _answer_alone(self, job: Job) -> None:
        """Lead one request to its answer, as if there were no others."""
        if job.outcome is None:
            started = time.perf_counter()
            self._attempt(job, "transform_fn" if self.functions.transform_fn else "predict_fn", self._predict_alone)
            job.predict_s = time.perf_counter() - started
            self.tally.predict_s += job.predict_s
        if job.compared and job.outcome is None:
            job.kept = comparing.copied(job.prediction)
        self._encode_once(job)

    def _encode_once(self, job: Job) -> None:
        if job.outcome is None:
            started = time.perf_counter()
            self._attempt(job, "output_fn", self._encode)
            self.tally.encode_s += time.perf_counter() - started

    def _encode(self, job: Job) -> None:
        if self.functions.transform_fn is not None:
            result = job.prediction
        elif self.functions.output_fn is not None:
            result = self.functions.output_fn(job.prediction, job.accept)
        else:
            by_record = self.functions.predict_fn is None
            result = defaults.output_fn(job.prediction, job.accept, records=job.sent, by_record=by_record)
        body, content_type = result if isinstance(result, tuple) and len(result) == 2 else (result, job.accept)
        data = _to_bytes(body)
        if len(data) > self.max_response_bytes:
            raise HandlerFailed(f"The answer has {len(data)} bytes; the limit is {self.max_response_bytes}.")
        request = job.request
        headers = _header_lines(request.response_headers) if request.response_headers else b""
        status = request.response_status or 200
        if not 200 <= status <= 599:
            raise HandlerFailed(f"The handler set the status {status}; an answer has one from 200 to 599.")
        if status in {204, 205, 304}:
            data = b""  # HTTP has no body here: a client would take one for the start of the next answer
        job.outcome = Answer(
            job.item.id,
            status,
            _line(str(request.response_content_type or content_type or job.accept)),
            headers,
            data,
        )

    # --- batches

    def _decide(self, job: Job) -> tuple[Hashable, Decision]:
        """Which other requests `job` may share a call with, and whether it does."""
        key, decision = self._look_up(job)
        if decision is Decision.ALONE:
            self.tally.hopeless += 1
        else:
            self.tally.promising = True
        return key, decision

    def _look_up(self, job: Job) -> tuple[Hashable, Decision]:
        by_declaration = Decision.JOIN if self.splittable else Decision.ALONE
        if self.functions.collate_fn is not None:
            return None, by_declaration
        found = collate.signature(job.data)
        if found is None:
            return None, Decision.ALONE
        key, job.records = found
        return key, by_declaration if self.declared else self.signatures.decide(key)

    def _portions(self, to_join: Mapping[Hashable, list[Job]]) -> Iterator[tuple[Hashable, list[Job]]]:
        """What is joined, in as many calls as it takes for each to be done in time."""
        for key, jobs in to_join.items():
            most = len(jobs) if self.declared else self.signatures.most(key)
            yield from ((key, jobs[at : at + most]) for at in range(0, len(jobs), most))

    def _predict_group(self, jobs: list[Job], key: Hashable) -> None:
        """Predict `jobs` with one call; where that fails, each half with one call, down to the item that fails."""
        if len(jobs) == 1:
            self._attempt(jobs[0], "predict_fn", self._predict_alone)
            return
        splittable, out_of_memory = True, False
        try:
            self._predict_together(jobs)
        except collate.NotSplittable as error:
            self._join_no_more(key, str(error))
            splittable = False
        except BaseException as error:
            give_up_if_device_is_lost(error)
            log.warning(
                "a batch of %d is halved, because predicting it failed: %s: %s",
                len(jobs),
                type(error).__name__,
                one_line(error),
            )
            out_of_memory = is_out_of_memory(error)
        else:
            self.tally.joined += 1
            if not self.declared:
                self.signatures.passed(key)
            return
        # Outside the handler: until it is left, the traceback holds the batch's tensors.
        if out_of_memory:
            empty_cache()
        parts = [jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]] if splittable else [[job] for job in jobs]
        for part in parts:
            self._predict_group(part, key)
        if splittable and not (self.declared or out_of_memory) and all(job.outcome is None for job in jobs):
            self.signatures.doubt(key)

    def _join_no_more(self, key: Hashable, reason: str) -> None:
        if not self.declared:
            self._refuse(key, reason)
        elif self.splittable:
            self.splittable = False
            log.warning("requests are predicted one by one from now on: %s", reason)

    def _refuse(self, key: Hashable, reason: str) -> None:
        self.tally.refused += 1
        log.log(
            logging.WARNING if self.signatures.refuse(key) else logging.DEBUG,
            "requests are not joined into one call from now on, because joined they are not answered as alone: %s; %s",
            reason,
            _WAY_OUT,
            extra={"signature": str(key)[:300]},
        )

    def _prove(self, key: Hashable, jobs: list[Job]) -> Iterator[list[Event]]:
        """See whether `jobs`, which are answered, would have got the same answers as one batch."""
        if len(jobs) < 2:
            return
        if self.signatures.decide(key) is not Decision.PROVE:
            self.signatures.passed(key)
            return
        if any(job.asked_context for job in jobs):
            self._refuse(key, "predict_fn asks the context about its request")
            return
        affordable = _affordable(jobs, self.timeout_s / 2)
        if len(affordable) < len(jobs):
            self.signatures.limit(key, max(1, len(affordable)))
        jobs = affordable
        contents = [hash((job.item.content_type, bytes(job.item.body))) for job in jobs]
        if not self.signatures.promising(contents):
            self.signatures.unpromising(key)
            return
        yield [Progress(proving=True)]
        steps = trial.compare(self, key, jobs, self.tolerance)
        while (found := self._next_step(steps)) is None:
            if self.tally.slow():
                yield [Progress(proving=True)]
        if isinstance(found, str):
            self._refuse(key, found)
        elif self.signatures.agreed(key, contents, found) is Finding.PROVED:
            self.tally.proved += 1

    def _next_step(self, steps: Iterator[Evidence | None]) -> Evidence | str | None:
        """The next step of a comparison: None where there are more, else what it says, or why it says no."""
        try:
            return next(steps)
        except (trial.Unlike, collate.NotSplittable) as error:
            return str(error)
        except BaseException as error:
            give_up_if_device_is_lost(error)
            if not is_out_of_memory(error):
                return f"{type(error).__name__}: {one_line(error)}"
        empty_cache()
        return Evidence.NONE

    # --- the steps one by one, for a comparison (`trial.Road`)

    def job(self, item: Item) -> Job:
        """A request at the beginning of its way."""
        ours = self.functions.output_fn is None and self.functions.transform_fn is None
        accept = preferred_type(item.accept, self.default_accept, WRITABLE if ours else None)
        return Job(item=item, request=RequestProcessor(item), accept=accept)

    def decode(self, job: Job) -> None:
        """Do what input_fn is there for. Raises what it raises."""
        self.context.request_processor = [job.request]
        self._decode(job)

    def predict_alone(self, job: Job) -> None:
        """Do what predict_fn is there for. Raises what it raises."""
        self.context.request_processor = [job.request]
        self._predict_alone(job)

    def predict_together(self, jobs: Sequence[Job]) -> None:
        """Do what predict_fn is there for, with one call. Raises what it raises, or `NotSplittable`."""
        self._predict_together(jobs)

    def encode(self, job: Job) -> None:
        """Do what output_fn is there for. Raises what it raises."""
        self.context.request_processor = [job.request]
        self._encode(job)

    # --- predictions

    def _predict_together(self, jobs: Sequence[Job]) -> None:
        self.context.request_processor = [job.request for job in jobs]
        inputs = [job.data for job in jobs]
        if self.functions.collate_fn is not None:
            joined = self.functions.collate_fn(inputs)
        else:
            joined = collate.join(inputs) if len(inputs) > 1 else inputs[0]
        self.context.asked = False
        prediction = self._call_predict(joined, len(jobs))
        if self.context.asked and not self.declared:
            raise collate.NotSplittable("predict_fn asks the context about its requests")
        if self.functions.split_fn is not None:
            parts = list(self.functions.split_fn(prediction, len(jobs)))
            if len(parts) != len(jobs):
                raise collate.NotSplittable(f"split_fn made {len(parts)} parts for {len(jobs)} requests")
        else:
            try:
                parts = collate.split(prediction, [job.records or _records(job.data) for job in jobs])
            except collate.NotSplittable as error:
                raise collate.NotSplittable(f"a prediction cannot be split: {error}") from None
        for job, part in zip(jobs, parts, strict=True):
            job.prediction = part

    def _predict_alone(self, job: Job) -> None:
        if self.functions.transform_fn is not None:
            body, content_type = job.data
            self.tally.sizes.append(1)
            job.prediction = self.functions.transform_fn(self.model, body, content_type, job.accept)
        elif self.functions.collate_fn is not None or self.functions.split_fn is not None:
            self._predict_together([job])  # so that output_fn is given the same whether the batch is of one or of many
        else:
            if job.compared:
                self.context.asked = False
            job.prediction = self._call_predict(job.data, 1)
            job.asked_context = job.compared and self.context.asked

    def _call_predict(self, data: Any, requests: int) -> Any:
        self.tally.sizes.append(requests)
        if self.functions.predict_fn is not None:
            return self.functions.predict_fn(data, self.model)
        return defaults.predict_fn(data, self.model)

    # --- one item's error is that item's error

    def _attempt(self, job: Job, function: str, step: Callable[[Job], None]) -> None:
        self.context.request_processor = [job.request]
        refusal: RequestError | None = None
        try:
            step(job)
        except BaseException as error:
            give_up_if_device_is_lost(error)
            refusal = _refusal(error, function, job)
            if refusal.status >= 500:
                request_id = self.context.get_request_id(0)
                log.error("%s failed", function, exc_info=error, extra={"request_id": request_id})
            job.outcome = Error(job.item.id, refusal.status, refusal.code, refusal.message)
        if isinstance(refusal, OutOfMemory):
            empty_cache()


def _refusal(error: BaseException, function: str, job: Job) -> RequestError:
    if isinstance(error, RequestError):
        return error
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status <= 599:
        message = getattr(error, "message", None)
        return RaisedByHandler(message if isinstance(message, str) and message else one_line(error), status)
    if any(kind.__name__ == "UnsupportedFormatError" for kind in type(error).__mro__):
        found = _unsupported(one_line(error), function, job)
        if found is not None:
            return found
    if is_out_of_memory(error):
        return OutOfMemory("This request alone does not fit into the memory that is there.")
    if function == "input_fn" and isinstance(error, _CLIENTS_MISTAKES):
        text = one_line(error)
        if isinstance(error, UnidentifiedImageError) and " object at 0x" in text:  # Pillow names what it read
            text = "it is not an image of a kind that can be read"
        return BadRequest(f"The body was refused: {text}.")
    return HandlerFailed(f"{function} raised {type(error).__name__}; the log has its traceback under this request id.")


def _unsupported(text: str, function: str, job: Job) -> RequestError | None:
    """What the toolkit's UnsupportedFormatError, which has no status, is about: the body's type or the answer's.

    It goes by its name and its text, because an archive may bring the real toolkit.
    """
    if function == "transform_fn":
        of_the_answer = job.accept in text and (job.item.content_type or "None") not in text
        function = "output_fn" if of_the_answer else "input_fn"
    if function == "input_fn":
        return UnsupportedMediaType(f"The Content-Type was refused: {text}.")
    return NotAcceptable(f"The Accept header was refused: {text}.") if function == "output_fn" else None


def _affordable(jobs: list[Job], limit_s: float) -> list[Job]:
    """As many of `jobs` as one call may be expected to predict within `limit_s`, going by how long each took alone."""
    chosen, total_s = [], 0.0
    for job in jobs:
        total_s += job.predict_s
        if total_s > limit_s:
            break
        chosen.append(job)
    return chosen


def _records(data: Any) -> int:
    found = collate.signature(data)
    return found[1] if found else 1


def _gpu_bytes() -> int:
    return torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]


def _to_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, torch.Tensor):
        return defaults.tensor_bytes(body)
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise HandlerFailed(
            f"output_fn returned a {type(body).__name__}; it must return bytes, str, a tensor or what JSON can hold "
            f"({one_line(error)})."
        ) from error


def _header_lines(headers: Mapping[Any, Any]) -> bytes:
    named = ((_token(key), _line(str(value))) for key, value in headers.items())
    lines = "".join(f"{name}: {value}\r\n" for name, value in named if name.lower() not in _SERVERS_HEADERS)
    return lines.encode("latin-1", "replace")


@lru_cache(maxsize=1024)
def _line(value: str) -> str:
    """A header value that cannot start a header of its own, nor hold what a client's parser refuses."""
    text = "".join(character if character.isprintable() else " " for character in value)
    return " ".join(text.split())


def _token(key: Any) -> str:
    text = "".join(c for c in str(key) if c.isascii() and (c.isalnum() or c in "-_."))
    if not text:
        raise HandlerFailed(f"The response header name {key!r} is not one.")
    return text
