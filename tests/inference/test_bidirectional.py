"""Conversations of a worker: `stream_fn` in threads and on an event loop, frames in and frames out."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.inference.ticking import ticking
from tests.polling import until
from tidegate.inference.conversation_frames import (
    FIRST_ID,
    Farewell,
    Message,
    Opening,
    farewell_frame,
    message_frame,
    opening_frame,
    parse_farewell,
    parse_message,
)
from tidegate.inference.protocol import FrameReader, Kind, cancel_frame, frame, parse_id, pause_frame, resume_frame
from tidegate.inference.worker import bidirectional, incoming
from tidegate.inference.worker.allocator import FreedMemory
from tidegate.inference.worker.bidirectional import Conversations, is_asynchronous
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.conversation import LoopConversation, ThreadConversation
from tidegate.inference.worker.incoming import FULL_BYTES, AsyncIncoming, Inbox, Incoming
from tidegate.inference.worker.stream_context import StreamContext

Said = Message | Farewell | tuple[str, int]
channels: list[Channel] = []


@pytest.fixture(autouse=True)
def _a_busy_machine_costs_no_conversation_its_time() -> Iterator[None]:
    with ticking(bidirectional, incoming):
        yield


@pytest.fixture(autouse=True)
def no_thread_stays(_a_busy_machine_costs_no_conversation_its_time: None) -> Iterator[None]:
    yield
    for channel in channels:
        for id_ in channel.opened:
            channel.close(1006, id_)
    channels.clear()
    until(lambda: not threads())


def threads() -> list[str]:
    """Those of synchronous conversations."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stream_fn-c")]


class Channel:
    """The frontend's end: gives frames to the conversations and collects what they say."""

    def __init__(self, stream_fn: Callable[..., Any], *, limit: int = 8, timeout_s: float = 60.0) -> None:
        channels.append(self)
        self.said: list[Said] = []
        self.opened: list[int] = []
        self.left: list[str] = []
        self.freed = FreedMemory(kept=False)
        self._reader = FrameReader()
        self._lock = threading.Lock()
        context = Context(model_name="toy", manifest={}, system_properties={})
        context.beforehand = "set by model_fn"  # type: ignore[attr-defined]
        self.conversations = Conversations(
            stream_fn,
            context,
            model="the model",
            gpu_id=None,
            limit=limit,
            timeout_s=timeout_s,
            max_frame_bytes=10_000_000,
            send=self._send,
            leave=self.left.append,
            freed=self.freed,
        )

    def _send(self, data: bytes) -> None:
        with self._lock:
            for kind, payload in self._reader.feed(data):
                if kind == Kind.MESSAGE:
                    message = parse_message(payload)
                    self.said.append(message._replace(id=message.id - FIRST_ID))
                elif kind == Kind.CLOSE:
                    farewell = parse_farewell(payload)
                    self.said.append(farewell._replace(id=farewell.id - FIRST_ID))
                else:
                    self.said.append((Kind(kind).name, parse_id(payload) - FIRST_ID))

    def give(self, data: bytes) -> None:
        for kind, payload in FrameReader().feed(data):
            assert self.conversations.take(kind, payload)

    def open(self, id_: int = 1, path: str = "/x", query: str = "", headers: bytes = b"") -> None:
        self.opened.append(id_)
        self.give(opening_frame(Opening(FIRST_ID + id_, path, query, "", headers)))

    def message(self, data: str | bytes, id_: int = 1, *, last: bool = True, text: bool | None = None) -> None:
        is_text = isinstance(data, str) if text is None else text
        self.give(
            message_frame(Message(FIRST_ID + id_, data.encode() if isinstance(data, str) else data, is_text, last))
        )

    def close(self, code: int = 1000, id_: int = 1) -> None:
        self.give(farewell_frame(Farewell(FIRST_ID + id_, code, "")))

    def pause(self) -> None:
        self.give(pause_frame(FIRST_ID + 1))

    def resume(self) -> None:
        self.give(resume_frame(FIRST_ID + 1))

    def farewell(self, id_: int = 1) -> Farewell:
        return until(lambda: next((each for each in self.said if isinstance(each, Farewell) and each.id == id_), None))

    def messages(self, id_: int = 1) -> list[str | bytes]:
        found = [each for each in self.said if isinstance(each, Message) and each.id == id_]
        return [each.data.decode() if each.is_text else each.data for each in found]


def echo(incoming: Any, context: Any) -> Iterator[str | bytes]:
    yield from incoming


async def async_echo(incoming: Any, context: Any) -> AsyncIterator[str | bytes]:
    async for message in incoming:
        yield message


async def coroutine_echo(incoming: Any, context: Any) -> AsyncIterator[str | bytes]:
    await asyncio.sleep(0)
    return async_echo(incoming, context)


class Echo:
    async def __call__(self, incoming: Any, context: Any) -> AsyncIterator[str | bytes]:
        assert context.model
        async for message in incoming:
            yield message


BOTH = pytest.mark.parametrize("stream_fn", [echo, async_echo, coroutine_echo, Echo()])


@BOTH
def test_one_yield_is_one_message_of_its_kind(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    for message in ("text", b"bytes", "", b"", "κόσμε"):
        channel.message(message)
    until(lambda: len(channel.messages()) == 5)
    assert channel.messages() == ["text", b"bytes", "", b"", "κόσμε"]
    channel.close()
    assert channel.farewell() == Farewell(1, 1000, "")


@BOTH
def test_fragments_are_joined_where_the_script_does_not_ask_for_them(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.message("κ".encode()[:1], last=False, text=True)
    channel.message("κ".encode()[1:], text=True)
    until(channel.messages)
    assert channel.messages() == ["κ"]


def kept(incoming: Any, context: Any) -> Iterator[tuple[str | bytes, bool]]:
    yield from incoming.fragments()


async def async_kept(incoming: Any, context: Any) -> AsyncIterator[tuple[str | bytes, bool]]:
    async for fragment in incoming.fragments():
        yield fragment


@pytest.mark.parametrize("stream_fn", [kept, async_kept])
def test_fragments_are_kept_in_both_directions_where_the_script_asks(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.message("é".encode()[:1], last=False, text=True)
    channel.message("é".encode()[1:] + b"!", last=False, text=True)
    channel.message(b"", text=True)
    channel.message(b"\xff")
    until(lambda: len(channel.messages()) == 4)
    assert channel.said == [
        Message(1, b"", True, False),
        Message(1, "é!".encode(), True, False),
        Message(1, b"", True, True),
        Message(1, b"\xff", False, True),
    ]


def about(incoming: Any, context: Any) -> Iterator[str]:
    yield f"{context.model} {context.path} {context.query} {context.get_request_header(0, 'X-Speaker')}"
    yield f"{context.request_processor[0].get_request_property('x-speaker')} {context.beforehand}"


async def async_about(incoming: Any, context: Any) -> AsyncIterator[str]:
    for line in about(incoming, context):
        yield line


@pytest.mark.parametrize("stream_fn", [about, async_about])
def test_the_context_has_the_model_and_the_request_that_opened(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open(1, "/v2/talk", "lang=el", b"x-speaker: one\r\n")
    channel.open(2, headers=b"x-speaker: two\r\n")
    assert channel.farewell(1).code == channel.farewell(2).code == 1000
    assert channel.messages(1) == ["the model /v2/talk lang=el one", "one set by model_fn"]
    assert channel.messages(2)[1] == "two set by model_fn"


def fails(incoming: Any, context: Any) -> Iterator[str]:
    yield "before"
    raise ZeroDivisionError("secret")


async def async_fails(incoming: Any, context: Any) -> AsyncIterator[str]:
    yield "before"
    raise ZeroDivisionError("secret")


def fails_at_once(incoming: Any, context: Any) -> None:
    raise ZeroDivisionError("secret")


@pytest.mark.parametrize("stream_fn", [fails, async_fails, fails_at_once])
def test_an_exception_is_1011_and_tells_the_client_nothing_of_its_text(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    farewell = channel.farewell()
    assert (farewell.code, farewell.error) == (1011, "handler_failed")
    assert "ZeroDivisionError" in farewell.reason
    assert "secret" not in farewell.reason


async def awaits_what_was_cancelled(incoming: Any, context: Any) -> AsyncIterator[str]:
    yield "before"
    task = asyncio.ensure_future(asyncio.sleep(3600))
    task.cancel()
    await task


async def cancels_itself(incoming: Any, context: Any) -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(3600)


def raises_cancelled(incoming: Any, context: Any) -> Iterator[str]:
    yield "before"
    raise asyncio.CancelledError


@pytest.mark.parametrize("stream_fn", [awaits_what_was_cancelled, cancels_itself, raises_cancelled])
def test_a_function_that_ends_by_a_cancellation_of_its_own_has_failed(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    farewell = channel.farewell()
    assert (farewell.code, farewell.error) == (1011, "handler_failed")
    assert "CancelledError" in farewell.reason


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("say it otherwise")
        self.status_code = status


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1008), (403, 1008), (413, 1009), (415, 1003), (503, 1013), (500, 1011)]
)
def test_a_status_that_a_script_raises_becomes_the_code_that_means_it(status: int, code: int) -> None:
    def refuses(incoming: Any, context: Any) -> Iterator[str]:
        raise Refused(status)
        yield

    channel = Channel(refuses)
    channel.open()
    assert channel.farewell() == Farewell(1, code, "say it otherwise", "handler_refused")


@pytest.mark.parametrize("wrong", [3, None, ["a"], {"a": 1}, ("a", True, 1), (3, True)])
def test_only_text_and_bytes_can_be_yielded(wrong: Any) -> None:
    def yields(incoming: Any, context: Any) -> Iterator[Any]:
        yield wrong

    channel = Channel(yields)
    channel.open()
    farewell = channel.farewell()
    assert (farewell.code, farewell.error) == (1011, "handler_failed")
    assert "stream_fn yielded" in farewell.reason


@pytest.mark.parametrize("wrong", ["text", b"bytes", 7])
def test_a_function_that_returns_instead_of_yielding_is_told_so(wrong: Any) -> None:
    def returns(incoming: Any, context: Any) -> Any:
        return wrong

    channel = Channel(returns)
    channel.open()
    assert "must yield" in channel.farewell().reason


def test_a_message_cannot_change_its_kind() -> None:
    def yields(incoming: Any, context: Any) -> Iterator[Any]:
        yield "begun", False
        yield b"ended", True

    channel = Channel(yields)
    channel.open()
    assert channel.farewell().code == 1011
    assert channel.messages() == ["begun"]


def test_a_function_may_say_nothing() -> None:
    heard = []

    def listens(incoming: Any, context: Any) -> None:
        heard.extend(incoming)

    channel = Channel(listens)
    channel.open()
    channel.message("a")
    channel.close(1001)
    assert channel.farewell() == Farewell(1, 1000, "")
    assert heard == ["a"]


# --- leaving

closed = threading.Event()


def endless(incoming: Any, context: Any) -> Iterator[str]:
    try:
        while True:
            yield "more"
            time.sleep(0.001)
    finally:
        closed.set()


async def async_endless(incoming: Any, context: Any) -> AsyncIterator[str]:
    try:
        while True:
            yield "more"
            await asyncio.sleep(0.001)
    finally:
        closed.set()


async def waits_elsewhere(incoming: Any, context: Any) -> AsyncIterator[str]:
    try:
        yield "more"
        await asyncio.Event().wait()
    finally:
        closed.set()


@pytest.mark.parametrize("stream_fn", [echo, async_echo, endless, async_endless])
def test_a_conversation_that_is_over_leaves_nothing_for_the_garbage_collector(stream_fn: Callable[..., Any]) -> None:
    """Half a message of a client that has left, and what the script keeps on its context, may be megabytes."""
    kinds = (ThreadConversation, LoopConversation, Incoming, AsyncIncoming, Inbox, StreamContext)
    channel = Channel(stream_fn)
    gc.collect()
    gc.disable()
    try:
        channel.open()
        channel.message(b"half", last=False)
        channel.close(1006)
        channel.farewell()
        # By type(): an object of another library may do anything when it is asked for its __class__.
        until(lambda: not any(type(each) in kinds for each in gc.get_objects()))
    finally:
        gc.enable()


@pytest.mark.parametrize("stream_fn", [endless, async_endless, waits_elsewhere])
def test_a_generator_is_closed_when_its_client_leaves(stream_fn: Callable[..., Any]) -> None:
    closed.clear()
    channel = Channel(stream_fn)
    channel.open()
    until(channel.messages)
    channel.close(1006)
    channel.farewell()
    assert closed.is_set()
    until(lambda: not threads())


@BOTH
def test_a_generator_that_waits_for_a_message_ends_when_its_client_leaves(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.close(1006)
    assert channel.farewell().code == 1000


def last_words(incoming: Any, context: Any) -> Iterator[str]:
    yield from incoming
    yield "goodbye"


async def async_last_words(incoming: Any, context: Any) -> AsyncIterator[str]:
    async for message in incoming:
        yield message
    yield "goodbye"


@pytest.mark.parametrize("stream_fn", [last_words, async_last_words])
@pytest.mark.parametrize(("code", "words"), [(1001, ["hello", "goodbye"]), (1000, ["hello"])])
def test_last_words_are_heard_by_a_client_that_is_told_to_leave(
    stream_fn: Callable[..., Any], code: int, words: list[str]
) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.message("hello")
    until(channel.messages)
    channel.close(code)
    assert channel.farewell().code == 1000
    assert channel.messages() == words


# --- backpressure


@BOTH
def test_a_client_is_paused_while_the_script_does_not_read(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.pause()
    for _ in range(3):
        channel.message(b"x" * (FULL_BYTES // 2))
    until(lambda: ("PAUSE", 1) in channel.said)
    channel.resume()
    until(lambda: ("RESUME", 1) in channel.said and len(channel.messages()) == 3)


@BOTH
def test_empty_messages_count_too(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.pause()
    for _ in range(FULL_BYTES // 100):
        channel.message(b"")
    until(lambda: ("PAUSE", 1) in channel.said)
    channel.close()
    channel.farewell()


def counts(incoming: Any, context: Any) -> Iterator[str]:
    for _ in range(10_000):
        yield "x"


async def async_counts(incoming: Any, context: Any) -> AsyncIterator[str]:
    for _ in range(10_000):
        yield "x"


@pytest.mark.parametrize("stream_fn", [counts, async_counts])
def test_a_generator_waits_while_its_client_does_not_read(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.pause()
    before = until(lambda: channel.messages() and settled(lambda: len(channel.messages())))
    assert before < 10_000
    channel.resume()
    channel.farewell()
    assert len(channel.messages()) == 10_000


def settled(count: Callable[[], int]) -> int:
    """A count that has stopped, or 0 where it goes on."""
    before = count()
    time.sleep(0.02)
    return before if count() == before else 0


@pytest.mark.parametrize("stream_fn", [counts, async_counts])
def test_a_paused_generator_is_closed_too_when_its_client_leaves(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    channel.open()
    channel.pause()
    channel.close(1006)
    assert channel.farewell().code == 1000
    assert len(channel.messages()) < 10_000


# --- many, and those that hang


@BOTH
def test_one_more_than_the_limit_is_told_to_try_again_later(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn, limit=2)
    for id_ in (1, 2, 3):
        channel.open(id_)
    assert channel.farewell(3).code == 1013
    channel.close(id_=1)
    channel.farewell(1)
    channel.open(4)
    channel.message("there is room", id_=4)
    until(lambda: channel.messages(4))


release = threading.Event()


def hangs(incoming: Any, context: Any) -> Iterator[str]:
    for message in incoming:
        if message == "hang":
            release.wait(60)
        yield message


def test_a_thread_that_hangs_keeps_its_place_until_it_comes_back() -> None:
    release.clear()
    channel = Channel(hangs, limit=2, timeout_s=0.2)
    channel.open(1)
    channel.open(2)
    channel.message("hang", id_=1)
    farewell = channel.farewell(1)
    assert (farewell.code, farewell.error) == (1011, "handler_timed_out")
    channel.open(3)
    assert channel.farewell(3).code == 1013
    channel.message("still here", id_=2)
    until(lambda: channel.messages(2) == ["still here"])
    assert channel.left == []
    release.set()
    until(lambda: len(threads()) == 1)
    channel.open(4)
    channel.message("a place", id_=4)
    until(lambda: channel.messages(4) == ["a place"])
    assert [each for each in channel.said if isinstance(each, Farewell) and each.id == 1] == [farewell]


def test_a_worker_whose_places_all_hang_leaves() -> None:
    release.clear()
    channel = Channel(hangs, limit=1, timeout_s=0.1)
    channel.open(1)
    channel.message("hang")
    until(lambda: channel.left)
    assert "hang in stream_fn" in channel.left[0]
    release.set()


async def blocks_the_loop(incoming: Any, context: Any) -> AsyncIterator[str]:
    async for message in incoming:
        release.wait(60)
        yield message


def test_a_worker_whose_event_loop_stands_still_leaves() -> None:
    release.clear()
    channel = Channel(blocks_the_loop, timeout_s=0.1)
    channel.open(1)
    channel.message("block")
    until(lambda: channel.left)
    assert "stood still" in channel.left[0]
    release.set()
    channel.close()


async def sleeps(incoming: Any, context: Any) -> AsyncIterator[str]:
    async for message in incoming:
        await asyncio.sleep(30)
        yield message


def test_an_asynchronous_function_that_takes_too_long_is_cancelled() -> None:
    channel = Channel(sleeps, limit=1, timeout_s=0.1)
    channel.open(1)
    channel.message("x")
    assert channel.farewell(1).error == "handler_timed_out"


@BOTH
def test_waiting_for_the_client_is_not_taking_long(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn, timeout_s=0.3)
    channel.open()
    time.sleep(0.9)
    channel.message("at last")
    until(lambda: channel.messages() == ["at last"])
    channel.close()
    assert channel.farewell().code == 1000


@pytest.mark.parametrize("read", [1, 3])
def test_a_client_is_never_told_to_pause_after_it_was_told_to_go_on(read: int) -> None:
    """Whoever puts a message in has counted it, and is overtaken by `stream_fn` before it tells what it has counted."""
    told: list[bool] = []

    def tell_full(on: bool) -> None:
        if on and not told:
            reader = threading.Thread(target=lambda: [inbox.take() for _ in range(read)])
            reader.start()
            reader.join()
        told.append(on)

    inbox = Inbox(tell_full, lambda: None)
    for _ in range(3):
        inbox.put(Message(0, b"x" * (FULL_BYTES // 2), is_text=False, is_last=True))
    assert told == ([True, False] if read == 3 else [True])


def test_frames_of_requests_are_left_to_others() -> None:
    channel = Channel(echo)
    for data in (frame(Kind.COMPUTE), cancel_frame(1), pause_frame(1), resume_frame(1)):
        ((kind, payload),) = FrameReader().feed(data)
        assert not channel.conversations.take(kind, payload)


def test_asynchronous_functions_are_told_from_others() -> None:
    assert [is_asynchronous(each) for each in (echo, async_echo, coroutine_echo, Echo())] == [False, True, True, True]


@pytest.mark.parametrize("stream_fn", [lambda incoming, _: incoming, lambda *_: None])
def test_what_a_conversation_has_freed_is_given_back_when_it_has_ended(stream_fn: Callable[..., Any]) -> None:
    channel = Channel(stream_fn)
    assert not channel.freed.used
    channel.open()
    channel.close()
    until(lambda: len(channel.conversations) == 0)
    until(lambda: channel.freed.used)
