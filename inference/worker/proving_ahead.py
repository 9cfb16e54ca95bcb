"""The proof of joining, tried before there is any traffic: with the archive's example and disturbed copies of it.

These are batches like any others: each request is answered alone, then all once more as one. So nothing that a batch of
clients would have shown is missed, and a batch that shows nothing does not count here either.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import numpy as np

from tidegate.inference.errors import BadRequest
from tidegate.inference.images import data_uri, reading, writing
from tidegate.inference.protocol import Request
from tidegate.inference.worker.artifact import Example
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import NPY, TEXT_TYPES, split_media_type
from tidegate.inference.worker.device_errors import give_up_if_device_is_lost
from tidegate.inference.worker.joining import PROOFS, Signatures

MAX_ANSWER_S = 0.1
"""How long the example may take: some thirty calls more, in each worker that starts, must not be felt."""
COPIES = 4
"""Disturbed copies of the example."""
MAX_COMPANY = 16
"""Requests, at most, of the largest batch that is tried."""

_DECIMAL = re.compile(rb"-?\d+\.\d+(?:[eE][-+]?\d+)?")
_PICTURE = re.compile(rb"data:image/[a-z.+-]+;base64,[A-Za-z0-9+/]+=*")
_MAX_PICTURE_BYTES = 1 << 26
"""A larger picture would not be answered soon enough to be tried."""
_WHOLE = re.compile(rb"(?<![\w.+-])\d+(?![\w.])")


def prove_ahead(
    computation: Computation, example: Example, beginning: Callable[[], None], *, max_batch_size: int = 3
) -> bool:
    """Try to prove that requests like the example may share a call; returns whether they may from now on.

    The last batch has as many requests as there will be, because no more are joined than a proof had.

    `beginning` is called before the first shared call. Where not all of it proves anything, traffic begins at nothing;
    a difference counts, also one that only these requests have shown.
    """
    copies = [disturbed(example.body, example.content_type, turn) for turn in range(1, COPIES + 1)]
    if example.body in copies or not all(_answers_soon(computation, _request(example, copy, 0)) for copy in copies):
        return False
    one, two, three, four = copies
    size = min(max(3, max_batch_size), MAX_COMPANY)
    beginning()
    proved = refused = 0
    for bodies in ((example.body, example.body, one), (two, example.body), ((example.body, three, four) * size)[:size]):
        _, done = ask(computation, [_request(example, body, number) for number, body in enumerate(bodies)])
        proved, refused = proved + done.proved, refused + done.refused
    if proved < PROOFS and not refused:
        computation.joined_calls.signatures = Signatures()
    return proved == PROOFS


def disturbed(body: bytes, content_type: str, turn: int) -> bytes:
    """`body` with other numbers, which are as likely to be valid; the same where it has none that can be changed.

    Decimals become smaller; where there are none, whole numbers, which may be ids, change places. A picture, also one
    in a data URI, is moved to the right, where its colours stay what they are. Another one for each `turn`.
    """
    kind = split_media_type(content_type)[0]
    if kind == NPY:
        return _disturbed_array(body, turn)
    if kind.startswith("image/"):
        return _disturbed_picture(body, turn)
    if kind not in TEXT_TYPES:
        return body
    if _PICTURE.search(body):
        return _PICTURE.sub(lambda found: _disturbed_uri(found[0], turn), body)
    if _DECIMAL.search(body):
        return _DECIMAL.sub(lambda found: repr(_smaller(float(found[0]), turn)).encode(), body)
    numbers = _WHOLE.findall(body)
    moved = iter(numbers[turn % len(numbers) :] + numbers[: turn % len(numbers)]) if numbers else iter(())
    return _WHOLE.sub(lambda _: next(moved), body)


def _disturbed_picture(body: bytes, turn: int) -> bytes:
    try:
        pixels = reading.pixels(body, max_decoded_bytes=_MAX_PICTURE_BYTES, onto="drop", obey_orientation=False)
    except BadRequest:
        return body
    return writing.image(np.roll(pixels, turn, axis=1), channels="last")


def _disturbed_uri(uri: bytes, turn: int) -> bytes:
    try:
        data = data_uri.read(uri.decode(), max_bytes=len(uri)).data
    except BadRequest:
        return uri
    moved = _disturbed_picture(data, turn)
    return uri if moved is data else data_uri.write(moved, "image/png").encode()


def _disturbed_array(body: bytes, turn: int) -> bytes:
    array = np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    if array.dtype.kind in "fc":
        array = (array * array.dtype.type(_smaller(1.0, turn))).astype(array.dtype)
    else:
        array = np.roll(array, turn)
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _smaller(number: float, turn: int) -> float:
    # The last one very much: a rule such as `if x.max() > 1: x = x / 255` is on the other side there.
    return number * (1 - 0.11 * turn) if turn < COPIES else number / 300


def _answers_soon(computation: Computation, received: Request) -> bool:
    """Whether a disturbed copy is taken, and quickly. A script may refuse it, which is no matter for the log."""
    request = computation.steps.receive(received)
    started_s = time.perf_counter()
    try:
        computation.steps.decode(request)
        computation.steps.predict(request)
        computation.steps.encode(request)
    except BaseException as error:
        give_up_if_device_is_lost(error)
        return False
    return request.stream is None and time.perf_counter() - started_s < MAX_ANSWER_S


def _request(example: Example, body: bytes, number: int) -> Request:
    return Request(number, example.content_type, example.accept, b"", body)
