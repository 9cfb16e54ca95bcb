"""A request's target, headers and body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.frontend.http.request import Request, split_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/invocations", "/invocations", ""),
        (b"/invocations?x=1&y=%20", "/invocations", "x=1&y=%20"),
        (b"/a%20b", "/a b", ""),
        (b"/models/caf%C3%A9/invoke", "/models/café/invoke", ""),
        ("/models/café/invoke".encode(), "/models/café/invoke", ""),
        (b"/models/caf\xe9/invoke", "/models/café/invoke", ""),
        (b"/models/a%2Fversions%2f1/invoke", "/models/a%2Fversions%2F1/invoke", ""),
        (b"/?a?b", "/", "a?b"),
        (b"/%", "/%", ""),
        (b"/x?u=http://h/y", "/x", "u=http://h/y"),
        (b"http://host:8080/ping?x=1", "/ping", "x=1"),
        (b"http://host", "/", ""),
        (b"*", "*", ""),
        (b"host:443", "host:443", ""),
    ],
)
def test_a_target_is_split_into_path_and_query(target: bytes, path: str, query: str) -> None:
    assert split_target(target) == (path, query)


@given(st.binary(max_size=40))
def test_no_target_breaks_the_split(target: bytes) -> None:
    path, query = split_target(target)
    assert isinstance(path, str)
    assert isinstance(query, str)


def request(*headers: tuple[bytes, bytes]) -> Request:
    return Request(method="POST", target=b"/invocations?x=1", headers=list(headers))


def test_the_last_of_several_headers_wins_and_a_missing_one_is_empty() -> None:
    found = request((b"accept", b"text/csv"), (b"accept", b"application/json"))
    assert found.header(b"accept") == "application/json"
    assert found.header(b"content-type") == ""
    assert (found.count(b"accept"), found.count(b"content-type")) == (2, 0)


def test_a_header_that_is_set_is_the_only_one_of_its_name_wherever_it_is_looked_up() -> None:
    found = request((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    found.set_header(b"a", b"4")
    assert found.headers == [(b"b", b"2"), (b"a", b"4")]
    assert found.header(b"a") == "4"
    assert found.header_block() == b"b: 2\r\na: 4\r\n"
    assert found.count(b"a") == 1


def test_the_head_can_be_read_again_from_its_bytes() -> None:
    head = request((b"host", b"x"), (b"upgrade", b"websocket")).head_bytes()
    assert head == b"POST /invocations?x=1 HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n"


def test_the_body_is_whole_however_it_arrived() -> None:
    body = request().body
    assert body.whole() == b""
    body.append(b"ab")
    assert body.whole() == b"ab"
    body.append(b"c")
    assert (body.whole(), body.size) == (b"abc", 3)
