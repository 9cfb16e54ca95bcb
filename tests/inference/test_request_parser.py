"""What comes out of the bytes of a client: events, by a table. No sockets, no loop, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.limits import HeadLimit
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.request_parser import END, Event, RequestParser, UpgradeOffer

LIMIT = HeadLimit(max_bytes=200, max_count=8)
GET = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /a?b=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
OFFER = b"GET /s HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
JAVA = (
    b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAEAAEAAAAIAAAAA\r\ncontent-length: 5\r\n\r\nhello"
)


def told(events: list[Event]) -> list[object]:
    """Events as plain data: heads by verb and path, errors by status."""
    shown: list[object] = []
    for event in events:
        if isinstance(event, Request):
            shown.append(f"{event.method} {event.path}")
        elif isinstance(event, UpgradeOffer):
            shown.append(f"offer {event.request.method} {event.request.path}")
        elif isinstance(event, RequestError):
            shown.append(event.status)
        else:
            shown.append("end" if event is END else event)
    return shown


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\r\n", []),
        (GET[:-1], []),
        (GET, ["GET /ping", "end"]),
        (GET + GET, ["GET /ping", "end", "GET /ping", "end"]),
        (POST[:-2], ["POST /a", b"hel"]),
        (POST + GET, ["POST /a", b"hello", "end", "GET /ping", "end"]),
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", ["POST /a", b"abc", b"de", "end"]),
        (CHUNKED + b"1\r\na\r\n0\r\nhost: y\r\n\r\n", ["POST /a", b"a", "end"]),
        (CHUNKED + b"xyz\r\n", ["POST /a", 400]),
        (b"GET\r\n\r\n", [400]),
        (GET.replace(b"host: x", b"host: x\r\nhost: y"), [400, "end"]),
        (GET.replace(b"host: x\r\n", b""), [400, "end"]),
        (GET.replace(b"host: x\r\n", b"").replace(b"HTTP/1.1", b"HTTP/1.0"), ["GET /ping", "end"]),
        (GET.replace(b"HTTP/1.1", b"HTTP/2.0"), [505, "end"]),
        (GET.replace(b"HTTP/1.1", b"HTTP/0.9"), [505, "end"]),
        (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", [501, "end"]),
        (b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\n\r\n", [405]),
        (OFFER + b"frames", ["offer GET /s"]),
    ],
)
def test_bytes_become_events(data: bytes, expected: list[object]) -> None:
    assert told(RequestParser(LIMIT).feed(data)) == expected


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_white_space_around_a_headers_value_is_no_part_of_it(size: int) -> None:
    """RFC 9110 section 5.5: spaces and tabs. What stands within a value, and any other octet, is the value's own."""
    headers = b"host: \tx\r\na: \t1\t 2 \t \r\nb:\t \r\nc: \xa0z\xa0 \r\ntransfer-encoding: chunked \r\n\r\n"
    sent = b"POST / HTTP/1.1\r\n" + headers
    parser = RequestParser(LIMIT)
    events = [event for at in range(0, len(sent), size) for event in parser.feed(sent[at : at + size])]
    (request,) = events
    assert isinstance(request, Request)
    values = [(b"host", b"x"), (b"a", b"1\t 2"), (b"b", b""), (b"c", b"\xa0z\xa0"), (b"transfer-encoding", b"chunked")]
    assert request.headers == values


@given(st.lists(st.sampled_from([GET, POST, CHUNKED + b"3\r\nabc\r\n0\r\nt: u\r\n\r\n"]), max_size=4), st.data())
def test_where_the_bytes_are_cut_changes_nothing_but_the_pieces_of_bodies(
    messages: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(messages)
    parser, found, rest = RequestParser(LIMIT), list[object](), stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += told(parser.feed(rest[:size]))
        rest = rest[size:]
    assert not parser.in_head
    whole = told(RequestParser(LIMIT).feed(stream))
    assert [each for each in found if not isinstance(each, bytes)] == [e for e in whole if not isinstance(e, bytes)]
    assert b"".join(e for e in found if isinstance(e, bytes)) == b"".join(e for e in whole if isinstance(e, bytes))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"GET / HTTP/1.1\r\n", b"a: " + b"b" * 250], [431]),
        ([b"GET / HTTP/1.1\r\na: ", b"b" * 100, b"b" * 101], [431]),
        ([b"GET /" + b"a" * 300, b"a" * 200], []),  # what came in one piece with its beginning is in memory already
        ([b"GET /" + b"a" * 300, b"a" * 201], [431]),
        ([b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9 + b"\r\n"], [431, "end"]),
        ([CHUNKED + b"1\r\na\r\n0\r\n", b"t: u\r\n" * 20, b"t: u\r\n" * 20], ["POST /a", b"a", 431]),
        ([CHUNKED + b"500\r\n", b"a" * 0x500, b"\r\n0\r\n\r\n"], ["POST /a", b"a" * 0x500, "end"]),
        ([POST[:30], POST[30:-5].replace(b"5", b"500") + b"a" * 500, b""], ["POST /a", b"a" * 500, "end"]),
        ([CHUNKED, b"500\r\n" + b"a" * 0x500 + b"\r\n3\r\n", b"abc"], ["POST /a", b"a" * 0x500, b"abc"]),
    ],
)
def test_a_head_or_trailers_without_end_are_refused_before_they_fill_the_memory(
    pieces: list[bytes], expected: list[object]
) -> None:
    parser, found = RequestParser(LIMIT), list[object]()
    for piece in pieces:
        found += told(parser.feed(piece))
        if found and isinstance(found[-1], int):
            break
    assert found == expected


@pytest.mark.parametrize(
    ("begins", "unit"),
    [
        (b"", b"\r\n" * 50),
        (GET, b"\r\n" * 50),
        (CHUNKED + b"1;a=", b"b" * 100),
        (CHUNKED, b"0" * 100),
        (CHUNKED + b"1\r\na\r\n1;", b"b" * 100),
        (CHUNKED, b"1;" + b"e" * 50 + b"\r\na\r\n"),
        (CHUNKED, b"2;" + b"e" * 50 + b"\r\na"),
    ],
)
def test_what_nobody_reads_has_an_end(begins: bytes, unit: bytes) -> None:
    parser, fed = RequestParser(LIMIT), 0
    found = told(parser.feed(begins))
    while 400 not in found and fed < 100 * len(unit):
        fed += len(unit)
        found += told(parser.feed(unit))
    assert fed <= 40 * len(unit)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_chunks_of_any_size_with_a_short_extension_may_come_for_ever(size: int) -> None:
    chunk = b"%x;a\r\n%b\r\n" % (size, b"x" * size)
    parser = RequestParser(LIMIT)
    found = told(parser.feed(CHUNKED))
    for pieces in [1, 2, 7] * 300:
        for place in range(0, len(chunk), -(-len(chunk) // pieces)):
            found += told(parser.feed(chunk[place : place + -(-len(chunk) // pieces)]))
    found += told(parser.feed(b"0\r\n\r\n" + GET))
    assert found[-3:] == ["end", "GET /ping", "end"]


def test_a_parser_knows_whether_a_head_has_begun() -> None:
    parser = RequestParser(LIMIT)
    seen = []
    for piece in (GET[:5], GET[5:], GET + GET[:9]):
        parser.feed(piece)
        seen.append(parser.in_head)
    assert seen == [True, False, True]


@pytest.mark.parametrize("cut", range(0, len(JAVA), 7))
def test_an_offer_that_is_declined_is_an_ordinary_request_and_the_last_of_its_connection(cut: int) -> None:
    """As Java's client sends it, its body behind it, wherever the socket cut it."""
    parser, found = RequestParser(LIMIT), list[Event]()
    for piece in (JAVA[:cut], JAVA[cut:]):
        for event in parser.feed(piece):
            found += parser.decline_upgrade() if isinstance(event, UpgradeOffer) else [event]
    request, *pieces, end = found
    assert isinstance(request, Request)
    assert (request.method, request.keep_alive, request.header(b"upgrade")) == ("POST", False, "")
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == b"hello"
    assert end is END


def test_an_offer_that_is_taken_leaves_what_came_behind_it_to_the_other_protocol() -> None:
    parser = RequestParser(LIMIT)
    (offer,) = parser.feed(OFFER + b"frames")
    assert isinstance(offer, UpgradeOffer)
    assert offer.request.head_bytes() == OFFER
    assert parser.take_upgrade() == b"frames"
    assert parser.take_upgrade() == b""


@pytest.mark.parametrize(("version", "takes_chunks", "keeps"), [(b"1.0", False, False), (b"1.1", True, True)])
def test_a_client_of_http_1_0_takes_no_chunks(version: bytes, takes_chunks: bool, keeps: bool) -> None:
    request, _ = RequestParser(LIMIT).feed(GET.replace(b"1.1", version))
    assert isinstance(request, Request)
    assert (request.takes_chunks, request.keep_alive) == (takes_chunks, keeps)
