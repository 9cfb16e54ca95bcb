"""A request's target and headers, and what a refused client reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference import errors
from tidegate.inference.frontend.http.exchange import Exchange, error_response, split_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/invocations", "/invocations", ""),
        (b"/invocations?x=1&y=%20", "/invocations", "x=1&y=%20"),
        (b"/a%20b", "/a b", ""),
        (b"/models/caf%C3%A9/invoke", "/models/café/invoke", ""),
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


def exchange(*headers: tuple[bytes, bytes]) -> Exchange:
    return Exchange(
        id="1",
        method="POST",
        path="/invocations",
        query="",
        headers=list(headers),
        keep_alive=True,
    )


def test_the_last_of_several_headers_wins_and_a_missing_one_is_empty() -> None:
    found = exchange((b"accept", b"text/csv"), (b"accept", b"application/json"))
    assert found.header(b"accept") == "application/json"
    assert found.header(b"content-type") == ""


def test_the_body_is_whole_however_it_arrived() -> None:
    found = exchange()
    assert found.whole_body == b""
    found.body.append(b"ab")
    assert found.whole_body == b"ab"
    found.body.append(b"c")
    assert found.whole_body == b"abc"


FAMILY = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.RequestError)]


@pytest.mark.parametrize("cls", FAMILY)
def test_every_error_answers_with_its_status_code_and_sentence(cls: type[errors.RequestError]) -> None:
    error = errors.RaisedByHandler("No.", 422) if cls is errors.RaisedByHandler else cls("No.")
    response = error_response(error, "id-7")
    assert 400 <= response.status <= 599
    assert response.content_type == "application/json"
    content = {"error": {"code": error.code, "message": "No.", "request_id": "id-7"}}
    assert json.loads(response.body) == content
    assert (response.headers == b"retry-after: 1\r\n") == (response.status == 503)


def test_error_codes_name_one_class_each() -> None:
    codes = [cls.code for cls in FAMILY]
    assert len(set(codes)) == len(codes)
