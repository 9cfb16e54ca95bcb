"""Any cutting of a stream gives the same text, lines, JSON lines and events: properties, and the cases by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client import ServerSentEvent, StreamBroken, UnreadableStream
from tidegate.client.reassembly import Unread, json_lines, lines, server_sent_events, text

SOME_TEXT = st.text(st.sampled_from('aé日🙂 :"\\\r\n\tdatidevent[]{}\ufeff'), max_size=60)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def cut(content: bytes, data: st.DataObject) -> list[bytes]:
    """The content in parts, some of them empty."""
    places = data.draw(st.lists(st.integers(0, len(content)), max_size=8))
    ends = [0, *sorted(places), len(content)]
    return [content[begin:end] for begin, end in pairwise(ends)]


def broken(parts: Iterable[bytes]) -> Iterator[bytes]:
    yield from parts
    raise StreamBroken("the answer broke off: it died", code="ModelStreamError")


@pytest.mark.parametrize("read", [lines, server_sent_events, lambda parts: ["".join(text(parts))]])
@given(content=SOME_TEXT, data=st.data())
def test_where_the_parts_are_cut_changes_nothing(
    read: Callable[[Iterable[bytes]], Iterable[Any]], content: str, data: st.DataObject
) -> None:
    encoded = content.encode()
    assert list(read(cut(encoded, data))) == list(read([encoded])) == list(read(bytes([byte]) for byte in encoded))


@given(content=SOME_TEXT, data=st.data())
def test_the_lines_are_those_of_the_whole_text(content: str, data: st.DataObject) -> None:
    *ended, rest = content.removeprefix("\ufeff").split("\n")
    expected = [line.removesuffix("\r") for line in ended] + ([rest] if rest else [])
    assert list(lines(cut(content.encode(), data))) == expected


@given(content=SOME_TEXT, data=st.data())
def test_the_pieces_of_text_are_the_whole_text(content: str, data: st.DataObject) -> None:
    assert "".join(text(cut(content.encode(), data))) == content.removeprefix("\ufeff")


@given(values=st.lists(JSON_VALUES, max_size=6), end=st.sampled_from(["\n", "\r\n", "\n\n"]), data=st.data())
def test_json_lines_come_back_as_they_were(values: list[Any], end: str, data: st.DataObject) -> None:
    content = end.join(json.dumps(value, ensure_ascii=False) for value in values).encode()
    assert list(json_lines(cut(content, data))) == values


@given(
    events=st.lists(
        st.builds(
            ServerSentEvent,
            data=st.text(st.sampled_from("aé: \n"), max_size=12),
            event=st.text(st.sampled_from("abc"), min_size=1, max_size=4),
            id=st.text(st.sampled_from("123"), min_size=1, max_size=3),
        ),
        max_size=5,
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    ended=st.booleans(),
    data=st.data(),
)
def test_events_come_back_as_they_were(
    events: list[ServerSentEvent], end: str, ended: bool, data: st.DataObject
) -> None:
    written = [
        "".join(
            [": a comment", end, f"event: {event.event}", end, f"id: {event.id}", end]
            + [f"data: {line}{end}" for line in event.data.split("\n")]
        )
        for event in events
    ]
    content = end.join(written) + (end if ended and written else "")
    assert list(server_sent_events(cut(content.encode(), data))) == events


@pytest.mark.parametrize("read", [lines, server_sent_events])
@given(content=SOME_TEXT, data=st.data())
def test_what_is_whole_comes_before_the_error_and_the_rest_is_in_it(
    read: Callable[[Iterable[bytes]], Iterator[Any]], content: str, data: st.DataObject
) -> None:
    found: list[Any] = []
    with pytest.raises(StreamBroken, match="it died") as caught:
        found.extend(read(broken(cut(content.encode(), data))))
    whole = list(read([content.encode()]))
    assert found in (whole, whole[:-1]), "only the last can be in pieces"
    assert len(found) == len(whole) or caught.value.rest
    if read is lines:
        assert caught.value.rest == content.encode().rpartition(b"\n")[2]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("data: one\ndata:two\ndata:  three\n\n", ["one\ntwo\n three"]),
        (": keep-alive\n\n:\n\ndata: a\n\n", ["a"]),
        ("data: a\n\ndata: [DONE]", ["a", "[DONE]"]),
        ("data\n\ndata:\n\n", ["", ""]),
        ("event: nothing\n\nretry: 100\nunknown: x\ndata: a\n\n", ["a"]),
        ("\ufeffdata: a\r\r\ndata: b\r\n\r\n", ["a", "b"]),
    ],
)
def test_events_are_read_as_a_browser_reads_them(written: str, expected: list[str]) -> None:
    found = list(server_sent_events([written.encode()]))
    assert [event.data for event in found] == expected
    assert {event.event for event in found} == {"message"}


def test_the_id_goes_on_and_the_kind_does_not() -> None:
    content = b"id: 7\nevent: token\ndata: a\n\ndata: b\n\nid: \0\ndata: c\n\nid\ndata: d\n\n"
    assert [(event.event, event.id) for event in server_sent_events([content])] == [
        ("token", "7"),
        ("message", "7"),
        ("message", "7"),
        ("message", ""),
    ]


def test_an_event_is_yielded_at_its_blank_line_and_not_later() -> None:
    found = server_sent_events(iter([b"data: a\r\n\r", b"data: b", b"\n\n"]))
    assert next(found).data == "a"
    assert next(found).data == "b"


def test_an_event_that_breaks_off_is_told_with_all_its_lines() -> None:
    events = server_sent_events(broken([b"data: a\n\nevent: token\ndata: b\nda"]))
    assert next(events).data == "a"
    with pytest.raises(StreamBroken) as caught:
        next(events)
    assert caught.value.rest == b"event: token\ndata: b\nda"


@pytest.mark.parametrize("read", [lines, server_sent_events])
@given(content=SOME_TEXT, data=st.data(), number=st.integers(0, 3))
def test_a_reader_that_is_left_in_the_middle_loses_nothing_to_the_next_one(
    read: Callable[[Iterable[bytes] | Unread], Iterator[Any]], content: str, data: st.DataObject, number: int
) -> None:
    encoded = content.encode()
    unread = Unread(cut(encoded, data))
    head = list(islice(read(unread), number))
    assert head + list(read(unread)) == list(read([encoded]))


@pytest.mark.parametrize("read", [text, lines, server_sent_events])
@given(content=SOME_TEXT, data=st.data(), number=st.integers(0, 3))
def test_what_no_form_has_yielded_is_there_for_another_one(
    read: Callable[[Unread], Iterator[Any]], content: str, data: st.DataObject, number: int
) -> None:
    encoded = content.encode()
    unread = Unread(cut(encoded, data))
    head = list(islice(read(unread), number))
    while unread.more():
        pass
    assert encoded.endswith(unread.data)
    if read is text:
        assert "".join(head) + unread.data.decode().removeprefix("\ufeff" * (not head)) == content.removeprefix(
            "\ufeff"
        )


def test_events_go_on_with_the_last_id_where_another_reader_was_left() -> None:
    unread = Unread([b"id: 7\ndata: a\n\ndata: b\n\nda", b"ta: c\n\n"])
    for event in server_sent_events(unread):
        assert event.data == "a"
        break
    assert [(event.data, event.id) for event in server_sent_events(unread)] == [("b", "7"), ("c", "7")]


def test_an_event_may_be_read_as_json() -> None:
    (event,) = server_sent_events([b'data: {"a":\ndata: 1}\n\n'])
    assert event.json() == {"a": 1}


@pytest.mark.parametrize(
    ("read", "content", "sentence"),
    [
        (json_lines, b'1\n\n{"a": \n', r"line 3 of the stream is not JSON: Expecting value"),
        (lines, b"a\nb\xff\n", r"line 2 of the stream is not UTF-8: .* 0xff"),
        (text, "é".encode()[:1], "the stream is not UTF-8: .*unexpected end"),
        (lambda parts: lines(parts, max_bytes=3), b"abc\nabcd", "a line of the stream has more than 3 bytes"),
        (
            lambda parts: server_sent_events(parts, max_bytes=9),
            b"data: a\ndata: b\n",
            "an event of the stream has more than 9 bytes",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(
    read: Callable[[Iterable[bytes]], Iterator[Any]], content: bytes, sentence: str
) -> None:
    with pytest.raises(UnreadableStream, match=sentence):
        list(read(bytes([byte]) for byte in content))


def test_what_is_not_utf_8_in_an_event_is_replaced() -> None:
    assert [event.data for event in server_sent_events([b"data: a\xff\n\n"])] == ["a\ufffd"]


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", []), (b"\xef\xbb\xbf", []), (b"\r", ["\r"]), (b"\xef\xbb\xbf\n", [""])]
)
def test_a_byte_order_mark_is_no_line_and_a_carriage_return_no_end_of_one(content: bytes, expected: list[str]) -> None:
    assert list(lines([content])) == expected
