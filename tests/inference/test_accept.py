"""One type is chosen from an Accept header: the most wanted of those that can be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.errors import NotAcceptable
from tidegate.inference.worker.accept import NOTHING, demand_some, preferred_type
from tidegate.inference.worker.content import WRITABLE, split_media_type

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("  ", JSON),
        (",", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (CSV, CSV),
        (f"{CSV}, {JSON}", CSV),
        (f"{CSV};q=0.5, {JSON}", JSON),
        (f"{CSV};q=0.5, {NPY};q=0.6, {JSON};q=0.1", NPY),
        (f"{CSV} ; Q = 0.3 , {NPY};q=.4", NPY),
        (f"*/*;q=0.1, {CSV}", CSV),
        (f"{CSV};q=0.1, */*", JSON),
        (f"{CSV};q=0, {JSON};q=0.1", JSON),
        (f"{CSV};q=high, {JSON};q=0.1", JSON),
        (f"{CSV};q=nan, {JSON};q=0.1", JSON),
        (f"{CSV};q=-1, {JSON};q=0.1", JSON),
        (f"{CSV};q=0.9, {NPY};q=7", NPY),
        ("application/json;q=0.9", JSON),
        ("text/csv; header=present; q=0.8", "text/csv; header=present"),
        ("application/json;charset=utf-8", "application/json; charset=utf-8"),
        ("image/png", "image/png"),
        ("image/png, text/csv", "image/png"),
    ],
)
def test_the_first_most_wanted_type_is_chosen(accept: str, chosen: str) -> None:
    assert preferred_type(accept, JSON) == chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("text/html, application/json", JSON),
        ("text/html, */*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("text/html, text/csv;q=0.1", CSV),
        ("text/*", CSV),
        ("text/html, text/*;q=0.5", CSV),
        ("application/jsonl", "application/jsonl"),
        ("application/json; charset=utf-8", "application/json; charset=utf-8"),
        ("", JSON),
        ("*/*", JSON),
    ],
)
def test_what_the_server_cannot_write_is_passed_over(accept: str, chosen: str) -> None:
    """As the AWS container's default output_fn took the first type that it knew."""
    assert preferred_type(accept, JSON, WRITABLE) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/*", "text/html;q=0.2, image/png;q=0.1"])
def test_where_nothing_fits_the_most_wanted_type_is_named(accept: str) -> None:
    assert preferred_type(accept, JSON, WRITABLE) == accept.partition(";")[0]


@pytest.mark.parametrize("writable", [None, WRITABLE])
@pytest.mark.parametrize(
    "accept", ["application/json;q=0", "application/json;q=0, */*;q=0", "*/*; q=0.000", "image/png;q=0,text/*;Q=0"]
)
def test_a_header_that_only_rules_out_wants_nothing(accept: str, writable: tuple[str, ...] | None) -> None:
    chosen = preferred_type(accept, JSON, writable)
    assert chosen == NOTHING
    with pytest.raises(NotAcceptable, match="rules types out by q=0 and names none that is wanted"):
        demand_some(chosen)


@pytest.mark.parametrize("writable", [None, WRITABLE])
@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*, application/json;q=0", "application/jsonlines"),
        ("application/*, application/json;q=0", "application/jsonlines"),
        ("*/*;q=0.1, application/*;q=0", CSV),
        ("application/json;q=0, text/csv;q=0.1", CSV),
        ("*/*;q=0, application/json", JSON),
        ("text/*;q=0, */*", JSON),
        ("application/json;q=high", JSON),
    ],
)
def test_a_wildcard_stands_for_no_type_that_is_ruled_out(
    accept: str, chosen: str, writable: tuple[str, ...] | None
) -> None:
    assert preferred_type(accept, JSON, writable) == chosen


def test_where_all_that_can_be_written_is_ruled_out_the_wildcard_is_named() -> None:
    assert preferred_type("*/*, application/*;q=0, text/*;q=0", JSON, WRITABLE) == "*/*"


@pytest.mark.parametrize("accept", ["image/*", "text/*"])
def test_a_script_is_given_the_default_for_any_wildcard(accept: str) -> None:
    assert preferred_type(accept, JSON) == JSON


def test_the_default_is_the_deployers() -> None:
    assert preferred_type("", CSV) == preferred_type("*/*", CSV, WRITABLE) == CSV


@given(st.text(st.sampled_from('ab/*,;q=0.15 "'), max_size=40))
def test_any_header_gives_one_type(accept: str) -> None:
    for writable in (None, WRITABLE):
        assert "," not in preferred_type(accept, JSON, writable)


@given(st.lists(st.sampled_from(["text/html", JSON, CSV, NPY, "*/*;q=0.3", "image/png;q=0.5"]), min_size=1))
def test_a_header_that_wants_anything_writable_gets_it(wanted: list[str]) -> None:
    chosen = preferred_type(", ".join(wanted), JSON, WRITABLE)
    can = {JSON, CSV, NPY} & set(wanted) or "*/*;q=0.3" in wanted
    assert (split_media_type(chosen)[0] in WRITABLE) == bool(can)
