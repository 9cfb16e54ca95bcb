"""Responses as bytes: whole, in chunks, and the ones that say what went wrong."""

from __future__ import annotations

import http.client
import io
import json
import socket
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference import errors
from tidegate.inference.frontend.http.response import (
    LAST_CHUNK,
    Response,
    encode,
    encode_chunk,
    encode_head,
    error_response,
)


class _Wire:
    """A socket from which a client of the standard library reads."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def read(data: bytes, method: str = "POST") -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(cast(socket.socket, _Wire(data)), method=method)
    response.begin()
    return response


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        ({"length": 5}, b"content-length: 5\r\nx: y\r\n\r\n"),
        ({"length": 0, "keep_alive": False}, b"content-length: 0\r\nx: y\r\nconnection: close\r\n\r\n"),
        ({"length": None, "chunked": True}, b"transfer-encoding: chunked\r\nx: y\r\n\r\n"),
        ({"length": None, "keep_alive": False}, b"x: y\r\nconnection: close\r\n\r\n"),
    ],
)
def test_a_head_says_how_long_the_body_is_by_one_way_only(framing: dict[str, bool | int], expected: bytes) -> None:
    head = encode_head(200, "text/plain", b"x: y\r\n", **framing)  # type: ignore[arg-type]  # a table of keywords
    assert head == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n" + expected


def test_a_status_without_a_name_and_a_type_beyond_latin_1_are_sent_all_the_same() -> None:
    assert encode(Response(599, "text/\u20ac", b"")).startswith(b"HTTP/1.1 599 \r\ncontent-type: text/?\r\n")


@given(st.binary(), st.sampled_from([200, 404, 503]))
def test_a_client_reads_the_body_that_was_encoded(body: bytes, status: int) -> None:
    response = read(encode(Response(status, "a/b", body, b"x-a: 1\r\n")))
    assert (response.status, response.read(), response.getheader("x-a")) == (status, body, "1")


@given(st.lists(st.binary(max_size=40)))
def test_a_client_reads_the_chunks_that_were_encoded(parts: list[bytes]) -> None:
    """A part of no bytes is no chunk: it would end the body."""
    head = encode_head(200, "a/b", b"", length=None, chunked=True)
    assert read(head + b"".join(map(encode_chunk, parts)) + LAST_CHUNK).read() == b"".join(parts)


def test_a_client_notices_that_the_last_chunk_is_missing() -> None:
    head = encode_head(200, "a/b", b"", length=None, chunked=True)
    with pytest.raises(http.client.IncompleteRead):
        read(head + encode_chunk(b"abc")).read()


FAMILY = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.RequestError)]


@pytest.mark.parametrize("cls", FAMILY)
def test_every_error_answers_with_its_status_code_and_sentence(cls: type[errors.RequestError]) -> None:
    error = errors.RaisedByHandler("No.", 422) if cls is errors.RaisedByHandler else cls("No.")
    response = error_response(error, "id-7")
    assert 400 <= response.status <= 599
    assert response.content_type == "application/json"
    content = {"code": error.code, "message": "No.", "request_id": "id-7"}
    assert json.loads(response.body) == {"error": content}
    assert (response.headers == b"retry-after: 1\r\n") == (response.status == 503)


def test_a_model_that_a_chat_names_and_nobody_has_is_an_error_in_openais_form() -> None:
    content = json.loads(error_response(errors.ModelNotFound("No.", param="model"), "id-7").body)["error"]
    assert content.pop("request_id") == "id-7"
    assert content == {
        "code": "model_not_found",
        "message": "No.",
        "type": "invalid_request_error",
        "param": "model",
    }


def test_a_verb_that_a_path_does_not_answer_is_told_which_it_does() -> None:
    assert error_response(errors.MethodNotAllowed("No.", ("GET", "HEAD")), "").headers == b"allow: GET, HEAD\r\n"


def test_error_codes_name_one_class_each() -> None:
    codes = [cls.code for cls in FAMILY]
    assert len(set(codes)) == len(codes)
