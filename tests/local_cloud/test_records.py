"""The rules of splitting, batching and assembling, as properties."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.local_cloud.sagemaker.records import (
    Record,
    RecordTooLarge,
    answer_lines,
    batches,
    lines,
    output_key,
    whole,
    why_other_lines,
    without_mark,
)

chunks = st.lists(st.text("ab \t\n", max_size=6).map(str.encode), max_size=12)
payloads = st.lists(st.binary(min_size=1, max_size=10), max_size=20)


def records(contents: list[bytes]) -> list[Record]:
    return [Record(index=index, source=content, payload=content) for index, content in enumerate(contents)]


@pytest.mark.parametrize("split", [whole, lines])
def test_a_record_that_is_too_large_is_not_read_to_its_end(split: Callable[..., Iterator[bytes]]) -> None:
    pieces = iter([b"aa", b"aa", b"never read"])
    with pytest.raises(RecordTooLarge, match="record 0 is larger than the 3 bytes"):
        list(split(pieces, max_bytes=3))
    assert list(pieces) == [b"never read"]


@given(chunks)
def test_lines_joined_again_are_the_input_without_its_blank_lines(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    kept = [line for line in content.splitlines(keepends=True) if line.strip()]
    assert list(lines(pieces, max_bytes=None)) == kept


@given(chunks)
def test_the_same_lines_come_out_wherever_the_chunks_are_cut(pieces: list[bytes]) -> None:
    assert list(lines(pieces, max_bytes=None)) == list(lines([b"".join(pieces)], max_bytes=None))


@given(chunks)
def test_every_line_but_the_last_ends_with_its_only_newline(pieces: list[bytes]) -> None:
    found = list(lines(pieces, max_bytes=None))
    assert all(line.find(b"\n") == len(line) - 1 for line in found[:-1])
    assert all(line and b"\n" not in line[:-1] for line in found[-1:])


@given(chunks)
def test_without_a_split_a_non_empty_object_is_one_record(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert list(whole(pieces, max_bytes=None)) == ([content] if content else [])


@given(payloads, st.booleans(), st.one_of(st.none(), st.integers(10, 40)))
def test_batches_keep_every_record_once_and_in_order(contents: list[bytes], multi: bool, limit: int | None) -> None:
    made = list(batches(records(contents), multi=multi, max_bytes=limit))
    assert [record.payload for batch in made for record in batch.records] == contents


@given(payloads, st.integers(10, 40))
def test_no_batch_is_larger_than_allowed_and_none_could_take_the_next_record(contents: list[bytes], limit: int) -> None:
    made = list(batches(records(contents), multi=True, max_bytes=limit))
    assert all(len(batch.payload) <= limit for batch in made)
    for batch, following in itertools.pairwise(made):
        assert len(batch.payload) + len(following.records[0].payload) > limit


@given(payloads)
def test_single_record_batches_hold_one_record_each(contents: list[bytes]) -> None:
    assert [batch.payload for batch in batches(records(contents), multi=False, max_bytes=None)] == contents


@given(payloads)
def test_without_a_limit_all_records_are_one_batch(contents: list[bytes]) -> None:
    assert len(list(batches(records(contents), multi=True, max_bytes=None))) == (1 if contents else 0)


def test_a_record_that_does_not_fit_alone_is_named() -> None:
    with pytest.raises(RecordTooLarge, match="record 1 is larger than the 3 bytes that MaxPayloadInMB allows"):
        list(batches(records([b"ab", b"abcdef"]), multi=False, max_bytes=3))


def test_a_byte_order_mark_alone_is_a_blank_line_and_before_a_record_a_part_of_it() -> None:
    mark = b"\xef\xbb\xbf"
    assert list(lines([mark + b"\n", b"a\n"], max_bytes=None)) == [b"a\n"]
    assert list(lines([mark + b"a\n"], max_bytes=None)) == [mark + b"a\n"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_one_byte_order_mark_at_the_start_is_passed_over_however_the_content_is_cut(size: int) -> None:
    mark = b"\xef\xbb\xbf"
    for content, rest in [(mark + b"a" + mark, b"a" + mark), (mark + mark, mark), (b"ab", b"ab"), (b"", b"")]:
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        assert b"".join(without_mark(pieces)) == rest


@given(st.lists(st.binary(max_size=5).map(lambda part: part.translate(None, b"\n")), min_size=1, max_size=8))
def test_an_answer_of_one_line_for_each_record_is_taken_apart_again(parts: list[bytes]) -> None:
    assert answer_lines(b"".join(part + b"\n" for part in parts), len(parts)) == parts


def test_blank_lines_of_an_answer_beyond_its_records_are_none() -> None:
    assert answer_lines(b"a\n\nb\n\n", 2) == [b"a", b"b"]
    assert answer_lines(b"a\n\n", 1) == [b"a"]


@pytest.mark.parametrize(
    ("answer", "count", "words"),
    [
        (b"a\nb\n", 3, "2 lines for 3 records"),
        (b"a\nb\nc", 1, "3 lines for 1 record"),
        (b"[1, 2]", 2, "1 line for 2 records"),
        (b"", 2, "0 lines for 2 records"),
    ],
)
def test_an_answer_with_another_number_of_lines_cannot_be_taken_apart(answer: bytes, count: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        answer_lines(answer, count)


@pytest.mark.parametrize(
    ("sent", "contents", "answer", "answered", "words"),
    [
        (
            "text/csv",
            [b"1\n", b"2\n"],
            b"[1, 2]",
            "application/json",
            "it is application/json: set Accept to a type in",
        ),
        ("text/csv", [b"1\n", b"2\n"], b"[1, 2]", "", "it is of no type: set Accept to a type in lines"),
        (
            "text/csv",
            [b"1\n", b'"a\n', b'b"\n'],
            b"1\n2\n",
            "text/csv",
            "in record 1 a quote is left open: a cell must",
        ),
        ("text/csv", [b"1\r2\r3\r\n"], b"1\n2\n", "text/csv", "in record 0 a CR has no LF after it: a line ends with"),
        ("application/jsonlines", [b'{"a":1}\r{"a":2}\n'], b"1\n2\n", "text/csv", "in record 0 a CR has no LF after"),
        ("text/csv", [b"1\n", b"2\n"], b'1\n"a,\nb"\n', "text/csv", "in line 1 of the answer a quote is left open"),
        ("text/csv", [b"1\r\n", b"2\r\n"], b"1\r2\r", "text/csv", "in line 0 of the answer a CR has no LF after it"),
        ("text/csv", [b"1\r\n", b'"a\n'], b"1\r\n", "application/json", "it is application/json: set Accept"),
        ("application/jsonlines", [b'"\\""\n', b"1\n"], b'"\\""\n', "application/jsonlines", "which is in lines: let"),
        (
            "text/csv",
            [b"1\r\n", b'"a"\r\n'],
            b"1\r\n",
            "text/csv",
            "it is text/csv, which is in lines: let the model's",
        ),
    ],
)
def test_why_an_answer_has_other_lines_is_said_by_what_is_seen(
    sent: str, contents: list[bytes], answer: bytes, answered: str, words: str
) -> None:
    why = why_other_lines(answer, records(contents), answered=answered, sent=sent)
    assert words in why
    assert ("SingleRecord" in why) == (words.startswith(("it is", "which")))


def test_a_request_of_one_record_is_not_told_to_be_one() -> None:
    for answered in ("application/json", "text/csv"):
        why = why_other_lines(b"1\n2\n", records([b"1\n"]), answered=answered, sent="text/csv")
        assert f"it is {answered}" in why
        assert "SingleRecord" not in why


@pytest.mark.parametrize(
    ("key", "input_prefix", "output_prefix", "expected"),
    [
        ("in/a.csv", "in/", "out", "out/a.csv.out"),
        ("in/a.csv", "in/", "out/", "out/a.csv.out"),
        ("in/deep/a.csv", "in/", "out", "out/deep/a.csv.out"),
        ("in/a.csv", "in/a.csv", "out", "out/a.csv.out"),
        ("in/part-1", "in/part-", "out", "out/part-1.out"),
        ("a.csv", "", "", "a.csv.out"),
    ],
)
def test_an_output_lies_below_the_output_path_as_its_input_lay_below_the_input_folder(
    key: str, input_prefix: str, output_prefix: str, expected: str
) -> None:
    assert output_key(key, input_prefix=input_prefix, output_prefix=output_prefix) == expected
