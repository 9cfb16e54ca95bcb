"""What a generator yields, and what is sent of it: each item by itself, in the type that the client asks for."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.toy_models import answered, computation, refused, request
from tidegate.inference.worker.chunks import is_source

LINES, CSV, TEXT, OCTETS = "application/jsonlines", "text/csv", "text/plain; charset=utf-8", "application/octet-stream"
ROWS = [torch.tensor([1.5, 2.0]), np.array([3.0, 4.0]), [5, 6]]


def yielding(items: list[Any]) -> Any:
    return computation(input_fn=lambda body, _: body, predict_fn=lambda *_: iter(items))


@pytest.mark.parametrize(
    ("accept", "items", "body", "content_type"),
    [
        ("", ROWS, b"[1.5, 2.0]\n[3.0, 4.0]\n[5, 6]\n", LINES),
        ("application/json", [{"a": 1}, None, 2], b'{"a": 1}\nnull\n2\n', LINES),
        ("application/x-ndjson", [1, 2], b"1\n2\n", "application/x-ndjson"),
        ("text/csv", ROWS, b"1.5,2.0\n3.0,4.0\n5,6\n", CSV),
        ("text/csv", [1, "a,b"], b'1\n"a,b"\n', CSV),
        ("text/csv", [torch.ones(2, 2)], b"1.0,1.0\n1.0,1.0\n", CSV),
        ("", ["a", "ü"], "aü".encode(), TEXT),
        ("*/*", ["a", "b"], b"ab", TEXT),
        ("", [b"\xff", bytearray(b"b")], b"\xffb", OCTETS),
        ("text/event-stream", ["data: 1\n\n"], b"data: 1\n\n", "text/event-stream"),
        ("audio/wav", [b"RIFF", b"..."], b"RIFF...", "audio/wav"),
        ("application/json", ["a", "b"], b'"a"\n"b"\n', LINES),
        ("application/jsonlines", ["a"], b'"a"\n', LINES),
        ("", ["a", 1], b"a1\n", TEXT),
    ],
)
def test_without_an_output_fn_each_item_is_encoded_by_itself(
    accept: str, items: list[Any], body: bytes, content_type: str
) -> None:
    answer = answered(yielding(items), request(b"", accept=accept))
    assert (answer.body, answer.content_type) == (body, content_type)


@pytest.mark.parametrize("accept", ["application/x-npy", "text/plain", "image/png"])
def test_items_that_the_accepted_type_cannot_hold_are_406(accept: str) -> None:
    error = refused(yielding([[1, 2]]), request(b"", accept=accept))
    assert error.status == 406
    assert error.message == (
        f"Accept '{accept}' cannot be answered with a stream of items of the type list; this model streams "
        "application/json, application/jsonlines, text/csv."
    )


def test_bytes_where_json_was_asked_for_by_name_cannot_be_sent() -> None:
    assert refused(yielding([b"x"]), request(b"", accept="application/json")).status == 500


@pytest.mark.parametrize("items", [[{1}], [object()], [iter(())]])
def test_an_item_that_no_type_holds_is_an_error_of_the_handler(items: list[Any]) -> None:
    assert refused(yielding(items), request(b"")).code == "handler_failed"


def test_a_generator_with_a_type_is_encoded_in_that_type() -> None:
    toy = computation(input_fn=lambda body, _: body, predict_fn=lambda *_: (iter([[1, 2]]), "text/csv"))
    answer = answered(toy, request(b"", accept="application/json"))
    assert (answer.body, answer.content_type) == (b"1,2\n", CSV)


def test_a_header_that_wants_nothing_is_406_for_a_stream_too() -> None:
    assert refused(yielding(["a"]), request(b"", accept="*/*;q=0")).status == 406


def test_the_chunks_of_output_fn_are_what_it_may_return_as_a_whole() -> None:
    def output_fn(prediction: Any, accept: str) -> Iterator[Any]:
        yield from ("a", b"b", bytearray(b"c"), memoryview(b"d"), {"e": 1}, torch.ones(1))

    toy = computation(input_fn=lambda body, _: body, predict_fn=lambda data, _: data, output_fn=output_fn)
    answer = answered(toy, request(b"", accept="text/x-mixed"))
    assert answer.body[:12] == b'abcd{"e": 1}'
    assert torch.load(io.BytesIO(answer.body[12:]), weights_only=True).tolist() == [1]
    assert answer.content_type == "text/x-mixed"


@pytest.mark.parametrize("transforms", [False, True])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (LINES, b'{"i": 0}\n[1, 2]\n[3.0]\n4\n"raw"\nbytes,'),
        ("application/jsonlines; charset=utf-8", b'{"i": 0}\n[1, 2]\n[3.0]\n4\n"raw"\nbytes,'),
        (CSV, b'1,2\n3.0\n4\n"raw"\nbytes,'),
        ("application/json", b'{"i": 0}[1, 2]4"raw"\nbytes,'),
    ],
)
def test_objects_that_output_fn_yields_under_a_type_of_lines_have_their_ends_and_raw_ones_are_as_they_are(
    content_type: str, body: bytes, transforms: bool
) -> None:
    def items() -> Iterator[Any]:
        if CSV not in content_type:
            yield {"i": 0}
        yield [1, 2]
        if content_type != "application/json":  # there a tensor is a file of torch.save
            yield torch.tensor([3.0])
        yield from (4, '"raw"\n', b"bytes,")

    if transforms:
        toy = computation(transform_fn=lambda *_: (items(), content_type))
    else:
        toy = computation(
            input_fn=lambda body, _: body, predict_fn=lambda *_: 1, output_fn=lambda *_: (items(), content_type)
        )
    assert answered(toy, request(b"", accept="*/*")).body == body


def test_a_list_is_a_whole_answer_and_what_is_asked_for_its_next_item_is_a_stream() -> None:
    class Streamer:
        """As transformers' TextIteratorStreamer."""

        def __init__(self) -> None:
            self.left = ["a", "b"]

        def __iter__(self) -> Streamer:
            return self

        def __next__(self) -> str:
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    assert not any(map(is_source, ([1], (1,), {"a": 1}, "ab", b"ab", torch.ones(1), np.ones(1), None, {1})))
    toy = computation(input_fn=lambda body, _: body, predict_fn=lambda *_: Streamer())
    assert answered(toy, request(b"")).body == b"ab"
    listed = computation(input_fn=lambda body, _: body, predict_fn=lambda *_: ["a", "b"])
    assert json.loads(answered(listed, request(b"")).body) == ["a", "b"]
