"""The WebSocket without I/O: frames by hand, in the order of the Autobahn suite's chapters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.raw_websocket import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    close,
    closing,
    frame,
    parse,
)
from tidegate.inference.errors import BadRequest
from tidegate.inference.frontend.http.websocket import (
    Closed,
    Event,
    Fragment,
    Pong,
    WebSocket,
    WebSocketLimits,
    fitting,
    is_opening,
)

HEADERS = [
    (b"host", b"localhost"),
    (b"upgrade", b"websocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
]
LIMITS = WebSocketLimits(message_bytes=100_000, frame_bytes=70_000)


def opened() -> WebSocket:
    socket = WebSocket("/x", HEADERS, LIMITS)
    socket.take()
    return socket


def text(data: str | bytes, *, last: bool = True) -> Fragment:
    return Fragment(data.encode() if isinstance(data, str) else data, True, last)


def binary(data: bytes, *, last: bool = True) -> Fragment:
    return Fragment(data, False, last)


# --- the opening


def test_the_answer_to_the_opening_proves_that_its_key_was_read() -> None:
    head, _, rest = WebSocket("/x?y=1", HEADERS, LIMITS).take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: " + ACCEPT in head.split(b"\r\n")
    assert rest == b""


def test_compression_that_a_client_offers_is_not_taken() -> None:
    offered = [*HEADERS, (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")]
    assert b"Extensions" not in WebSocket("/x", offered, LIMITS).take()


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [header for header in HEADERS if header[0] != name]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        (without(b"sec-websocket-key"), "Sec-WebSocket-Key"),
        ([*without(b"sec-websocket-key"), (b"sec-websocket-key", b"c2hvcnQ=")], "Sec-WebSocket-Key"),
        ([*without(b"sec-websocket-key"), (b"sec-websocket-key", b"no base64 at all!!!!")], "Sec-WebSocket-Key"),
        ([*HEADERS, (b"sec-websocket-key", KEY)], "Sec-WebSocket-Key"),
        (without(b"sec-websocket-version"), "Sec-WebSocket-Version"),
        ([*without(b"sec-websocket-version"), (b"sec-websocket-version", b"8")], "Sec-WebSocket-Version"),
        (without(b"connection"), "Connection"),
        ([*without(b"connection"), (b"connection", b"close")], "Connection"),
        ([*HEADERS, (b"content-length", b"3")], "body"),
        ([*HEADERS, (b"transfer-encoding", b"chunked")], "body"),
    ],
)
def test_an_opening_that_is_none_is_refused_by_a_sentence(headers: list[tuple[bytes, bytes]], named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        WebSocket("/x", headers, LIMITS)


@pytest.mark.parametrize(
    ("method", "headers", "asks"),
    [
        ("GET", HEADERS, True),
        ("GET", [(b"upgrade", b"WebSocket")], True),
        ("POST", HEADERS, False),
        ("GET", [(b"upgrade", b"h2c")], False),  # what Java's client offers with each first request
        ("GET", [], False),
    ],
)
def test_only_a_get_that_offers_a_websocket_opens_one(
    method: str, headers: list[tuple[bytes, bytes]], asks: bool
) -> None:
    assert is_opening(method, headers) is asks


# --- what comes

WHOLE: list[tuple[str, bytes, list[Event]]] = [
    ("1.1 an empty text", frame(TEXT), [text("")]),
    ("1.1 125 bytes", frame(TEXT, b"*" * 125), [text("*" * 125)]),
    ("1.1 126 bytes, a length of two bytes", frame(TEXT, b"*" * 126), [text("*" * 126)]),
    ("1.1 65,536 bytes, a length of eight bytes", frame(TEXT, b"*" * 65536), [text("*" * 65536)]),
    ("1.2 an empty binary message", frame(BINARY), [binary(b"")]),
    ("1.2 bytes that are no text", frame(BINARY, b"\xfe\x00"), [binary(b"\xfe\x00")]),
    ("2.1 a ping is no event", frame(PING, b"are you there"), []),
    ("2.7 a pong that nobody asked for", frame(PONG, b"x"), [Pong(b"x")]),
    (
        "5.3 a text in two fragments",
        frame(TEXT, b"one ", fin=False) + frame(CONTINUATION, b"message"),
        [text("one ", last=False), text("message")],
    ),
    (
        "5.6 a ping between two fragments",
        frame(TEXT, b"one ", fin=False) + frame(PING, b"now") + frame(CONTINUATION, b"message"),
        [text("one ", last=False), text("message")],
    ),
    (
        "5.x binary stays binary in every fragment",
        frame(BINARY, b"\xff", fin=False) + frame(CONTINUATION, b"\xfe", fin=False) + frame(CONTINUATION, b""),
        [binary(b"\xff", last=False), binary(b"\xfe", last=False), binary(b"")],
    ),
    ("6.2 text of four-byte characters", frame(TEXT, "κόσμε 🎈".encode()), [text("κόσμε 🎈")]),
    (
        "6.2 a fragment ends within a character",
        frame(TEXT, "é".encode()[:1], fin=False) + frame(CONTINUATION, "é".encode()[1:]),
        [text("é".encode()[:1], last=False), text("é".encode()[1:])],
    ),
]


@pytest.mark.parametrize(("sent", "events"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_frames_are_events_one_by_one(sent: bytes, events: list[Event]) -> None:
    socket = opened()
    assert socket.feed(sent) == events
    assert not socket.is_closed


BROKEN = [
    ("3.1 a reserved bit", frame(TEXT, b"x", rsv=4), 1002),
    ("3.x a reserved bit in a ping", frame(PING, b"x", rsv=1), 1002),
    ("4.1 a reserved kind of frame", frame(0x3, b"x"), 1002),
    ("4.2 a reserved control frame", frame(0xB), 1002),
    ("2.5 a ping of 126 bytes", frame(PING, b"x" * 126), 1002),
    ("5.1 a ping in fragments", frame(PING, b"x", fin=False), 1002),
    ("5.9 a continuation of nothing", frame(CONTINUATION, b"x"), 1002),
    ("5.18 a message within a message", frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    ("5.1 of RFC 6455: no mask", frame(TEXT, b"x", masked=False), 1002),
    ("6.3 invalid UTF-8", frame(TEXT, b"\xce\xba\xed\xa0\x80"), 1007),
    ("6.4 invalid UTF-8 in a fragment", frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, b"\xf4\x90"), 1007),
    ("6.x half a character at the end", frame(TEXT, "é".encode()[:1]), 1007),
    (
        "6.x half a character at the end of fragments",
        frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"\xc3"),
        1007,
    ),
    ("7.3 a Close of one byte", frame(CLOSE, b"\x03"), 1002),
    ("7.5 a reason that is no UTF-8", close(1000, b"\xed\xa0\x80"), 1007),
    *((f"7.9 the code {code}", close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
    ("a Close within a message", frame(TEXT, b"x", fin=False) + close(1000), 1002),
    ("9 a frame that is too long", frame(BINARY, b"x" * 70_001), 1009),
    (
        "9 a message of fragments that is too long",
        frame(BINARY, b"x" * 60_000, fin=False) + frame(CONTINUATION, b"x" * 40_001),
        1009,
    ),
]


@pytest.mark.parametrize(("sent", "code"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_client_that_breaks_a_rule_is_told_which_and_hears_no_more(sent: bytes, code: int) -> None:
    socket = opened()
    last = socket.feed(sent)[-1]
    assert isinstance(last, Closed)
    assert last.code == code
    (opcode, fin, payload) = parse(socket.take())[-1]
    assert (opcode, fin, payload[:2]) == (CLOSE, True, closing(code))
    assert socket.is_over
    assert socket.feed(frame(TEXT, b"more")) == []
    assert socket.end() == []
    socket.send(b"x", is_text=False)
    assert socket.take() == b""


def test_a_frame_that_is_too_long_is_refused_by_its_head() -> None:
    socket = opened()
    (event,) = socket.feed(frame(BINARY, b"x" * 70_001)[:10])
    assert isinstance(event, Closed)
    assert event.code == 1009


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 1013, 3000, 4999])
def test_the_clients_close_is_echoed_and_is_the_last_event(code: int) -> None:
    socket = opened()
    assert socket.feed(close(code, b"bye") + frame(TEXT, b"late")) == [Closed(code, "bye")]
    assert parse(socket.take()) == [(CLOSE, True, closing(code) + b"bye")]
    assert socket.is_over


def test_a_close_may_have_no_code() -> None:
    socket = opened()
    assert socket.feed(close()) == [Closed(1005, "")]
    assert parse(socket.take()) == [(CLOSE, True, b"")]


def test_the_end_of_the_socket_without_a_close_is_1006() -> None:
    socket = opened()
    assert socket.feed(frame(TEXT, b"x", fin=False)) == [text("x", last=False)]
    assert socket.end() == [Closed(1006, "")]
    assert socket.take() == b""


def test_pings_are_answered_in_their_order_with_what_they_carry() -> None:
    socket = opened()
    socket.feed(frame(PING, b"1") + frame(TEXT, b"x", fin=False) + frame(PING, b"2") + frame(PING))
    assert parse(socket.take()) == [(PONG, True, b"1"), (PONG, True, b"2"), (PONG, True, b"")]


# --- what goes


def test_text_and_binary_are_kept_apart_and_fragments_are_what_they_were() -> None:
    socket = opened()
    socket.send(b"whole", is_text=True)
    socket.send(b"\xff", is_text=False)
    socket.send(b"be", is_text=True, is_last=False)
    assert socket.in_message
    socket.ping(b"?")
    socket.send(b"gun", is_text=True)
    assert not socket.in_message
    assert parse(socket.take()) == [
        (TEXT, True, b"whole"),
        (BINARY, True, b"\xff"),
        (TEXT, False, b"be"),
        (PING, True, b"?"),
        (CONTINUATION, True, b"gun"),
    ]


def test_after_our_close_nothing_is_sent_or_heard_and_the_clients_close_ends_it() -> None:
    socket = opened()
    socket.close(1011, "the model failed")
    assert not socket.is_over
    socket.send(b"late", is_text=True)
    socket.close(1000, "again")
    assert parse(socket.take()) == [(CLOSE, True, closing(1011) + b"the model failed")]
    assert socket.feed(frame(TEXT, b"crossing")) == []
    assert socket.feed(close(1011)) == []
    assert socket.is_over


def test_a_long_reason_is_cut_at_a_character() -> None:
    assert fitting("short") == "short"
    assert fitting("é" * 100) == "é" * 61
    socket = opened()
    socket.close(1011, "é" * 100)
    ((_, _, payload),) = parse(socket.take())
    assert len(payload) == 124


# --- any cutting

PIECES = st.one_of(
    st.builds(lambda data: frame(TEXT, data.encode()), st.text(max_size=200)),
    st.builds(lambda data: frame(BINARY, data), st.binary(max_size=200)),
    st.builds(lambda data: frame(TEXT, data, fin=False), st.binary(max_size=3)),
    st.builds(lambda data, fin: frame(CONTINUATION, data, fin=fin), st.binary(max_size=3), st.booleans()),
    st.builds(lambda data: frame(PING, data), st.binary(max_size=10)),
    st.builds(lambda data: frame(PONG, data), st.binary(max_size=10)),
    st.builds(close, st.sampled_from([None, 1000, 1001, 1005, 4000])),
    st.binary(max_size=20),
)


@given(st.lists(PIECES, max_size=8), st.data())
def test_any_cutting_of_the_bytes_gives_the_same_events(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    whole = opened()
    expected = whole.feed(stream) + whole.end()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    cut = opened()
    found: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += cut.feed(stream[start:end])
        cut.take()
    assert found + cut.end() == expected
    assert [type(event) for event in expected].count(Closed) == 1
    assert type(expected[-1]) is Closed
