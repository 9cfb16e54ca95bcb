"""Which model and version a request asks for, and what it is told where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from tidegate.inference.errors import (
    BadRequest,
    InvalidVersion,
    ModelLoading,
    ModelNotFound,
    ModelRequired,
    VersionNotFound,
)
from tidegate.inference.frontend.http.repository_paths import RepositoryPaths
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.repository.choice import Selector, chosen, echoed, meant
from tidegate.inference.frontend.repository.repository import Repository
from tidegate.inference.frontend.repository.resolving import LATEST, key_of, model_named, nothing_to_load
from tidegate.inference.repository.catalogue import Model, Revision, Version, VersionState


@pytest.mark.parametrize(
    ("path", "attributes", "selector"),
    [
        ("/invocations", "", Selector(None, None)),
        ("/invocations", "model=a", Selector("a", None)),
        ("/invocations", "model=a;version=3", Selector("a", "3")),
        ("/invocations", " Model = a ; VERSION = latest ;", Selector("a", "latest")),
        ("/invocations", "trace=7;version=canary;tenant=b=c", Selector(None, "canary")),
        ("/invocations", "bfloat16", Selector(None, None)),
        ("/invocations", "models=a;model-version=3", Selector(None, None)),
        ("/models/a/invoke", "", Selector("a", None)),
        ("/models/a/invoke", "version=2", Selector("a", "2")),
        ("/models/a/versions/2/invoke", "", Selector("a", "2")),
        ("/models/a/versions/2/invoke", "model=a;version=2;x=1", Selector("a", "2")),
        ("/models/a b/versions/stable/invoke", "trace=1", Selector("a b", "stable")),
        ("/models/a/v1/chat/completions", "version=2", Selector("a", "2")),
        ("/models/a/versions/2/invocations-bidirectional-stream", "", Selector("a", "2")),
        ("/invocations", "model=日本;version=é".encode().decode("latin-1"), Selector("日本", "é")),
        ("/invocations", "version=\xe9", Selector(None, "é")),
        ("/models/a%2Fversions%2F1/invoke", "", Selector("a%2Fversions%2F1", None)),
        ("/invocations", "trace=" + 9000 * "7" + ";model=a", Selector("a", None)),
    ],
)
def test_the_path_and_one_header_choose(path: str, attributes: str, selector: Selector) -> None:
    """Either does, both may where they agree, and what else the header says is the caller's own."""
    assert chosen(path, attributes) == selector


@pytest.mark.parametrize(
    ("path", "attributes", "sentence"),
    [
        ("/invocations", "model", "names no model"),
        ("/invocations", "model=", "names no model"),
        ("/invocations", "model=a;version= ", "names no version"),
        ("/invocations", "model=a;model=a", "names the model twice"),
        ("/models/a/invoke", "model=b", "The path names the model 'a', X-Amzn-SageMaker-Custom-Attributes 'b'"),
        ("/models/a/versions/1/invoke", "version=2", "The path names the version '1'"),
    ],
)
def test_a_choice_that_cannot_be_read_or_is_made_twice_is_an_error(path: str, attributes: str, sentence: str) -> None:
    """Each with one sentence that says what is wrong."""
    with pytest.raises(BadRequest, match=sentence):
        chosen(path, attributes)


@pytest.mark.parametrize("path", [b"/invocations", b"/models/a/invoke", b"/v2/models/a/infer"])
@pytest.mark.parametrize("second", [b"model=b", b"version=1", b"trace=7", b""])
def test_a_header_that_comes_twice_is_refused(path: bytes, second: bytes) -> None:
    """It is never one of them alone that chooses."""
    name = b"x-amzn-sagemaker-custom-attributes"
    paths = RepositoryPaths(cast(Repository, None), None, default=None, timed=False)
    assert paths.selector(Request(method="POST", target=path, headers=[(name, b"model=a")])).name == "a"
    for headers in ([(name, b"model=a"), (name, second)], [(name, second), (b"x", b"y"), (name, b"model=a")]):
        with pytest.raises(BadRequest, match="comes more than once"):
            paths.selector(Request(method="POST", target=path, headers=headers))


@pytest.mark.parametrize(
    ("default", "asked", "selector"),
    [
        (None, Selector(None, "3"), Selector(None, "3")),
        ("a", Selector(None, None), Selector("a", None)),
        ("a", Selector(None, "3"), Selector("a", "3")),
        ("a/stable", Selector(None, None), Selector("a", "stable")),
        ("a/stable", Selector(None, "3"), Selector("a", "3")),
        ("a/stable", Selector("b", None), Selector("b", None)),
    ],
)
def test_a_default_answers_what_names_no_model(default: str | None, asked: Selector, selector: Selector) -> None:
    """The version of the default goes with its model, and not with another that a request names."""
    assert meant(asked, default) == selector


def test_the_answer_says_what_answered_before_what_the_script_says() -> None:
    """The number, also where a label was asked for."""
    revision = Revision(name="a", version=3, digest="d")
    assert echoed(revision, "") == "model=a;version=3"
    assert echoed(revision, "trace=7") == "model=a;version=3;trace=7"


def model(name: str, *numbers: int, **labels: int) -> Model:
    """A model with good versions."""
    return Model(name=name, versions=tuple(Version(number=n, digest="d", size_bytes=1) for n in numbers), labels=labels)


def broken(name: str) -> Model:
    """A model with none."""
    bad = Version(number=1, digest="d", size_bytes=1, state=VersionState.INVALID, reason="It has no model file.")
    return Model(name=name, versions=(bad,))


def named(name: str | None, *models: Model) -> str:
    """The name that a selector's name comes to."""
    return model_named({each.name: each for each in models}, sorted(each.name for each in models), name).name


def test_one_model_needs_no_name() -> None:
    """Nor do stray folders beside it make it need one."""
    assert named(None, model("a", 1)) == "a"
    assert named(None, model("a", 1), broken("stray")) == "a"
    assert named(None, broken("a")) == "a"
    with pytest.raises(ModelRequired, match=r"There is: a, b\."):
        named(None, model("a", 1), model("b", 1))
    with pytest.raises(ModelNotFound, match="holds no model yet"):
        named(None)


def test_a_model_that_is_not_there_is_told_with_those_that_are() -> None:
    """Some of them: an error has a bounded length, whatever is asked for and however many there are."""
    with pytest.raises(ModelNotFound, match=r"There is no model 'c'. There is: a, b\.") as raised:
        named("c", model("a", 1), model("b", 1))
    assert (raised.value.status, raised.value.code) == (404, "model_not_found")
    with pytest.raises(ModelNotFound, match="and 9980 more") as raised:
        named("x" * 100_000, *(model(f"{n:0200}", 1) for n in range(10_000)))
    assert len(str(raised.value)) < 3000


@pytest.mark.parametrize("version", [None, "latest", "1", "stable", "007"])
@pytest.mark.parametrize("name", ["a b+c", "日本", ".x", "-a"])
def test_what_is_listed_by_a_name_that_nobody_can_ask_for_is_no_model(name: str, version: str | None) -> None:
    """Whatever version is asked for, with what the list says of it."""
    flawed = Model(name=name, reason=f"{name!r} cannot be a model's name in a header and a path.")
    with pytest.raises(ModelNotFound, match=r"cannot be requested: .* cannot be a model's name in a header") as raised:
        key_of(flawed, version)
    assert (raised.value.status, raised.value.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("version", "key"), [(None, LATEST), ("latest", LATEST), ("10", 10), ("9", 9), ("0", 0), ("stable", "stable")]
)
def test_a_version_is_a_number_latest_or_a_label(version: str | None, key: int | str) -> None:
    """Numbers are numbers: 10 is no text that comes before 9."""
    assert key_of(model("a", 0, 9, 10, stable=9), version) == key


@pytest.mark.parametrize("version", ["007", "-1", "1.0", "+1", "²", "", "v3", "a b", "1e3", "9" * 30, "é"])
def test_what_can_be_no_version_is_a_bad_request(version: str) -> None:
    """It lists the numbers, the highest first, and the labels."""
    with pytest.raises(InvalidVersion, match=r"There is: 10, 9; labels: stable \(9\)\.") as raised:
        key_of(model("a", 9, 10, stable=9), version)
    assert (raised.value.status, raised.value.code) == (400, "invalid_version")


def test_what_could_not_be_read_yet_is_asked_for_again_and_is_not_missing() -> None:
    """A label while labels.json cannot be read, a version while its manifest cannot; the rest is answered as ever."""
    unread = Version(number=11, digest="d", size_bytes=1, state=VersionState.UNREAD, reason="Not read yet.")
    half = replace(model("a", 9), labels_unread=True)
    with pytest.raises(ModelLoading, match="labels of the model 'a' could not be read yet") as raised:
        key_of(half, "stable")
    assert (raised.value.status, raised.value.retry_after_s) == (503, 5)
    assert key_of(half, "9") == 9
    with pytest.raises(VersionNotFound):
        key_of(half, "8")
    for key in (11, LATEST):
        error = nothing_to_load(Model(name="a", versions=(unread,)), key)
        assert isinstance(error, ModelLoading)
        assert "Version 11 of the model 'a' could not be read yet" in str(error)
    assert named(None, Model(name="a", versions=(unread,)), broken("stray")) == "a"
    hidden = Model(name="a", folder_unread=True)
    assert isinstance(nothing_to_load(hidden, LATEST), ModelLoading)
    for version in ("3", "stable"):
        with pytest.raises(ModelLoading, match="folder of the model 'a' could not be read yet"):
            key_of(hidden, version)


def test_a_label_that_is_missing_because_labels_are_wrong_is_told_with_what_is_wrong() -> None:
    wrong = replace(model("a", 9), reason="a/labels.json gives the label 'latest', which is always the highest.")
    with pytest.raises(VersionNotFound, match=r"no version or label 'stable' \(a/labels.json gives the label 'latest'"):
        key_of(wrong, "stable")
    with pytest.raises(VersionNotFound, match=r"no version or label '7'\. There is: 9\."):
        key_of(wrong, "7")


@pytest.mark.parametrize("version", ["3", "canary", "Latest"])
def test_a_version_that_is_not_there_is_told_with_those_that_are(version: str) -> None:
    """The same for numbers and labels."""
    with pytest.raises(VersionNotFound, match=rf"no version or label '{version}'. There is: 10, 9") as raised:
        key_of(model("a", 9, 10, stable=9), version)
    assert (raised.value.status, raised.value.code) == (404, "version_not_found")
