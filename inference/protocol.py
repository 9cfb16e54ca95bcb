"""The frames between frontend and worker, over one stream socket for each worker.

    frame   := u32 length of payload | u8 kind | payload          (all numbers little-endian)

    frontend ▶ worker   LOAD     JSON of a ModelSpec     load this model
                        COMPUTE  u16 count | requests    answer these, as one batch
                        CANCEL   u64 id                  the reader of this stream has left: close it
                        PAUSE    u64 id                  the reader of this stream is slow: hold it
                        RESUME   u64 id                  go on with it
                        ADAPTER  JSON                    load or drop an adapter of the model (adapter_frames.py)
    worker ▶ frontend   READY    u8 may join, u8 talks, u8 has its page | JSON of its GPU bytes, tensors and more
                                                         the model is loaded and has answered its example
                        FAILED   u8 too large | sentence it could not be loaded; the worker exits
                        REPORT   JSON                    in a rehearsal: a step of the load, or what came of it
                        ADAPTER  JSON                    what came of loading one
                        ANSWER   one answer
                        STREAM   u64 id                  this request is going to be a stream: START or ERROR follows,
                                                         when its first piece is there, which may be after DONE
                        START    u64 length | an answer without body
                                                         the stream begins: PART follows, then END or ERROR; the length
                                                         is 2^64-1 where nobody knows it
                        PART     u64 id | bytes          a piece of the body, as soon as it is there
                        END      u64 id                  the body is complete
                        ERROR    one error               after START: the stream is broken off
                        PASSED_OVER u64 place    a request that was about to be taken back is not begun (begun_page.py)
                        PROGRESS u8 proving              the batch goes on; `proving`: what is left has been answered
                        HELD     u64 for each GPU        what the worker holds of it, where that has changed
                        DONE     f64 decode, predict and encode seconds, what came of joining, u16 the size of each
                                 prediction; the worker takes the next batch, though streams may be open

A body that is in a file is not in its COMPUTE frame. Before the frame, its descriptor goes over a second socket, as a
message of its own (SOCK_SEQPACKET) with the u64 id of the request; the far end of that socket comes along with the
first bytes of LOAD, and the file of the page that says what the worker has begun.

No pickle crosses the border. What is made for every request is a NamedTuple: a frozen dataclass takes three times as
long to make. Bodies are carried as they are, headers as the block of lines that HTTP has.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

from tidegate.inference.body_file import BodyFile


class Kind(IntEnum):
    LOAD = 1
    COMPUTE = 2
    READY = 3
    FAILED = 4
    ANSWER = 5
    ERROR = 6
    DONE = 7
    PROGRESS = 8
    START = 9
    PART = 10
    END = 11
    CANCEL = 12
    PAUSE = 13
    RESUME = 14
    STREAM = 15
    OPEN = 16
    MESSAGE = 17
    CLOSE = 18
    MODEL = 19
    REPORT = 20
    ADAPTER = 21
    PASSED_OVER = 22
    HELD = 23


FRAME = struct.Struct("<IB")
_COMPUTE = struct.Struct("<?H")
_REQUEST = struct.Struct("<QB?IIII")
_ANSWER = struct.Struct("<QHII")
_ANSWER_FRAME = struct.Struct("<IBQHII")
_ANSWER_KIND = int(Kind.ANSWER)
_ID = struct.Struct("<Q")
_UNKNOWN = 2**64 - 1
_ERROR = struct.Struct("<QHH")
_READY = struct.Struct("<???")
_DONE = "<dddHHHH?"
_DONE_BYTES = struct.calcsize(_DONE)

Payload = bytes | bytearray
"""What is in a frame; a bytearray where it arrived in several pieces."""

REQUEST_ID_HEADER = "x-tidegate-request-id"
"""The header line by which the frontend tells the worker the id that the client is told too."""
SESSION_HEADER = "x-amzn-sagemaker-session-id"
"""The header that names a stateful session."""
ADAPTER_HEADER = "x-amzn-sagemaker-adapter-identifier"
"""The header that names an adapter of the model, which SageMaker sets for an adapter inference component."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Which model a worker loads, and how.

    `program` is the script that was asked for, None for the usual one; `packages_dir` is the layer of what its
    requirements brought, None where they brought nothing; `sessions_dir` has a directory for each stateful session,
    None where there are none. In a rehearsal the steps of the load are REPORT frames, and no lines of the log; what is
    loaded is looked into then. `prove` says whether functions may be called again to see what may be joined;
    `repeatable`, whether they may be called twice with the same request at all.
    """

    name: str
    model_dir: str
    program: str | None
    threads: int
    verify: bool
    max_batch_size: int
    default_accept: str
    max_decoded_bytes: int
    max_response_bytes: int
    max_image_pixels: int
    log_level: int
    gpu_ids: Sequence[int] = field(default_factory=list)
    """The worker's own GPUs, counted among those of the container; none where it has none."""
    input_threads: int = 0
    packages_dir: str | None = None
    adapters_dir: str | None = None
    """Where adapters may lie besides below the model's own directory; None: nowhere."""
    sessions_dir: str | None = None
    trust_pickle: bool = False
    trust_compiled: bool = False
    form: str = "auto"
    """Which form of the model is served: the first that fits (`auto`), none (`eager`), or the one of this name."""
    hf_task: str | None = None
    hf_trust_remote_code: bool = False
    legacy_pickle: bool = False
    identity_model: bool = False
    submit_directory: str | None = None
    rehearsal: bool = False
    prove: bool = False
    repeatable: bool = False
    timeout_s: float = 60.0
    max_streams: int = 32
    max_frame_bytes: int = 16 * 1024 * 1024
    image_orientation: str = "obey"
    image_background: str = "white"
    lends_models: bool = False
    """Whether `context.get_model` works: there is a model repository."""
    version: int = 1
    """Of a model repository's version; 1 where there are no versions."""
    finds_batch_size: bool = False
    """Whether the size of batches is found on live traffic; `max_batch_size` is the most that it may be."""
    traced: bool = False
    """Whether spans are made of what the functions do."""
    hashed: Sequence[Sequence[Any]] = field(default_factory=list)
    """Files that were hashed while torch was imported (`HashedFile.to_plain`)."""

    def to_json(self) -> bytes:
        """The payload of a LOAD frame."""
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self)}).encode()

    @classmethod
    def from_json(cls, payload: Payload) -> ModelSpec:
        """The spec of a LOAD payload."""
        return cls(**json.loads(payload))


class Form(IntEnum):
    """What the path of a request says about its body and its answer."""

    PLAIN = 0
    """The script's own, or of any type that the defaults know."""
    CHAT = 1
    """OpenAI's chat completions, which `chat_fn` answers."""
    OPEN_INFERENCE = 2
    """Named tensors, as the open inference protocol has them."""


FORMS = tuple(Form)
"""The forms by their numbers: calling the class takes ten times as long."""


class Request(NamedTuple):
    """One request as the worker sees it. `content_type` and `accept` are empty where the client sent none."""

    id: int
    content_type: str
    accept: str
    headers: bytes
    body: bytes | bytearray | memoryview | BodyFile
    form: Form = Form.PLAIN


class Answer(NamedTuple):
    """One response: `headers` is a block of `name: value` lines without the content type."""

    id: int
    status: int
    content_type: str
    headers: bytes
    body: bytes


class Stream(NamedTuple):
    """A request will be answered by a stream, of which nothing is there yet: an error is still an ordinary one."""

    id: int


class Start(NamedTuple):
    """A response whose body follows in parts, the first of which is there. The fields are those of `Answer`.

    `length` is that of the body, where it is there already and is only sent in parts because it is large.
    """

    id: int
    status: int
    content_type: str
    headers: bytes
    length: int | None = None


class Part(NamedTuple):
    """A piece of a body, as the user's generator yielded it; one that is large comes in several."""

    id: int
    data: bytes | memoryview


class End(NamedTuple):
    """The body is complete."""

    id: int


class Error(NamedTuple):
    """One rejected or failed request; the frontend writes the body around `code` and `message`.

    After `Start` the body is broken off instead, so that no client takes it for complete.
    """

    id: int
    status: int
    code: str
    message: str


class PassedOver(NamedTuple):
    """The request of this place was not begun: the frontend was about to take it back."""

    place: int


class Progress(NamedTuple):
    """A step of a batch is done. `proving` says that all its requests are answered and that some are compared now."""

    proving: bool


class Held(NamedTuple):
    """What the worker holds of each of its GPUs, where that has changed."""

    gpu_bytes: tuple[int, ...]


class Done(NamedTuple):
    """The end of a batch: the seconds that its three phases took, and its predictions.

    `sizes` has the number of requests of each prediction; `joined`, `proved` and `refused` count calls that were
    shared, or tried; `halved` those of which the halves went through and the whole did not. `hopeless` says that no two
    requests of the batch will ever share one.
    """

    decode_s: float
    predict_s: float
    encode_s: float
    joined: int = 0
    proved: int = 0
    refused: int = 0
    halved: int = 0
    hopeless: bool = False
    sizes: tuple[int, ...] = ()


Event = Answer | Stream | Start | Part | End | Error | PassedOver | Progress | Held | Done
"""What a worker says. `Done` is the last of a batch, but for what its streams still have to say."""


_DONE_FIELDS = len(Done._fields) - 1
"""Those before the sizes."""


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """A whole frame around `payload`."""
    return FRAME.pack(len(payload), kind) + payload


class Compute(NamedTuple):
    """Requests that came together: a batch, or `alone`, which is each by itself."""

    alone: bool
    requests: list[Request]


def compute_frame(requests: Sequence[Request], *, alone: bool = False) -> bytes:
    """The COMPUTE frame of requests that are on their way together."""
    parts: list[bytes | bytearray | memoryview] = [b"", _COMPUTE.pack(alone, len(requests))]
    length = _COMPUTE.size
    for id_, content_type_text, accept_text, headers, body, form in requests:
        content_type, accept = content_type_text.encode("latin-1"), accept_text.encode("latin-1")
        in_file = isinstance(body, BodyFile)
        sizes = len(content_type), len(accept), len(headers)
        parts += (_REQUEST.pack(id_, form, in_file, *sizes, len(body)), content_type, accept, headers)
        length += _REQUEST.size + sum(sizes)
        if not isinstance(body, BodyFile):
            parts.append(body)
            length += len(body)
    parts[0] = FRAME.pack(length, Kind.COMPUTE)
    return b"".join(parts)


def parse_compute(payload: Payload) -> Compute:
    """What a COMPUTE payload says; each body is a `memoryview` into it, or in a file."""
    alone, count = _COMPUTE.unpack_from(payload)
    view, at, requests = memoryview(payload), _COMPUTE.size, []
    for _ in range(count):
        id_, form, in_file, content_type_size, accept_size, headers_size, size = _REQUEST.unpack_from(payload, at)
        at += _REQUEST.size
        content_type = payload[at : at + content_type_size].decode("latin-1")
        at += content_type_size
        accept = payload[at : at + accept_size].decode("latin-1")
        at += accept_size
        headers = bytes(payload[at : at + headers_size])
        at += headers_size
        body = BodyFile(size) if in_file else view[at : at + size]
        requests.append(Request(id_, content_type, accept, headers, body, FORMS[form]))
        at += 0 if in_file else size
    return Compute(alone, requests)


def descriptor_message(request_id: int) -> bytes:
    """What goes with the descriptor of a body in a file."""
    return _ID.pack(request_id)


def answer_frame(answer: Answer) -> bytes:
    """The ANSWER frame of one response."""
    id_, status, content_type_text, headers, body = answer
    content_type = content_type_text.encode("latin-1", "replace")
    type_size, headers_size = len(content_type), len(headers)
    length = _ANSWER.size + type_size + headers_size + len(body)
    head = _ANSWER_FRAME.pack(length, _ANSWER_KIND, id_, status, type_size, headers_size)
    return b"".join((head, content_type, headers, body))


def parse_answer(payload: Payload) -> Answer:
    """The response of an ANSWER payload."""
    id_, status, content_type_size, headers_size = _ANSWER.unpack_from(payload)
    at = _ANSWER.size
    content_type = payload[at : at + content_type_size].decode("latin-1")
    at += content_type_size
    headers = bytes(payload[at : at + headers_size])
    return Answer(id_, status, content_type, headers, _rest(payload, at + headers_size))


def _rest(payload: Payload, at: int) -> bytes:
    return payload[at:] if isinstance(payload, bytes) else bytes(memoryview(payload)[at:])


def stream_frame(stream: Stream) -> bytes:
    """The STREAM frame of a request that is going to be a stream."""
    return frame(Kind.STREAM, _ID.pack(stream.id))


def parse_stream(payload: Payload) -> Stream:
    """The announcement of a STREAM payload."""
    return Stream(parse_id(payload))


def start_frame(start: Start) -> bytes:
    """The START frame of a response that is a stream."""
    content_type = start.content_type.encode("latin-1", "replace")
    length = _ID.pack(_UNKNOWN if start.length is None else start.length)
    head = _ANSWER.pack(start.id, start.status, len(content_type), len(start.headers))
    return frame(Kind.START, length + head + content_type + start.headers)


def parse_start(payload: Payload) -> Start:
    """The beginning of a response of a START payload."""
    length: int = _ID.unpack_from(payload)[0]
    answer = parse_answer(payload[_ID.size :])
    return Start(*answer[:-1], None if length == _UNKNOWN else length)


def part_frame(part: Part) -> bytes:
    """The PART frame of a piece of a body."""
    return b"".join((FRAME.pack(_ID.size + len(part.data), Kind.PART), _ID.pack(part.id), part.data))


def parse_part(payload: Payload) -> Part:
    """The piece of a PART payload."""
    return Part(_ID.unpack_from(payload)[0], _rest(payload, _ID.size))


def end_frame(end: End) -> bytes:
    """The END frame of a body that is complete."""
    return frame(Kind.END, _ID.pack(end.id))


def parse_end(payload: Payload) -> End:
    """The end of an END payload."""
    return End(parse_id(payload))


def cancel_frame(request_id: int) -> bytes:
    """The CANCEL frame: the reader of this stream has left."""
    return frame(Kind.CANCEL, _ID.pack(request_id))


def pause_frame(request_id: int) -> bytes:
    """The PAUSE frame: the stream is to wait for its reader."""
    return frame(Kind.PAUSE, _ID.pack(request_id))


def resume_frame(request_id: int) -> bytes:
    """The RESUME frame: the reader has caught up."""
    return frame(Kind.RESUME, _ID.pack(request_id))


def parse_id(payload: Payload) -> int:
    """The request that a CANCEL, PAUSE or RESUME payload, or the message with a descriptor, is about; or a place."""
    id_: int
    (id_,) = _ID.unpack(payload)
    return id_


def error_frame(error: Error) -> bytes:
    """The ERROR frame of one failed request."""
    code = error.code.encode()
    return frame(Kind.ERROR, _ERROR.pack(error.id, error.status, len(code)) + code + _utf8(error.message))


def parse_error(payload: Payload) -> Error:
    """The failure of an ERROR payload."""
    id_, status, code_size = _ERROR.unpack_from(payload)
    at = _ERROR.size
    return Error(id_, status, payload[at : at + code_size].decode(), payload[at + code_size :].decode())


def _utf8(text: str) -> bytes:
    # A message may quote what a client sent, and a JSON string may hold half a surrogate pair.
    return text.encode(errors="replace")


Tensors = dict[str, list[dict[str, Any]]]
"""`inputs` and `outputs`, each tensor as its `name`, `datatype` and `shape`, -1 where a length is free."""


ServedAs = dict[str, Any]
"""Of a model that has forms: the `name` of the one that is served, `why`, and those that were `passed_over`."""


class Bodies(TypedDict):
    """Which bodies a model takes and gives, by media types: `image/*` stands for all kinds of pictures."""

    reads: Sequence[str] | None
    """None where a function of the script reads them: only that knows."""
    writes: Sequence[str] | None
    """The same of answers; `*/*` is among them where a script may answer with others too."""
    chats: bool
    """Whether the script has a `chat_fn`."""


class Ready(NamedTuple):
    """What a worker that has loaded its model can do."""

    may_join: bool
    """Whether requests that are sent together may ever share a call."""
    converses: bool
    """Whether the script has a `stream_fn`."""
    has_page: bool
    """Whether it says on a page what it begins (`begun_page`)."""
    gpu_bytes: Sequence[int]
    """What it holds of each of its GPUs with the model loaded; empty where it uses none."""
    tensors: Tensors
    """The tensors that the model takes and gives, as far as they are known."""
    form: ServedAs | None = None
    """Which form of the model is served, where it has any."""
    alone: str | None = None
    """Why requests never share a call, where that was to be found out and they never do."""
    bodies: Bodies | None = None
    """What it reads and writes; None where the worker does not say."""


def ready_frame(
    *,
    may_join: bool,
    converses: bool = False,
    has_page: bool = False,
    gpu_bytes: Sequence[int] = (),
    tensors: Tensors | None = None,
    form: ServedAs | None = None,
    alone: str | None = None,
    bodies: Bodies | None = None,
) -> bytes:
    """The READY frame; see `Ready`."""
    told = {"gpu_bytes": gpu_bytes, "tensors": tensors or {}, "form": form, "alone": alone, "bodies": bodies}
    return frame(Kind.READY, _READY.pack(may_join, converses, has_page) + json.dumps(told).encode())


def parse_ready(payload: Payload) -> Ready:
    """What a READY payload says."""
    return Ready(*_READY.unpack_from(payload), **json.loads(payload[_READY.size :]))


def progress_frame(progress: Progress) -> bytes:
    """The PROGRESS frame."""
    return frame(Kind.PROGRESS, bytes([progress.proving]))


def parse_progress(payload: Payload) -> Progress:
    """The progress of a PROGRESS payload."""
    return Progress(payload == b"\1")


def held_frame(held: Held) -> bytes:
    """The HELD frame: what a worker holds of its GPUs has changed."""
    return frame(Kind.HELD, struct.pack(f"<{len(held.gpu_bytes)}Q", *held.gpu_bytes))


def parse_held(payload: Payload) -> Held:
    """What a HELD payload says."""
    return Held(struct.unpack(f"<{len(payload) // 8}Q", payload))


@lru_cache(maxsize=256)
def _done_form(predictions: int) -> struct.Struct:
    return struct.Struct(f"{_DONE}{predictions}H")


def done_frame(done: Done) -> bytes:
    """The DONE frame that ends a batch."""
    form = _done_form(len(done.sizes))
    return FRAME.pack(form.size, Kind.DONE) + form.pack(*done[:-1], *done.sizes)


def parse_done(payload: Payload) -> Done:
    """The account of a DONE payload."""
    found = _done_form((len(payload) - _DONE_BYTES) // 2).unpack(payload)
    return Done._make((*found[:_DONE_FIELDS], found[_DONE_FIELDS:]))


def event_frame(event: Event) -> bytes:
    """The frame of whatever a worker says about its batch and its streams."""
    match event:
        case Answer():
            return answer_frame(event)
        case Done():
            return done_frame(event)
        case Part():
            return part_frame(event)
        case Start():
            return start_frame(event)
        case Stream():
            return stream_frame(event)
        case End():
            return end_frame(event)
        case Error():
            return error_frame(event)
        case Progress():
            return progress_frame(event)
        case Held():
            return held_frame(event)
        case PassedOver():
            return frame(Kind.PASSED_OVER, _ID.pack(event.place))


def failed_frame(message: str, *, too_large: bool) -> bytes:
    """The FAILED frame of a worker that could not load its model."""
    return frame(Kind.FAILED, bytes([too_large]) + message.encode(errors="replace"))


def parse_failed(payload: Payload) -> tuple[str, bool]:
    """The sentence of a FAILED payload, and whether it was a matter of memory."""
    return payload[1:].decode(), bool(payload[0])


def report_frame(said: Mapping[str, Any]) -> bytes:
    """The REPORT frame of a rehearsal: `step`, a line, or `report`, a `LoadReport` as plain data."""
    return frame(Kind.REPORT, json.dumps(said, default=str).encode())


def parse_report(payload: Payload) -> dict[str, Any]:
    """What a REPORT payload says."""
    said: dict[str, Any] = json.loads(payload)
    return said


class FrameReader:
    """Cuts a stream of bytes into frames, whatever pieces it arrives in. Both ends of the socket read with it."""

    __slots__ = ("_filled", "_head", "_kind", "_payload")

    def __init__(self) -> None:
        self._head = b""
        self._kind = 0
        self._payload: bytearray | None = None
        self._filled = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, Payload]]:
        """Yield (kind, payload) of every frame that `data` completes."""
        at, end = 0, len(data)
        if self._payload is not None:
            # A large body arrives in many pieces, each of which is copied once.
            at = min(end, len(self._payload) - self._filled)
            self._payload[self._filled : self._filled + at] = data[:at] if at < end else data
            self._filled += at
            if self._filled < len(self._payload):
                return
            payload, self._payload = self._payload, None
            yield self._kind, payload
        elif self._head:
            data, self._head = self._head + data, b""
            end = len(data)
        while end - at >= FRAME.size:
            length, kind = FRAME.unpack_from(data, at)
            at += FRAME.size
            if end - at < length:
                self._kind, self._payload, self._filled = kind, bytearray(length), end - at
                self._payload[: end - at] = data[at:]
                return
            yield kind, data[at : at + length]
            at += length
        self._head = data[at:]
