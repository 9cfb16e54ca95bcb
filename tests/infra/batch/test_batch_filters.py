"""Filters of a stage file: what synthesis takes is what the local cloud takes when a job is created."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from tidegate.infra.configuration.batch import Batch
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.record_filters import compiled_filter


def synthesis_takes(expression: str) -> bool:
    try:
        Batch(output_filter=expression)
    except ValidationError:
        return False
    return True


def creation_takes(expression: str) -> bool:
    try:
        compiled_filter("OutputFilter", expression, "json", content_type="application/jsonlines")
    except ServiceError:
        return False
    return True


@pytest.mark.parametrize(
    ("expression", "taken"),
    [
        ("$", True),
        ("$[0]", True),
        ("$[-1, 3]", True),
        ("$[1:]", True),
        ("$[:-1]", True),
        ("$[ 1 : 5 ]", True),
        ("$[*].a", True),
        ("$.a.*", True),
        ("$.a-1[0]['b c']", True),
        ("$['id', 'SageMakerOutput']", True),
        ("$.a.['b','c']", True),
        ("$.a.[*]", True),
        ("$[-5:3]", True),
        ("$[5:-3]", True),
        ("$[5:3]", False),
        ("$[3:3]", False),
        ("$.a[-1:-1].b[1:]", False),
        ("$[ -1 : 0 ]", False),
        ("$[:]", False),
        ("$[0,5:]", False),
        ("$[0:9:2]", False),
        ("$.a.[0]", False),
        ("$..a", False),
        ("$['a.b']", False),
        ("$['a_b']", False),
        ("$.a|$.b", False),
        ("$.a ", False),
        ("$.a\n", False),
        ("$[?(@.a)]", False),
        ("", False),
        ("a", False),
    ],
)
def test_a_filter_is_taken_at_synthesis_as_it_is_at_creation(expression: str, taken: bool) -> None:
    assert (synthesis_takes(expression), creation_takes(expression)) == (taken, taken)


def test_no_short_text_is_taken_by_one_and_refused_by_the_other() -> None:
    texts = (
        "$" + "".join(letters) for length in range(5) for letters in itertools.product("[]0:,.a'* -", repeat=length)
    )
    assert [text for text in texts if synthesis_takes(text) != creation_takes(text)] == []


def test_a_filter_has_at_most_63_characters() -> None:
    assert synthesis_takes("$." + "a" * 61)
    assert not synthesis_takes("$." + "a" * 62)
