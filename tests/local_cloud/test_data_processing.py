"""Filters and joins of batch records, after the examples of the service's documentation."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.local_cloud.sagemaker.data_processing import data_processing
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.record_filters import RecordError


def asked(content_type: str = "text/csv", split: str = "Line", accept: str = "", **processing: str) -> dict[str, Any]:
    return {
        "TransformInput": {"ContentType": content_type, "SplitType": split},
        "TransformOutput": {"Accept": accept} if accept else {},
        "DataProcessing": processing,
    }


def test_a_request_without_filters_and_join_needs_no_processing() -> None:
    assert data_processing(asked(InputFilter="$", OutputFilter="$", JoinSource="None")) is None


def test_an_identifier_column_is_left_out_for_the_model_and_joined_again() -> None:
    processing = data_processing(asked(InputFilter="$[1:]", JoinSource="Input", OutputFilter="$[0,-1]"))
    assert processing is not None
    assert processing.to_model(b"id7,5.1,3.5\n") == b"5.1,3.5\n"
    assert processing.to_output(b"id7,5.1,3.5\n", b"setosa") == b"id7,setosa"


def test_quoted_columns_stay_columns() -> None:
    processing = data_processing(asked(InputFilter="$[1:]"))
    assert processing is not None
    assert processing.to_model(b'1,"a,b",c\n') == b'"a,b",c\n'


def test_an_empty_filter_is_none() -> None:
    assert data_processing(asked(InputFilter="", OutputFilter="")) is None


def test_a_quote_that_is_left_open_is_no_record() -> None:
    processing = data_processing(asked(JoinSource="Input"))
    assert processing is not None
    assert processing.to_output(b'1,"a"\r\n', b"2") == b"1,a,2"
    with pytest.raises(RecordError, match="not a CSV record: a quote is left open: a cell must not hold a newline"):
        processing.to_output(b'1,"a\n', b"2")


@pytest.mark.parametrize("asked_for", [{"JoinSource": "Input"}, {"OutputFilter": "$[0]"}, {"InputFilter": "$[0]"}])
@pytest.mark.parametrize(
    ("record", "words"), [(b'1,"a\n', "a quote is left open"), (b"1\r2\r\n", "a CR has no LF after it")]
)
def test_a_line_that_is_no_record_by_itself_is_not_sent(asked_for: dict[str, str], record: bytes, words: str) -> None:
    processing = data_processing(asked(**asked_for))
    assert processing is not None
    with pytest.raises(RecordError, match=f"not a CSV record: {words}"):
        processing.to_model(record)


def test_json_objects_get_their_output_as_a_member() -> None:
    processing = data_processing(
        asked(
            "application/jsonlines",
            InputFilter="$.features",
            JoinSource="Input",
            OutputFilter="$['id','SageMakerOutput']",
        )
    )
    assert processing is not None
    source = b'{"id": 7, "features": [1, 2]}\n'
    assert processing.to_model(source) == b"[1,2]\n"
    assert processing.to_output(source, b'{"label": "a"}') == b'{"id":7,"SageMakerOutput":{"label":"a"}}'


def test_json_values_that_are_no_objects_are_wrapped() -> None:
    processing = data_processing(asked("application/json", split="None", JoinSource="Input"))
    assert processing is not None
    assert processing.to_output(b"[1, 2]", b"3") == b'{"SageMakerInput":[1,2],"SageMakerOutput":3}'


def test_a_filter_that_the_service_does_not_take_is_refused_at_once() -> None:
    with pytest.raises(ServiceError, match=r'Invalid OutputFilter: "\$\["'):
        data_processing(asked(OutputFilter="$["))
    with pytest.raises(ServiceError, match='Unexpected "_" in JsonPath'):
        data_processing(asked("application/jsonlines", InputFilter="$.my_features"))
    with pytest.raises(ServiceError, match='Supported operators for "text/csv"'):
        data_processing(asked(InputFilter="$.features"))


def test_content_that_has_no_records_is_refused_at_once() -> None:
    with pytest.raises(ServiceError, match="this job has image/png"):
        data_processing(asked("image/png", InputFilter="$.a"))
    with pytest.raises(ServiceError, match="needs SplitType Line"):
        data_processing(asked("text/csv", split="None", JoinSource="Input"))
    with pytest.raises(ServiceError, match="Accept is application/json"):
        data_processing(asked("text/csv", accept="application/json", JoinSource="Input"))


def test_a_record_that_is_not_what_its_type_says_is_named() -> None:
    processing = data_processing(asked("application/jsonlines", InputFilter="$.a"))
    assert processing is not None
    with pytest.raises(RecordError, match="not a JSON record"):
        processing.to_model(b"{oops\n")


@pytest.mark.parametrize("nothing", [b"{" * 100_000, b"[" * 100_000, b"\xff", b""])
def test_what_no_reader_can_read_is_no_record(nothing: bytes) -> None:
    processing = data_processing(asked("application/jsonlines", InputFilter="$.a"))
    assert processing is not None
    with pytest.raises(RecordError, match="not a JSON record"):
        processing.to_model(nothing)


def test_a_cell_may_be_as_long_as_it_likes() -> None:
    processing = data_processing(asked(InputFilter="$[1:]", JoinSource="Input"))
    assert processing is not None
    cell = b"x" * 200_000
    assert processing.to_model(b"id7," + cell + b"\n") == cell + b"\n"
    assert processing.to_output(b"id7," + cell, cell) == b"id7," + cell + b"," + cell


@pytest.mark.parametrize("answered", ["text/csv", "TEXT/CSV; charset=utf-8", None])
def test_an_answer_in_the_format_of_the_input_is_joined(answered: str | None) -> None:
    processing = data_processing(asked(JoinSource="Input"))
    assert processing is not None
    processing.check_answer(answered)


@pytest.mark.parametrize("answered", ["application/json", "application/x-npy", "text/plain", ""])
def test_an_answer_in_another_format_is_not_joined_and_accept_is_the_way_out(answered: str) -> None:
    processing = data_processing(asked(JoinSource="Input"))
    assert processing is not None
    with pytest.raises(RecordError, match=r"the answer is .*set Accept to text/csv"):
        processing.check_answer(answered)


def test_the_charset_of_the_input_and_of_the_answer_count_and_the_output_is_utf_8() -> None:
    processing = data_processing(asked("text/csv; charset=latin-1", JoinSource="Input", InputFilter="$[0]"))
    assert processing is not None
    source = "é,1\n".encode("latin-1")
    assert processing.to_model(source) == "é\n".encode("latin-1")
    assert processing.to_output(source, "ü".encode("cp1252"), charset="cp1252") == "é,1,ü".encode()


def test_an_escape_in_json_that_the_charset_does_not_have_stays_one() -> None:
    latin = data_processing(asked("application/jsonlines; charset=latin-1", InputFilter="$.a"))
    utf = data_processing(asked("application/jsonlines", InputFilter="$.a"))
    assert latin is not None
    assert utf is not None
    assert latin.to_model(b'{"a": "\\u2603"}\n') == b'"\\u2603"\n'
    assert utf.to_model(b'{"a": "\\ud800"}\n') == b'"\\ud800"\n'


@pytest.mark.parametrize("charset", ["utf-16", "utf-32-le", "no-such", "hex"])
def test_a_charset_that_cannot_be_cut_into_lines_is_refused_at_once(charset: str) -> None:
    with pytest.raises(ServiceError, match="has a charset"):
        data_processing(asked(f"text/csv; charset={charset}", InputFilter="$[0]"))


@pytest.mark.parametrize("cell", [b" ", b'""', b"\t "])
def test_a_cell_of_nothing_stays_a_record(cell: bytes) -> None:
    processing = data_processing(asked(InputFilter="$[1]"))
    assert processing is not None
    assert processing.to_model(b"a," + cell + b"\n") == b'"' + cell.strip(b'"') + b'"\n'


def test_an_empty_answer_is_an_empty_cell() -> None:
    processing = data_processing(asked(JoinSource="Input"))
    assert processing is not None
    assert processing.to_output(b"a,b\n", b"") == b"a,b,"
