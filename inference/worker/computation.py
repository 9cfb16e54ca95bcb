"""One batch of requests to one batch of answers: decode each, predict once, encode each.

One item's error is that item's error; SystemExit, KeyboardInterrupt and CancelledError are errors like any other. A
batch whose prediction fails, for whatever reason, is halved until the item that fails is alone; running out of memory
is the same road, with the cache emptied first.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError

from inference.errors import (
    BadRequest,
    HandlerFailed,
    NotAcceptable,
    OutOfMemory,
    RaisedByHandler,
    RequestError,
    UnsupportedMediaType,
)
from inference.protocol import Answer, Done, Error, Item
from inference.worker import collate, defaults
from inference.worker.accept import preferred_type
from inference.worker.content import TEXT_TYPES, WRITABLE, decode_text, split_media_type
from inference.worker.context import Context, RequestProcessor
from inference.worker.handler import Functions
from inference.worker.user_code import one_line

log = logging.getLogger("tidegate.worker")

_SERVERS_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Response headers that user code cannot set: a second one would tell the client another length than is sent."""
_CLIENTS_MISTAKES = (ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
"""What an input_fn raises when the body is not what it reads; anything else that it raises is its own mistake."""


class DeviceLost(BaseException):
    """The GPU context of this process is gone: the worker ends, and its successor tries each request alone."""


@dataclass(slots=True, kw_only=True)
class Job:
    """One request on its way through the functions."""

    item: Item
    request: RequestProcessor
    accept: str
    data: Any = None
    records: int = 0
    """How many records `data` holds; 0 until somebody has counted."""
    prediction: Any = None
    outcome: Answer | Error | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Decoded requests on their way to one prediction."""

    jobs: list[Job]
    decode_s: float


@dataclass(slots=True, kw_only=True)
class Computation:
    """A loaded model with its functions. Shapes and types of what flows between them are the user's own."""

    model: Any
    functions: Functions
    context: Context
    default_accept: str
    max_decoded_bytes: int
    max_response_bytes: int
    splittable: bool = True
    """False from the first prediction on that has no part for each record: joining would only cost a second call."""

    def answer(self, items: Sequence[Item]) -> tuple[list[Answer | Error], Done]:
        """Answer every item, in any order of failure, with the seconds that the three phases took."""
        return self.finish(self.begin(items))

    def begin(self, items: Sequence[Item], decoders: Executor | None = None) -> Batch:
        """Decode every item: in this thread, as scripts may rely on, or in those of `decoders`."""
        ours = self.functions.output_fn is None and self.functions.transform_fn is None
        writable = WRITABLE if ours else None
        jobs = [
            Job(
                item=item,
                request=RequestProcessor(item),
                accept=preferred_type(item.accept, self.default_accept, writable),
            )
            for item in items
        ]
        started = time.perf_counter()
        for _ in (decoders.map if decoders is not None else map)(self._begin_one, jobs):
            pass
        return Batch(jobs=jobs, decode_s=time.perf_counter() - started)

    def finish(self, batch: Batch) -> tuple[list[Answer | Error], Done]:
        """Predict what was decoded, and encode every answer."""
        jobs = batch.jobs
        started = time.perf_counter()
        self._predict([job for job in jobs if job.outcome is None])
        predicted = time.perf_counter()
        for job in jobs:
            if job.outcome is None:
                self._attempt(job, "output_fn", self._encode)
        done = Done(batch.decode_s, predicted - started, time.perf_counter() - predicted, _gpu_bytes())
        return [job.outcome for job in jobs if job.outcome is not None], done

    # --- the three phases

    def _begin_one(self, job: Job) -> None:
        self._attempt(job, "input_fn", self._decode)

    def _decode(self, job: Job) -> None:
        media_type, charset = split_media_type(job.item.content_type)
        body: str | bytearray
        body = decode_text(job.item.body, charset) if media_type in TEXT_TYPES else bytearray(job.item.body)
        content_type = media_type if media_type in TEXT_TYPES else job.item.content_type or None
        if self.functions.transform_fn is not None:
            job.data = (body, content_type)
        elif self.functions.input_fn is not None:
            job.data = self.functions.input_fn(body, content_type)
        else:
            job.data = defaults.input_fn(body, content_type, max_decoded_bytes=self.max_decoded_bytes)

    def _predict(self, jobs: Sequence[Job]) -> None:
        if self.functions.transform_fn is not None or len(jobs) == 1:
            for job in jobs:
                self._attempt(job, "transform_fn" if self.functions.transform_fn else "predict_fn", self._predict_alone)
            return
        for group in self._groups(jobs):
            self._predict_group(group)

    def _encode(self, job: Job) -> None:
        if self.functions.transform_fn is not None:
            result = job.prediction
        elif self.functions.output_fn is not None:
            result = self.functions.output_fn(job.prediction, job.accept)
        else:
            result = defaults.output_fn(job.prediction, job.accept)
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

    def _groups(self, jobs: Sequence[Job]) -> list[list[Job]]:
        if not self.splittable:
            return [[job] for job in jobs]
        if self.functions.collate_fn is not None:
            return [list(jobs)] if jobs else []
        groups: dict[Any, list[Job]] = {}
        for job in jobs:
            key, job.records = collate.signature(job.data) or (id(job), 1)
            groups.setdefault(key, []).append(job)
        return list(groups.values())

    def _predict_group(self, jobs: list[Job]) -> None:
        """Predict `jobs` with one call; where that fails, each half with one call, down to the item that fails."""
        if len(jobs) == 1:
            self._attempt(jobs[0], "predict_fn", self._predict_alone)
            return
        out_of_memory = False
        try:
            self._predict_together(jobs)
            return
        except collate.NotSplittable as error:
            log.warning(
                "requests are predicted one by one from now on, because a prediction cannot be split: %s", error
            )
            self.splittable = False
        except BaseException as error:
            _give_up_if_device_is_lost(error)
            log.warning(
                "a batch of %d is halved, because predicting it failed: %s: %s",
                len(jobs),
                type(error).__name__,
                one_line(error),
            )
            out_of_memory = is_out_of_memory(error)
        # Outside the handler: until it is left, the traceback holds the batch's tensors.
        if out_of_memory:
            _empty_cache()
        parts = [jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]] if self.splittable else [[job] for job in jobs]
        for part in parts:
            self._predict_group(part)

    def _predict_together(self, jobs: list[Job]) -> None:
        self.context.request_processor = [job.request for job in jobs]
        inputs = [job.data for job in jobs]
        if self.functions.collate_fn is not None:
            joined = self.functions.collate_fn(inputs)
        else:
            joined = collate.join(inputs) if len(inputs) > 1 else inputs[0]
        prediction = self._call_predict(joined)
        if self.functions.split_fn is not None:
            parts = list(self.functions.split_fn(prediction, len(jobs)))
            if len(parts) != len(jobs):
                raise collate.NotSplittable(f"split_fn made {len(parts)} parts for {len(jobs)} requests")
        else:
            parts = collate.split(prediction, [job.records or _records(job.data) for job in jobs])
        for job, part in zip(jobs, parts, strict=True):
            job.prediction = part

    def _predict_alone(self, job: Job) -> None:
        if self.functions.transform_fn is not None:
            body, content_type = job.data
            job.prediction = self.functions.transform_fn(self.model, body, content_type, job.accept)
        elif self.functions.collate_fn is not None or self.functions.split_fn is not None:
            self._predict_together([job])  # so that output_fn is given the same whether the batch is of one or of many
        else:
            job.prediction = self._call_predict(job.data)

    def _call_predict(self, data: Any) -> Any:
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
            _give_up_if_device_is_lost(error)
            refusal = _refusal(error, function, job)
            if refusal.status >= 500:
                request_id = self.context.get_request_id(0)
                log.error("%s failed", function, exc_info=error, extra={"request_id": request_id})
            job.outcome = Error(job.item.id, refusal.status, refusal.code, refusal.message)
        if isinstance(refusal, OutOfMemory):
            _empty_cache()


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device ran out."""
    # The CPU allocator, cuBLAS and the CUDA runtime have no error classes of their own.
    said = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in one_line(error) for text in said)


def _give_up_if_device_is_lost(error: BaseException) -> None:
    """After an assert on the device, say, every further CUDA call of this process fails, whoever sent the request."""
    if "CUDA error" in one_line(error) and not is_out_of_memory(error):
        raise DeviceLost(one_line(error)) from error


def _empty_cache() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


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
