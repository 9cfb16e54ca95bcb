"""What a filter takes of a record, what it refuses at once, and what it refuses of a record."""

from __future__ import annotations

import itertools

import pytest

from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.record_filters import Format, RecordError, RecordFilter, compiled_filter

NINE = [str(number) for number in range(9)]


def made(expression: str, data_format: Format = "json") -> RecordFilter:
    content_type = "text/csv" if data_format == "csv" else "application/jsonlines"
    return compiled_filter("InputFilter", expression, data_format, content_type=content_type)


@pytest.mark.parametrize(
    ("path", "record", "part"),
    [
        ("$", [1], [1]),
        ("$.a", {"a": 1}, 1),
        ("$.a.b", {"a": {"b": [2]}}, [2]),
        ("$['a']", {"a": 1}, 1),
        ("$['a b']", {"a b": 1}, 1),
        ("$.my-name", {"my-name": 1}, 1),
        ("$['a', 'b']", {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}),
        ("$.a.['b','c']", {"a": {"b": 1, "c": 2, "d": 3}}, {"b": 1, "c": 2}),
        ("$['a','b'].c", {"a": {"c": 1}, "b": {"c": 2}}, [1, 2]),
        ("$[0]", [5, 6], 5),
        ("$[-1]", [5, 6], 6),
        ("$[0,2]", [5, 6, 7], [5, 7]),
        ("$[2, 0]", [5, 6, 7], [7, 5]),
        ("$[0:2]", [5, 6, 7], [5, 6]),
        ("$[-2:]", [5, 6, 7], [6, 7]),
        ("$[:-1]", [5, 6, 7], [5, 6]),
        ("$[:3]", [5, 6, 7], [5, 6, 7]),
        ("$.a[*]", {"a": [1, 2]}, [1, 2]),
        ("$.a.*", {"a": {"b": 1, "c": 2}}, [1, 2]),
        ("$[*].a", [{"a": 1}, {"a": 2}], [1, 2]),
        ("$[*]['a','b']", [{"a": 1, "b": 2}, {"a": 3, "b": 4}], [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        ("$.a[1:].b", {"a": [{}, {"b": 1}]}, [1]),
        ("$.a", {"a": None}, None),
    ],
)
def test_a_filter_takes_the_part_that_its_path_names(path: str, record: object, part: object) -> None:
    assert made(path)(record) == part


@pytest.mark.parametrize(
    ("path", "record", "words"),
    [
        ("$[9]", NINE, "element 9 of 9 elements (counted from 0)"),
        ("$[-10]", NINE, "element -10 of 9 elements"),
        ("$[0,9]", NINE, "element 9 of 9 elements"),
        ("$[9:]", NINE, "a range that is not within 9 elements"),
        ("$[0:10]", NINE, "a range that is not within 9 elements"),
        ("$[:-9]", NINE, "a range that is not within 9 elements"),
        ("$[-1:3]", NINE, "a range that is not within 9 elements"),
        ("$.a", {"b": 1}, "'a', which the record does not have"),
        ("$['id','missing']", {"id": 1}, "'missing', which the record does not have"),
        ("$[*].a", [{"a": 1}, {}], "'a', which the record does not have"),
        ("$.a", [1], "'a', a member, of a list"),
        ("$[0]", {"a": 1}, "an element of an object"),
        ("$.a[1:]", {"a": 7}, "an element of a single value"),
        ("$.a.*", {"a": 7}, "the parts of a single value"),
    ],
)
def test_what_a_record_does_not_have_is_named_and_never_dropped(path: str, record: object, words: str) -> None:
    with pytest.raises(RecordError) as caught:
        made(path)(record)
    assert str(caught.value).startswith(f"InputFilter {path} names {words}")


@pytest.mark.parametrize("character", '_|?@()"!~=<>&+/\\{}\té')
def test_a_character_that_the_service_does_not_take_is_refused_in_its_words(character: str) -> None:
    with pytest.raises(ServiceError) as caught:
        made(f"$['a{character}b']")
    assert caught.value.code == "ValidationException"
    assert caught.value.message == (
        f"""Invalid InputFilter: "$['a{character}b']". Unexpected "{character}" in JsonPath. Supported operators for"""
        """ "application/jsonlines" are ['$', '[', ']', '*', '.', ' ', ',', ':', '-', "'"]"""
    )


@pytest.mark.parametrize("path", ["$.a", "$['a']", "$[a]", "$.*", "$[0].1"])
def test_a_filter_of_csv_has_no_names(path: str) -> None:
    with pytest.raises(ServiceError, match='Supported operators for "text/csv" are'):
        made(path, "csv")


def test_a_cell_of_csv_has_no_parts() -> None:
    assert made("$[1:3]", "csv")(NINE) == ["1", "2"]
    with pytest.raises(ServiceError, match="a cell has no parts"):
        made("$[0][0]", "csv")


@pytest.mark.parametrize("path", ["$[0:9:2]", "$[0:2,246:]", "$[0,5:]", "$[:]", "$[ : ]", "$[1:2:]"])
def test_a_range_is_one_with_a_bound_and_without_a_step(path: str) -> None:
    with pytest.raises(ServiceError, match=r"Only single range filters of format \(eg: \[1:5\]\) are supported"):
        made(path)


BOUNDS = range(-4, 5)


@pytest.mark.parametrize("bounds", [*itertools.product(BOUNDS, BOUNDS), *(("", end) for end in BOUNDS)])
def test_a_range_is_refused_at_once_where_no_list_has_anything_in_it(bounds: tuple[int | str, int]) -> None:
    path = "$.a[{}:{}]".format(*bounds)
    start, end = (None if bound == "" else int(bound) for bound in bounds)
    if any(list(range(length))[start:end] for length in range(10)):
        made(path)
        return
    with pytest.raises(ServiceError, match=r'Invalid InputFilter: ".*\[.*\] is empty whatever the record is'):
        made(path)


@pytest.mark.parametrize(
    "path", ["a", "[0]", "$[", "$]", "$.", "$..a", "$[]", "$['a.b']", "$['a'", "$[1 2]", "$ .a", "$a", "$.a[", "$[-]"]
)
def test_what_is_no_path_is_refused_with_the_form_of_one(path: str) -> None:
    with pytest.raises(ServiceError, match=r'Invalid InputFilter: ".*it begins with \$ and goes on with'):
        made(path)


def test_of_all_short_texts_only_the_paths_are_taken() -> None:
    def is_taken(text: str) -> bool:
        try:
            made(text)
        except ServiceError:
            return False
        return True

    texts = ("".join(letters) for length in range(5) for letters in itertools.product("$[]0:,.a'* ", repeat=length))
    assert [text for text in texts if is_taken(text)] == [
        "$",
        "$.0",
        "$.a",
        "$.*",
        "$[0]",
        "$[*]",
        "$.00",
        "$.0a",
        "$.a0",
        "$.aa",
    ]
