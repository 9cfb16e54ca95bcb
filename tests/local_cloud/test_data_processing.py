"""Filters and joins of batch records, after the examples of the service's documentation."""

from __future__ import annotations

from typing import Any

import pytest

from local_cloud.sagemaker.data_processing import RecordError, compiled_filter, data_processing
from local_cloud.sagemaker.errors import ServiceError


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
    with pytest.raises(RecordError, match="not a CSV record: unexpected end of data"):
        processing.to_output(b'1,"a\n', b"2")


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


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("$.a", {"a": 1}, 1),
        ("$.a.b", {"a": {"b": [2]}}, [2]),
        ("$[0]", [5, 6], 5),
        ("$[0:2]", [5, 6, 7], [5, 6]),
        ("$[0,2]", [5, 6, 7], [5, 7]),
        ("$['a','b']", {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}),
        ("$.a[*]", {"a": [1, 2]}, [1, 2]),
    ],
)
def test_a_filter_takes_the_part_that_its_path_names(path: str, value: object, part: object) -> None:
    assert compiled_filter("InputFilter", path)(value) == part


def test_a_filter_that_finds_nothing_is_an_error_of_the_record() -> None:
    with pytest.raises(RecordError, match=r"InputFilter \$\.a finds nothing"):
        compiled_filter("InputFilter", "$.a")({"b": 1})


def test_a_filter_that_is_no_path_is_refused_at_once() -> None:
    with pytest.raises(ServiceError, match=r"OutputFilter '\$\[' is not a JSONPath"):
        data_processing(asked(OutputFilter="$["))


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
