"""Which model of a repository is asked, and which answered, in the one header that SageMaker passes on."""

from __future__ import annotations

import pytest

from tidegate.client import AnsweredBy
from tidegate.client.model_choice import answered_by, with_choice


@pytest.mark.parametrize(
    ("options", "model", "version", "said"),
    [
        ({}, "digits", None, "model=digits"),
        ({}, "digits", 3, "model=digits;version=3"),
        ({}, None, "stable", "version=stable"),
        ({"CustomAttributes": "trace=7"}, "digits", "latest", "model=digits;version=latest;trace=7"),
        ({"CustomAttributes": "trace=7"}, None, None, "trace=7"),
    ],
)
def test_a_choice_goes_before_what_the_caller_says_himself(
    options: dict[str, str], model: str | None, version: int | str | None, said: str
) -> None:
    assert with_choice({"InferenceId": "1"} | options, model, version) == {"InferenceId": "1", "CustomAttributes": said}


def test_no_choice_says_nothing() -> None:
    assert with_choice({}, None, None) == {}


@pytest.mark.parametrize("name", ["", "a;version=9", "caf\u00e9", "a\nb", " a"])
def test_what_a_header_cannot_hold_is_refused_before_it_is_sent(name: str) -> None:
    """A name with a semicolon would choose something else."""
    with pytest.raises(ValueError, match=r"^model=.* cannot be said in a request"):
        with_choice({}, name, None)


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ("model=digits;version=3", AnsweredBy("digits", 3)),
        ("model=a b;version=12;trace=7", AnsweredBy("a b", 12)),
        ("", None),
        ("trace=7", None),
        ("model=digits;version=stable", None),
        ("trace=7;model=digits;version=3", None),
    ],
)
def test_who_answered_is_read_where_a_repository_said_it(attributes: str, found: AnsweredBy | None) -> None:
    assert answered_by(attributes) == found
